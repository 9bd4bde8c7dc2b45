"""Personal data in reviews, replaced by typed placeholders before anything leaves the machine (stage 02).

text, counts = redact_text("Write to ada@example.com", name="Ada", country="GB")
"""

from __future__ import annotations

import re
from collections import Counter

PATTERNS = {
    "EMAIL": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "IBAN": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
    "ORDER": re.compile(r"\b[A-Z]{2,4}[-#]?\d{5,10}\b"),
}


def redact(row: dict) -> dict:
    """The row with personal data replaced by placeholders, and their counts in `redacted`."""
    counts: Counter[str] = Counter()
    redacted = {**row}
    for field in ("review_title", "review_content"):
        redacted[field], found = redact_text(row[field], row["reviewer_name"], row["reviewer_location"])
        counts += found
    redacted["reviewer_name"] = "[NAME]" if row["reviewer_name"] else None
    redacted["redacted"] = dict(counts)
    return redacted


def redact_text(text: str, name: str | None = None, country: str | None = None) -> tuple[str, Counter[str]]:
    """Replace e-mail addresses, IBANs, order and phone numbers and the reviewer's name in `text`.

    `country` (ISO-2) is where a phone number without a country code is looked up.
    """
    from phonenumbers import Leniency, PhoneNumberMatcher, is_valid_number

    counts: Counter[str] = Counter()
    for kind, pattern in PATTERNS.items():
        text, found = pattern.subn(f"[{kind}]", text)
        counts[kind] += found
    phones = PhoneNumberMatcher(text, country or "GB", leniency=Leniency.POSSIBLE)
    for match in reversed(list(phones)):
        # Dates and prices are possible numbers too, but seldom begin with 0 or +, or are in use.
        if match.raw_string.startswith(("+", "0", "(0", "(+")) or is_valid_number(match.number):
            text = text[: match.start] + "[PHONE]" + text[match.end :]
            counts["PHONE"] += 1
    if name:
        text, counts["NAME"] = re.subn(rf"(?<!\w){re.escape(name)}(?!\w)", "[NAME]", text)
    return text, +counts
