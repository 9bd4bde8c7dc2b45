"""What every notebook needs: `runtime`, platform, secrets, device; `workdir`, the shared folder and its stages;
`files`, whole writes; `tables` that people bring; `hub`, private repositories; `plots`, tables and pictures."""
