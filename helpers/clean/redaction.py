"""Personal data in reviews, replaced by typed placeholders before anything leaves the machine (stage 02).

Rules find addresses, links, `numbers` and the reviewer's own name (`names`); not a stranger's name without a
title, a number in words, a street or a birthday. Nothing is raised, and redacting twice changes nothing.
"""

import re
from collections import Counter
from functools import cache, lru_cache

from helpers.clean import names, numbers
from helpers.clean.numbers import Span
from helpers.clean.texts import one_of

KINDS = ("URL", "EMAIL", "IBAN", "CARD", "ORDER", "ACCOUNT", "PHONE", "NAME", "PLACE")
PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(KINDS)})\]")
UNSPACED = re.compile("(?![年月日円元時分])[\u3040-\u30ff\u3400-\u9fff]")  # word characters beside a number
HYPHENS = dict.fromkeys([0x2010, 0x2011, 0x2012, 0x2212], "-")  # that look like one
SOME_DIGITS = re.compile(r"\d(?:\D{0,3}\d){2}")

LINK = re.compile(r"(?i)(?<![\w@.-])(?:https?://|www\.|[\w-]+(?:\.[\w-]+)+/)\S*[^\s.,;:!?'\"()\[\]{}<>»”]")
USER_PART = re.compile(
    rf"(?i)//[^/]*@|[?&;#](?:\w+[-_.])?(?:{one_of('keys in links')})(?:[-_.]\w+)?=|/(?:{one_of('people in links')})/\w"
    r"|/[@~]\w|\b(?:facebook|instagram|twitter|tiktok|x)\.com/\w|\b(?:wa|t)\.me/\w"
)
AT = r" ?(?:@|[\[({] ?(?:at|ät|a|arroba|arobase|chiocciola) ?[\])}]) ?"
DOT = r"(?:\.| ?[\[({] ?(?:dot|punkt|point|punto|punt) ?[\])}] ?)"
EMAIL = re.compile(rf"(?i)(?<![\w.+%-])[\w.+%-]+{AT}[\w-]+(?:{DOT}[\w-]+)+")
RULES = (
    (LINK, lambda match, region: (*match.span(), "URL" if USER_PART.search(match.group()) else None)),
    (EMAIL, lambda match, region: (*match.span(), "EMAIL")),
)


def redact(row: dict) -> dict:
    """The row without personal data, counted in `redacted`; of the location the country stays, page and replies go."""
    name, place = row["reviewer_name"], row["reviewer_location"]
    region = country_code(place) or country_code(row["company_country"])
    title, in_title = redact_text(row["review_title"] or "", name, region)
    content, in_content = redact_text(row["review_content"] or "", name, region)
    about, where = redact_text(row["company_about"] or "", None, region)[0], country_code(place) or "[PLACE]"
    row = row | {"review_title": title, "review_content": content, "company_about": about}
    row |= {"reviewer_name": "[NAME]" if name else None, "reviewer_location": where if place else None}
    return row | {"review_url": None, "review_replies": None, "redacted": dict(in_title + in_content)}


@lru_cache(maxsize=256)  # so that what every review of a company repeats is redacted once
def redact_text(text: str, name: str | None = None, country: str | None = None) -> tuple[str, Counter[str]]:
    """The text with placeholders, and their number by kind; `country` (code or name) is for phones without its code."""
    counts = Counter()
    # A placeholder can show a name for what it is: look again until nothing is found. It ends.
    while found := spans(text, name, country):
        counts.update(kind for _, _, kind in found)
        for start, end, kind in reversed(found):
            text = f"{text[:start]}[{kind}]{text[end:]}"
    return text, counts


def country_code(place: str | None) -> str | None:
    """ISO 3166's two letters for Deutschland or Leeds, UK, by CLDR's names in phonenumbers."""
    return _countries().get((place or "").rpartition(",")[2].strip().casefold())


@cache
def _countries() -> dict[str, str]:
    from phonenumbers.geodata.locale import LOCALE_DATA

    known = {name.casefold(): code for code, names in LOCALE_DATA.items() for name in (code, *names.values())}
    british = dict.fromkeys(("uk", "great britain", "england", "scotland", "wales", "northern ireland"), "GB")
    return known | british | dict.fromkeys(("usa", "united states of america"), "US")


def spans(text: str, name: str | None = None, country: str | None = None) -> list[Span]:
    """What the rules find at the first look, in order of place. A rule's find is hidden from the next."""
    found, region = [], country_code(country)
    text = PLACEHOLDER.sub(lambda match: "\0" * len(match.group()), text.translate(HYPHENS))  # places stay
    for pattern, decide in (*RULES, *(numbers.RULES if SOME_DIGITS.search(text) else ())):
        shown, place = UNSPACED.sub(" ", text), 0
        while match := pattern.search(shown, place):
            start, place, kind = decide(match, region)
            if kind:
                text = text[:start] + "\0" * (place - start) + text[place:]
                found.append((start, place, kind))
    return sorted(found + [(start, end, "NAME") for start, end in names.find(text, name)])
