"""The one record of a review: Bright Data's Trustpilot record, whatever a file or service calls it.

    parsed, rejected = parse(records)

The records come from `review_files` or `brightdata`. What does not parse is rejected with its reason.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from helpers.core import files

ORIGIN = "_origin"  # a record's key for where it comes from: file, line, columns, the record as it was
STARS = re.compile(r"(\d+)([.,]0+)?( ?(/|of|out of) ?5([.,]0+)?)?( ?stars?)?", re.IGNORECASE)
STAR_WORDS = ["ONE", "TWO", "THREE", "FOUR", "FIVE"]  # in exports of Google's Business Profile
DAYS = ("%Y-%m-%d", "%d %B %Y", "%d %b %Y", "%B %d %Y", "%b %d %Y")
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
NULLS = ("", "null", "none", "nan", "n/a")  # as other tools write an empty date or rating


def stars(value: object) -> object:
    """A rating as a whole number: 4, 4.0, 4/5, "4 out of 5 stars", ★★★★☆, FOUR; ValueError for others.

    Half stars and other scales (80 %, 8/10) are not converted: what they would be is your decision.
    """
    if not isinstance(value, (str, bool)):
        return value
    text = str(value).strip().replace("\ufe0f", "")
    if text.lower() in NULLS:
        return None
    if text.upper() in STAR_WORDS:
        return STAR_WORDS.index(text.upper()) + 1
    if re.fullmatch("[★⭐]{1,5}|(?=.{5}$)★+☆*", text):
        return text.count("★") + text.count("⭐")
    if match := STARS.fullmatch(text):
        return int(match[1])
    raise ValueError("not a whole number of stars (write 4, 4.0, 4/5 or ★★★★)")


def date(value: object) -> datetime | None:
    """A date in ISO 8601, as seconds or milliseconds since 1970 (in the years 2000 to 2099), or with the month's
    English name. Raises ValueError for any other."""
    text = "" if value is None else str(value).strip()
    if text.lower() in NULLS:
        return None
    if re.fullmatch(r"\d{9,}(\.\d+)?", text):
        seconds = float(text) if float(text) < 1e11 else float(text) / 1000
        if 946_684_800 <= seconds < 4_102_444_800:
            return datetime.fromtimestamp(seconds, UTC)
    iso = re.sub(r"^(\d{4})/(\d\d)/(\d\d)", r"\1-\2-\3", re.sub(r" (UTC|GMT)$", "Z", text))
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(re.sub(r" ([+-]\d\d)", r"\1", iso))
    spaced = " ".join(re.sub(r"(?<=[a-zA-Z])-|-(?=[a-zA-Z])|[,.]", " ", iso).split())
    for day, clock in itertools.product(DAYS, CLOCKS):
        with contextlib.suppress(ValueError):
            return datetime.strptime(spaced, day + clock)
    raise ValueError("not a date (write 2026-01-31, 2026-01-31T14:05:00Z or 31 January 2026)")


Stars = Annotated[Annotated[int, Field(ge=1, le=5)] | None, BeforeValidator(stars)]
Day = Annotated[datetime | None, BeforeValidator(date)]


class Review(BaseModel):
    """Bright Data's Trustpilot record (dataset gd_lm5zmhwd2sni130p): 37 fields, any of them null."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, coerce_numbers_to_str=True)

    company_name: str | None = None
    company_id: str | None = None
    company_logo: str | None = None
    company_website: str | None = None
    company_rating_name: str | None = None
    company_overall_rating: float | None = None
    is_verified_company: bool | None = None
    company_total_reviews: int | None = None
    company_about: str | None = None
    company_email: str | None = None
    company_phone: str | None = None
    company_location: str | None = None
    company_country: str | None = None
    company_category: str | None = None
    company_other_categories: list[str] | str | None = None
    company_activity: list | dict | str | None = Field(default=None, alias="company activity")
    breadcrumbs: list | str | None = None
    five_star: int | None = Field(default=None, alias="5_star")
    four_star: int | None = Field(default=None, alias="4_star")
    three_star: int | None = Field(default=None, alias="3_star")
    two_star: int | None = Field(default=None, alias="2_star")
    one_star: int | None = Field(default=None, alias="1_star")
    review_id: str | None = None
    review_date: Day = None
    review_rating: Stars = None
    review_title: str | None = None
    review_content: str | None = None
    is_verified_review: bool | None = None
    review_date_of_experience: Day = None
    review_replies: list | dict | str | None = None
    review_useful_count: int | None = None
    review_url: str | None = None
    date_posted: str | None = None
    url: str | None = None
    reviewer_name: str | None = None
    reviewer_location: str | None = None
    reviews_posted_overall: int | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_null(cls, value: object) -> object:
        return None if isinstance(value, str) and not value.strip() else _writable(value)


def _writable(value: object) -> object:
    """The JSON value with a question mark for each half of a cut emoji, which UTF-8 cannot hold."""
    if isinstance(value, str):
        return value if value.isprintable() else value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {name: _writable(each) for name, each in value.items()}
    return [_writable(each) for each in value] if isinstance(value, list) else value


FIELDS = [field.alias or name for name, field in Review.model_fields.items()]


def is_error_row(record: dict) -> bool:
    """True for a service's row about an input that could not be collected; it holds no review."""
    review = ("review_id", "review_title", "review_content", "review_rating")
    return bool(record.get("error") or record.get("error_code")) and not any(map(record.get, review))


def parse(records: list[dict]) -> tuple[list[dict], list[dict]]:
    """Records as JSON-ready rows with all 37 fields, and the rejected ones.

    A rejected one is `{"file", "line", "field", "value", "reason", "record"}`: `field` is named as in the
    file; a service's record has no file, and `line` is its number. Rejected are broken lines, error rows
    of the service, fields that do not parse, and an id that comes again. Without an id each record is a
    review, and gets one from its content.
    """
    parsed, rejected, seen, same = [], [], {}, Counter()
    for number, record in enumerate(records, 1):
        origin = record.get(ORIGIN) or {"file": None, "line": number, "record": record, "columns": {}}
        broken = origin.get("reason")
        row, field, reason = (None, None, broken) if broken else _review(record)
        if row and not row["review_id"]:
            own = files.content_id(row)
            same[own] += 1
            row["review_id"] = own if same[own] == 1 else f"{own}-{same[own]}"
        if row and row["review_id"] in seen:
            field, reason = "review_id", f"delivered twice (first in line {seen[row['review_id']]})"
        if not reason:
            seen[row["review_id"]] = origin["line"]
            parsed.append(row)
            continue
        column = origin["columns"].get(field, field)
        value = origin["record"].get(column) if column else None
        where = {"file": origin["file"], "line": origin["line"], "field": column, "value": value}
        rejected.append(_writable({**where, "reason": reason, "record": origin["record"]}))
    return parsed, rejected


def _review(record: dict) -> tuple[dict | None, str | None, str | None]:
    """The parsed row; or None, the field that is wrong, and why."""
    if is_error_row(record):
        field = "error" if record.get("error") else "error_code"
        return None, field, f"the service reports an error ({record.get('error_code') or record['error']})"
    try:
        return Review.model_validate(record).model_dump(mode="json", by_alias=True), None, None
    except ValidationError as error:
        first = error.errors()[0]
        return None, str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
