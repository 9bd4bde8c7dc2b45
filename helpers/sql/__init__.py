"""Questions become SQL (notebook 09).

`data`: rows, prompt, schemas. `qlora`: training with plain TRL. `judge`: running the SQL, in `sandbox`, with
`dialects`. `scores`: base against tuned.
"""
