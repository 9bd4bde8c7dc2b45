"""SQL of other databases rewritten for SQLite by sqlglot, with the date arithmetic that sqlglot leaves.

`readings(text)` gives the text itself and its translations, in the order in which to try them. What
is not translated, and runs with another meaning: `+` between texts, the difference of two dates as
`a - b`, the division of integers that MySQL makes a fraction. Weeks of the year, regular expressions
and percentiles have no counterpart here: such a query does not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.dialects.sqlite import SQLite
from sqlglot.errors import ErrorLevel, SqlglotError, UnsupportedError

# Tried in this order. T-SQL goes before MySQL, which reads ISNULL(a, 0) as a test and forgets the 0.
DIALECTS = ("postgres", "tsql", "mysql", "snowflake", "bigquery", "oracle")

# SQLite runs these, but means something else: SERIAL does not count, CAST('2024-05-01' AS DATE) is the
# number 2024, and so is CURRENT_DATE - 30 about a year. Here the translation is tried first.
MISREAD = re.compile(
    r"\b(?:small|big)?serial\b|\bcast\s*\([^;]*?\sas\s+(?:date|datetime|timestamp)\b"
    r"|\bcurrent_(?:date|timestamp)\s*[-+]",
    re.IGNORECASE,
)
# sqlglot was not written against hostile text: a tree it did not foresee ends in any of these.
FAILURES = (SqlglotError, LookupError, TypeError, ValueError, AttributeError, RecursionError, OSError)

PARTS = {"YEAR": "%Y", "MONTH": "%m", "DAY": "%d", "HOUR": "%H", "MINUTE": "%M", "SECOND": "%S"}
PARTS |= {"DOW": "%w", "DOY": "%j", "EPOCH": "%s"}
SECONDS = {"DAY": 86_400, "HOUR": 3_600, "MINUTE": 60, "SECOND": 1}
TEXTS = ("ARRAY", "ENUM", "STRUCT", "JSON", "JSONB", "UUID")  # as any other name, they would be numbers
NO_COUNTERPART = ("SCHEMA", "DATABASE", "TYPE", "SEQUENCE", "EXTENSION")


def readings(text: str) -> Iterator[tuple[str, str]]:
    """(dialect, SQL for SQLite) to try one after the other; the text as it is has the dialect sqlite."""
    order = (*DIALECTS, "sqlite") if MISREAD.search(text) else ("sqlite", *DIALECTS)
    seen = {text}
    for dialect in order:
        try:
            translated = text if dialect == "sqlite" else to_sqlite(text, dialect)
        except FAILURES:
            continue
        if dialect == "sqlite" or translated not in seen:
            seen.add(translated)
            yield dialect, translated


def to_sqlite(text: str, dialect: str) -> str:
    """All statements of `text`, separated by semicolons. Raises one of FAILURES."""
    statements = []
    for tree in filter(None, sqlglot.parse(text, read=dialect)):
        creates = isinstance(tree, exp.Create)
        if isinstance(tree, (exp.Use, exp.Set, exp.Comment)) or creates and tree.kind in NO_COUNTERPART:
            continue
        for name in tree.find_all(exp.Table, exp.Column):  # one database here: shop.orders is orders
            name.set("db", None)
            name.set("catalog", None)
        # What a table is stored in may be left out (ENGINE=InnoDB), what a query asks for may not.
        level = ErrorLevel.IGNORE if creates else ErrorLevel.RAISE
        statements.append(_Generator(dialect="sqlite", unsupported_level=level).generate(tree))
    return ";\n".join(statements)


def is_ordered(query: str) -> bool:
    """Whether the outermost SELECT of a SQLite query has an ORDER BY."""
    try:
        return bool(sqlglot.parse_one(query, read="sqlite").args.get("order"))
    except FAILURES:
        return bool(re.search(r"\border\s+by\b", query, re.IGNORECASE))


def _part(unit: str, date: str) -> str:
    if unit == "QUARTER":
        return f"(({_part('MONTH', date)} + 2) / 3)"
    if unit not in PARTS:
        raise UnsupportedError(f"SQLite has no {unit} of a date")
    return f"CAST(STRFTIME('{PARTS[unit]}', {date}) AS INTEGER)"


def _start(self, tree: exp.Expr) -> str:
    date, unit = self.sql(tree, "this"), _unit(tree)
    if unit == "HOUR":
        return f"STRFTIME('%Y-%m-%d %H:00:00', {date})"
    starts = {
        "YEAR": f"{date}, 'start of year'",
        "QUARTER": f"{date}, 'start of month', ((1 - {_part('MONTH', date)}) % 3) || ' months'",
        "MONTH": f"{date}, 'start of month'",
        "WEEK": f"{date}, 'weekday 0', '-6 days'",  # Monday, as in PostgreSQL
        "DAY": date,
    }
    if unit not in starts:
        raise UnsupportedError(f"no start of {unit}")
    return f"DATE({starts[unit]})"


def _moved(self, tree: exp.Expr) -> str:
    """A date and an amount: in a function, as an INTERVAL, or days after or before CURRENT_DATE; else a sum.

    A time stays one where the unit or the date shows that there is one.
    """
    date, amount, unit = self.sql(tree, "this"), tree.expression, _unit(tree)
    sign = -1 if isinstance(tree, (exp.Sub, exp.DateSub, exp.TimestampSub)) else 1
    if isinstance(amount, exp.Interval):
        unit = _unit(amount) if amount.args.get("unit") else ""  # '1 year 2 months' has none
        amount = amount.this
    elif isinstance(tree, exp.AddMonths):
        unit = "MONTH"
    elif isinstance(tree, exp.Binary) and not (isinstance(tree.this, exp.CurrentDate) and amount.is_number):
        return self.binary(tree, "+" if sign > 0 else "-")
    factor, unit = {"WEEK": (7, "DAY"), "QUARTER": (3, "MONTH")}.get(unit, (1, unit))
    if unit not in ("YEAR", "MONTH", *SECONDS):
        raise UnsupportedError(f"no interval of {unit or amount}")
    timed = unit in ("HOUR", "MINUTE", "SECOND") or "CURRENT_TIMESTAMP" in date or "DATETIME(" in date
    number = self.sql(amount).strip("'")
    return f"{'DATETIME' if timed else 'DATE'}({date}, (({number}) * {sign * factor}) || ' {unit.lower()}s')"


def _difference(self, tree: exp.Expr) -> str:
    """Later - earlier in whole units; but for MySQL's TIMESTAMPDIFF in New Years and months begun, as in T-SQL."""
    later, earlier, unit = self.sql(tree, "this"), self.sql(tree, "expression"), _unit(tree)
    if unit in ("YEAR", "QUARTER", "MONTH"):
        boundaries = not isinstance(tree, exp.TimestampDiff)
        years, months = (f"{_part(u, later)} - {_part(u, earlier)}" for u in ("YEAR", "MONTH"))
        if boundaries and unit == "YEAR":
            return f"({years})"
        short = 0 if boundaries else f"(STRFTIME('%d', {later}) < STRFTIME('%d', {earlier}))"
        return f"((({years}) * 12 + {months} - {short}) / { {'YEAR': 12, 'QUARTER': 3, 'MONTH': 1}[unit] })"
    if unit in ("DAY", "WEEK"):
        days = f"CAST(JULIANDAY(DATE({later})) - JULIANDAY(DATE({earlier})) AS INTEGER)"
        return days if unit == "DAY" else f"({days} / 7)"
    if unit not in SECONDS:
        raise UnsupportedError(f"no difference in {unit}")
    return f"(({_part('EPOCH', later)} - {_part('EPOCH', earlier)}) / {SECONDS[unit]})"


def _unit(tree: exp.Expr) -> str:
    return (tree.text("unit").upper() or "DAY").removesuffix("S")


def _part_of(self, tree: exp.Expr) -> str:
    return _part(tree.key.upper(), self.sql(tree, "this"))


def _type(self, tree: exp.DataType) -> str:
    if "SERIAL" in tree.this.name:
        return "INTEGER"  # which counts, where it is the primary key
    if tree.this.name in TEXTS:
        return "TEXT"
    tree.set("expressions", None)  # SQLite heeds no length, and does not take VARCHAR(MAX)
    return self.datatype_sql(tree)


class _Generator(SQLite.Generator):
    """sqlglot's generator of SQLite, and what it passes on unchanged although SQLite lacks it."""

    TRANSFORMS = SQLite.Generator.TRANSFORMS | {
        **dict.fromkeys((exp.Add, exp.DateAdd, exp.TimestampAdd, exp.AddMonths), _moved),
        **dict.fromkeys((exp.Sub, exp.DateSub, exp.TimestampSub), _moved),
        **dict.fromkeys((exp.DateDiff, exp.TimestampDiff), _difference),
        **dict.fromkeys((exp.DateTrunc, exp.TimestampTrunc), _start),
        **dict.fromkeys((exp.Year, exp.Quarter, exp.Month, exp.Day, exp.Hour, exp.Minute), _part_of),
        exp.DayOfMonth: lambda self, tree: _part("DAY", self.sql(tree, "this")),
        exp.LastDay: lambda self, tree: (
            f"DATE({self.sql(tree, 'this')}, 'start of month', '1 month', '-1 day')"
        ),
        exp.Extract: lambda self, tree: _part(tree.name.upper(), self.sql(tree, "expression")),
        exp.Left: lambda self, tree: self.func("SUBSTR", tree.this, "1", tree.expression),
        exp.Right: lambda self, tree: self.func("SUBSTR", tree.this, exp.Neg(this=tree.expression.copy())),
        exp.Array: lambda self, tree: self.func("JSON_ARRAY", *tree.expressions),
        exp.National: lambda self, tree: self.sql(exp.Literal.string(tree.name)),
        exp.ByteString: lambda self, tree: self.sql(exp.Literal.string(tree.name)),
        exp.DataType: _type,
        exp.Anonymous: lambda self, tree: (
            "CURRENT_TIMESTAMP" if tree.name.upper() == "NOW" else self.anonymous_sql(tree)
        ),
    }
