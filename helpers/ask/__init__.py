"""A teacher LLM turns chunks into questions and answers (notebooks 03 and 04).

`qa` has the prompt, `teacher` and `batch` ask, now or at half the price, `answers` has their journal; `gate` and
`injection` judge, `splits` parts train and test, `refinement` rewrites chunks.
"""
