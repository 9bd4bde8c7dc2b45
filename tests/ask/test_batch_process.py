"""A batch whose process is killed or interrupted: the same call goes on, and nothing is paid twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from helpers.core import files
from tests.ask.test_batch import KEY
from tests.fakes.openai_batches import FakeBatches

REPOSITORY = Path(__file__).parents[2]
ASK = """
import signal, sys
from pathlib import Path
from helpers.ask import batch
from tests.ask.test_batch import Pairs, some

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
batch.LISTED_LATE = (0, 0.01)
options = {"model": "gpt-4o", "response_model": Pairs, "max_cost_usd": 5.0}
answers = batch.ask_all(some(60), Path(sys.argv[1]) / "qa_journal.jsonl", poll_seconds=0.02, **options)
print(len(answers), "answers")
"""


@pytest.fixture
def start(spawn):
    """Starts a process that asks 60 requests of a server, with its journal in a folder."""

    def start(server: FakeBatches, folder: Path) -> subprocess.Popen:
        settings = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY}
        return spawn(ASK, folder, cwd=folder, **settings)

    return start


def finish(process: subprocess.Popen) -> str:
    said = process.communicate(timeout=120)[0]
    assert KEY not in said
    return said


def check(server: FakeBatches, folder: Path, said: str) -> None:
    """One batch, each request carried out and charged once, and in the journal once."""
    assert "60 answers" in said, said
    assert server.log.count("POST /v1/batches") == len(server.batches) == 1
    rows = files.read_jsonl(folder / "qa_journal.jsonl")
    assert len(rows) == len({row["key"] for row in rows}) == len(server.billed) == 60
    assert set(server.billed.values()) == {1}
    assert sum(row["cost_usd"] for row in rows) == pytest.approx(server.usd(2.5, 10.0))


@pytest.mark.parametrize("moment", [
    "POST /v1/files",  # uploaded, not yet started
    "POST /v1/batches",  # started, its id never arrived
    "GET /v1/batches/{id}",  # under way
    "GET /v1/files/{id}/content",  # ended, nothing journaled
])  # fmt: skip
def test_kill_9_after_the_server_did_it_and_before_its_answer_arrived(start, tmp_path, moment):
    with FakeBatches(faults={moment: ["hold"]}) as server:
        process = start(server, tmp_path)
        assert server.held.wait(60)
        process.kill()
        process.wait()
        server.release.set()
        check(server, tmp_path, finish(start(server, tmp_path)))


def test_kill_9_at_random_moments(start, tmp_path):
    moments, states = random.Random(4), []
    with FakeBatches(looks=4) as server:
        while len(states) < 10:
            process, seen = start(server, tmp_path), len(server.log)
            requests = moments.randint(1, 3)
            while len(server.log) < seen + requests and process.poll() is None:
                time.sleep(0.0005)
            time.sleep(moments.random() * 0.02)
            assert process.poll() is None, "it was through before it was killed: raise looks"
            process.kill()
            process.wait()
            path = tmp_path / "qa_batches.json"
            states.append(json.loads(path.read_text())[0]["state"] if path.exists() else "nothing")
        check(server, tmp_path, finish(start(server, tmp_path)))
    assert {"asked", "running"} & set(states) and "done" not in states


def test_a_journal_torn_by_a_kill_gets_the_rest_and_nothing_twice(start, tmp_path):
    """As a kill in the middle of the one write of a batch's answers leaves it."""
    journal, state = tmp_path / "qa_journal.jsonl", tmp_path / "qa_batches.json"
    with FakeBatches() as server:
        finish(start(server, tmp_path))
        whole = journal.read_bytes()
        journal.write_bytes(whole[: len(whole) // 2])
        state.write_text(state.read_text().replace('"done"', '"running"'))
        check(server, tmp_path, finish(start(server, tmp_path)))


def test_ctrl_c_leaves_the_batch_running_and_names_it(start, tmp_path):
    with FakeBatches() as server:
        server.move = lambda batch: batch | {"status": "in_progress"}
        process = start(server, tmp_path)
        while server.log.count("GET /v1/batches/{id}") < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = finish(process)
        assert process.returncode and "KeyboardInterrupt" in said
        assert "batch_0: 60 requests" in said and "goes on at OpenAI, also when you interrupt this" in said
        del server.move
        check(server, tmp_path, finish(start(server, tmp_path)))
