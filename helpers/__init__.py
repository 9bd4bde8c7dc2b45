"""Everything the notebooks share: one flat package, a module a stage.

Importing a stage is cheap: torch, transformers, unsloth and datasets are imported inside the
functions that need them, so `from helpers import reviews` is instant on a laptop.
"""
