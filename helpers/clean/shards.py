"""Notebooks 02 and 03 for more reviews than memory holds, file to file, in several processes.

    python -m helpers.clean.shards WORK_DIR --processes 2

reads reviews.jsonl, of notebook 01, and writes reviews_clean.jsonl, removed.jsonl and chunks.jsonl, with the ids that
the notebooks' default parameters give; no reviews.md. In memory is, of each review, what others are compared with.
Speed, memory, and what more would take: docs/scale.md.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from joblib import Parallel, delayed
from tqdm import tqdm

from helpers.clean import chunks, reviews
from helpers.core import files, workdir


def clean(work_dir: Path, processes: int) -> None:
    """Stage 02: the rows of `reviews.clean`, in reviews_clean.jsonl and removed.jsonl."""
    path, said = work_dir / "reviews.jsonl", []
    with path.open("rb") as lines, tempfile.TemporaryFile(dir=work_dir) as rows:
        numbered = ((line, f"{path}, line {number}") for number, line in enumerate(lines, 1))
        for row, own in _each(_clean, numbered, processes):
            rows.write(row)
            said.append(own)
        reasons = reviews.removals(said, min_words=3)
        rows.seek(0)
        kept = (row.decode() for index, row in enumerate(rows) if index not in reasons)
        files.write_text(work_dir / "reviews_clean.jsonl", kept)
        rows.seek(0)
        lost = ((json.loads(row), reasons[index]) for index, row in enumerate(rows) if index in reasons)
        files.write_jsonl(work_dir / "removed.jsonl", (reviews.removed(*why) for why in lost))
    print(f"{len(said)} reviews: {len(said) - len(reasons)} kept, {len(reasons)} set aside")
    outputs = ["reviews_clean.jsonl", "removed.jsonl"]
    workdir.finish_stage(work_dir, "02_reviews_to_markdown", reads=["reviews.jsonl"], writes=outputs)


def chunk(work_dir: Path, processes: int) -> None:
    """Stage 03: the chunks of `chunks.split`, in chunks.jsonl."""
    path, places, end = work_dir / "reviews_clean.jsonl", defaultdict(list), 0
    with path.open("rb") as lines:
        for line in lines:
            places[chunks.group(json.loads(line))].append(end)
            end += len(line)
    in_order = ((path, place) for group in sorted(places) for place in places[group])
    packed = chunks.pack(_each(_part, in_order, processes), chunk_size=1024)
    files.write_jsonl(work_dir / "chunks.jsonl", chunks.with_ids(packed))
    workdir.finish_stage(work_dir, "03_chunk_reviews", reads=["reviews_clean.jsonl"], writes=["chunks.jsonl"])


def _each(function: Callable, arguments: Iterable[tuple], processes: int) -> Iterable:
    """What a function makes of each, in their order; so many are taken at a time as the processes need."""
    run = Parallel(processes, return_as="generator")
    return tqdm(run(delayed(function)(*each) for each in arguments), unit=" reviews", mininterval=1)


def _clean(line: bytes, where: str) -> tuple[bytes, reviews.Said]:
    try:
        review = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error}): {line[:80]!r}") from None
    row, said = reviews.clean_one(review)
    return f"{json.dumps(row, ensure_ascii=False)}\n".encode(), said


def _part(path: Path, place: int) -> tuple:
    with path.open("rb") as lines:
        lines.seek(place)
        return chunks.part(json.loads(lines.readline()), chunk_size=1024, chunk_overlap=256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work_dir", type=Path, help="the folder with reviews.jsonl")
    parser.add_argument("--processes", type=int, default=1, help="as many as the machine has cores")
    wanted = parser.parse_args()
    if not (wanted.work_dir / "reviews.jsonl").exists():
        parser.error(f"{wanted.work_dir}/reviews.jsonl does not exist; notebook 01 writes it")
    clean(wanted.work_dir, wanted.processes)
    chunk(wanted.work_dir, wanted.processes)


if __name__ == "__main__":
    main()
