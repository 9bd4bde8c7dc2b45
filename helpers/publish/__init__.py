"""What leaves this machine (notebooks 04 and 08).

`dataset`: saving, the scan for secrets and personal data, the push. `cards`: what a data set or model says of itself.
`export`: merged weights and GGUF. `parity`: the gate that compares them with the adapter.
"""
