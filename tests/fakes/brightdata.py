"""Bright Data's datasets API (v3) on the loopback, with the troubles that clients met.

    python -m tests.fakes.brightdata --port 8090 [--fault 429 --fault shuffled] [--reviews 100000]
    BRIGHTDATA_BASE_URL=http://127.0.0.1:8090 BRIGHTDATA_API_KEY=any …

It collects nothing: every company has the same invented reviews. Companies whose domain begins with
"no-such" give an error row. It does not bill, and does not imitate other datasets.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import math
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

DATASET_ID = "gd_lm5zmhwd2sni130p"
STATES = ("starting", "running", "collecting", "digesting", "building")
FIELDS = ("url", "num_of_reviews_limit")
NULL_FIELDS = (
    "company_logo company_about company_email company_phone company_location company_category breadcrumbs "
    "company_id company_website company_other_categories review_replies"
).split()
TOO_MANY = "Too many requests"
BUSY = "You have too many running jobs for this dataset. Please wait. Running jobs: 100>=100"
PROXY = (200, "<html>a proxy's page</html>")
HANG_UP = (0, "")  # the connection breaks before an answer
CUT_OFF = (-1, "")  # the connection breaks in the middle of the answer
HALF = (-2, "")  # half of the answer, sent as if it were the whole

# Faults by name, as the settings of the server that make them.
FAULTS: dict[str, dict] = {
    "none": {},
    "500": {"troubles": [(500, "Internal server error")] * 3 + [(502, ""), (503, "Service Unavailable")]},
    "500-while-downloading": {"download_troubles": [(500, "Internal server error")] * 2},
    "dropped": {"troubles": [HANG_UP] * 2, "download_troubles": [HANG_UP, CUT_OFF, CUT_OFF]},
    "429": {"troubles": [(429, TOO_MANY)] * 3, "download_troubles": [(429, TOO_MANY)]},
    "429-retry-after": {"troubles": [(429, TOO_MANY, {"Retry-After": "1"})] * 3},
    "429-trigger": {"trigger_troubles": [(429, BUSY)] * 2},
    "lost-trigger": {"lose_trigger_answers": 1, "hidden_listings": 1},
    "building-after-ready": {"building_downloads": 3},
    "409": {"building_downloads": 3, "building_status": 409},
    "ndjson": {"body": "lines"},
    "half-a-body": {"download_troubles": [HALF, PROXY]},
    "fewer-rows": {"short_downloads": 1000},
    "empty-body": {"body": "empty"},
    "empty-body-at-first": {"download_troubles": [(200, "")]},
    "no-rows": {"reviews": 0},
    "snapshot-is-empty": {"body": "Snapshot is empty", "reviews": 0},
    "error-rows": {"error_rows": 3},
    "no-such-company": {"nobody": True},
    "duplicates": {"duplicates": 20},
    "shuffled": {"shuffled": True},
    "nulls": {"nulls": True},
    "limit-ignored": {"ignore_limit_by": 30},
    "limit-field-unknown": {"fields": ("url",)},
    "failed": {"end": {"status": "failed", "error_message": "Account is suspended"}},
    "canceled": {"end": {"status": "canceled"}},
    "expired": {"download_troubles": [(400, "Snapshot is expired")] * 1000},
}


def review(url: str, number: int) -> dict:
    """One record of the 37 fields, with the nulls, strings and separators that real ones hold."""
    domain = url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    day = f"{datetime(2026, 1, 1, 9, 30) + timedelta(hours=7 * number):%Y-%m-%dT%H:%M:%S}.000Z"
    return {
        **dict.fromkeys(NULL_FIELDS),
        **{f"{stars}_star": 10 * stars for stars in (5, 4, 3, 2, 1)},
        **dict.fromkeys(("review_date", "review_date_of_experience", "date_posted"), day),
        **dict.fromkeys(("company_country", "reviewer_location"), "US"),
        "company_name": domain.split(".")[0].title(),
        "company_rating_name": "Great",
        "company_overall_rating": 4.1,
        "is_verified_company": True,
        "company_total_reviews": 150,
        "company activity": "Claimed profile",
        "review_id": f"{domain}-{number}",
        "review_rating": str(number % 5 + 1) if number % 2 else number % 5 + 1,
        "review_title": None if number % 7 == 6 else f"Visit {number}",
        "review_content": "" if number % 7 == 5 else f"Café order {number}:\u2028it arrived 👍",
        "is_verified_review": number % 3 == 0,
        "review_useful_count": 0,
        "review_url": f"https://www.trustpilot.com/reviews/{domain}-{number}",
        "url": f"{url}?languages=all&page={number // 20 + 1}",
        "reviewer_name": f"Invented Person {number}",
        "reviews_posted_overall": 1,
        "input": {"url": url},
    }


@dataclass
class FakeBrightData:
    """A server in a `with` block: settings that a test changes at any time, and what the server saw.

    A trouble is (status, body[, headers]), HANG_UP, CUT_OFF or HALF, and is used up by one request.
    """

    key: str | None = None  # None: any Bearer key will do
    reviews: int = 150  # how many each company has
    text_length: int = 0  # characters added to each review
    seconds: float = 0  # how long an answer takes
    polls_until_ready: int = 1
    building_downloads: int = 0  # downloads answered "not ready" although progress says ready
    building_status: int = 202
    retry_in: int = 30  # seconds, in the message of such an answer
    lose_trigger_answers: int = 0  # triggers that are accepted but whose connection breaks
    hidden_listings: int = 0  # listings that do not show the jobs yet
    ignore_limit_by: int = 0  # rows sent beyond the limits
    fields: tuple[str, ...] = FIELDS  # what an input may hold
    least_batch: int = 1000
    body: str = "array"  # array, lines, empty, "Snapshot is empty"
    end: dict | None = None  # the progress report that ends each job instead of "ready"
    short_downloads: int = 0  # downloads from which every tenth row is missing
    error_rows: int = 0
    nobody: bool = False  # no company exists
    duplicates: int = 0  # reviews that are delivered twice
    shuffled: bool = False
    nulls: bool = False  # everything is null but the id
    troubles: list[tuple] = field(default_factory=list)  # of the next GETs
    download_troubles: list[tuple] = field(default_factory=list)  # of the next downloads of rows
    trigger_troubles: list[tuple] = field(default_factory=list)
    trigger_refusal: tuple[int, str] | None = None  # of every trigger

    requests: list[str] = field(default_factory=list)  # "GET /datasets/v3/…?…", as they came
    bodies: list[object] = field(default_factory=list)  # of the triggers
    triggers: int = 0  # accepted or not
    rows_sent: int = 0
    jobs: dict[str, dict] = field(default_factory=dict)

    def serve(self, port: int = 0) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"server_fake": self})
        return ThreadingHTTPServer(("127.0.0.1", port), handler)

    def __enter__(self) -> FakeBrightData:
        self.server = self.serve()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def start(self, inputs: list[dict], query: dict, created: datetime | None = None) -> str:
        """Accept a job, as a trigger does, and return its id. Its rows are made when they are sent."""
        name = f"sd_fake{len(self.jobs):04}"
        rows: list[tuple[str, int]] = []  # (url, number of the review); -1: an error row
        for each in inputs:
            limits = [int(query.get(key, 10**9)) for key in ("limit_per_input", "limit_multiple_results")]
            limits.append(max(3, int(each.get("num_of_reviews_limit", 10**9))))  # asking for 1 gave 3
            count = min(min(limits) + self.ignore_limit_by, self.reviews)
            missing = self.nobody or each["url"].rsplit("/", 1)[-1].startswith("no-such")
            rows += [(each["url"], -1)] if missing else [(each["url"], number) for number in range(count)]
        rows += [rows[number % len(rows)] for number in range(self.duplicates)]
        rows += [(inputs[0]["url"], -1)] * self.error_rows
        if self.shuffled:
            random.Random(0).shuffle(rows)
        created = (created or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        listed = {
            "created": created,
            "status": "running",
            "dataset_id": DATASET_ID,
            "dataset_size": len(rows),
        }
        self.jobs[name] = {"inputs": inputs, "rows": rows, "listed": listed, "polls": 0, "downloads": 0}
        return name

    def row(self, url: str, number: int) -> dict:
        if number < 0:
            when = datetime.now(UTC).isoformat()
            return {"timestamp": when, "input": {"url": url}, "error": "No data", "error_code": "dead_page"}
        made = review(url, number)
        if self.text_length:
            made["review_content"] += " and again" * (self.text_length // 10)
        return {name: None for name in made} | {"review_id": made["review_id"]} if self.nulls else made

    def rows(self, name: str) -> list[dict]:
        """What a whole download of this job holds."""
        return [self.row(*row) for row in self.jobs[name]["rows"]]


class _Handler(BaseHTTPRequestHandler):
    server_fake: FakeBrightData

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: object, headers: dict | None = None, send: float = 1) -> None:
        """Send an answer, or only the `send` part of its body, after which the connection breaks."""
        if status == HANG_UP[0]:
            return  # nothing is written, HTTP/1.0 closes: the client sees a broken connection
        kind = "text/plain" if isinstance(body, str) else "application/json"
        data = (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode()
        if headers and headers.get("Content-Encoding") == "gzip":
            data = gzip.compress(data)
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data[: math.ceil(len(data) * send)])

    def refusal(self) -> str:
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return "Auth method is not supported" if scheme else "Credentials are missing"
        return "" if self.server_fake.key in (None, key) else "Invalid credentials"

    def begin(self) -> tuple[list[str], dict] | None:
        """The path's parts and the query of a request that may go on."""
        fake, parts = self.server_fake, urlsplit(self.path)
        fake.requests.append(f"{self.command} {self.path}")
        time.sleep(fake.seconds)
        if self.refusal():
            return self.answer(401, self.refusal())
        if not parts.path.startswith("/datasets/v3/"):
            return self.answer(404, "Not found")
        names = parts.path.removeprefix("/datasets/v3/").split("/")
        return names, {name: values[0] for name, values in parse_qs(parts.query).items()}

    def do_POST(self) -> None:
        fake = self.server_fake
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        begun = self.begin()
        if not begun:
            return None
        names, query = begun
        if names != ["trigger"]:
            return self.answer(404, "Not found")
        fake.triggers += 1
        if fake.trigger_troubles:
            return self.answer(*fake.trigger_troubles.pop(0))
        if fake.trigger_refusal:
            return self.answer(*fake.trigger_refusal)
        if query.get("dataset_id") != DATASET_ID:
            return self.answer(404, "dataset does not exist")
        try:
            asked = json.loads(body)
        except ValueError as error:
            said = f"Parser cannot parse input: {error}"
            return self.answer(400, {"error": said, "code": "parse_error"})
        fake.bodies.append(asked)
        inputs = asked
        if isinstance(asked, dict):  # one input, or {"input": […], "limit_per_input": N}
            inputs = asked.get("input", [asked])
            query |= {"limit_per_input": asked["limit_per_input"]} if "limit_per_input" in asked else {}
        if not inputs:
            return self.answer(400, "No data to trigger")
        for index, each in enumerate(inputs, 1):
            errors = [
                [key, f"This input should not contain a {key} field"]
                for key in each
                if key not in fake.fields
            ]
            errors += [] if each.get("url") else [["url", "Required field"]]
            if errors:
                about = {"line": json.dumps(each), "index": index, "errors": errors}
                kind = {"code": "validation_error", "type": "validation"}
                return self.answer(400, {"error": "Invalid input provided", **kind, **about})
        name = fake.start(inputs, query)
        if fake.lose_trigger_answers:
            fake.lose_trigger_answers -= 1
            return self.answer(*HANG_UP)
        return self.answer(200, {"snapshot_id": name})

    def do_GET(self) -> None:
        fake, begun = self.server_fake, self.begin()
        if not begun:
            return None
        names, query = begun
        if fake.troubles:
            return self.answer(*fake.troubles.pop(0))
        if names == ["snapshots"]:
            shown = {} if fake.hidden_listings else fake.jobs
            fake.hidden_listings = max(0, fake.hidden_listings - 1)
            first = int(query.get("skip", 0))
            listing = [{"id": name, **job["listed"]} for name, job in shown.items()]
            return self.answer(200, listing[first : first + int(query.get("limit", 1000))])
        if len(names) < 2 or names[1] not in fake.jobs:
            return self.answer(404, "Snapshot does not exist")
        job = fake.jobs[names[1]]
        if names[0] == "progress":
            return self.answer(200, {"snapshot_id": names[1], "dataset_id": DATASET_ID, **self.progress(job)})
        if names[2:] == ["input"]:
            return self.answer(200, job["inputs"])
        return self.download(job, names[2:] == ["parts"], query)

    def progress(self, job: dict) -> dict:
        fake = self.server_fake
        job["polls"] += 1
        if job["polls"] <= fake.polls_until_ready:
            state = STATES[(job["polls"] - 1) * len(STATES) // fake.polls_until_ready]
            return {"status": state, "running_time": 1000 * job["polls"]}
        if not fake.end:
            errors = sum(number < 0 for _, number in job["rows"])
            codes = {"error_codes": {"dead_page": errors}} if errors else {}
            done = {"records": len(job["rows"]), "errors": errors, "collection_duration": 1000, **codes}
        job["listed"]["status"] = (fake.end or {"status": "ready"})["status"]
        return fake.end or {"status": "ready", **done}

    def download(self, job: dict, count_parts: bool, query: dict) -> None:
        fake, size = self.server_fake, int(query.get("batch_size", 0))
        if fake.download_troubles and fake.download_troubles[0] not in (CUT_OFF, HALF):
            return self.answer(*fake.download_troubles.pop(0))
        early = job["polls"] <= fake.polls_until_ready
        job["polls"] += early  # for a client that never asks for the progress
        job["downloads"] += not early
        if fake.end and not early:  # what the service says here is not known; this is its message elsewhere
            return self.answer(400, fake.end.get("error_message", f"Snapshot is {fake.end['status']}"))
        if early or job["downloads"] <= fake.building_downloads:
            said = f"Snapshot is not ready yet, try again in {fake.retry_in}s"
            return self.answer(fake.building_status, {"status": "building", "message": said})
        parts = math.ceil(len(job["rows"]) / size) if size else 1
        if (size and size < fake.least_batch) or not 1 <= int(query.get("part", 1)) <= max(1, parts):
            return self.answer(400, "batch_size or part is out of range")
        if count_parts:
            return self.answer(200, {"parts": parts})
        rows, first = job["rows"], size * (int(query.get("part", 1)) - 1)
        rows = rows[first : first + size] if size else rows
        if fake.short_downloads:
            fake.short_downloads -= 1
            rows = [row for number, row in enumerate(rows) if number % 10 != 9]
        fake.rows_sent += len(rows)
        body = self.body([fake.row(*row) for row in rows], query.get("format", "jsonl"))
        how = {"Content-Encoding": "gzip"} if query.get("compress") in ("true", "1") else {}
        trouble = fake.download_troubles.pop(0) if fake.download_troubles else None
        if trouble == HALF:
            text = body if isinstance(body, str) else json.dumps(body)
            return self.answer(200, text[: len(text) // 2])
        status = 400 if body == "Snapshot is empty" else 200
        return self.answer(status, body, how, send=0.5 if trouble == CUT_OFF else 1)

    def body(self, rows: list[dict], form: str) -> object:
        fake = self.server_fake
        if fake.body == "Snapshot is empty":
            return fake.body
        if fake.body == "empty" or not rows:
            return "" if fake.body == "empty" else []
        if form == "csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]), restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
            return text.getvalue()
        if fake.body == "lines" or form != "json":
            return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        return rows


def with_faults(names: list[str], **settings: object) -> FakeBrightData:
    """A server with the settings of all named faults, lists copied, and `settings` above them."""
    chosen: dict = {}
    for name in names:
        chosen |= {
            key: list(value) if isinstance(value, list) else value for key, value in FAULTS[name].items()
        }
    return FakeBrightData(**(chosen | settings))


def main() -> None:
    parser = argparse.ArgumentParser(description="Bright Data's datasets API on the loopback.")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--fault", action="append", default=[], choices=FAULTS, help="may be given again")
    parser.add_argument("--reviews", type=int, default=150, help="how many each company has")
    parser.add_argument("--polls", type=int, default=5, help="questions about the progress until it is ready")
    chosen = parser.parse_args()
    settings = {} if any("reviews" in FAULTS[name] for name in chosen.fault) else {"reviews": chosen.reviews}
    server = with_faults(chosen.fault, polls_until_ready=chosen.polls, **settings).serve(chosen.port)
    print(f"BRIGHTDATA_BASE_URL=http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
