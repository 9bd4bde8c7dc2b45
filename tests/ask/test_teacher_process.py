"""A run of teacher.ask_all whose process is killed or interrupted, and the next run that goes on."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import teacher as benchmark
from helpers.ask import answers, teacher
from helpers.core import files
from tests.fakes.openai_api import FakeOpenAI

REPOSITORY = Path(__file__).parents[2]
KEY = "sk-fake-key"
KILLS = 20 if os.environ.get("ALL") else 4
IN_FLIGHT = 16
ASK = """
import signal, sys
from pathlib import Path
from helpers.ask import qa, teacher

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
requests = [teacher.Request(f"k{n}", "You are a teacher.", f"text {n}.") for n in range(int(sys.argv[2]))]
teacher.ask_all(requests, Path(sys.argv[1]), model="gpt-4o", response_model=qa.QAPairs, max_cost_usd=50,
                max_concurrency=int(sys.argv[3]))
"""


@pytest.fixture
def start(spawn):
    """Starts a process that asks a server `count` questions, with its journal at a path."""

    def start(server: FakeOpenAI, journal: Path, count: int) -> subprocess.Popen:
        settings = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY}
        return spawn(ASK, journal, count, IN_FLIGHT, cwd=journal.parent, **settings)

    return start


def finish(process: subprocess.Popen) -> str:
    said = process.communicate(timeout=120)[0]
    assert KEY not in said
    return said


def wait_for(server: FakeOpenAI, requests: int, process: subprocess.Popen) -> None:
    while len(server.asked) < requests and process.poll() is None:
        time.sleep(0.001)
    assert process.poll() is None, "it was through too early: enlarge the job"


def reported(said: str) -> int:
    found = re.search(r"in flight when the last run ended: (\d+)\.", said)
    return int(found[1]) if found else 0


def key_of(text: str) -> str:
    return text.replace("text ", "k").rstrip(".")


def test_kill_9_at_random_moments(start, tmp_path):
    """All that was handed over is in the journal, or was in flight: reported, counted, and paid again."""
    moments, journal, count = random.Random(9), tmp_path / "journal.jsonl", 40 * KILLS + 100
    in_flight, said = Counter(), []
    with FakeOpenAI(delay=0.02) as server:
        for _ in range(KILLS):
            process = start(server, journal, count)
            wait_for(server, len(server.asked) + moments.randint(1, 40), process)
            time.sleep(moments.random() * 0.03)
            process.kill()
            said.append(finish(process))
            killed = Counter(row["key"] for row in answers.read(journal)[1])
            assert len(killed) <= IN_FLIGHT
            missing = {key_of(text) for text in server.handed} - teacher.answered(journal).keys()
            assert missing <= killed.keys(), "an answer that was handed over is lost"
            in_flight += killed
        said.append(finish(start(server, journal, count)))
    assert len(teacher.answered(journal)) == count and in_flight
    assert sum(map(reported, said)) == in_flight.total(), "the user was not told how many"
    for text, times in Counter(body["messages"][1]["content"] for body in server.asked).items():
        assert times <= 1 + in_flight[key_of(text)], "asked again though its answer was there"
    found = teacher.summary(journal)
    assert found["lost"] == in_flight.total() and server.usd(2.5, 10.0) <= found["usd"]
    assert KEY not in journal.read_text()


def test_ctrl_c_keeps_what_is_in_flight(start, tmp_path):
    journal = tmp_path / "journal.jsonl"
    with FakeOpenAI(delay=0.3) as server:
        process = start(server, journal, 60)
        wait_for(server, 20, process)
        process.send_signal(signal.SIGINT)
        said = finish(process)
        assert process.returncode and "KeyboardInterrupt" in said
        asked = len(server.asked)
        assert len(teacher.answered(journal)) == len(server.billed) == asked < 60
        server.delay = 0
        assert not reported(finish(start(server, journal, 60)))
    assert len(server.asked) == len(server.billed) == len(teacher.answered(journal)) == 60
    assert {row["finish_reason"] for row in files.read_jsonl(journal)} == {"sent", "stop"}


def test_the_committed_figures_keep_what_was_promised():
    figures = json.loads((REPOSITORY / "benchmarks" / "teacher.json").read_text())
    rows = {row["scenario"]: row for row in figures["rows"]}
    assert set(rows) == set(benchmark.SCENARIOS)
    for row in rows.values():
        for ours in (run["ours"] for run in row["runs"]):
            assert ours["pairs"] + sum(ours["reasons"].values()) == row["chunks"] and not ours["paid_twice"]
    assert rows["600 chunks at 200 ms"]["times_faster"] >= 10
    assert rows["3000 a minute"]["runs"][0]["ours"]["share_of_limit"] >= 0.95
    assert (
        rows["80 chunks"]["runs"][0]["article"] | {"reported": 80, "pairs": 0}
        == (rows["80 chunks"]["runs"][0]["article"])
    )
    assert figures["budget"]["usd"] <= figures["budget_usd"] and figures["budget"]["journalled"]
