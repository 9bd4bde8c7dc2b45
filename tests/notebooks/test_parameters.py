"""A value that cannot work stops a notebook in its first cells, before anything is paid for or computed for long."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest

from helpers.core import files, workdir
from helpers.pipeline import notebooks
from tests.notebooks.test_form import PATHS


def execute(number: int, part: str, names: dict) -> dict:
    """Run the one code cell that holds `part`, with the notebook's imports and parameters; its names."""
    cells = [cell.source for cell in notebooks.read(PATHS[number]).cells if cell.cell_type == "code"]
    (cell,) = (source for source in cells if part in source)
    found: dict = {}
    exec(next(source for source in cells if "from helpers" in source), found)
    found |= notebooks.parameters(PATHS[number]) | names
    exec(cell, found)
    return found


@pytest.mark.parametrize("number, part, name, value", [
    (4, "workdir.open_work_dir", "test_share", 0),
    (4, "workdir.open_work_dir", "test_share", 15),
    (4, "workdir.open_work_dir", "pairs_per_chunk", 0),
    (4, "workdir.open_work_dir", "pairs_per_chunk", 2.0),
    (4, "workdir.open_work_dir", "max_concurrency", 0),
    (4, "workdir.open_work_dir", "dataset_repo", "reviews-qa"),
    (5, "no_gpu = ", "lora_alpha", 0),
    (6, "workdir.open_work_dir", "max_examples", -1),
    (6, "workdir.open_work_dir", "max_examples", 0),
    (8, "workdir.open_work_dir", "hub_repo", "reviews-gemma"),
    (8, "workdir.open_work_dir", "hub_repo", ""),
    (9, "qlora.for_device", "max_examples", -1),
    (9, "qlora.for_device", "lora_alpha", 0),
])  # fmt: skip
def test_what_cannot_work_is_refused_by_name_in_the_first_cells(tmp_path, number, part, name, value):
    """The teacher was paid before test_share was looked at, and for `2.0` pairs; of -1 example, all but one were."""
    names = {
        "work_dir": str(tmp_path),
        "push_to_hub": True,
        "dataset_repo": "a/b",
        "hub_repo": "a/b",
        name: value,
    }
    if number == 9:
        options = SimpleNamespace(**{"max_examples": 100, "lora_alpha": 16, name: value})
        names |= {"qlora": mock.Mock(for_device=lambda *_: (options, ""))}
        names |= {"folder": tmp_path, "options": options, "runtime": mock.Mock(), "models": mock.Mock()}
    with pytest.raises(AssertionError, match=f"{name}.* {value!r}"):
        execute(number, part, names)


def test_one_question_as_a_text_is_asked_as_one(tmp_path):
    """Each of its letters was asked."""
    asked = []
    chat = SimpleNamespace(side_by_side=lambda model, tokenizer, question, *_, **__: asked.append(question))
    stubs = {name: mock.MagicMock() for name in ("splits", "data", "search", "model", "tokenizer")}
    names = {"questions": "How is the support?", "chat": chat, "adapter": tmp_path, "folder": tmp_path}
    execute(7, "chat.side_by_side", stubs | names)
    assert asked == ["How is the support?"]


@pytest.mark.parametrize("companies", [1, 3])
def test_the_estimate_counts_the_fact_sheets_of_each_company(companies):
    """Of a file with several companies, it counted those of one."""
    pieces = [{"company": f"Firm {at % companies}"} for at in range(9)]
    found = execute(4, "estimate = teachers.estimate", {"pieces": pieces, "requests": []})
    assert len(found["expected"]) == 85 * companies


def test_a_new_evaluation_makes_the_card_again(tmp_path):
    """The pipeline called 08 done, and the card kept the scores of the evaluation before it."""
    files.write_text(tmp_path / "publish" / "README.md", "the card")
    execute(8, "workdir.finish_stage", {"folder": tmp_path})
    assert workdir.is_finished(tmp_path, "08_publish")
    files.write_json(tmp_path / "evaluation.json", {"count": 24})
    assert not workdir.is_finished(tmp_path, "08_publish")
