"""Collect a company's Trustpilot reviews with Bright Data's web scraper API, and pay for them once.

    rows = collect(company_url, 100, work_dir / "snapshot.json", confirm_spend=True)

The journal says at every moment what was asked and which job answers it, so a rerun resumes that job.
Rows stay as the service sent them: parsing and cleaning them is the next stage's work.

The cap is sent twice: as the query's `limit_per_input`, which is documented but was ignored on other data
sets, and as the input's `num_of_reviews_limit`, which this one follows roughly. It is also kept here.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from helpers.collect.brightdata_api import ENDED, LIMIT_FIELD, UNANSWERED, CollectionFailed, Service, body_of
from helpers.collect.brightdata_api import StillCollecting as StillCollecting
from helpers.core import files

DATASET_ID = "gd_lm5zmhwd2sni130p"  # Trustpilot reviews
USD_PER_1000_RECORDS = 1.50  # pay-as-you-go, from Bright Data's documentation; read in November 2026
PRICE_SOURCE = "Bright Data's documentation, November 2026"
KEPT_DAYS = 16  # how long a job's rows can be downloaded: 16 or 30, the documentation has both
PART_ROWS = 2000  # a larger result is downloaded in parts of so many rows; the service takes 1000 or more
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
    clock: Callable[[], float] = time.time,
) -> Iterator[dict]:
    """At most `max_reviews` reviews, each once, and every error row, as the service sent them.

    Only a question (url, max_reviews, dataset_id) that has no job yet is paid for. All rows received are
    kept in `<journal's stem>_rows/`, those beyond `max_reviews` too, and read from there one by one.
    `clock` counts seconds across restarts, for the limit on answers of 429.
    Raises ValueError, SpendNotConfirmed, CollectionFailed, StillCollecting, runtime.MissingSecret.
    """
    if not isinstance(max_reviews, int) or max_reviews < 1:
        raise ValueError(f"max_reviews = {max_reviews!r} must be a whole number, 1 or more")
    question = {"url": check_company_url(company_url), "max_reviews": max_reviews, "dataset_id": dataset_id}
    job = _take_up(journal_path, question)
    if not (job and job["state"] == "downloaded" and _row_files(journal_path, job)):
        _check_spend(question, job, confirm_spend)
        service = Service(journal_path, poll_timeout_minutes, sleep, clock)
        with service.show_progress():
            job = _run(service, question, job, confirm_spend)
    cost = f"about ${expected_cost(job['rows']):.2f}, paid once"
    print(f"{job['rows']} rows ({cost}) are kept in {_rows_dir(journal_path)}")
    if not job["rows"]:
        print(
            f"Bright Data found no reviews. Open {question['url']} in a browser: does the company have any?"
        )
    return _cut(_read_rows(journal_path, job), max_reviews)


def cancel(journal_path: Path) -> None:
    """Stop the journal's job: one that nobody waits for still counts against the account's limit."""
    job = _read(journal_path)
    if job["state"] != "collecting":
        raise ValueError(f"{journal_path} has the state {job['state']!r}: there is no running job to cancel")
    service = Service(journal_path, 10, time.sleep, time.time)
    service.cancel(job["snapshot_id"])
    _save(journal_path, job, state="canceled")
    print(f"Bright Data's job {job['snapshot_id']} is canceled")


def _run(service: Service, question: dict, job: dict | None, confirm_spend: bool) -> dict:
    """The steps that `job` has not taken yet: find or trigger, wait, download."""
    if job and job["state"] == "asked":
        job = _find_lost(service, job)
        _check_spend(question, job, confirm_spend)
    job = job or _trigger(service, question)
    print(
        f"Bright Data's job {job['snapshot_id']}: {question['url']}, at most {question['max_reviews']} reviews"
    )
    if job["state"] == "collecting":
        job = _wait_until_ready(service, job)
    return _download(service, job)


def _check_spend(question: dict, job: dict | None, confirm_spend: bool) -> None:
    if job:
        return
    price = (
        f"This asks Bright Data (dataset {question['dataset_id']}) for {question['url']}, capped at "
        f"{question['max_reviews']} reviews: about ${expected_cost(question['max_reviews']):.2f}, at "
        f"${USD_PER_1000_RECORDS:.2f} per 1,000 records ({PRICE_SOURCE})"
    )
    if not confirm_spend:
        raise SpendNotConfirmed(f"{price}. To go ahead, set confirm_spend=True")
    print(price)


def _rows_dir(journal_path: Path) -> Path:
    return journal_path.with_name(f"{journal_path.stem}_rows")


def _row_files(journal_path: Path, job: dict) -> list[Path]:
    """The job's rows as JSON Lines files, one a part, named so that sorting gives their order."""
    return sorted(_rows_dir(journal_path).glob(f"{job['snapshot_id']}.*.jsonl"))


def _read_rows(journal_path: Path, job: dict) -> Iterator[dict]:
    for path in _row_files(journal_path, job):
        for row in files.read_jsonl(path):
            # With one copy of each field's name, 100,000 rows take a third less.
            yield {sys.intern(name): value for name, value in row.items()}


def _read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def _save(journal_path: Path, job: dict, **changes: object) -> dict:
    files.write_json(journal_path, {**job, **changes})
    return {**job, **changes}


def _aside(journal_path: Path, question: dict) -> Path:
    return journal_path.with_name(f"{journal_path.stem}-{files.content_id(question)[:8]}.json")


def _take_up(journal_path: Path, question: dict) -> dict | None:
    """The job of this question; another question's job is put aside, to come back with it."""
    asked = _read(journal_path)["question"] if journal_path.exists() else None
    if asked and asked != question:
        journal_path.replace(_aside(journal_path, asked))
        print(f"Another question than before: its job is kept in {_aside(journal_path, asked).name}")
    if asked != question and _aside(journal_path, question).exists():
        _aside(journal_path, question).replace(journal_path)
    job = _read(journal_path) if journal_path.exists() else None
    return None if job and job["state"] in ENDED else job


def _trigger(service: Service, question: dict) -> dict:
    """Start the paid job. Sent once, whatever comes back: a second one would be paid as well."""
    job = {"state": "asked", "question": question, "asked_at": datetime.now(UTC).isoformat()}
    files.write_json(service.journal_path, job)
    try:
        response = service.trigger(question["dataset_id"], question["url"], question["max_reviews"])
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
        listing = service.snapshots(job["question"]["dataset_id"])
        for found in sorted(listing, key=lambda found: str(found.get("created")), reverse=True):
            ruled_out = found["id"] in known or found.get("status") in ENDED
            if ruled_out or not _since(found.get("created"), earliest):
                continue
            asked = json.dumps(service.inputs(found["id"]))
            cap = re.search(rf'"{LIMIT_FIELD}": "?(\d+)', asked)  # another's job may have another cap
            same_cap = not cap or int(cap[1]) == job["question"]["max_reviews"]
            if same_cap and json.dumps(job["question"]["url"]) in asked:
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


def _wait_until_ready(service: Service, job: dict) -> dict:
    """The job once its rows can be downloaded; one that ended otherwise is never resumed."""
    try:
        report = service.poll(job["snapshot_id"])
    except KeyboardInterrupt:
        _offer_to_cancel(service.journal_path)
        raise
    if report["status"] == "ready":
        return _save(service.journal_path, job, state="ready", records=report.get("records"))
    said = service.hide(str(report.get("error_message") or report["status"]))
    _save(service.journal_path, job, state="failed", message=said)
    raise CollectionFailed(
        f"Bright Data's job {job['snapshot_id']} for {job['question']['url']} ended as "
        f"{report['status']}: {said}. Another run starts a new job, which is paid again"
    )


def _offer_to_cancel(journal_path: Path) -> None:
    """After Ctrl-C: cancel the paid job if somebody says so. With nobody there to answer it is kept."""
    try:
        # A kernel asks the page that it belongs to; without one, input() could wait for ever.
        somebody = "ipykernel" in sys.modules or (sys.stdin and sys.stdin.isatty())
        answer = input("Cancel the paid job at Bright Data as well? [y/N] ") if somebody else ""
    except (EOFError, NotImplementedError, OSError):
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        cancel(journal_path)
    else:
        print(
            "The job is kept: it goes on at Bright Data, and so does its charge. Run this again to resume it, "
            f"or stop it with brightdata.cancel(Path({str(journal_path)!r}))"
        )


def _download(service: Service, job: dict) -> dict:
    """All rows into files; a part that has its file is not asked for again.

    Where fewer rows come than the service counted, all are asked for twice more, and new ones added.
    """
    name, records = job["snapshot_id"], job.get("records")
    expected = job["question"]["max_reviews"] if records is None else int(records)
    count = service.parts(name, PART_ROWS) if expected > PART_ROWS else 0
    parts = [{"batch_size": PART_ROWS, "part": number + 1} for number in range(count)] or [{}]
    service.bar.total, received = expected, 0
    for attempt in range(3):
        if attempt:
            service.wait(5 * attempt)
        seen = {files.content_id(row) for row in _read_rows(service.journal_path, job)} if attempt else set()
        for number, part in enumerate(parts, 1):
            service.bar.set_description_str(f"downloading part {number} of {len(parts)}", refresh=False)
            path = _rows_dir(service.journal_path) / f"{name}.{attempt}-{number:06}.jsonl"
            if not path.exists():
                rows = service.download(name, **part)
                files.write_jsonl(path, (row for row in rows if files.content_id(row) not in seen))
            lines = path.read_bytes().count(b"\n")
            received += lines
            service.bar.update(lines)
            job = _save(service.journal_path, job, rows=received)
        if records is None or received >= expected:
            break
    else:
        print(
            f"Bright Data counted {records} records and delivered {received}, also when asked again. To ask "
            f"once more, at no cost and within {KEPT_DAYS} days, delete {_rows_dir(service.journal_path)}"
        )
    return _save(service.journal_path, job, state="downloaded")


def _cut(rows: Iterator[dict], max_reviews: int) -> Iterator[dict]:
    """The error rows, and the first `max_reviews` reviews with each review_id once."""
    seen, reviews = set(), 0
    for row in rows:
        if not is_error_row(row):
            review_id = row.get("review_id")
            if reviews == max_reviews or (review_id in seen and review_id is not None):
                continue
            seen.add(review_id)
            reviews += 1
        yield row
