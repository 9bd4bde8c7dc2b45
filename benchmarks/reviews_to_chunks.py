"""Speed and peak memory of notebooks 02 and 03 with 100,000 reviews, about 200 MB.

    python -m benchmarks.reviews_to_chunks     # some minutes; writes benchmarks/reviews_to_chunks.json

The reviews are new mixtures of the sample's sentences, a language each, every seventh word another of that language, in
the sample's records of 37 fields. Near-duplicates, copies, short texts and personal data are planted. Each stage runs
in a process of its own, with the calls of its notebook from file to file; Jupyter and the pictures are not measured.
The seconds are of the processor, because other work on the machine would lengthen those of a clock.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from benchmarks.collect_memory import peak_mib

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).with_suffix(".json")
LIMIT_MIB = 1e9 / 2**20
PLANTED = (
    "Write to jo.smith{n}@example.com.",
    "Ring me on +44 20 7946 0{n:03}.",
    "Mein Konto: DE89 3704 0044 0532 0130 00.",
    "Order VM-{n:06}.",
    "Regards, {name}",
)


def synthetic(count: int, seed: int = 3407) -> Iterator[dict]:
    """Parsed reviews: of 100, 5 nearly repeat an earlier one, 2 repeat one, 3 are short, 10 hold personal data."""
    from helpers.clean import reviews, texts

    dice, sentences = random.Random(seed), defaultdict(list)
    records = reviews.sample()
    for row in records:
        text = texts.plain(row["review_content"])
        sentences[texts.language(text)] += [
            part for part in re.split(r"(?<=[.!?])\s+", text) if len(part) > 25
        ]
    sentences.pop(None)
    languages = list(sentences)
    weights = [len(sentences[language]) for language in languages]
    words = {language: " ".join(pool).split() for language, pool in sentences.items()}
    earlier: list[tuple[str, str]] = []
    for number in range(count):
        row, kind = dict(records[number % len(records)]), number % 100
        (language,) = dice.choices(languages, weights)
        text = " ".join(dice.sample(sentences[language], dice.choice((2, 3, 4, 5, 6, 8, 20))))
        text = " ".join(word if dice.randrange(7) else dice.choice(words[language]) for word in text.split())
        title = f"{' '.join(text.split()[:4])} {number}"
        if kind < 7 and earlier:
            title, text = dice.choice(earlier)
            text += " Posted again." if kind < 5 else ""
        elif kind < 10:
            title, text = None, dice.choice(("Great!", "Nie wieder", "👍👍", "Love it", ""))
        elif kind < 20:
            text += " " + PLANTED[kind % 5].format(n=number % 1000, name=row["reviewer_name"] or "Jo")
        elif kind < 40:
            earlier.append((title, text))
        ids = {"review_id": f"{number:024x}", "review_date": f"20{10 + number * 16 // count}-01-01T00:00:00Z"}
        yield row | ids | {"review_title": title, "review_content": text}


def clean(folder: Path) -> dict:
    """Notebook 02: reviews.jsonl to reviews_clean.jsonl, reviews.md and removed.jsonl."""
    from helpers.clean import reviews
    from helpers.core import files, workdir

    rows, _ = workdir.read_or_sample(folder / "reviews.jsonl", reviews.sample)
    kept, removed = reviews.clean(rows)
    assert len(kept) + len(removed) == len(rows)
    files.write_jsonl(folder / "reviews_clean.jsonl", kept)
    files.write_text(folder / "reviews.md", reviews.markdown_parts(kept))
    files.write_jsonl(folder / "removed.jsonl", removed)
    reasons = Counter(row["reason"].split(" of ")[0] for row in removed)
    redacted = sum((Counter(row["redacted"]) for row in kept), Counter())
    return {"reviews": len(rows), "kept": len(kept), "removed": dict(reasons), "redacted": dict(redacted)}


def chunk(folder: Path) -> dict:
    """Notebook 03: reviews_clean.jsonl to chunks.jsonl."""
    from helpers.clean import chunks, reviews
    from helpers.core import files, workdir

    rows, _ = workdir.read_or_sample(folder / "reviews_clean.jsonl", reviews.clean_sample)
    pieces = chunks.split(rows)
    assert {review_id for piece in pieces for review_id in piece["review_ids"]} == {
        row["review_id"] for row in rows
    }
    files.write_jsonl(folder / "chunks.jsonl", pieces)
    return {
        "reviews": len(rows),
        "chunks": len(pieces),
        "longest": max(len(piece["text"]) for piece in pieces),
    }


STAGES = {"02": clean, "03": chunk}


def stage(name: str, folder: Path) -> dict:
    """The stage's result with its processor seconds, reviews per minute and peak MiB, from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.reviews_to_chunks", name, str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(count: int) -> dict:
    """Both stages, on `count` synthetic reviews."""
    from helpers.core import files

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files.write_jsonl(folder / "reviews.jsonl", synthetic(count))
        megabytes = round((folder / "reviews.jsonl").stat().st_size / 1e6)
        return {"megabytes": megabytes} | {name: stage(name, folder) for name in STAGES}


def main() -> None:
    from benchmarks import machine

    result = {**machine.describe(), **measure(100_000), "limit_mib": int(LIMIT_MIB)}
    result["within"] = all(result[name]["peak_mib"] < LIMIT_MIB for name in STAGES)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        found = STAGES[sys.argv[1]](Path(sys.argv[2]))
        seconds = time.process_time()
        found |= {"seconds": round(seconds), "reviews_a_minute": round(found["reviews"] / seconds * 60)}
        print(json.dumps(found | {"peak_mib": round(peak_mib())}))
