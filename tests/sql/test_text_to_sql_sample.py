"""The text-to-SQL sample: its form, that all of it runs, and that near-miss SQL gives another result."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify

SAMPLE = Path(__file__).parents[2] / "helpers" / "samples" / "text_to_sql.jsonl"
ROWS = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
FIELDS = ["sql_prompt", "sql_context", "sql", "sql_explanation", "sql_complexity", "domain"]
# At least this many of each kind, so that a table by complexity has something to show.
LEAST = {
    "basic SQL": 200,
    "aggregation": 200,
    "single join": 100,
    "multiple_joins": 30,
    "subqueries": 80,
    "set operations": 40,
    "window functions": 40,
    "CTEs": 30,
}
SPEAKS_OF_ORDER = re.compile(
    r"\b(order|ordered|sorted|alphabetical(ly)?|first|from .+ to|most|fewest|highest|lowest|\w+est)\b", re.I
)
MONTHS = "January February March April May June July August September October November December".split()


@cache
def database(context: str, backwards: bool = False) -> sqlite3.Connection:
    """The context in memory; `backwards` stores the same rows in the opposite order."""
    db = sqlite3.connect(":memory:")
    db.executescript(context)
    for table in schema(context) if backwards else ():
        rows = db.execute(f"SELECT * FROM {table}").fetchall()
        db.execute(f"DELETE FROM {table}")
        db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows[::-1])
    db.commit()
    reads = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
    db.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in reads else sqlite3.SQLITE_DENY)
    return db


@cache
def schema(context: str) -> dict[str, dict[str, str]]:
    """Table name -> column name -> type."""
    creates = [tree for tree in sqlglot.parse(context, read="sqlite") if isinstance(tree, exp.Create)]
    return {
        tree.this.this.name: {column.name: column.kind.sql() for column in tree.this.expressions}
        for tree in creates
    }


@cache
def parsed(sql: str) -> exp.Expression:
    return sqlglot.parse_one(sql, read="sqlite")


def result(row: dict, sql: str, backwards: bool = False) -> list[tuple]:
    """What a query returns: a list where the sample's own query orders, else sorted as a multiset."""
    rows = database(row["sql_context"], backwards).execute(sql).fetchall()
    rows = [tuple(round(v, 6) if isinstance(v, float) else v for v in values) for values in rows]
    return rows if parsed(row["sql"]).args.get("order") else sorted(rows, key=repr)


def complexity(sql: str) -> str:
    """The data set's term for a query, by the most advanced thing in it."""
    tree = parsed(sql)
    joins = len(list(tree.find_all(exp.Join)))
    if tree.find(exp.With):
        return "CTEs"
    if tree.find(exp.Window):
        return "window functions"
    if isinstance(tree, exp.SetOperation):
        return "set operations"
    if len(list(tree.find_all(exp.Select))) > 1:
        return "subqueries"
    if joins:
        return "single join" if joins == 1 else "multiple_joins"
    return "aggregation" if tree.find(exp.AggFunc) else "basic SQL"


def named(question: str, value: str) -> bool:
    """Is a text value or a date of the SQL in the words of the question?"""
    date = re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", value)
    if not date or value in question:
        return value.strip("%")[:-1].lower() in question.lower()  # galaxy, galaxies
    year, month, day = date.groups()
    if month == "01" and day == "01":  # "in 2023", "before 2024"
        return year in question or str(int(year) - 1) in question
    words = set(re.findall(r"\w+", question))
    return {year, MONTHS[int(month) - 1]} <= words and (day in (None, "01") or str(int(day)) in words)


SWAPS = {
    **{exp.Max: exp.Min, exp.Min: exp.Max, exp.Sum: exp.Avg, exp.Avg: exp.Sum},
    **{exp.GT: exp.LT, exp.LT: exp.GT, exp.GTE: exp.LT, exp.LTE: exp.GT, exp.EQ: exp.NEQ, exp.NEQ: exp.EQ},
    **{exp.And: exp.Or, exp.Or: exp.And},
    **{exp.Union: exp.Intersect, exp.Intersect: exp.Union, exp.Except: exp.Union},
}

MUTABLE = (exp.Where, exp.Having, exp.Limit, exp.Ordered, exp.Not, exp.Distinct, exp.Window, *SWAPS)


def mutants(sql: str) -> Iterator[str]:
    """The query with one mistake each: a clause dropped, an aggregate, comparison or order swapped."""
    places = [number for number, node in enumerate(parsed(sql).walk()) if isinstance(node, MUTABLE)]
    for place in places:
        tree = parsed(sql).copy()
        node = list(tree.walk())[place]
        if isinstance(node, exp.Where | exp.Having | exp.Limit):
            node.pop()
        elif isinstance(node, exp.Ordered):
            node.set("desc", not node.args.get("desc"))
        elif isinstance(node, exp.Not):
            node.replace(node.this)
        elif isinstance(node, exp.Distinct):
            node.replace(node.expressions[0]) if node.expressions else node.pop()
        elif isinstance(node, exp.Window):
            node.set("partition_by", None)
        elif not node.find_ancestor(exp.Join):
            wrong = SWAPS[type(node)](**node.copy().args)
            tree = node.replace(wrong).root() if node.parent else wrong
        if (mutant := tree.sql("sqlite")) != parsed(sql).sql("sqlite"):
            yield mutant


def test_six_fields_one_context_per_domain_and_enough_of_both() -> None:
    assert all(list(row) == FIELDS and all(row.values()) for row in ROWS)
    per_domain = Counter(row["domain"] for row in ROWS)
    contexts = {(row["domain"], row["sql_context"]) for row in ROWS}
    assert len(ROWS) >= 900 and len(per_domain) == len(contexts) >= 80
    assert len({context for _, context in contexts}) == len(contexts)
    assert len({tuple(schema(context)) for _, context in contexts}) == len(contexts)  # other tables each time
    assert min(per_domain.values()) >= 10 and max(per_domain.values()) <= 13


def test_complexity_is_the_shape_of_the_sql_and_half_is_easy() -> None:
    counts = Counter(row["sql_complexity"] for row in ROWS)
    assert [row["sql"] for row in ROWS if row["sql_complexity"] != complexity(row["sql"])] == []
    assert set(counts) == set(LEAST) and all(counts[kind] >= least for kind, least in LEAST.items())
    assert counts["basic SQL"] + counts["aggregation"] >= len(ROWS) / 2


@pytest.mark.parametrize(
    ("what", "pattern", "least"),
    [
        ("grouping", r"GROUP BY", 200),
        ("HAVING", r"HAVING", 20),
        ("ordering", r"ORDER BY", 150),
        ("dates", r"strftime|julianday|'\d{4}-", 80),
        ("NULL", r"IS (NOT )?NULL", 20),
        ("LIKE", r"LIKE", 12),
        ("DISTINCT", r"DISTINCT", 20),
    ],
)
def test_constructs_occur(what: str, pattern: str, least: int) -> None:
    assert sum(bool(re.search(pattern, row["sql"])) for row in ROWS) >= least, what


def test_each_query_only_reads_and_returns_something() -> None:
    for row in ROWS:
        rows = result(row, row["sql"])
        assert 1 <= len(rows) <= 12, row["sql"]
        assert any(value is not None for values in rows for value in values), row["sql"]


def test_results_do_not_depend_on_how_rows_are_stored() -> None:
    """Ties in an ORDER BY, a LIMIT or a window would show here; so would the clock or chance."""
    for row in ROWS:
        assert result(row, row["sql"]) == result(row, row["sql"], backwards=True), row["sql"]
    assert not [row["sql"] for row in ROWS if re.search(r"random|now|current_", row["sql"], re.I)]


def test_one_style_of_sql() -> None:
    for row in ROWS:
        sql = row["sql"]
        assert re.fullmatch(r"(SELECT|WITH) [^;\"`\n]+;", sql), sql
        outside = re.sub(r"'[^']*'", "''", sql)
        assert not re.search(r"\b(select|from|where|join|by|limit|and|or|in|desc)\b|ASC|!=|  ", outside), sql
        qualified = "." in re.sub(r"\d\.\d", "", outside)
        assert qualified == (" JOIN " in outside), sql


def test_no_question_twice() -> None:
    questions = Counter(row["sql_prompt"].lower() for row in ROWS)
    assert [question for question, count in questions.items() if count > 1] == []
    assert max(Counter(row["sql"] for row in ROWS).values()) == 1


def test_sql_uses_only_what_the_context_has_and_the_question_says() -> None:
    for row in ROWS:
        tree, question = parsed(row["sql"]), row["sql_prompt"]
        # SQLite itself takes an unknown "column" for a text; this raises an error.
        qualify(tree.copy(), schema=schema(row["sql_context"]), dialect="sqlite")
        for literal in tree.find_all(exp.Literal):
            value = literal.this
            if literal.is_string and value not in ("%Y", "%Y-%m", "yes", "no"):
                assert named(question, value), (value, question)
                assert re.match(r"\d|.*%", value) or f"'{value}'" in row["sql_context"], (value, row["sql"])
            elif literal.is_number and isinstance(literal.parent, exp.Binary | exp.Between | exp.Limit):
                implied = value in ("1", "100.0")  # the first of a ranking, per cent
                assert implied or value in question, (value, question)


def test_questions_say_the_order_that_the_sql_has() -> None:
    for row in ROWS:
        question = row["sql_prompt"]
        if parsed(row["sql"]).args.get("order"):
            assert SPEAKS_OF_ORDER.search(question), question
        else:
            assert not re.search(r"ordered (by|from)|sorted|alphabetical", question), question


def test_short_enough_for_512_tokens() -> None:
    """A context of 710 characters with its question is 388 Gemma tokens, the longest SQL is 56."""
    assert max(len(row["sql_context"]) for row in ROWS) <= 710
    assert max(len(row["sql_prompt"]) for row in ROWS) <= 140
    assert max(len(row["sql"]) for row in ROWS) <= 245
    for row in ROWS:
        assert row["sql_prompt"][-1] in ".?" and re.fullmatch(r"[A-Z][^.]+\.", row["sql_explanation"]), row
        sizes = [len(result(row, f"SELECT * FROM {table}")) for table in schema(row["sql_context"])]
        assert 1 <= len(sizes) <= 3 and 3 <= min(sizes) <= max(sizes) <= 8, row["domain"]


def test_near_misses_give_another_result() -> None:
    """A dropped clause, a swapped aggregate, comparison or order must show, or execution proves nothing."""
    share = Counter()
    for row in ROWS:
        gold, differs = result(row, row["sql"]), []
        for sql in mutants(row["sql"]):
            try:
                differs.append(result(row, sql) != gold)
            except sqlite3.OperationalError:  # such a mistake is seen without any data
                differs.append(True)
        assert sum(differs) > len(differs) / 2 or not differs, row["sql"]
        share.update(differs)
    readme = (SAMPLE.parent / "README.md").read_text(encoding="utf-8")
    assert f"of {share.total():,} near misses" in readme, share
    assert f"{share[True] / share.total():.0%}".replace("%", " %") in readme and share[True] > 2000, share


def test_readme_counts() -> None:
    readme = (SAMPLE.parent / "README.md").read_text(encoding="utf-8")
    assert f"{len(ROWS)} questions with their SQL over {len({row['domain'] for row in ROWS})} small" in readme
    for kind, count in Counter(row["sql_complexity"] for row in ROWS).items():
        assert f"| {kind} | {count} |" in readme, kind
