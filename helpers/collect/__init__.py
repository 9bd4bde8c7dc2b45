"""Reviews come in (notebook 01).

`brightdata` collects and pays once. `review_files` reads exports of sites, shops, tools. `records`: one review."""
