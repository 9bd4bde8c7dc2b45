"""The wire to Bright Data's datasets API (v3): signed requests, retries, waits, and bodies of any shape.

It knows no question and no journal of answers: that is `brightdata`, the only module that uses it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
from tqdm import tqdm

from helpers import runtime

BACK_OFF = (2, 4, 8, 16, 32)  # seconds; 25 answers of 429 within 5 minutes get the IP blocked
ENDED = {"failed", "canceled", "cancelled", "error"}  # any status but these and "ready": still working
UNANSWERED = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


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

    def request(self, method: str, path: str, **options) -> requests.Response:
        """One request, sent once. Raises requests' own errors; an error status is the caller's to judge."""
        return requests.request(
            method,
            f"{self.base}/datasets/v3/{path}",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=(10, 120),
            allow_redirects=method == "GET",  # a redirected POST would be sent again, or become a GET
            **options,
        )

    def get(self, path: str, accept: tuple[int, ...] = (200,), **params: str) -> requests.Response:
        """GET, tried again after 429, 5xx and network errors; CollectionFailed unless in `accept`."""
        for pause in (*BACK_OFF, None):
            try:
                response = self.request("GET", path, params=params)
            except UNANSWERED as error:
                trouble = type(error).__name__
            else:
                if response.status_code in accept:
                    return response
                if response.status_code != 429 and response.status_code < 500:
                    raise self.refusal(response)
                trouble, pause = self.said(response), pause and (asked_pause(response) or pause)
            if pause:
                self.wait(pause)
        raise CollectionFailed(
            f"GET {self.base}/datasets/v3/{path} failed {len(BACK_OFF) + 1} times, at last with: {trouble}. "
            f"Nothing is lost; run this again to go on from {self.journal_path}"
        )

    def poll(self, snapshot_id: str) -> dict:
        """The service's report on a job that is "ready" or ENDED, its `status` in lower case."""
        pause = 2.0
        with tqdm(bar_format="{desc} [{elapsed}]", file=sys.stderr) as bar:
            while True:
                reports = rows_of(self.get(f"progress/{snapshot_id}", accept=(200, 202)))
                report = reports[0] if reports else {}
                status = str(report.get("status")).lower()
                bar.set_description_str(f"Bright Data: {status}")
                if status == "ready" or status in ENDED:
                    return {**report, "status": status}
                self.wait(pause)
                pause = min(1.5 * pause, 30)

    def download(self, snapshot_id: str) -> list[dict]:
        """Every row of a job. Waits on where a job that was reported as ready is still "building"."""
        pauses = iter(BACK_OFF)
        while True:
            response = self.get(f"snapshot/{snapshot_id}", accept=(200, 202, 400, 409), format="json")
            if response.status_code == 400 and body_of(response).strip() != "Snapshot is empty":
                raise self.refusal(response)
            if response.status_code in (200, 400):
                rows = rows_of(response)
                if len(rows) != 1 or rows[0].keys() & {"input", "url", "review_id"}:
                    return rows
                if "status" not in rows[0] or rows[0]["status"] in ENDED:  # one object, but no record
                    raise self.refusal(response)
            self.wait(asked_pause(response) or next(pauses, BACK_OFF[-1]))

    def wait(self, seconds: float) -> None:
        """Sleep, or raise StillCollecting at once when that would pass the deadline."""
        if self.clock() + seconds > self.deadline:
            raise StillCollecting(
                "poll_timeout_minutes is over; the job continues at Bright Data, and so does its charge. "
                f"Run this again to resume it, or stop it with cancel(Path({str(self.journal_path)!r}))"
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
    """The objects of a body: a JSON array, one object, one object a line, or nothing.

    Raises CollectionFailed when it is something else, such as a proxy's HTML page or half an array.
    """
    body = body_of(response).strip()
    if body in ("", "Snapshot is empty"):
        return []
    try:
        try:
            rows = json.loads(body)
        except json.JSONDecodeError:  # lines end with \n only: a review may hold other line separators
            rows = [json.loads(line) for line in body.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise CollectionFailed(f"Bright Data's answer is not JSON ({error}). Run this again") from None
    rows = rows if isinstance(rows, list) else [rows]
    if not all(isinstance(row, dict) for row in rows):
        raise CollectionFailed("Bright Data's answer is not a list of records. Run this again")
    return rows
