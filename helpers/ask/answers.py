"""What a teacher LLM is asked and replies, and the journal that keeps it all.

The journal has two rows an attempt, each on the disk before it counts: one before the request is sent (finish_reason
"sent", with the most that it can cost), and one with what became of it. A `text` ends its key, as an answer or with a
`reason` why there is none; null is asked for again ("lost" on the way and perhaps billed, "malformed", an HTTP status).
A "sent" row alone was in flight when its process was killed: it counts as paid, and is asked for again. One process at
a time may write a journal.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydantic

from helpers.ask import prices
from helpers.collect.records import writable
from helpers.core import files

CUT_OFF, THOUGHT = "cut off by max_tokens", "of which its thinking took a part"
OLD_NAME, NEW_NAME = "max_tokens", "max_completion_tokens"
THINKERS = re.compile(r"(?:openai/)?(?:gpt-[5-9]|o\d)")  # OpenAI's models that think, and refuse OLD_NAME
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens")  # in a usage
ROOM = 4000  # tokens to think in, beside those of the answer
# What begins and ends the thoughts of DeepSeek and Qwen, of Seed, Magistral, Kimi, and gpt-oss without a parser.
_TAG = r"(?:(?:seed:)?think(?:ing)?|thought|reasoning)>"
THINKING = re.compile(rf"(?i)\s*(?:<{_TAG}|\[THINK\]|◁think▷|<\|channel\|>analysis)")
THOUGHT_END = re.compile(rf"(?i)</{_TAG}|\[/THINK\]|◁/think▷|<\|channel\|>final[^{{]{{0,30}}?<\|message\|>")
REFUSED = (400, 413, 422)  # this text will not be taken another time either
LOST, UNSENT = "lost", "unreachable"  # on a broken connection: perhaps billed, or not
_LONG = r"maximum context|context.(?:length|size)"
_TEXT = rf".*(?:flagged|moderation|content.(?:filter|management policy)|{_LONG})"
SAYS = {  # what an error is about, by its status and its words
    "account": rf"^40[12]|^403(?!{_TEXT})|^429.*(?:per.?day|daily)|^[45].*(?:credit balance|billing.(?:hard|not)|"
    r"insufficient.(?:quota|credit|balance)|budget.{0,12}exceeded|not active|api key (?:exp|not v)|location is not)",
    "text": rf"^413|^4(?:00|03|22){_TEXT}",
    "room": rf"^4(?:00|13|22).*(?:too large|maximum (?:allowed|value)|valid range|{_LONG})",
    "old name": rf"{NEW_NAME}(?!'? is too large)",
    "system": r"developer instruction is not enabled|system role.{0,4}not supp|not support.{0,9}system",
    "schema": r"response_format|json_schema",
}


@dataclass(frozen=True)
class Request:
    """One question to the teacher. `key` names it in the journal; `max_tokens` limits its answer."""

    key: str
    system: str
    user: str
    max_tokens: int = 1024


class Wants:
    """How a model must be asked: known by its name, or learnt from what it replied before, live or in a batch."""

    def __init__(self, model: str, outcomes: list[dict] = ()):  # rows of a journal
        self.model, self.thinks = model, bool(THINKERS.match(model))
        self.refuses = {"old name"} if self.thinks else set()  # what it does not take, as in SAYS
        self.flaws: dict[str, str] = {}  # of malformed answers, by key
        self.halved: Counter[str] = Counter()  # keys: how often their room was too much
        for row in outcomes:
            if row["model"] == model and row["text"] is None:
                reason, malformed = row.get("reason", ""), row["finish_reason"] == "malformed"
                self.learn(row["key"], Reply(problem=reason).says, reason if malformed else "")

    def learn(self, key: str, says: set[str] = frozenset(), flaw: str = "") -> None:
        """From what an error says, or from an answer's flaw: where `body` is another now, it is worth asking again."""
        self.flaws.update({key: flaw} if flaw else {})
        self.thinks |= THOUGHT in flaw
        self.refuses |= says
        self.halved[key] += "room" in says and (self.thinks or key in self.flaws)  # had more than its own

    def body(self, request: Request, form: dict) -> dict:
        """What an endpoint gets, with `response_format` or {}: what was cut off has more room than before."""
        texts = {"system": request.system, "user": request.user}
        texts = {"user": "\n\n".join(texts.values())} if "system" in self.refuses else texts
        messages = [{"role": role, "content": text} for role, text in texts.items()]
        flaw = self.flaws.get(request.key, "")
        times = 8 if THOUGHT in flaw else 2 if CUT_OFF in flaw else 1
        room = request.max_tokens * times + ROOM * self.thinks >> self.halved[request.key]
        limit = {NEW_NAME if "old name" in self.refuses else OLD_NAME: max(room, request.max_tokens)}
        form = {} if "schema" in self.refuses else form
        return {"model": self.model, "messages": messages} | limit | form


def most(body: dict) -> tuple[int, int]:
    """The most tokens that can be billed, in and out: no tokenizer makes more tokens than bytes."""
    size = len(json.dumps(body, ensure_ascii=False).encode(errors="replace"))
    return size, body.get(OLD_NAME) or body[NEW_NAME]


@dataclass(frozen=True)
class Answer:
    """A row of the journal that ends a request. `reason` is "" for an answer, else "kind (why not)"."""

    key: str
    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    reason: str = ""


@dataclass(frozen=True)
class Reply:
    """What is used of a response: a chat completion or, where `problem` says something, an error."""

    text: str = ""  # without what a reasoning model thinks before it
    finish_reason: str = ""
    tokens: tuple[int, int] | None = None  # in and out; None where the server does not say
    refused: str = ""  # why there is no answer to use
    cut_off: str = ""  # by max_tokens, or empty but for thoughts: as a reason
    problem: str = ""  # in the server's words
    status: int = 200  # that of the error; 0 for what is neither a completion nor an error
    code: str = ""
    wait: float = 0.0  # seconds for which the server asks to be left alone

    @property
    def says(self) -> set[str]:
        """What an error is about, by the names of SAYS."""
        said = f"{self.problem} {self.code}"
        return {name for name, form in SAYS.items() if re.search(f"(?is){form}", said)}


def read_reply(status: int, body: object) -> Reply:
    """What a server sent, live or as a line of a batch. `body` is JSON, or its text."""
    if isinstance(body, str):
        body = re.sub(r"\A(?:\s|\ufeff|:.*\n)+", "", body)  # OpenRouter's comments keep a connection open
        with contextlib.suppress(ValueError, RecursionError):
            body = json.loads(body, strict=False)
    whole = body[0] if isinstance(body, list) and body else body  # Gemini's errors are lists
    with contextlib.suppress(AttributeError, LookupError, TypeError):
        if status < 400 and not (choice := whole["choices"][0]).get("error"):
            return _completion(choice, whole.get("usage"))
        whole = choice if status < 400 else whole  # the provider behind OpenRouter failed while it answered
    # The forms of OpenAI, Ollama, FastAPI and vLLM; a page of a gateway is its own error.
    names = ("error", "detail", "message") if status >= 400 else ("error",)
    found = [whole.get(name) for name in names] if isinstance(whole, dict) else [status >= 400 and whole]
    if error := next(filter(None, found), None):
        return _error(status, error)
    problem = f"{status} without a chat completion: {str(body)[:200]!r}"
    return Reply(problem=problem, status=status if status >= 400 else 0)


def _error(status: int, error: object) -> Reply:
    """An error; one in a 200 has its status in `code`."""
    fields = error if isinstance(error, dict) else {"message": str(error)}
    code = str(fields.get("code") or fields.get("type") or "")
    more = fields.get("metadata")
    detail = more.get("raw") if isinstance(more, dict) else more  # of the provider behind OpenRouter
    problem = ": ".join(str(part) for part in (fields.get("message") or error, detail) if part)
    status = status if status >= 400 else int(code) if code.isdigit() else 500
    return Reply(problem=writable(f"{status} {problem}"), status=status, code=code)


def _completion(choice: dict, usage: object) -> Reply:
    why = re.sub("(?i)^max_tokens$", "length", choice.get("finish_reason") or "stop")
    filtered = "the provider filtered its content" if why == "content_filter" else ""
    message = choice.get("message") or ({} if filtered else choice["message"])
    content = _plain(message.get("content"))
    text = THOUGHT_END.split(content)[-1]
    text = "" if THINKING.match(text) else text
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    counts = re.findall(r'"(\w+_tokens)": "?(\d+)', json.dumps(usage))  # 12, 12.0 or "12", also in a part
    into, out, total, beside = map({name: int(count) for name, count in counts}.get, COUNTS)
    if None not in (into, out, total) and total > into + out:  # Gemini and Grok count thoughts apart
        out, beside = total - into, True
    tokens = (into, out) if None not in (into, out) and into + out else None
    cut_off = f"{CUT_OFF}, {THOUGHT}" if beside or thoughts or text != content else CUT_OFF
    aside = "empty but for reasoning_content" if thoughts and not text.strip() else ""
    refused = writable(message.get("refusal") or filtered)
    return Reply(writable(text), why, tokens, refused, cut_off if why == "length" else aside)


def _plain(content: object) -> str:
    """The text of a message, or of its parts that are not thinking."""
    if isinstance(content, dict):
        content = [content.get(name) for name in ("text", "value")]
    return "".join(map(_plain, content)) if isinstance(content, list) else content or ""


def all_json(text: str) -> Iterator[dict | None]:
    """The JSON objects in a model's prose, one after another; None where a brace begins none."""
    at = text.find("{")
    while at >= 0:
        try:
            value, end = json.JSONDecoder(strict=False).raw_decode(text, at)
            value = writable(value)
        except (ValueError, RecursionError):  # also for a looping model's brackets and digits
            value, end = None, at + 1
        yield value
        at = text.find("{", end)


def all_items(text: str, model: type, name: str = "") -> Iterator:
    """What in a reply is a `model` (pydantic): objects that stand alone, or items of a list called `name`."""
    for value in filter(None, all_json(text)):
        for item in value[name] if isinstance(value.get(name), list) else [value]:
            with contextlib.suppress(pydantic.ValidationError):
                yield model.model_validate(item)


def response_format(response_model: type) -> dict:
    """The part of a request's body that asks for JSON by the strict schema of a pydantic model."""
    schema = {"name": response_model.__name__, "strict": True, "schema": response_model.model_json_schema()}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def estimate(requests: list[Request], model: str) -> dict:
    """`calls`, `prompt_tokens` (4 characters per token), and at most `completion_tokens` and `usd`."""
    prompt = sum((len(request.system) + len(request.user)) // 4 for request in requests)
    completion = sum(request.max_tokens for request in requests) + ROOM * Wants(model).thinks * len(requests)
    usd = prices.cost(prices.price(model), prompt, completion)
    return {"calls": len(requests), "prompt_tokens": prompt, "completion_tokens": completion, "usd": usd}


def read(journal: Path) -> tuple[list[dict], list[dict]]:
    """The rows that say what became of an attempt, and the "sent" rows that nothing followed."""
    outcomes, in_flight = [], {}
    for row in files.read_jsonl(journal) if journal.exists() else []:
        in_flight.pop(row["key"], None)
        if row["finish_reason"] == "sent":
            in_flight[row["key"]] = row
        else:
            outcomes.append(row)
    return outcomes, list(in_flight.values())


def answered(journal: Path) -> dict[str, Answer]:
    """The journal's answers by key, also those with a reason; attempts without an answer are left out."""
    return {row["key"]: Answer(**row) for row in read(journal)[0] if row["text"] is not None}


def summary(journal: Path) -> dict:
    """What a journal cost so far, also the calls `lost` on their way: `usd_lost` of `usd`, at the most."""
    outcomes, in_flight = read(journal)
    lost = [row for row in outcomes if row["finish_reason"] == "lost"] + in_flight
    billed = [row for row in outcomes if row["prompt_tokens"]] + in_flight
    ends = answered(journal).values()
    reasons = Counter(end.reason.partition(" (")[0] for end in ends if end.reason)
    found = {"requests": len(ends), "answers": len(ends) - reasons.total(), "reasons": dict(reasons)}
    found["calls"] = len(billed)
    found |= {name: sum(row[name] for row in billed) for name in ("prompt_tokens", "completion_tokens")}
    usd, usd_lost = (sum(row["cost_usd"] for row in rows) for rows in (billed, lost))
    return found | {"usd": usd, "lost": len(lost), "usd_lost": usd_lost}
