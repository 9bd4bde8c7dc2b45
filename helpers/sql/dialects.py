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
    first, seen = not MISREAD.search(text), {text}
    if first:
        yield "sqlite", text
    for dialect in DIALECTS:
        try:
            translated = to_sqlite(text, dialect)
        except FAILURES:
            continue
        if translated not in seen:
            seen.add(translated)
            yield dialect, translated
    if not first:
        yield "sqlite", text


def to_sqlite(text: str, dialect: str) -> str:
    """All statements of `text`, separated by semicolons. Raises one of FAILURES."""
    trees = [tree for tree in sqlglot.parse(text, read=dialect) if tree and not _without_counterpart(tree)]
    for tree in trees:
        for named in tree.find_all(exp.Table, exp.Column):  # one database here: shop.orders is orders
            named.set("db", None)
            named.set("catalog", None)
    return ";\n".join(map(_generated, trees))


def _generated(tree: exp.Expr) -> str:
    # What a table is stored in may be left out (ENGINE=InnoDB), what a query asks for may not.
    level = ErrorLevel.IGNORE if isinstance(tree, exp.Create) else ErrorLevel.RAISE
    return _Generator(dialect="sqlite", unsupported_level=level).generate(tree)


def is_ordered(query: str) -> bool:
    """Whether the outermost SELECT of a SQLite query has an ORDER BY."""
    try:
        return bool(sqlglot.parse_one(query, read="sqlite").args.get("order"))
    except FAILURES:
        return bool(re.search(r"\border\s+by\b", query, re.IGNORECASE))


def _without_counterpart(tree: exp.Expr) -> bool:
    return isinstance(tree, (exp.Use, exp.Set, exp.Comment)) or (
        isinstance(tree, exp.Create) and tree.kind in NO_COUNTERPART
    )


def _part(unit: str, date: str) -> str:
    if unit == "QUARTER":
        return f"(({_part('MONTH', date)} + 2) / 3)"
    if unit not in PARTS:
        raise UnsupportedError(f"SQLite has no {unit} of a date")
    return f"CAST(STRFTIME('{PARTS[unit]}', {date}) AS INTEGER)"


def _truncated(unit: str, date: str) -> str:
    starts = {
        "YEAR": f"DATE({date}, 'start of year')",
        "QUARTER": f"DATE({date}, 'start of month', ((1 - {_part('MONTH', date)}) % 3) || ' months')",
        "MONTH": f"DATE({date}, 'start of month')",
        "WEEK": f"DATE({date}, 'weekday 0', '-6 days')",  # Monday, as in PostgreSQL
        "DAY": f"DATE({date})",
        "HOUR": f"STRFTIME('%Y-%m-%d %H:00:00', {date})",
    }
    if unit not in starts:
        raise UnsupportedError(f"no start of {unit}")
    return starts[unit]


def _shifted(date: str, amount: str, unit: str, sign: int) -> str:
    """The date moved; a time stays one where the unit or the operand shows that there is one."""
    factor, unit = {"WEEK": (7, "DAY"), "QUARTER": (3, "MONTH")}.get(unit, (1, unit))
    if unit not in ("YEAR", "MONTH", *SECONDS):
        raise UnsupportedError(f"no interval of {unit or amount}")
    timed = unit in ("HOUR", "MINUTE", "SECOND") or "CURRENT_TIMESTAMP" in date or "DATETIME(" in date
    return f"{'DATETIME' if timed else 'DATE'}({date}, (({amount}) * {sign * factor}) || ' {unit.lower()}s')"


def _difference(later: str, earlier: str, unit: str, boundaries: bool) -> str:
    """later - earlier in whole units; `boundaries` counts the New Years crossed, as T-SQL's DATEDIFF does."""
    if unit in ("YEAR", "QUARTER", "MONTH"):
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
    unit = tree.text("unit").upper() or "DAY"
    return unit.removesuffix("S")


def _add_or_subtract(sign: int):
    def generate(self, tree: exp.Expr) -> str:
        date, amount = self.sql(tree, "this"), tree.expression
        if isinstance(amount, exp.Interval):
            unit = _unit(amount) if amount.args.get("unit") else ""  # '1 year 2 months' has none
            return _shifted(date, self.sql(amount, "this").strip("'"), unit, sign)
        if isinstance(tree.this, exp.CurrentDate) and amount.is_number:
            return _shifted(date, self.sql(amount), "DAY", sign)
        return self.binary(tree, "+" if sign > 0 else "-")

    return generate


def _move(sign: int):
    def generate(self, tree: exp.Expr) -> str:
        amount = self.sql(tree, "expression").strip("'")
        return _shifted(self.sql(tree, "this"), amount, _unit(tree), sign)

    return generate


def _count(self, tree: exp.Expr) -> str:
    boundaries = not isinstance(tree, exp.TimestampDiff)
    return _difference(self.sql(tree, "this"), self.sql(tree, "expression"), _unit(tree), boundaries)


def _start(self, tree: exp.Expr) -> str:
    return _truncated(_unit(tree), self.sql(tree, "this"))


def _of(unit: str):
    return lambda self, tree: _part(unit, self.sql(tree, "this"))


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
        exp.Add: _add_or_subtract(1),
        exp.Sub: _add_or_subtract(-1),
        exp.DateAdd: _move(1),
        exp.DateSub: _move(-1),
        exp.TimestampAdd: _move(1),
        exp.TimestampSub: _move(-1),
        exp.AddMonths: lambda self, tree: _shifted(*map(self.sql, (tree.this, tree.expression)), "MONTH", 1),
        exp.LastDay: lambda self, tree: (
            f"DATE({self.sql(tree, 'this')}, 'start of month', '1 month', '-1 day')"
        ),
        exp.DateDiff: _count,
        exp.TimestampDiff: _count,
        exp.DateTrunc: _start,
        exp.TimestampTrunc: _start,
        exp.Extract: lambda self, tree: _part(tree.name.upper(), self.sql(tree, "expression")),
        exp.Year: _of("YEAR"),
        exp.Quarter: _of("QUARTER"),
        exp.Month: _of("MONTH"),
        exp.Day: _of("DAY"),
        exp.DayOfMonth: _of("DAY"),
        exp.Hour: _of("HOUR"),
        exp.Minute: _of("MINUTE"),
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
