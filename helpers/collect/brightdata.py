"""Collect a company's Trustpilot reviews with Bright Data's web scraper API, and pay for them once.

The journal says what was asked and which job answers it, so a rerun resumes that job. The cap is sent as
`limit_per_input`, in the query (API's reference) and the body (SDK), and as the input's LIMIT_FIELD.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError
from urllib3.util import Retry

from helpers.collect.records import is_error_row
from helpers.core import files, runtime

DATASET_ID = "gd_lm5zmhwd2sni130p"  # Trustpilot reviews
USD_PER_1000_RECORDS = 1.50  # pay-as-you-go, from the documentation; read in November 2026
KEPT_DAYS = 16  # how long a job's rows can be downloaded: 16 or 30, the documentation has both
PART_ROWS = 2000  # a larger result is downloaded in parts of so many rows; the service takes 1000 or more
LIMIT_FIELD = "num_of_reviews_limit"
ENDED = {"failed", "canceled", "cancelled", "error"}  # any status but these and "ready": still working
TIMEOUT = (10, 120)  # seconds to connect, and between two pieces of an answer
UNSENT = (NewConnectionError, ConnectTimeoutError)  # without a connection nothing can have been started
AGAIN = (429, 500, 502, 503, 504)
# Waits 0 to 32 seconds, or what Retry-After says, even past the deadline. 25 of 429 in 5 minutes block.
RETRIES = Retry(6, status_forcelist=AGAIN, allowed_methods=("GET",), backoff_factor=1, raise_on_status=False)


class SpendNotConfirmed(RuntimeError):
    """A paid collection would start; the message says what it asks for and what it should cost."""


class CollectionFailed(RuntimeError):
    """The service refused or ended the collection, or did not answer; the message says which."""


class StillCollecting(TimeoutError):
    """The time-out has passed while the job goes on at the service; another run resumes it."""


def expected_cost(max_reviews: int) -> float:
    """Price of `max_reviews` records in US dollars, before any free monthly allowance."""
    return max_reviews * USD_PER_1000_RECORDS / 1000


def check_company_url(url: str) -> str:
    """The company's page as `https://www.trustpilot.com/review/DOMAIN`; ValueError with the fix."""
    page = r"(https?://)?([a-z]{2,3}(-[a-z]{2})?\.)?trustpilot\.com/review/([\w-]+(\.[\w-]+)+)/?([?#].*)?"
    if match := re.fullmatch(page, url.strip(), re.IGNORECASE):
        return f"https://www.trustpilot.com/review/{match[4].lower()}"
    fix = "Set it to an address like https://www.trustpilot.com/review/example.com"
    raise ValueError(f"company_url = {url!r} is not a company's page on Trustpilot. {fix}")


def collect(
    company_url: str, max_reviews: int, journal_path: Path, *, dataset_id: str = DATASET_ID,
    confirm_spend: bool = False, poll_timeout_minutes: float = 60
) -> Iterator[dict]:  # fmt: skip
    """At most `max_reviews` reviews, each once, and every error row, as the service sent them.

    Only a question (url, max_reviews, dataset_id) without a job, of its own or of more reviews, is paid; where
    `journal_path` is another's, the journal has a hash in its name. All rows are kept in `<its stem>_rows/`.
    Raises ValueError, SpendNotConfirmed, CollectionFailed, StillCollecting, runtime.MissingSecret.
    """
    if not isinstance(max_reviews, int) or max_reviews < 1:
        raise ValueError(f"max_reviews = {max_reviews!r} must be a whole number, 1 or more")
    question = {"url": check_company_url(company_url), "max_reviews": max_reviews, "dataset_id": dataset_id}
    path, folder = _journal_of(question, journal_path), journal_path.with_name(f"{journal_path.stem}_rows")
    job = files.read_json(path, None)
    if job is None or job["state"] in ENDED:
        asks = f"This asks Bright Data (dataset {dataset_id}) for {question['url']}, capped at {max_reviews} reviews"
        rate = f"${USD_PER_1000_RECORDS:.2f} per 1,000 records (Bright Data's documentation, November 2026)"
        price = f"{asks}: about ${expected_cost(max_reviews):.2f}, at {rate}"
        if not confirm_spend:
            raise SpendNotConfirmed(f"{price}. To go ahead, set confirm_spend=True")
        print(price)
        job = {"state": "new", "question": question}
    if job["state"] != "downloaded" or not any(folder.glob(f"{job['snapshot_id']}.*")):
        _Collection(path, job, folder, poll_timeout_minutes).run()
    print(f"{job['rows']} rows (about ${expected_cost(job['rows']):.2f}, paid once) are kept in {folder}")
    if not job["rows"]:
        print(f"Bright Data found no reviews: does {question['url']} show any in a browser?")
    parts = sorted(folder.glob(f"{job['snapshot_id']}.*.jsonl"))  # in their order
    rows = (row for part in parts for row in files.read_jsonl(part))
    return _cut(rows, max_reviews)


def _journal_of(question: dict, path: Path) -> Path:
    """The journal of this question or of one for more of its reviews; else `path`, or a name of its own beside one."""
    own, cap = path.with_name(f"{path.stem}-{files.content_id(question)[:8]}.json"), question["max_reviews"]
    for journal in filter(Path.exists, [own, path, *sorted(path.parent.glob(f"{path.stem}-*.json"))]):
        asked, state = (files.read_json(journal)[name] for name in ("question", "state"))
        more = state not in ENDED and asked["max_reviews"] > cap
        if asked | ({"max_reviews": cap} if more else {}) == question:
            return journal
    return own if path.exists() else path


def _cut(rows: Iterator[dict], max_reviews: int) -> Iterator[dict]:
    """The error rows, and the first `max_reviews` reviews with each review_id once."""
    seen = set()
    for row in rows:
        key = row.get("review_id") or object()  # without an id, each is a review of its own
        if is_error_row(row):
            yield row
        elif key not in seen and len(seen) < max_reviews:
            seen.add(key)
            yield row


class _Collection:
    """One question's job: its journal, and the talk with the service about it."""

    def __init__(self, path: Path, job: dict, folder: Path, minutes: float) -> None:
        self.path, self.job, self.folder, asked = path, job, folder, job["question"]
        self.url, self.most, self.dataset_id = asked["url"], asked["max_reviews"], asked["dataset_id"]
        self.deadline = time.monotonic() + 60 * minutes
        self.key = runtime.secret("BRIGHTDATA_API_KEY")  # among the headers, a .netrc would replace it
        base = os.environ.get("BRIGHTDATA_BASE_URL") or "https://api.brightdata.com"
        self.base = f"{base.rstrip('/')}/datasets/v3"
        self.session = requests.Session()
        self.session.auth = lambda sent: sent.headers.update(Authorization=f"Bearer {self.key}") or sent
        self.session.mount(self.base, HTTPAdapter(max_retries=RETRIES))

    def run(self) -> None:
        """The steps that the job has not taken yet: trigger or find it, wait, download."""
        shape = "Bright Data: {desc} {bar:20} {n_fmt}/{total_fmt} rows [{elapsed}]"
        with tqdm(desc="asking", bar_format=shape, file=sys.stderr) as self.bar:
            if self.job["state"] == "new":
                self.trigger()
            if self.job["state"] == "asked":
                self.find_lost()
            print(f"Bright Data's job {self.job['snapshot_id']}: {self.url}, at most {self.most} reviews")
            if self.job["state"] == "collecting":
                self.wait_until_ready()
            self.download()

    def save(self, **changes: object) -> None:
        self.job.update(changes)
        files.write_json(self.path, self.job)

    def trigger(self) -> None:
        """Start the paid job, once: where the answer is unclear, the state stays "asked"."""
        cap = {"limit_per_input": self.most}
        query = {"dataset_id": self.dataset_id, "format": "json", "include_errors": "true", **cap}
        body = {"input": [{"url": self.url, LIMIT_FIELD: self.most}], **cap}
        once = {"auth": self.session.auth, "timeout": TIMEOUT, "allow_redirects": False}
        self.save(state="asked", asked_at=datetime.now(UTC).isoformat())
        try:  # without the session, whose retries would send even a POST again after some TLS errors
            response = requests.post(f"{self.base}/trigger", params=query, json=body, **once)
        except requests.RequestException as error:
            said, why = f"{type(error).__name__} at {self.base}", error.args[0]
            if not (isinstance(why, MaxRetryError) and isinstance(why.reason, UNSENT)):
                return self.save(message=said)
            self.save(state="failed", message=said)
            raise CollectionFailed(f"{said}. Nothing was started and nothing is paid") from None
        if 400 <= response.status_code < 500 and response.status_code != 408:
            self.save(state="failed", message=self.said(response))
            raise self.refusal(response, "Nothing was started and nothing is paid")
        started = re.search(r'"snapshot_id"\s*:\s*"([\w-]+)"', response.text)
        if not (response.ok and started):
            return self.save(message=self.said(response))
        self.save(state="collecting", snapshot_id=started[1])

    def find_lost(self) -> None:
        """Take up the job whose id never arrived, known by its time and by what it asks for."""
        # In ISO 8601 and UTC, as the service's times: texts in the order of time. The clocks may differ a little.
        earliest = (datetime.fromisoformat(self.job["asked_at"]) - timedelta(minutes=10)).isoformat()
        cap = str(self.most)
        for pause in (0, 15):  # a job asked for a moment ago may be listed late
            self.wait(pause)
            for job in self.get("snapshots", dataset_id=self.dataset_id):
                if job.get("status") in ENDED or str(job.get("created")) < earliest:
                    continue
                for asked in self.get(f"snapshot/{job['id']}/input"):
                    if asked.get("url") == self.url and str(asked.get(LIMIT_FIELD, cap)) == cap:
                        return self.save(state="collecting", snapshot_id=job["id"])
        said, when = self.job.get("message", "the run ended"), self.job["asked_at"][:16]
        raise CollectionFailed(
            f"The answer to the request for {self.url} was lost ({said}) and no such job is listed, but it may run "
            f"and be paid. Look into Bright Data's control panel for one of {when} UTC. If it is there, put its id "
            f'into {self.path}, "state": "collecting", "snapshot_id": "the id", and run this again. If it is not '
            "there, delete that file and run this again: it asks, and pays, anew"
        )

    def wait_until_ready(self) -> None:
        """Return once the rows can be downloaded; a job that ended otherwise is never resumed."""
        name, status = self.job["snapshot_id"], ""
        while status not in ENDED:
            self.wait(10 if status else 1)
            report = next(iter(self.get(f"progress/{name}")), {})
            status = str(report.get("status")).lower()
            self.bar.set_description_str(status)
            if status == "ready":
                return self.save(state="ready", records=report.get("records"))
        said = f"ended as {status}: {self.hide(str(report.get('error_message') or status))}"
        self.save(state="failed", message=said)
        raise CollectionFailed(f"Bright Data's job {name} {said}. Another run starts a new job, paid again")

    def download(self) -> None:
        """All rows into files, one a part; a part that has its file is not asked for again."""
        path, records, parts = f"snapshot/{self.job['snapshot_id']}", self.job.get("records"), 0
        self.bar.total = self.most if records is None else records
        if self.bar.total > PART_ROWS:
            parts = sum(each["parts"] for each in self.get(f"{path}/parts", batch_size=PART_ROWS))
        for number in range(1, max(parts, 1) + 1):
            self.bar.set_description_str(f"downloading part {number} of {max(parts, 1)}", refresh=False)
            part = self.folder / f"{self.job['snapshot_id']}.{number:06}.jsonl"
            if not part.exists():
                chosen = {"batch_size": PART_ROWS, "part": number} if parts else {}
                files.write_jsonl(part, self.get(path, records, **chosen))
            self.bar.update(part.read_bytes().count(b"\n"))
        self.save(state="downloaded", rows=self.bar.n)
        if records and self.bar.n < records:
            again = f"To ask once more, at no cost and within {KEPT_DAYS} days, delete {self.folder}"
            print(f"Bright Data counted {records} records and delivered {self.bar.n}. {again}")

    def get(self, path: str, promised: int | None = None, **params: object) -> list[dict]:
        """The rows of an answer, once it is not "building", or CollectionFailed, at the third failure."""
        failures, query = 0, {"format": "json", **params}
        while failures < 3:  # around the session's own tries, which end where an answer begins
            try:
                response = self.session.get(f"{self.base}/{path}", params=query, timeout=TIMEOUT)
                status, said = response.status_code, self.said(response)
                rows = rows_of(response.content) if status == 200 else []
                single = len(rows) == 1 and response.content[:1] == b"{" and "input" not in rows[0]
                about = rows[0] if single else {}  # the job, or an error: a record repeats what was asked
                if status in (202, 409) or ("status" in about and not path.startswith("progress/")):
                    self.wait(10)
                    continue
                if "error" in about or (status != 200 and said != "400 Snapshot is empty"):
                    raise self.refusal(response)
                if rows or not promised:
                    return rows
                trouble = f"0 rows, where Bright Data counted {promised}"
            except (requests.RequestException, ValueError) as error:
                trouble = f"{type(error).__name__}: {str(error)[:200]}"
            failures += 1
            self.wait(5 * failures)
        fix = f"Nothing is lost; run this again to go on from {self.path}"
        raise CollectionFailed(f"GET {self.base}/{path} failed, at last with {trouble}. {fix}")

    def wait(self, seconds: float) -> None:
        """Sleep, or raise StillCollecting at once when that would pass the deadline."""
        if time.monotonic() + seconds > self.deadline:
            goes_on = "a job that was started continues at Bright Data, and so does its charge"
            fix = "Run this again to resume it, or cancel it in Bright Data's control panel"
            raise StillCollecting(f"poll_timeout_minutes is over; {goes_on}. {fix}")
        time.sleep(seconds)

    def hide(self, text: str) -> str:
        return text.replace(self.key, "[BRIGHTDATA_API_KEY]")

    def said(self, response: requests.Response) -> str:
        return f"{response.status_code} {self.hide(response.content[:2000].decode(errors='replace')).strip()[:500]}"

    def refusal(self, response: requests.Response, outcome: str = "") -> CollectionFailed:
        fixes = dict.fromkeys(AGAIN, f"{outcome or 'Nothing is lost'}; wait five minutes and run this again")
        fixes[401] = "Check BRIGHTDATA_API_KEY: it is wrong, expired or another account's"
        gone = f"If the job or its rows are gone for good, delete {self.path}; a new job is paid again"
        fix = fixes.get(response.status_code, outcome or gone)
        return CollectionFailed(f"Bright Data answered {self.said(response)}. {fix}")


def rows_of(body: bytes) -> list[dict]:
    """The objects of a body: a JSON array, one object a line, or nothing. Raises ValueError for others."""
    rows = json.loads(body) if body[:1] == b"[" else [json.loads(line) for line in body.splitlines() if line]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("the answer is not a list of records")
    return rows
