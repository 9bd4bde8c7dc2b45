"""Statements that try to write, to read a file, or to use more than their share, and what must come of each.

`{canary}` is the path of a file with known content and `{folder}` a folder beside it. In QUERIES a statement
stands where a model's SQL does; in CONTEXTS after the good context, with a query that would use it.
"""

from __future__ import annotations

# The kinds and, from each, a piece of the detail by which the right guard is recognised.
NOT = ("not SELECT", "begins with")
WRITES = ("not SELECT", "it writes")
CLOSED = ("does not run", "disabled")  # files are
LOCKED = ("does not run", "locked")  # settings are
UNKNOWN = ("does not run", "does not exist")
SLOW = ("timed out", "longer than 2 s")
BIG = ("timed out", "more than 1 MB")
FULL = ("timed out", "")  # for want of memory, or on a busy machine of time
LONG = ("too many rows", "more than 1000 rows")
ERROR = ("does not run", "")
DEEP = ("", "")  # refused, or the process ends for want of a stack
FIRST = ("rows", "")  # of several statements; the others are left out
HARMLESS = ("rows", "")

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})"
ENDLESS = NUMBERS.replace(" WHERE i < {}", "")
TEXT = "REPEAT('x', 400000 + i % 9)"

QUERIES = {
    # Writes
    "insert": ("INSERT INTO t VALUES (9, 'hacked')", NOT),
    "update": ("UPDATE t SET b = 'hacked'", NOT),
    "delete": ("DELETE FROM t", NOT),
    "replace": ("REPLACE INTO t VALUES (1, 'hacked')", NOT),
    "truncate": ("TRUNCATE t", NOT),
    "merge": ("MERGE INTO t USING t u ON t.a = u.a WHEN MATCHED THEN DELETE", NOT),
    "drop": ("DROP TABLE t", NOT),
    "alter": ("ALTER TABLE t RENAME TO u", NOT),
    "create": ("CREATE TABLE u AS SELECT * FROM t", NOT),
    "create temp": ("CREATE TEMP TABLE u (a INT)", NOT),
    "create macro": ("CREATE MACRO upper(x) AS 'hacked'", NOT),
    "select into": ("SELECT * INTO u FROM t", WRITES),
    "trigger": ("CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END", NOT),
    "returning": ("DELETE FROM t RETURNING *", NOT),
    "with insert": ("WITH x AS (SELECT 9, 'hacked') INSERT INTO t SELECT * FROM x", WRITES),
    "with delete": ("WITH x AS (SELECT 1) DELETE FROM t WHERE a IN (FROM x) RETURNING *", WRITES),
    "with update": ("/* SELECT */ WITH x AS (SELECT 1) UPDATE t SET b = 'hacked'", ("not SELECT", "")),
    "inside with": ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", ERROR),
    "inside from": ("SELECT * FROM (DELETE FROM t RETURNING *)", ERROR),
    "query of a text": ("SELECT * FROM query('DELETE FROM t')", ERROR),
    "serialized": ("SELECT * FROM json_execute_serialized_sql('{\"x\": 1}')", ERROR),
    "pivot": ("PIVOT t ON a", NOT),
    "pivot inside": ("FROM (PIVOT t ON b)", WRITES),
    "begin": ("BEGIN", NOT),
    "checkpoint": ("CHECKPOINT", NOT),
    "force checkpoint": ("SELECT * FROM force_checkpoint()", ERROR),
    "analyze": ("ANALYZE", NOT),
    "explain": ("EXPLAIN ANALYZE SELECT * FROM t", NOT),
    "execute": ("PREPARE x AS DELETE FROM t", NOT),
    "call": ("CALL enable_profiling()", NOT),
    # Settings, other databases and files
    "attach": ("ATTACH '{canary}' AS other", NOT),
    "attach new": ("ATTACH '{folder}/new.db' AS other", NOT),
    "detach": ("DETACH job", NOT),
    "use": ("USE memory", NOT),
    "copy database": ("COPY FROM DATABASE job TO memory", NOT),
    "copy": ("COPY t TO '{folder}/new'", NOT),
    "copy from": ("COPY t FROM '{canary}'", NOT),
    "export": ("EXPORT DATABASE '{folder}/new'", NOT),
    "import": ("IMPORT DATABASE '{folder}'", NOT),
    "install": ("INSTALL httpfs", NOT),
    "load": ("LOAD '{canary}'", NOT),
    "set": ("SET enable_external_access = true", NOT),
    "reset": ("RESET memory_limit", NOT),
    "pragma": ("PRAGMA memory_limit = '100GB'", NOT),
    "set_config": ("SELECT set_config('threads', '8', false)", UNKNOWN),
    "read_text": ("SELECT * FROM read_text('{canary}')", CLOSED),
    "read_blob": ("SELECT * FROM read_blob('{canary}')", CLOSED),
    "read_csv": ("SELECT * FROM read_csv('{canary}')", CLOSED),
    "sniff_csv": ("SELECT * FROM sniff_csv('{canary}')", CLOSED),
    "read_json": ("SELECT * FROM read_json('{canary}')", CLOSED),
    "read_parquet": ("SELECT * FROM read_parquet('{canary}')", CLOSED),
    "parquet_metadata": ("SELECT * FROM parquet_metadata('{canary}')", CLOSED),
    "read_duckdb": ("SELECT * FROM read_duckdb('{canary}')", ERROR),
    "glob files": ("SELECT * FROM glob('{folder}/../*')", CLOSED),
    "file as a table": ("SELECT * FROM '{canary}'", UNKNOWN),
    "csv as a table": ("SELECT * FROM '{folder}/x.csv'", CLOSED),
    "url": ("SELECT * FROM 'https://example.com/x.csv'", CLOSED),
    "getenv": ("SELECT getenv('PATH')", UNKNOWN),
    "variable of Python": ("SELECT * FROM limits", UNKNOWN),
    "log file": ("SELECT * FROM enable_logging(storage = 'file', storage_path = '{folder}')", LOCKED),
    "profile file": ("SELECT * FROM enable_profiling(save_location = '{folder}/new')", LOCKED),
    "secrets": ("SELECT * FROM duckdb_secrets()", CLOSED),
    "paths": ("SELECT path FROM duckdb_databases()", HARMLESS),
    "pointer": ("SELECT * FROM arrow_scan(1::POINTER, 1::POINTER, 1::POINTER)", ERROR),
    "pandas": ("SELECT * FROM pandas_scan(1::POINTER)", ERROR),
    "load_extension": ("SELECT load_extension('{canary}')", UNKNOWN),
    "readfile": ("SELECT readfile('{canary}')", UNKNOWN),
    "pg_read_file": ("SELECT pg_read_file('{canary}')", UNKNOWN),
    "load_file": ("SELECT LOAD_FILE('{canary}') AS content FROM t", UNKNOWN),
    "into outfile": ("SELECT * FROM t INTO OUTFILE '{folder}/new'", ERROR),
    "command": (".read {canary}", NOT),
    # Several statements in one, and disguises
    "two": ("SELECT 1; DROP TABLE t", FIRST),
    "comment": ("SELECT 1 /* ; */; DELETE FROM t -- SELECT", FIRST),
    "commit": ("SELECT 1;\nCOMMIT;\nATTACH '{canary}' AS x", FIRST),
    "two for the tokenizer alone": ("SELECT $$ ; $$ ; DELETE FROM t; SELECT $$", FIRST),
    "nul": ("SELECT 1\x00; DROP TABLE t", FIRST),
    "surrogate": ("SELECT '\ud800'", ERROR),
    "wide semicolon": ("SELECT 1\uff1b DROP TABLE t", ERROR),
    "homoglyph": ("\u0405ELECT 1", NOT),
    "bom": ("\ufeffDELETE FROM t", NOT),
    "no break space": ("DELETE\u00a0FROM t", NOT),
    "nested comments": ("/**/" * 5000 + "DELETE FROM t", NOT),
    "bracketed": ("(((((DELETE FROM t)))))", NOT),
    "parameters": ("SELECT ?, $name", ERROR),
    # Time
    "endless": (ENDLESS + " SELECT COUNT(*) FROM n", SLOW),
    "endless rows": (ENDLESS + " SELECT i FROM n WHERE i < 0", SLOW),
    "cartesian": (
        "SELECT COUNT(*) FROM " + ", ".join(f"range(2000) t{i}" for i in range(20)),
        ("timed out", ""),
    ),
    "cartesian numbers": (
        "SELECT SUM(a.i * b.i * c.i) FROM " + ", ".join(f"range(9999) {n}(i)" for n in "abc"),
        SLOW,
    ),
    "like": (f"SELECT SUM(({TEXT} LIKE '{'%x' * 200}y')::INT) FROM range(10000) n(i)", ("timed out", "")),
    "regexp": (f"SELECT SUM(({TEXT} SIMILAR TO '(x+x+)+y')::INT) FROM range(10000) n(i)", ("timed out", "")),
    "levenshtein": ("SELECT levenshtein(REPEAT('x', 900000), REPEAT('y', 900000))", ("timed out", "")),
    "translation": ("SELECT FROM WHERE " + "; it's" * 8_000, ("timed out", "its process was ended")),
    # Memory and size
    "repeat": ("SELECT REPEAT('x', 2000000000)", FULL),
    "list": ("SELECT range(1000000000)", FULL),
    "string_agg": (f"SELECT STRING_AGG({TEXT}, '') FROM range(1000) n(i)", FULL),
    "list_agg": (f"SELECT LIST({TEXT}) FROM range(1000) n(i)", FULL),
    "doubling": (
        "WITH RECURSIVE d(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM d) SELECT MAX(LENGTH(s)) FROM d",
        FULL,
    ),
    "sorted": (f"SELECT {TEXT} || i FROM range(1000) n(i) ORDER BY 1", FULL),
    "grouped": (f"SELECT COUNT(*) FROM (SELECT DISTINCT {TEXT} || i FROM range(1000) n(i))", FULL),
    "many columns": (
        "SELECT " + ", ".join(f"REPEAT('x', {400000 + i})" for i in range(400)),
        ("timed out", ""),
    ),
    "many rows": ("SELECT * FROM range(1000000)", LONG),
    "large rows": (f"SELECT {TEXT} FROM range(45) n(i)", ("timed out", "")),
    "printf": ("SELECT printf('%2000000000d', 1)", ("timed out", "")),
    "format": ("SELECT format('{:>2000000000}', 1)", ("timed out", "")),
    "lpad": ("SELECT LENGTH(LPAD('x', 2000000000, 'y'))", ("timed out", "")),
    # Depth and length
    "parentheses": ("SELECT " + "(" * 3000 + "1" + ")" * 3000, DEEP),
    "subqueries": ("SELECT * FROM (" * 3000 + "SELECT 1" + ")" * 3000, DEEP),
    "expression": ("SELECT " + "1+" * 3000 + "1", DEEP),
    "not": ("SELECT " + "NOT " * 100_000 + "1", DEEP),
    "long text": ("SELECT '" + "x" * 9_000_000 + "'", ("timed out", "")),
    "long comment": ("SELECT 1 --" + "x" * 3_000_000, BIG),
    "random": ("SELECT RANDOM(), CURRENT_TIMESTAMP, DATE('now')", HARMLESS),
}

# Here what makes no rows is not run at all; the query sees the good context, or does not run.
CONTEXTS = {
    "attach": ("ATTACH '{canary}' AS other", "SELECT * FROM other.main.x", "does not exist"),
    "attach new": ("ATTACH '{folder}/new.db' AS other", "SELECT 1", ""),
    "copy to": ("COPY t TO '{folder}/new'", "SELECT 1", "context"),
    "copy from": ("COPY t FROM '{canary}'", "SELECT 1", "context"),
    "load data": ("LOAD DATA INFILE '{canary}' INTO TABLE t", "SELECT 1", "context"),
    "export": ("EXPORT DATABASE '{folder}/new'", "SELECT 1", ""),
    "settings": ("SET enable_external_access = true; SET memory_limit = '9GB'", "FROM '{canary}'", ""),
    "pragma": ("PRAGMA temp_directory = '{folder}'", "SELECT 1", ""),
    "install": ("INSTALL httpfs; LOAD httpfs", "SELECT 1", ""),
    "macro": (
        "CREATE MACRO f(x) AS (SELECT content FROM read_text(x))",
        "SELECT f('{canary}')",
        "does not exist",
    ),
    "trigger": ("CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; DELETE FROM t; END", "SELECT 1", ""),
    "insert from a file": (
        "INSERT INTO t SELECT 3, content FROM read_text('{canary}')",
        "FROM t",
        "disabled",
    ),
    "table from a file": ("CREATE TABLE u AS SELECT * FROM '{canary}'", "FROM u", ""),
    "view of a file": ("CREATE VIEW v AS SELECT * FROM read_text('{canary}')", "FROM v", "disabled"),
    "default": (
        "CREATE TABLE d (a INT, b TEXT DEFAULT (SELECT content FROM read_text('{canary}')));"
        "INSERT INTO d (a) VALUES (1)",
        "FROM d",
        "",
    ),
    "schema insert": (
        "INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 2, '')",
        "SELECT 1",
        "",
    ),
    "endless": (
        "INSERT INTO t " + ENDLESS + " SELECT i, 'x' FROM n WHERE i < 0",
        "SELECT 1",
        "longer than 2 s",
    ),
    "fills": (f"INSERT INTO t SELECT i, {TEXT} || i FROM range(100000) n(i)", "SELECT 1", "than"),
    "repeat": ("INSERT INTO t VALUES (3, REPEAT('x', 2000000000))", "SELECT 1", "MB of memory"),
    "large": ("INSERT INTO t VALUES (3, '" + "x" * 9_000_000 + "')", "SELECT 1", ""),
    "deep": ("SELECT " + "NOT " * 100_000 + "1", "SELECT 1", "process"),
    "bomb of views": (
        ";".join(
            ["CREATE VIEW v0 AS SELECT 1 a"]
            + [f"CREATE VIEW v{i} AS SELECT x.a FROM v{i - 1} x, v{i - 1} y" for i in range(1, 25)]
        ),
        "SELECT * FROM v24",
        "",  # time or memory, whichever runs out first
    ),
}
