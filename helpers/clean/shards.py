"""Notebooks 02 and 03 for more reviews than memory holds, file to file, in several processes.

    python -m helpers.clean.shards WORK_DIR --processes 2

reads WORK_DIR/reviews.jsonl, of notebook 01, and writes reviews_clean.jsonl, removed.jsonl and chunks.jsonl: the rows,
and the ids, that the notebooks' default parameters give, so that notebook 04 goes on from there. reviews.md is not
written. The reviews lie on disk, in the tables of `datasets.Dataset.map`; in memory are, of each, its id, its date and
some numbers. Speed, memory, and what more would take: docs/scale.md.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers.clean import chunks, reviews
from helpers.core import files, workdir

BATCH = 1000  # reviews that a process holds at a time
CLEAN = dict.fromkeys(("row", "id", "date"), "string") | dict.fromkeys(("content", "words", "name"), "int64")
PART = dict.fromkeys(("company", "language", "review_id", "section"), "string")


def clean(work_dir: Path, processes: int, scratch: str) -> None:
    """Stage 02: the rows of `reviews.clean`, in reviews_clean.jsonl and removed.jsonl."""
    rows = _mapped(work_dir / "reviews.jsonl", _clean, CLEAN, {"grams": "uint32"}, processes, scratch)
    said = rows.remove_columns(["row", "grams"]).with_format("numpy")[:]
    said["grams"] = [own for part in rows.data.column("grams").chunks for own in _split(part)]
    reasons, lines = reviews.removals(said, min_words=3), rows.select_columns("row")
    kept = (line["row"] + "\n" for index, line in enumerate(_rows(lines)) if index not in reasons)
    files.write_text(work_dir / "reviews_clean.jsonl", kept)
    lost = ((line["row"], reasons[index]) for index, line in enumerate(_rows(lines)) if index in reasons)
    removed = (reviews.removed(json.loads(row), reason) for row, reason in lost)
    files.write_jsonl(work_dir / "removed.jsonl", removed)
    print(f"{len(rows)} reviews: {len(rows) - len(reasons)} kept, {len(reasons)} set aside")
    outputs = ["reviews_clean.jsonl", "removed.jsonl"]
    workdir.finish_stage(work_dir, "02_reviews_to_markdown", reads=["reviews.jsonl"], writes=outputs)


def chunk(work_dir: Path, processes: int, scratch: str) -> None:
    """Stage 03: the chunks of `chunks.split`, in chunks.jsonl."""
    import numpy as np

    parts = _mapped(work_dir / "reviews_clean.jsonl", _part, PART, {"pieces": "string"}, processes, scratch)
    group = parts.select_columns(["language", "company"]).with_format("numpy")[:]
    order = np.lexsort((group["language"], group["company"]))
    packed = chunks.pack(_rows(parts.select(order)), chunk_size=1024)
    files.write_jsonl(work_dir / "chunks.jsonl", chunks.with_ids(packed))
    workdir.finish_stage(work_dir, "03_chunk_reviews", reads=["reviews_clean.jsonl"], writes=["chunks.jsonl"])


def _mapped(path: Path, function: Callable, plain: dict, lists: dict, processes: int, scratch: str):
    """A JSONL file's rows through a function, in their order, on disk; a line that is no JSON is a ValueError."""
    from datasets import Dataset, Features, Sequence, Value

    features = Features({name: Value(kind) for name, kind in plain.items()})
    features |= {name: Sequence(Value(kind)) for name, kind in lists.items()}

    def convert(lines: dict[str, list[str]], numbers: list[int]) -> dict[str, list]:
        rows = [_read(line, f"{path}, line {number + 1}") for line, number in zip(lines["text"], numbers)]
        rows = [function(row) for row in rows]
        return {name: [row[name] for row in rows] for name in features}

    lines = Dataset.from_text(str(path), cache_dir=scratch)
    how = {"batched": True, "batch_size": BATCH, "with_indices": True, "num_proc": processes}
    return lines.map(convert, remove_columns="text", features=features, desc=path.name, **how)


def _read(line: str, where: str) -> dict:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error}): {line[:80]!r}") from None


def _clean(review: dict) -> dict:
    row, said = reviews.clean_one(review)
    return {"row": json.dumps(row, ensure_ascii=False), **said}


def _part(row: dict) -> dict:
    return chunks.part(row, chunk_size=1024, chunk_overlap=256)


def _split(part) -> list:
    """The arrays of a column of lists, on disk as they are."""
    import numpy as np

    ends = np.cumsum(part.value_lengths().to_numpy(zero_copy_only=False))
    return np.split(part.flatten().to_numpy(), ends[:-1])


def _rows(dataset) -> Iterator[dict]:
    """The rows, read from the disk in batches."""
    for batch in dataset.iter(BATCH):
        yield from (dict(zip(batch, values)) for values in zip(*batch.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work_dir", type=Path, help="the folder with reviews.jsonl")
    parser.add_argument("--processes", type=int, default=1, help="as many as the machine has cores")
    wanted = parser.parse_args()
    if not (wanted.work_dir / "reviews.jsonl").exists():
        parser.error(f"{wanted.work_dir}/reviews.jsonl does not exist; notebook 01 writes it")
    with tempfile.TemporaryDirectory(dir=wanted.work_dir, prefix=".shards-") as scratch:
        clean(wanted.work_dir, wanted.processes, scratch)
        chunk(wanted.work_dir, wanted.processes, scratch)


if __name__ == "__main__":
    main()
