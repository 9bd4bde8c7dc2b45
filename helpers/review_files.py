"""Files of reviews from anywhere: JSON, JSON Lines and CSV, their encodings, columns and dates.

    records = read_records("export.csv", columns={"Feedback": "review_content"})

A broken line is marked for `records.parse` to reject; the rest survives. Nothing is guessed in
silence: which columns were taken, another encoding and unclear dates are printed.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from helpers.records import FIELDS, ORIGIN

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
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")


def read_records(source: str | Path, columns: dict[str, str] | None = None) -> list[dict]:
    """The records of a JSON array, JSON Lines or CSV file, columns renamed to the record's fields.

    `columns` maps your column names to fields, for names that OTHER_NAMES does not know; a column mapped
    to None is left out. Lines that cannot be read are among the records, for `parse` to reject.
    Raises FileNotFoundError or ValueError that names the file and the fix.
    """
    path = Path(source).expanduser()
    rows = _rows(path)
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


def _rows(path: Path) -> list[dict]:
    """Each record with its line, `{"line", "record"}`; with a `reason` when the line cannot be read."""
    if path.is_dir():
        raise ValueError(f"source = {str(path)!r} is a folder; give the path of one file in it")
    if not path.is_file():
        raise FileNotFoundError(
            f"source = {str(path)!r} is no file (looked from {Path.cwd()}); give 'sample', 'brightdata' or the "
            "path of a JSON, JSONL or CSV file"
        )
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(
            f"source = {str(path)!r} has the suffix {kind!r}, which is not read; save it as CSV (UTF-8) or "
            f"JSON and name it {', '.join(SUFFIXES)}"
        )
    text = _text(path)
    if not text.strip():
        raise ValueError(f"{path} is empty; export it again")
    return list(_csv_rows(text, path) if kind in (".csv", ".tsv") else _json_rows(text, path))


def _text(path: Path) -> str:
    """The file's text: UTF-8, UTF-16 with its mark, or Windows-1252, as which Excel saves, with a note."""
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    fix = f"{path} is not UTF-8 text; open it where it was made and save it as UTF-8"
    if b"\0" in data and not marked:
        raise ValueError(fix)
    try:
        return data.decode("utf-16" if marked else "utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
    if marked:
        raise ValueError(f"{path} is damaged: its UTF-16 text breaks off in line {line + 1}; export it again")
    text = data.decode("cp1252", "replace")
    foreign = sum(not letter.isascii() for letter in text) / len(text)
    mixed = not data.decode(errors="replace").replace("\ufffd", "").isascii()
    if "\ufffd" in text or mixed or foreign > 0.15:  # neither, UTF-8 with a broken line, another alphabet
        raise ValueError(f"{fix} (line {line + 1} is the first that is not)")
    print(f"{path.name} is not UTF-8: read as Windows-1252. Save it as UTF-8 if line {line + 1} looks wrong:")
    print(f"  {text.split(chr(10))[line].strip()[:100]}")
    return text


def _csv_rows(text: str, path: Path) -> Iterator[dict]:
    lines = list(io.StringIO(text, newline=""))
    start = next(number for number, line in enumerate(lines) if line.strip())
    if named := re.fullmatch(r'"?sep=(.)"?', lines[start].strip("\r\n")):  # Excel's own first line
        start, delimiter = start + 1, named[1]
    else:
        # A header has no texts in it: what parts it into the most columns is the delimiter.
        delimiter = max(",;\t|", key=lambda mark: len(next(csv.reader([lines[start]], delimiter=mark))))
    header: list[str] = []
    while start < len(lines):
        ahead = (lines[number] for number in range(start, len(lines)))
        reader = csv.reader(ahead, delimiter=delimiter, strict=True, skipinitialspace=True)
        begin = start
        try:
            for values in reader:
                raw = "".join(lines[begin : start + reader.line_num])
                row, begin = {"line": begin + 1, "record": raw}, start + reader.line_num
                counts = f"({len(values)} instead of {len(header)})"
                if not any(value.strip() for value in values):
                    continue
                if not header:
                    header = _unique(values)
                elif len(values) != len(header):
                    yield {**row, "reason": f"wrong number of fields {counts}"}
                else:
                    yield {**row, "record": dict(zip(header, values))}
            return
        except csv.Error as error:
            # A quotation mark that never closes swallows what follows: read on behind its first line.
            reason = f"a quotation mark is not closed or not doubled ({error})"
            if not header:
                raise ValueError(f"{path}, line {begin + 1}, the header: {reason}") from None
            yield {"line": begin + 1, "record": lines[begin], "reason": reason}
            start = begin + 1


def _unique(names: list[str]) -> list[str]:
    """Column names that are empty or there already get their number."""
    names = [name.strip() for name in names]
    return [
        name if name and name not in names[:number] else f"{name} (column {number + 1})".strip()
        for number, name in enumerate(names)
    ]


def _json_rows(text: str, path: Path) -> Iterator[dict]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise ValueError(
                f"{path}, line {error.lineno}, column {error.colno}: {error.msg}. The file is damaged or was cut "
                "off: mend it there, or export it again"
            ) from None
        yield from _json_lines(text)
        return
    bracket = re.search(r"\S", text).start()
    if isinstance(whole, dict):
        lists = [k for k, v in whole.items() if isinstance(v, list) and v and isinstance(v[0], dict)]
        if len(lists) != 1 or "review_content" in [_field(key) for key in whole]:
            yield {"line": text.count("\n", 0, bracket) + 1, "record": whole}
            return  # the file is one review, or _taken says what it has
        inside = list(_items(text, bracket))  # keys and values in turn
        bracket = next(at for (_, key), (at, _) in zip(inside[::2], inside[1::2]) if key == lists[0])
    elif not isinstance(whole, list):
        raise ValueError(f"{path} holds a single {type(whole).__name__}; reviews are a JSON array of objects")
    line, before = 1, 0
    for at, item in _items(text, bracket):
        line, before = line + text.count("\n", before, at), at
        row = {"line": line, "record": item}
        yield row if isinstance(item, dict) else {**row, "reason": "not a JSON object"}


def _json_lines(text: str) -> Iterator[dict]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            yield {"line": number, "record": line, "reason": f"not JSON ({error.msg}, column {error.colno})"}
        else:
            row = {"line": number, "record": record}
            yield row if isinstance(record, dict) else {**row, "reason": "not a JSON object"}


def _items(text: str, bracket: int) -> Iterator[tuple[int, object]]:
    """Place and value of all that stands in the valid JSON array or object that opens at `bracket`."""
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,:]*")
    at = between.match(text, bracket + 1).end()
    while text[at] not in "]}":
        item, end = decoder.raw_decode(text, at)
        yield at, item
        at = between.match(text, end).end()


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


def _field(name: str) -> str | None:
    """The field that a column of this name means."""
    return KNOWN.get(_squash(name), (0, None))[1]


def _taken(path: Path, present: list[str], columns: dict[str, str]) -> dict[str, str]:
    """The column that is taken for each field; prints them unless all have the fields' own names."""
    asked = {_column(path, name, present): field for name, field in columns.items()}
    for name, field in asked.items():
        if field is not None and field not in FIELDS:
            raise ValueError(f"columns maps {name!r} to {field!r}; the fields there are: {', '.join(FIELDS)}")
        if field and list(asked.values()).count(field) > 1:
            raise ValueError(f"columns = {columns} maps two columns to {field}; choose one")
    taken = {field: name for name, field in asked.items() if field}
    known = [name for name in present if _field(name) and name not in asked]
    for name in sorted(known, key=lambda name: KNOWN[_squash(name)][0]):
        taken.setdefault(_field(name), name)
    if not {"review_content", "review_title", "error"} & set(taken):
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
        field = _field(name)
        print(f"  {name!r} may be {field} too; {taken[field]!r} was taken. `columns` can change that")
    return taken


def _column(path: Path, name: str, present: list[str]) -> str:
    """The file's own spelling of a column that `columns` names."""
    same = [column for column in present if _squash(column) == _squash(name)]
    if not same:
        raise ValueError(f"columns has {name!r}, but the columns of {path} are: {', '.join(present)}")
    return name if name in same else same[0]


def _order_dates(records: list[dict], field: str) -> None:
    """Bring 31/01/2026, 01/31/2026 and 31.01.2026 into ISO form; what can be either is left empty.

    Dots mean day first. With slashes and hyphens the other dates of the column decide.
    """
    matches = [DAY_MONTH_YEAR.fullmatch(str(record.get(field)).strip()) for record in records]
    slashed = [match for match in matches if match and match[2] != "."]
    day_first = any(int(match[1]) > 12 for match in slashed)
    month_first = any(int(match[3]) > 12 for match in slashed)
    unclear = []
    for record, match in zip(records, matches):
        if not match:
            continue
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
