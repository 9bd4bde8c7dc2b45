"""What every notebook needs; it knows nothing of reviews or models.

`runtime`: platform, secrets, device. `workdir`: the shared folder, its stages. `files`: whole writes.
`tables`: files that people bring. `hub`: private repositories. `plots`: tables and pictures.
"""
