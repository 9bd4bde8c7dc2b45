"""Reading text-to-SQL rows, the prompt, the split by schema, and rows that are too long."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from helpers.core import files
from helpers.sql import data
from helpers.train import models
from tests.conftest import REPOSITORY
from tests.fakes.hub import FakeHub

CASES_FOLDER = REPOSITORY / "tests" / "sql" / "cases"
CONTEXT = "CREATE TABLE bees (id INT, hive TEXT); INSERT INTO bees VALUES (1, 'a;b');"


def row(number: int = 0, context: str = CONTEXT, **columns) -> dict:
    question = {"sql_prompt": f"How many {number}?", "sql_context": context, "sql": f"SELECT {number};"}
    return {**question, **columns}


def rows_of(schemas: int, rows_each: int) -> list[dict]:
    return [
        row(100 * schema + n, f"CREATE TABLE t{schema} (id INT); INSERT INTO t{schema} VALUES ({n});")
        for schema in range(schemas)
        for n in range(rows_each)
    ]


def test_the_sample_is_read_and_says_so():
    rows, why = data.load("sample")
    assert len(rows) == 934 and why == "the bundled sample"


ROWS = [row(1, extra="ä"), row(2, extra="")]
LINES = "".join(json.dumps(record) + "\n" for record in ROWS)
QUOTED = "".join(",".join(f'"{value}"' for value in record.values()) + "\n" for record in ROWS)
FORMS = {
    "mine.jsonl": LINES.encode(),
    "blank last line.jsonl": f"{LINES}\n".encode(),
    "BOM.jsonl": LINES.encode("utf-8-sig"),
    "array.json": json.dumps(ROWS, indent=1).encode(),
    "array with a BOM.json": json.dumps(ROWS).encode("utf-8-sig"),
    "table.csv": f"{','.join(ROWS[0])}\n{QUOTED}".encode("utf-8-sig"),
}


@pytest.mark.parametrize("name", FORMS)
def test_files_of_your_own_are_read_in_every_form_that_the_notebook_names(tmp_path, name):
    """A `.json` array and a CSV ended with "line 1 is not JSON", so did a BOM and, with "line 2", a blank last line."""
    (tmp_path / name).write_bytes(FORMS[name])
    rows, why = data.load(str(tmp_path / name))
    assert rows == [record | {"shown": CONTEXT} for record in ROWS] and "the file" in why


@pytest.mark.parametrize("name", ["nowhere.jsonl", "/nowhere/at/all.json", "no-such-word"])
def test_a_file_that_is_not_there_is_named(name):
    with pytest.raises(FileNotFoundError, match="is no file .looked from .*give the path of one"):
        data.load(name)


def test_a_private_hub_set_is_read_with_the_key_in_dotenv(tmp_path):
    """huggingface_hub reads no `.env`: a private set could not be read, though README says that keys come from there.

    In a process of its own, because huggingface_hub reads HF_ENDPOINT when it is imported.
    """
    lines = "".join(json.dumps(row(n)) + "\n" for n in range(3))
    code = """
from helpers.sql import data
rows, why = data.load("someone/sql")
print(len(rows), rows[2]["sql"], why)
"""
    with FakeHub() as hub:
        hub.add("datasets/someone/sql", {"train.jsonl": lines.encode()}, private=True)
        environment = os.environ | hub.environment(tmp_path) | {"PYTHONPATH": str(REPOSITORY)}
        (tmp_path / ".env").write_text(f"HF_TOKEN={environment.pop('HF_TOKEN')}\n")
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "3 SELECT 2; the Hub data set that the parameter names\n", done.stderr


BAD = {
    "other columns": (
        '{"question": "a", "query": "b"}',
        "row 1: the column 'sql_prompt' is missing.*question, query",
    ),
    "empty SQL": (
        '{"sql_prompt": "a", "sql_context": "b", "sql": " "}',
        "row 1: the column 'sql' is missing, empty",
    ),
    "a number": ('{"sql_prompt": 5, "sql_context": "b", "sql": "c"}', "row 1: the column 'sql_prompt'"),
    "a list": ("[1, 2]", "row 1: not a JSON object"),
    "a torn array": ('[\n{"sql_prompt": "a"},', "bad.jsonl, line 2, column"),
    "a line that is not JSON": (LINES + "{sql", "bad.jsonl, row 3: not JSON"),
    "nothing": ("", "is empty"),
    "no rows": ("[]", "holds no row"),
}


@pytest.mark.parametrize("text, says", BAD.values(), ids=BAD.keys())
def test_a_bad_file_stops_with_the_row_and_the_fix(tmp_path, text, says):
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(ValueError, match=says):
        data.load(str(tmp_path / "bad.jsonl"))


def test_a_schema_is_its_create_statements_alone():
    """Other rows, other case, other order: the same tables. A semicolon in a text ends no statement."""
    one = "CREATE TABLE a (x INT); INSERT INTO a VALUES (1); CREATE TABLE b (y TEXT DEFAULT 'create; x');"
    two = (
        "create  table b (y text default 'create; x');\nCREATE TABLE a (x INT);INSERT INTO a VALUES (2), (3)"
    )
    assert data.schema(one) == data.schema(two)
    assert data.schema(CONTEXT) == "create table bees ( id int , hive text )"
    assert data.schema(one) != data.schema(CONTEXT)


CASES = [json.loads(line) for line in (CASES_FOLDER / "schemas.jsonl").read_text("utf-8").splitlines()]
# What the prompt shows of each case that has `shown`, in its order.
SHOWN = [
    ["CREATE TABLE a (id INT)", "CREATE TABLE p (a_id INT, amount REAL)"],
    ["CREATE TABLE t (id INT, n TEXT)"],
    ["CREATE TABLE t (id INT)"],
    ["CREATE TABLE t (id INT)"],
]


def test_comments_hide_no_table_and_no_row_is_shown():
    shown = [data.create_statements(case["sql_context"]) for case in CASES if "shown" in case]
    assert shown == SHOWN


@pytest.mark.parametrize("spellings", [case["same_schema"] for case in CASES if "same_schema" in case])
def test_a_schema_written_differently_is_one_group(spellings):
    more = [
        'create table "A" (ID integer)',
        "/* x */ CREATE TABLE [a] (\n  id INT -- it's\n)",
        "\ufeff" + spellings[0],
    ]
    assert len({data.schema(context) for context in [*spellings, *more]}) == 1
    assert data.schema("CREATE TABLE a (id TEXT)") != data.schema(spellings[0])


def test_how_a_table_is_stored_makes_no_other_schema():
    """Each dump counts on: `AUTO_INCREMENT=7` put one schema on all three sides."""
    stored = [
        "",
        " ENGINE=InnoDB AUTO_INCREMENT=7",
        " WITHOUT ROWID",
        ' TABLESPACE "USERS"',
        "; CREATE INDEX i ON a (id)",
    ]
    assert len({data.schema(f"CREATE TABLE a (id INT){tail};") for tail in stored}) == 1
    assert data.schema("CREATE TABLE a AS SELECT 1 AS b") != data.schema("CREATE TABLE a AS SELECT 2 AS b")


def test_statements_of_other_databases_are_told_apart():
    """Escaped quotes, comments after #, no semicolons, GO, and a trigger's body, which is none of its own."""
    assert data.create_statements("INSERT INTO t VALUES ('it\\'s; CREATE'); CREATE TABLE p (a INT)") == [
        "CREATE TABLE p (a INT)"
    ]
    assert data.create_statements("# it's\nCREATE TABLE p (a INT)") == ["CREATE TABLE p (a INT)"]
    two = ["CREATE TABLE p (a INT)", "CREATE TABLE q (b INT)"]
    assert data.create_statements("\n".join(two)) == data.create_statements("\nGO\n".join(two)) == two
    trigger = "CREATE TRIGGER x AFTER INSERT ON p BEGIN DELETE FROM q; DELETE FROM p; END"
    assert data.create_statements(f"BEGIN; {two[0]}; {trigger}; {two[1]}; COMMIT;") == [
        two[0],
        trigger,
        two[1],
    ]


def test_torn_sql_has_no_statements_and_is_a_schema_of_its_own():
    assert data.create_statements("CREATE TABLE t (a TEXT DEFAULT 'x") == []
    assert data.schema("orders(id, town)") != data.schema("shops(id, town)")
    assert data.schema("CREATE TABLE a") != data.schema("CREATE TABLE b LIKE a")


def sides(*arguments, **options):
    train, validation, test = data.split(*arguments, **options)
    return {"train": train, "validation": validation, "test": test}


@pytest.mark.parametrize("sizes", [(10_000, 2_500), (60, 15), (20, 70)])
def test_no_schema_is_on_two_sides(sizes):
    found = sides(rows_of(30, 5), *sizes)
    schemas = {side: {data.schema(row["sql_context"]) for row in rows} for side, rows in found.items()}
    assert all(schemas.values())
    assert not schemas["train"] & schemas["test"]
    assert not schemas["validation"] & (schemas["train"] | schemas["test"])


def test_a_small_set_is_divided_in_proportion_and_used_up():
    found = sides(rows_of(50, 4), 10_000, 2_500)
    assert {side: len(rows) for side, rows in found.items()} == {"train": 144, "validation": 16, "test": 40}


def test_of_a_large_set_as_many_as_asked_for_are_taken():
    found = sides(rows_of(100, 3), 60, 15)
    assert {side: len(rows) for side, rows in found.items()} == {"train": 54, "validation": 6, "test": 15}


@pytest.mark.parametrize(
    "groups, parts",
    [
        ((1000, 20, 20), {"train": 1000, "validation": 20, "test": 20}),
        ((50, 50, 900), {"train": 900, "validation": 50, "test": 50}),
        ((50, 900, 50), {"train": 900, "validation": 50, "test": 50}),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_the_largest_group_is_trained_on(groups, parts, seed):
    """Whole groups were handed out in seeded order: validation could get 900 of 1,000 rows, and train none."""
    rows = [row(n, topic=f"topic {at}") for at, size in enumerate(groups) for n in range(size)]
    found = sides(rows, 10_000, 2_500, group_by="topic", seed=seed)
    assert {side: len(rows) for side, rows in found.items()} == parts


def test_the_split_is_seeded_and_ignores_the_order_of_groups():
    rows = rows_of(20, 3)
    one, again, other = sides(rows, 40, 10), sides(rows[::-1], 40, 10), sides(rows, 40, 10, seed=1)
    assert {row["sql"] for row in one["test"]} == {row["sql"] for row in again["test"]}
    assert {row["sql"] for row in one["test"]} != {row["sql"] for row in other["test"]}


def test_one_schema_is_refused_with_the_way_out_and_works_with_group_by():
    rows = [row(n % 10) for n in range(40)]
    with pytest.raises(
        ValueError, match="1 different schema.*Set group_by to another column .*sql_prompt.*'sql'"
    ):
        data.split(rows, 100, 25)
    found = sides(rows, 100, 25, group_by="sql")
    queries = {side: {row["sql"] for row in rows} for side, rows in found.items()}
    assert sum(map(len, found.values())) == 40 and sum(map(len, queries.values())) == 10


def test_an_unknown_column_to_group_by_is_named():
    with pytest.raises(
        ValueError, match="group_by='topic' is not a column of the rows, which have sql_prompt"
    ):
        data.split(rows_of(5, 2), 5, 5, group_by="topic")


def test_the_prompt_has_schema_and_question_in_the_guides_places():
    question = data.pair(row(7))["question"]
    assert f"<SCHEMA>\n{CONTEXT}\n</SCHEMA>\n\n<USER_QUERY>\nHow many 7?\n</USER_QUERY>" in question
    assert data.pair(row(7, "a {brace} in it"))["question"].count("{brace}") == 1


def test_a_prompt_shows_all_of_the_context_or_its_schema_alone(tmp_path):
    context = "CREATE TABLE a (id\n INT); INSERT INTO a VALUES (1, 'create; no');\nCOMMIT; CREATE VIEW B AS SELECT 1"
    files.write_jsonl(tmp_path / "mine.jsonl", [row(1, context)])
    shown = "<SCHEMA>\nCREATE TABLE a (id INT);\nCREATE VIEW B AS SELECT 1;\n</SCHEMA>"
    for name, part in (("all", f"<SCHEMA>\n{context}\n</SCHEMA>"), ("schema", shown)):
        (found,), _ = data.load(str(tmp_path / "mine.jsonl"), name)
        assert part in data.pair(found)["question"] and found["sql_context"] == context
    with pytest.raises(ValueError, match="context = 'rows': a prompt shows 'all'"):
        data.load("sample", "rows")
    files.write_jsonl(tmp_path / "mine.jsonl", [row(1), row(2, "orders(id, town)")])
    with pytest.raises(ValueError, match="row 2 has no CREATE statement: set context to 'all'"):
        data.load(str(tmp_path / "mine.jsonl"), "schema")


def test_only_the_sql_and_the_end_of_the_turn_are_learned(tokenizer):
    dataset, too_long = data.tokenize([row(1), row(2)], tokenizer, 2048)
    assert not too_long and dataset.column_names == ["input_ids", "completion_mask"]
    for found, number in zip(dataset, (1, 2)):
        learned = [token for token, mask in zip(found["input_ids"], found["completion_mask"]) if mask]
        assert tokenizer.decode(learned) == f"SELECT {number};<end_of_turn>"
        assert found["input_ids"] == models.chat_ids(tokenizer, *data.pair(row(number)).values())


def test_rows_that_are_too_long_are_listed_by_their_question_and_the_masks_stay_with_their_rows(tokenizer):
    rows = [row(1), row(2, CONTEXT * 30), row(3, sql="SELECT 3 AS three;")]
    dataset, too_long = data.tokenize(rows, tokenizer, 1000)
    assert [(found["row"], found["question"]) for found in too_long] == [(1, "How many 2?")]
    assert too_long[0]["tokens"] > 1000 and len(dataset) == 2
    last = dataset[1]
    learned = [token for token, mask in zip(last["input_ids"], last["completion_mask"]) if mask]
    assert tokenizer.decode(learned) == "SELECT 3 AS three;<end_of_turn>"
    with pytest.raises(ValueError, match="None of these 3 rows fits max_seq_length=9"):
        data.tokenize(rows, tokenizer, 9)


def test_pairs_are_told_from_sql_by_their_columns(tmp_path):
    """The command trains either: a folder of pairs, "auto", or a file whose rows have no SQL."""
    files.write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "Why?", "completion": "Because."}])
    files.write_jsonl(tmp_path / "sql.jsonl", [{"sql_prompt": "How many?", "query": "SELECT 1"}])
    (tmp_path / "qa_dataset").mkdir()
    pairs = {
        name: data.has_pairs(str(tmp_path / name))
        for name in ("pairs.jsonl", "sql.jsonl", "qa_dataset", "no")
    }
    assert pairs == {"pairs.jsonl": True, "sql.jsonl": False, "qa_dataset": True, "no": False}
    assert data.has_pairs("auto") and not data.has_pairs("sample") and not data.has_pairs("a/b")
