"""What tokens cost: by genai-prices (pinned in November 2026; prices change), by you, or nothing at home."""

import ipaddress
import os
import re
from functools import cache
from urllib.parse import urlsplit

from helpers.core import runtime

OPENAI = "https://api.openai.com/v1"
PRICES: dict[str, tuple[float, float]] = {}  # your own, before all others: USD per million tokens in and out


def base_url() -> str:
    return os.environ.get("OPENAI_BASE_URL") or OPENAI


def is_own(url: str) -> bool:
    """A server on this machine or in a private network: free, it may have no key, and no proxy leads to it."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return bool(host) and ("." not in host or host.endswith((".local", ".internal")))


def api_key(url: str) -> str:
    try:
        return runtime.secret("OPENAI_API_KEY")
    except runtime.MissingSecret:
        if not is_own(url):
            raise
    return "not-needed"


def use(model: str, price: tuple[float, float] | None) -> None:
    """Set the price of a model, where one is given; ValueError for anything but two numbers."""
    if price is not None:
        try:
            into, out = map(float, price)
        except (TypeError, ValueError):
            form = "two numbers, USD per million tokens in and out, as in [0.25, 2.0]"
            raise ValueError(f"The price {price!r} must be {form}") from None
        PRICES[model] = into, out


def price(model: str) -> tuple[float, float]:
    """USD per million tokens in and out, live; ValueError where nobody knows it and it is not free."""
    url = base_url()
    known = PRICES.get(model) or _listed(model, url)
    if not known and re.match(r"(?:gpt-|o)\d", model):  # at a gateway it costs what it does at OpenAI
        known = _listed(model, OPENAI)
    if known or is_own(url):
        return known or (0.0, 0.0)
    raise ValueError(
        f"No price is known for {model!r} at {urlsplit(url).hostname}, so max_cost_usd could not be kept. Give it in "
        "USD per million tokens in and out, teacher_price = [0.25, 2.0] for example (judge_price in notebook 06), or "
        "choose a model with a known one, such as gpt-6-luna."
    )


@cache
def _listed(model: str, url: str) -> tuple[float, float] | None:
    """From the list. Where writing into the provider's cache costs more, that is the price of tokens in."""
    import genai_prices

    usage = genai_prices.Usage(input_tokens=1000, cache_write_tokens=1000, output_tokens=1000)
    try:
        found = genai_prices.calc_price(usage, model, provider_api_url=url)
    except LookupError:
        return None
    return float(found.input_price) * 1000, float(found.output_price) * 1000


def cost(model: str, prompt_tokens: int, completion_tokens: int) -> float:
    """USD; raises as `price` does."""
    into, out = price(model)
    return (prompt_tokens * into + completion_tokens * out) / 1e6
