"""The process in which foreign SQL runs: JSON lines in, JSON lines out, an in-memory database of DuckDB per request.

`helpers.sql.judge` starts it as `python -m helpers.sql.sandbox LIMITS`, without the notebook's environment. It forks a
child per request, so that a crash, or an end by the alarm, costs one row. DuckDB has no files, no extensions and none
of Python's variables; its settings are locked, its memory is limited. Of a context only what makes rows is run
(`dialects.contexts`), of an answer one SELECT, in a transaction that cannot write. Behind that stands the kernel: no
file can be opened, memory is limited (not on macOS). A query about today is judged on the day it runs.
"""

import decimal
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import duckdb
import sqlglot.optimizer.optimizer  # noqa: F401 - sqlglot imports it when it needs it; then no file can be opened

from helpers.sql import dialects

Database = duckdb.DuckDBPyConnection
MEGABYTE = 2**20
ROOM = 64  # megabytes, for what DuckDB does not count and for Python's copy of the rows
SQL_BYTES, RESULT_BYTES = 8 * MEGABYTE, 16 * MEGABYTE
# Without threads a process can be forked.
CLOSED = {"enable_external_access": False, "temp_directory": "", "threads": 1, "async_threads": 0}
CLOSED |= {"allow_community_extensions": False, "python_enable_replacements": False}
CLOSED |= {"autoload_known_extensions": False, "autoinstall_known_extensions": False}
# As SQLite and MySQL see it, where DuckDB can be told so; now() reads the time zone from its file.
MEANING = """
SET TimeZone = 'UTC'; SET integer_division = true; SET error_on_division_by_zero = false;
SET old_implicit_casting = true; SET scalar_subquery_error_on_multiple_rows = false;
SET default_null_order = 'nulls_first_on_asc_last_on_desc'; SET lock_configuration = true; SELECT now();
"""


class Refused(duckdb.Error):
    """Ends a step: the kind of the result and what people read about it."""


def main(limits: dict) -> None:
    """Answer each line, [context, query, …], with a line per query, and one with the exit code of the child."""
    [*dialects.queries("SELECT MAX(a) FROM t")]  # loads what sqlglot loads when it is needed
    db = connect(limits["megabytes"])
    for line in sys.stdin:
        if os.fork() == 0:
            context, *queries = json.loads(line)
            built = step(build, db, context, limits)
            for query in queries:
                done = "kind" in built  # it did not work
                reply = {"detail": f"context: {built['detail']}"} if done else step(read, db, query, limits)
                print(json.dumps(built | reply, default=plain), flush=True)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)


def connect(megabytes: int) -> Database:
    """DuckDB with locked settings, in a process that from now on can open no file and not grow."""
    db = duckdb.connect(config=CLOSED | {"memory_limit": f"{megabytes}MB"})
    db.execute(MEANING).fetchall()
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + (megabytes + ROOM) * MEGABYTE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return db


def step(action: Callable, db: Database, text: str, limits: dict) -> dict:
    """What the action returns, or the kind and detail of what stopped it; beyond the time limit the process ends."""
    signal.setitimer(signal.ITIMER_REAL, limits["seconds"])
    try:
        return action(db, text, limits)
    except Refused as error:
        kind, detail = error.args
    except (duckdb.OutOfMemoryException, MemoryError):
        kind, detail = "timed out", f"more than {limits['megabytes']} MB of memory"
    except (duckdb.Error, *dialects.FAILURES) as error:
        kind, detail = "does not run", str(error).partition("\n")[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"kind": kind, "detail": detail}


def build(db: Database, context: str, limits: dict) -> dict:
    """The dialect in which DuckDB takes the context, and whether a table has rows then."""
    if len(context.encode()) > SQL_BYTES:
        raise Refused("timed out", f"a context of more than {SQL_BYTES // MEGABYTE} MB")
    readings = dialects.contexts(context)
    dialect, _ = first_that_runs(db, readings, lambda statements: [*map(db.execute, statements)])
    (rows,) = db.execute("SELECT SUM(estimated_size) FROM duckdb_tables()").fetchone()
    return {"context_dialect": dialect, "filled": bool(rows)}


def read(db: Database, answer: str, limits: dict) -> dict:
    """The rows of an answer's first SELECT, and whether it orders them."""
    if len(answer.encode()) > MEGABYTE:
        raise Refused("timed out", "a query of more than 1 MB")
    query = first_query(answer)
    word = query.lstrip("( \n\t").split(maxsplit=1)[:1]
    if not word or word[0].upper() not in ("SELECT", "WITH", "VALUES", "FROM"):
        raise Refused(*("not SELECT", f"begins with {word[0][:20]!r}") if word else ("empty", ""))
    readings = dialects.queries(query)
    dialect, (columns, rows) = first_that_runs(db, readings, lambda sql: fetch(db, limits, sql), "READ ONLY")
    _, tree = next(dialects.trees(query), ("", None))
    ordered = bool(tree and tree.unnest().args.get("order"))  # by the outermost SELECT
    return {"kind": "rows", "columns": columns, "rows": rows, "ordered": ordered, "dialect": dialect}


THOUGHT = re.compile(r"\A(?:.*</(?:think(?:ing)?|reasoning)>|\s*<think.*)", re.I | re.S)
# "Select the names:" on a line of its own is no query.
QUERY = r'\(*(?:select\b(?![^\n/-]*[.:]\s*\n)|with\s+(?:recursive\s+)?["`\w]+\s*(?:\([^()]*\)\s*)?as\b)'
QUERIES = [re.compile(start + QUERY, re.I | re.M) for start in (r"^(?:/\*[^*]*\*/|\s)*", r"\b")]
OTHER = r"\s*(?:(?:insert|replace|merge)\s+into|delete\s+from|update\s+\S+\s+set|drop|alter|explain|copy|"
OTHER = re.compile(OTHER + r"create\s+(?:\w+\s+)*(?:table|view|macro|trigger))\b", re.I)
# Where it may end: before prose, the query again, a tag, the end of a turn, a quote or a fence that began before it.
ENDS = r";|\n\s*\n|\n(?=\W*(?:[A-Z]'?[a-z]+|(?i:select|with)|this|it|the|[^\W\x00-\x7f].*)\b)|"
ENDS += r"\s*(?:```|</?\|?\w+\|?>|\[/\w+\]|\\[gG]\s*\Z)|\"(?:\"\"|\W*\Z)|\*\*\s*\Z|(?<!`)`(?=[\s.,]|\Z)"
ENDS = re.compile(ENDS)


def first_query(answer: str) -> str:
    """The first query in a model's answer, without thoughts, fences, prose, tags and what follows it.

    It begins with the first SELECT or WITH, at the beginning of a line if there is one, and is the longest that can be
    read; where none can, all from there on. An answer that writes stays whole; JSON's escapes stay as they are.
    """
    text = THOUGHT.sub("", answer)
    if not OTHER.match(text) and (found := QUERIES[0].search(text) or QUERIES[1].search(text)):
        text = text[found.start() :]
    for end in [len(text), *(cut.start() for cut in reversed(list(ENDS.finditer(text))))]:
        with suppress(*dialects.FAILURES):
            statement = dialects.statements(text[:end])[0]
            if any(isinstance(tree, sqlglot.exp.Query) for _, tree in dialects.trees(statement)):
                return statement
    return text


def first_that_runs(db: Database, readings: Iterable, run: Callable, mode: str = "") -> tuple:
    """(dialect, result) of the first reading that runs, each in a transaction; else the error of the first."""
    first = None
    for dialect, sql in readings:
        db.execute(f"BEGIN TRANSACTION {mode}")
        try:
            result = run(sql)
            db.commit()
            return dialect, result
        except (duckdb.Error, MemoryError) as error:
            db.rollback()
            if isinstance(error, Refused | duckdb.OutOfMemoryException | MemoryError):
                raise  # no other reading helps
            first = first or error
    raise first


def fetch(db: Database, limits: dict, sql: str) -> tuple[list[str], list[tuple]]:
    """Column names and rows. Refused beyond the limits, and where it is no single SELECT."""
    sql = dialects.SINGLE.sub(r"\1DOUBLE", sql)
    if [each.type for each in db.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
        raise Refused("not SELECT", "it writes, or is more than one statement")
    rows = db.execute(sql).fetchmany(limits["rows"] + 1)
    if len(rows) > limits["rows"]:
        raise Refused("too many rows", f"more than {limits['rows']} rows")
    if len(repr(rows)) > RESULT_BYTES:
        raise Refused("timed out", f"a result of more than {RESULT_BYTES // MEGABYTE} MB")
    return [name for name, *_ in db.description], rows


def plain(value: object) -> object:
    """What JSON does not have: decimals as numbers, a blob as x'00ff', a time at midnight as its date."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return str(value).removesuffix("+00:00").removesuffix(" 00:00:00")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
