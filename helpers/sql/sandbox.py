"""The process in which foreign SQL runs: JSON lines in, JSON lines out, an in-memory SQLite per request.

`helpers.sql.judge` starts it as `python -m helpers.sql.sandbox LIMITS` with an empty environment. Neither
the context (CREATE TABLE and INSERT) nor the queries are trusted:
- an authorizer names the few actions that are allowed, so that what SQLite may learn to do later is
  refused as well; of the functions only SQLite's own harmless ones;
- after the imports, the process can open no file, neither to read nor to write (RLIMIT_NOFILE);
- time: a progress handler interrupts SQLite, and where SQLite is busy inside one function, an alarm of
  the kernel ends the process;
- memory: SQLite's heap has a hard limit, the process one of its address space. macOS does not keep
  the second, and Apple's own SQLite not the first; there lengths, rows and the time remain.
It does not hide the process from the network or from other processes: SQLite has no way to them.

A query about today is judged on the day it runs, and one with RANDOM() is right by chance.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

import sqlglot.optimizer  # noqa: F401 - sqlglot imports it when it needs it; then no file can be opened
from sqlglot.dialects.dialect import Dialect

from helpers.sql import dialects

GRACE = 1.0  # seconds from the time limit, at which SQLite is asked to stop, to the end of the process
MEGABYTE = 2**20
RESULT_BYTES = 16 * MEGABYTE
INTERPRETER_BYTES = 256 * MEGABYTE

READ = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
BUILD = READ | {
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,  # of sqlite_master, a part of CREATE TABLE
    sqlite3.SQLITE_TRANSACTION,
}
SIZES = {
    sqlite3.SQLITE_LIMIT_LENGTH: MEGABYTE,  # of one text, blob or row
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 8 * MEGABYTE,  # of a context; a query is a text, and ends at one
    sqlite3.SQLITE_LIMIT_COLUMN: 500,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 200,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 500,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
SELECT = re.compile(r"(?:[\s(]|--[^\n]*|/\*.*?\*/)*+(?:select|with|values)\b", re.IGNORECASE | re.DOTALL)
# SQLite's own functions (no extension's) without its mark of side effects, which load_extension bears.
with contextlib.closing(sqlite3.connect(":memory:")) as _db:
    _listed = _db.execute("SELECT name FROM pragma_function_list WHERE builtin AND NOT flags & 0x80000")
    FUNCTIONS = {name for (name,) in _listed} - {"randomblob"}
# Errors that another dialect explains; not those of a limit, or of a program that cannot be right.
FOREIGN = re.compile(
    "syntax error|unrecognized token|incomplete input|no such|unknown database|wrong number of arguments"
)
WRITES = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}


class Refused(Exception):
    """Ends a step: the kind of the result and what people read about it."""


def serve(limits: dict) -> None:
    """Answer requests, [context, query, …] on a line, by a line per query; a first line says that all is ready.

    It ends with the input, or with a request that reaches a limit: a process short of memory may stay so.
    """
    lock(limits["megabytes"] * MEGABYTE)
    print("ready", flush=True)
    for line in sys.stdin:
        context, *queries = json.loads(line)
        built = step(lambda deadline, context=context: build(context, limits, deadline), limits)
        db, kinds = built.pop("db", None), set()
        for query in queries:
            reply = built | {"detail": f"context: {built.get('detail')}"}
            if db:
                reply = built | step(
                    lambda deadline, db=db, sql=query: read(db, sql, limits, deadline), limits
                )
            print(json.dumps(reply), flush=True)
            kinds.add(reply["kind"])
        if "timed out" in kinds:
            return
        if db:
            db.close()


def lock(heap: int) -> None:
    """Make the process unable to open a file, to grow, or to survive its alarm."""
    logging.disable()  # sqlglot's warnings
    for dialect in ("sqlite", *dialects.DIALECTS):
        Dialect.get_or_raise(dialect)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 3}
    if sys.platform == "linux":
        limits[resource.RLIMIT_AS] = heap + INTERPRETER_BYTES
    for name, value in limits.items():
        resource.setrlimit(name, (value, value))


def step(action: Callable[[float], dict], limits: dict) -> dict:
    """What the action returns, or the kind and detail of what stopped it."""
    signal.setitimer(signal.ITIMER_REAL, limits["seconds"] + GRACE)
    try:
        return action(time.monotonic() + limits["seconds"])
    except Refused as error:
        kind, detail = error.args
    except MemoryError:
        kind, detail = "timed out", f"more than {limits['megabytes']} MB of memory"
    except sqlite3.DataError as error:  # longer than one of SIZES
        kind, detail = "timed out", str(error)
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:  # ValueError: a NUL, half a surrogate
        kind, detail = "does not run", str(error)
        if detail == "interrupted":
            kind, detail = "timed out", f"longer than {limits['seconds']:g} s"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"kind": kind, "detail": detail}


def build(context: str, limits: dict, deadline: float) -> dict:
    """The database of the context's first reading that SQLite takes, each on a fresh one."""

    def execute(sql: str) -> sqlite3.Connection:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
        try:
            for category, size in SIZES.items():
                db.setlimit(category, size)
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute(f"PRAGMA hard_heap_limit = {limits['megabytes'] * MEGABYTE}")
            guard(db, BUILD, deadline)
            db.executescript(sql)
        except BaseException:
            db.close()
            raise
        return db

    dialect, _, db = first_that_runs(context, execute)
    return {"context_dialect": dialect, "db": db}


def guard(db: sqlite3.Connection, allowed: set[int], deadline: float) -> list[tuple[int, str | None]]:
    """Authorize `allowed` until the deadline. Returns the list that refused actions are added to."""
    refused = []

    def decide(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if second.lower() in FUNCTIONS if action == sqlite3.SQLITE_FUNCTION else action in allowed:
            return sqlite3.SQLITE_OK
        refused.append((action, first))
        return sqlite3.SQLITE_DENY

    db.set_authorizer(decide)
    db.set_progress_handler(lambda: time.monotonic() > deadline, 1000)
    return refused


def read(db: sqlite3.Connection, query: str, limits: dict, deadline: float) -> dict:
    """The rows of one SELECT, and whether it orders them."""
    if not SELECT.match(query):
        raise Refused("not SELECT", f"begins with {query.split(None, 1)[0][:20]!r}" if query.strip() else "")
    refused = guard(db, READ, deadline)
    try:
        dialect, sql, (columns, rows) = first_that_runs(query, lambda sql: fetch(db, sql, limits))
    except sqlite3.DatabaseError as error:
        if any(action in WRITES and not table.startswith("sqlite_") for action, table in refused):
            raise Refused("not SELECT", f"{error}: it writes") from None
        raise
    ordered = dialects.is_ordered(sql)
    return {"kind": "rows", "columns": columns, "rows": rows, "ordered": ordered, "dialect": dialect}


def first_that_runs(text: str, execute: Callable[[str], Any]) -> tuple[str, str, Any]:
    """(dialect, SQL, result) of the first reading that runs; else the error of the text as it is."""
    errors = {}
    for dialect, sql in dialects.readings(text):
        try:
            return dialect, sql, execute(sql)
        except sqlite3.OperationalError as error:
            if not FOREIGN.search(str(error)):
                raise
            errors[dialect] = error
    raise errors["sqlite"]


def fetch(db: sqlite3.Connection, sql: str, limits: dict) -> tuple[list[str], list[list]]:
    """Column names and rows; a blob as SQLite writes it, x'00ff'. Refused beyond the limits."""
    cursor = db.execute(sql)
    rows, size = [], 0
    for row in cursor:
        size += sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
        if len(rows) == limits["rows"]:
            raise Refused("too many rows", f"more than {limits['rows']} rows")
        if size > RESULT_BYTES:
            raise Refused("timed out", f"a result of more than {RESULT_BYTES // MEGABYTE} MB")
        rows.append([f"x'{value.hex()}'" if isinstance(value, bytes) else value for value in row])
    return [name for name, *_ in cursor.description], rows


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
