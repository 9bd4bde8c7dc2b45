"""What the notebooks use of google.colab, with its exceptions. Put tests/fakes/colab on the path.

`FAKE_COLAB` says what the page does: "open" (the default), or "headless" where no page answers. A secret NAME
is the variable PAGE_NAME; the value "denied" stands for one without notebook access.
"""
