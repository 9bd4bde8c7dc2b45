"""Which faults of the service a collection survives: this project's, and the article's script.

    python -m benchmarks.collect_faults PATH/collect-trustpilot-reviews.py

PATH is a copy of the collection script of Bright Data's blog article on fine-tuning Gemma 3 (public in
luminati-io/finetune-gemma3-brightdata, scripts/). It runs unchanged, in a process and a folder of its own:
its requests to api.brightdata.com are sent to a server on the loopback, from outside, by a wrapper around
requests.Session.request. Neither side sleeps through its waits: no sleep takes longer than 50 ms. Each fault
has a fresh server and at most 20 seconds a side. Writes collect_faults.json and collect_faults.md.

A fault is survived when each review that the service delivers is saved exactly once, at most one job is paid,
and, where reviews are missing, the process ends by itself and says why. What happens to the reviews after the
collection is not compared. How the service answers the download of a failed or canceled job is not documented:
the server answers 400 with the job's message.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from helpers.core import files
from tests.fakes.brightdata import FAULTS, FakeBrightData, with_faults

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).with_suffix(".json")
REVIEWS, LIMIT_SECONDS = 150, 20
LEFT_OUT = {"limit-ignored", "limit-field-unknown"}  # the article's script asks without a limit

# Faults that end without all reviews, and the words that say why.
REASONS = {
    "failed": "Account is suspended",
    "canceled": "canceled",
    "expired": "expired",
    "no-rows": "no review|0 rows",
    "empty-body": "no review|0 rows",
    "429-trigger": "429",
    "fewer-rows": "150 records.*135",
    "snapshot-is-empty": "empty|no review|0 rows",
    "no-such-company": "dead_page|No data",
    "wrong-key": "Invalid credentials|Unauthorized",
}
MORE = {
    "wrong-key": {"key": "another"},
    "killed-then-started-again": {"polls_until_ready": 30},
    "disk-full-then-started-again": {},
    "done-then-started-again": {},
}

QUICK = """
import os, resource, sys, time
wait = time.sleep
time.sleep = lambda seconds: wait(min(seconds, 0.05))
if "MOST_BYTES" in os.environ:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["MOST_BYTES"]),) * 2)
"""
OURS = """
from pathlib import Path
from helpers.collect import brightdata, records
from helpers.core import files
url = "https://www.trustpilot.com/review/hubspot.com"
rows = list(brightdata.collect(url, int(sys.argv[1]), Path("snapshot.json"), confirm_spend=True))
files.write_json(Path("trustpilot_reviews.json"), rows)
for row in filter(records.is_error_row, rows):
    print(row["error"], row["error_code"])
"""
THEIRS = """
import runpy, requests
send = requests.Session.request
def moved(self, method, url, **options):
    url = url.replace("https://api.brightdata.com", os.environ["BRIGHTDATA_BASE_URL"])
    return send(self, method, url, **options)
requests.Session.request = moved
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def saved(folder: Path) -> list[dict]:
    """The rows that a side has on the disk, whatever it printed; none where its file is torn."""
    path = folder / "trustpilot_reviews.json"  # the article's name for it
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except ValueError:
        return []


def start(code: str, argument: str, folder: Path, fake: FakeBrightData, **settings: str) -> subprocess.Popen:
    found = {"BRIGHTDATA_BASE_URL": fake.url, "BRIGHTDATA_API_KEY": "any", "NO_PROXY": "*"}
    return subprocess.Popen(
        [sys.executable, "-c", QUICK + code, argument],
        cwd=folder,
        env={**os.environ, **found, **settings, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[str, str]:
    """How it ended, and all that it said."""
    try:
        said = process.communicate(timeout=LIMIT_SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return f"still running after {LIMIT_SECONDS} s", process.communicate()[0]
    return f"exit {process.returncode}", said


def delivered(fault: str) -> int:
    """How many of the reviews the service ever sends."""
    return REVIEWS - REVIEWS // 10 if fault == "fewer-rows" else 0 if fault in REASONS else REVIEWS


def side(fault: str, code: str, argument: str) -> dict:
    """What one side made of a fault."""
    settings = MORE.get(fault, {}) | ({} if "reviews" in FAULTS.get(fault, {}) else {"reviews": REVIEWS})
    with with_faults([fault] if fault in FAULTS else [], **settings) as fake:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            limits = {"MOST_BYTES": "20000"} if fault.startswith("disk-full") else {}
            process = start(code, argument, folder, fake, **limits)
            if fault.startswith("killed"):
                while process.poll() is None and len(fake.requests) < 5:
                    time.sleep(0.01)
                process.kill()
            ended, said = finish(process)
            if fault.endswith("started-again"):
                ended, said = finish(start(code, argument, folder, fake))
            ids = [row["review_id"] for row in saved(folder) if row.get("review_id")]
        paid = len(fake.jobs)
    said = re.sub(r"[^\n]*\r", "", said)  # progress bars
    last = [line for line in said.strip().splitlines() if line.strip()][-1:]
    clear = ended.startswith("exit") and re.search(REASONS.get(fault, ""), said)
    troubles = {
        "reviews lost": len(set(ids)) < delivered(fault),
        "paid twice": paid > 1,
        "reviews doubled": len(ids) > len(set(ids)),
        "no reason given": not clear,
    }
    return {
        "verdict": ", ".join(name for name, found in troubles.items() if found) or "survived",
        "reviews": len(set(ids)),
        "twice": len(ids) - len(set(ids)),
        "paid_jobs": paid,
        "ended": ended,
        "last_words": last[0][:200] if last else "",
    }


def table(rows: list[dict]) -> str:
    lines = [
        "| fault | reviews sent | ours | saved | paid jobs | article's script | saved | paid jobs | ended |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, theirs = row["ours"], row["article"]
        counted = [
            f"{s['reviews']}" + (f" + {s['twice']} twice" if s["twice"] else "") for s in (ours, theirs)
        ]
        cells = [row["fault"], row["reviews"], ours["verdict"], counted[0], ours["paid_jobs"]]
        cells += [theirs["verdict"], counted[1], theirs["paid_jobs"], theirs["ended"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(script: Path) -> None:
    rows = []
    for fault in [*(name for name in FAULTS if name not in LEFT_OUT), *MORE]:
        row = {"fault": fault, "reviews": delivered(fault), "ours": side(fault, OURS, str(REVIEWS))}
        rows.append({**row, "article": side(fault, THEIRS, str(script.resolve()))})
        print(table(rows).splitlines()[-1], flush=True)
    score = {who: sum(row[who]["verdict"] == "survived" for row in rows) for who in ("ours", "article")}
    result = {"date": date.today().isoformat(), "faults": len(rows), "survived": score, "rows": rows}
    files.write_json(RESULT, result)
    title = "# Faults of the service that a collection survives\n\nWritten by `benchmarks/collect_faults.py`, whose"
    rest = f"Survived of {len(rows)}: ours {score['ours']}, the article's script {score['article']}."
    text = f"{title} docstring says what is compared and how.\n{rest}\n\n{table(rows)}\n"
    files.write_text(RESULT.with_suffix(".md"), text)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit(
            f"usage: python -m benchmarks.collect_faults PATH/collect-trustpilot-reviews.py\n\n{__doc__}"
        )
    main(Path(sys.argv[1]))
