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
# Read as Windows-1252, another encoding has signs or capitals inside words, as in "obs³uga", or words of accents only.
# Not ´, ° and ·, as in "geht´s", "n°F" and "col·lecció".
NOT_WESTERN = re.compile(
    r"[^\W\d_][\ufffd¡-¯±-³µ¶¸-¿×÷‚„†‡ˆ‰‹›“”•˜][^\W\d_]|[a-z][À-ÖØ-ÞŠŒŽŸ][a-z]|(?:([À-ÿ])(?!\1)){4}"
)
# Languages of which it lacks letters, and the encodings that have them.
LACKED = dict.fromkeys("bs cs hr hu pl ro sk sl sr".split(), "cp1250") | {"tr": "cp1254", "lt": "cp1257"}
OTHER_FILES = {
    rb"PK\x03\x04|\xd0\xcf\x11\xe0": "an Excel workbook or a zip file; open it, save its table as CSV (UTF-8)",
    rb"\x1f\x8b": "compressed with gzip; unpack it",
    rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|html)": "a web page, perhaps one to log in; export the table itself",
}
# A line without a delimiter, above a header without spaces behind its delimiters and a row with a number or a date.
TITLE = re.compile(
    r"\s*+(?:[^,;\t|\n]++\n\s*+){1,3}[^,;\t|\d\n]+([,;\t|])(?! )[^,;\t|\d\n]+(?:\1(?! )[^,;\t|\d\n]+)*\n"
    r'(?:.*\1)?"?\d[\d./: +-]*"?(?:\1|\s)'
)
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
    for what in (what for sign, what in OTHER_FILES.items() if re.match(sign, data)):
        raise ValueError(f"{path} is not what {path.suffix} says, but {what}")
    # Half of the bytes of Latin letters are 0, of others few; a stray one is damage.
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data.count(0) > len(data) / 4:
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16", "replace"), False
    for order in ("utf-16-le", "utf-16-be") * (b"\0" in data):  # Cyrillic or Chinese has few
        if (text := data.decode(order, "replace")).count("\n") > data.count(b"\n") / 2:
            return text, False
    text = data.decode("utf-8-sig", "replace")
    broken = text.count("\ufffd") - data.count("\ufffd".encode())
    if broken <= sum(not letter.isascii() for letter in text) / 2:
        return text, broken > 0
    text = data.decode("cp1252", "replace")  # as which Excel saves
    number, line = next((n, line) for n, line in enumerate(text.split("\n"), 1) if not line.isascii())
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    lines = " ".join(line for line in text.split("\n") if not line.isascii())[:2000]
    language, sure = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).classify(lines)
    odd, signs = sum(not letter.isascii() for letter in text), len(NOT_WESTERN.findall(text))
    page = LACKED.get(language) if sure > 0.7 else None  # of Western lines in the benchmarks: at most 0.03
    if page or signs > odd / 20 or odd > 0.3 * len(text):
        from charset_normalizer import from_bytes

        likely = [match.encoding for match in from_bytes(data) if not NOT_WESTERN.search(str(match))]
        what = f"{path} is not UTF-8, and Windows-1252 garbles line {number} ({line[:60]!r})"
        encoding = f"its own encoding (by its letters, {page or ' or '.join(likely) or 'unknown'})"
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
    if TITLE.match(text):
        raise ValueError(f"{path}: its first line names no columns. Delete what stands above the header")
    if re.search(r'\\"\w', text) and not re.search(r'\w""|""\w', text):  # as MySQL and Spark write it
        text = text.replace('\\"', '""')
    head, *rows = _csv_values(text, delimiter := _delimiter(text))
    if "reason" in head:
        raise ValueError(f"{path}, line {head['line']}, the header: {head['reason']}")
    header: list[str] = []
    whole = [row["record"] for row in rows if "reason" not in row]
    used = {at for values in whole for at, value in enumerate(values, 1) if value.strip()}
    for number, name in enumerate(map(str.strip, head["record"]), 1):
        known = name in header if name else number in used  # then it gets its number
        header.append(f"{name} (column {number})".strip() if known else name)
    width, too_long = len(header), ["reason" not in row and any(row["record"][len(header) :]) for row in rows]
    # A last column of texts that hold delimiters and have no quotation marks:
    unquoted = sum(too_long) > len(rows) / 2 or width == 1
    for row, surplus in zip(rows, too_long):
        values = row["record"]
        if values == head["record"]:
            row["reason"] = "the header again, as where files were joined"
        if surplus:
            what = f"wrong number of fields ({len(values)} instead of {width})"
            row |= {"guess": f"{what}, the last ones read as one"} if unquoted else {"reason": what}
            values = [*values[: width - 1], f"{delimiter} ".join(values[width - 1 :])]
        if "reason" not in row:
            cells = itertools.zip_longest(header, values[:width], fillvalue="")
            row["record"] = {n: v for n, v in cells if n}  # "": a column of nothing, as Excel may write it
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
        if whole and all(isinstance(v, dict) and "".join(v).isdigit() for v in whole.values()):  # pandas
            return _numbered([{k: v.get(n) for k, v in whole.items()} for n in next(iter(whole.values()))])
        inner = next(iter(whole.values()), None)
        frame = inner if len(whole) == 1 and isinstance(inner, dict) else whole
        lists = [v for k, v in frame.items() if isinstance(v, list) and v and k.rstrip("s") != "link"]
        named = [v["reviews"] for v in (whole, *whole.values()) if isinstance(v, dict) and v.get("reviews")]
        lists = [rows for rows in named or lists if isinstance(rows, list) and isinstance(rows[0], dict)]
        keyed = [v for v in frame.values() if isinstance(v, dict)]
        full = max(keyed, key=len, default={}).keys()  # of which records by key have most
        alike = 1 < len(keyed) == len(frame) and all(2 * len(v.keys() & full) > len(v) for v in keyed)
        whole = lists[0] if len(lists) == 1 else keyed if alike and not lists else [whole]
    return _numbered(whole if isinstance(whole, list) else [whole])


def _json_line(number: int, line: str) -> dict:
    try:
        return {"line": number, "record": json.loads(line)}
    except json.JSONDecodeError as error:
        return {"line": number, "record": line, "reason": f"not JSON ({error.msg}, column {error.colno})"}
