"""Statements that try to write, to read a file, or to use more than their share, and what must come of each.

`{canary}` is the path of a file with known content and `{folder}` a folder beside it. In QUERIES a statement
stands where a model's SQL does; in CONTEXTS after the good context, with a query that would use it.
"""

from __future__ import annotations

# The kinds and, from each, a piece of the detail by which the right guard is recognised.
NOT = ("not SELECT", "begins with")
WRITES = ("not SELECT", "it writes")
UNAUTHORIZED = ("does not run", "not authorized")
UNKNOWN = ("does not run", "no such")
TWO = ("does not run", "one statement at a time")
SLOW = ("timed out", "longer than 2 s")
BIG = ("timed out", "too big")
FULL = ("timed out", "MB of memory")
LONG = ("too many rows", "more than 1000 rows")
ERROR = ("does not run", "")  # in words that differ between versions of SQLite
HARMLESS = ("rows", "")

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {})"
ENDLESS = NUMBERS.replace(" LIMIT {}", "")

QUERIES = {
    # Writes
    "insert": ("INSERT INTO t VALUES (9, 'hacked')", NOT),
    "update": ("UPDATE t SET b = 'hacked'", NOT),
    "delete": ("DELETE FROM t", NOT),
    "replace": ("REPLACE INTO t VALUES (1, 'hacked')", NOT),
    "drop": ("DROP TABLE t", NOT),
    "alter": ("ALTER TABLE t RENAME TO u", NOT),
    "create": ("CREATE TABLE u AS SELECT * FROM t", NOT),
    "create temp": ("CREATE TEMP TABLE u (a)", NOT),
    "trigger": ("CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END", NOT),
    "virtual table": ("CREATE VIRTUAL TABLE f USING fts5(a)", NOT),
    "returning": ("DELETE FROM t RETURNING *", NOT),
    "with insert": ("WITH x AS (SELECT 9, 'hacked') INSERT INTO t SELECT * FROM x", WRITES),
    "with delete": ("WITH x AS (SELECT 1) DELETE FROM t WHERE a IN x RETURNING *", WRITES),
    "with update": ("/* SELECT */ WITH x AS (SELECT 1) UPDATE t SET b = 'hacked'", WRITES),
    "sqlite_master": ("WITH x AS (SELECT 1) UPDATE sqlite_master SET sql = 'hacked'", ERROR),
    "begin": ("BEGIN", NOT),
    "savepoint": ("SAVEPOINT x", NOT),
    "reindex": ("REINDEX", NOT),
    "analyze": ("ANALYZE", NOT),
    "explain": ("EXPLAIN SELECT * FROM t", NOT),
    # Settings, other databases and files
    "attach": ("ATTACH DATABASE '{canary}' AS other", NOT),
    "attach new": ("ATTACH DATABASE '{folder}/new.db' AS other", NOT),
    "detach": ("DETACH DATABASE main", NOT),
    "vacuum into": ("VACUUM INTO '{folder}/copy.db'", NOT),
    "pragma": ("PRAGMA query_only = 0", NOT),
    "writable schema": ("PRAGMA writable_schema = 1", NOT),
    "pragma function": ("SELECT * FROM pragma_table_info('t')", ERROR),
    "pragma writes": ("SELECT * FROM pragma_journal_mode('delete')", ERROR),
    "database list": ("SELECT file FROM pragma_database_list", ERROR),
    "dbstat": ("SELECT * FROM dbstat", ERROR),
    "load_extension": ("SELECT load_extension('{canary}')", UNAUTHORIZED),
    "load_extension hidden": ("SELECT a FROM t WHERE \"load_extension\"('{canary}') IS NULL", UNAUTHORIZED),
    "fts3_tokenizer": ("SELECT fts3_tokenizer('x', x'4141414141414141')", ERROR),
    "fts3 tokens": ("SELECT * FROM fts3tokenize('unicode61', '{canary}')", ERROR),
    "readfile": ("SELECT readfile('{canary}')", UNKNOWN),
    "writefile": ("SELECT writefile('{folder}/new', 'hacked')", UNKNOWN),
    "edit": ("SELECT edit('hacked', 'vi')", UNKNOWN),
    "fsdir": ("SELECT * FROM fsdir('{folder}')", UNKNOWN),
    "pg_read_file": ("SELECT pg_read_file('{canary}')", UNKNOWN),
    "load_file": ("SELECT LOAD_FILE('{canary}') AS content FROM t", UNKNOWN),
    "into outfile": ("SELECT * FROM t INTO OUTFILE '{folder}/new'", ERROR),
    "copy": ("COPY t TO '{folder}/new'", NOT),
    "command": (".read {canary}", NOT),
    # Several statements in one, and disguises
    "two": ("SELECT 1; DROP TABLE t", TWO),
    "two selects": ("SELECT 1; SELECT * FROM t", TWO),
    "comment": ("SELECT 1 /* ; */; DELETE FROM t -- SELECT", TWO),
    "commit": ("SELECT 1;\nCOMMIT;\nATTACH '{canary}' AS x", TWO),
    "nul": ("SELECT 1\x00; DROP TABLE t", ERROR),
    "surrogate": ("SELECT '\ud800'", ERROR),
    "wide semicolon": ("SELECT 1\uff1b DROP TABLE t", ERROR),
    "direction": ("SELECT 1 \u202e; DROP TABLE t", ERROR),
    "homoglyph": ("\u0405ELECT 1", NOT),
    "bom": ("\ufeffDELETE FROM t", NOT),
    "no break space": ("DELETE\u00a0FROM t", NOT),
    "nested comments": ("/**/" * 5000 + "DELETE FROM t", NOT),
    "bracketed": ("(((((DELETE FROM t)))))", NOT),
    "parameters": ("SELECT ?, :name, @other", ERROR),
    # Time
    "endless": (ENDLESS + " SELECT COUNT(*) FROM n", SLOW),
    "endless rows": (ENDLESS + " SELECT i FROM n WHERE i < 0", SLOW),
    "cartesian": ("SELECT COUNT(*) FROM " + ", ".join(f"t t{i}" for i in range(60)), SLOW),
    "cartesian numbers": (NUMBERS.format(5000) + " SELECT SUM(a.i * b.i * c.i) FROM n a, n b, n c", SLOW),
    "long function": ("SELECT printf('%.*c', 2000000000, 'x')", SLOW),
    "replace at length": (
        NUMBERS.format(10**6)
        + " SELECT SUM(LENGTH(REPLACE(HEX(ZEROBLOB(400000 + i % 9)), '0', 'x'))) FROM n",
        SLOW,
    ),
    "like": (
        NUMBERS.format(10**6) + f" SELECT SUM(HEX(ZEROBLOB(400000 + i % 9)) LIKE '{'%0' * 100}1') FROM n",
        SLOW,
    ),
    "glob": (
        NUMBERS.format(10**6) + f" SELECT SUM(HEX(ZEROBLOB(400000 + i % 9)) GLOB '{'*0' * 100}1') FROM n",
        SLOW,
    ),
    "instr": (
        NUMBERS.format(10**6) + " SELECT SUM(INSTR(ZEROBLOB(999999), ZEROBLOB(500000) || 'x')) FROM n",
        SLOW,
    ),
    # Memory and size
    "zeroblob": ("SELECT ZEROBLOB(2000000000)", BIG),
    "randomblob": ("SELECT RANDOMBLOB(1000000000)", UNAUTHORIZED),
    "hex": ("SELECT HEX(ZEROBLOB(900000))", BIG),
    "replace grows": ("SELECT REPLACE(HEX(ZEROBLOB(400000)), '0', 'xxxxxxxxxx')", BIG),
    "group_concat": (NUMBERS.format(10**5) + " SELECT GROUP_CONCAT('xxxxxxxxxxxxxxxxxxxx') FROM n", BIG),
    "json": (NUMBERS.format(10**5) + " SELECT JSON_GROUP_ARRAY('xxxxxxxxxxxxxxxxxxxx') FROM n", BIG),
    "doubling": (
        "WITH RECURSIVE d(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM d) SELECT MAX(LENGTH(s)) FROM d",
        BIG,
    ),
    "sorted blobs": (NUMBERS.format(400) + " SELECT ZEROBLOB(900000 + i) FROM n UNION SELECT 1", FULL),
    "many columns": ("SELECT " + ", ".join(f"HEX(ZEROBLOB({400000 + i}))" for i in range(400)), FULL),
    "many rows": (NUMBERS.format(10**6) + " SELECT i FROM n", LONG),
    "large rows": (NUMBERS.format(900) + " SELECT HEX(ZEROBLOB(400000)) FROM n", ("timed out", "16 MB")),
    "json_each": ("SELECT COUNT(*) FROM json_each('[1]') a, json_each('[1]') b", ERROR),
    "generate_series": ("SELECT * FROM generate_series(1, 1000000000)", UNKNOWN),
    # Depth and length
    "parentheses": ("SELECT " + "(" * 3000 + "1" + ")" * 3000, ERROR),
    "expression": ("SELECT " + "1+" * 300 + "1", ("does not run", "tree is too large")),
    "not": ("SELECT " + "NOT " * 100_000 + "1", ERROR),
    "compound": ("SELECT 1" + " UNION ALL SELECT 1" * 300, ("does not run", "too many terms")),
    "columns": ("SELECT " + ", ".join(["1"] * 600), ("does not run", "too many columns")),
    "joins": ("SELECT 1 FROM " + ", ".join(["t"] * 100), ERROR),
    "subqueries": ("SELECT * FROM (" * 300 + "SELECT 1" + ")" * 300, ERROR),
    "pattern": (f"SELECT 'x' LIKE '{'%_' * 1000}'", ("does not run", "pattern too complex")),
    "long text": ("SELECT '" + "x" * 9_000_000 + "'", ("timed out", "too large")),
    "long comment": ("SELECT 1 --" + "x" * 3_000_000, BIG),
    "random": ("SELECT RANDOM(), CURRENT_TIMESTAMP, DATE('now')", HARMLESS),
}

CONTEXTS = {
    "attach": ("ATTACH DATABASE '{canary}' AS other", "SELECT * FROM other.sqlite_master", "not authorized"),
    "attach new": ("ATTACH DATABASE '{folder}/new.db' AS other", "SELECT 1", "not authorized"),
    "attach uri": ("ATTACH DATABASE 'file:{canary}?mode=rw' AS other", "SELECT 1", "not authorized"),
    "vacuum into": ("VACUUM INTO '{folder}/copy.db'", "SELECT 1", "authoriz"),
    "vacuum": ("VACUUM", "SELECT 1", "authoriz"),
    "pragma": ("PRAGMA temp_store_directory = '{folder}'", "SELECT 1", "not authorized"),
    "heap limit": ("PRAGMA hard_heap_limit = 0", "SELECT 1", "not authorized"),
    "writable schema": ("PRAGMA writable_schema = 1", "SELECT 1", "not authorized"),
    "journal": ("PRAGMA journal_mode = WAL", "SELECT 1", "not authorized"),
    "schema insert": (
        "INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 2, '')",
        "SELECT 1",
        "may not be modified",
    ),
    "schema update": ("UPDATE sqlite_master SET sql = 'x'", "SELECT 1", "may not be modified"),
    "trigger": ("CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END", "SELECT 1", "not authorized"),
    "temp trigger": (
        "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END",
        "SELECT 1",
        "not authorized",
    ),
    "temp table": ("CREATE TEMP TABLE x (a)", "SELECT 1", "not authorized"),
    "temp view": ("CREATE TEMP VIEW x AS SELECT 1", "SELECT 1", "not authorized"),
    "fts5": ("CREATE VIRTUAL TABLE f USING fts5(a, content='sqlite_master')", "SELECT 1", "not authorized"),
    "rtree": ("CREATE VIRTUAL TABLE r USING rtree(a, b, c)", "SELECT 1", "not authorized"),
    "csv": ("CREATE VIRTUAL TABLE c USING csv(filename='{canary}')", "SELECT * FROM c", "not authorized"),
    "load_extension": ("INSERT INTO t SELECT 3, load_extension('{canary}')", "SELECT 1", "not authorized"),
    "load_extension view": (
        "CREATE VIEW v AS SELECT load_extension('{canary}')",
        "SELECT * FROM v",
        "load_extension",
    ),
    "default": (
        "CREATE TABLE d (a, b DEFAULT (load_extension('{canary}'))); INSERT INTO d (a) VALUES (1)",
        "SELECT 1",
        "load_extension",
    ),
    "readfile": ("INSERT INTO t VALUES (3, readfile('{canary}'))", "SELECT * FROM t", "no such function"),
    "copy from": ("COPY t FROM '{canary}'", "SELECT * FROM t", "syntax error"),
    "load data": ("LOAD DATA INFILE '{canary}' INTO TABLE t", "SELECT * FROM t", "syntax error"),
    "pragma table": ("INSERT INTO t SELECT 3, file FROM pragma_database_list", "SELECT 1", "not authorized"),
    "drop": ("DROP TABLE t", "SELECT 1", "not authorized"),
    "endless": (
        "INSERT INTO t " + ENDLESS + " SELECT i, 'x' FROM n WHERE i < 0",
        "SELECT 1",
        "longer than 2 s",
    ),
    "fills": (
        "INSERT INTO t " + ENDLESS + " SELECT i, ZEROBLOB(900000) FROM n",
        "SELECT 1",
        "MB of memory",
    ),
    "zeroblob": ("INSERT INTO t VALUES (3, ZEROBLOB(2000000000))", "SELECT 1", "too big"),
    "long function": (
        "INSERT INTO t VALUES (3, printf('%.*c', 2000000000, 'x'))",
        "SELECT 1",
        "longer than 2 s",
    ),
    "large": ("INSERT INTO t VALUES (3, '" + "x" * 9_000_000 + "')", "SELECT 1", "too large"),
    "columns": (
        "CREATE TABLE w (" + ", ".join(f"c{i}" for i in range(600)) + ")",
        "SELECT 1",
        "too many columns",
    ),
    "nul": ("INSERT INTO t VALUES (3, '\x00')", "SELECT 1", "null character"),
    "bomb of views": (
        ";".join(
            ["CREATE VIEW v0 AS SELECT 1 a"]
            + [f"CREATE VIEW v{i} AS SELECT x.a FROM v{i - 1} x, v{i - 1} y" for i in range(1, 25)]
        ),
        "SELECT * FROM v24",
        "",  # time or memory, whichever SQLite runs out of first
    ),
}
