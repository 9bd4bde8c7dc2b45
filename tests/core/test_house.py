"""The house check fails where it should: planted houses, and the arrows and imports of the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import house


def plant(folder: Path, **modules: str) -> Path:
    """A house of these modules, such as core_files="import os"; their rooms are what stands before the _."""
    for name, source in modules.items():
        room, _, module = name.partition("_")
        (folder / room).mkdir(exist_ok=True)
        (folder / room / f"{module}.py").write_text(source)
    return folder


def test_arrows_of_the_real_house_run_one_way_and_no_top_is_heavy():
    wrong, _ = house.check()
    assert [line for line in wrong if " import" in line] == []


def test_a_house_in_order_passes(tmp_path):
    later = "from helpers.core import files\nfrom helpers.clean.texts import words\n"
    plant(tmp_path, core_files="import os\n", clean_texts="def words(): ...\n", train_models=later)
    assert house.check(tmp_path) == ([], [])


@pytest.mark.parametrize(
    "modules, message",
    [
        ({"core_files": "def f():\n    from helpers.ask import qa\n"}, "core/files imports from ask"),
        ({"pipeline_run": "import helpers.train.models\n"}, "pipeline/run imports from train"),
        ({"sql_judge": "from helpers.publish import export\n"}, "sql/judge imports from publish"),
        ({"core_plots": "import matplotlib.pyplot as plt\n"}, "core/plots imports matplotlib at its top"),
        (
            {"core_files": "x = 1\n" * (house.BUDGETS["core"] + 1)},
            f"core has {house.BUDGETS['core'] + 1} lines, 1 more",
        ),
        ({"train_models": "x = 1\n" * 301}, "train/models has 301 lines"),
        (
            {
                "ask_qa": "from helpers.ask import gate\n",
                "ask_gate": "def f():\n    from helpers.ask import qa\n",
            },
            "modules import each other in a circle: ask/",
        ),
    ],
    ids=["lazy and backward", "pipeline", "sql", "heavy", "room", "module", "circle"],
)
def test_what_is_wrong_is_listed(tmp_path, modules, message):
    wrong, _ = house.check(plant(tmp_path, **modules))
    assert any(line.startswith(message) for line in wrong), wrong


def test_long_functions_are_a_report_and_no_error(tmp_path):
    source = "def long():\n" + "    if 1:\n        pass\n" * 25 + "    pass\n"
    wrong, functions = house.check(plant(tmp_path, core_files=source))
    assert not wrong and functions == ["core/files.long: 52 lines, 25 branches"]
