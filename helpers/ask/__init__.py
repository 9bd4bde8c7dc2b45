"""A teacher LLM turns chunks into questions and answers (notebooks 03 and 04).

`qa`: the prompt, and the pairs in what comes back. `teacher` and `batch`: asking, now or at half the price; `answers`:
the journal, prices, and what a model's reply says. `gate`: which pairs are good, with `figures`. `injection`: orders
in reviews. `splits`: train and test without leaks. `refinement`: chunks rewritten.
"""
