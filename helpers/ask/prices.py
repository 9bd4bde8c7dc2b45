"""What tokens cost: by genai-prices (pinned in November 2026; prices change), by you, or nothing at home."""

import contextlib
import ipaddress
import json
import os
import re
from datetime import UTC, datetime
from functools import cache
from urllib.parse import urlsplit

from helpers.core import runtime

OPENAI = "https://api.openai.com/v1"
PAID = re.compile(r"(?:gpt-|o)\d|claude-|gemini-|grok-|deepseek-(?:chat|reasoner)")
PRICES: dict[str, tuple[float, float]] = {}  # your own, before all others: USD per million tokens in and out


def base_url() -> str:
    """OPENAI_BASE_URL, which is looked for as a key is; ValueError where it is no address."""
    url = os.environ.get("OPENAI_BASE_URL", "").strip()
    with contextlib.suppress(runtime.MissingSecret):
        url = url or runtime.secret("OPENAI_BASE_URL")
    if url and not re.match(r"https?://\w", url):
        raise ValueError(f"OPENAI_BASE_URL is {url!r}: it must begin as http://localhost:11434/v1 does")
    return url or OPENAI


def is_own(url: str) -> bool:
    """A server on this machine or in a private network: free, it may have no key, and no proxy leads to it."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return bool(re.fullmatch(r"[^.]+|127[.\d]+|.+\.(?:local|internal|lan|home\.arpa)", host))


def use(model: str, price: tuple[float, float] | None) -> None:
    """Set the price of a model, where one is given, also as JSON; ValueError for anything but two numbers."""
    if price is not None:
        try:
            given = json.loads(price) if isinstance(price, str) else price
            into, out = (usd for usd in map(float, given) if usd >= 0)  # NaN is not
        except (TypeError, ValueError):
            form = "two numbers, USD per million tokens in and out, as in [0.25, 2.0]"
            raise ValueError(f"The price {price!r} must be {form}") from None
        PRICES[model] = into, out


def price(model: str) -> tuple[float, float]:
    """USD per million tokens in and out, live; ValueError where nobody knows it and it is not free."""
    url = base_url()
    known, name = PRICES.get(model) or _listed(model, url), model.rpartition("/")[2]
    if not known and PAID.match(name):  # at a gateway, also one's own, it costs what it does at its provider
        known = _listed(name, None)
    if known or is_own(url):
        return known or (0.0, 0.0)
    raise ValueError(
        f"No price is known for {model!r} at {urlsplit(url).hostname}, so max_cost_usd could not be kept. Give it in "
        "USD per million tokens in and out, teacher_price = [0.25, 2.0] for example (judge_price in notebook 06), or "
        "choose a model with a known one, such as gpt-6-luna."
    )


@cache
def _listed(model: str, url: str | None) -> tuple[float, float] | None:
    """From the list, at its dearest: at noon in UTC, and where writing into the provider's cache costs more, so."""
    from genai_prices import Usage, calc_price

    tokens = {"input_tokens": 1000, "output_tokens": 1000}
    how = {"provider_api_url": url, "genai_request_timestamp": datetime.now(UTC).replace(hour=12)}
    try:
        found = [calc_price(Usage(cache_write_tokens=n, **tokens), model, **how) for n in (0, 1000)]
    except LookupError:
        return None
    return max(float(one.input_price) for one in found) * 1000, float(found[0].output_price) * 1000


def cost(price: tuple[float, float], prompt_tokens: int, completion_tokens: int) -> float:
    """USD, at what `price` says."""
    into, out = price
    return (prompt_tokens * into + completion_tokens * out) / 1e6
