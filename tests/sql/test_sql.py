"""Judging SQL by running it: the comparison, the translations, and a red team against the sandbox."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sql import judge, sandbox
from tests.sql import sql_attacks

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = "CREATE TABLE t (a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');"
EVERYTHING = "SELECT t.*, u.sql FROM t, duckdb_tables() u"
TIGHT = mock.patch.dict(judge.LIMITS, {"seconds": 2, "rows": 1000, "megabytes": 32})
SECRET = "the canary's song 5f2c"


CASES = Path(__file__).with_name("cases")


def cases(name: str) -> list[dict]:
    return [json.loads(line) for line in (CASES / name).read_text("utf-8").splitlines()]


def run(context: str, query: str) -> judge.Result:
    return judge.run_all([(context, query)])[0][0]


@cache
def outcomes(*jobs: tuple[str, str, str]) -> list[judge.Outcome]:
    """`judge_all`, once for all tests that ask for the same: each process takes half a second to start."""
    return judge.judge_all(jobs)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        " SELECT 1 ; ",
        "SELECT 1;<end_of_turn>\n<start_of_turn>user\nmore",
        "```sql\nSELECT 1;\n```\nThis query selects one.",
        "```\nSELECT 1\n```",
        "Sure! Here it is:\n\n```SQL\nSELECT 1;\n```",
        "```sql\nSELECT 1",
        "To select one with the schema, run:\nSELECT 1;",
        "The query is: SELECT 1",
        "With the tables above, the query is: SELECT 1",
        "SELECT 1;\n```\n",
        "The query:\nSELECT 1\n```\nIt selects one.",
        "SELECT 1;</s> SELECT",
        "SELECT 1<|im_end|>",
    ],
)
def test_sql_is_taken_out_of_an_answer(text):
    assert sandbox.first_query(text) == "SELECT 1"


@pytest.mark.parametrize(
    "text",
    [
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "(SELECT 1)",
        "INSERT INTO t\nSELECT 1",
        "DELETE FROM t WHERE a IN (SELECT 1)",
        "I do not know.",
        "SELECT ';' AS a",
        "SELECT 1 FROM WHERE",
        "",
    ],
)
def test_what_begins_with_a_statement_or_holds_none_stays_whole(text):
    assert sandbox.first_query(text) == text


SCORES = """
CREATE TABLE scores (name TEXT, team TEXT, points INTEGER, share REAL, note TEXT);
INSERT INTO scores VALUES ('Ada', 'red', 5, 0.1, NULL), ('Bo', 'red', 3, 0.2, 'x'), ('Cy', 'blue', 3, 0.7, NULL);
"""
# gold, generated, what comes of it: the kind, and what is to be said about it where it is worth saying
JUDGED = [
    ("SELECT name FROM scores", "select s.name as who from scores s", "right", ""),
    ("SELECT name FROM scores", "SELECT name FROM scores ORDER BY points DESC, name DESC", "right", ""),
    ("SELECT name FROM scores", "SELECT name FROM scores LIMIT 2", "wrong result", "2 rows, not 3"),
    ("SELECT name FROM scores", "SELECT name, team FROM scores", "wrong result", "2 columns, not 1"),
    ("SELECT name, team FROM scores", "SELECT team, name FROM scores", "wrong result", "other values"),
    ("SELECT team FROM scores", "SELECT DISTINCT team FROM scores", "wrong result", "2 rows, not 3"),
    ("SELECT team FROM scores", "SELECT MIN(team) FROM scores GROUP BY name", "right", ""),
    (
        "SELECT team FROM scores",
        "SELECT 'blue' UNION ALL SELECT 'blue' UNION ALL SELECT 'red'",
        "wrong result",
        "",
    ),
    ("SELECT name FROM scores", "SELECT 1, 2 WHERE 1 = 0", "wrong result", "2 columns, not 1"),
    (
        "SELECT name FROM scores WHERE 1 = 0",
        "SELECT name FROM scores WHERE 1 = 0",
        "no rows",
        "the gold gives",
    ),
    # Order
    ("SELECT name FROM scores ORDER BY name", "SELECT name FROM scores ORDER BY 1", "right", ""),
    (
        "SELECT name FROM scores ORDER BY name",
        "SELECT name FROM scores ORDER BY 1 DESC",
        "wrong result",
        "other order",
    ),
    (
        "SELECT name FROM scores ORDER BY points",
        "SELECT name FROM scores ORDER BY name",
        "wrong result",
        "other order",
    ),
    # Equal keys: DuckDB's order counts
    (
        "SELECT name FROM scores ORDER BY points",
        "SELECT name FROM scores ORDER BY points, name DESC",
        "wrong result",
        "other order",
    ),
    (
        "SELECT team, COUNT(*) n FROM scores GROUP BY team ORDER BY N",
        "SELECT team, COUNT(*) FROM scores GROUP BY team ORDER BY 2 DESC",
        "wrong result",
        "other order",
    ),
    (
        "SELECT DISTINCT points FROM scores ORDER BY points DESC",
        "SELECT DISTINCT points FROM scores ORDER BY points",
        "wrong result",
        "other order",
    ),
    (
        "SELECT name n, points FROM scores WHERE points < 5 UNION SELECT 'Di', 9 ORDER BY points",
        "SELECT name, points FROM scores WHERE points < 5 UNION SELECT 'Di', 9 ORDER BY 2 DESC",
        "wrong result",
        "other order",
    ),
    (
        "SELECT name FROM (SELECT * FROM scores ORDER BY name)",
        "SELECT name FROM scores ORDER BY name DESC",
        "right",
        "",
    ),
    (
        "SELECT name, RANK() OVER (ORDER BY points) FROM scores",
        "SELECT name, RANK() OVER (ORDER BY points) FROM scores ORDER BY name DESC",
        "right",
        "",
    ),
    # Values
    ("SELECT points FROM scores", "SELECT points * 1.0 FROM scores", "right", ""),
    ("SELECT 0.3", "SELECT 0.1 + 0.2", "right", ""),
    ("SELECT 0.3", "SELECT 0.30001", "wrong result", "other values"),
    ("SELECT 0.0", "SELECT 0.1 + 0.2 - 0.3", "right", ""),
    ("SELECT 12345678901", "SELECT 12345678902", "wrong result", "other values"),
    ("SELECT 2023", "SELECT '2023'", "wrong result", "other values"),
    ("SELECT note FROM scores", "SELECT COALESCE(note, '') FROM scores", "wrong result", "other values"),
    ("SELECT note FROM scores", "SELECT COALESCE(note, 0) FROM scores", "wrong result", "other values"),
    ("SELECT NULL", "SELECT 'None'", "wrong result", "other values"),
    ("SELECT NULL", "SELECT NULLIF(1, 1)", "right", ""),
    ("SELECT x'00ff'", "SELECT CAST(x'00ff' AS BLOB)", "right", ""),
    ("SELECT name, share FROM scores", "SELECT name, share + 1e-15 FROM scores ORDER BY 2 DESC", "right", ""),
    ("SELECT TRUE", "SELECT 1", "right", ""),
    ("SELECT CAST(3 AS DECIMAL(9, 2))", "SELECT 3", "right", ""),
    ("SELECT DATE '2024-05-01'", "SELECT CAST('2024-05-01 00:00:00' AS TIMESTAMP)", "right", ""),
    ("SELECT DATE '2024-05-01'", "SELECT '2024-05-01'", "right", ""),
    # As SQLite and MySQL count and sort
    ("SELECT 3", "SELECT 7 / 2", "right", ""),
    ("SELECT NULL", "SELECT 1 / 0", "right", ""),
    (
        "SELECT note FROM scores ORDER BY note",
        "SELECT note FROM scores ORDER BY note NULLS FIRST",
        "right",
        "",
    ),
    (
        "SELECT name FROM scores WHERE team = 'blue'",
        'SELECT name FROM scores WHERE team = "blue"',
        "right",
        "",
    ),
    (
        "SELECT 'blue', 'Cy', 1 UNION SELECT 'red', 'Ada', 2",
        "SELECT team, name, COUNT(*) FROM scores GROUP BY team",
        "right",
        "",
    ),
    ("SELECT 'Ada', 5", "SELECT name, MAX(points) FROM scores", "right", ""),
    ("SELECT 'Cy', 3", "SELECT name, MIN(points) FROM scores WHERE team = 'blue'", "right", ""),
    ("SELECT 3 / 7.0", "SELECT CAST(COUNT(*) AS FLOAT) / 7 FROM scores", "right", ""),  # of 64 bits
    ("SELECT 3 / 7.0", "SELECT COUNT(*)::real / 7 FROM scores", "right", ""),
    (
        "(SELECT name FROM scores ORDER BY name)",
        "SELECT name FROM scores ORDER BY name DESC",
        "wrong result",
        "other order",
    ),
    (
        "SELECT 'Ada red', 1 UNION SELECT 'Bo red', 1 UNION SELECT 'Cy blue', 1",
        "SELECT name || ' ' || team, COUNT(*) FROM scores GROUP BY name",
        "right",
        "",
    ),
    (
        "SELECT team, COUNT(*) FROM scores GROUP BY team",
        "SELECT team AS t, COUNT(*) FROM scores GROUP BY t",
        "right",
        "",
    ),
    ("SELECT name FROM scores WHERE note IS NULL", "SELECT name FROM scores WHERE ISNULL(note)", "right", ""),
    # Everything else
    ("SELECT name FROM scores", "SELECT nome FROM scores", "does not run", 'column "nome" not found'),
    ("SELECT name FROM scores", "SELECT name FROM", "does not run", "syntax error"),
    ("SELECT name FROM scores", "SELECT name FROM scores; SELECT 2", "right", ""),
    ("SELECT name FROM scores", "I cannot answer that.", "not SELECT", "begins with 'I'"),
    ("SELECT name FROM scores", "UPDATE scores SET points = 0", "not SELECT", "begins with 'UPDATE'"),
    ("SELECT name FROM scores", "WITH x AS (SELECT 1) DELETE FROM scores", "not SELECT", "it writes"),
    ("SELECT name FROM scores", "EXPLAIN SELECT name FROM scores", "not SELECT", ""),
    ("SELECT name FROM scores", "", "empty", ""),
    ("SELECT name FROM scores", "```sql\n```<end_of_turn>", "not SELECT", "begins with '```sql'"),
    ("SELECT name FROM scores", "<think>\nSELECT name FROM scores", "empty", ""),
    (
        "SELECT nome FROM scores",
        "SELECT name FROM scores",
        "gold broken",
        'does not run: Binder Error: Referenced column "nome"',
    ),
    ("DELETE FROM scores", "DELETE FROM scores", "gold broken", "not SELECT: begins with 'DELETE'"),
    ("SELECT nome FROM scores", "", "gold broken", 'does not run: Binder Error: Referenced column "nome"'),
]


@pytest.fixture(scope="module")
def judged():
    return judge.judge_all([(SCORES, gold, generated) for gold, generated, _, _ in JUDGED], 2)


@pytest.mark.parametrize("number", range(len(JUDGED)), ids=lambda number: JUDGED[number][1][:60])
def test_outcome(judged, number):
    _, _, kind, detail = JUDGED[number]
    assert judged[number].kind == kind, judged[number]
    assert detail in judged[number].detail


def test_all_kinds_have_an_example():
    assert {kind for _, _, kind, _ in JUDGED} | {judge.LIMIT} == set(judge.KINDS)


def test_an_outcome_has_both_results_and_becomes_json():
    answer = "```sql\nSELECT TOP 1 a, b AS letter FROM t;\n```"
    (outcome,) = judge.judge_all([(TABLE, "SELECT a, b FROM t", answer)])
    assert (outcome.kind, outcome.detail) == ("wrong result", "1 rows, not 2")
    assert outcome.gold.rows == [[1, "x"], [2, "y"]] and outcome.gold.columns == ["a", "b"]
    assert outcome.generated.rows == [[1, "x"]] and outcome.generated.columns == ["a", "letter"]
    assert outcome.translated == {"generated": "tsql"}
    assert json.dumps(outcome._asdict())


def test_a_broken_context_is_a_broken_gold():
    (outcome,) = judge.judge_all([("CREATE TABLE t (a; INSERT", "SELECT 1", "SELECT 1")])
    assert outcome.kind == "gold broken" and outcome.detail.startswith("does not run: context: ")


@pytest.mark.parametrize("gold", ["SELECT a FROM t", "SELECT COUNT(*) FROM t", "SELECT SUM(a) FROM t"])
def test_without_rows_nothing_is_right(gold):
    """Every query gave no rows there, so that everything was right."""
    (outcome,) = judge.judge_all([("CREATE TABLE t (a INT)", gold, "SELECT a FROM t WHERE a > 5")])
    assert (outcome.kind, outcome.detail) == ("no rows", "the context has no rows")


SHOP = "CREATE TABLE orders (id INT); INSERT INTO orders VALUES (1), (2); CREATE TABLE shop (name TEXT);"
ANSWERS, CONTEXTS = cases("answers.jsonl"), cases("contexts.jsonl")


@pytest.mark.parametrize("number", range(len(ANSWERS)), ids=lambda number: ANSWERS[number]["generated"][:40])
def test_what_stands_around_the_sql_does_not_count(number):
    outcome = outcomes(*((SHOP, case["gold"], case["generated"]) for case in ANSWERS))[number]
    assert outcome.kind == "right" == ANSWERS[number]["expected"].partition(",")[0], outcome.detail


PROSE = [
    "SELECT b FROM t WHERE b <> ';'; The customer's order.",
    "SELECT b FROM t -- all; of them\nWHERE a > 0\n\nIt's every one; no more.",
    "SELECT b\nFROM t\nThis query lists what's there.",
    "SELECT b FROM t /* ; */;\n\n```\nSELECT 1",
    "Here you are:\n```sql\nSELECT b\n\nFROM t\n```\nSELECT 2 would be wrong.",
    "SELECT b FROM t\n\n### Explanation\n- `b` is the letter",
    "WITH x AS (\n  SELECT b FROM t\n)\n\nSELECT b FROM x\nNote: that's all",
]


@pytest.mark.parametrize("number", range(len(PROSE)))
def test_prose_behind_the_sql_is_left_out(number):
    outcome = outcomes(*((TABLE, "SELECT b FROM t", answer) for answer in PROSE))[number]
    assert outcome.kind == "right", (PROSE[number], outcome)


@pytest.mark.parametrize(
    "answer",
    ["SELECT b FROM t\n\nWHERE a = 1", "SELECT b FROM t\nWHERE = 1", "SELECT b FROM t WHERE = 1; thanks"],
)
def test_a_condition_is_no_prose(answer):
    (outcome,) = judge.judge_all([(TABLE, "SELECT b FROM t", answer)])
    assert outcome.kind in ("wrong result", "does not run"), outcome


@pytest.mark.parametrize("number", range(len(CONTEXTS)), ids=lambda number: CONTEXTS[number]["name"])
def test_a_context_as_databases_give_it(number):
    outcome = outcomes(*((case["sql_context"], case["query"], "") for case in CONTEXTS))[number]
    assert outcome.gold.rows == [[1]], outcome.detail


@pytest.mark.parametrize(
    "block",
    [
        "DO $$ BEGIN INSERT INTO t VALUES (3, 'z'); END $$",
        "IF 1 = 1 BEGIN INSERT INTO t VALUES (3, 'z') END",
        "EXEC('INSERT INTO t VALUES (3, ''z'')')",
        "ALTER TABLE t ADD COLUMN n INT",
        "ALTER TABLE t ADD n INT",
        "ALTER TABLE [t] ADD [n] INT",
        "ALTER TABLE t RENAME COLUMN b TO c",
        "INSERT ALL INTO t VALUES (3, 'z') INTO t VALUES (4, 'w') SELECT * FROM dual",
    ],
)
def test_a_block_that_may_make_rows_is_not_left_out(block):
    result = run(TABLE + block, "SELECT a FROM t")
    assert result.kind == "does not run" and "may make rows, and is not understood" in result.detail


def test_an_order_is_one_of_the_outermost_select():
    queries = {
        "SELECT a FROM t ORDER BY a": True,
        "SELECT a FROM t UNION SELECT 1 ORDER BY 1": True,
        "WITH x AS (SELECT a FROM t) SELECT * FROM x ORDER BY a": True,
        "SELECT * FROM (SELECT a FROM t ORDER BY a)": False,
        "SELECT ROW_NUMBER() OVER (ORDER BY a) FROM t": False,
    }
    (results,) = judge.run_all([(TABLE, *queries)])
    assert [result.ordered for result in results] == list(queries.values())


numbers = st.integers(-5, 5) | st.floats(-1e6, 1e6).map(lambda number: round(number, 3))
row_lists = st.lists(st.tuples(numbers, st.sampled_from(["a", "b", None]), numbers), max_size=12)


@settings(deadline=None, derandomize=True)
@given(row_lists, st.randoms(use_true_random=False))
def test_shuffled_rows_with_rounding_errors_are_the_same(rows, chance):
    moved = [
        [v * (1 + chance.choice([-1, 0, 1]) * 1e-15) if isinstance(v, float) else v for v in r] for r in rows
    ]
    chance.shuffle(moved)
    gold, other = (judge.Result("rows", rows=list(map(list, it)), columns=["a"] * 3) for it in (rows, moved))
    assert judge.difference(gold, other) == ""


@settings(deadline=None, derandomize=True)
@given(row_lists.filter(len), st.data())
def test_one_changed_value_is_a_difference(rows, data):
    changed = [list(row) for row in rows]
    row, column = data.draw(st.sampled_from(changed)), data.draw(st.sampled_from([0, 2]))
    row[column] += 0.001
    gold, other = (
        judge.Result("rows", rows=list(map(list, it)), columns=["a"] * 3) for it in (rows, changed)
    )
    assert judge.difference(gold, other) == "other values"


ORDERS = """
CREATE TABLE o (id INTEGER, d DATE, ts TIMESTAMP, name TEXT, n INTEGER, p REAL, ok BOOLEAN);
INSERT INTO o VALUES (1, '2024-01-15', '2024-01-15 08:30:00', 'Ada', 3, 1.5, TRUE),
    (2, '2024-03-05', '2024-03-05 23:00:00', 'bob', 4, 2.5, FALSE),
    (3, '2023-12-31', '2023-12-31 00:10:00', 'Cy', NULL, 4.0, TRUE);
"""
# Queries of other databases over ORDERS, worked out by hand.
FOREIGN = {
    "SELECT EXTRACT(YEAR FROM d) FROM o": [[2024], [2024], [2023]],
    "SELECT EXTRACT(DOW FROM d), EXTRACT(QUARTER FROM d) FROM o": [[1, 1], [2, 1], [0, 4]],
    "SELECT DATE_TRUNC('month', d) FROM o": [["2024-01-01"], ["2024-03-01"], ["2023-12-01"]],
    "SELECT DATE_TRUNC('quarter', d), DATE_TRUNC('week', d) FROM o": [
        ["2024-01-01", "2024-01-15"],
        ["2024-01-01", "2024-03-04"],
        ["2023-10-01", "2023-12-25"],
    ],
    "SELECT d + INTERVAL '1 day', ts + INTERVAL '2 hours' FROM o WHERE id = 2": [
        ["2024-03-06", "2024-03-06 01:00:00"]
    ],
    "SELECT name FROM o WHERE name ILIKE 'B%'": [["bob"]],
    "SELECT ts::date, p::int, n::text FROM o WHERE id = 2": [["2024-03-05", 2, "4"]],
    "SELECT CAST(ts AS DATE) FROM o WHERE id = 1": [["2024-01-15"]],
    "SELECT YEAR(d), MONTH(d), DAY(d), QUARTER(d) FROM o WHERE id = 3": [[2023, 12, 31, 4]],
    "SELECT DATE_PART('month', d) FROM o": [[1], [3], [12]],
    "SELECT DATEPART(year, d) FROM o": [[2024], [2024], [2023]],
    "SELECT DATE_FORMAT(d, '%Y-%m') FROM o WHERE id = 1": [["2024-01"]],
    "SELECT TO_CHAR(d, 'YYYY-MM') FROM o WHERE id = 1": [["2024-01"]],
    "SELECT TO_CHAR(ts::timestamp, 'HH24:MI:SS') FROM o WHERE id = 1": [["08:30:00"]],
    "SELECT TOP 2 id FROM o ORDER BY id": [[1], [2]],
    "SELECT id FROM o ORDER BY id FETCH FIRST 2 ROWS ONLY": [[1], [2]],
    "SELECT DATEDIFF(day, d, '2024-04-01') FROM o": [[77], [27], [92]],
    "SELECT DATEDIFF('2024-04-01', d) FROM o": [[77], [27], [92]],
    "SELECT DATEDIFF(year, d, '2024-04-01'), DATEDIFF(month, d, '2024-04-01') FROM o": [
        [0, 3],
        [0, 1],
        [1, 4],
    ],
    "SELECT TIMESTAMPDIFF(HOUR, ts, '2024-04-01 12:00') FROM o WHERE id = 2": [[637]],
    "SELECT DATEADD(week, 2, d), DATEADD(month, -1, d), DATEADD(hour, 1, ts) FROM o WHERE id = 1": [
        ["2024-01-29", "2023-12-15", "2024-01-15 09:30:00"]
    ],
    "SELECT DATE_SUB(ts, INTERVAL 90 MINUTE) FROM o WHERE id = 1": [["2024-01-15 07:00:00"]],
    "SELECT DATEDIFF(hour, ts, '2024-04-01 12:00') FROM o WHERE id = 2": [[637]],
    "SELECT DATE(d, '+1 month', 'start of month', '-1 day') FROM o WHERE id = 1": [["2024-01-31"]],
    "SELECT STRFTIME('%Y', ts), ROUND(JULIANDAY(ts) - JULIANDAY(d), 3) FROM o WHERE id = 2": [
        ["2024", 0.958]
    ],
    "SELECT name FROM o WHERE name ~ '^A'": [["Ada"]],
    "SELECT id FROM o WHERE id = '2' AND d LIKE '2024-03%' AND SUBSTR(d, 1, 4) = '2024'": [[2]],
    "SELECT YEAR(ts), COUNT(*) FROM o GROUP BY YEAR(ts) ORDER BY 1": [[2023, 1], [2024, 2]],
    "SELECT DATE_ADD(d, INTERVAL 1 QUARTER) FROM o WHERE id = 1": [["2024-04-15"]],
    "SELECT ADD_MONTHS(d, 1), LAST_DAY(d) FROM o WHERE id = 1": [["2024-02-15", "2024-01-31"]],
    "SELECT id FROM o WHERE d BETWEEN DATE '2024-01-01' AND DATE '2024-12-31'": [[1], [2]],
    "SELECT LEFT(name, 2), RIGHT(name, 2) FROM o WHERE id = 1": [["Ad", "da"]],
    "SELECT CONCAT(name, '-', id) FROM o WHERE id = 1": [["Ada-1"]],
    "SELECT STRING_AGG(name, ',') FROM o WHERE id < 3": [["Ada,bob"]],
    "SELECT GROUP_CONCAT(name SEPARATOR ';') FROM o WHERE id < 3": [["Ada;bob"]],
    "SELECT ISNULL(n, 0) FROM o": [[3], [4], [0]],
    "SELECT NVL(n, 0) FROM o": [[3], [4], [0]],
    "SELECT LEN(name), CHARINDEX('a', name), POSITION('a' IN name) FROM o WHERE id = 1": [[3, 3, 3]],
    "SELECT GREATEST(p, 2), LEAST(p, 2) FROM o WHERE id < 3": [[2, 1.5], [2.5, 2]],
    "SELECT SUBSTRING(name FROM 1 FOR 2) FROM o WHERE id = 3": [["Cy"]],
    "SELECT DISTINCT ON (ok) ok, name FROM o ORDER BY ok, name": [[0, "bob"], [1, "Ada"]],
    "SELECT name, RANK() OVER (ORDER BY p) r FROM o QUALIFY r = 1": [["Ada", 1]],
    "SELECT BOOL_OR(ok), COUNT_IF(ok) FROM o": [[1, 2]],
    "SELECT n DIV 2 FROM o WHERE id = 1": [[1]],
    "SELECT shop.o.id FROM shop.o WHERE id = 1": [[1]],
    "SELECT [name] FROM [dbo].[o] WHERE id = 1": [["Ada"]],
}
# Contexts of other databases, and what SELECT * FROM t gives.
FOREIGN_CONTEXTS = {
    "CREATE TABLE t (id SERIAL PRIMARY KEY, a VARCHAR(50)); INSERT INTO t (a) VALUES ('x'), ('y');": [
        [1, "x"],
        [2, "y"],
    ],
    "CREATE SCHEMA s; CREATE TABLE s.t (id INT AUTO_INCREMENT PRIMARY KEY, e ENUM('x', 'y'), tags TEXT[]); "
    "INSERT INTO s.t (e, tags) VALUES ('x', ARRAY['p', 'q']);": [[1, "x", ["p", "q"]]],
    "CREATE TABLE t (id INT IDENTITY(1,1) PRIMARY KEY, a NVARCHAR(MAX)); INSERT INTO t (a) VALUES (N'x');": [
        [1, "x"]
    ],
    "CREATE TABLE t (id INT NOT NULL AUTO_INCREMENT, at DATETIME DEFAULT '2024-04-01 12:00:00', PRIMARY KEY (id)) "
    "ENGINE=InnoDB DEFAULT CHARSET=utf8; INSERT INTO t (id) VALUES (1);": [[1, "2024-04-01 12:00:00"]],
    "CREATE TABLE t (at TIMESTAMP WITH TIME ZONE); INSERT INTO t VALUES ('2024-01-01 00:00:00'::timestamp);": [
        ["2024-01-01"]
    ],
    "CREATE TABLE t (d DATE); INSERT INTO t VALUES (DATE '2024-01-01'), (DATE '2024-04-01' - INTERVAL '1 day');": [
        ["2024-01-01"],
        ["2024-03-31"],
    ],
    "CREATE DATABASE shop; USE shop; CREATE TABLE t (a JSON); INSERT INTO t VALUES ('{\"a\": 1}'::json);": [
        ['{"a": 1}']
    ],
    "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('it\\'s');": [["it's"]],
    "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (m mood); INSERT INTO t VALUES ('sad');": [["sad"]],
    "CREATE TABLE t (a NUMBER(10), d DATE); INSERT INTO t VALUES (1, TO_DATE('2024-01-02', 'YYYY-MM-DD'));": [
        [1, "2024-01-02"]
    ],
    "DROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (`a` tinyint unsigned COMMENT 'x;y', KEY `k` (`a`)) ENGINE=InnoDB;\n"
    "/*!40000 ALTER TABLE `t` DISABLE KEYS */;\nINSERT IGNORE INTO `t` VALUES (300);\nUNLOCK TABLES;": [
        [300]
    ],
    "SET statement_timeout = 0;\nCREATE TABLE public.t (a money, b character varying(2));\nALTER TABLE ONLY public.t "
    "ADD CONSTRAINT k PRIMARY KEY (a);\nCOMMENT ON TABLE t IS 'it''s';\nINSERT INTO public.t VALUES (1.5, 'long');": [
        [1.5, "long"]
    ],
    "CREATE TABLE [dbo].[t] ([a] [int] NOT NULL, [b] [nvarchar](9) NULL)\nGO\nINSERT [dbo].[t] ([a], [b]) "
    "VALUES (1, N'x')\nGO\n": [[1, "x"]],
    "CREATE TABLE t (a INT, b INT DEFAULT 3); INSERT INTO t (a) VALUES (1); UPDATE t SET a = 2; "
    "INSERT INTO t (a) VALUES (4); DELETE FROM t WHERE a = 4": [[2, 3]],
    "CREATE TABLE u (a INT); INSERT INTO u VALUES (1); CREATE TABLE t AS SELECT a + 1 AS b FROM u": [[2]],
    "CREATE TABLE u (a INT); INSERT INTO u VALUES (1); CREATE VIEW t AS SELECT a FROM u": [[1]],
    "CREATE TABLE t (a INTEGER PRIMARY KEY, b FLOAT, c ENUM('x')); INSERT INTO t (b, c) VALUES (0.1, \"x\")": [
        [1, 0.1, "x"]
    ],
}


# What databases say of today, and the same in DuckDB.
TODAY = {
    "NOW() - INTERVAL '30 days'": "CURRENT_DATE - 30",
    "DATE_SUB(CURDATE(), INTERVAL 1 MONTH)": "CURRENT_DATE - INTERVAL 1 MONTH",
    "DATEADD(month, -1, GETDATE())": "CURRENT_DATE - INTERVAL 1 MONTH",
    "DATE('now', '-1 month')": "CURRENT_DATE - INTERVAL 1 MONTH",
    "DATETIME('now', 'start of year')": "DATE_TRUNC('year', CURRENT_DATE)",
    "CURRENT_TIMESTAMP": "CURRENT_DATE",
}


def test_queries_about_today_are_judged_today():
    jobs = [(TABLE, f"SELECT {theirs}", f"SELECT {ours}") for theirs, ours in TODAY.items()]
    days = [[result.rows[0][0][:10] for result in results] for results in judge.run_all(jobs)]
    assert all(theirs == ours for theirs, ours in days), days


@pytest.fixture(scope="module")
def foreign():
    """The result of each foreign query and context."""
    jobs = {query: (ORDERS, query) for query in FOREIGN}
    jobs |= {context: (context, "SELECT * FROM t") for context in FOREIGN_CONTEXTS}
    return dict(zip(jobs, (result for (result,) in judge.run_all(jobs.values(), 2))))


@pytest.mark.parametrize("text", FOREIGN | FOREIGN_CONTEXTS)
def test_other_dialects(foreign, text):
    assert foreign[text].kind == "rows", foreign[text].detail
    assert foreign[text].rows == (FOREIGN | FOREIGN_CONTEXTS)[text]


@pytest.mark.parametrize("what", ["SOUNDEX(name)", "STRFTIME('%Y', d, '-1 month')"])
def test_what_has_no_counterpart_does_not_run(what):
    assert run(ORDERS, f"SELECT {what} FROM o").kind == "does not run"


def test_outcome_names_what_was_translated():
    context = "CREATE SCHEMA s; CREATE TABLE s.t (a DATE); INSERT INTO s.t VALUES ('2024-01-02')"
    (outcome,) = judge.judge_all([(context, "SELECT YEAR(a) FROM t", "SELECT DATEPART(year, a) FROM s.t")])
    assert outcome.kind == "right" and outcome.translated == {"generated": "tsql"}


@pytest.fixture(scope="module")
def cage(tmp_path_factory):
    """A folder with the canary, and a function that puts its paths into an attack."""
    folder = tmp_path_factory.mktemp("cage")
    (folder / "canary").write_text(SECRET)
    (folder / "folder").mkdir()
    paths = {"{canary}": str(folder / "canary"), "{folder}": str(folder / "folder")}

    def aim(text: str) -> str:
        for name, path in paths.items():
            text = text.replace(name, path)
        return text

    return folder, aim


@pytest.fixture(scope="module")
def raid(cage):
    """Results of all attacks: before, the attack and after for a query; the one query for a context."""
    _, aim = cage
    jobs = [(TABLE, EVERYTHING, aim(attack), EVERYTHING) for attack, _ in sql_attacks.QUERIES.values()]
    jobs += [(TABLE + aim(attack), aim(query)) for attack, query, _ in sql_attacks.CONTEXTS.values()]
    names = (*sql_attacks.QUERIES, *(f"c {name}" for name in sql_attacks.CONTEXTS))
    with TIGHT:
        return dict(zip(names, judge.run_all(jobs, 2), strict=True))


@pytest.mark.parametrize("name", sql_attacks.QUERIES)
def test_attack_by_a_query(raid, name):
    before, attack, after = raid[name]
    kind, detail = sql_attacks.QUERIES[name][1]
    assert attack.kind == kind or not kind and attack.kind in ("does not run", "timed out"), attack
    assert detail in attack.detail
    assert before.rows and (
        after.rows == before.rows or after.detail == attack.detail
    )  # the database died with it


@pytest.mark.parametrize("name", sql_attacks.CONTEXTS)
def test_attack_by_a_context(raid, name):
    """What makes no rows is not run: then the query sees the good context."""
    (result,) = raid[f"c {name}"]
    assert result.rows == [[1]] or result.kind in ("does not run", "timed out"), result
    assert sql_attacks.CONTEXTS[name][2] in result.detail


def test_no_attack_reads_a_file_or_writes_one(raid, cage):
    folder, _ = cage
    assert len(raid) == 134
    assert SECRET not in json.dumps(list(raid.values()))
    assert (folder / "canary").read_text() == SECRET
    assert sorted(path.name for path in folder.rglob("*")) == ["canary", "folder"]


@TIGHT
@pytest.mark.parametrize("name", ["endless", "translation"])
def test_no_attack_takes_longer_than_the_limit(name):
    begun = time.monotonic()
    judge.run_all([(TABLE, sql_attacks.QUERIES[name][0])])
    # Two seconds, one more to the kernel's alarm, and time for a busy machine to start a process and to notice.
    assert 2 <= time.monotonic() - begun < 2 + 1 + 10


def test_memory_of_the_processes_stays_within_the_limit():
    """The attacks on memory in a process of its own, because the largest child is counted there."""
    attacks = [
        "sorted",
        "many columns",
        "large rows",
        "doubling",
        "repeat",
        "list_agg",
        "many rows",
        "printf",
    ]
    program = (
        "import json, resource, sys; from helpers.sql import judge\n"
        "jobs = json.load(sys.stdin)\n"
        "judge.LIMITS.update(seconds=2, megabytes=32)\n"
        "judge.run_all(jobs, 1)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    jobs = [(TABLE, sql_attacks.QUERIES[name][0]) for name in attacks]
    jobs.append((TABLE + sql_attacks.CONTEXTS["fills"][0], "SELECT 1"))
    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert 32 < int(ran.stdout) < 32 + 200, ran.stderr  # with the interpreter, DuckDB, sqlglot, one result


def test_the_process_can_open_no_file_and_not_grow(tmp_path):
    """What stands behind DuckDB's settings: the kernel's own limits."""
    (tmp_path / "canary").write_text(SECRET)
    program = f"""
from helpers.sql import sandbox
sandbox.connect(32)
for attempt in (
    lambda: open({str(tmp_path / "canary")!r}).read(),
    lambda: open({str(tmp_path / "new")!r}, "w"),
    lambda: bytearray(2 * 2**30),
):
    assert sandbox.resource.getrlimit(sandbox.resource.RLIMIT_CORE) == (0, 0)
    try:
        attempt()
    except (OSError, MemoryError) as error:
        print(type(error).__name__)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY)
    assert ran.stdout.split() == ["OSError", "OSError", "MemoryError"], ran.stderr


def stand_in(tmp_path, monkeypatch, script: str) -> None:
    """Another program in the place of Python, where the judge starts its process."""
    (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))


def test_the_process_gets_no_environment_and_no_interrupt(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    stand_in(
        tmp_path, monkeypatch, f"/usr/bin/env > {tmp_path}/env; /bin/ps -o sid= -p $$ > {tmp_path}/session"
    )
    with pytest.raises(RuntimeError, match="stopped after 0 of 1 rows: it ended with 0"):
        run(TABLE, "SELECT 1")
    environment = (tmp_path / "env").read_text()
    assert environment and SECRET not in environment and "HOME" not in environment
    assert int((tmp_path / "session").read_text()) != os.getsid(0)


def test_a_process_that_cannot_start_says_why(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "echo No module named helpers >&2; exit 1")
    with pytest.raises(RuntimeError, match="stopped after 0 of 1 rows: No module named helpers"):
        run(TABLE, "SELECT 1")


@TIGHT
def test_a_query_short_of_memory_leaves_room_for_the_next():
    full = (TABLE, sql_attacks.QUERIES["repeat"][0], "SELECT b FROM t")
    first, second = judge.run_all([full, (TABLE, "SELECT 1")], 1)
    assert [result.kind for result in first] == ["timed out", "rows"] and second[0].rows == [[1]]


@TIGHT
def test_a_row_after_one_that_ended_the_process():
    bad, good = sql_attacks.QUERIES["translation"][0], "SELECT b FROM t"
    outcomes = judge.judge_all([(TABLE, good, text) for text in (good, bad, good)], 1)
    assert [outcome.kind for outcome in outcomes] == ["right", "timed out", "right"]


def test_a_process_that_something_else_ended_is_named_and_not_taken_for_an_outcome(tmp_path, monkeypatch):
    real = sys.executable
    stand_in(tmp_path, monkeypatch, f'/usr/bin/head -n 2 | {real} "$@"; kill -9 $$')
    with pytest.raises(RuntimeError, match="stopped after 2 of 5 rows: it ended with -9"):
        judge.run_all([(TABLE, f"SELECT {number}") for number in range(5)], 1)


def test_many_rows_keep_their_order_over_processes():
    order = list(range(300))
    random.Random(0).shuffle(order)
    rows = [
        (f"CREATE TABLE t (a INT); INSERT INTO t VALUES ({n})", "SELECT a FROM t", f"SELECT {n}")
        for n in order
    ]
    outcomes = judge.judge_all(rows, 2)
    assert [outcome.gold.rows[0][0] for outcome in outcomes] == order
    assert {outcome.kind for outcome in outcomes} == {"right"}


@TIGHT
def test_rows_over_the_limit_are_a_wrong_result_and_a_broken_gold():
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT i FROM n"
    wrong, broken = judge.judge_all([(TABLE, "SELECT 1", many), (TABLE, many, many)], 1)
    assert (wrong.kind, wrong.detail) == ("wrong result", "more than 1000 rows")
    assert (broken.kind, broken.detail) == ("gold broken", "too many rows: more than 1000 rows")
