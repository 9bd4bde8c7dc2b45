"""A teacher LLM turns chunks into questions and answers (03, 04). `qa`: prompt. `teacher`, `batch`: asking.
`answers`: the journal. `prices`. `sheets`: what all reviews say, counted; `sheet_pairs`: pairs about that. `gate`:
good pairs, with `figures` and `injection`. `splits`: no leaks. `refinement`: chunks rewritten."""
