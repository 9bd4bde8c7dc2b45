"""The loopback twin of Bright Data's API answers as the wire facts say, for a person as for the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.fakes.brightdata import DATASET_ID, FakeBrightData

REPOSITORY = Path(__file__).parents[2]
URL = "https://www.trustpilot.com/review/example.com"


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeBrightData(key="right") as server:
        yield server


def ask(fake, method: str, path: str, key: str | None = "Bearer right", **options) -> requests.Response:
    headers = {"Authorization": key} if key else {}
    return requests.request(method, f"{fake.url}/datasets/v3/{path}", headers=headers, timeout=10, **options)


@pytest.mark.parametrize(
    "key, said",
    [
        (None, "Credentials are missing"),
        ("Basic abc", "Auth method is not supported"),
        ("Bearer wrong", "Invalid credentials"),
    ],
)
def test_401_is_plain_text(fake, key, said):
    answer = ask(fake, "GET", "progress/x", key)
    assert (answer.status_code, answer.text) == (401, said)
    assert answer.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize(
    "dataset, body, status, said",
    [
        (DATASET_ID, '[{"url": "u", "field": 1}]', 400, "This input should not contain a field field"),
        (DATASET_ID, '[{"url": "u"}, {}]', 400, '"index": 2, "errors": [["url", "Required field"]]'),
        (DATASET_ID, "[", 400, '"code": "parse_error"'),
        (DATASET_ID, "[]", 400, "No data to trigger"),
        ("gd_other", '[{"url": "u"}]', 404, "dataset does not exist"),
        (DATASET_ID, '[{"url": "u"}]', 200, '{"snapshot_id": "sd_fake0000"}'),
        (DATASET_ID, '{"input": [{"url": "u"}]}', 200, "snapshot_id"),
        (DATASET_ID, '{"url": "u", "num_of_reviews_limit": 5}', 200, "snapshot_id"),
        (DATASET_ID, '{"input": [{"url": "u"}], "limit_per_input": 2}', 200, "snapshot_id"),
    ],
)
def test_triggers_are_validated(fake, dataset, body, status, said):
    answer = ask(fake, "POST", "trigger", params={"dataset_id": dataset}, data=body)
    assert answer.status_code == status and said in answer.text
    assert len(fake.jobs) == (status == 200)


def test_a_job_from_start_to_end(fake):
    fake.polls_until_ready, fake.reviews, fake.least_batch = 3, 25, 10
    name = fake.start([{"url": URL}], {"limit_per_input": "22"})
    states = [ask(fake, "GET", f"progress/{name}").json()["status"] for _ in range(3)]
    assert states == ["starting", "running", "digesting"]
    done = ask(fake, "GET", f"progress/{name}").json()
    assert done["status"] == "ready" and done["records"] == 22 and done["errors"] == 0
    rows = ask(fake, "GET", f"snapshot/{name}?format=json").json()
    assert len(rows) == 22 and all("review_id" in row for row in rows)
    assert ask(fake, "GET", f"snapshot/{name}?format=json&compress=true").json() == rows
    lines = ask(fake, "GET", f"snapshot/{name}").content.decode().split("\n")
    assert len(lines) == 22
    table = ask(fake, "GET", f"snapshot/{name}?format=csv").content.decode()
    assert table.startswith("company_logo,") and table.count("sd_fake") == 0 and table.count("\r\n") == 23
    assert ask(fake, "GET", f"snapshot/{name}/parts?format=json&batch_size=10").json() == {"parts": 3}
    parts = [ask(fake, "GET", f"snapshot/{name}?format=json&batch_size=10&part={n}") for n in (1, 2, 3, 4)]
    assert [row for part in parts[:3] for row in part.json()] == rows and parts[3].status_code == 400
    assert ask(fake, "GET", f"snapshot/{name}?format=json&batch_size=9&part=1").status_code == 400
    assert ask(fake, "GET", f"snapshot/{name}/input").json() == [{"url": URL}]
    (listed,) = ask(fake, "GET", "snapshots").json()
    assert set(listed) == {"id", "created", "status", "dataset_id", "dataset_size"}
    assert fake.rows_sent == 22 * 4 + 22


@pytest.mark.parametrize("query, body", [("", 2), ("&limit_per_input=2", None), ("&limit_per_input=9", 2)])
def test_the_cap_is_taken_from_the_body_or_the_query(fake, query, body):
    asked = {"input": [{"url": URL}], **({"limit_per_input": body} if body else {})}
    ask(fake, "POST", f"trigger?dataset_id={DATASET_ID}{query}", json=asked)
    assert len(fake.rows("sd_fake0000")) == 2


def test_a_job_that_is_not_ready_and_what_is_unknown(fake):
    name = fake.start([{"url": URL}], {})
    assert ask(fake, "GET", f"snapshot/{name}").status_code == 202
    for path in ("progress/sd_none", "snapshot/sd_none", "snapshot/sd_none/input"):
        assert ask(fake, "GET", path).text == "Snapshot does not exist"


def test_a_person_can_start_it_with_faults():
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.fakes.brightdata",
            "--port",
            "0",
            "--fault",
            "500",
            "--fault",
            "shuffled",
        ],
        cwd=REPOSITORY,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip().removeprefix("BRIGHTDATA_BASE_URL=")
        answer = requests.get(
            f"{url}/datasets/v3/progress/x",
            headers={"Authorization": "Bearer any"},
            timeout=10,
            proxies={"http": None},
        )
        assert (answer.status_code, answer.text) == (500, "Internal server error")
    finally:
        process.kill()
        process.wait()
