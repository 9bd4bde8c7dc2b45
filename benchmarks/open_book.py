"""What the book is worth: the same pairs trained and asked without their context, as notebook 06 measured it.

    python -m benchmarks.open_book CLOSED OPEN    # work_dirs after notebooks 01 to 06, the first with open_book False

Writes open_book.json: per kind of pair the means of base, base with three examples, tuned and reference, and the two
differences with their 95 % intervals, all closed; `open`, the tuned model of OPEN on the same questions, and `worth`,
tuned open − tuned closed with its interval. docs/evidence.md has them in a table.
"""

import json
import sys
from pathlib import Path

from benchmarks import machine
from helpers.prove import evaluation

RESULT = Path(__file__).with_suffix(".json")
SIDES = ("base", "prompted", "tuned", "reference", "difference", "over_prompted")
METRICS = ("answer_loss", "invented_number", "invented_name", "facts", "stopped", "rouge_l", "chrf")
RUN = ("rows", "steps", "seconds", "tokens", "dtype")


def read(work_dir: Path) -> tuple[dict, dict]:
    """What training.json and evaluation.json of a work_dir hold."""
    return tuple(json.loads((work_dir / name).read_text()) for name in ("training.json", "evaluation.json"))


def collected(closed: Path, opened: Path) -> dict:
    """The kinds of the closed evaluation, beside the open one, and both trainings; ValueError where they are others."""
    (training, scores), (other, seen) = read(closed), read(opened)
    if training["settings"]["open_book"] or not other["settings"]["open_book"]:
        raise ValueError(f"{closed} must be trained with open_book = False, and {opened} with True")
    answer_of = {row["tuned"]["question"]: row["tuned"] for row in seen["examples"]}
    kinds = {}
    for kind, part in scores["kinds"].items():
        rows = [row["tuned"] for row in scores["examples"] if row["tuned"]["kind"] == kind]
        sides = [rows, [answer_of[row["question"]] for row in rows]]
        kinds[kind] = {"count": part["count"]}
        kinds[kind] |= {
            side: {name: part[side][name] for name in METRICS if name in part[side]} for side in SIDES
        }
        kept = [name for name in METRICS if all(name in row for side in sides for row in side)]
        values = {name: [[row[name] for row in side] for side in sides] for name in kept}
        kinds[kind]["open"] = {name: sum(its) / len(its) for name, (_, its) in values.items()}
        kinds[kind]["worth"] = {name: evaluation.paired_interval(*both) for name, both in values.items()}
    ways = ("learning_rate", "rows_per_update")
    runs = [
        {name: run[name] for name in RUN} | {name: run["settings"][name] for name in ways}
        for run in (training, other)
    ]
    return {"training": runs[0], "training, open": runs[1], "kinds": kinds}


if __name__ == "__main__":
    result = {**machine.describe(), **collected(*map(Path, sys.argv[1:3]))}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
