"""Reviews come in (notebook 01).

`brightdata`: a paid collection that is paid once, over `brightdata_api`, its HTTP calls.
`review_files`: exports of review sites, shops and tools. `records`: the one form of a review.
"""
