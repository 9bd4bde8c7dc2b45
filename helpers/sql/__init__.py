"""Questions become SQL (notebook 09).

`data`: rows, prompt, schemas. `adapter`, `qlora`: training with plain TRL, in several processes of pairs, too.
`judge`: running the SQL, in a `sandbox`, other `dialects` translated. `scores`: base against tuned.
"""
