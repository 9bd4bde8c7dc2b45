"""Questions become SQL (notebook 09).

`data`: rows, prompt, schemas. `qlora`: training with plain TRL, in one process or several, of pairs too.
`judge`: running the SQL, in a `sandbox`, other `dialects` translated. `scores`: base against tuned.
"""
