"""A teacher LLM turns chunks into questions and answers (03, 04). `qa`: prompt. `teacher`, `batch`: asking.
`answers`: the journal. `prices`. `gate`: good pairs, with `figures` and `injection`. `splits`: train and test
without leaks. `refinement`: chunks rewritten."""
