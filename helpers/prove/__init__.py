"""Is it better (notebooks 06 and 07)?

`evaluation`: base and tuned on held-out pairs, with intervals. `judge`: a language model as a judge, examined first.
`search`: what is read with a question. `chat`: streamed answers side by side. `chat_page`: the same in a browser.
"""
