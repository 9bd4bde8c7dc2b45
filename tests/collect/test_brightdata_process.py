"""A collection whose process is killed, interrupted, out of disk or given a very large result."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks import collect_faults, collect_memory
from helpers.core import files
from tests.fakes.brightdata import FAULTS, FakeBrightData

REPOSITORY = Path(__file__).parents[2]
URL = "https://www.trustpilot.com/review/example.com"
KEY = "test-key-5f1d0c"
COLLECT = """
import resource, signal, sys, time
from pathlib import Path
from helpers.collect import brightdata
from helpers.core import files

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
folder, url, most_bytes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if most_bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
brightdata.PART_ROWS = 20
wait = time.sleep
time.sleep = lambda seconds: wait(seconds / 500)
rows = brightdata.collect(url, 600, folder / "snapshot.json", confirm_spend=True)
files.write_jsonl(folder / "out.jsonl", list(rows))
"""


@pytest.fixture
def start(spawn):
    """Starts a process that collects from a server into a folder."""

    def start(fake: FakeBrightData, folder: Path, most_bytes: int = 0) -> subprocess.Popen:
        folder.mkdir(exist_ok=True)
        settings = {"BRIGHTDATA_BASE_URL": fake.url, "BRIGHTDATA_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
        return spawn(COLLECT, folder, URL, most_bytes, **settings)

    return start


def finish(process: subprocess.Popen) -> str:
    said = process.communicate(timeout=60)[0]
    assert KEY not in said
    return said


def written(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert not [name for name, content in found.items() if KEY.encode() in content]
    return {name: content for name, content in found.items() if name != "snapshot.json"}


def server() -> FakeBrightData:
    return FakeBrightData(key=KEY, reviews=600, polls_until_ready=12, least_batch=1, seconds=0.01)


def test_kill_9_at_20_random_moments(start, tmp_path):
    """One trigger, and in the end the same files as without a kill."""
    with server() as undisturbed:
        finish(start(undisturbed, tmp_path / "undisturbed"))
    moments = random.Random(20)
    killed_in = []
    with server() as fake:
        while len(killed_in) < 20:
            process, seen = start(fake, tmp_path / "killed"), len(fake.requests)
            requests = moments.randint(1, 4)
            while len(fake.requests) < seen + requests and process.poll() is None:
                time.sleep(0.001)
            time.sleep(moments.random() * 0.03)
            assert process.poll() is None, "it was through before it was killed 20 times: enlarge the job"
            process.kill()
            process.wait()
            journal = tmp_path / "killed" / "snapshot.json"
            killed_in.append(json.loads(journal.read_text())["state"] if journal.exists() else "nothing")
        finish(start(fake, tmp_path / "killed"))
        assert fake.triggers == 1
    assert {"collecting", "ready"} <= set(killed_in)
    partial = {name for name in written(tmp_path / "killed") if "/." in name or name.startswith(".")}
    result = {name: content for name, content in written(tmp_path / "killed").items() if name not in partial}
    assert result == written(tmp_path / "undisturbed")
    assert len(files.read_jsonl(tmp_path / "killed" / "out.jsonl")) == 600


def test_ctrl_c_keeps_the_job_for_the_next_run(start, tmp_path):
    with server() as fake:
        fake.polls_until_ready = 10**6
        process = start(fake, tmp_path)
        while not any("progress" in request for request in fake.requests):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in finish(process)
        fake.polls_until_ready = 0
        finish(start(fake, tmp_path))
        assert fake.triggers == 1 and len(files.read_jsonl(tmp_path / "out.jsonl")) == 600


def test_a_disk_that_is_full_names_the_fix_and_the_next_run_goes_on(start, tmp_path):
    """RLIMIT_FSIZE: no file may grow beyond 12 kB, and a part of 20 rows is larger."""
    with server() as fake:
        process = start(fake, tmp_path, most_bytes=12_000)
        said = finish(process)
        assert (
            process.returncode
            and "is as it was. Is the disk full? Free some space or change work_dir" in said
        )
        assert not list((tmp_path / "snapshot_rows").iterdir())
        finish(start(fake, tmp_path))
        assert fake.triggers == 1 and len(files.read_jsonl(tmp_path / "out.jsonl")) == 600


def test_a_large_result_needs_little_memory():
    """The whole 100,000 rows with ALL=1 in the environment; the figure is in benchmarks/."""
    found = collect_memory.measure(100_000 if os.environ.get("ALL") else 20_000)
    assert found["rows"] == found["asked"] and found["bytes_a_row"] > 1400
    assert found["peak_mib"] < 150 and found["peak_mib_as_a_list"] < collect_memory.LIMIT_MIB, found


def test_the_committed_figures_are_of_these_faults():
    figures = json.loads((REPOSITORY / "benchmarks" / "collect_faults.json").read_text())
    assert {row["fault"] for row in figures["rows"]} == {
        *FAULTS,
        *collect_faults.MORE,
    } - collect_faults.LEFT_OUT
    assert figures["survived"]["ours"] == figures["faults"] == len(figures["rows"])
    memory = json.loads((REPOSITORY / "benchmarks" / "collect_memory.json").read_text())
    assert memory["within"] and memory["rows"] == 100_000
