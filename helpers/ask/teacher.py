"""Ask a teacher LLM many questions: at once, within a budget, and never pay for an answer twice.

Any server with OpenAI's chat-completions API works: OPENAI_BASE_URL names another one (Ollama, vLLM).
"""

import asyncio
import random
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pydantic
from tqdm import tqdm

from helpers.ask import answers, prices
from helpers.ask.answers import Answer, BudgetReached, Request, TeacherError, answered, estimate, summary
from helpers.core import files

__all__ = ["Request", "estimate", "summary"]  # used as teacher.Request …

TRIES = 7  # of a request that fails; a 429 says "later", not "no", and does not count
BACK_OFF_SECONDS = 1.0  # before the second try, then twice as long each time
LONGEST_WAIT_SECONDS = 600.0  # a server that answers nothing for longer is not waited for
GLANCE_SECONDS = 0.02  # between looks of an idle place at whether it may send


def ask_all(requests: list[Request], journal_path: Path, *, model: str, response_model: type,
            max_cost_usd: float, max_concurrency: int = 64,
            readable: Callable[[str], bool] | None = None) -> dict[str, Answer]:  # fmt: skip
    """What ended each request, by key, in the order of `requests`; only what the journal lacks is asked.

    The JSON schema of `response_model` (pydantic) is sent, if the server takes it. An answer that is cut off,
    or that `readable` (by default: JSON in it is a `response_model`) cannot use, is asked for once more.
    `max_cost_usd` covers all that this journal ever cost. Raises BudgetReached, TeacherError, ValueError for a
    model without a price, or runtime.MissingSecret, after what was in flight is in the journal.
    """
    run = _Run(requests, Path(journal_path), model, response_model, max_cost_usd, readable)
    if run.waiting:
        run.key = prices.api_key(run.base_url)
        with ThreadPoolExecutor(1) as thread:  # a notebook's own event loop is running
            try:
                thread.submit(asyncio.run, run.all(max_concurrency)).result()
            except KeyboardInterrupt:  # leaving the block waits for what is in flight: it is paid for
                run.failure = KeyboardInterrupt()
                raise
    have = answered(Path(journal_path)) | run.failed
    return {request.key: have[request.key] for request in requests}


@dataclass
class _Task:
    """A request on its way to its end. Times here are those of time.monotonic(), in seconds."""

    request: Request
    malformed: bool  # once already
    body: dict = field(default_factory=dict)  # what is sent next
    tries: int = 0
    first_sent: float = 0.0
    due: float = 0.0
    plain: bool = False  # failed with a schema


class _Run:
    """One call of ask_all: what is missing, what it may cost, how fast to send, and when to stop."""

    def __init__(self, requests, journal, model, response_model, max_cost_usd, readable):
        self.journal, self.model, self.max_cost_usd = journal, model, max_cost_usd
        self.response_model, self.readable = response_model, readable or self._fits
        self.format = answers.response_format(response_model)
        self.base_url, self.key = prices.base_url(), ""
        outcomes, in_flight = answers.read(journal)
        self.wants = answers.Wants(model, outcomes)
        have, unique = answered(journal), {request.key: request for request in requests}
        missing = [request for key, request in unique.items() if key not in have]
        self.waiting = deque(_Task(request, request.key in self.wants.flaws) for request in missing)
        self.total, self.left = len(unique), len(missing)
        self.spent, self.reserved = sum(row["cost_usd"] for row in outcomes + in_flight), {}
        self.works = any(answer.model == model for answer in have.values())
        self.format_works, self.failure, self.rows, self.failed = False, None, [], {}
        self.limit = self.most = 1.0  # requests in flight: now, and at the most
        self.resume_at = self.cut_at = self.last_answer = 0.0
        if missing:
            prices.price(model)
        journal.parent.mkdir(parents=True, exist_ok=True)
        if in_flight:
            files.append_jsonl(journal, *(row | {"finish_reason": "lost"} for row in in_flight))
            usd = sum(row["cost_usd"] for row in in_flight)
            print(f"Requests in flight when the last run ended: {len(in_flight)}. They may be paid twice: up to "
                  f"${usd:.4f}, which count as spent.")  # fmt: skip

    async def all(self, max_concurrency: int) -> None:
        """Keep requests in flight until none is missing, or something fails for all of them."""
        self.limit = self.most = float(max_concurrency)
        self.last_answer, done = time.monotonic(), self.total - self.left
        context = httpx.create_ssl_context()
        with tqdm(total=self.total, initial=done, desc=self.model, file=sys.stderr) as self.bar:
            await asyncio.gather(*(self._place(context) for _ in range(min(max_concurrency, self.left))))
        if self.failure:
            raise self.failure

    async def _place(self, context) -> None:
        """Requests one by one, on a connection of its own: a pool took 14 s, not 3 (encode/httpcore#1035)."""
        import openai

        own = prices.is_own(self.base_url)  # a small server answers one after the other
        options = {"timeout": openai.Timeout(3600 if own else 300, connect=10), "max_retries": 0}
        options["http_client"] = openai.DefaultAsyncHttpxClient(trust_env=not own, verify=context)
        async with openai.AsyncOpenAI(api_key=self.key, base_url=self.base_url, **options) as client:
            while task := await self._turn():
                self.rows.append(self._row(task, None, "sent", answers.most(task.body)))
                await asyncio.sleep(0)  # one flush for the rows of all places at this moment
                self._flush()
                self.rows.append(await self._ask(client, task))

    async def _turn(self) -> _Task | None:
        """The next task as soon as the limit, the server's wishes and the budget allow it; None at the end."""
        while self.left and not self.failure:
            now = time.monotonic()
            task = next((task for task in self.waiting if task.due <= now), None)
            if task and now >= self.resume_at and len(self.reserved) < int(self.limit):
                schema = {} if task.plain and not self.format_works else self.format
                task.body = self.wants.body(task.request, schema)
                usd = prices.cost(self.model, *answers.most(task.body))
                if self.spent + sum(self.reserved.values()) + usd <= self.max_cost_usd:
                    self.waiting.remove(task)
                    self.reserved[task.request.key] = usd
                    task.first_sent = task.first_sent or now
                    return task
                if not self.reserved:  # nothing in flight can turn out cheaper
                    done = self.total - self.left
                    self.failure = BudgetReached(done, self.total, self.spent, self.max_cost_usd)
            self._flush()
            await asyncio.sleep(GLANCE_SECONDS)
        self._flush()
        return None

    def _flush(self) -> None:
        if self.rows:
            files.append_jsonl(self.journal, *self.rows)
            self.rows.clear()

    async def _ask(self, client, task: _Task) -> dict:
        """One attempt, and the row of what became of it. Without an end, the task is back in line."""
        import openai

        sent_at = time.monotonic()
        try:
            response = await client.post("/chat/completions", body=task.body, cast_to=httpx.Response)
        except openai.APIStatusError as error:
            response = error.response
        except openai.APIConnectionError as error:
            unsent = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
            return self._again(task, f"{error} ({error.__cause__!r})", "unreachable" if unsent else "lost")
        reply = answers.read_reply(response.status_code, response.text)
        if not reply.problem:
            return self._end(task, reply)
        if reply.status == 429 and sent_at > self.cut_at:  # one cut for all that were in flight together
            self.limit, self.cut_at = max(1.0, self.limit * 0.7), time.monotonic()
        header = response.headers.get("retry-after", "")  # seconds; a date (RFC 9110) is ignored
        return self._failed(task, reply, float(header) if re.fullmatch(r"\d+(\.\d+)?", header) else 0.0)

    def _failed(self, task: _Task, reply: answers.Reply, wait: float) -> dict:
        """What an error says: ask again, ask otherwise, give up this request, or stop."""
        status, problem = reply.status, reply.problem
        for_all = status in (401, 402, 403) or reply.code == "insufficient_quota"
        again = status >= 500 or status in (408, 409, 429) or reply.code == "json_validate_failed"  # Groq's
        passing = not for_all and (again or status == 0 and self.works)
        otherwise = self.wants.learn(problem)
        untried = "response_format" in task.body and not self.format_works
        if untried and not for_all and status not in (0, 429):
            task.plain = task.tries > 0 or not passing  # perhaps it cannot take a schema, whatever it answers
            otherwise |= not passing
        if passing and not otherwise:
            return self._again(task, problem, str(status) if status else "lost", status or 503, wait)
        if otherwise:
            self.waiting.appendleft(task)
        elif self.works and status in answers.REFUSED:
            return self._settle(task, "", "refused", reason=f"refused ({problem})")
        else:
            self._fail(task, problem, status)
        return self._settle(task, None, str(status or "no completion"), reason=problem)

    def _end(self, task: _Task, reply: answers.Reply) -> dict:
        """The answer or the reason that ends a request, or the first malformed answer."""
        self.works, self.last_answer = True, time.monotonic()
        self.limit = min(self.most, self.limit + 0.5 / self.limit)  # one more in two rounds of answers
        self.format_works |= "response_format" in task.body
        if not self.format_works:
            self.format = {}  # the server doesn't know JSON schemas: plain text from here on
        text, why, tokens = reply.text, reply.finish_reason, reply.tokens or answers.most(task.body)
        if reply.refused:
            return self._settle(task, text, why, tokens, f"refused ({reply.refused})")
        flaw = "not in the form that was asked for" if text.strip() else "empty"
        flaw = reply.cut_off or ("" if self.readable(text) else flaw)
        if not flaw or task.malformed:
            return self._settle(task, text, why, tokens, flaw and f"malformed twice ({flaw})")
        self.wants.learn(flaw, task.request.key)
        task.malformed = True
        self.waiting.append(task)
        return self._settle(task, None, "malformed", tokens, flaw)

    def _again(self, task: _Task, problem: str, why: str, status=503, wait=0.0) -> dict:
        """A failure that passes: back in line after a wait, unless it has lasted too long."""
        now, for_all = time.monotonic(), wait or status == 429 or not self.works
        wait = wait or BACK_OFF_SECONDS * 2**task.tries * random.uniform(1.0, 1.2)
        task.tries, task.due = task.tries + (status != 429), now + wait
        problem += f", after {task.tries} tries" if task.tries else ""
        too_long = now + wait - self.last_answer > LONGEST_WAIT_SECONDS
        if too_long or (task.tries >= TRIES and self.last_answer <= task.first_sent):
            self._fail(task, f"{problem} (next in {wait:.0f} s)", status)
        elif task.tries < TRIES:
            self.resume_at = max(self.resume_at, task.due) if for_all else self.resume_at
            self.waiting.insert(len(self.waiting) if self.works else 0, task)  # first: it may be the schema
        else:  # the others do get answers
            self.left -= 1
            ended = self._row(task, "", "failed", (0, 0), f"failed ({problem})")
            self.failed[task.request.key] = Answer(**ended)
        return self._settle(task, None, why, answers.most(task.body) if why == "lost" else (0, 0), problem)

    def _row(self, task: _Task, text: str | None, why: str, tokens: tuple[int, int], reason="") -> dict:
        usd, reason = prices.cost(self.model, *tokens), self._keyless(reason)
        return asdict(Answer(task.request.key, self.model, text, why, *tokens, usd, reason))

    def _settle(self, task: _Task, text: str | None, why: str, tokens=(0, 0), reason="") -> dict:
        """The row of what became of an attempt; its real cost takes the place of what was reserved."""
        row = self._row(task, text, why, tokens, reason)
        self.spent += row["cost_usd"]
        self.left -= text is not None
        del self.reserved[task.request.key]
        self.bar.set_postfix_str(f"${self.spent:.4f}, {len(self.reserved)} in flight", refresh=False)
        self.bar.update(text is not None)
        return row

    def _fits(self, text: str) -> bool:
        try:
            self.response_model.model_validate(answers.first_json(text))
        except pydantic.ValidationError:
            return not self.format  # a server without schemas may answer in another form
        return True

    def _fail(self, task: _Task, problem: str, status: int) -> None:
        """Something that concerns all requests: nothing more is sent."""
        where = f"{self.model!r} at {urlsplit(self.base_url).hostname}"
        self.failure = self.failure or TeacherError(
            f"The teacher {where} failed on {task.request.key!r}: {self._keyless(problem)}. "
            f"{answers.fix(status, problem)}. {self.journal.name} keeps the answers: the same call asks and pays only "
            "for the rest."
        )

    def _keyless(self, problem: str) -> str:
        return problem.replace(self.key, "[OPENAI_API_KEY]")[:400]
