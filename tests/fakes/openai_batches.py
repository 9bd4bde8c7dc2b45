"""A loopback server with OpenAI's files and batches endpoints, which validates, queues, bills and fails.

    with FakeBatches(ends=["expired"], share=0.5) as server:  # OPENAI_BASE_URL = server.base_url

A batch moves one state further at every look at it, or at every `looks`th: validating, in_progress,
finalizing, then what `ends` says for it, or completed. Its result lines come in another order than its
requests.

`faults` maps "GET /v1/batches/{id}" and the like to a list; each request uses one up, None answers normally:
    500          that status, with nothing done
    "drop"       close the connection with nothing done
    "lost"       do it, then close the connection without an answer
    "hold"       do it, set `held`, and answer only when `release` is set: the moment for a kill -9
    "not_json"   200 with an HTML page
"""

from __future__ import annotations

import email
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.fakes.openai_api import qa_reply

WAY = ("validating", "in_progress", "finalizing")
ENDED = ("completed", "failed", "expired", "cancelled")
PAGE = 3  # batches on a page of the list, whatever limit is asked for


class FakeBatches:
    """`reply(body) -> str` makes the answers. Tokens are 4 bytes each unless `tokens` (in, out) is given.

    `ends` are the last states of the batches, in the order of creation; `share` is how much of an expired or
    cancelled one was carried out. `line_errors` maps a text to a status: a request whose user text holds
    it gets an error line with it, 0 one without a response, None no line at all. `queue` is how many input
    tokens (4 bytes each) may be under way. `max_requests` and `max_bytes` are a file's limits. `answer_with(body)` may
    give a line's status and body, which are written as they are; a completion is billed.
    """

    def __init__(
        self,
        *,
        reply=qa_reply,
        key="sk-fake-key",
        ends=(),
        share=0.5,
        line_errors=None,
        queue=10**12,
        tokens=None,
        faults=None,
        max_requests=50_000,
        max_bytes=200_000_000,
        looks=1,
        answer_with=lambda body: None,
    ):
        self.reply, self.key, self.ends, self.share = reply, key, list(ends), share
        self.answer_with = answer_with
        self.line_errors, self.queue, self.tokens = line_errors or {}, queue, tokens
        self.faults, self.max_requests, self.max_bytes = faults or {}, max_requests, max_bytes
        self.looks, self.seen = looks, 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.log: list[str] = []  # every request, as "GET /v1/batches/{id}"
        self.billed: Counter = Counter()  # how often each custom_id was carried out and charged
        self.usage: list[tuple[int, int]] = []
        self.held, self.release, self.lock = threading.Event(), threading.Event(), threading.RLock()

    def __enter__(self) -> FakeBatches:
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def usd(self, into: float, out: float) -> float:
        """What the answers cost at half of these live prices per million tokens."""
        return sum(given * into + made * out for given, made in self.usage) / 2e6

    def requests_of(self, batch: dict) -> list[dict]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].decode().splitlines()]

    def upload(self, fields: dict) -> dict:
        assert fields["purpose"] == b"batch"
        name = f"file-{len(self.files)}"
        self.files[name] = fields["file"]
        return {"id": name, "object": "file", "bytes": len(fields["file"]), "created_at": 0,
                "filename": "x.jsonl", "purpose": "batch", "status": "processed"}  # fmt: skip

    def create(self, asked: dict) -> dict:
        assert asked["completion_window"] == "24h" and asked["endpoint"] == "/v1/chat/completions"
        assert all(len(value) <= 512 for value in asked.get("metadata", {}).values())
        number = len(self.batches)
        batch = {"id": f"batch_{number}", "object": "batch", "created_at": int(time.time()), **asked}
        counts = {"total": 0, "completed": 0, "failed": 0}
        self.batches[batch["id"]] = batch | {"status": WAY[0], "request_counts": counts, "errors": None}
        return self.batches[batch["id"]]

    def move(self, batch: dict) -> dict:
        """One state further, at every look or at every `looks`th."""
        self.seen += 1
        if batch["status"] in ENDED or self.seen % self.looks:
            return batch
        requests = self.requests_of(batch)
        if batch["status"] == WAY[0] and (code := self._invalid(batch, requests)):
            error = {"code": code[0], "message": code[1], "line": None, "param": None}
            return self._set(batch, "failed", errors={"object": "list", "data": [error]})
        if batch["status"] != WAY[-1]:
            return self._set(batch, WAY[WAY.index(batch["status"]) + 1])
        end = self.ends.pop(0) if self.ends else "completed"
        self._carry_out(batch, requests, 1.0 if end == "completed" else self.share, end)
        return self._set(batch, end)

    def _set(self, batch: dict, status: str, **more) -> dict:
        batch |= {"status": status, f"{status}_at": int(time.time()), **more}
        return batch

    def _invalid(self, batch: dict, requests: list[dict]) -> tuple[str, str] | None:
        names = [request["custom_id"] for request in requests]
        size = {each["id"]: len(self.files[each["input_file_id"]]) // 4 for each in self.batches.values()}
        others = (b for b in self.batches.values() if b["status"] not in (*ENDED, WAY[0]))
        if len(requests) > self.max_requests or len(self.files[batch["input_file_id"]]) > self.max_bytes:
            return "file_too_large", "more than the limit"
        if len(set(names)) < len(names) or max(map(len, names)) > 64:
            return "duplicate_custom_id", "custom_id must be unique and short"
        if (
            len({request["body"]["model"] for request in requests}) > 1
            or requests[0]["url"] != batch["endpoint"]
        ):
            return "mismatched_model", "one model and one endpoint a file"
        if "no-such" in requests[0]["body"]["model"]:
            return "model_not_found", "The provided model is not supported by the Batch API."
        if size[batch["id"]] + sum(size[other["id"]] for other in others) > self.queue:
            return (
                "token_limit_exceeded",
                f"Enqueued token limit reached. Limit: {self.queue} enqueued tokens.",
            )
        return None

    def _carry_out(self, batch: dict, requests: list[dict], share: float, end: str) -> None:
        good, bad = [], []
        for at, request in enumerate(requests):
            text = request["body"]["messages"][-1]["content"]
            error = next((code for part, code in self.line_errors.items() if part in text), 200)
            line = {
                "id": f"batch_req_{at}",
                "custom_id": request["custom_id"],
                "response": None,
                "error": None,
            }
            if at >= share * len(requests):
                message = "This request could not be executed before the completion window expired."
                bad.append(line | {"error": {"code": f"batch_{end}", "message": message}})
            elif error == 0:
                bad.append(line | {"error": {"code": "server_error", "message": "it was not carried out"}})
            elif error is not None and error != 200:
                body = {
                    "error": {"message": f"refused with {error}", "type": "x", "param": None, "code": None}
                }
                bad.append(line | {"response": {"status_code": error, "request_id": "r", "body": body}})
            elif error == 200 and (given := self.answer_with(request["body"])) and given[0] >= 400:
                bad.append(
                    line | {"response": {"status_code": given[0], "request_id": "r", "body": given[1]}}
                )
            elif error == 200:
                body = given[1] if given else self._answer(request["body"])
                self.billed[request["custom_id"]] += 1
                good.append(line | {"response": {"status_code": 200, "request_id": "r", "body": body}})
        for lines, name in ((good, "output_file_id"), (bad, "error_file_id")):
            if lines:
                random.Random(0).shuffle(lines)
                batch[name] = f"file-{len(self.files)}"
                self.files[batch[name]] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        batch["request_counts"] = {"total": len(requests), "completed": len(good), "failed": len(bad)}

    def _answer(self, body: dict) -> dict:
        text = self.reply(body)
        given = sum(len(message["content"].encode()) for message in body["messages"]) // 4
        used = self.tokens or (
            given,
            min(body.get("max_tokens", body.get("max_completion_tokens")), len(text.encode()) // 4),
        )
        self.usage.append(used)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
        return {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"],
                "choices": [choice], "usage": usage}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeBatches

    def log_message(self, *_) -> None: ...

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_GET(self) -> None:
        self._serve(b"")

    def _serve(self, body: bytes) -> None:
        fake, path = self.fake, urlsplit(self.path).path
        name = f"{self.command} " + re.sub(r"(batch_|file-)\d+", "{id}", path)
        with fake.lock:
            fake.log.append(name)
            waiting = fake.faults.get(name, [])
            fault = waiting.pop(0) if waiting else None
            if fault == "drop":
                return self._drop()
            if fault == "not_json":
                return self._send(200, b"<html>a proxy</html>")
            if isinstance(fault, int):
                return self._error(fault, "try again")
            if (sent := self.headers.get("Authorization", "").removeprefix("Bearer ")) != fake.key:
                return self._error(401, f"Incorrect API key provided: {sent}")
            done = self._do(name, path, body)
        if fault == "lost":
            return self._drop()
        if fault == "hold":
            fake.held.set()
            fake.release.wait(60)
        if done is None:
            return self._error(404, f"no such object: {path}")
        self._send(200, done if isinstance(done, bytes) else json.dumps(done).encode())

    def _do(self, name: str, path: str, body: bytes) -> dict | bytes | None:
        fake, last = self.fake, path.split("/")[3:4]
        if name == "POST /v1/files":
            return fake.upload(self._multipart(body))
        if name == "POST /v1/batches":
            return fake.create(json.loads(body))
        if name == "GET /v1/files/{id}/content":
            return fake.files.get(last[0])
        if name == "GET /v1/batches/{id}":
            return fake.move(fake.batches[last[0]]) if last[0] in fake.batches else None
        if name == "GET /v1/batches":
            newest, after = (
                list(reversed(fake.batches.values())),
                parse_qs(urlsplit(self.path).query).get("after"),
            )
            start = 1 + [each["id"] for each in newest].index(after[0]) if after else 0
            more = start + PAGE < len(newest)
            return {"object": "list", "data": newest[start : start + PAGE], "has_more": more}
        return None

    def _multipart(self, body: bytes) -> dict[str, bytes]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = email.message_from_bytes(head + body).get_payload()
        return {part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
                for part in parts}  # fmt: skip

    def _error(self, status: int, message: str) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        self._send(status, json.dumps({"error": error}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
