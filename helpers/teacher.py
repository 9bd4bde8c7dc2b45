"""Ask a teacher LLM many questions: at once, within a budget, and never pay for an answer twice.

    answers = ask_all(requests, work_dir / "qa_journal.jsonl", model="gpt-4o",
                      response_model=QAPairs, max_cost_usd=2.0)

Any server with OpenAI's chat-completions API works: OPENAI_BASE_URL names another one (Ollama, vLLM).
An answer is appended to the journal before it counts, so after a crash, an interrupt or an error the
same call asks only for the rest. It works inside a notebook, whose event loop is already running.
It doesn't judge answers, stream, or use the Batch API. One process at a time may write a journal.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from helpers import files, runtime

# USD per million tokens in and out, live calls, as OpenAI published them for these two models. Prices
# change: look at openai.com/api/pricing before a large run.
PRICES = {"gpt-4o": (2.50, 10.00), "gpt-4o-mini": (0.15, 0.60)}
TRIES = 7
BACK_OFF_SECONDS = 1.0  # before the second try, then twice as long each time
LONGEST_WAIT_SECONDS = 600.0  # a server that asks for more than this is not waited for
FIXES = {
    401: "Check OPENAI_API_KEY, and that OPENAI_BASE_URL is the server it belongs to",
    403: "This OPENAI_API_KEY may not use the model: choose another teacher_model or another key",
    404: "Choose a teacher_model that the server has; OPENAI_BASE_URL usually ends in /v1",
    429: "If the account's quota is used up, add credit; otherwise lower max_concurrency",
}


class BudgetReached(RuntimeError):
    """The next request might cost more than max_cost_usd leaves; what is answered is in the journal."""


class TeacherError(RuntimeError):
    """The teacher cannot answer now; the message says why and what to change."""


@dataclass(frozen=True)
class Request:
    """One question to the teacher. `key` names it in the journal; `max_tokens` limits its answer."""

    key: str
    system: str
    user: str
    max_tokens: int = 1024


@dataclass(frozen=True)
class Answer:
    """A row of the journal. `finish_reason` is "length" where max_tokens cut the text off."""

    key: str
    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


def cost(model: str, prompt_tokens: int, completion_tokens: int) -> float:
    """USD; 0 for a model without a price on another server, ValueError for one without at OpenAI."""
    if model not in PRICES and not os.environ.get("OPENAI_BASE_URL"):
        raise ValueError(
            f"No price is known for {model!r}, so max_cost_usd could not be kept. Use {' or '.join(PRICES)}, "
            f"or add it: teacher.PRICES[{model!r}] = (USD per million tokens in, out)"
        )
    into, out = PRICES.get(model, (0.0, 0.0))
    return (prompt_tokens * into + completion_tokens * out) / 1e6


def estimate(requests: list[Request], model: str) -> dict:
    """`calls`, `prompt_tokens` (4 characters a token), and at most `completion_tokens` and `usd`."""
    prompt = sum((len(request.system) + len(request.user)) // 4 for request in requests)
    completion = sum(request.max_tokens for request in requests)
    usd = cost(model, prompt, completion)
    return {"calls": len(requests), "prompt_tokens": prompt, "completion_tokens": completion, "usd": usd}


def answered(journal: Path) -> dict[str, Answer]:
    """The journal's answers by key, without its attempts that were lost on the way (text is null)."""
    rows = files.read_jsonl(journal) if journal.exists() else []
    return {row["key"]: Answer(**row) for row in rows if row["text"] is not None}


def ask_all(requests: list[Request], journal_path: Path, *, model: str, response_model: type,
            max_cost_usd: float, max_concurrency: int = 8) -> dict[str, Answer]:  # fmt: skip
    """The answers by key, in the order of `requests`; only keys that the journal lacks are asked.

    The JSON schema of `response_model` (pydantic) is sent, unless the server refuses it.
    `max_cost_usd` covers all that this journal ever cost. Raises BudgetReached, TeacherError or
    runtime.MissingSecret, after what was in flight is in the journal.
    """
    run = _Run(requests, Path(journal_path), model, response_model, max_cost_usd)
    if run.missing:
        run.key = _key(run.base_url)
        with ThreadPoolExecutor(1) as thread:
            try:
                thread.submit(asyncio.run, run.all(max_concurrency)).result()
            except KeyboardInterrupt:
                run.stop.set()  # leaving the block waits for what is in flight: it is paid for
                raise
    have = answered(Path(journal_path))
    return {request.key: have[request.key] for request in requests}


def _is_own(base_url: str) -> bool:
    """A server on this machine or network: it may have no key, and no proxy leads to it."""
    host = urlsplit(base_url).hostname or ""
    return bool(re.fullmatch(r"localhost|[\d.]+|[\da-f:]+|.+\.(local|internal)", host))


def _key(base_url: str) -> str:
    try:
        return runtime.secret("OPENAI_API_KEY")
    except runtime.MissingSecret:
        if _is_own(base_url):
            return "not-needed"
        raise


class _Run:
    """One call of ask_all: what is missing, what it may cost, and when to stop."""

    def __init__(self, requests, journal: Path, model: str, response_model: type, max_cost_usd: float):
        journal.parent.mkdir(parents=True, exist_ok=True)
        have, unique = answered(journal), {request.key: request for request in requests}
        self.missing = deque(request for key, request in unique.items() if key not in have)
        self.total, self.done = len(unique), len(unique) - len(self.missing)
        self.journal, self.model, self.max_cost_usd = journal, model, max_cost_usd
        rows = files.read_jsonl(journal) if journal.exists() else []
        self.spent, self.reserved = sum(row["cost_usd"] for row in rows), {}
        schema = {"name": response_model.__name__, "strict": True}
        schema["schema"] = response_model.model_json_schema()
        self.format = {"response_format": {"type": "json_schema", "json_schema": schema}}
        self.format_works, self.stop, self.key = False, threading.Event(), ""
        self.base_url = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"

    async def all(self, max_concurrency: int) -> None:
        """Keep up to `max_concurrency` requests in flight until none is missing, or one fails for good."""
        import openai
        from tqdm import tqdm

        web = openai.DefaultAsyncHttpxClient(trust_env=not _is_own(self.base_url))
        options = {"max_retries": 0, "timeout": openai.Timeout(300, connect=10), "http_client": web}
        flying, failure = set(), None
        bar = tqdm(total=self.total, initial=self.done, desc=self.model, file=sys.stderr)
        async with openai.AsyncOpenAI(api_key=self.key, base_url=self.base_url, **options) as client:
            while flying or (self.missing and not self.stop.is_set()):
                while self.missing and len(flying) < max_concurrency and self._reserve(self.missing[0]):
                    flying.add(asyncio.create_task(self._ask(client, self.missing.popleft())))
                if not flying:
                    failure = BudgetReached()
                    break
                done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                failures = [task.exception() for task in done if task.exception()]
                if failures and not failure:
                    failure = failures[0]
                    self.stop.set()
                bar.set_postfix_str(f"${self.spent:.4f}", refresh=False)
                bar.update(self.done - bar.n)
        bar.close()
        if isinstance(failure, BudgetReached):
            raise BudgetReached(
                f"{self.done} of {self.total} requests are answered, for ${self.spent:.4f}; the next may "
                f"cost more than max_cost_usd = {self.max_cost_usd} leaves. {self.journal.name} keeps the "
                "answers: the same call with a higher max_cost_usd asks and pays only for the rest."
            )
        if failure:
            raise failure

    def _most(self, request: Request) -> tuple[int, int]:
        """The most tokens that can be billed, in and out: no tokenizer makes more tokens than bytes."""
        return len(f"{request.system}{request.user}{self.format}".encode()) + 100, request.max_tokens

    def _reserve(self, request: Request) -> bool:
        """Set the worst-case cost aside; False at a stop, or when it doesn't fit into the budget."""
        most = cost(self.model, *self._most(request))
        if self.stop.is_set() or self.spent + sum(self.reserved.values()) + most > self.max_cost_usd:
            return False
        self.reserved[request.key] = most
        return True

    def _keep(self, request: Request, text: str | None, why: str, tokens: tuple[int, int]) -> None:
        """Journal an answer, or with text None an attempt that may have been billed and was lost."""
        usd = cost(self.model, *tokens)
        row = {"key": request.key, "model": self.model, "text": text, "finish_reason": why}
        row |= {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "cost_usd": usd}
        files.append_jsonl(self.journal, row)
        self.spent += usd
        self.done += text is not None
        del self.reserved[request.key]

    async def _ask(self, client, request: Request) -> None:
        """Ask until the answer is in the journal; after a stop, nothing more is sent."""
        import httpx
        import openai

        messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
        tries = 0
        while not self.stop.is_set():
            asked, wait = self.format, 0.0
            try:
                reply = await client.chat.completions.create(
                    model=self.model, messages=messages, max_tokens=request.max_tokens, **asked
                )
                if not isinstance(reply, openai.types.chat.ChatCompletion) or not reply.choices:
                    raise self._error(request, f"no chat completion in its reply {str(reply)!r}", 404)
                self.format_works = self.format_works or bool(asked)
                used, choice = reply.usage, reply.choices[0]
                tokens = (used.prompt_tokens, used.completion_tokens) if used else self._most(request)
                return self._keep(request, choice.message.content or "", choice.finish_reason, tokens)
            except (openai.APIConnectionError, json.JSONDecodeError) as error:  # dropped, or cut short
                problem, status = f"{error} ({error.__cause__!r})", 0
                if not isinstance(error.__cause__, (httpx.ConnectError, httpx.ConnectTimeout)):
                    self._keep(request, None, "lost", self._most(request))
                    if not self._reserve(request):
                        raise BudgetReached from None
            except openai.APIStatusError as error:
                problem, status = error.message, error.status_code
                if status in (400, 422) and asked and not self.format_works:
                    self.format = {}  # the server doesn't know JSON schemas: plain text from here on
                    continue
                if (status < 500 and status not in (408, 409, 429)) or error.code == "insufficient_quota":
                    raise self._error(request, problem, status) from None
                after = error.response.headers.get("retry-after", "")
                wait = float(after) if after.replace(".", "", 1).isdigit() else 0.0
            tries += 1
            wait = max(wait, BACK_OFF_SECONDS * 2 ** (tries - 1))
            if tries == TRIES or wait > LONGEST_WAIT_SECONDS:
                raise self._error(request, f"{problem}, after {tries} tries (next in {wait:.0f} s)", status)
            until = time.monotonic() + wait * random.uniform(1.0, 1.2)
            while time.monotonic() < until and not self.stop.is_set():
                await asyncio.sleep(min(0.2, wait))

    def _error(self, request: Request, problem: str, status: int) -> TeacherError:
        said = problem.replace(self.key, "[OPENAI_API_KEY]")[:400]
        fix = FIXES.get(status, "Check that the server is up (OPENAI_BASE_URL), then run again")
        host = urlsplit(self.base_url).hostname
        return TeacherError(
            f"The teacher {self.model!r} at {host} failed on {request.key!r}: {said}. {fix}. "
            f"{self.journal.name} keeps the answers: the same call asks and pays only for the rest."
        )
