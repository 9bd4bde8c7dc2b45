"""Reviews become text that may be shown to others (notebooks 02 and 03).

`reviews`: cleaning and Markdown. `redaction`: personal data goes, found by `names` and `numbers`.
`texts`: words, language, near-duplicates. `chunks`: pieces that never mix halves of two reviews.
"""
