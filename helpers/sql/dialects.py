"""SQL of other databases for DuckDB, by sqlglot: `statements` splits, `contexts` and `queries` give readings to try.

Of a context stays what makes rows: columns with type and default, INSERT, UPDATE, DELETE, TRUNCATE, views, what ALTER
does to columns, defaults and names, rows of pg_dump's COPY. Keys, indexes, owners, comments and settings go; types
become wide (64 bits, doubles, texts). Refused: REPLACE, blocks that may make rows. Run with another meaning: `+`
between texts; LIKE, which here minds the case; days of the week, here from Sunday as 0; T-SQL's FORMAT and CONVERT with
a style; a column that numbers itself, here from 1, whatever rows bring, and NULL in it; a column of SQLite without a
type, here a text; ON CONFLICT, which only adds, for want of keys; ROLLBACK and a changed type, which change nothing.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import compress, pairwise

import sqlglot
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.tokens import Token, TokenType
from sqlglot.trie import new_trie

# T-SQL goes before MySQL, which reads ISNULL(a, 0) as a test and forgets the 0.
DIALECTS = ("sqlite", "tsql", "mysql", "postgres", "oracle")
# sqlglot was not written against hostile text: a tree it did not foresee ends in any of these.
FAILURES = (SqlglotError, LookupError, TypeError, ValueError, AttributeError, RecursionError, OSError)
OPENS, CLOSES = (TokenType.L_PAREN, TokenType.CASE, TokenType.BEGIN), (TokenType.R_PAREN, TokenType.END)
# What begins a statement at the beginning of a line, unless the one before it goes on; signs of MySQL's texts.
STARTS = r"(?:CREATE|INSERT|UPDATE|DELETE|TRUNCATE|PRINT|COMMIT|BEGIN(?= TRAN)|USE(?! INDEX)|"
STARTS += r"SET(?= @|[^=\n]* O(?:N|FF)\b)|"
STARTS = re.compile(STARTS + r"(?:ALTER|DROP) (?:TABLE|VIEW|DATABASE|SCHEMA|TYPE|PROC\w*|FUNCTION))\b", re.I)
GOES_ON = r"\A(?:WITH|MERGE|GRANT|REVOKE|CREATE .{0,40}?(?:TRIGGER|RULE|PROC|FUNCTION|POLICY|EVENT))\b|"
GOES_ON = re.compile(GOES_ON + r"(?:\b(?:KEY|DO|FOR|OR|THEN)|,)\Z", re.I | re.S)
MYSQL = re.compile(r"\\'(?!\s*[,);])|^\s*#|\s#\s|`|\bENGINE\s*=|\bAUTO_INCREMENT\b", re.I | re.M)
# A comment or a text, so that what is looked for is not found inside; the group is to be kept.
TEXT = r"(--[^\n]*|'[^'\\]*(?:\\.[^'\\]*)*')"
# Routines for MySQL's client; lines for psql and for Oracle's; rows of pg_dump.
DELIMITED = re.compile(r"^\s*DELIMITER\s+(?!;\s*$).*?^\s*DELIMITER\s+;\s*$", re.I | re.M | re.S)
LINES = re.compile(r"^(?:\\[a-z]+ .*|/|(?:REM|PROMPT)\b.*)$", re.M)
COPY = re.compile(r"^COPY ([^;]*?) FROM stdin\b[^;]*;\n(.*?)^\\\.$", re.I | re.M | re.S)
DOLLARS = re.compile(r"\$\w*\$")  # texts of Postgres
MAKES = r"(?:CREATE\b.*?\b(?:TABLE|VIEW)\b(?! LIKE)|(?:COPY|LOAD|INSERT|REPLACE|MERGE)\b|"
MAKES += r"(?:BEGIN|DO|EXEC\w*|CALL|IF|WHILE|DECLARE)\b.*?\b(?:INSERT (?:INTO|\[)|CREATE TABLE)|"
MAKES = re.compile(MAKES + r"ALTER .*? (?:ADD|DROP) COLUMN)", re.I | re.S)
# Between columns: what makes no rows, and sqlglot does not read everywhere.
CLAUSES = r"|(?<=[\w)\]\"'`] )(?:(?:NON)?CLUSTERED|ROWGUIDCOL|SPARSE|(?:EN|DIS)ABLE|(?:NO)?VALIDATE|"
CLAUSES += r"NOT VALID|USING INDEX|(?:DIST|SORT)KEY|"
CLAUSES += r"(?:PCTFREE|INITRANS|TABLESPACE|ON CONFLICT|STORAGE|COMPRESSION) \"?\w+\"?|"
CLAUSES = re.compile(TEXT + CLAUSES + r"(?:STORAGE|OPTIONS) ?\([^()]*\))(?= ?[,() ])", re.I)
SINGLE = re.compile(r"(\bAS\s+|::\s*)(?:FLOAT4?|REAL)\b(?!\s*[(,])", re.I)  # 32 bits in DuckDB, 64 elsewhere
# By the first that is found in a type's name: what it becomes, "" for itself. Types with none of these are texts.
WIDE = {"RANGE|BIT VAR": "TEXT", "BLOB|BINARY|BYTEA": "BLOB", "ARRAY|JSON|UUID|INTERVAL|STRUCT|MAP": ""}
WIDE |= {"(?<!PO)INT|SERIAL|YEAR|BIT": "BIGINT", "(?<!E)NUM|DEC|MONEY|REAL|FLOA|DOUB": "DOUBLE"}
WIDE |= {"BOOL": "BOOLEAN", "DATETIME|TIMESTAMP": "TIMESTAMP", "DATE": "DATE", "TIME": "TIME"}
DEFAULTS = re.compile(r"\A(ALTER TABLE .*?) ADD (?:CONSTRAINT \S+ )?DEFAULT (.*) FOR (\S+)\Z", re.I | re.S)
COUNTS = (exp.AutoIncrementColumnConstraint, exp.GeneratedAsIdentityColumnConstraint)
ALTERS = (exp.ColumnDef, exp.AlterRename, exp.RenameColumn)
logging.getLogger("sqlglot").disabled = True  # its warnings
# Names of days and months, which sqlglot does not know in TO_CHAR.
Postgres.TIME_MAPPING |= {"Month": "%B", "FMMonth": "%B", "Mon": "%b", "Day": "%A", "FMDay": "%A", "Dy": "%a"}
Postgres.TIME_MAPPING |= {"HH": "%I", "AM": "%p", "PM": "%p"}
Postgres.TIME_TRIE = new_trie(Postgres.TIME_MAPPING)


def tokens(text: str) -> list[list[Token]]:
    """The tokens of each statement, without comments, semicolons and T-SQL's GO. Raises sqlglot's TokenError.

    A line that begins as statements do begins one, with a semicolon before it or not.
    """
    found, depth = [[]], 0
    dialect = "mysql" if MYSQL.search(text) else "postgres" if DOLLARS.search(text) else "sqlite"
    for token in Dialect.get_or_raise(dialect).tokenize(text):
        kind, last = token.token_type, found[-1][-1] if found[-1] else None
        ends = kind == TokenType.SEMICOLON or token.text.upper() == "GO"
        glued = last and "\n" in text[last.end : token.start] and STARTS.match(text, token.start)
        if not depth and (ends or glued and not GOES_ON.search(text[found[-1][0].start : last.end + 1])):
            found.append([])
        if depth or not ends:
            begins = found[-1] and token.text.upper() == "BEGIN"  # not a transaction's, nor MySQL's START
            opens = kind in OPENS and (begins or kind != TokenType.BEGIN)
            depth = max(0, depth + bool(opens) - (kind in CLOSES))
            found[-1].append(token)
    return [statement for statement in found if statement]


def _insert(match: re.Match) -> str:
    """The rows of a COPY, as pg_dump writes it, as an INSERT."""
    rows = match[2].replace("'", "''").replace("\t", "', '")
    rows = re.sub(r"(.*)\n", r"('\1'), ", rows).replace(r"'\N'", "NULL")
    rows = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r", "t": "\t"}.get(found[1], found[1]), rows)
    return f"INSERT INTO {match[1]} VALUES {rows[:-2]};" if rows else ""


def statements(text: str) -> list[str]:
    """Each statement on one line, without comments and its semicolon. Raises sqlglot's TokenError."""
    text, found = LINES.sub(";", DELIMITED.sub("", COPY.sub(_insert, text.lstrip("\ufeff")))), []
    for statement in tokens(text):
        parts = [text[token.start : token.end + 1] for token in statement]
        gaps = [" " * (after.start > token.end + 1) for token, after in pairwise(statement)]
        found.append("".join(part + gap for part, gap in zip(parts, [*gaps, ""])))
    return found


def bare(statement: str) -> str:
    """A CREATE TABLE without what says how it is stored: all behind its columns but a query, and CLAUSES."""
    if not re.match(r"CREATE (\w+ ){0,3}TABLE\b", statement, re.I):
        return DEFAULTS.sub(r"\1 ALTER COLUMN \3 SET DEFAULT \2", statement)
    (found,), depth = tokens(statement), 0
    for token, after in pairwise(found):
        depth += (token.text == "(") - (token.text == ")")
        if token.text == ")" and not depth:
            if after.text.upper() not in ("AS", "SELECT", "("):
                statement = statement[: token.end + 1]
            break
    return CLAUSES.sub(r"\1", statement)


def normal(statement: str) -> str:
    """A statement without case, quotes and blanks, and with one name for INT and INTEGER."""
    own = (TokenType.VAR, TokenType.IDENTIFIER, TokenType.STRING)
    (found,) = tokens(statement)
    words = [t.token_type.name if t.token_type not in own and t.text[:1].isalpha() else t.text for t in found]
    return " ".join(words).lower().replace("if not exists ", "")


def queries(text: str) -> Iterator[tuple[str, str]]:
    """(dialect, query for DuckDB): as it stands, then translated."""
    yield "duckdb", text
    for dialect, tree in trees(text):
        with suppress(*FAILURES):
            yield dialect, _translate(tree, dialect)


def trees(text: str) -> Iterator[tuple[str, exp.Expr]]:
    for dialect in DIALECTS:
        with suppress(*FAILURES):
            yield dialect, sqlglot.parse_one(text, read=dialect)


def contexts(text: str) -> Iterator[tuple[str, list[str]]]:
    """(dialect, statements for DuckDB) that make the tables and their rows. Raises ValueError when none reads it."""
    failures = []
    for dialect in sorted(DIALECTS, key=lambda name: bool(MYSQL.search(text)) and name != "mysql"):
        try:
            parts = enumerate(map(bare, statements(text)))
            yield dialect, [sql for number, part in parts for sql in _makes(part, dialect, number)]
        except FAILURES as error:
            failures.append(str(error))
    if len(failures) == len(DIALECTS):
        raise ValueError(min(failures, key=lambda text: "may make rows" not in text))


def _translate(tree: exp.Expr, dialect: str, level: ErrorLevel = ErrorLevel.RAISE) -> str:
    for name in tree.find_all(exp.Table, exp.Column):  # one database here: shop.orders is orders
        name.set("db", None)
        name.set("catalog", None)
    forms = [node.text("format") for node in tree.find_all(exp.TimeToStr) if dialect == "postgres"]
    if any(re.search("[A-Za-z]", re.sub("%-?[A-Za-z]", "", form)) for form in forms):
        raise ValueError("TO_CHAR has a word that is not known")
    tree = tree.transform(_date, copy=False)
    if dialect == "sqlite":  # a quoted name that is none is a text; before, the query was tried as it stands
        for node in tree.find_all(exp.EQ, exp.NEQ, exp.Like, exp.GT, exp.LT, exp.In, exp.Tuple):
            for side in [node.args.get("expression"), *node.expressions]:
                if isinstance(side, exp.Column) and not side.table and side.this.quoted:
                    side.replace(exp.Literal.string(side.name))
    if dialect in ("sqlite", "mysql"):
        for select in tree.find_all(exp.Select):
            _pick_values(select)
    return tree.sql("duckdb", unsupported_level=level, copy=False)


def _date(node: exp.Expr) -> exp.Expr:
    """Times in arithmetic, 'now', and SQLite's functions, such as DATE('now', 'start of month', '-1 day')."""
    if isinstance(node, exp.DateAdd | exp.DateSub | exp.TimestampAdd | exp.TimestampSub):  # texts, too
        node.set("this", exp.cast(node.this, "timestamp"))
    if isinstance(node, exp.TimestampDiff):  # of whole units
        times = [exp.cast(each, "timestamp") for each in (node.expression, node.this)]
        return exp.Anonymous(this="DATE_SUB", expressions=[exp.Literal.string(node.text("unit")), *times])
    if isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.USERDEFINED:  # an enum of Postgres
        return node.this
    if isinstance(node, exp.Coalesce) and not node.expressions:  # MySQL's ISNULL(a)
        return exp.Is(this=node.this, expression=exp.null())
    if node.is_string and node.name.lower() == "now":
        return sqlglot.parse_one("CAST(CURRENT_TIMESTAMP AS TIMESTAMP)")
    name = node.name.upper() if isinstance(node, exp.Anonymous) else ""
    if name not in ("DATE", "DATETIME", "STRFTIME", "JULIANDAY"):
        return node
    form = node.expressions[:1] if name == "STRFTIME" else []
    first, *modifiers = node.expressions[len(form) :]
    moment = exp.cast(_date(first), "timestamp")
    for modifier in modifiers:
        amount = exp.Literal.string(modifier.name.lower().removeprefix("start of ").lstrip("+"))
        if modifier.name.lower().startswith("start of "):
            moment = exp.func("DATE_TRUNC", amount, moment, dialect="duckdb")
        else:
            moment = exp.Add(this=moment, expression=exp.cast(amount, "interval"))
    if name in ("STRFTIME", "JULIANDAY"):
        return exp.Anonymous(this=name.removesuffix("DAY"), expressions=[moment, *form])
    return exp.cast(moment, "date" if name == "DATE" else "timestamp")


def _pick_values(select: exp.Select) -> None:
    """Columns beside an aggregate get any value of their group, or, as in SQLite, that of the row with MIN or MAX."""
    nodes, group = select.find_all(exp.AggFunc), select.args.get("group")
    own = [node for node in nodes if node.find_ancestor(exp.AggFunc, exp.Window, exp.Select) is select]
    if not own and not group:
        return
    pick = {exp.Max: exp.ArgMax, exp.Min: exp.ArgMin}.get(type(own[0])) if len(own) == 1 else None
    by = {"expression": own[0].this.copy()} if pick else {}
    known = {column.name for column in (group.find_all(exp.Column) if group else ())}
    known |= {node.name for node in (group.expressions if group else ()) if node.is_int}  # GROUP BY 1
    parts = [part for at, part in enumerate(select.expressions, 1) if not {part.alias, str(at)} & known]
    for column in [column for part in parts for column in part.find_all(exp.Column)]:
        if column.name not in known and column.find_ancestor(exp.AggFunc, exp.Window, exp.Select) is select:
            picked, name = (pick or exp.AnyValue)(this=column.copy(), **by), column.name
            column.replace(exp.alias_(picked, name) if column.parent is select else picked)


def _makes(statement: str, dialect: str, number: int) -> list[str]:
    """DuckDB's statements for one of a context, none for what makes no rows. Raises ValueError for unknown ones."""
    tree = sqlglot.parse_one(statement, read=dialect)
    serials, changes, table = [], [tree], tree.find(exp.Table)
    if table and table.name.startswith("sqlite_"):  # its own, such as sqlite_sequence
        return []
    if isinstance(tree, exp.Create) and tree.kind in ("TABLE", "VIEW"):
        tree.set("properties", None)  # among them TEMPORARY, which would outlive the context
        if tree.kind == "TABLE" and isinstance(tree.this, exp.Schema):
            columns = [n for n in tree.this.expressions if isinstance(n, exp.ColumnDef | exp.Identifier)]
            serials = [f"serial_{number}_{at}" for at in range(len(columns))]
            tree.this.set("expressions", [_column(*each) for each in zip(columns, serials)])
    elif isinstance(tree, exp.Alter) and "nextval" not in statement.lower():
        kept = [_column(node) if isinstance(node, exp.ColumnDef) else node for node in tree.args["actions"]]
        rows = [isinstance(n, ALTERS) or n.args.get("default") or n.text("kind") == "COLUMN" for n in kept]
        changes = [exp.Alter(this=tree.this, kind="TABLE", actions=[n]) for n in compress(kept, rows)]
    elif isinstance(tree, exp.Insert):
        for name in ("ignore", "alternative", "conflict"):  # there are no keys
            tree.set(name, None)
    elif MAKES.match(statement) or MAKES.match(tree.sql()):
        raise ValueError(f"{statement[:60]!r} may make rows, and is not understood")
    elif not isinstance(tree, exp.Update | exp.Delete | exp.TruncateTable):
        return []
    made = [_translate(each, dialect, ErrorLevel.IGNORE) for each in changes]
    return [f"CREATE SEQUENCE {name}" for name in serials if f"'{name}'" in made[0]] + made


def _column(column: exp.ColumnDef | exp.Identifier, serial: str = "") -> exp.ColumnDef:
    """The column with a wide type and its default; one that numbers itself counts with the sequence `serial`."""
    kept = [*column.find_all(exp.DefaultColumnConstraint, exp.ComputedColumnConstraint)]
    computed = [*column.find_all(exp.ComputedColumnConstraint)]
    for node in computed:
        node.args.update(this=exp.paren(node.this), persisted=None, not_null=None)
    kind = column.args.get("kind")
    named = re.split(r"[(<]", kind.sql().upper())[0] if kind else ""
    wide = next((wide for known, wide in WIDE.items() if re.search(known, named)), "TEXT")
    if computed and not kind:
        wide = ""  # that of what it computes
    key = wide == "BIGINT" and column.find(exp.PrimaryKeyColumnConstraint)
    counts = "SERIAL" in named or column.find(*COUNTS)
    if serial and (key or counts or any("nextval" in node.sql().lower() for node in kept)):
        kept = [exp.DefaultColumnConstraint(this=exp.func("NEXTVAL", exp.Literal.string(serial)))]
    name, kept = column.find(exp.Identifier), [exp.ColumnConstraint(kind=node) for node in kept]
    kind = exp.DataType.build(wide, dialect="duckdb") if wide else kind
    return exp.ColumnDef(this=name, kind=kind, constraints=kept)
