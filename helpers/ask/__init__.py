"""A teacher LLM turns chunks into questions and answers (notebooks 03 and 04).

`qa`: the prompt, and the pairs in an answer. `teacher`: asking at once. `batch`: asking within a day,
at half the price. `answers`: the journal and the prices. `injection`: orders in reviews. `gate`, with `figures`: which
pairs are good. `splits`: train and test without leaks. `refinement`: chunks rewritten.
"""
