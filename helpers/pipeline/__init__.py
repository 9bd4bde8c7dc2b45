"""The workshop behind `make`; no notebook imports it.

`run`: the notebooks in order. `report`: one page of them. `notebooks`: clean copies. `one_click`: addresses.
"""
