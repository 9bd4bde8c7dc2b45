"""SQL of other databases for DuckDB, by sqlglot: `statements` splits, `contexts` and `queries` give readings to try.

Of a context stays what makes rows: columns with type and default, INSERT, UPDATE, DELETE, TRUNCATE, views, rows of
pg_dump's COPY. Keys, indexes, owners, comments and settings go; types become wide (64 bits, doubles, texts). Refused:
REPLACE, ALTER that adds, drops or renames, blocks that may make rows. For what has another meaning here, see
docs/text-to-sql.md.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.tokens import Token, TokenType

# T-SQL goes before MySQL, which reads ISNULL(a, 0) as a test and forgets the 0.
DIALECTS = ("sqlite", "tsql", "mysql", "postgres", "oracle")
# sqlglot was not written against hostile text: a tree it did not foresee ends in any of these.
FAILURES = (SqlglotError, LookupError, TypeError, ValueError, AttributeError, RecursionError, OSError)
OPENS, CLOSES = (TokenType.L_PAREN, TokenType.CASE, TokenType.BEGIN), (TokenType.R_PAREN, TokenType.END)
MYSQL = re.compile(r"\\'(?!\s*[,);])|^\s*#|\s#\s|`|\bENGINE\s*=|\bAUTO_INCREMENT\b", re.I | re.M)
DOLLARS = re.compile(r"\$\w*\$")  # texts of Postgres
# Routines for MySQL's client; rows of pg_dump; lines for psql and for Oracle's client, and where T-SQL's begin.
DELIMITED = re.compile(r"^\s*DELIMITER\s+(?!;\s*$).*?^\s*DELIMITER\s+;\s*$", re.I | re.M | re.S)
COPY = re.compile(r"^COPY ([^;]*?) FROM stdin\b[^;]*;\n(.*?)^\\\.$", re.I | re.M | re.S)
LINES = r"^(?:\\[a-z]+ .*|/|(?:REM|PROMPT)\b.*)$|^(?i:(?=(?:INSERT (?:INTO\b|\[)|UPDATE [^\n]*\s+SET\b|DELETE FROM\b|"
LINES += r"CREATE (?:OR \w+ |\w+ )?(?:TABLE|VIEW|INDEX|TRIGGER|PROC|FUNCTION|TYPE|DATABASE|SCHEMA)|TRUNCATE TABLE\b|"
LINES += r"(?:ALTER|DROP) TABLE\b|BEGIN TRAN|COMMIT\b|PRINT\b|USE \[?\w+\]?$|SET [^=\n]* O(?:N|FF)\b)))"
LINES = re.compile(LINES, re.M)
TABLE = re.compile(r"CREATE (?:\w+ ){0,3}?TABLE\b", re.I)
# Between columns; KEY and INDEX may name a column, whose type then has a number or a text in its brackets, or none.
KEYS = r"(?:CONSTRAINT|PRIMARY|FOREIGN|UNIQUE|CHECK|EXCLUDE|FULLTEXT|SPATIAL)\b|(?:KEY|INDEX)\b[^()]*\((?! ?[\d'])"
MAKES = r"(?:CREATE\b.*?\b(?:TABLE|VIEW)|COPY|LOAD|INSERT|REPLACE|MERGE|UPDATE|DELETE|"
MAKES += r"(?:BEGIN|DO|EXEC\w*|CALL|IF|WHILE|DECLARE)\b.*?\b(?:INSERT|CREATE TABLE))\b|"
MAKES += r"ALTER TABLE .*? (?:RENAME|DROP COLUMN|ADD \(?(?!DEFAULT|GENERATED|" + KEYS + "))"
MAKES, KEYS = re.compile(MAKES, re.I | re.S), re.compile(KEYS, re.I)
COUNTS = re.compile(r"SERIAL|\bIDENTITY\b|AUTO_?INCREMENT|\bnextval\b", re.I)
SINGLE = re.compile(r"(\bAS\s+|::\s*)(?:FLOAT4?|REAL)\b(?!\s*[(,])", re.I)  # 32 bits in DuckDB, 64 elsewhere
# By the first that is found in a type's name: what it becomes, "" for itself. Types with none of these are texts.
WIDE = {"BLOB|BINARY|BYTEA": "BLOB", "JSON|UUID|INTERVAL": "", "(?<!PO)INT|SERIAL|YEAR|BIT": "BIGINT"}
WIDE |= {"(?<!E)NUM|DEC|MONEY|REAL|FLOA|DOUB": "DOUBLE", "BOOL": "BOOLEAN"}
WIDE |= {"DATETIME|TIMESTAMP": "TIMESTAMP", "DATE": "DATE", "TIME": "TIME"}
logging.getLogger("sqlglot").disabled = True  # its warnings


def tokens(text: str) -> list[Token]:
    """The tokens, by the rules of MySQL or Postgres where something speaks for them. Raises sqlglot's TokenError."""
    known = "mysql" if MYSQL.search(text) else "postgres" if DOLLARS.search(text) else "sqlite"
    return sqlglot.tokenize(text, known)


def _insert(match: re.Match) -> str:
    """The rows of a COPY, as pg_dump writes it, as an INSERT."""
    rows = match[2].replace("'", "''").replace("\t", "', '")
    rows = re.sub(r"(.*)\n", r"('\1'), ", rows).replace(r"'\N'", "NULL")
    rows = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r", "t": "\t"}.get(found[1], found[1]), rows)
    return f"INSERT INTO {match[1]} VALUES {rows[:-2]};" if rows else ""


def statements(text: str) -> list[str]:
    """Each statement on one line, without comments, its semicolon and T-SQL's GO. Raises sqlglot's TokenError."""
    text = LINES.sub(";", DELIMITED.sub("", COPY.sub(_insert, text.lstrip("\ufeff"))))
    found, depth = [""], 0
    for token, after in pairwise([*tokens(text), None]):
        kind, word = token.token_type, token.text.upper()
        if not depth and (kind == TokenType.SEMICOLON or word == "GO"):
            found.append("")
            continue
        # BEGIN opens a block where it does not begin a statement; MySQL's START is none.
        opens = kind in OPENS and (kind != TokenType.BEGIN or found[-1] and word == "BEGIN")
        depth = max(0, depth + bool(opens) - (kind in CLOSES))
        found[-1] += text[token.start : token.end + 1] + " " * bool(after and after.start > token.end + 1)
    return [statement.strip() for statement in found if statement]


def columns(statement: str) -> tuple[str, list[str]]:
    """What stands before the columns of a CREATE TABLE, and each column or key; none where it has a query."""
    found, marks, depth = tokens(statement), [], 0
    kinds = {token.token_type for token in found}
    if not TABLE.match(statement) or TokenType.SELECT in kinds or TokenType.L_PAREN not in kinds:
        return statement, []
    for token in found:
        kind = token.token_type
        depth += (kind == TokenType.L_PAREN) - (kind == TokenType.R_PAREN)
        if depth == 1 and kind in (TokenType.L_PAREN, TokenType.COMMA) or marks and not depth:
            marks.append(token.start)
        if marks and not depth:
            break
    return statement[: marks[0]], [statement[a + 1 : b].strip() for a, b in pairwise(marks)]


def normal(statement: str) -> str:
    """A CREATE without case, quotes, blanks and how a table is stored, and with one name for INT and INTEGER."""
    before, parts = columns(statement)
    words = [token.text for token in tokens(f"{before}({', '.join(parts)})" if parts else before)]
    return " ".join(words).lower().replace("if not exists ", "").replace(" integer", " int")


def queries(text: str) -> Iterator[tuple[str, str]]:
    """(dialect, query for DuckDB): as it stands, then translated."""
    yield "duckdb", text
    for dialect, tree in trees(text):
        with suppress(*FAILURES):
            yield dialect, _translate(tree)


def trees(text: str) -> Iterator[tuple[str, exp.Expr]]:
    for dialect in DIALECTS:
        with suppress(*FAILURES):
            yield dialect, sqlglot.parse_one(text, read=dialect)


def contexts(text: str) -> Iterator[tuple[str, list[str]]]:
    """(dialect, statements for DuckDB) that make the tables and their rows. Raises ValueError when none reads it."""
    failures = []
    for dialect in sorted(DIALECTS, key=lambda name: bool(MYSQL.search(text)) and name != "mysql"):
        try:
            parts = enumerate(statements(text))
            yield dialect, [sql for number, part in parts for sql in _makes(part, dialect, number)]
        except FAILURES as error:
            failures.append(str(error))
    if len(failures) == len(DIALECTS):
        raise ValueError(min(failures, key=lambda text: "may make rows" not in text))


def _translate(tree: exp.Expr) -> str:
    for name in tree.find_all(exp.Table, exp.Column):  # one database here: shop.orders is orders
        name.set("db", None)
        name.set("catalog", None)
    tree = tree.transform(_plainer, copy=False)
    for select in tree.find_all(exp.Select):
        _pick_values(select)
    return tree.sql("duckdb", unsupported_level=ErrorLevel.RAISE, copy=False)


def _plainer(node: exp.Expr) -> exp.Expr:
    """What sqlglot leaves: 'now' and times of SQLite, MySQL's ISNULL(a), an enum of Postgres."""
    if node.is_string and node.name.lower() == "now":
        return sqlglot.parse_one("CAST(CURRENT_TIMESTAMP AS TIMESTAMP)")
    if isinstance(node, exp.Coalesce) and not node.expressions:
        return exp.Is(this=node.this, expression=exp.null())
    if isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.USERDEFINED:
        return node.this
    name = node.name.upper() if isinstance(node, exp.Anonymous) else ""
    if name not in ("DATE", "DATETIME", "JULIANDAY"):
        return node
    first, *modifiers = node.expressions
    moment = exp.cast(_plainer(first), "timestamp")
    for text in [modifier.name.lower().lstrip("+") for modifier in modifiers]:
        unit = exp.Literal.string(text.removeprefix("start of "))
        moved = moment + exp.cast(unit, "interval")
        moment = moved if unit.name == text else exp.func("DATE_TRUNC", unit, moment, dialect="duckdb")
    if name == "JULIANDAY":
        return exp.Anonymous(this="JULIAN", expressions=[moment])
    return exp.cast(moment, "date" if name == "DATE" else "timestamp")


def _pick_values(select: exp.Select) -> None:
    """Columns beside an aggregate get any value of their group, or, as in SQLite, that of the row with MIN or MAX."""
    group, inner = select.args.get("group") or exp.Group(), (exp.AggFunc, exp.Window, exp.Select)
    own = [node for node in select.find_all(exp.AggFunc) if node.find_ancestor(*inner) is select]
    if not own and not group.expressions:
        return
    pick = {exp.Max: exp.ArgMax, exp.Min: exp.ArgMin}.get(type(own[0])) if len(own) == 1 else None
    by = {"expression": own[0].this.copy()} if pick else {}
    known = {node.name for node in group.find_all(exp.Column, exp.Literal)}  # GROUP BY 1, too
    parts = [part for at, part in enumerate(select.expressions, 1) if not {part.alias, str(at)} & known]
    for column in [column for part in parts for column in part.find_all(exp.Column)]:
        if column.name not in known and column.find_ancestor(*inner) is select:
            picked, name = (pick or exp.AnyValue)(this=column.copy(), **by), column.name
            column.replace(exp.alias_(picked, name) if column.parent is select else picked)


def _makes(statement: str, dialect: str, number: int) -> list[str]:
    """DuckDB's statements for one of a context, none for what makes no rows. Raises ValueError for unknown ones."""
    before, parts = columns(statement)
    if parts:
        made = ", ".join(_column(part, dialect, number) for part in parts if not KEYS.match(part))
        made = f'CREATE TABLE IF NOT EXISTS "{tokens(before)[-1].text}" ({made})'
        return [f"CREATE SEQUENCE serial_{number}"] * ("nextval" in made) + [made]
    tree = sqlglot.parse_one(statement, read=dialect)
    table = tree.find(exp.Table)
    if table and table.name.startswith("sqlite_"):  # its own, such as sqlite_sequence
        return []
    if isinstance(tree, exp.Create) and tree.kind in ("TABLE", "VIEW"):
        tree.set("properties", None)  # among them TEMPORARY, which would outlive the context
    elif isinstance(tree, exp.Insert):
        for name in ("ignore", "alternative", "conflict"):  # there are no keys
            tree.set(name, None)
    elif not isinstance(tree, exp.Update | exp.Delete | exp.TruncateTable):
        if MAKES.match(statement):
            raise ValueError(f"{statement[:60]!r} may make rows, and is not understood")
        return []
    return [_translate(tree)]


def _column(part: str, dialect: str, number: int) -> str:
    """The column with a wide type and what fills it: its default, what it computes, or the sequence of this number."""
    part = re.sub(r" NOT NULL\b", "", part, flags=re.I)  # behind a default it reads like a test
    name, *rest = tokens(part)
    named = rest[0].text.upper() if rest else ""
    wide = next((wide or named for known, wide in WIDE.items() if re.search(known, named)), "TEXT")
    key = wide == "BIGINT" and re.search(r"\bPRIMARY KEY\b", part, re.I)
    wide = "" if named == "AS" else wide + "[]" * bool(re.match(r"\S+ \w+\[", part))
    made = f'"{name.text}" {wide}'
    if key or COUNTS.search(part):
        return f"{made} DEFAULT nextval('serial_{number}')"
    fills = [t for t in rest if t.text.upper() in ("DEFAULT", "AS") and t.token_type != TokenType.STRING]
    for end in reversed(rest) if fills else ():  # as much as is an expression
        with suppress(*FAILURES):
            value = sqlglot.parse_one(f"SELECT {part[fills[0].end + 1 : end.end + 1]}", read=dialect)
            value = _translate(value.selects[0].unalias())
            return f"{made} {fills[0].text} ({value})"
    return made
