"""The process in which foreign SQL runs: JSON lines in, JSON lines out, an in-memory database of DuckDB per request.

`helpers.sql.judge` starts it as `python -m helpers.sql.sandbox LIMITS`, without the notebook's environment. DuckDB
has no files, no extensions and none of Python's variables; its settings are locked, its memory is limited, and what
takes too long is interrupted. Of a context only what makes rows is run (`dialects.contexts`), of an answer one
SELECT, in a transaction that cannot write. Behind that stands the kernel: no file can be opened, memory is limited
(not on macOS), and an alarm ends the process. A query about today is judged on the day it runs.
"""

import datetime
import decimal
import json
import math
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import duckdb
import sqlglot.optimizer.optimizer  # noqa: F401 - sqlglot imports it when it needs it; then no file can be opened

from helpers.sql import dialects

Database = duckdb.DuckDBPyConnection
GRACE = 1.0  # seconds from the time limit, at which DuckDB is asked to stop, to the end of the process
MEGABYTE = 2**20
ROOM = 64  # megabytes, for what DuckDB does not count and for Python's copy of the rows
SQL_BYTES, RESULT_BYTES = 8 * MEGABYTE, 16 * MEGABYTE
CLOSED = ("enable_external_access", "allow_community_extensions", "python_enable_replacements")
CLOSED += ("autoload_known_extensions", "autoinstall_known_extensions")
# As SQLite and MySQL see it, where DuckDB can be told so.
MEANING = {"TimeZone": "UTC", "integer_division": True, "error_on_division_by_zero": False}
MEANING |= {"old_implicit_casting": True, "scalar_subquery_error_on_multiple_rows": False}
MEANING |= {"default_null_order": "nulls_first_on_asc_last_on_desc"}
# Where prose may begin behind a query, or the query again; what it ends with for certain, outside of texts.
PROSE = re.compile(r";|\n\s*\n|\n(?=\W*(?:[A-Z]'?[a-z]+|(?i:select|with)|this|it|the|[^\W\x00-\x7f].*)\b)")
TAGS = re.compile(dialects.TEXT + r"|(?:\n\s*<[A-Za-z]\w*>|</\w+>|\[/\w+\]|\*\*\s*\Z|\\[gG]\s*\Z).*", re.S)


class Refused(duckdb.Error):
    """Ends a step: the kind of the result and what people read about it."""


def serve(limits: dict) -> None:
    """Read a request, [context, query, …], per line and write a line per query, after a first one, "ready".

    Ends with the input, or with a request that ran out of memory: unanswered, for a fresh process, but for the first.
    """
    db = connect(limits["megabytes"])
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        context, *queries = json.loads(line)
        db.execute("ATTACH ':memory:' AS job; USE job")
        ends, built = False, step(partial(build, db, context), db, limits)
        for query in queries:
            reply = built | {"detail": f"context: {built.get('detail')}"}
            if "kind" not in built:
                reply = built | step(partial(read, db, query, limits), db, limits)
            ends |= "of memory" in reply.get("detail", "")
            if not ends or not number:
                print(json.dumps(reply), flush=True)
        if ends:
            return
        db.execute("USE memory; DETACH job")


def connect(megabytes: int) -> Database:
    """DuckDB with locked settings, in a process that can open no file, nor grow, nor survive its alarm."""
    config = dict.fromkeys(CLOSED, False) | {
        "threads": 1,
        "temp_directory": "",
        "memory_limit": f"{megabytes}MB",
    }
    db = duckdb.connect(config=config)
    for name, value in {**MEANING, "lock_configuration": True}.items():
        db.execute(f"SET {name} = {value!r}")
    db.execute("SELECT now()").fetchall()  # reads the time zone from its file
    for dialect in ("duckdb", *dialects.DIALECTS):
        dialects.Dialect.get_or_raise(dialect)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + (megabytes + ROOM) * MEGABYTE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return db


def step(action: Callable[[], dict], db: Database, limits: dict) -> dict:
    """What the action returns, or the kind and detail of what stopped it."""
    signal.setitimer(signal.ITIMER_REAL, limits["seconds"] + GRACE)
    timer = threading.Timer(limits["seconds"], db.interrupt)
    timer.start()
    try:
        return action()
    except Refused as error:
        kind, detail = error.args
    except duckdb.InterruptException:
        kind, detail = "timed out", f"longer than {limits['seconds']:g} s"
    except (duckdb.OutOfMemoryException, MemoryError):
        kind, detail = "timed out", f"more than {limits['megabytes']} MB of memory"
    except (duckdb.Error, RuntimeError, ValueError) as error:  # ValueError: half a surrogate
        kind, detail = "does not run", str(error).partition("\n")[0]
    finally:
        timer.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"kind": kind, "detail": detail}


def build(db: Database, context: str) -> dict:
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
        raise Refused("not SELECT", f"begins with {word[0][:20]!r}" if word else "")
    readings, run = dialects.queries(query), partial(fetch, db, limits)
    dialect, (columns, rows) = first_that_runs(db, readings, run, "READ ONLY")
    _, tree = next(dialects.trees(query), ("", None))
    ordered = bool(tree and tree.unnest().args.get("order"))  # by the outermost SELECT
    return {"kind": "rows", "columns": columns, "rows": rows, "ordered": ordered, "dialect": dialect}


def first_query(text: str) -> str:
    """The first statement of a text, without prose behind it; the whole text where nothing of it is a query."""
    text = TAGS.sub(r"\1", text)
    for end in [len(text), *(cut.start() for cut in reversed(list(PROSE.finditer(text))))]:
        with suppress(*dialects.FAILURES):
            statement = dialects.statements(text[:end])[0]
            if any(isinstance(tree, sqlglot.exp.Query) for _, tree in dialects.trees(statement)):
                return statement
    return text


def first_that_runs(db: Database, readings: Iterable, run: Callable, mode: str = "") -> tuple:
    """(dialect, result) of the first reading that runs, each in a transaction; else the error of the first."""
    errors = []
    for dialect, sql in readings:
        db.execute(f"BEGIN TRANSACTION {mode}")
        try:
            result = run(sql)
        except duckdb.Error as error:
            db.rollback()
            if isinstance(error, Refused | duckdb.InterruptException | duckdb.OutOfMemoryException):
                raise  # no other reading helps
            errors.append(error)
        else:
            db.commit()
            return dialect, result
    raise errors[0]


def fetch(db: Database, limits: dict, sql: str) -> tuple[list[str], list[list]]:
    """Column names and rows, as JSON has them. Refused beyond the limits, and where it is no single SELECT."""
    sql = dialects.SINGLE.sub(r"\1DOUBLE", sql)
    if [each.type for each in db.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
        raise Refused("not SELECT", "it writes, or is more than one statement")
    found = db.execute(sql).fetchmany(limits["rows"] + 1)
    if len(found) > limits["rows"]:
        raise Refused("too many rows", f"more than {limits['rows']} rows")
    rows = [[plain(value) for value in row] for row in found]
    if sum(len(value) if isinstance(value, str) else 8 for row in rows for value in row) > RESULT_BYTES:
        raise Refused("timed out", f"a result of more than {RESULT_BYTES // MEGABYTE} MB")
    return [name for name, *_ in db.description], rows


def plain(value: object) -> object:
    """A number, a text or None: TRUE as 1, a blob as x'00ff', a time at midnight as its date."""
    if isinstance(value, bool | decimal.Decimal):
        return int(value) if isinstance(value, bool) else float(value)
    if value is None or isinstance(value, int | str) or isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=None)
    return f"x'{value.hex()}'" if isinstance(value, bytes) else str(value).removesuffix(" 00:00:00")


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
