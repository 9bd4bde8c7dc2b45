"""The one record of a review: Bright Data's Trustpilot record, whatever a file or service calls it."""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pydantic
from dateutil import parser

from helpers.core import files

# The 37 fields of Bright Data's Trustpilot record (dataset gd_lm5zmhwd2sni130p), any null, and what other tools write
# into an empty field. A customer who is really called so has no name here.
RECORD = files.read_json(Path(__file__).with_name("record.json"))
MISSING = {*RECORD["missing"]}
ORIGIN = "_origin"  # a record's key for where it comes from: file, line, columns, the record as it was
STARS = re.compile(
    r"(\d+)([.,]0+)?( ?(/|of|out of|von|sur|de|di|su|van|z|a[vf]) ?5([.,]0+)?)?"  # as Amazon in other languages
    r"([ -]?(stars?( rating)?|[★⭐]|bubbles?|stern(en?)?|étoiles?|estrel(l?as?)|stell[ae]|ster(ren)?"
    r"|stj[äe]rn(or|er?|a)?|gwiazd(ek|k[ai])))?",
    re.IGNORECASE,
)
STAR_WORDS = ["ONE", "TWO", "THREE", "FOUR", "FIVE"]  # in exports of Google's Business Profile
# What Amazon writes before a date, and the years of programs that had none, 0001, 1970 or 9999.
NO_DATE = re.compile(r"^Reviewed in .* on |^(?!199|20)\d{4}(?=[-/.])|(?<=[a-z,.] )(?!199|20)\d{4}\b")
# What a platform calls people whose name it does not show.
SITE = r"an?|ein|une?|d|de|di|verified|valued|happy|amazon|kindle|google|apple|yelp|trustpilot|facebook|ebay|etsy"
ROLE = r"customer|user|buyer|client|guest|reviewer|kund(?:e|in)|nutzer(?:in)?|utilisateur|cliente|utente|usuario|klant"
NOBODY = re.compile(rf"(?:(?:{SITE}|anonym\w*)\W+)*(?:{ROLE}|anonym\w*)(?:\W+(?:{SITE}|\d+))*", re.IGNORECASE)
COSTLY = ("review_rating", "review_content")  # any other field, when unreadable, costs itself only


def is_missing(value: object) -> bool:
    """Whether a value is empty or a word for that: NULL, [NULL], nan, N/A, \\N; NaN in JSON."""
    word = value.strip().strip("[]<>").lower() if isinstance(value, str) else None
    return value is None or value != value or word in MISSING


def stars(value: object) -> object:
    """A rating as a whole number: 4, 4/5, "4 out of 5 stars", ★★★★☆, FOUR; ValueError for halves, 8/10."""
    if not isinstance(value, (str, bool)):
        return value
    text = re.sub("(?i)^(rated |5つ星のうち)", "", " ".join(str(value).split()).replace("\ufe0f", ""))
    if text.upper() in STAR_WORDS:
        return STAR_WORDS.index(text.upper()) + 1
    if re.fullmatch("[★⭐]{1,5}|(?=.{5}$)★+☆*", text):
        return text.count("★") + text.count("⭐")
    if match := STARS.fullmatch(text):
        return int(match[1])
    raise ValueError("not a whole number of stars (write 4, 4.0, 4/5 or ★★★★)")


def date(value: object) -> datetime:
    """A date in ISO 8601, as seconds or milliseconds since 1970 (in the years 2000 to 2099), or with the month's
    English name. Raises ValueError for any other, and for years before 1990 or behind 2099."""
    text = NO_DATE.sub("", str(value).strip())
    if re.fullmatch(r"\d{9,}(\.\d+)?", text):
        seconds = float(text) if float(text) < 1e11 else float(text) / 1000
        if 946_684_800 <= seconds < 4_102_444_800:
            return datetime.fromtimestamp(seconds, UTC)
    iso = re.sub(r"^(\d{4})[/.](\d\d?)[/.](\d\d?)", r"\1-\2-\3", re.sub(r" (UTC|GMT)$", "Z", text))
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(re.sub(r" ([+-]\d\d)", r"\1", iso))
    known = re.match(r"\d{4}-(0?[1-9]|1[0-2])-\d|.*[a-z]{3}", iso, re.IGNORECASE)  # 5/1/2026 is two dates
    with contextlib.suppress(ValueError, OverflowError):  # without its day or its year it is the default's
        day, same = (
            parser.parse(iso, ignoretz=True, default=datetime(*ymd)) for ymd in ((2000, 1, 1), (2001, 2, 2))
        )
        if known and day == same:
            return day
    raise ValueError("not a date, or one of two (write 2026-01-31, 2026-01-31T14:05:00Z or 31 January 2026)")


Stars = Annotated[Annotated[int, pydantic.Field(ge=1, le=5)], pydantic.BeforeValidator(stars)]
Day = Annotated[datetime, pydantic.BeforeValidator(date)]
KINDS = {"stars": Stars, "day": Day, "int": int, "float": float, "bool": bool, "any": list | dict | str}
FIELDS = {name: (KINDS.get(kind, str) | None, None) for name, kind in RECORD["fields"].items()}


class _Lenient(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(coerce_numbers_to_str=True)

    @pydantic.field_validator("*", mode="wrap")
    @classmethod
    def _read(cls, value: object, read: Callable, info: pydantic.ValidationInfo) -> object:
        """Null for what is missing, and for what cannot be read, which the context counts, unless it is COSTLY."""
        try:
            plain = isinstance(value, str) and value.isprintable()
            return None if is_missing(value) else read(value if plain else writable(value))
        except pydantic.ValidationError as error:
            if info.field_name in COSTLY:
                raise
            info.context.setdefault(info.field_name, []).append(f"{str(value)[:80]!r} ({_why(error)})")
            return None


Review = pydantic.create_model("Review", __base__=_Lenient, **FIELDS)


def is_error_row(record: dict) -> bool:
    """True for a service's row about an input that could not be collected; it holds no review."""
    review = ("review_id", "review_title", "review_content", "review_rating")
    return bool(record.get("error") or record.get("error_code")) and not any(map(record.get, review))


def parse(records: list[dict]) -> tuple[list[dict], list[dict]]:
    """Records as JSON-ready rows with all 37 fields, and the rejected ones.

    A rejected one is `{"file", "line", "field", "value", "reason", "record"}`: `field` is named as in the
    file; a service's record has no file, and `line` is its number. Rejected are broken lines, error rows,
    ratings and texts that do not parse, and an id that comes again, in a file with its text; other unreadable values
    are left empty and printed. Without an id a record gets one from its content, and one of another text a suffix.
    """
    parsed, rejected, seen, same, unread, suffixed = [], [], {}, Counter(), {}, []
    for number, record in enumerate(records, 1):
        origin = record.get(ORIGIN) or {"file": None, "line": number, "record": record, "columns": {}}
        broken = origin.get("reason")
        row, field, reason = (None, None, broken) if broken else _review(record, unread)
        given = row and row["review_id"]
        key = (given, row["review_title"], row["review_content"]) if given and origin["file"] else given
        if given and key in seen:
            field, reason = "review_id", f"delivered twice (first in line {seen[key]})"
        if not reason:
            seen[key], own = origin["line"], given or files.content_id(row)
            same[own] += 1
            row["review_id"] = own if same[own] == 1 else f"{own}-{same[own]}"
            suffixed += [row["review_id"]] if given and same[own] > 1 else []
            parsed.append(row)
            continue
        column = origin["columns"].get(field, field)
        value = origin["record"].get(column) if column else None
        where = {"file": origin["file"], "line": origin["line"], "field": column, "value": value}
        rejected.append(writable({**where, "reason": reason, "record": origin["record"]}))
    if suffixed:  # two exports that both count from 1
        print(f"review_id: {len(suffixed)} stood above another text and got a suffix, such as {suffixed[0]}")
    for field, values in unread.items():
        print(f"{field}: {len(values)} values cannot be read and are left empty, such as {values[0]}")
    return parsed, rejected


def _review(record: dict, unread: dict[str, list]) -> tuple[dict | None, str | None, str | None]:
    """The parsed row; or None, the field that is wrong, and why."""
    if is_error_row(record):
        field = "error" if record.get("error") else "error_code"
        return None, field, f"the service reports an error ({record.get('error_code') or record['error']})"
    try:
        row = Review.model_validate({name: record.get(name) for name in FIELDS}, context=unread)
        return row.model_dump(mode="json"), None, None
    except pydantic.ValidationError as error:
        return None, str(error.errors()[0]["loc"][0]), _why(error)


def _why(error: pydantic.ValidationError) -> str:
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def writable(value: object) -> object:
    """The JSON value with a question mark for each half of a cut emoji, which UTF-8 cannot hold."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
