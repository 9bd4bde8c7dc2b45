"""Base versus tuned by execution, on answers whose outcome is known."""

from __future__ import annotations

import pytest

from helpers.core import files
from helpers.prove import evaluation
from helpers.sql import data, scores

CONTEXT = "CREATE TABLE t{0} (id INT, name TEXT); INSERT INTO t{0} VALUES (1, 'a'), (2, 'b');"


def row(number: int, sql: str, complexity: str = "basic SQL") -> dict:
    context = CONTEXT.format(number)
    return {
        "sql_prompt": f"Question {number}?",
        "sql_context": context,
        "sql": sql,
        "sql_complexity": complexity,
    }


ROWS = [
    row(1, "SELECT name FROM t1;"),
    row(1, "SELECT COUNT(*) FROM t1;", "aggregation"),
    row(2, "SELECT name FROM t2 WHERE id = 2;"),
    row(2, "SELECT missing FROM nowhere;"),  # the gold itself is broken
    row(3, "SELECT id FROM t3 ORDER BY id DESC;"),
    row(3, "SELECT TOP 2 LEFT(name, 1) FROM t3;"),  # another dialect
    row(3, "SELECT name FROM t3 WHERE id > 2;"),  # gives no rows
]
BASE = ["<SCHEMA> once more", "SELECT 2", "DROP TABLE t2;", "SELECT 1", "", "SELECT name FROM t3", "SELECT 1"]
TUNED = [
    "SELECT name FROM t1;",
    "SELECT COUNT(id) FROM t1",
    "SELECT name FROM t2",
    "SELECT 1",
    "```sql\nSELECT id FROM t3 ORDER BY id DESC;\n```",
    "SELECT name FROM t3;",
    "SELECT name FROM t3 WHERE id > 2;",
]


@pytest.fixture(scope="module")
def result():
    return scores.compare(ROWS, BASE, TUNED)


def test_accuracy_leaves_out_broken_gold_and_counts_it(result):
    assert (result["count"], result["groups"], result["translated"]) == (5, 3, 1)
    assert (result["gold_broken"], result["no_rows"]) == (1, 1)
    assert (result["base"], result["tuned"]) == (pytest.approx(2 / 5), pytest.approx(4 / 5))
    assert result["difference"]["mean"] == pytest.approx(2 / 5)
    assert "Right: 40.0% before, 80.0% after, over 5 questions and 3 groups" in scores.sentence(result)
    assert "+40.0 points" in scores.sentence(result)
    assert [(row["base"], row["tuned"]) for row in result["examples"]] == [
        pair for number, pair in enumerate(zip(BASE, TUNED)) if number not in (3, 6)
    ]


def test_every_kind_of_failure_is_counted(result):
    assert result["outcomes"]["base"] == {"right": 2, "not SELECT": 2, "empty": 1}
    assert result["outcomes"]["tuned"] == {"right": 4, "wrong result": 1}


def test_the_picture_has_one_bar_per_model_and_one_colour_per_outcome(result):
    (axis,) = scores.picture(result).axes
    widths = [[bar.get_width() for bar in bars] for bars in axis.containers]
    assert widths == [[2, 4], [0, 1], [2, 0], [1, 0]]
    kinds = [text.get_text() for text in axis.get_legend().get_texts()]
    assert kinds == ["right", "wrong result", "not SELECT", "empty"]


def test_gold_that_never_runs_is_an_error():
    with pytest.raises(ValueError, match="None of 1 gold queries can judge, the first: .*nowhere"):
        scores.compare([ROWS[3]], ["SELECT 1"], ["SELECT 1"])


def test_answers_must_match_the_rows():
    with pytest.raises(ValueError, match="zip"):
        scores.compare(ROWS, BASE[:2], TUNED)


def test_an_interval_over_groups_is_wider_where_their_members_are_alike():
    """Ten questions of each schema that are all won or all lost say as much as one."""
    after = [float(group % 2) for group in range(20) for _ in range(10)]
    groups = [group for group in range(20) for _ in range(10)]
    alone, grouped = (evaluation.paired_interval([0.0] * 200, after, groups=g) for g in (None, groups))
    assert alone["mean"] == grouped["mean"] == 0.5
    assert grouped["high"] - grouped["low"] > 2.5 * (alone["high"] - alone["low"])
    single = evaluation.paired_interval([0.0] * 200, after, groups=list(range(200)))
    assert single == alone


EMPTY = {
    "sql_prompt": "How many?",
    "sql_context": "CREATE TABLE t (id INT);",
    "sql": "SELECT COUNT(*) FROM t",
}
BROKEN = {**EMPTY, "sql_context": "CREATE TABLE t (id INT; INSERT"}


def test_before_the_training_gold_is_run_and_what_cannot_judge_is_left_out():
    chance = row(1, "SELECT RANDOM() FROM t1;")
    left, counts = scores.check([*ROWS, EMPTY, BROKEN, chance] + ROWS[:1] * 9)
    assert left == ROWS[:3] + ROWS[4:6] + ROWS[:1] * 9
    cause = counts.pop("first cause")
    assert list(counts.values()) == [19, 18, 17, 15, 14]
    assert list(counts) == ["questions", "context builds", "gold runs", "gives rows", "can judge"]
    assert cause.startswith("gold broken: does not run: ") and "nowhere" in cause and "(Question 2?)" in cause


@pytest.mark.parametrize(
    "rows, says",
    [
        (
            [EMPTY] * 30,
            "Only 0 of 30 questions can judge a model.* no rows: the context has no rows .How many",
        ),
        (ROWS[:2] + [BROKEN] * 5, "Only 2 of 7 questions.*gold broken: does not run: context: "),
    ],
)
def test_too_little_that_can_judge_stops_with_the_first_cause(rows, says):
    with pytest.raises(ValueError, match=says):
        scores.check(rows)
    assert scores.check(rows, least=0)[1]["questions"] == len(rows)


def test_contexts_of_create_alone_claim_no_accuracy(tmp_path):
    """As notebook 09 takes them: read, split and checked before the training. Every answer was "right" there."""
    rows = [
        {
            "sql_prompt": f"How many {n}?",
            "sql_context": f"CREATE TABLE t{n % 9} (id INT);",
            "sql": f"SELECT {n}",
        }
        for n in range(90)
    ]
    files.write_jsonl(tmp_path / "mine.jsonl", rows)
    _, _, test = data.split(data.load(str(tmp_path / "mine.jsonl"))[0], 10_000, 2_500)
    with pytest.raises(ValueError, match="Only 0 of .* can judge a model.*no rows: the context has no rows"):
        scores.check(test)
    with pytest.raises(ValueError, match="None of .* gold queries can judge"):
        scores.compare(test, [row["sql"] for row in test], [row["sql"] for row in test])


def test_among_others_a_context_without_rows_counts_for_nothing():
    result = scores.compare([*ROWS[:2], EMPTY], ["SELECT 9"] * 3, [ROWS[0]["sql"], "SELECT 9", EMPTY["sql"]])
    assert (result["count"], result["no_rows"], result["base"], result["tuned"]) == (2, 1, 0.0, 0.5)


def test_a_small_set_that_can_judge_goes_on():
    assert scores.check(ROWS[:2])[0] == ROWS[:2]
