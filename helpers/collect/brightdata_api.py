"""The wire to Bright Data's datasets API (v3): signed requests, retries, waits, and bodies of any shape.

It knows no question and no journal of answers: that is `brightdata`, the only module that uses it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
from tqdm import tqdm

from helpers.core import files, runtime

BACK_OFF = (2, 4, 8, 16, 32)  # seconds
MOST_429, WINDOW = 24, 301  # in so many seconds; 25 answers of 429 within 5 minutes get the IP blocked
LIMIT_FIELD = "num_of_reviews_limit"  # of the input: accepted, and followed roughly
PAGE = 1000  # jobs a listing, the service's own default
ENDED = {"failed", "canceled", "cancelled", "error"}  # any status but these and "ready": still working
UNANSWERED = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


class CollectionFailed(RuntimeError):
    """The service refused or ended the collection, or did not answer; the message says which."""


class StillCollecting(TimeoutError):
    """The time-out has passed while the job goes on at the service; another run resumes it."""


class Service:
    """One run's talk with the service. Every wait ends before the run's deadline, `minutes` from now."""

    def __init__(self, journal_path: Path, minutes: float, sleep: Callable, clock: Callable) -> None:
        self.key = runtime.secret("BRIGHTDATA_API_KEY")
        if not re.fullmatch("[!-~]+", self.key):  # requests would repeat such a key in its own error
            raise ValueError("BRIGHTDATA_API_KEY holds a space or another sign no key has; copy it again")
        self.base = (os.environ.get("BRIGHTDATA_BASE_URL") or "https://api.brightdata.com").rstrip("/")
        self.journal_path, self.sleep, self.clock = journal_path, sleep, clock
        self.deadline = clock() + 60 * minutes
        self.bar = tqdm(disable=True)

    def show_progress(self) -> tqdm:
        """A bar for a `with` block: the service's own word for the job's state, rows, elapsed time."""
        shape = "Bright Data: {desc} {bar:20} {n_fmt}/{total_fmt} rows [{elapsed}{postfix}]"
        self.bar = tqdm(desc="asking", bar_format=shape, file=sys.stderr)
        return self.bar

    def trigger(self, dataset_id: str, url: str, limit: int) -> requests.Response:
        """Ask for a company's reviews, `limit` at most. Sent again only after answers that start nothing."""
        params = {"dataset_id": dataset_id, "format": "json", "include_errors": "true"}
        params["limit_per_input"] = limit
        body = {"url": url, LIMIT_FIELD: limit}
        for pause in (*BACK_OFF, None):
            response = self.request("POST", "trigger", params=params, json=[body])
            if response.status_code == 400 and LIMIT_FIELD in body and LIMIT_FIELD in body_of(response):
                del body[LIMIT_FIELD]  # no longer known, and one unknown field fails the whole call
            elif response.status_code == 429 and pause:  # too many running jobs
                self.bar.set_description_str(self.said(response)[:60])
                self.wait(asked_pause(response) or pause)
            else:
                break
        return response

    def progress(self, snapshot_id: str) -> dict:
        """The service's report on a job, its `status` in lower case."""
        _, reports = self.get(f"progress/{snapshot_id}", accept=(200, 202))
        report = reports[0] if reports else {}
        return {**report, "status": str(report.get("status")).lower()}

    def poll(self, snapshot_id: str) -> dict:
        """The report on a job once it is "ready" or ENDED."""
        pause = 2.0
        while True:
            report = self.progress(snapshot_id)
            self.bar.set_description_str(report["status"])
            if report["status"] == "ready" or report["status"] in ENDED:
                return report
            self.wait(pause)
            pause = min(1.5 * pause, 30)

    def parts(self, snapshot_id: str, batch_size: int) -> int:
        """How many parts of `batch_size` rows (1000 or more) a finished job has."""
        found = self.built(f"snapshot/{snapshot_id}/parts", batch_size=batch_size)
        return int(found[0]["parts"]) if found else 0

    def download(self, snapshot_id: str, **part: int) -> list[dict]:
        """The rows of a finished job: all of them, or those of one part (`batch_size`, `part` from 1)."""
        return self.built(f"snapshot/{snapshot_id}", **part)

    def built(self, path: str, **params: int) -> list[dict]:
        """A finished job's rows. Waits on where a job that was reported as ready is still "building"."""
        pauses = iter(BACK_OFF)
        while True:
            response, rows = self.get(path, accept=(200, 202, 400, 409), format="json", **params)
            if response.status_code == 400 and body_of(response).strip() != "Snapshot is empty":
                raise self.refusal(response)
            if response.status_code in (200, 400):
                if len(rows) != 1 or rows[0].keys() & {"input", "url", "review_id", "parts"}:
                    return rows
                if "status" not in rows[0] or rows[0]["status"] in ENDED:  # one object, but no record
                    raise self.refusal(response)
            self.wait(asked_pause(response) or next(pauses, BACK_OFF[-1]))

    def snapshots(self, dataset_id: str) -> Iterator[dict]:
        """The account's jobs of a data set: {id, created, status, dataset_id, dataset_size}, in pages."""
        page, seen = [{}] * PAGE, 0
        while len(page) >= PAGE:
            _, page = self.get("snapshots", dataset_id=dataset_id, limit=PAGE, skip=seen)
            seen += len(page)
            yield from page

    def inputs(self, snapshot_id: str) -> list[dict]:
        """What a job was asked for."""
        return self.get(f"snapshot/{snapshot_id}/input")[1]

    def cancel(self, snapshot_id: str) -> None:
        response = self.request("POST", f"snapshot/{snapshot_id}/cancel")
        if response.status_code != 200:
            raise self.refusal(response)

    def request(self, method: str, path: str, **options) -> requests.Response:
        """One request, sent once. Raises requests' own errors; an error status is the caller's to judge."""
        refused = self._recent_429()
        if len(refused) >= MOST_429:
            self.wait(refused[-MOST_429] + WINDOW - self.clock())
        response = requests.request(
            method,
            f"{self.base}/datasets/v3/{path}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=(10, 120),
            allow_redirects=method == "GET",  # a redirected POST would be sent again, or become a GET
            **options,
        )
        if response.status_code == 429:
            files.write_json(self._path_429(), [*self._recent_429(), self.clock()])
        return response

    def _path_429(self) -> Path:
        """When the service said 429, in a file: a restarted run must not begin to count anew."""
        return self.journal_path.with_name(f"{self.journal_path.stem}_429.json")

    def _recent_429(self) -> list[float]:
        path, now = self._path_429(), self.clock()
        times = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return sorted(time for time in times if abs(now - time) < WINDOW)  # a clock may have been set

    def get(self, path: str, accept: tuple[int, ...] = (200,), **params) -> tuple[requests.Response, list]:
        """An answer in `accept` and, for 200, its rows. CollectionFailed for other answers but these:

        429 is waited out until the deadline; 5xx, network errors and half bodies are tried six times.
        """
        failures = 0
        for pause in _for_ever(BACK_OFF):
            try:
                response = self.request("GET", path, params=params)
                if response.status_code in accept:
                    rows = rows_of(response) if response.status_code == 200 else []
                    self.bar.set_postfix_str("", refresh=False)
                    return response, rows
            except (*UNANSWERED, NotRows) as error:
                trouble = str(error) if isinstance(error, NotRows) else type(error).__name__
            else:
                if response.status_code != 429 and response.status_code < 500:
                    raise self.refusal(response)
                trouble, pause = self.said(response), asked_pause(response) or pause
                failures -= response.status_code == 429
            failures += 1
            if failures > len(BACK_OFF):
                raise CollectionFailed(
                    f"GET {self.base}/datasets/v3/{path} failed {failures} times, at last with: {trouble}. "
                    f"Nothing is lost; run this again to go on from {self.journal_path}"
                )
            self.bar.set_postfix_str(f"{trouble[:60]}; again in {pause:.0f} s")
            self.wait(pause)

    def wait(self, seconds: float) -> None:
        """Sleep, or raise StillCollecting at once when that would pass the deadline."""
        if self.clock() + seconds > self.deadline:
            raise StillCollecting(
                "poll_timeout_minutes is over; a job that was started continues at Bright Data, and so does "
                "its charge. Run this again to resume it, or stop it with brightdata.cancel(Path("
                f"{str(self.journal_path)!r}))"
            )
        self.sleep(seconds)

    def hide(self, text: str) -> str:
        return text.replace(self.key, "[BRIGHTDATA_API_KEY]")

    def said(self, response: requests.Response) -> str:
        """The status and the text of an answer, for a message."""
        return f"{response.status_code} {self.hide(body_of(response)).strip()[:500]}"

    def refusal(self, response: requests.Response, fix: str = "") -> CollectionFailed:
        fix = fix or f"If its job is gone for good, delete {self.journal_path}; a new job is paid again"
        if response.status_code == 401:
            fix = "Check BRIGHTDATA_API_KEY: it is wrong, expired or another account's"
        return CollectionFailed(f"Bright Data answered {self.said(response)}. {fix}")


class NotRows(ValueError):
    """A body is something else than records, such as a proxy's HTML page or half an array."""


def _for_ever(pauses: tuple[float, ...]) -> Iterator[float]:
    yield from pauses
    while True:
        yield pauses[-1]


def body_of(response: requests.Response) -> str:
    """The body as UTF-8; `response.text` would guess where the header names no charset."""
    return response.content.decode("utf-8-sig", errors="replace")


def asked_pause(response: requests.Response) -> float | None:
    """Seconds the service asks to wait: Retry-After as a number or a date, or "try again in 30s"."""
    header = response.headers.get("Retry-After", "").strip()
    said = re.fullmatch(r"(\d+)", header) or re.search(r"try again in (\d+) ?s", body_of(response))
    if said:
        return max(1.0, float(said[1]))
    try:
        return max(1.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def rows_of(response: requests.Response) -> list[dict]:
    """The objects of a body: a JSON array, one object, one object a line, or nothing. Raises NotRows."""
    body = body_of(response).strip()
    if body in ("", "Snapshot is empty"):
        return []
    try:
        try:
            rows = json.loads(body)
        except json.JSONDecodeError:  # lines end with \n only: a review may hold other line separators
            rows = [json.loads(line) for line in body.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise NotRows(f"Bright Data's answer is not JSON ({error})") from None
    rows = rows if isinstance(rows, list) else [rows]
    if not all(isinstance(row, dict) for row in rows):
        raise NotRows("Bright Data's answer is not a list of records")
    return rows
