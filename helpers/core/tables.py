"""Tables that people bring: CSV, JSON and JSON Lines, in the encodings that programs save them in.

    tables.read_rows(path)      # [{"line": 2, "record": {…}}, {"line": 3, "record": "…", "reason": "…"}]
    tables.read_records(path)   # [{…}, …], or ValueError for the first row that cannot be read

The one reader of reviews, question-answer pairs and SQL rows. What columns mean is not its business.
"""

from __future__ import annotations

import codecs
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
            raise ValueError(
                f"{path}, row {row['line']}: {row['reason']}. It reads: {str(row['record'])[:80]!r}"
            )
    return [row["record"] for row in rows]


def read_rows(path: Path) -> list[dict]:
    """Each record with its place, `{"line", "record"}`, and a `reason` where it cannot be read.

    `line` is the line in CSV and JSON Lines, and the record's number, from 1, in a JSON array.
    Raises FileNotFoundError or ValueError that names the file and the fix.
    """
    if not path.is_file():
        what = (
            "a folder; give the path of one file in it"
            if path.is_dir()
            else f"no file (looked from {Path.cwd()})"
        )
        raise (ValueError if path.is_dir() else FileNotFoundError)(f"{str(path)!r} is {what}")
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(
            f"{str(path)!r} has the suffix {kind!r}, which is not read; save it as CSV (UTF-8) or JSON and name it "
            f"{', '.join(SUFFIXES)}"
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
    text = data.decode("cp1252", "replace")
    foreign = sum(not letter.isascii() for letter in text) / len(text)
    mixed = not data.decode(errors="replace").replace("\ufffd", "").isascii()
    if marked or "\ufffd" in text or mixed or foreign > 0.15:  # UTF-8 with a broken line, another alphabet
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
        reader = csv.reader(lines[start:], delimiter=delimiter, strict=True, skipinitialspace=True)
        begin = start
        try:
            for values in reader:
                raw = "".join(lines[begin : start + reader.line_num])
                row, begin = {"line": begin + 1, "record": raw}, start + reader.line_num
                if not any(value.strip() for value in values):
                    continue
                if not header:
                    header = _unique(values)
                elif len(values) != len(header):
                    yield row | {"reason": f"wrong number of fields ({len(values)} instead of {len(header)})"}
                else:
                    yield row | {"record": dict(zip(header, values))}
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
    """The rows of an array, of the one list of objects inside an object, or of JSON Lines."""
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
    if isinstance(whole, dict) and path.suffix.lower() == ".json":
        lists = [
            value
            for value in whole.values()
            if isinstance(value, list) and value and isinstance(value[0], dict)
        ]
        whole = lists[0] if len(lists) == 1 else [whole]
    elif isinstance(whole, dict):  # JSON Lines with a single line
        whole = [whole]
    elif not isinstance(whole, list):
        raise ValueError(
            f"{path} holds a single {type(whole).__name__}; it should be a JSON array of objects"
        )
    for number, record in enumerate(whole, 1):
        yield _row(number, record)


def _json_lines(text: str) -> Iterator[dict]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield _row(number, json.loads(line))
        except json.JSONDecodeError as error:
            yield {"line": number, "record": line, "reason": f"not JSON ({error.msg}, column {error.colno})"}


def _row(number: int, record: object) -> dict:
    row = {"line": number, "record": record}
    return row if isinstance(record, dict) else row | {"reason": "not a JSON object"}
