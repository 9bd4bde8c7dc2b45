"""A loopback server with OpenAI's chat-completions API, which answers, bills, and fails on demand.

    with FakeOpenAI(faults=[429, "drop"]) as server:  # OPENAI_BASE_URL = server.base_url

A fault is used up by one request, in the order of arrival; None answers normally. After them, `rates`
gives each request a fault at random, such as {429: 0.1, "malformed": 0.03}:
    500            that status (429 carries `retry_after`)
    "drop"         close the connection without a word, as an overloaded proxy does
    "drop_billed"  make and bill the answer, then close the connection without it
    "quota"        429 with the code `insufficient_quota`
    "not_json"     200 with an HTML page
    "cut"          200 with a JSON body that breaks off
    "malformed"    an answer, billed, whose text is not the JSON that was asked for
    "length"       an answer, billed, that max_tokens cut off

`requests_per_minute` is a true limit: a bucket that is refilled evenly and holds one second's worth, as a
limit "enforced over shorter periods" does (developers.openai.com/api/docs/guides/rate-limits). A request that
finds it empty gets 429 with the headers of that page, and `retry-after` in whole seconds.
"""

from __future__ import annotations

import json
import math
import random
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def qa_reply(body: dict) -> str:
    """One question-answer pair that differs with the user's text, as the JSON a teacher sends."""
    text = body["messages"][-1]["content"]
    pair = {"question": f"What do customers say about {text[:60]!r}?", "answer": "They like it. They stay."}
    return json.dumps({"pairs": [pair], "topics": []})


class FakeOpenAI:
    """`reply(body)` makes the answers: a text, or a whole choice as a dict. `seed` is that of the `rates`.

    Tokens are 4 bytes each unless `tokens` (in, out) is given. `plain_only` refuses response_format with
    400; `answer_with(body)` may give a status and a body, which are sent as they are; `refuse_after` answers 401
    once that many answers were given; `always` gives each request whose text holds its key that fault; `delay`
    is in seconds.
    """

    def __init__(
        self,
        *,
        reply: Callable[[dict], str | dict] = qa_reply,
        faults: Iterable = (),
        rates: Mapping[int | str, float] | None = None,
        seed: int = 0,
        requests_per_minute: float = math.inf,
        key: str = "sk-fake-key",
        plain_only: bool = False,
        answer_with: Callable[[dict], tuple[int, dict] | None] = lambda body: None,
        refuse_after: int | None = None,
        always: Mapping[str, int | str] | None = None,
        retry_after: str = "0",
        tokens: tuple[int, int] | None = None,
        delay: float = 0.0,
    ):
        self.reply, self.key, self.plain_only, self.delay = reply, key, plain_only, delay
        self.refuse_after, self.always, self.answer_with = refuse_after, always or {}, answer_with
        self.faults, self.retry_after, self.tokens = deque(faults), retry_after, tokens
        self.rates, self.random = rates or {}, random.Random(seed)
        self.a_second = requests_per_minute / 60
        self.bucket, self.filled_at = self.a_second, 0.0
        self.asked: list[dict] = []  # the body of every request that arrived
        self.times: list[float] = []  # and when, in time.monotonic() seconds
        self.flights: list[int] = []  # and how many were in flight then
        self.given: Counter = Counter()  # faults
        self.billed: list[tuple[int, int]] = []  # tokens in and out of every answer that was made
        self.handed: list[str] = []  # the user's text of every answer that was sent to its last byte
        self.handed_at = 0.0  # when the last of them was
        self.spoiled: list[str] = []  # and of those that were malformed or cut off
        self.limited = 0  # 429 because of requests_per_minute
        self.answered = self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()

    def __enter__(self) -> FakeOpenAI:
        handler = type("Handler", (_Handler,), {"fake": self})
        server = type("Server", (ThreadingHTTPServer,), {"request_queue_size": 256})
        self._server = server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self.filled_at = time.monotonic()
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self) -> int | str | None:
        """Call with the lock held."""
        if self.faults:
            return self.faults.popleft()
        chances = [1 - sum(self.rates.values()), *self.rates.values()]
        return self.random.choices([None, *self.rates], chances)[0]

    def admit(self) -> bool:
        """Take a request out of the bucket, with the lock held; False when it is empty."""
        if self.a_second == math.inf:
            return True
        now = time.monotonic()
        self.bucket = min(self.a_second, self.bucket + (now - self.filled_at) * self.a_second)
        self.filled_at = now
        if self.bucket < 1:
            self.limited += 1
            return False
        self.bucket -= 1
        return True

    def usd(self, into: float, out: float) -> float:
        """What the answers cost at these prices per million tokens."""
        return sum(given * into + made * out for given, made in self.billed) / 1e6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other (Nagle)
    fake: FakeOpenAI

    def log_message(self, *_) -> None: ...

    def do_POST(self) -> None:
        fake, body = self.fake, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with fake.lock:
            fake.asked.append(body)
            fake.times.append(time.monotonic())
            fault = fake.next_fault() if fake.admit() else "limit"
            text = body["messages"][-1]["content"]
            fault = next((fault for part, fault in fake.always.items() if part in text), fault)
            fake.given[fault] += 1
            fake.in_flight += 1
            fake.flights.append(fake.in_flight)
            fake.most_in_flight = max(fake.most_in_flight, fake.in_flight)
        try:
            self._respond(fault, body)
        finally:
            with fake.lock:
                fake.in_flight -= 1

    def _respond(self, fault, body: dict) -> None:
        fake = self.fake
        sent_key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        refused = fake.refuse_after is not None and fake.answered >= fake.refuse_after
        if self.path != "/v1/chat/completions":
            return self._error(404, f"no such path: {self.path}")
        if refused or sent_key != fake.key:  # a careless server repeats the key
            return self._error(401, f"Incorrect API key provided: {sent_key}", "invalid_api_key")
        if fake.plain_only and "response_format" in body:
            return self._error(400, "this server does not know response_format")
        if raw := fake.answer_with(body):
            return self._send(raw[0], json.dumps(raw[1]).encode())
        if fault == "limit":
            return self._error(429, "Rate limit reached for requests", "rate_limit_exceeded")
        if fault == "quota":
            return self._error(429, "You exceeded your current quota", "insufficient_quota")
        if fault == "not_json":
            return self._send(200, b"<html>hello</html>", "text/html")
        if fault == "cut":
            return self._send(200, b'{"choices": [{"mess')
        if isinstance(fault, int):
            return self._error(fault, f"no, not even with the key {sent_key}")
        if fault == "drop":
            return self._drop()
        time.sleep(fake.delay)
        reply = fake.reply(body)
        choice = (
            reply if isinstance(reply, dict) else {"message": {"content": reply}, "finish_reason": "stop"}
        )
        if fault in ("malformed", "length"):
            choice = {"message": {"content": '{"pairs": [{"question": "What do cus'}}
            choice["finish_reason"] = "stop" if fault == "malformed" else "length"
        text = choice["message"]["content"] or ""
        given = sum(len(message["content"].encode()) for message in body["messages"]) // 4
        used = fake.tokens or (
            given,
            min(body.get("max_tokens", body.get("max_completion_tokens")), len(text.encode()) // 4),
        )
        with fake.lock:
            fake.billed.append(used)
            fake.answered += fault != "drop_billed"
        if fault == "drop_billed":
            return self._drop()
        choice = choice | {"index": 0, "message": {"role": "assistant"} | choice["message"]}
        usage = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
        answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": body["model"]}
        self._send(200, json.dumps(answer | {"choices": [choice], "usage": usage}).encode())
        self.wfile.flush()
        with fake.lock:
            fake.handed.append(body["messages"][-1]["content"])
            fake.handed_at = time.monotonic()
            if fault in ("malformed", "length"):
                fake.spoiled.append(fake.handed[-1])

    def _error(self, status: int, message: str, code: str | None = None) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        self._send(status, json.dumps({"error": error}).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.fake.a_second < math.inf:
            self._limits(status)
        elif status == 429:
            self.send_header("Retry-After", self.fake.retry_after)
        self.end_headers()
        self.wfile.write(body)

    def _limits(self, status: int) -> None:
        fake = self.fake
        self.send_header("x-ratelimit-limit-requests", f"{fake.a_second * 60:.0f}")
        self.send_header("x-ratelimit-remaining-requests", f"{max(0.0, fake.bucket):.0f}")
        self.send_header("x-ratelimit-reset-requests", f"{1 - fake.bucket / fake.a_second:.3f}s")
        if status == 429:
            self.send_header("Retry-After", f"{math.ceil(1 / fake.a_second)}")

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
