"""Notebooks 02 and 03 for more reviews than memory holds, file to file, in several processes.

    python -m helpers.clean.shards WORK_DIR --processes 2

reads WORK_DIR/reviews.jsonl and writes reviews_clean.jsonl, removed.jsonl and chunks.jsonl: the rows, and the ids, that
the notebooks' default parameters give, so that notebook 04 goes on from there. reviews.md is not written. The reviews
lie on disk, in the tables of `datasets.Dataset.map`; in memory are, of each, its id, its date and some numbers.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from helpers.clean import chunks, reviews
from helpers.core import files, workdir

BATCH = 1000  # reviews that a process holds at a time


def clean(work_dir: Path, processes: int, scratch: str) -> None:
    """Stage 02: the rows of `reviews.clean`, in reviews_clean.jsonl and removed.jsonl."""
    from datasets import Features, Sequence, Value

    kinds = {name: Value("int64") for name in ("content", "words", "name")}
    kinds |= {
        "row": Value("string"),
        "id": Value("string"),
        "date": Value("string"),
        "grams": Sequence(Value("uint32")),
    }
    rows = _mapped(work_dir / "reviews.jsonl", _clean, Features(kinds), processes, scratch)
    said = rows.remove_columns(["row", "grams"]).with_format("numpy")[:]
    said["grams"] = [own for part in rows.data.column("grams").chunks for own in _split(part)]
    reasons = reviews.removals(said, min_words=3)
    lines = rows.select_columns("row")
    kept = (row["row"] + "\n" for index, row in enumerate(_rows(lines)) if index not in reasons)
    files.write_text(work_dir / "reviews_clean.jsonl", kept)
    lost = ((row, reasons[index]) for index, row in enumerate(_rows(lines)) if index in reasons)
    removed = (reviews.removed(json.loads(row["row"]), reason) for row, reason in lost)
    files.write_jsonl(work_dir / "removed.jsonl", removed)
    print(f"{len(rows)} reviews: {len(rows) - len(reasons)} kept, {len(reasons)} set aside")
    outputs = ["reviews_clean.jsonl", "removed.jsonl"]
    workdir.finish_stage(work_dir, "02_reviews_to_markdown", reads=["reviews.jsonl"], writes=outputs)


def chunk(work_dir: Path, processes: int, scratch: str) -> None:
    """Stage 03: the chunks of `chunks.split`, in chunks.jsonl."""
    import numpy as np
    from datasets import Features, Sequence, Value

    kinds = dict.fromkeys(("company", "language", "review_id", "section"), Value("string"))
    features = Features(kinds | {"pieces": Sequence(Value("string"))})
    parts = _mapped(work_dir / "reviews_clean.jsonl", _part, features, processes, scratch)
    group = parts.select_columns(["language", "company"]).with_format("numpy")
    order = np.lexsort((group["language"], group["company"]))
    packed = chunks.pack(_rows(parts.select(order)), chunk_size=1024)
    files.write_jsonl(work_dir / "chunks.jsonl", chunks.with_ids(packed))
    workdir.finish_stage(work_dir, "03_chunk_reviews", reads=["reviews_clean.jsonl"], writes=["chunks.jsonl"])


def _mapped(path: Path, function, features, processes: int, scratch: str):
    """The rows of a JSONL file through a function, in their order, on disk."""
    from datasets import Dataset

    lines = Dataset.from_text(str(path), cache_dir=scratch, keep_in_memory=False)
    how = {"batched": True, "batch_size": BATCH, "remove_columns": "text", "features": features}
    return lines.map(function, num_proc=processes, desc=path.name, **how)


def _clean(lines: dict[str, list[str]]) -> dict[str, list]:
    seen = [reviews.clean_one(json.loads(line)) for line in lines["text"] if line.strip()]
    columns = {name: [said[name] for _, said in seen] for name in reviews.SAID}
    return {"row": [json.dumps(row, ensure_ascii=False) for row, _ in seen], **columns}


def _part(lines: dict[str, list[str]]) -> dict[str, list]:
    parts = [chunks.part(json.loads(line), chunk_size=1024, chunk_overlap=256) for line in lines["text"]]
    return {name: [part[name] for part in parts] for name in parts[0]}


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
    with tempfile.TemporaryDirectory(dir=wanted.work_dir, prefix=".shards-") as scratch:
        clean(wanted.work_dir, wanted.processes, scratch)
        chunk(wanted.work_dir, wanted.processes, scratch)


if __name__ == "__main__":
    main()
