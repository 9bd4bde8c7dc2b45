"""Tables that people bring: CSV, JSON and JSON Lines, in the encodings that programs save them in.

    tables.read_rows(path)      # [{"line": 2, "record": {…}}, {"line": 3, "record": "…", "reason": "…"}]
    tables.read_records(path)   # [{…}, …], or ValueError for the first row that cannot be read

The one reader of reviews, question-answer pairs and SQL rows. What columns mean is not its business.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")


def read_records(path: Path) -> list[dict]:
    """The records of a file whose every row must be whole. Raises what `read_rows` raises, and ValueError
    that names file, row and reason for the first row that cannot be read."""
    rows = read_rows(path)
    for row in rows:
        if "reason" in row:
            start = f"It reads: {str(row['record'])[:80]!r}"
            raise ValueError(f"{path}, row {row['line']}: {row['reason']}. {start}")
    return [row["record"] for row in rows]


def read_rows(path: Path) -> list[dict]:
    """Each record with its place, `{"line", "record"}`, and a `reason` where it cannot be read.

    `line` is the line in CSV and JSON Lines, and the record's number, from 1, in a JSON array.
    Raises FileNotFoundError or ValueError that names the file and the fix.
    """
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; give the path of one file in it")
    if not path.exists():
        raise FileNotFoundError(f"{str(path)!r} is no file (looked from {Path.cwd()})")
    if (kind := path.suffix.lower()) not in SUFFIXES:
        fix = f"save it as CSV (UTF-8) or JSON and name it {', '.join(SUFFIXES)}"
        raise ValueError(f"{str(path)!r} has the suffix {kind!r}, which is not read; {fix}")
    text = _text(path)
    if not text.strip():
        raise ValueError(f"{path} is empty; export it again")
    rows = _csv_rows(text, path) if kind in (".csv", ".tsv") else _json_rows(text, path)
    return [row if isinstance(row["record"], dict) else {"reason": "not a JSON object"} | row for row in rows]


def _text(path: Path) -> str:
    """The file's text: UTF-8, UTF-16, or Windows-1252, as which Excel saves, with a note."""
    data = path.read_bytes()
    try:
        return data.decode("utf-16" if b"\0" in data else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
    text = data.decode("cp1252", "replace")
    foreign = sum(not letter.isascii() for letter in text) / len(text)
    mixed = not data.decode(errors="ignore").isascii()  # UTF-8, but for a broken line
    if "\ufffd" in text or mixed or foreign > 0.15:  # so much of it is another alphabet
        fix = "open it where it was made and save it as UTF-8"
        raise ValueError(f"{path} is not UTF-8 text; {fix} (line {line + 1} is the first that is not)")
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
        rest = (lines[number] for number in range(start, len(lines)))
        reader = csv.reader(rest, delimiter=delimiter, strict=True, skipinitialspace=True)
        row = {"line": start + 1, "record": lines[start]}
        try:
            values = next(reader)
        except csv.Error as error:  # the quotation mark has swallowed the rest: read on behind its first line
            row["reason"] = f"a quotation mark is not closed or not doubled ({error})"
            if not header:
                raise ValueError(f"{path}, line {start + 1}, the header: {row['reason']}") from None
            start += 1
            yield row
            continue
        row["record"] = "".join(lines[start : start + reader.line_num])
        start += reader.line_num
        if not any(value.strip() for value in values):
            continue
        if not header:
            for number, name in enumerate(
                map(str.strip, values), 1
            ):  # empty or there already, it gets its number
                header.append(name if name and name not in header else f"{name} (column {number})".strip())
        elif len(values) != len(header):
            yield row | {"reason": f"wrong number of fields ({len(values)} instead of {len(header)})"}
        else:
            yield row | {"record": dict(zip(header, values))}


def _json_rows(text: str, path: Path) -> Iterator[dict]:
    """The rows of an array, of the one list of objects inside an object, or of JSON Lines."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            where = f"{path}, line {error.lineno}, column {error.colno}: {error.msg}"
            fix = "The file is damaged or was cut off: mend it there, or export it again"
            raise ValueError(f"{where}. {fix}") from None
        yield from _json_lines(text)
        return
    if isinstance(whole, dict):
        lists = [
            rows for rows in whole.values() if isinstance(rows, list) and rows and isinstance(rows[0], dict)
        ]
        # A single line of JSON Lines may hold a list too, such as a dialogue's messages.
        whole = lists[0] if len(lists) == 1 and path.suffix.lower() == ".json" else [whole]
    for number, record in enumerate(whole if isinstance(whole, list) else [whole], 1):
        yield {"line": number, "record": record}


def _json_lines(text: str) -> Iterator[dict]:
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                yield {"line": number, "record": json.loads(line)}
        except json.JSONDecodeError as error:
            yield {"line": number, "record": line, "reason": f"not JSON ({error.msg}, column {error.colno})"}
