"""Files of reviews from anywhere: JSON, JSON Lines and CSV, their encodings, columns and dates.

    records = read_records("export.csv", columns={"Feedback": "review_content"})

A broken line is marked for `records.parse` to reject; the rest survives. Nothing is guessed in
silence: which columns were taken, another encoding and unclear dates are printed.
"""

from __future__ import annotations

import re
from pathlib import Path

from helpers.collect.records import FIELDS, ORIGIN
from helpers.core import tables

# Column names of other review sites, shops and tools by the field that they mean, the best first.
# Case, spaces, hyphens and underscores do not count; a dot leads into a nested JSON object.
OTHER_NAMES = {
    "review_content": "text, review, body, content, comment, comments, message, feedback, review text, review body",
    "review_title": "title, headline, summary, subject, review header",
    "review_rating": "rating, stars, score, star rating, review stars, review score, overall rating",
    "review_date": "date, created at, created, date created, created date, create time, published at, "
    "published at date, at, review datetime utc, review posted date, review created (utc), "
    "review submit date and time",
    "review_id": "id",
    "reviewer_name": "author, reviewer, user, user name, author name, nickname, reviewer nickname, "
    "display name, review username, reviewer.display name, name",
    "reviewer_location": "country, country code, location, reviewer country, review country, territory",
    "company_name": "company, business, business name, place name, brand",
}
DAY_MONTH_YEAR = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?!\d)(.*)")


def read_records(source: str | Path, columns: dict[str, str] | None = None) -> list[dict]:
    """The records of a JSON array, JSON Lines or CSV file, columns renamed to the record's fields.

    `columns` maps your column names to fields, for names that OTHER_NAMES does not know; a column mapped
    to None is left out. Lines that cannot be read are among the records, for `parse` to reject.
    Raises FileNotFoundError or ValueError that names the file and the fix.
    """
    path = Path(source).expanduser()
    if not path.exists():
        fix = "give 'sample', 'brightdata' or a path"
        raise FileNotFoundError(f"{str(source)!r} is no file in {Path.cwd()}; {fix}")
    rows = tables.read_rows(path)
    whole = [row for row in rows if "reason" not in row]
    if not rows:
        raise ValueError(f"{path} holds no reviews, only the frame for them; export it again")
    if not whole:
        raise ValueError(f"No line of {path} can be read. Line {rows[0]['line']}: {rows[0]['reason']}")
    for row in whole:
        row["record"] = _flat(row["record"])
    present = list(dict.fromkeys(name for row in whole for name in row["record"]))
    taken = _taken(path, present, columns or {})
    records = []
    for row in rows:
        found = {f: row["record"][c] for f, c in taken.items() if "reason" not in row and c in row["record"]}
        records.append({**found, ORIGIN: {"file": path.name, **row, "columns": taken}})
    for field in ("review_date", "review_date_of_experience"):
        _order_dates(records, field)
    return records


def _flat(record: dict) -> dict:
    """The record with nested objects opened, `reviewer.displayName`; the record's own fields stay."""
    flat = {}
    for name, value in record.items():
        nested = isinstance(value, dict) and name not in FIELDS
        flat |= {f"{name}.{key}": each for key, each in value.items()} if nested else {name: value}
    return flat


def _squash(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).lower()


KNOWN = {
    _squash(name): (rank, field)
    for field in (*FIELDS, "error", "error_code")  # the last two mark a service's error rows
    for rank, name in enumerate((field, *OTHER_NAMES.get(field, field).split(", ")))
}


def _taken(path: Path, present: list[str], columns: dict[str, str]) -> dict[str, str]:
    """The column that is taken for each field; prints them unless all have the fields' own names."""
    spelled = {_squash(name): name for name in reversed(present)} | {name: name for name in present}
    asked = {}
    for name, field in columns.items():
        own = spelled.get(name) or spelled.get(_squash(name))
        if not own:
            raise ValueError(f"columns has {name!r}, but the columns of {path} are: {', '.join(present)}")
        if field is not None and field not in FIELDS:
            raise ValueError(f"columns maps {name!r} to {field!r}; the fields there are: {', '.join(FIELDS)}")
        if field and field in asked.values():
            raise ValueError(f"columns = {columns} maps two columns to {field}; choose one")
        asked[own] = field
    taken = {field: name for name, field in asked.items() if field}
    known = {n: KNOWN[_squash(n)] for n in present if _squash(n) in KNOWN and n not in asked}
    for name, (_, field) in sorted(known.items(), key=lambda item: item[1][0]):
        taken.setdefault(field, name)
    if not {"review_content", "review_title", "error_code"} & set(taken):
        raise ValueError(
            f"{path} has no column that is known to hold the text of a review; it has: {', '.join(present)}. "
            f"Say which one it is: columns = {{{present[0]!r}: 'review_content'}}"
        )
    twice = [name for name in known if name not in taken.values()]
    renamed = [f"{name!r} is {field}" for field, name in taken.items() if name != field]
    if renamed or twice:
        unused = [name for name in present if name not in taken.values()]
        print(f"{path.name}: {', '.join(renamed)}. Not used: {', '.join(unused) or 'nothing'}")
    for name in twice:
        field = known[name][1]
        print(f"  {name!r} may be {field} too; {taken[field]!r} was taken. `columns` can change that")
    return taken


def _order_dates(records: list[dict], field: str) -> None:
    """Bring 31/01/2026, 01/31/2026 and 31.01.2026 into ISO form; what can be either is left empty.

    Dots mean day first. With slashes and hyphens the other dates of the column decide.
    """
    found = [(r, match) for r in records if (match := DAY_MONTH_YEAR.fullmatch(str(r.get(field)).strip()))]
    slashed = [match for _, match in found if match[2] != "."]
    day_first = any(int(match[1]) > 12 for match in slashed)
    month_first = any(int(match[3]) > 12 for match in slashed)
    unclear = []
    for record, match in found:
        day, month = int(match[1]), int(match[3])
        if match[2] != "." and day <= 12 and day != month:
            if month > 12 or (month_first and not day_first):
                day, month = month, day
            elif day_first == month_first:
                unclear.append(record[field])
                record[field] = None
                continue
        record[field] = f"{match[4]}-{month:02}-{day:02}{match[5]}"
    if unclear:
        print(f"{field}: {unclear[0]!r} can be day first or month first, and the file does not say which.")
        print(f"  {len(unclear)} such dates are left empty; written as 2026-01-31 they would be read.")
