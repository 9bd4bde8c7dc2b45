"""Pairs become a Gemma that answers (notebooks 00 and 05).

`models`: which model, and what it sees. `local_gemma`: a real one without a hub. `data`: pairs in any form, as tokens.
`training`: checks before, evidence after. `checkpoints`: what survives. `memory`: what fits. `cpu_loss`: speed without
a GPU. `progress`: the live curve.
"""
