"""Collect a company's Trustpilot reviews with Bright Data's web scraper API, and pay for them once.

    rows = collect(company_url, 100, work_dir / "snapshot.json", confirm_spend=True)

The journal says at every moment what was asked and which job answers it, so a rerun resumes that job.
Rows stay as the service sent them: parsing and cleaning them is the next stage's work.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from helpers import files
from helpers.brightdata_api import ENDED, UNANSWERED, CollectionFailed, Service, body_of, rows_of
from helpers.brightdata_api import StillCollecting as StillCollecting

DATASET_ID = "gd_lm5zmhwd2sni130p"  # Trustpilot reviews
USD_PER_1000_RECORDS = 1.50  # pay-as-you-go, from Bright Data's documentation; read in November 2026
PRICE_SOURCE = "Bright Data's documentation, November 2026"
CLOCK_SKEW = timedelta(minutes=10)  # how far this machine's clock may be ahead of the service's


class SpendNotConfirmed(RuntimeError):
    """A paid collection would start; the message says what it asks for and what it should cost."""


def expected_cost(max_reviews: int) -> float:
    """Price of `max_reviews` records in US dollars, before any free monthly allowance."""
    return max_reviews * USD_PER_1000_RECORDS / 1000


def check_company_url(url: str) -> str:
    """The company's page as `https://www.trustpilot.com/review/DOMAIN`; ValueError with the fix."""
    page = r"(https?://)?([a-z]{2,3}(-[a-z]{2})?\.)?trustpilot\.com/review/([\w-]+(\.[\w-]+)+)/?([?#].*)?"
    match = re.fullmatch(page, url.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(
            f"company_url = {url!r} is not a company's page on Trustpilot. Set it to an address like "
            "https://www.trustpilot.com/review/example.com"
        )
    return f"https://www.trustpilot.com/review/{match[4].lower()}"


def is_error_row(row: dict) -> bool:
    """True for a row about an input that could not be collected; it holds no review."""
    return bool(row.get("error") or row.get("error_code"))


def collect(
    company_url: str,
    max_reviews: int,
    journal_path: Path,
    *,
    dataset_id: str = DATASET_ID,
    confirm_spend: bool = False,
    poll_timeout_minutes: float = 60,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[dict]:
    """At most `max_reviews` reviews, each once, and every error row, as the service sent them.

    Only a question (url, max_reviews, dataset_id) that has no job yet is paid for. All rows received are
    kept in `<journal's stem>_rows.json`, those beyond `max_reviews` too.
    Raises ValueError, SpendNotConfirmed, CollectionFailed, StillCollecting, runtime.MissingSecret.
    """
    if not isinstance(max_reviews, int) or max_reviews < 1:
        raise ValueError(f"max_reviews = {max_reviews!r} must be a whole number, 1 or more")
    question = {"url": check_company_url(company_url), "max_reviews": max_reviews, "dataset_id": dataset_id}
    job, rows_path = _take_up(journal_path, question), _rows_path(journal_path)
    if not (job and job["state"] == "downloaded" and rows_path.exists()):
        _check_spend(question, job, confirm_spend)
        service = Service(journal_path, poll_timeout_minutes, sleep, clock)
        if job and job["state"] == "asked":
            job = _find_lost(service, job)
            _check_spend(question, job, confirm_spend)
        job = job or _trigger(service, question)
        print(f"Bright Data's job {job['snapshot_id']}: {question['url']}, at most {max_reviews} reviews")
        _wait_until_ready(service, job)
        rows = service.download(job["snapshot_id"])
        files.write_json(rows_path, rows)
        _save(journal_path, job, state="downloaded", rows=len(rows))
    rows = _read(rows_path)
    print(f"{len(rows)} rows (about ${expected_cost(len(rows)):.2f}, paid once) are kept in {rows_path}")
    return _cut(rows, max_reviews)


def cancel(journal_path: Path) -> None:
    """Stop the journal's job: one that nobody waits for still counts against the account's limit."""
    job = _read(journal_path)
    if job["state"] != "collecting":
        raise ValueError(f"{journal_path} has the state {job['state']!r}: there is no running job to cancel")
    service = Service(journal_path, 0, time.sleep, time.monotonic)
    response = service.request("POST", f"snapshot/{job['snapshot_id']}/cancel")
    if response.status_code != 200:
        raise service.refusal(response)
    _save(journal_path, job, state="canceled")


def _check_spend(question: dict, job: dict | None, confirm_spend: bool) -> None:
    if not job and not confirm_spend:
        raise SpendNotConfirmed(
            f"This asks Bright Data (dataset {question['dataset_id']}) for {question['url']}, capped at "
            f"{question['max_reviews']} reviews: about ${expected_cost(question['max_reviews']):.2f}, at "
            f"${USD_PER_1000_RECORDS:.2f} per 1,000 records ({PRICE_SOURCE}). "
            "To go ahead, set confirm_spend=True"
        )


def _rows_path(journal_path: Path) -> Path:
    return journal_path.with_name(f"{journal_path.stem}_rows.json")


def _read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def _save(journal_path: Path, job: dict, **changes: object) -> dict:
    files.write_json(journal_path, {**job, **changes})
    return {**job, **changes}


def _aside(journal_path: Path, question: dict) -> Path:
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    return journal_path.with_name(f"{journal_path.stem}-{digest[:8]}.json")


def _take_up(journal_path: Path, question: dict) -> dict | None:
    """The job of this question; another question's job and rows are put aside, to come back with it."""
    asked = _read(journal_path)["question"] if journal_path.exists() else None
    moves = [(_aside(journal_path, question), journal_path)] if asked != question else []
    if moves and asked:
        moves.insert(0, (journal_path, _aside(journal_path, asked)))
        print(f"Another question than before: the job for {asked['url']} is kept in {moves[0][1].name}")
    for source, target in moves:
        for old, new in ((_rows_path(source), _rows_path(target)), (source, target)):
            if source.exists() and old.exists():
                old.replace(new)
    job = _read(journal_path) if journal_path.exists() else None
    return None if job and job["state"] in ENDED else job


def _trigger(service: Service, question: dict) -> dict:
    """Start the paid job. Sent once, whatever comes back: a second one would be paid as well."""
    job = {"state": "asked", "question": question, "asked_at": datetime.now(UTC).isoformat()}
    files.write_json(service.journal_path, job)
    params = {"dataset_id": question["dataset_id"], "format": "json", "include_errors": "true"}
    params["limit_per_input"] = question["max_reviews"]
    try:
        response = service.request("POST", "trigger", params=params, json=[{"url": question["url"]}])
    except UNANSWERED as error:
        lost = type(error).__name__
    else:
        lost = service.said(response)
        if 400 <= response.status_code < 500 and response.status_code != 408:
            _save(service.journal_path, job, state="failed", message=lost)
            raise service.refusal(response, "Nothing was started and nothing is paid")
        started = re.search(r'"snapshot_id"\s*:\s*"([\w-]+)"', body_of(response))
        if response.ok and started:
            return _save(service.journal_path, job, state="collecting", snapshot_id=started[1])
    job = _find_lost(service, job)
    if job:
        return job
    raise CollectionFailed(
        f"The answer to the request for {question['url']} was lost ({lost}) and no such job is listed. "
        "Run this again in some minutes: it looks once more before it asks again"
    )


def _find_lost(service: Service, job: dict) -> dict | None:
    """The job whose id never arrived, found by its time and its url; None when the service has none."""
    asides = service.journal_path.parent.glob(f"{service.journal_path.stem}-{'[0-9a-f]' * 8}.json")
    known = {_read(aside).get("snapshot_id") for aside in asides}
    earliest = datetime.fromisoformat(job["asked_at"]) - CLOCK_SKEW
    for pause in (10, 20, None):  # a job asked for a moment ago may be listed late
        listing = rows_of(service.get("snapshots", dataset_id=job["question"]["dataset_id"]))
        for found in sorted(listing, key=lambda found: str(found.get("created")), reverse=True):
            ruled_out = found["id"] in known or found.get("status") in ENDED
            if ruled_out or not _since(found.get("created"), earliest):
                continue
            asked = rows_of(service.get(f"snapshot/{found['id']}/input"))
            if json.dumps(job["question"]["url"]) in json.dumps(asked):
                return _save(service.journal_path, job, state="collecting", snapshot_id=found["id"])
        if pause:
            service.wait(pause)
    return None


def _since(created: object, earliest: datetime) -> bool:
    try:
        moment = datetime.fromisoformat(created)
    except (TypeError, ValueError):
        return True  # no date that we know: rather look at what it asked than pay twice
    return moment.replace(tzinfo=moment.tzinfo or UTC) >= earliest


def _wait_until_ready(service: Service, job: dict) -> None:
    """Returns when the rows can be downloaded; a job that ended otherwise is never resumed."""
    report = service.poll(job["snapshot_id"])
    if report["status"] != "ready":
        said = service.hide(str(report.get("error_message") or report["status"]))
        _save(service.journal_path, job, state="failed", message=said)
        raise CollectionFailed(
            f"Bright Data's job {job['snapshot_id']} for {job['question']['url']} ended as "
            f"{report['status']}: {said}. Another run starts a new job, which is paid again"
        )


def _cut(rows: list[dict], max_reviews: int) -> list[dict]:
    """The error rows, and the first `max_reviews` reviews with each review_id once."""
    kept, seen, reviews = [], set(), 0
    for row in rows:
        if not is_error_row(row):
            review_id = row.get("review_id")
            if reviews == max_reviews or (review_id in seen and review_id is not None):
                continue
            seen.add(review_id)
            reviews += 1
        kept.append(row)
    return kept
