"""What a teacher LLM is asked and replies, what that costs, and the journal that keeps it all.

The journal has two rows an attempt, each flushed to the disk before it counts: one before the request is
sent (finish_reason "sent", with the most that it can cost), and one with what became of it:
- `text` is a string: the end of this key. `reason` is "" for an answer; otherwise it says why there is none
  to use (refused, malformed twice), and the request is not repeated unless its key changes;
- `text` is null: no answer ("lost" on the way and perhaps billed, "malformed", an HTTP status, "failed"
  after all tries); this run or the next asks again.
A "sent" row without the second one was in flight when its process was killed: the next run says how many,
counts them as paid, and asks again. One process at a time may write a journal.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from helpers.core import files

# USD per million tokens in and out, live calls, as of April 2026 (developers.openai.com/api/docs/pricing).
# Prices change: look there before a large run.
PRICES = {
    "gpt-4o": (2.50, 10.00),
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4.1": (2.00, 8.00),
    "gpt-4.1-mini": (0.40, 1.60),
}


NEW_LIMIT = re.compile(r"(?:openai/)?(?:gpt-[5-9]|o\d)")  # OpenAI's models that refuse the older max_tokens


@dataclass(frozen=True)
class Request:
    """One question to the teacher. `key` names it in the journal; `max_tokens` limits its answer."""

    key: str
    system: str
    user: str
    max_tokens: int = 1024

    def body(self, model: str, limit: str = "") -> dict:
        """What a chat-completions endpoint gets, but for the format of the answer. `limit` names max_tokens there."""
        messages = [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]
        limit = limit or ("max_completion_tokens" if NEW_LIMIT.match(model) else "max_tokens")
        return {"model": model, "messages": messages, limit: self.max_tokens}


@dataclass(frozen=True)
class Answer:
    """A row of the journal that ends a request. `finish_reason` is "length" where max_tokens cut it off.

    `reason` is "" for an answer, else it says why there is none to use; before its " (" it names the kind.
    """

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
    """What is used of a chat completion. `tokens`, in and out, is None where the server does not say."""

    text: str  # without what a reasoning model thinks before it
    finish_reason: str
    tokens: tuple[int, int] | None
    refused: str  # why there is no answer to use, or ""
    reasoned: bool = False  # whether thinking took a part of the tokens


def read_reply(body: dict) -> Reply:
    """A live or a batched chat completion; ValueError for a body that is none."""
    try:
        choice, usage = body["choices"][0], body.get("usage") or {}
        message, why = choice["message"], choice.get("finish_reason") or "stop"
        filtered = "the provider filtered its content" if why == "content_filter" else ""
        refused = message.get("refusal") or filtered
        content = message.get("content") or ""
        if isinstance(content, list):  # of parts, some of which may be thinking
            content = "".join(part.get("text") or "" for part in content)
        _, closed, text = content.rpartition("</think>")
        text = "" if not closed and text.lstrip().startswith("<think>") else text
        details = usage.get("completion_tokens_details") or {}
        reasoned = text != content or message.get("reasoning_content") or details.get("reasoning_tokens")
        tokens = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        tokens = None if None in tokens else tokens
        return Reply(_writable(text), why, tokens, _writable(refused), bool(reasoned))
    except (AttributeError, LookupError, TypeError):
        raise ValueError("no chat completion") from None


def error_in(body: object) -> tuple[int, str] | None:
    """Status and text of an error that a server sends with status 200, as OpenRouter does; None without one."""
    if not isinstance(body, dict) or body.get("choices") or not isinstance(error := body.get("error"), dict):
        return None
    code = str(error.get("code"))
    return int(code) if code.isdigit() else 500, str(error.get("message"))


def _writable(text: str) -> str:
    """The text with a question mark for each half of a cut emoji, which UTF-8 cannot hold."""
    return text.encode(errors="replace").decode()


def all_json(text: str) -> Iterator[dict | None]:
    """The JSON objects in a model's prose, one after another; None where a brace begins none."""
    at = text.find("{")
    while at >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
            yield json.loads(_writable(json.dumps(value, ensure_ascii=False)))
        except json.JSONDecodeError:
            end = at + 1
            yield None
        at = text.find("{", end)


def first_json(text: str) -> dict | None:
    """The first JSON object in a model's prose, whatever stands around it; None where there is none."""
    return next((value for value in all_json(text) if value is not None), None)


def response_format(response_model: type) -> dict:
    """The part of a request's body that asks for JSON by the strict schema of a pydantic model."""
    schema = {"name": response_model.__name__, "strict": True, "schema": response_model.model_json_schema()}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def base_url() -> str:
    return os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"


def is_own(url: str) -> bool:
    """A server on this machine or in a private network: free, it may have no key, and no proxy leads to it."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return bool(host) and ("." not in host or host.endswith((".local", ".internal")))


def cost(model: str, prompt_tokens: int, completion_tokens: int) -> float:
    """USD; 0 for a model without a price on a server of your own, ValueError for one anywhere else."""
    if model not in PRICES and not is_own(base_url()):
        raise ValueError(
            f"No price is known for {model!r} at {urlsplit(base_url()).hostname}, so max_cost_usd could not be kept. "
            f"Use {' or '.join(PRICES)}, or give its price: teacher_price in notebook 04, PRICES in helpers/ask."
        )
    into, out = PRICES.get(model, (0.0, 0.0))
    return (prompt_tokens * into + completion_tokens * out) / 1e6


def estimate(requests: list[Request], model: str) -> dict:
    """`calls`, `prompt_tokens` (4 characters a token), and at most `completion_tokens` and `usd`."""
    prompt = sum((len(request.system) + len(request.user)) // 4 for request in requests)
    completion = sum(request.max_tokens for request in requests)
    usd = cost(model, prompt, completion)
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
    """What a journal cost so far: every call that was or may have been billed, its tokens and USD.

    `lost` counts the calls whose answer never arrived; their tokens and USD (`usd_lost`, a part of `usd`)
    are the most that they can have cost. `reasons` counts the requests that ended without a usable answer.
    """
    outcomes, in_flight = read(journal)
    lost = [row for row in outcomes if row["finish_reason"] == "lost"] + in_flight
    billed = [row for row in outcomes if row["prompt_tokens"]] + in_flight
    ends = answered(journal).values()
    return {
        "requests": len(ends),
        "answers": sum(not end.reason for end in ends),
        "reasons": dict(Counter(end.reason.partition(" (")[0] for end in ends if end.reason)),
        "calls": len(billed),
        "prompt_tokens": sum(row["prompt_tokens"] for row in billed),
        "completion_tokens": sum(row["completion_tokens"] for row in billed),
        "usd": sum(row["cost_usd"] for row in billed),
        "lost": len(lost),
        "usd_lost": sum(row["cost_usd"] for row in lost),
    }
