"""The workshop behind `make`; no notebook imports it.

`run`: the notebooks in order. `report`: one page of all they showed. `notebooks`: clean copies to commit.
`one_click`: addresses, the set-up cell and forms.
"""
