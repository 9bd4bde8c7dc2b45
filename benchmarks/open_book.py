"""What the book is worth: the same pairs trained and asked without their context, as notebook 06 measured it.

    python -m benchmarks.open_book CLOSED    # a work_dir after notebooks 01 to 06, the fifth with open_book False

Writes open_book.json: per kind of pair the means of base, base with three examples, tuned and reference, and the two
differences with their 95 % intervals. With the book they stand in notebook 06; docs/evidence.md has both in a table.
"""

import json
import sys
from pathlib import Path

from benchmarks import machine

RESULT = Path(__file__).with_suffix(".json")
SIDES = ("base", "prompted", "tuned", "reference", "difference", "over_prompted")
METRICS = ("answer_loss", "invented_number", "invented_name", "facts", "stopped", "rouge_l", "chrf")


def collected(work_dir: Path) -> dict:
    """The kinds of evaluation.json, and what training.json says of the run; ValueError where it had the book."""
    training, scores = (
        json.loads((work_dir / name).read_text()) for name in ("training.json", "evaluation.json")
    )
    if training["settings"]["open_book"]:
        raise ValueError(f"{work_dir} was trained with an open book: run notebook 05 with open_book = False")
    kinds = {
        kind: {"count": part["count"]}
        | {side: {name: part[side][name] for name in METRICS if name in part[side]} for side in SIDES}
        for kind, part in scores["kinds"].items()
    }
    run = {name: training[name] for name in ("rows", "steps", "seconds", "tokens", "dtype")}
    return {"training": run | {"learning_rate": training["settings"]["learning_rate"]}, "kinds": kinds}


if __name__ == "__main__":
    result = {**machine.describe(), **collected(Path(sys.argv[1]))}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
