"""A teacher LLM turns chunks into questions and answers (notebooks 03 and 04).

`qa`: the prompt. `teacher` and `batch`: asking, now or at half price, with `answers` and `batch_api`. `gate`:
which pairs are good, with `figures`. `injection`: orders in reviews. `splits`: train and test without leaks.
`refinement`: chunks rewritten.
"""
