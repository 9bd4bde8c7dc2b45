"""What every notebook needs; it knows nothing of reviews or models.

`runtime`: platform, secrets, device, installing. `workdir`: the shared folder and its finished stages.
`files`: whole writes, journals, fingerprints. `tables`: the CSV and JSON files that people bring.
`hub`: private repositories. `plots`: tables and pictures.
"""
