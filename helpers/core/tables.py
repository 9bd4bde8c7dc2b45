"""Tables that people bring: CSV, JSON and JSON Lines, in the encodings that programs save them in, and Parquet.

The one reader of reviews, question-answer pairs and SQL rows. What columns mean is not its business.
"""

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
# Read as Windows-1252, another encoding has signs where letters should be, as in "obs³uga".
NOT_WESTERN = re.compile(r"[^\W\d_][\ufffd¡-¿×÷][^\W\d_]")
csv.field_size_limit(sys.maxsize)  # a review may be longer than csv's 128 kB


def read_records(path: Path) -> list[dict]:
    """The records; raises what `read_rows` raises, and ValueError for the first row that cannot be read."""
    rows = read_rows(path)
    for row in rows:
        if why := row.get("reason", row.get("guess")):
            raise ValueError(f"{path}, row {row['line']}: {why}. It reads: {str(row['record'])[:80]!r}")
    return [row["record"] for row in rows]


def read_rows(path: Path) -> list[dict]:
    """Each record with its place, `{"line", "record"}`, and a `reason` where it cannot be read.

    A `guess` says how a row was read that does not fit its header. `line` is the record's number, from 1,
    in a JSON array and in Parquet. FileNotFoundError and ValueError name the file and the fix.
    """
    if not path.is_file():
        what = "is a folder; give the path of one file in it" if path.is_dir() else "is no file"
        raise FileNotFoundError(f"{str(path)!r} {what} (looked from {Path.cwd()})")
    if (kind := path.suffix.lower()) not in SUFFIXES:
        fix = f"save it as CSV (UTF-8) or JSON and name it {', '.join(SUFFIXES)}"
        raise ValueError(f"{str(path)!r} has the suffix {kind!r}, which is not read; {fix}")
    if kind == ".parquet":
        from pyarrow import parquet

        # As JSON would have them: times, decimals and bytes as texts.
        rows = parquet.read_table(path).to_pylist()
        rows = json.dumps(rows, default=lambda v: v.decode(errors="replace") if type(v) is bytes else str(v))
        return _numbered(json.loads(rows))
    text, damaged = _text(path)
    if not text.strip("\r\n\t ,;|"):
        raise ValueError(f"{path} is empty; export it again")
    rows = list(_csv_rows(text, path) if kind in (".csv", ".tsv") else _json_rows(text, path))
    for row in rows:
        if damaged and "\ufffd" in str(row["record"]):
            row["reason"] = "not UTF-8, as the rest of the file is; what cannot be read stands as \ufffd"
        elif not isinstance(row["record"], dict):
            row.setdefault("reason", "not a JSON object")
    if guesses := [row for row in rows if "guess" in row]:
        first = guesses[0]
        print(f"{path.name}, {len(guesses)} rows, the first in line {first['line']}: {first['guess']}")
    return rows


def _text(path: Path) -> tuple[str, bool]:
    """The file's text, and whether it is UTF-8 with damaged bytes; read as Windows-1252, it prints a line of it."""
    data = path.read_bytes()
    # Half of the bytes of Latin letters are 0, of others few; a stray one is damage.
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data.count(0) > len(data) / 4:
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16", "replace"), False
    text = data.decode("utf-8-sig", "replace")
    broken = text.count("\ufffd") - data.count("\ufffd".encode())
    if broken <= sum(not letter.isascii() for letter in text) / 2:
        return text, broken > 0
    text = data.decode("cp1252", "replace")  # as which Excel saves
    number, line = next((n, line) for n, line in enumerate(text.split("\n"), 1) if not line.isascii())
    if NOT_WESTERN.search(text) or sum(not letter.isascii() for letter in text) > 0.15 * len(text):
        from charset_normalizer import from_bytes

        likely = [match.encoding for match in from_bytes(data) if not NOT_WESTERN.search(str(match))]
        what = f"{path} is not UTF-8, and Windows-1252 garbles line {number} ({line[:60]!r})"
        encoding = f"its own encoding (by its letters, {' or '.join(likely) or 'unknown'})"
        raise ValueError(f"{what}; open it in {encoding} and save it as UTF-8")
    print(f"{path.name} is not UTF-8: read as Windows-1252. Save it as UTF-8 if line {number} looks wrong:")
    print(f"  {line.strip()[:100]}")
    return text, False


def _delimiter(text: str) -> str:
    """The mark that parts most of the first rows into as many columns as the header, and then into the most."""

    def columns(mark: str) -> tuple[float, int]:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
        widths = [len(row) for row, _ in zip(filter(any, rows), range(20))]
        return sum(width == widths[0] > 1 for width in widths), widths[0]

    return max(",;\t|", key=columns)


def _csv_values(text: str, delimiter: str) -> Iterator[dict]:
    """Line and values of each row that has any. Where a quotation mark breaks it, its line and the reason."""
    lines, start = list(io.StringIO(text, newline="")), 0
    while start < len(lines):
        row = {"line": start + 1, "record": lines[start]}
        rest = map(lines.__getitem__, range(start, len(lines)))
        reader = csv.reader(rest, delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            row["record"] = next(reader)
            start += reader.line_num
        except csv.Error as error:  # the mark has swallowed the rest: read on behind its first line
            row["reason"] = f"a quotation mark is not closed or not doubled ({error})"
            start += 1
        if "reason" in row or any(map(str.strip, row["record"])):
            yield row


def _csv_rows(text: str, path: Path) -> Iterator[dict]:
    """The rows below the header. One that is too short lacks its last values, which become empty texts."""
    text = re.sub(r'\A\s*"?sep=.*', "", text)  # Excel's own first line
    head, *rows = _csv_values(text, delimiter := _delimiter(text))
    if "reason" in head:
        raise ValueError(f"{path}, line {head['line']}, the header: {head['reason']}")
    header: list[str] = []
    for number, name in enumerate(map(str.strip, head["record"]), 1):
        known = not name or name in header  # then it gets its number
        header.append(f"{name} (column {number})".strip() if known else name)
    width, too_long = len(header), ["reason" not in row and any(row["record"][len(header) :]) for row in rows]
    # A last column of texts that hold delimiters and have no quotation marks:
    unquoted = sum(too_long) > len(rows) / 2 or width == 1
    for row, surplus in zip(rows, too_long):
        values = row["record"]
        if surplus:
            what = f"wrong number of fields ({len(values)} instead of {width})"
            row |= {"guess": f"{what}, the last ones read as one"} if unquoted else {"reason": what}
            values = [*values[: width - 1], f"{delimiter} ".join(values[width - 1 :])]
        if "reason" not in row:
            row["record"] = dict(itertools.zip_longest(header, values[:width], fillvalue=""))
        yield row


def _numbered(records: list) -> list[dict]:
    return [{"line": number, "record": record} for number, record in enumerate(records, 1)]


def _json_rows(text: str, path: Path) -> list[dict]:
    """The rows of an array, of the one list of objects inside an object, links apart, or of JSON Lines."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            where = f"{path}, line {error.lineno}, column {error.colno}: {error.msg}"
            fix = "The file is damaged or was cut off: mend it there, or export it again"
            raise ValueError(f"{where}. {fix}") from None
        return [_json_line(*row) for row in enumerate(text.split("\n"), 1) if row[1].strip()]
    # A single line of JSON Lines may hold a list too, such as a dialogue's messages.
    if isinstance(whole, dict) and path.suffix.lower() == ".json":
        if whole and all(isinstance(v, dict) and "0" in v for v in whole.values()):  # as pandas writes it
            return _numbered([{k: v.get(n) for k, v in whole.items()} for n in next(iter(whole.values()))])
        inner = next(iter(whole.values()), None)
        frame = inner if len(whole) == 1 and isinstance(inner, dict) else whole
        lists = [v for k, v in frame.items() if isinstance(v, list) and v and k.rstrip("s") != "link"]
        named = [v["reviews"] for v in (whole, *whole.values()) if isinstance(v, dict) and v.get("reviews")]
        lists = [rows for rows in named or lists if isinstance(rows, list) and isinstance(rows[0], dict)]
        whole = lists[0] if len(lists) == 1 else [whole]
    return _numbered(whole if isinstance(whole, list) else [whole])


def _json_line(number: int, line: str) -> dict:
    try:
        return {"line": number, "record": json.loads(line)}
    except json.JSONDecodeError as error:
        return {"line": number, "record": line, "reason": f"not JSON ({error.msg}, column {error.colno})"}
