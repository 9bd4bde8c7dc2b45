"""Is it better (notebooks 06 and 07)?

`evaluation`: base and tuned on held-out pairs, with intervals. `judge`: a language model as a judge, examined first.
`chat`: streamed answers side by side. `chat_page`: the same in a browser.
"""
