"""Is the generated SQL right? Run it, and compare its rows with those of the gold SQL.

    outcomes = judge.judge_all((row["sql_context"], row["sql"], answer) for row, answer in …)

Context and queries are foreign text. They run in DuckDB, in processes of their own (`sandbox`); what DuckDB does not
take is translated (`dialects`), and the outcome names what needed it.

Two results are the same when they have as many columns and the same rows. Names of columns do not count, their
order does. Rows count as often as they occur, in any order; where the outermost SELECT of the gold has ORDER BY,
in its order: rows with equal sort keys have DuckDB's, so name a second key. 2 is 2.0, other numbers count to twelve
digits, at most nine behind the point; '2' is not 2; NULL is only NULL, NaN equals nothing. A wrong query is right by
chance where tables are small; where they are empty, or the gold gives no rows, `no rows` says nothing about a model.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter, namedtuple
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from helpers.core import runtime

RIGHT, WRONG, FAILS, NOT_SELECT = "right", "wrong result", "does not run", "not SELECT"
LIMIT, EMPTY, GOLD_BROKEN, NO_ROWS = "timed out", "empty", "gold broken", "no rows"
KINDS = (RIGHT, WRONG, FAILS, NOT_SELECT, LIMIT, EMPTY, GOLD_BROKEN, NO_ROWS)
ROWS, TOO_MANY = "rows", "too many rows"  # further kinds of a Result
# What one context or query may use.
LIMITS = {"seconds": 5.0, "rows": 10_000, "megabytes": 128}
Jobs = Iterable[tuple[str, ...]]  # a context and its queries each


# What a query gave: the kind `rows`, or why it gave none; whether its outermost SELECT orders; the dialects in which it
# and its context were read; whether a table of the context has rows.
FIELDS = "kind detail rows columns ordered dialect context_dialect filled"
Result = namedtuple("Result", FIELDS, defaults=("", (), (), False, "duckdb", "", False))
# One of KINDS, what is to be said about it, both Results, and {"gold" or "generated": dialect} for what ran only after
# translation. The last two kinds say nothing about the model.
Outcome = namedtuple("Outcome", "kind detail gold generated translated")


def judge_all(rows: Jobs, processes: int | None = None) -> list[Outcome]:
    """Outcomes of (context, gold, generated), in their order. `processes`: default one a core."""
    return [_outcome(*pair) for pair in run_all(rows, processes)]


def run_all(jobs: Jobs, processes: int | None = None) -> list[list[Result]]:
    """Results of (context, query, …): the queries of a job share a database, and cannot change it."""
    jobs = list(jobs)
    size = max(1, -(-len(jobs) // (processes or os.cpu_count() or 1)))
    shares = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    with ThreadPoolExecutor(len(shares) or 1) as threads:
        return sum(threads.map(_run, shares), [])


def _run(jobs: list[tuple[str, ...]]) -> list[list[Result]]:
    """The results of these jobs, from one sandbox. What ended a child of it is the result of what it left out."""
    ran = subprocess.run(
        [sys.executable, "-B", "-m", "helpers.sql.sandbox", json.dumps(LIMITS)],
        input="".join(json.dumps(job) + "\n" for job in jobs),
        capture_output=True,
        text=True,
        cwd=runtime.REPOSITORY,
        env={"MALLOC_ARENA_MAX": "1"},  # no key of the notebook's, and no 64 MB of addresses a thread
        start_new_session=True,  # an interrupt of the notebook is not the sandbox's error
    )
    results, replies, late = [], [], f"longer than {LIMITS['seconds']:g} s; its process was ended"
    for reply in map(json.loads, ran.stdout.splitlines()):
        if isinstance(reply, dict):
            replies.append(Result(**reply))
        else:  # the exit code of the child
            ended = Result(LIMIT, late if reply == -signal.SIGALRM else f"its process ended with {reply}")
            results.append(replies + [ended] * (len(jobs[len(results)]) - 1 - len(replies)))
            replies = []
    if len(results) < len(jobs):
        why = ran.stderr.strip().rpartition("\n")[2] or f"it ended with {ran.returncode}"
        raise RuntimeError(f"the process for SQL stopped after {len(results)} of {len(jobs)} rows: {why}")
    return results


def difference(gold: Result, other: Result) -> str:
    """Why the rows differ, or the empty text where they are the same."""
    for what, ours, theirs in (("columns", gold.columns, other.columns), ("rows", gold.rows, other.rows)):
        if len(ours) != len(theirs):
            return f"{len(theirs)} {what}, not {len(ours)}"
    ours, theirs = ([tuple(map(_rounded, row)) for row in result.rows] for result in (gold, other))
    if Counter(ours) != Counter(theirs):
        return "other values"
    return "other order" if gold.ordered and ours != theirs else ""


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{round(value, 9):.12g}")
    return repr(value) if isinstance(value, list | dict) else value


def _outcome(gold: Result, generated: Result) -> Outcome:
    kind, detail = generated.kind, generated.detail
    if gold.kind != ROWS:
        kind, detail = GOLD_BROKEN, f"{gold.kind}: {gold.detail}"
    elif not gold.rows or not gold.filled:
        kind, detail = NO_ROWS, "the gold gives no rows" if gold.filled else "the context has no rows"
    elif kind == TOO_MANY:  # the gold has fewer
        kind = WRONG
    elif kind == ROWS:
        detail = difference(gold, generated)
        kind = WRONG if detail else RIGHT
    both = {"gold": gold.dialect, "generated": generated.dialect}
    translated = {text: dialect for text, dialect in both.items() if dialect != "duckdb"}
    return Outcome(kind, detail, gold, generated, translated)
