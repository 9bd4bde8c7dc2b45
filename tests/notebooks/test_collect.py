"""Notebook 01 collects from Bright Data's loopback twin, through every trouble that clients met.

No row is lost, none comes twice, nothing is triggered twice, and the key is in nothing that was written.
The function that the notebook calls meets every trouble in tests/collect; the notebook itself meets those that
change what its reader sees, and with ALL=1 every one.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import papermill
import pytest

from helpers.core import files, workdir
from tests import kernels
from tests.conftest import ALL, REPOSITORY
from tests.fakes.brightdata import FAULTS, with_faults

NOTEBOOK = REPOSITORY / "notebooks" / "01_collect_reviews.ipynb"
KEY = "test-key-5f1d0c"
URL = "https://www.trustpilot.com/review/example.com"
ASKED = 60

# The faults that end a collection, with what the reader is told; all others are survived.
ENDS = {
    "failed": "ended as failed: Account is suspended",
    "canceled": "ended as canceled",
    "expired": "400 Snapshot is expired.*a new job is paid again",
    "no-rows": "No review could be read",
    "no-such-company": "No review could be read",
    "snapshot-is-empty": "No review could be read",
    "empty-body": "0 rows, where Bright Data counted 60",
    "429-trigger": "too many running jobs.*nothing is paid",
    "limit-field-unknown": "num_of_reviews_limit field.*nothing is paid",
}
SURVIVED = FAULTS.keys() - ENDS.keys()
if not ALL:
    SURVIVED &= {"none", "dropped", "lost-trigger", "fewer-rows", "error-rows", "limit-ignored"}
    ENDS = {fault: ENDS[fault] for fault in ("failed", "no-such-company", "snapshot-is-empty")}


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Starts the twin with named faults; kernels find it, and do not sleep through their waits."""
    patient = "import time\nsleep = time.sleep\ntime.sleep = lambda seconds: sleep(min(seconds, 0.05))\n"
    kernels.start_up(monkeypatch, tmp_path / "ipython", patient)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("BRIGHTDATA_API_KEY", KEY)
    with contextlib.ExitStack() as running:

        def start(*faults: str, **settings):
            fake = running.enter_context(with_faults(list(faults), key=KEY, **settings))
            monkeypatch.setenv("BRIGHTDATA_BASE_URL", fake.url)
            return fake

        yield start


def run(tmp_path: Path, **parameters) -> list[dict]:
    """The reviews that the real notebook wrote. Whatever happened, no file holds the key."""
    asked = {"source": "brightdata", "company_url": URL, "max_reviews": ASKED, "confirm_spend": True}
    try:
        papermill.execute_notebook(
            str(NOTEBOOK),
            str(tmp_path / "out.ipynb"),
            parameters={"work_dir": str(tmp_path / "work"), **asked, **parameters},
            cwd=str(REPOSITORY),
            progress_bar=False,
            execution_timeout=300,
        )
    finally:
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert written and not [path for path in written if KEY.encode() in path.read_bytes()]
    assert workdir.is_finished(tmp_path / "work", "01_collect_reviews")
    return files.read_jsonl(tmp_path / "work" / "reviews.jsonl")


def ids(rows: list[dict]) -> Counter:
    return Counter(row["review_id"] for row in rows)


@pytest.mark.parametrize("fault", sorted(SURVIVED))
def test_a_fault_is_survived(server, tmp_path, fault):
    fake = server(fault, retry_in=2, polls_until_ready=3)
    found = run(tmp_path)
    held = {row["review_id"] for row in fake.rows("sd_fake0000") if "review_id" in row}
    expected = sorted(held, key=lambda name: int(name.rpartition("-")[2]))
    if fault == "fewer-rows":
        assert "counted 60 records and delivered 54" in (tmp_path / "out.ipynb").read_text()
        expected = [name for number, name in enumerate(expected) if number % 10 != 9]
    if fault == "limit-ignored":
        assert len(held) == 90
        expected = expected[:ASKED]
    assert ids(found) == Counter(expected)
    assert len(fake.jobs) == fake.triggers == 1
    rejected = files.read_jsonl(tmp_path / "work" / "rejected.jsonl")
    assert len(rejected) == len([row for row in fake.rows("sd_fake0000") if "error" in row])
    seen = len(fake.requests)
    assert ids(run(tmp_path, confirm_spend=False)) == Counter(expected)
    assert len(fake.requests) == seen  # the rerun reads the rows it has paid for


@pytest.mark.parametrize("fault", sorted(ENDS))
def test_a_collection_that_ends_says_why(server, tmp_path, fault):
    fake = server(fault)
    with pytest.raises(papermill.PapermillExecutionError, match=f"(?s){ENDS[fault]}"):
        run(tmp_path)
    assert fake.triggers == 1 and not (tmp_path / "work" / "reviews.jsonl").exists()
    shown = (tmp_path / "out.ipynb").read_text()
    assert ("the service reports an error" in shown and "dead_page" in shown) == (fault == "no-such-company")
    assert ("found no reviews" in shown) == (fault in ("no-rows", "snapshot-is-empty"))
    with pytest.raises(papermill.PapermillExecutionError):
        run(tmp_path, confirm_spend=False)
    assert fake.triggers == 1  # nothing is paid again unasked


def test_a_time_out_says_how_to_go_on_and_the_next_run_does(server, tmp_path):
    fake = server(polls_until_ready=10**6)
    with pytest.raises(
        papermill.PapermillExecutionError,
        match="(?s)again to resume it, or cancel it in Bright Data's control",
    ):
        run(tmp_path, poll_timeout_minutes=0.1)
    fake.polls_until_ready = 0
    assert len(run(tmp_path, confirm_spend=False)) == ASKED and fake.triggers == 1


@pytest.mark.parametrize(
    "trouble, said",
    [
        ("no key", "BRIGHTDATA_API_KEY is not set"),
        ("wrong key", "401 Invalid credentials. Check BRIGHTDATA_API_KEY"),
        ("no page", "company_url = 'https://example.com' is not a company's page on Trustpilot"),
        ("unconfirmed", r"capped at 60 reviews: about \$0.09.*November 2026.*confirm_spend=True"),
    ],
)
def test_what_stops_before_anything_is_paid(server, tmp_path, monkeypatch, trouble, said):
    fake = server()
    if trouble == "no key":
        monkeypatch.delenv("BRIGHTDATA_API_KEY")
    fake.key = "another" if trouble == "wrong key" else KEY
    changes = {"no page": {"company_url": "https://example.com"}, "unconfirmed": {"confirm_spend": False}}
    with pytest.raises(papermill.PapermillExecutionError, match=f"(?s){said}"):
        run(tmp_path, **changes.get(trouble, {}))
    assert fake.triggers == 0 and fake.jobs == {}
