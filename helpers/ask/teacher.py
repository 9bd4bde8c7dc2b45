"""Ask a teacher LLM many questions: at once, within a budget, and never pay for an answer twice.

Any server with OpenAI's chat-completions API works: OPENAI_BASE_URL names another one (Ollama, vLLM). The client's own
retries are off: each attempt has its rows in the journal, and its place in the budget. A batch is a `Run` too.
"""

import asyncio
import contextlib
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

import httpx
from tqdm import tqdm

from helpers.ask import answers, prices
from helpers.ask.answers import LOST, THOUGHT, UNSENT, Answer, Reply, Request, answered, estimate, summary
from helpers.core import files, runtime

__all__ = ["Answer", "Request", "answered", "estimate", "summary"]

TRIES = 7  # of a request that fails; a 429 says "later", not "no", and does not count
PASSING = 408, 409, 424, 429, 498, 499  # statuses below 500 that say nothing about the request
BACK_OFF_SECONDS = 1.0  # before the second try, then twice as long each time
LONGEST_WAIT_SECONDS = 600.0  # a server that answers nothing for longer is not waited for
GLANCE_SECONDS = 0.02  # between looks of an idle place at whether it may send
# What to do, by an error's status; 0 is what is no completion.
FIXES = {int(status): fix for status, fix in files.read_json(Path(__file__).with_name("fixes.json")).items()}


class BudgetReached(RuntimeError):
    """The next request might cost more than max_cost_usd leaves; what is answered is in the journal."""


class TeacherError(RuntimeError):
    """The teacher cannot answer anything now; the message says why and what to change."""


def ask_all(requests: list[Request], journal_path: Path, *, model: str, response_model: type,
            max_cost_usd: float, max_concurrency: int = 64,
            readable: Callable[[str], bool] | None = None) -> dict[str, Answer]:  # fmt: skip
    """What ended each request, by key, in the order of `requests`; only what the journal lacks is asked.

    The JSON schema of `response_model` (pydantic) is sent, if the server takes it. What is cut off, or not `readable`
    (by default: JSON in it is a `response_model`), is asked for once more. `max_cost_usd` covers all that this journal
    ever cost. Raises BudgetReached, TeacherError, ValueError for a model without a price, or runtime.MissingSecret.
    """
    run = _Run(requests, journal_path, model, response_model, max_cost_usd)
    run.readable = readable or (lambda text: any(answers.all_items(text, response_model)))
    if run.waiting:
        with ThreadPoolExecutor(1) as thread:  # a notebook's own event loop is running
            try:
                thread.submit(asyncio.run, run.all(max_concurrency)).result()
            except KeyboardInterrupt:  # leaving the block waits for what is in flight: it is paid for
                run.failure = KeyboardInterrupt()
                raise
    return run.ends()


class Run:
    """One call of `ask_all`, live or in batches: what is asked, what the journal has of it, and its next rows."""

    def __init__(self, requests, journal: Path, model: str, response_model, max_cost_usd, price_share=1.0):
        self.requests = {request.key: request for request in requests}
        self.journal, self.model, self.max_cost_usd = Path(journal), model, max_cost_usd
        self.format = answers.response_format(response_model)
        outcomes, self.in_flight = answers.read(self.journal)
        self.have, self.failed = answers.answered(self.journal), {}
        self.works = any(answer.model == model for answer in self.have.values())  # has ever answered
        self.wants = answers.Wants(model, outcomes)
        self.spent = sum(row["cost_usd"] for row in outcomes + self.in_flight)
        if self.missing():
            self.price = tuple(price_share * usd for usd in prices.price(model))
            self.url, self.key = prices.base_url(), "not-needed"
            with contextlib.suppress(runtime.MissingSecret if prices.is_own(self.url) else ()):
                self.key = runtime.secret("OPENAI_API_KEY")

    def missing(self) -> list[Request]:
        return [request for key, request in self.requests.items() if key not in self.have]

    def ends(self) -> dict[str, Answer]:
        """What ended each request; what `fail` ended, the next call asks again."""
        ended = self.have | self.failed
        return {key: ended[key] for key in self.requests}

    def row(self, key: str, text: str | None, why: str, tokens=(0, 0), reason="") -> dict:
        """A row of the journal."""
        usd, reason = prices.cost(self.price, *tokens), reason.replace(self.key, "[OPENAI_API_KEY]")[:400]
        return asdict(Answer(key, self.model, text, why, *tokens, usd, reason))

    def settle(self, key: str, text: str | None, why: str, tokens=(0, 0), reason="") -> dict:
        """The row of what became of an attempt; it counts from now on."""
        row = self.row(key, text, why, tokens, reason)
        self.spent += row["cost_usd"]
        if text is not None:
            self.have[key] = Answer(**row)
        return row

    def end(self, key: str, reply: Reply, flaw: str, tokens: tuple[int, int]) -> dict:
        """The row of a completion: an answer, a reason or, the first time that it has a flaw, neither."""
        text, why, self.works = reply.text, reply.finish_reason, True
        if reply.refused:
            return self.settle(key, text, why, tokens, f"refused ({reply.refused})")
        if not flaw or key in self.wants.flaws:
            return self.settle(key, text, why, tokens, flaw and f"malformed twice ({flaw})")
        self.wants.learn(key, flaw=flaw)
        return self.settle(key, None, "malformed", tokens, flaw)

    def refusal(self, key: str, reply: Reply) -> dict | None:
        """The row of a request that is refused for its text, or for the room that it lacked; None for others."""
        anyway = self.works and reply.status in answers.REFUSED and "account" not in reply.says
        flaw = "room" in reply.says and self.wants.flaws.get(key)
        reason = f"malformed twice ({flaw})" if flaw else f"refused ({reply.problem})"
        return self.settle(key, "", "refused", reason=reason) if anyway or "text" in reply.says else None

    def fail(self, key: str, problem: str) -> None:
        self.failed[key] = Answer(**self.row(key, "", "failed", reason=f"failed ({problem})"))

    def budget_reached(self) -> BudgetReached:
        total = len(self.requests)
        return BudgetReached(
            f"{total - len(self.missing())} of {total} requests are answered, for ${self.spent:.4f}; the next may cost "
            f"more than max_cost_usd = {self.max_cost_usd} leaves. The journal keeps the answers: the same call with a "
            "higher max_cost_usd asks and pays only for the rest."
        )

    def error(self, doing: str, problem: str, status: int, fix: str = "") -> TeacherError:
        """What concerns all requests, with what to change: by default, what the status says."""
        if status == 404 and re.search("(?i)model|deployment", problem):
            fix = fix or "Choose a teacher_model that the server has"
        status = 402 if status in answers.REFUSED and "account" in Reply(problem=problem).says else status
        fix = fix or FIXES.get(status, "Check that the server is up (OPENAI_BASE_URL), then run again")
        problem = problem.replace(self.key, "[OPENAI_API_KEY]")[:400]
        return TeacherError(
            f"The teacher {self.model!r} at {urlsplit(self.url).hostname} failed {doing}: {problem}. "
            f"{fix}. What is answered or under way is kept: the same call asks and pays only for the rest."
        )


class _Run(Run):
    """A live one: how fast to send, when to stop, and what is in flight."""

    def __init__(self, *job):
        super().__init__(*job)
        self.waiting = deque(self.missing())
        self.answers_now, self.format_works, self.failure = False, False, None
        self.reserved, self.rows = {}, []  # USD by key, and what is not on the disk yet
        self.tries, self.plain = Counter(), set()  # by key; what failed with a schema
        self.due, self.resume_at, self.cut_at = Counter(), 0.0, 0.0  # in time.monotonic(); due by key
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        if lost := [row | {"finish_reason": LOST} for row in self.in_flight]:
            files.append_jsonl(self.journal, *lost)
            usd = sum(row["cost_usd"] for row in lost)
            print(f"Requests in flight when the last run ended: {len(lost)}. They may be paid twice: up to ${usd:.4f}, "
                  "which count as spent.")  # fmt: skip

    async def all(self, max_concurrency: int) -> None:
        """Keep requests in flight until none is missing, or something fails for all of them."""
        self.limit = self.most = float(max_concurrency)  # requests in flight: now, and at the most
        self.last_answer, context = time.monotonic(), httpx.create_ssl_context()
        total, left = len(self.requests), len(self.waiting)
        with tqdm(total=total, initial=total - left, desc=self.model, file=sys.stderr) as self.bar:
            await asyncio.gather(*(self._place(context) for _ in range(min(max_concurrency, left))))
        if self.failure:
            raise self.failure

    async def _place(self, context) -> None:
        """Requests one by one, on a connection of its own: a pool took 14 s, not 3 (encode/httpcore#1035)."""
        import openai

        own = prices.is_own(self.url)  # a small server answers one after the other
        web = openai.DefaultAsyncHttpxClient(trust_env=not own, verify=context)
        options = {"timeout": openai.Timeout(3600 if own else 300, connect=10), "http_client": web}
        async with openai.AsyncOpenAI(
            api_key=self.key, base_url=self.url, max_retries=0, **options
        ) as client:
            while self.waiting and not self.failure:
                await self._ask(client, self.waiting.popleft())
            self._flush()

    async def _ask(self, client, request: Request) -> None:
        """Ask until an answer or a reason ends the request, or a failure ends the run."""
        key = request.key
        while key not in self.have and key not in self.failed and (body := await self._admitted(request)):
            self.rows.append(self.row(key, None, "sent", answers.most(body)))
            await asyncio.sleep(0)  # one flush for the rows of all places at this moment
            self._flush()
            sent_at = time.monotonic()
            reply = await self._send(client, body)
            if reply.status == 429 and sent_at > self.cut_at:  # one cut for all that were in flight together
                self.limit, self.cut_at = max(1.0, self.limit * 0.7), time.monotonic()
            outcome = self._problem if reply.problem else self._completion
            self.rows.append(outcome(request, body, reply))  # the next flush waits for nothing on its way
            del self.reserved[key]  # its real cost has taken the place of it
            self.bar.set_postfix_str(f"${self.spent:.4f}, {len(self.reserved)} in flight", refresh=False)
            self.bar.update(key in self.have)

    async def _admitted(self, request: Request) -> dict | None:
        """What to send, as soon as the limit, the server's wishes and the budget allow it; None after a failure."""
        while not self.failure:
            due = max(self.due[request.key], self.resume_at)
            if time.monotonic() >= due and len(self.reserved) < int(self.limit):
                body = self._body(request)
                usd = prices.cost(self.price, *answers.most(body))
                if self.spent + sum(self.reserved.values()) + usd <= self.max_cost_usd:
                    self.reserved[request.key] = usd
                    return body
                if not self.reserved:  # nothing in flight can turn out cheaper
                    self.failure = self.budget_reached()
            self._flush()
            await asyncio.sleep(GLANCE_SECONDS)
        return None

    def _body(self, request: Request) -> dict:
        """In plain text where the schema may have broken the last attempt."""
        plain = request.key in self.plain or THOUGHT not in self.wants.flaws.get(request.key, THOUGHT)
        return self.wants.body(request, {} if plain and not self.format_works else self.format)

    def _flush(self) -> None:
        if self.rows:
            files.append_jsonl(self.journal, *self.rows)
            self.rows.clear()

    async def _send(self, client, body: dict) -> Reply:
        """What came back, or what broke; a date in Retry-After is ignored."""
        import openai

        try:
            response = await client.post("/chat/completions", body=body, cast_to=httpx.Response)
        except openai.APIStatusError as error:
            response = error.response
        except openai.APIConnectionError as error:
            unsent = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
            return Reply(
                problem=f"{error} ({error.__cause__!r})", status=503, code=UNSENT if unsent else LOST
            )
        seconds = re.fullmatch(r"\d+(\.\d+)?", response.headers.get("retry-after", ""))
        reply = answers.read_reply(response.status_code, response.text)
        return replace(reply, wait=float(seconds[0]) if seconds else 0.0)

    def _completion(self, request: Request, body: dict, reply: Reply) -> dict:
        """The row of an answer, or of a flawed one."""
        key, formed, flaws = request.key, "response_format" in body, self.wants.flaws
        self.answers_now, self.last_answer = True, time.monotonic()
        self.limit = min(self.most, self.limit + 0.5 / self.limit)  # one more in two rounds of answers
        flaw = "not in the form that was asked for" if reply.text.strip() else "empty"
        flaw = reply.cut_off or ("" if self.readable(reply.text) else flaw)
        self.format_works |= formed and not flaw
        if not (formed or self.format_works) and (key not in flaws or (len(flaws) > 1 and not flaw)):
            self.wants.refuses.add("schema")  # unknown to the server, or what broke two answers, not chance
        return self.end(key, reply, flaw, reply.tokens or answers.most(body))

    def _problem(self, request: Request, body: dict, reply: Reply) -> dict:
        """The row of an error. What it says: ask later, ask otherwise, give up this request, or stop."""
        status, key, says = reply.status, request.key, reply.says
        again = status >= 500 or status in PASSING or reply.code == "json_validate_failed"
        passing = "account" not in says and (again or status == 0 and (self.works or not self.tries[key]))
        broken = status == 0 or reply.code in (LOST, UNSENT)  # the server did not speak
        self.wants.learn(key, says)
        if not ({"account", "text"} & says or broken or status == 429) and (self.tries[key] or not passing):
            self.plain.add(key)  # perhaps it cannot take a schema, whatever it answers
        if passing:
            self._later(key, reply)
        elif self._body(request) == body:  # nothing would be asked otherwise
            if row := self.refusal(key, reply):
                return row
            self.failure = self.failure or self.error(f"on {key!r}", reply.problem, status)
        lost = passing and broken and reply.code != UNSENT
        why = LOST if lost else UNSENT if reply.code == UNSENT else str(status or "no completion")
        return self.settle(key, None, why, answers.most(body) if lost else (0, 0), reply.problem)

    def _later(self, key: str, reply: Reply) -> None:
        """Ask again after a wait. What failed too often is given up; where nothing is answered, so are all."""
        now, busy = time.monotonic(), reply.status == 429
        wait = reply.wait or BACK_OFF_SECONDS * 2 ** self.tries[key] * random.uniform(1.0, 1.2)
        self.due[key], self.tries[key] = now + wait, self.tries[key] + (not busy)
        problem = f"{reply.problem}, after {self.tries[key]} tries" if self.tries[key] else reply.problem
        too_often = self.tries[key] >= TRIES
        if now + wait - self.last_answer > LONGEST_WAIT_SECONDS or (too_often and not self.answers_now):
            problem += f" (next in {wait:.0f} s)"
            self.failure = self.failure or self.error(f"on {key!r}", problem, reply.status or 503)
        elif too_often:
            self.fail(key, problem)
        elif reply.wait or busy or not self.works:  # for all
            self.resume_at = max(self.resume_at, self.due[key])
