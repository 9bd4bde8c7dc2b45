"""The one reader of people's CSV, JSON, JSON Lines and Parquet; what their columns mean is not its business."""

import csv
import io
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
# What another encoding, read as Windows-1252, has between letters ("obs³uga"; not ´, ° and ·), or accents in a row.
NOT_WESTERN = r"[^\W\d_][\ufffd¡-¯±-³µ¶¸-¿×÷‚„†‡ˆ‰‹›“”•˜][^\W\d_]|[a-z][À-ÖØ-ÞŠŒŽŸ][a-z]|(?:([À-ÿ])(?!\1)){4}"
LACKED = {*"bs cs hr hu lt pl ro sk sl sr tr".split()}  # languages of which Windows-1252 lacks letters
DELIMITERS = "\x1f,;\t|"  # the first for a file of one column
csv.field_size_limit(sys.maxsize)  # a review may be longer than csv's 128 kB


def read_records(path: Path) -> list[dict]:
    """The records; raises what `read_rows` raises, and ValueError for the first row that cannot be read."""
    rows = read_rows(path)
    for row in rows:
        if why := row.get("reason", row.get("guess")):
            raise ValueError(f"{path}, row {row['line']}: {why}. It reads: {str(row['record'])[:80]!r}")
    return [row["record"] for row in rows]


def read_rows(path: Path) -> list[dict]:
    """{"line", "record"} each, a `reason` if unreadable, or a `guess`; FileNotFoundError or ValueError name the fix."""
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} is no file (looked from {Path.cwd()}); give the path of one")
    if (kind := path.suffix.lower()) not in SUFFIXES:
        raise ValueError(f"{path} has the suffix {kind!r}, which is not read; save it as CSV (UTF-8) or JSON")
    text, damaged = _text(path)
    if not text.strip("\r\n\t ,;|"):
        raise ValueError(f"{path} is empty; export it again")
    rows = list(_csv_rows(text, path) if kind in (".csv", ".tsv") else _json_rows(text, path))
    for row in rows:
        if damaged and "\ufffd" in str(row["record"]):
            row["reason"] = "not UTF-8, as the rest of the file is; what cannot be read stands as \ufffd"
        elif not isinstance(row["record"], dict):
            row.setdefault("reason", "not a JSON object")
    if guesses := [f"{row['line']}: {row['guess']}" for row in rows if "guess" in row]:
        print(f"{path.name}, {len(guesses)} rows, the first in line {guesses[0]}")
    return rows


def _text(path: Path) -> tuple[str, bool]:
    """The file's text, and whether it is UTF-8 with damaged bytes; read as Windows-1252, it prints a line of it."""
    if path.suffix.lower() == ".parquet":
        from pyarrow import parquet

        rows = parquet.read_table(path).to_pylist()  # as JSON has them: times, decimals and bytes are texts
        plain = json.dumps(rows, default=lambda v: v.decode(errors="replace") if type(v) is bytes else str(v))
        return plain, False
    data = path.read_bytes()
    if data.startswith((b"PK\x03", b"\xd0\xcf", b"\x1f\x8b")) or b"\0" in data[:2]:
        raise ValueError(f"{path} is a workbook, an archive or another binary; save its table as CSV (UTF-8)")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace"), False
    text = data.decode("utf-8-sig", "replace")
    broken = text.count("\ufffd") - data.count("\ufffd".encode())
    if broken <= sum(not letter.isascii() for letter in text) / 2:
        return text, broken > 0
    text = data.decode("cp1252", "replace")  # as which Excel saves
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    odd = {number: line for number, line in enumerate(text.split("\n"), 1) if not line.isascii()}
    (number, line), accents = [*odd.items()][0], sum(not letter.isascii() for letter in text)
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    language, sure = identifier.classify(" ".join(odd.values())[:2000])
    garbled = sure > 0.7 and language in LACKED  # of Western lines in the benchmarks: at most 0.03
    if garbled or len(re.findall(NOT_WESTERN, text)) > accents / 20:
        what = f"{path} is not UTF-8, and Windows-1252 garbles line {number} ({line[:60]!r})"
        pages = "Polish cp1250, Russian cp1251, Greek cp1253, Turkish cp1254, Japanese cp932, Mac mac_roman, DOS cp850"
        raise ValueError(f"{what}; open it in its own encoding ({pages}) and save it as UTF-8")
    hint = f"Save it as UTF-8 if line {number} looks wrong:\n  {line.strip()[:100]}"
    print(f"{path.name} is not UTF-8: read as Windows-1252. {hint}")
    return text, False


def _csv_rows(text: str, path: Path) -> Iterator[dict]:
    """The rows below the header that hold any value. Where a quotation mark breaks one, its line and the reason."""
    text = re.sub(r'\A\s*"?sep=.*', "", text)  # Excel's own first line
    if re.search(r'\\"\w', text) and not re.search(r'\w""|""\w', text):  # as MySQL and Spark write it
        text = text.replace('\\"', '""')
    lines, header, fits = list(io.StringIO(text, newline="")), [], {}
    for mark in DELIMITERS:
        rows = filter(any, csv.reader(lines, delimiter=mark, skipinitialspace=True))
        widths = [len(row) for row in itertools.islice(rows, 20)]
        fits[mark] = sum(width == widths[0] > 1 for width in widths), widths[:1]
    mark = max(fits, key=fits.get)  # makes most of the first rows as wide as the header, and it the widest
    reader = csv.reader(lines, delimiter=mark, skipinitialspace=True)
    for number, name in enumerate(map(str.strip, next(filter(any, reader), [])), 1):
        header.append(f"{name} (column {number})".strip() if name in ("", *header) else name)
    parted = mark == DELIMITERS[0] and re.search(r"[,;\t|]\S", re.sub(r'"[^"]*"', "x", text))
    if parted and not "".join(header).isalpha():
        raise ValueError(f"{path}: its first line names no columns. Delete what stands above the header")
    end, width, too_long = reader.line_num, len(header), [any(row[len(header) :]) for row in reader]
    unquoted = sum(too_long) > len(too_long) / 2  # a last column of texts that hold delimiters
    while end < len(lines):
        start, rest = end, itertools.islice(lines, end, None)
        reader = csv.reader(rest, delimiter=mark, skipinitialspace=True, strict=True)
        try:
            for values in reader:
                row, end = {"line": end + 1, "record": values}, start + reader.line_num
                if any(values[width:]):
                    what = f"wrong number of fields ({len(values)} instead of {width})"
                    row |= {"guess": f"{what}, the last ones read as one"} if unquoted else {"reason": what}
                    values = [*values[: width - 1], f"{mark} ".join(values[width - 1 :])]
                if "reason" not in row:  # one that is too short lacks its last values
                    cells = itertools.zip_longest(header, values[:width], fillvalue="")
                    row["record"] = {n: v for n, v in cells if v or not n.startswith("(column ")}
                if any(map(str.strip, values)):
                    yield row
        except csv.Error as error:  # the mark has swallowed the rest: read on behind its first line
            reason = f"a quotation mark is not closed or not doubled ({error})"
            yield {"line": end + 1, "record": lines[end], "reason": reason}
            end += 1


def _json_rows(text: str, path: Path) -> Iterator[dict]:
    """The rows of an array, of the one list of objects inside an object, links apart, or of JSON Lines."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            where = f"{path}, line {error.lineno}, column {error.colno}: {error.msg}"
            raise ValueError(f"{where}. The file is damaged or was cut off: export it again") from None
        for number, line in enumerate(text.split("\n"), 1):
            try:
                if line.strip():
                    yield {"line": number, "record": json.loads(line)}
            except json.JSONDecodeError as wrong:
                reason = f"not JSON ({wrong.msg}, column {wrong.colno})"
                yield {"line": number, "record": line, "reason": reason}
        return
    if isinstance(whole, dict) and path.suffix.lower() == ".json":  # a line of JSON Lines may hold a list too
        frames = [whole, *(value for value in whole.values() if isinstance(value, dict) and value)]
        lists = {n: v for frame in frames for n, v in frame.items() if isinstance(v, list) and v}
        lists = {n: v for n, v in lists.items() if isinstance(v[0], dict) and n[:4] != "link"}
        if len(frames) > len(whole) and all("".join(column).isdigit() for column in frames[1:]):  # pandas
            whole = [{name: column.get(key) for name, column in whole.items()} for key in frames[1]]
        elif "reviews" in lists or len(lists) == 1:
            whole = lists.get("reviews") or [*lists.values()][0]
        elif len(frames) > max(len(whole), 2) and len({next(iter(frame)) for frame in frames[1:]}) == 1:
            whole = frames[1:]  # records by their keys, each with the same first field
    for number, record in enumerate(whole if isinstance(whole, list) else [whole], 1):
        yield {"line": number, "record": record}  # its place in the array
