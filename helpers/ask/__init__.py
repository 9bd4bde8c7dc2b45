"""A teacher LLM turns chunks into questions and answers (notebooks 03 and 04).

`qa`: the prompt, and the pairs in what comes back. `teacher` and `batch`: asking, now or at half the price; `answers`:
what a model is asked and replies, and the journal; `prices`. `gate`: which pairs are good, with `figures`. `injection`:
orders in reviews. `splits`: train and test without leaks. `refinement`: chunks rewritten.
"""
