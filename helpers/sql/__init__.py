"""Questions become SQL (notebook 09).

`data`: rows, prompt, schemas. `qlora`: training with plain TRL. `judge`: running the SQL, in a `sandbox`, other
`dialects` translated. `scores`: base against tuned.
"""
