"""Notebook 09 runs top to bottom: on the real Gemma, on one database of one's own, and again after an end."""

from __future__ import annotations

import json
import random
import re

import pytest

from helpers.core import files
from helpers.sql import data, judge
from tests import kernels
from tests.conftest import ALL, REPOSITORY
from tests.core.test_kernels import said
from tests.notebooks.test_runs import pictures, run, text

# Without ALL=1 as much as shows that the real model begins to write SQL.
FEW = {} if ALL else {"train_size": 120, "test_size": 30, "max_steps": 14, "max_examples": 2}
TINY = {"max_seq_length": 2048, "lora_r": 1, "learning_rate": 1e-2, "max_steps": 12, "max_examples": 6}


@pytest.fixture(autouse=True)
def plain_trl(monkeypatch):
    """Kernels as notebook 09 has them: Unsloth, once imported, changes TRL."""
    monkeypatch.setenv(kernels.PLAIN, "1")


def test_its_kernels_have_not_imported_unsloth(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert said().startswith("False")


def test_09_teaches_the_real_gemma_sql_for_schemas_it_has_not_seen(tmp_path, real_gemma):
    done = run("09", tmp_path / "work", **FEW)
    printed, results = text(done), tmp_path / "work" / "text_to_sql"
    result = json.loads((results / "evaluation.json").read_text())
    record = json.loads((results / "training.json").read_text())
    assert "the bundled sample" in printed and "Starting at step 0" in printed and pictures(done) == 4
    assert re.search(r"⟦(SELECT|WITH) .+;?<end_of_turn>⟧", printed)
    first = sum(row["loss"] for row in record["losses"][:4]) / 4
    assert record["validation_losses"][-1]["loss"] < 0.6 * first
    assert record["evidence"]["trainable share"] < 0.02
    writes_no_query = [result["outcomes"][side].get(judge.NOT_SELECT, 0) for side in ("base", "tuned")]
    assert writes_no_query[1] < writes_no_query[0] and result["gold_broken"] == 0
    answers = files.read_jsonl(results / "answers.jsonl")
    assert len(answers) == result["count"] and {"base", "tuned", "tuned_outcome"} <= answers[0].keys()
    assert result["merged_same"] >= 0.9 * result["merged_asked"] - 1
    if ALL:
        assert result["difference"]["mean"] >= 0.15 and result["difference"]["low"] > 0
        if record["dtype"] == "float32":  # as merged; in bfloat16 the adapter's numbers are rounded otherwise
            assert result["merged_same"] == result["merged_asked"] == 20


def one_database(path, questions: int = 300) -> None:
    """Questions over one schema with real rows, the same in every context, as a person would export them."""
    rng = random.Random(3407)
    towns = ["Aachen", "Bergen", "Cork", "Delft", "Evora"]
    values = ", ".join(
        f"({n}, '{rng.choice(towns)}', {rng.randint(1, 99)}, {rng.random():.2f})" for n in range(40)
    )
    context = f"CREATE TABLE orders (id INT, town TEXT, pieces INT, price REAL);\nINSERT INTO orders VALUES {values};"
    kinds = [
        "How many orders have more than {n} pieces and come from {t}?",
        "What do the orders from {t} under {n} cost?",
    ]
    queries = [
        "SELECT COUNT(*) FROM orders WHERE pieces > {n} AND town = '{t}';",
        "SELECT SUM(price) FROM orders WHERE town = '{t}' AND id < {n};",
    ]
    rows = []
    for number in range(questions):
        fill = {"n": 1 + number // 10, "t": towns[number % 5]}
        kind = number // 5 % 2
        question, query = kinds[kind].format(**fill), queries[kind].format(**fill)
        rows.append(
            {"sql_prompt": question, "sql_context": context, "sql": query, "topic": f"{kind} {fill['n']}"}
        )
    files.write_jsonl(path, rows)


def test_09_runs_on_one_database_of_your_own_where_group_by_says_how(tmp_path, tiny_gemma):
    one_database(tmp_path / "orders.jsonl")
    parameters = {"dataset": str(tmp_path / "orders.jsonl"), "model_name": str(tiny_gemma), **TINY}
    printed = text(run("09", tmp_path / "work", group_by="sql", **parameters))
    assert "300 rows: the file that the parameter names" in printed and "groups by sql" in printed
    result = json.loads((tmp_path / "work" / "text_to_sql" / "evaluation.json").read_text())
    assert (result["count"], result["gold_broken"], result["groups"]) == (6, 0, 6)


def test_09_lists_rows_that_are_too_long_and_goes_on_after_an_end(tmp_path, tiny_gemma):
    rows = data.load("sample")[0][:200]
    for number in (3, 103, 153):  # over three schemas, so that one at least is trained on
        rows[number]["sql_prompt"] = "A very long question. " * 100
    files.write_jsonl(tmp_path / "rows.jsonl", rows)
    parameters = {"dataset": str(tmp_path / "rows.jsonl"), "model_name": str(tiny_gemma), **TINY}
    first = text(run("09", tmp_path / "work", **parameters, seed=1))
    record = json.loads((tmp_path / "work" / "text_to_sql" / "training.json").read_text())
    assert "A very long question." in first and 1 <= record["too_long"] <= 3
    again = text(run("09", tmp_path / "work", **parameters, seed=1))
    assert "Going on from checkpoint-12" in again
    assert (
        json.loads((tmp_path / "work" / "text_to_sql" / "training.json").read_text())["losses"]
        == record["losses"]
    )
