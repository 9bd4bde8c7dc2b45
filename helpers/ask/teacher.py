"""Ask a teacher LLM many questions: at once, within a budget, and never pay for an answer twice.

    answers = ask_all(requests, work_dir / "qa_journal.jsonl", model="gpt-4o",
                      response_model=QAPairs, max_cost_usd=2.0)

Any server with OpenAI's chat-completions API works: OPENAI_BASE_URL names another one (Ollama, vLLM).
It works inside a notebook, whose event loop is already running, and doesn't stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlsplit

import pydantic

from helpers.ask.answers import (
    PRICES,
    Answer,
    Reply,
    Request,
    answered,
    base_url,
    cost,
    error_in,
    estimate,
    first_json,
    is_own,
    read,
    read_reply,
    response_format,
    summary,
)
from helpers.core import files, runtime

__all__ = ["PRICES", "estimate", "summary"]  # used as teacher.PRICES …

TRIES = 7  # of a request that fails; a 429 says "later", not "no", and does not count
BACK_OFF_SECONDS = 1.0  # before the second try, then twice as long each time
LONGEST_WAIT_SECONDS = 600.0  # a server that answers nothing for longer is not waited for
CUT_OFF, THOUGHT = "cut off by max_tokens", "of which its thinking took a part"
FIXES = {
    400: "No request has worked yet: check teacher_model, what this server accepts, and this text",
    401: "Check OPENAI_API_KEY, and that OPENAI_BASE_URL is the server it belongs to",
    403: "This OPENAI_API_KEY may not use the model: choose another teacher_model or another key",
    404: "Choose a teacher_model that the server has; OPENAI_BASE_URL usually ends in /v1",
    429: "If the account's quota is used up, add credit; otherwise lower max_concurrency",
}


class BudgetReached(RuntimeError):
    """The next request might cost more than max_cost_usd leaves; what is answered is in the journal."""

    def __init__(self, journal: Path, done: int, total: int, usd: float, max_cost_usd: float):
        super().__init__(
            f"{done} of {total} requests are answered, for ${usd:.4f}; the next may cost more than max_cost_usd = "
            f"{max_cost_usd} leaves. {journal.name} keeps the answers: the same call with a higher max_cost_usd asks "
            "and pays only for the rest."
        )


class TeacherError(RuntimeError):
    """The teacher cannot answer anything now; the message says why and what to change."""


def ask_all(requests: list[Request], journal_path: Path, *, model: str, response_model: type,
            max_cost_usd: float, max_concurrency: int = 64,
            readable: Callable[[str], bool] | None = None) -> dict[str, Answer]:  # fmt: skip
    """What ended each request, by key, in the order of `requests`; only what the journal lacks is asked.

    The JSON schema of `response_model` (pydantic) is sent, unless the server refuses it. An answer that is
    cut off, or that `readable` (by default: a JSON object in it is a `response_model`) cannot use, is asked
    for once more. At most `max_concurrency` requests are in flight, fewer while the server says 429.
    `max_cost_usd` covers all that this journal ever cost. Raises BudgetReached, TeacherError or
    runtime.MissingSecret, after what was in flight is in the journal.
    """
    run = _Run(requests, Path(journal_path), model, response_model, max_cost_usd, readable)
    if run.missing:
        run.key = api_key(run.base_url)
        with ThreadPoolExecutor(1) as thread:
            try:
                thread.submit(asyncio.run, run.all(max_concurrency)).result()
            except KeyboardInterrupt:
                run.failure = (
                    KeyboardInterrupt()
                )  # leaving the block waits for what is in flight: it is paid for
                raise
    have = answered(Path(journal_path)) | run.failed
    return {request.key: have[request.key] for request in requests}


def api_key(url: str) -> str:
    try:
        return runtime.secret("OPENAI_API_KEY")
    except runtime.MissingSecret:
        if is_own(url):
            return "not-needed"
        raise


def _retry_after(header: str) -> float:
    """The seconds that a server asks to wait; 0 where it doesn't, or names a date (RFC 9110 allows one)."""
    return float(header) if re.fullmatch(r"\d+(\.\d+)?", header) else 0.0


def _longer(request: Request, flaw: str) -> Request:
    """The request with room for an answer that was cut off, and for a model that thinks before it answers."""
    return replace(request, max_tokens=(8 if THOUGHT in flaw else 2) * request.max_tokens)


class _Run:
    """One call of ask_all: what is missing, what it may cost, how fast to send, and when to stop."""

    def __init__(self, requests, journal: Path, model: str, response_model: type, max_cost_usd: float,
                 readable: Callable[[str], bool] | None):  # fmt: skip
        journal.parent.mkdir(parents=True, exist_ok=True)
        self.journal, self.model, self.max_cost_usd = journal, model, max_cost_usd
        self.response_model, self.readable = response_model, readable or self._fits
        self.format = response_format(response_model)
        self.base_url, self.key = base_url(), ""
        outcomes, in_flight = read(journal)
        if in_flight:
            lost = [row | {"finish_reason": "lost"} for row in in_flight]
            files.append_jsonl(journal, *lost)
            outcomes += lost
            print(
                f"Requests in flight when the last run ended: {len(lost)}. They may be paid twice: up to "
                f"${sum(row['cost_usd'] for row in lost):.4f}, which count as spent."
            )
        have, unique = answered(journal), {request.key: request for request in requests}
        cut_off = {row["key"]: row["reason"] for row in outcomes if row.get("reason", "").startswith(CUT_OFF)}
        missing = [request for key, request in unique.items() if key not in have]
        self.missing = deque(_longer(r, cut_off[r.key]) if r.key in cut_off else r for r in missing)
        self.total, self.done = len(unique), len(unique) - len(self.missing)
        self.spent, self.reserved = sum(row["cost_usd"] for row in outcomes), {}
        self.malformed = {row["key"] for row in outcomes if row["finish_reason"] == "malformed"}
        self.works = any(answer.model == model for answer in have.values())
        self.format_works, self.plain = False, set()  # the keys that failed with a schema
        self.limit_name = ""  # of max_tokens, where the server wants another one
        self.failed, self.failure, self.clients = {}, None, []
        self.tries, self.first_sent, self.timers = Counter(), {}, set()
        self.limit = self.most = 1.0  # requests in flight: now, and at the most
        self.resume_at = self.cut_at = self.last_answer = 0.0  # in time.monotonic() seconds

    async def all(self, max_concurrency: int) -> None:
        """Keep requests in flight until none is missing, or something fails for all of them."""
        import httpx
        import openai
        from tqdm import tqdm

        own = is_own(self.base_url)  # a small server answers one after the other
        options = {"timeout": openai.Timeout(3600 if own else 300, connect=10), "max_retries": 0}
        context = httpx.create_ssl_context()
        self.limit = self.most = float(max_concurrency)
        self.last_answer = time.monotonic()
        rows, flying = [], set()
        async with contextlib.AsyncExitStack() as open_clients:
            bar = tqdm(total=self.total, initial=self.done, desc=self.model, file=sys.stderr)
            open_clients.callback(bar.close)
            # A connection each: httpx' pool looks at all of its connections at every request, and again for
            # each of them (encode/httpcore#1035): 600 answers from 64 connections took 14 s instead of 3.
            for _ in range(max_concurrency):
                options["http_client"] = openai.DefaultAsyncHttpxClient(trust_env=not own, verify=context)
                client = openai.AsyncOpenAI(api_key=self.key, base_url=self.base_url, **options)
                self.clients.append(await open_clients.enter_async_context(client))
            while True:
                sending = self._next(len(flying), time.monotonic())
                rows += [self._row(request, None, "sent", self._most(request)) for request in sending]
                if rows:
                    files.append_jsonl(self.journal, *rows)  # one flush for all that came meanwhile
                flying |= {asyncio.create_task(self._ask(request)) for request in sending}
                bar.set_postfix_str(f"${self.spent:.4f}, {len(flying)} in flight", refresh=False)
                bar.update(self.done - bar.n)
                if not flying and (self.failure or not (self.missing or self.timers)):
                    break
                if not flying and not self.timers:
                    raise BudgetReached(self.journal, self.done, self.total, self.spent, self.max_cost_usd)
                tasks = flying | self.timers
                done, _ = await asyncio.wait(tasks, timeout=0.2, return_when="FIRST_COMPLETED")
                rows = [task.result() for task in done & flying]
                flying, self.timers = flying - done, self.timers - done
        if self.failure:
            raise self.failure

    def _fits(self, text: str) -> bool:
        try:
            self.response_model.model_validate(first_json(text))
        except pydantic.ValidationError:
            return not self.format  # a server without schemas may answer in another form
        return True

    def _next(self, flying: int, now: float) -> list[Request]:
        """What to send now: as much as the limit, the server's wishes and the budget allow at the worst."""
        chosen: list[Request] = []
        while self.missing and not self.failure and now + 0.001 >= self.resume_at:
            most = cost(self.model, *self._most(self.missing[0]))
            too_much = self.spent + sum(self.reserved.values()) + most > self.max_cost_usd
            if too_much or flying + len(chosen) >= int(self.limit):
                break
            chosen.append(self.missing.popleft())
            self.reserved[chosen[-1].key] = most
        return chosen

    def _most(self, request: Request) -> tuple[int, int]:
        """The most tokens that can be billed, in and out: no tokenizer makes more tokens than bytes."""
        return len(f"{request.system}{request.user}{self.format}".encode()) + 100, request.max_tokens

    def _row(self, request: Request, text: str | None, why: str, tokens: tuple[int, int], reason="") -> dict:
        usd = cost(self.model, *tokens)
        return asdict(Answer(request.key, self.model, text, why, *tokens, usd, reason))

    def _settle(self, request: Request, text: str | None, why: str, tokens=(0, 0), reason="") -> dict:
        """The row of what became of an attempt; its real cost takes the place of what was reserved."""
        row = self._row(request, text, why, tokens, reason)
        self.spent += row["cost_usd"]
        self.done += text is not None
        del self.reserved[request.key]
        return row

    async def _ask(self, request: Request) -> dict:
        """One attempt, and the row of what became of it. Without an end, the request is back in line."""
        import httpx
        import openai

        schema = {} if self.plain and not self.format_works else self.format
        body = request.body(self.model, self.limit_name) | schema
        sent_at = time.monotonic()
        self.first_sent.setdefault(request.key, sent_at)
        client = self.clients.pop()
        try:
            response = await client.post("/chat/completions", body=body, cast_to=httpx.Response)
            if error := error_in(answer := json.loads(response.text)):
                return self._error(request, *error, "", body, sent_at)
            reply = read_reply(answer)
        except ValueError as error:
            torn = isinstance(error, json.JSONDecodeError) and response.text.startswith("{")
            if not torn and not self.works:
                self._fail(request, f"no chat completion in its reply {response.text[:200]!r}", 404)
                return self._settle(request, None, "no completion")
            return self._again(request, f"no whole chat completion in its reply: {response.text[:80]!r}")
        except openai.APIConnectionError as error:
            return self._again(request, f"{error} ({error.__cause__!r})", cause=error.__cause__)
        except openai.APIStatusError as error:
            wait = _retry_after(error.response.headers.get("retry-after", ""))
            return self._error(request, error.status_code, error.message, error.code, body, sent_at, wait)
        else:
            return self._end(request, reply, schema)
        finally:
            self.clients.append(client)

    def _error(
        self, request, status: int, problem: str, code: str, body: dict, sent_at: float, wait=0.0
    ) -> dict:
        """What an error says: ask again, ask otherwise, give up this request, or stop."""
        with_schema = "response_format" in body
        if "max_completion_tokens" in problem and "max_tokens" in body:
            self.limit_name = "max_completion_tokens"
            self.missing.appendleft(request)
            return self._settle(request, None, str(status), reason=self._keyless(problem))
        if (
            status in (400, 413, 422) and code != "json_validate_failed"
        ):  # Groq's: the model failed, not the text
            return self._refuse(request, problem, with_schema)
        if (status < 500 and status not in (400, 408, 409, 429)) or code == "insufficient_quota":
            self._fail(request, problem, status)
            return self._settle(request, None, str(status), reason=self._keyless(problem))
        if status >= 500 and with_schema and not self.format_works and self.tries[request.key]:
            self.plain.add(request.key)  # twice in a row: perhaps it cannot take a schema
        if status == 429 and sent_at > self.cut_at:  # one cut for all that were in flight together
            self.limit, self.cut_at = max(1.0, self.limit * 0.7), time.monotonic()
        return self._again(request, problem, status, wait)

    def _end(self, request: Request, reply: Reply, schema: dict) -> dict:
        """The answer or the reason that ends a request, or the first malformed answer."""
        self.works, self.last_answer = True, time.monotonic()
        self.limit = min(self.most, self.limit + 0.5 / self.limit)  # one more in two rounds of answers
        if not schema and not self.format_works:
            self.format = {}  # the server doesn't know JSON schemas: plain text from here on
        self.format_works = self.format_works or bool(schema)
        text, why, tokens = reply.text, reply.finish_reason, reply.tokens or self._most(request)
        if reply.refused:
            return self._settle(request, text, why, tokens, f"refused ({self._keyless(reply.refused)})")
        cut_off = why == "length"
        flaw = "" if self.readable(text) else "not in the form that was asked for"
        flaw = f"{CUT_OFF}, {THOUGHT}" if cut_off and reply.reasoned else CUT_OFF if cut_off else flaw
        if flaw and request.key not in self.malformed:
            self.malformed.add(request.key)
            self.missing.append(_longer(request, flaw) if cut_off else request)
            return self._settle(request, None, "malformed", tokens, flaw)
        return self._settle(request, text, why, tokens, flaw and f"malformed twice ({flaw})")

    def _refuse(self, request: Request, problem: str, with_schema: bool) -> dict:
        """A 400: the server doesn't know schemas, or it cannot take this text, or it takes nothing."""
        if with_schema and not self.format_works:
            self.plain.add(request.key)
            self.missing.appendleft(request)
        elif self.works:
            return self._settle(request, "", "refused", reason=f"refused ({self._keyless(problem)})")
        else:
            self._fail(request, problem, 400)
        return self._settle(request, None, "400", reason=self._keyless(problem))

    def _again(self, request: Request, problem: str, status=0, wait=0.0, cause=None) -> dict:
        """A failure that passes: back in line after a wait, unless it has lasted too long."""
        import httpx

        now, key = time.monotonic(), request.key
        for_all = wait or status == 429 or not self.works
        wait = wait or BACK_OFF_SECONDS * 2 ** self.tries[key] * random.uniform(1.0, 1.2)
        self.tries[key] += status != 429
        problem += f", after {self.tries[key]} tries" if self.tries[key] else ""
        too_long = now + wait - self.last_answer > LONGEST_WAIT_SECONDS
        if too_long or (self.tries[key] >= TRIES and self.last_answer <= self.first_sent[key]):
            self._fail(request, f"{problem} (next in {wait:.0f} s)", status)
        elif self.tries[key] < TRIES:
            self.resume_at = max(self.resume_at, now + wait) if for_all else self.resume_at
            self.timers.add(asyncio.create_task(self._back(request, wait)))
        else:  # the others do get answers
            reason = f"failed ({self._keyless(problem)})"
            self.failed[key] = Answer(key, self.model, "", "failed", 0, 0, 0.0, reason)
        if status or isinstance(cause, (httpx.ConnectError, httpx.ConnectTimeout)):
            return self._settle(request, None, str(status or "unreachable"), reason=self._keyless(problem))
        return self._settle(request, None, "lost", self._most(request), self._keyless(problem))

    async def _back(self, request: Request, wait: float) -> None:
        await asyncio.sleep(wait)
        self.missing.append(request)

    def _fail(self, request: Request, problem: str, status: int) -> None:
        """Something that concerns all requests: nothing more is sent."""
        fix = FIXES.get(status, "Check that the server is up (OPENAI_BASE_URL), then run again")
        where = f"{self.model!r} at {urlsplit(self.base_url).hostname}"
        self.failure = self.failure or TeacherError(
            f"The teacher {where} failed on {request.key!r}: {self._keyless(problem)}. {fix}. "
            f"{self.journal.name} keeps the answers: the same call asks and pays only for the rest."
        )

    def _keyless(self, problem: str) -> str:
        return problem.replace(self.key, "[OPENAI_API_KEY]")[:400]
