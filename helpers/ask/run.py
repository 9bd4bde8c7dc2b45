"""What asking live (`teacher`) and in batches (`batch`) have in common: one call's requests, money and rows."""

import contextlib
import re
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from helpers.ask import answers, prices
from helpers.ask.answers import Answer, Reply, Request
from helpers.core import runtime

FIXES = {
    400: "No request has worked yet: check teacher_model, what this server accepts, and this text",
    401: "Check OPENAI_API_KEY, and that OPENAI_BASE_URL is the server it belongs to",
    402: "Add credit to the account, renew its key, or choose a cheaper teacher_model",
    403: "This OPENAI_API_KEY may not use the model: choose another teacher_model or another key",
    429: "If the account's quota is used up, add credit or wait a day; otherwise lower max_concurrency",
}
FIXES[0] = FIXES[404] = "OPENAI_BASE_URL usually ends in /v1"  # 0 is the status of what is no completion
FIXES |= dict.fromkeys(answers.REFUSED, FIXES[400])


class BudgetReached(RuntimeError):
    """The next request might cost more than max_cost_usd leaves; what is answered is in the journal."""


class TeacherError(RuntimeError):
    """The teacher cannot answer anything now; the message says why and what to change."""


class Run:
    """One call of `ask_all`, live or in batches: what is asked, what the journal has of it, and its next rows."""

    price_share = 1.0

    def __init__(
        self, requests: list[Request], journal: Path, model: str, response_model, max_cost_usd: float
    ):
        self.requests = {request.key: request for request in requests}
        self.journal, self.model, self.max_cost_usd = Path(journal), model, max_cost_usd
        self.format = answers.response_format(response_model)
        outcomes, self.in_flight = answers.read(self.journal)
        self.have, self.failed = answers.answered(self.journal), {}
        self.works = any(answer.model == model for answer in self.have.values())  # has ever answered
        self.wants = answers.Wants(model, outcomes)
        self.spent = sum(row["cost_usd"] for row in outcomes + self.in_flight)
        if self.missing():
            self.price = tuple(self.price_share * usd for usd in prices.price(model))
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
        usd = prices.cost(self.price, *tokens)
        return asdict(Answer(key, self.model, text, why, *tokens, usd, self._keyless(reason)))

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
        return TeacherError(
            f"The teacher {self.model!r} at {urlsplit(self.url).hostname} failed {doing}: {self._keyless(problem)}. "
            f"{fix}. What is answered or under way is kept: the same call asks and pays only for the rest."
        )

    def _keyless(self, problem: str) -> str:
        return problem.replace(self.key, "[OPENAI_API_KEY]")[:400]
