"""Bright Data's datasets API (v3) on the loopback, with the troubles that clients met.

    python -m tests.fakes.brightdata --port 8090
    BRIGHTDATA_BASE_URL=http://127.0.0.1:8090 BRIGHTDATA_API_KEY=any …

It collects nothing: every company has the same invented reviews. Companies whose domain begins with
"no-such" give an error row. It does not bill, and does not imitate other datasets.
"""

from __future__ import annotations

import argparse
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

DATASET_ID = "gd_lm5zmhwd2sni130p"
COMPANY_REVIEWS = 150
NULL_FIELDS = (
    "company_logo company_about company_email company_phone company_location company_category breadcrumbs "
    "company_id company_website company_other_categories review_replies"
).split()


def review(url: str, number: int) -> dict:
    """One record of the 37 fields, with the nulls, strings and separators that real ones hold."""
    domain = url.rsplit("/", 1)[-1]
    day = f"{datetime(2026, 1, 1, 9, 30) + timedelta(days=number):%Y-%m-%dT%H:%M:%S}.000Z"
    return {
        **dict.fromkeys(NULL_FIELDS),
        **{f"{stars}_star": 10 * stars for stars in (5, 4, 3, 2, 1)},
        **dict.fromkeys(("review_date", "review_date_of_experience", "date_posted"), day),
        **dict.fromkeys(("company_country", "reviewer_location"), "US"),
        "company_name": domain.split(".")[0].title(),
        "company_rating_name": "Great",
        "company_overall_rating": 4.1,
        "is_verified_company": True,
        "company_total_reviews": COMPANY_REVIEWS,
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
    """A server in a `with` block: settings that a test changes at any time, and what the server saw."""

    key: str | None = None  # None: any Bearer key will do
    polls_until_ready: int = 1
    building_downloads: int = 0  # downloads answered 202 although progress says ready
    lose_trigger_answers: int = 0  # triggers that are accepted but whose connection breaks
    hidden_listings: int = 0  # listings that do not show the jobs yet
    ignore_limit_by: int = 0  # rows sent beyond limit_per_input
    body: str = "array"  # array, lines, empty, "Snapshot is empty"
    end: dict | None = None  # the progress report that ends each job instead of "ready"
    troubles: list[tuple] = field(default_factory=list)  # (status, body, headers) of the next GETs
    trigger_refusal: tuple[int, str] | None = None
    requests: list[str] = field(default_factory=list)  # "GET /datasets/v3/…?…", as they came
    triggers: int = 0
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
        """Accept a job, as a trigger does, and return its id."""
        name = f"sd_fake{len(self.jobs):04}"
        limit = int(query.get("limit_per_input", 1000)) + self.ignore_limit_by
        rows = []
        for each in inputs:
            if each["url"].rsplit("/", 1)[-1].startswith("no-such"):
                rows.append({"input": each, "error": "No data", "error_code": "dead_page"})
            else:
                rows += [review(each["url"], number) for number in range(min(limit, COMPANY_REVIEWS))]
        created = (created or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        listed = {"created": created, "status": "running"}
        self.jobs[name] = {"inputs": inputs, "rows": rows, "listed": listed, "polls": 0, "downloads": 0}
        return name


class _Handler(BaseHTTPRequestHandler):
    server_fake: FakeBrightData

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: object, headers: dict | None = None) -> None:
        kind = "text/plain" if isinstance(body, str) else "application/json"
        data = (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def refusal(self) -> str:
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return "Auth method is not supported" if scheme else "Credentials are missing"
        return "" if self.server_fake.key in (None, key) else "Invalid credentials"

    def do_POST(self) -> None:
        fake, parts = self.server_fake, urlsplit(self.path)
        fake.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.refusal():
            return self.answer(401, self.refusal())
        if parts.path.endswith("/cancel"):
            fake.jobs[parts.path.split("/")[-2]]["listed"]["status"] = "canceled"
            return self.answer(200, "OK")
        fake.triggers += 1
        query, inputs = {name: values[0] for name, values in parse_qs(parts.query).items()}, json.loads(body)
        unknown = [key for each in inputs for key in each if key not in ("url", "num_of_reviews_limit")]
        if fake.trigger_refusal:
            return self.answer(*fake.trigger_refusal)
        if query.get("dataset_id") != DATASET_ID:
            return self.answer(404, "dataset does not exist")
        if unknown:
            errors = [[key, f"This input should not contain a {key} field"] for key in unknown]
            return self.answer(400, {"error": "Invalid input provided", "errors": errors})
        name = fake.start(inputs, query)
        if fake.lose_trigger_answers:
            fake.lose_trigger_answers -= 1
            return None  # nothing is written, HTTP/1.0 closes: the client sees a broken connection
        return self.answer(200, {"snapshot_id": name})

    def do_GET(self) -> None:
        fake, path = self.server_fake, urlsplit(self.path).path
        fake.requests.append(f"GET {self.path}")
        if self.refusal():
            return self.answer(401, self.refusal())
        if fake.troubles:
            return self.answer(*fake.troubles.pop(0))
        what, *names = path.removeprefix("/datasets/v3/").split("/")
        if what == "snapshots":
            shown = {} if fake.hidden_listings else fake.jobs
            fake.hidden_listings = max(0, fake.hidden_listings - 1)
            return self.answer(200, [{"id": name, **job["listed"]} for name, job in shown.items()])
        if not names or names[0] not in fake.jobs:
            return self.answer(404, "Snapshot does not exist")
        job = fake.jobs[names[0]]
        if names[1:] == ["input"]:
            return self.answer(200, job["inputs"])
        return self.answer(200, self.progress(job)) if what == "progress" else self.download(job)

    def progress(self, job: dict) -> dict:
        job["polls"] += 1
        if job["listed"]["status"] == "canceled":
            return {"status": "canceled"}
        if job["polls"] <= self.server_fake.polls_until_ready:
            return {"status": "starting" if job["polls"] == 1 else "digesting"}
        return self.server_fake.end or {"status": "ready", "records": len(job["rows"])}

    def download(self, job: dict) -> None:
        fake = self.server_fake
        job["downloads"] += 1
        if job["polls"] <= fake.polls_until_ready or job["downloads"] <= fake.building_downloads:
            said = "Snapshot is not ready yet, try again in 30s"
            return self.answer(202, {"status": "building", "message": said})
        if fake.body == "lines":
            return self.answer(200, "\n".join(json.dumps(row, ensure_ascii=False) for row in job["rows"]))
        answers = {"array": (200, job["rows"]), "empty": (200, ""), "Snapshot is empty": (400, fake.body)}
        return self.answer(*answers[fake.body])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Bright Data's datasets API on the loopback.")
    parser.add_argument("--port", type=int, default=8090)
    server = FakeBrightData().serve(parser.parse_args().port)
    print(f"BRIGHTDATA_BASE_URL=http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
