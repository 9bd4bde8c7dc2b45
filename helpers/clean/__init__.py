"""Reviews become text that may be shown to others (notebooks 02 and 03).

`reviews`: cleaned, without twins. `redaction` of personal data, by `names` and `numbers`. `texts`: words, language,
near-duplicates. `chunks`. `shards`: both for a million reviews, in several processes."""
