"""Files of reviews from anywhere: JSON, JSON Lines and CSV, their encodings, columns and dates.

Nothing is guessed in silence: columns taken or not, second headers and another encoding are printed.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from helpers.collect.records import FIELDS, NOBODY, ORIGIN, date, is_missing, stars
from helpers.core import files, tables, workdir

# Column names of other review sites, shops, tools and languages by the field that they mean, the best first.
# Case, spaces, dots, hyphens and underscores do not count, and neither does a FRAME.
OTHER_NAMES = files.read_json(Path(__file__).with_name("column_names.json"))
# What stands around a name: "reviews.text", "attributes.body", "title.label", MongoDB's "date.$date".
FRAME = r"^(reviews?|attributes|properties|fields|comments\.userComment)\.(?=.)|(\.(label|value|text)|(\.\$\w+)+)$"
JUDGED = 5_000  # records by whose values a column is judged; more would take memory
GUESS = 99  # the rank of the column with the longest texts, behind every known name
# What the shop answers is often longer than the review.
REPLY = "(?i)repl(y|ies)|antwort|répon|respuesta|risposta|odpowied|(owner|company|seller) response"
DAY_MONTH_YEAR = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(20)?(\d\d)(?!\d)(.*)")


def find(source: str) -> Path:
    """A file of one's own: as named, else of that name in Colab's Files panel, in Drive, or in a Kaggle input."""
    path, inputs = Path(source).expanduser(), workdir.KAGGLE_INPUT
    attached = sorted(folder for depth in ("*", "*/*", "*/*/*") for folder in inputs.glob(depth))
    folders = (workdir.COLAB_FILES, workdir.DRIVE, *attached)
    found = next(filter(Path.is_file, [path, *(folder / path.name for folder in folders)]), path)
    if found != path:
        print(f"{source} is {found}")
    return found


def read_records(source: str | Path, columns: dict[str, str] | None = None) -> list[dict]:
    """The records of a file, columns renamed to fields; unreadable lines are left for `parse` to reject.

    `columns` maps names that OTHER_NAMES does not know to fields, or to None: left out. FileNotFoundError and
    ValueError name the file and the fix.
    """
    path = Path(source).expanduser()
    rows = tables.read_rows(path)
    for row in (whole := [row for row in rows if "reason" not in row]):
        row["record"] = _flat(row["record"])
    if not any(row["record"] for row in whole):
        why = f"Line {rows[0]['line']}: {rows[0].get('reason', 'empty')}" if rows else "Export it again"
        raise ValueError(f"{path} holds no reviews that can be read. {why}")
    if headers := whole[: _second_headers([row["record"] for row in whole])]:
        print(f"{path.name}: rows to line {headers[-1]['line']} are second headers, and left out")
        rows = [row for row in rows if row["line"] > headers[-1]["line"]]
    taken = _taken(path, [row["record"] for row in whole[len(headers) :]], columns or {})
    first = _key(taken.get("reviewer_name", ""))
    last = [n for n in whole[-1]["record"] if _key(n) == first.replace("first", "last") != first]
    if last:
        print(f"  {last[0]!r} is added to reviewer_name")
    records = []
    for row in rows:
        found = {f: row["record"][c] for f, c in taken.items() if "reason" not in row and c in row["record"]}
        if last and "reason" not in row:
            both = (row["record"].get(name) for name in (taken["reviewer_name"], last[0]))
            found["reviewer_name"] = " ".join(str(name) for name in both if not is_missing(name))
        records.append({**found, ORIGIN: {"file": path.name, **row, "columns": taken}})
    for field in ("review_date", "review_date_of_experience"):
        _order_dates(records, field)
    return records


def _flat(record: dict, prefix: str = "") -> dict:
    """The record with nested objects opened, `reviewer.displayName`, alone in a list too; its own fields stay."""
    flat = {}
    for name, value in record.items():
        alone = value[0] if isinstance(value, list) and len(value) == 1 else value
        nested = isinstance(alone, dict) and name not in (*FIELDS, "error", "errors")
        flat |= _flat(alone, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat


def _second_headers(records: list[dict]) -> int:
    """How many rows of a survey tool stand between header and answers: two of Qualtrics, one of SurveyMonkey."""
    for number, record in enumerate(records[:2], 1):
        if any(re.match("{[\"']ImportId", str(value)) for value in record.values()):
            return number
    first, *rest = records  # each answer has ids and dates, and the second header has none
    empty = [n for n in first if is_missing(first[n]) and not any(is_missing(r.get(n)) for r in rest)]
    least = 1 if "Open-Ended Response" in first.values() else 2
    return int(len(rest) >= least and len(empty) > 2 and next(iter(first)) in empty)


def _key(name: str) -> str:
    return re.sub(r"[\s._:-]+", "", re.sub(FRAME, "", name)).lower()


KNOWN = {
    _key(name): (rank, field)
    for field in (*FIELDS, "error", "error_code")  # the last two mark a service's error rows
    for rank, name in enumerate((field, *OTHER_NAMES.get(field, [])))
}


def _taken(path: Path, records: list[dict], columns: dict[str, str]) -> dict[str, str]:
    """The column that is taken for each field; prints them unless all have the fields' own names."""
    held = {name: {} for record in records for name in record}  # each column's values by their record
    for number, record in enumerate(records[:JUDGED]):
        for name in record:
            if not is_missing(record[name]):
                held[name][number] = str(record[name])
    asked = _asked(path, list(held), columns)
    if sum(name.startswith("(column ") for name in held) > len(held) / 2:
        raise ValueError(f"{path}: its first line names few columns. Delete what stands above the header")
    taken = {field: name for name, field in asked.items() if field}
    known = {name: KNOWN[_key(name)] for name in held if _key(name) in KNOWN and name not in asked}
    fit = {name for name in known if any(_fits(known[name][1], value) for value in held[name].values())}
    long = {name: _size(held[name].values()) for name in held if name not in fit | asked.keys()}
    long |= {name: size / 9 for name, size in long.items() if re.search(REPLY, name)}
    longest = max(long, key=long.get, default=next(iter(held)))
    shapes = {bool(re.fullmatch(r"\d[\d./: +-]*", name)) for name in held}
    if len(shapes) == 2 and not (known or asked):
        raise ValueError(f"{path}: its first line looks like a review; put one of column names above it")
    if long.get(longest, 0) >= 20 * max(1, len(held[longest])):
        known[longest] = GUESS, "review_content"
    notes = []
    for name in sorted(known, key=lambda n: (known[n][1] != "review_content", not held[n], known[n][0])):
        rank, field = known[name]
        doubt = _doubt(field, name, held[name], held.get(taken.get("review_content"), {})) if rank else None
        if field not in taken and not doubt:
            taken[field] = name
            notes += [f"{name!r} is taken for {field}: its texts are the longest"] if rank == GUESS else []
        elif field not in taken:
            notes.append(f"{name!r} is not taken for {field}: {doubt}")
        elif taken[field] != field and rank < GUESS:
            notes.append(f"{name!r} may be {field} too; {taken[field]!r} was taken")
    api = any(isinstance(record.get("error"), dict) for record in records)  # an answer without reviews
    if not api and not {"review_content", "review_title", "error_code"} & set(taken):
        what = f"{path} has no column that is known to hold the text of a review; it has: {', '.join(held)}"
        raise ValueError(f"{what}. Say which one it is: columns = {{{longest!r}: 'review_content'}}")
    renamed = [f"{name!r} is {field}" for field, name in taken.items() if name != field]
    if renamed or notes:
        unused = [name for name in held if name not in taken.values()]
        print(f"{path.name}: {', '.join(renamed)}. Not used: {', '.join(unused) or 'nothing'}")
    for note in notes:
        print(f"  {note}. `columns` can change that")
    return taken


def _size(values: Iterable[str]) -> int:
    """How many characters of different texts there are, without codes, links and JSON."""
    return sum(len(v) for v in set(values) if (" " in v or not v.isascii()) and v[0] not in "[{")


def _doubt(field: str, name: str, held: dict[int, str], texts: dict[int, str]) -> str | None:
    """Why a column is not what its general name says, by its values; None where they agree."""
    fit, values = sum(_fits(field, value) for value in held.values()), list(held.values())
    numbers = [float(value.replace(",", ".")) for value in values if re.fullmatch(r"-?\d+([.,]\d+)?", value)]
    other = sum(number > 5 for number in numbers) > max(1, len(values) / 20)
    other |= bool(numbers) and min(numbers) < 1 and max(numbers) < 5  # 0 and 1, -1 and 1, 0 to 4
    if values and (fit == 0 or (field == "review_rating" and (other or fit < len(values) / 2))):
        return f"its values are of another kind, such as {values[0]!r}"
    pairs = {(value, texts.get(number)) for number, value in held.items()}
    if field == "review_id" and len(pairs) > 1.1 * len(set(values)):
        return "the same one stands beside different texts"
    if _key(name) == "company" and len(values) >= 5 and len(set(values)) > 0.8 * len(values):
        return "nearly every review has another, as the employers of reviewers are"
    most, times = max(Counter(value for value, _ in pairs).items(), key=lambda item: item[1], default=("", 0))
    often = times >= max(3, len(pairs) / 3) or times > max(1, len(pairs) / 2)
    if _key(name) in ("name", "title", "user") and often and not NOBODY.fullmatch(most):
        return f"{most!r} stands beside {times} of {len(pairs)} texts, as a product or a shop does"
    return None


def _fits(field: str, value: str) -> bool:
    """Whether a value can be what the field holds."""
    with contextlib.suppress(ValueError):
        if field == "review_rating":
            return stars(value) in range(1, 6)
        if field == "review_date":
            return bool(DAY_MONTH_YEAR.fullmatch(value) or date(value))
        worded = field in ("review_content", "reviewer_name", "reviewer_location")
        return not worded or any(map(str.isalpha, value))
    return False


def _asked(path: Path, present: list[str], columns: dict[str, str]) -> dict[str, str | None]:
    """The fields that `columns` gives, by the file's own spelling of the columns."""
    spelled = {_key(name): name for name in reversed(present)} | {name: name for name in present}
    asked = {}
    for name, field in columns.items():
        own = spelled.get(name) or spelled.get(_key(name))
        if not own:
            raise ValueError(f"columns has {name!r}, but the columns of {path} are: {', '.join(present)}")
        if field is not None and field not in FIELDS:
            raise ValueError(f"columns maps {name!r} to {field!r}; the fields there are: {', '.join(FIELDS)}")
        if field and field in asked.values():
            raise ValueError(f"columns = {columns} maps two columns to {field}; choose one")
        asked[own] = field
    return asked


def _order_dates(records: list[dict], field: str) -> None:
    """Bring 31/01/2026, 1/31/26 (the column's other dates decide) and 31.01.2026 into ISO form, if clear."""
    found = [(r, match) for r in records if (match := DAY_MONTH_YEAR.fullmatch(str(r.get(field)).strip()))]
    slashed = [(int(match[1]), int(match[3])) for _, match in found if match[2] != "."]
    orders = {first > 12 for first, second in slashed if max(first, second) > 12}
    for record, match in found:
        day, month = int(match[1]), int(match[3])
        if match[2] != "." and day <= 12:
            if month > 12 or orders == {False}:
                day, month = month, day
            elif day != month and orders != {True}:
                continue
        if month <= 12:
            record[field] = f"{match[4] or 20}{match[5]}-{month:02}-{day:02}{match[6]}"
