"""Recall and precision of the redaction, by kind, on the planted items and on texts it was not made with.

    python -m benchmarks.redaction

Writes redaction.json. tests/clean/test_redaction.py holds the same figures against the accepted ones.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

from helpers.clean import redaction, reviews, texts
from helpers.core import files

FOLDER = Path(__file__).parents[1] / "tests" / "clean"
SETS = {"planted": FOLDER / "planted_items.tsv", "held_out": FOLDER / "held_out_items.tsv"}
ITEM = re.compile(r"\{(\S+) ([^{}]*)\}")


def read(path: Path) -> list[tuple[str, dict, list[redaction.Span]]]:
    """The texts of a file of planted items, `name` and `country` of each, and the spans marked in it.

    A decoy's kind is "-". The file's first lines say how it is written.
    """
    texts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        _, country, name, marked = line.replace("⏎", "\n").split("\t")
        text, spans, end = "", [], 0
        for item in ITEM.finditer(marked):
            text += marked[end : item.start()]
            spans.append((len(text), len(text) + len(item[2]), item[1]))
            text, end = text + item[2], item.end()
        given = {"name": None if name == "-" else name, "country": None if country == "-" else country}
        texts.append((text + marked[end:], given, spans))
    return texts


def score(path: Path) -> tuple[dict[str, dict], list[str]]:
    """Figures by kind and in total, and each mistake in words.

    A planted item is found when a placeholder of its kind covers the whole of it; one of another kind hides
    it, but does not count as found. A placeholder is right when it covers some of an item of its kind.
    """
    tally: dict[str, Counter] = {}
    mistakes = []
    for text, given, planted in read(path):
        found = redaction.spans(text, **given)
        for start, end, kind in planted:
            count = tally.setdefault(kind, Counter())
            covers = [f for f in found if f[0] <= start and end <= f[1]]
            count["planted"] += 1
            count["found"] += any(f[2] == kind for f in covers)
            count["hidden"] += bool(covers)
            if kind != "-" and not any(f[2] == kind for f in covers):
                mistakes.append(f"missed {kind} {text[start:end]!r} in {text!r}")
            touched = [f for f in found if f[0] < end and start < f[1]]
            if kind == "-":
                count["touched"] += bool(touched)
        for start, end, kind in found:
            count = tally.setdefault(kind, Counter())
            right = any(kind == p[2] and start < p[1] and p[0] < end for p in planted)
            count["right" if right else "wrong"] += 1
            if not right:
                mistakes.append(f"wrong [{kind}] for {text[start:end]!r} in {text!r}")
    decoys = tally.pop("-", Counter())
    tally["total"] = sum(tally.values(), Counter())
    return {kind: _figures(count) for kind, count in sorted(tally.items())} | {
        "decoys": {"planted": decoys["planted"], "touched": decoys["touched"]}
    }, mistakes


def _figures(count: Counter) -> dict:
    placed = count["right"] + count["wrong"]
    return {
        "planted": count["planted"],
        "recall": round(count["found"] / max(1, count["planted"]), 3),
        "hidden": round(count["hidden"] / max(1, count["planted"]), 3),
        "precision": round(count["right"] / max(1, placed), 3),
    }


def reviews_per_second(rounds: int = 10) -> int:
    """How many of the bundled sample's reviews one core redacts in a second, after loading the libraries."""
    rows = reviews.sample()
    plain = [row | {key: texts.plain(row[key]) for key in ("review_title", "review_content")} for row in rows]
    redaction.redact(plain[0])
    start = time.perf_counter()
    for _ in range(rounds):
        for row in plain:
            redaction.redact(row)
    return round(rounds * len(plain) / (time.perf_counter() - start))


if __name__ == "__main__":
    from benchmarks.machine import describe

    result: dict = describe()
    for name, path in SETS.items():
        result[name], mistakes = score(path)
        print(name, result[name], *mistakes, sep="\n")
    result["reviews_per_second"] = reviews_per_second()
    files.write_json(Path(__file__).with_suffix(".json"), result)
    print(result["reviews_per_second"], "reviews a second")
