"""The teacher stage and the article's script, in turns, on the same server: speed, the limit, faults, the budget.

    python -m benchmarks.teacher PATH/generate-qa-pairs.py ["3000 a minute"]

PATH is a copy of the question-answer script of Bright Data's blog article on fine-tuning Gemma 3 (public in
luminati-io/finetune-gemma3-brightdata, scripts/). It runs unchanged, with its own defaults: four workers, the
openai client's two retries. Each side runs as a process of its own, from start to end, imports included, on
the same chunks, on a machine that does nothing else; OPENAI_BASE_URL leads both to tests/fakes/openai_api.py
in a third process. The server answers each side in the form that its prompt asks for. Writes teacher.json and
teacher.md; with a scenario's name, only that one is run and replaced in them.

- `asking`: seconds from the first request to the last answer; `seconds`: from the start of the process to its
  end, with its imports. `times_faster` is the ratio of `asking`, the median of the turns.
- `pairs`: what it left on the disk. `reported`: what it says of itself. `paid`: answers that the server made
  and billed; `paid_twice`: more than one for a chunk, beyond those that were malformed or cut off.
- `share_of_limit`: answers, as a share of what the limit allowed from the first request to the last; the
  second's worth of requests that the server's bucket holds at the start counts as allowed.
- `budget`: ours alone. The article's script has none.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks import machine
from helpers.ask import answers, prices
from helpers.core import files
from tests.fakes.openai_api import FakeOpenAI, qa_reply

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).with_suffix(".json")
LIMIT, BUDGET_USD = 3000, 1.0
FAULTS = {429: 0.10, 500: 0.05, "drop": 0.01, "drop_billed": 0.01, "malformed": 0.03}
SCENARIOS = {  # chunks, turns, and how the server is
    "80 chunks": (80, 1, {"delay": 0.05}),
    "250 chunks": (250, 1, {"delay": 0.05}),
    "600 chunks at 200 ms": (600, 3, {"delay": 0.2}),
    f"{LIMIT} a minute": (LIMIT, 1, {"delay": 0.2, "requests_per_minute": LIMIT}),
    "600 chunks among faults": (600, 1, {"delay": 0.05, "rates": FAULTS, "retry_after": "1"}),
}
OURS = """
import sys
from pathlib import Path
from helpers.ask import qa, teacher
from helpers.core import files
chunks = [{"id": row["id"], "review_ids": [row["id"]], "company": "Acme", "text": row["review"]}
          for row in files.read_jsonl(Path("trustpilot_reviews_chunks.jsonl"))]
requests = qa.requests_for(chunks, 1, "gpt-4o")
answers = teacher.ask_all(requests, Path("qa_journal.jsonl"), model="gpt-4o", response_model=qa.QAPairs,
                          max_cost_usd=float(sys.argv[1]))
pairs, rejected = qa.pairs_from(answers, chunks, "gpt-4o")
files.write_json(Path("trustpilot_qa_pairs.json"), pairs)
files.write_json(Path("rejected.json"), rejected)
print("Successful QA pairs:", len(pairs))
"""
THEIRS = """
import runpy, sys, types
sys.modules["dotenv"] = types.SimpleNamespace(load_dotenv=lambda: None)  # the key is in the environment
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def reply(body: dict) -> str:
    text = qa_reply(body)
    if "response_format" in body:
        return text
    pair = json.loads(text)["pairs"][0]
    return f"Q: {pair['question']}\nA: {pair['answer']}"


def serve(pipe, options: dict) -> None:
    """A server in this process, until something comes through the pipe; then what it saw goes back."""
    with FakeOpenAI(reply=reply, **options) as server:
        pipe.send(server.base_url)
        pipe.recv()
        whole = Counter(server.handed) - Counter(server.spoiled)
        allowed = server.a_second * (1 + server.times[-1] - server.times[0])
        pipe.send({
            "paid": len(server.billed),
            "paid_twice": whole.total() - len(whole),
            "asked": len(server.asked),
            "asking": server.handed_at - server.times[0],
            "most_in_flight": server.most_in_flight,
            "refused_by_the_limit": server.limited,
            "share_of_limit": None if allowed == math.inf else len(server.handed) / allowed,
            "usd": server.usd(*prices.price("gpt-4o")),
        })  # fmt: skip


def side(code: str, argument: str, chunks: int, options: dict) -> dict:
    """One run of one side on a fresh server."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, options))
    server.start()
    settings = {"OPENAI_BASE_URL": ours.recv(), "OPENAI_API_KEY": "sk-fake-key", "NO_PROXY": "*"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [{"id": f"id{n}", "review": f"chunk number {n}. " + "A review. " * 90} for n in range(chunks)]
        files.write_jsonl(folder / "trustpilot_reviews_chunks.jsonl", rows)
        started = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-c", code, argument],
            cwd=folder,
            env={**os.environ, **settings, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
        pairs = folder / "trustpilot_qa_pairs.json"
        saved = json.loads(pairs.read_text()) if pairs.exists() else []
        reasons = folder / "rejected.json"
        reasons = [row["reason"] for row in json.loads(reasons.read_text())] if reasons.exists() else []
        if code == OURS:  # each answer of the journal counts as saved, also where the budget ended the run
            journalled = len(answers.answered(folder / "qa_journal.jsonl"))
    said = re.search(r"Successful QA pairs: (\d+)", process.stdout + process.stderr)
    ours.send("stop")
    found = ours.recv()
    server.join()
    found |= {"seconds": seconds, "pairs": len(saved), "reported": int(said[1]) if said else None}
    found |= {"reasons": dict(Counter(reasons)), "ended": process.returncode}
    return found | ({"journalled": journalled} if code == OURS else {})


def main(script: Path, only: str | None) -> None:
    rows = []
    for name, (chunks, turns, options) in SCENARIOS.items():
        if only and name != only:
            continue
        runs = [
            {
                "ours": side(OURS, "100", chunks, options),
                "article": side(THEIRS, str(script), chunks, options),
            }
            for _ in range(turns)
        ]
        ratios = [run["article"]["asking"] / run["ours"]["asking"] for run in runs]
        rows.append(
            {"scenario": name, "chunks": chunks, "times_faster": statistics.median(ratios), "runs": runs}
        )
        print(table(rows).splitlines()[-1], flush=True)
    if only:
        result = json.loads(RESULT.read_text())
        result["rows"] = [rows[0] if row["scenario"] == only else row for row in result["rows"]]
        return write(result)
    tokens = {
        "tokens": (1500, 600),
        "rates": FAULTS | {"drop_billed": 0.05},
        "retry_after": "1",
        "delay": 0.05,
    }
    budget = side(OURS, str(BUDGET_USD), 600, tokens)
    write(machine.describe() | {"rows": rows, "budget_usd": BUDGET_USD, "budget": budget})


def write(result: dict) -> None:
    files.write_json(RESULT, result)
    files.write_text(RESULT.with_suffix(".md"), text(result))


def table(rows: list[dict]) -> str:
    lines = [
        "| scenario | ours | article's script | times faster | pairs on the disk, of chunks | reported | "
        "paid twice | share of the limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        runs = row["runs"]
        both = [[run[who] for run in runs] for who in ("ours", "article")]
        cells = [row["scenario"]]
        medians = [
            [statistics.median(one[what] for one in some) for what in ("asking", "seconds")] for some in both
        ]
        cells += [f"{asking:.1f} s ({seconds:.1f} s)" for asking, seconds in medians]
        cells += [f"{row['times_faster']:.1f}"]
        a, b = (some[-1] for some in both)
        cells += [f"{a['pairs']} / {b['pairs']} of {row['chunks']}", f"{a['reported']} / {b['reported']}"]
        cells += [f"{a['paid_twice']} / {b['paid_twice']}"]
        shares = [one["share_of_limit"] for one in (a, b)]
        cells += [" / ".join(f"{share:.1%}" for share in shares) if shares[0] else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def text(result: dict) -> str:
    budget = result["budget"]
    return f"""# The teacher stage and the article's script on the same server

Written by `benchmarks/teacher.py`, whose docstring says what is compared and how. {result["date"]},
{result["machine"]}, {result["versions"]}.
Other work ran on the same two threads.
Seconds from the first request to the last answer, in brackets those of the whole process. Where a cell has two
figures, ours is the first.

{table(result["rows"])}

With `max_cost_usd = {result["budget_usd"]}` and the same faults, 600 chunks of 1,500 tokens in and 600 out: the
server billed ${budget["usd"]:.4f} for {budget["paid"]} answers, {budget["journalled"]} of them are in the journal
(answers that were lost on the way and malformed ones are billed too), with up to {budget["most_in_flight"]} in flight.
"""


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not Path(sys.argv[1]).is_file():
        sys.exit(f"usage: python -m benchmarks.teacher PATH/generate-qa-pairs.py\n\n{__doc__}")
    main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) == 3 else None)
