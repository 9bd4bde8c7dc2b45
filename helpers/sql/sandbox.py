"""The process in which foreign SQL runs: JSON lines in, JSON lines out, an in-memory database of DuckDB per request.

`helpers.sql.judge` starts it as `python -m helpers.sql.sandbox LIMITS` with an empty environment. Neither
the context nor the queries are trusted:
- DuckDB has no access to files, extensions and Python's variables, and its settings are locked;
- of a context only what builds tables and rows is run (`dialects.contexts`), of an answer one SELECT, in a
  transaction that cannot write;
- time: DuckDB is interrupted; where that does not help, an alarm of the kernel ends the process;
- memory: DuckDB's limit, and behind it one of the process's address space (not on macOS);
- after the imports, the process can open no file, neither to read nor to write (RLIMIT_NOFILE).
It does not hide the process from the network or from other processes: DuckDB has no way to them.

A query about today is judged on the day it runs, and one with RANDOM() is right by chance.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import resource
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial

import duckdb
import sqlglot.optimizer.optimizer  # noqa: F401 - sqlglot imports it when it needs it; then no file can be opened

from helpers.sql import dialects

GRACE = 1.0  # seconds from the time limit, at which DuckDB is asked to stop, to the end of the process
MEGABYTE = 2**20
INTERPRETER_BYTES = 1024 * MEGABYTE  # of address space; DuckDB reserves more than it uses
SQL_BYTES, RESULT_BYTES = 8 * MEGABYTE, 16 * MEGABYTE
SAFE = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
    "max_temp_directory_size": "0KB",
    "threads": 1,
}
# As SQLite and MySQL see it, where DuckDB can be told so.
MEANING = {
    "TimeZone": "UTC",
    "integer_division": True,
    "error_on_division_by_zero": False,
    "old_implicit_casting": True,
    "default_null_order": "nulls_first_on_asc_last_on_desc",
    "scalar_subquery_error_on_multiple_rows": False,
}


class Refused(Exception):
    """Ends a step: the kind of the result and what people read about it."""


def serve(limits: dict) -> None:
    """Answer requests, [context, query, …] on a line, by a line per query; a first line says that all is ready."""
    db = connect(limits["megabytes"])
    lock(limits["megabytes"] * MEGABYTE)
    print("ready", flush=True)
    for line in sys.stdin:
        context, *queries = json.loads(line)
        db.execute("ATTACH ':memory:' AS job")
        db.execute("USE job")
        built = step(partial(build, db, context), db, limits)
        for query in queries:
            reply = built | {"detail": f"context: {built.get('detail')}"}
            if "kind" not in built:
                reply = built | step(partial(read, db, query, limits), db, limits)
            print(json.dumps(reply), flush=True)
        db.execute("USE memory")
        db.execute("DETACH job")


def connect(megabytes: int) -> duckdb.DuckDBPyConnection:
    db = duckdb.connect(config={**SAFE, "memory_limit": f"{megabytes}MB"})
    for name, value in {**MEANING, "lock_configuration": True}.items():
        db.execute(f"SET {name} = {value!r}")
    db.execute("SELECT now()").fetchall()  # reads the time zone from its file
    return db


def lock(heap: int) -> None:
    """Make the process unable to open a file, to grow, or to survive its alarm."""
    for dialect in ("duckdb", *dialects.DIALECTS):
        dialects.Dialect.get_or_raise(dialect)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 3}
    if sys.platform == "linux":
        limits[resource.RLIMIT_AS] = heap + INTERPRETER_BYTES
    for name, value in limits.items():
        resource.setrlimit(name, (value, value))


def step(action: Callable[[], dict], db: duckdb.DuckDBPyConnection, limits: dict) -> dict:
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


def build(db: duckdb.DuckDBPyConnection, context: str) -> dict:
    """Tables and rows by the context's first reading that DuckDB takes, and whether there are rows."""
    if len(context) > SQL_BYTES:
        raise Refused("timed out", f"a context of more than {SQL_BYTES // MEGABYTE} MB")
    first = None
    for dialect, statements in dialects.contexts(context):
        db.begin()
        try:
            for statement in statements:
                db.execute(statement)
            db.commit()
        except duckdb.Error as error:
            db.rollback()
            if isinstance(error, duckdb.InterruptException | duckdb.OutOfMemoryException):
                raise
            first = first or error
            continue
        tables = [name for (name,) in db.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        filled = any(db.table(f'"{name}"').limit(1).fetchall() for name in tables)
        return {"context_dialect": dialect, "filled": filled}
    raise first or Refused("does not run", "no dialect of SQL reads it")


def read(db: duckdb.DuckDBPyConnection, answer: str, limits: dict) -> dict:
    """The rows of an answer's first SELECT in its first reading that runs, and whether it orders them."""
    if len(answer) > MEGABYTE:
        raise Refused("timed out", "a query of more than 1 MB")
    query, first = dialects.first_query(answer), None
    word = query.lstrip(" \n\t(").partition(" ")[0].partition("\n")[0]
    if word.upper() not in ("SELECT", "WITH", "VALUES", "FROM"):
        raise Refused("not SELECT", f"begins with {word[:20]!r}" if word else "")
    for dialect, sql in dialects.queries(query):
        try:
            columns, rows = fetch(db, sql, limits)
        except (duckdb.InterruptException, duckdb.OutOfMemoryException):
            raise
        except duckdb.Error as error:
            first = first or error
            continue
        found = {"columns": columns, "rows": rows, "ordered": dialects.is_ordered(query, dialect), "dialect": dialect}
        return {"kind": "rows", **found}
    raise first


def fetch(db: duckdb.DuckDBPyConnection, sql: str, limits: dict) -> tuple[list[str], list[list]]:
    """Column names and rows, as JSON has them. Refused beyond the limits, and where it is no single SELECT."""
    if [each.type for each in db.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
        raise Refused("not SELECT", "it writes, or is more than one statement")
    db.execute("BEGIN TRANSACTION READ ONLY")
    try:
        cursor = db.execute(sql)
        columns, found = [name for name, *_ in cursor.description], cursor.fetchmany(limits["rows"] + 1)
    finally:
        db.rollback()
    if len(found) > limits["rows"]:
        raise Refused("too many rows", f"more than {limits['rows']} rows")
    rows = [[plain(value) for value in row] for row in found]
    if sum(len(value) if isinstance(value, str) else 8 for row in rows for value in row) > RESULT_BYTES:
        raise Refused("timed out", f"a result of more than {RESULT_BYTES // MEGABYTE} MB")
    return columns, rows


def plain(value: object) -> object:
    """A number, a text or None: TRUE as 1, a blob as x'00ff', a time at midnight as its date."""
    if isinstance(value, bool | decimal.Decimal):
        value = int(value) if isinstance(value, bool) else float(value)
    if value is None or isinstance(value, int | str) or isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=None)
    return str(value).removesuffix(" 00:00:00")


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
