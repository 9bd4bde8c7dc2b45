"""What the book is worth: the same pairs trained with an open and with a closed book, as notebook 06 measured both.

    python -m benchmarks.open_book OPEN CLOSED    # work_dirs after notebooks 05 and 06, the second with open_book False

Writes open_book.json: per kind of pair the means of base, base with three examples, tuned and reference, and the two
differences with their 95 % intervals. docs/evidence.md has its table.
"""

import json
import sys
from pathlib import Path

from helpers.core import runtime

RESULT = Path(__file__).with_suffix(".json")
SIDES = ("base", "prompted", "tuned", "reference", "difference", "over_prompted")
METRICS = ("answer_loss", "invented_number", "invented_name", "facts", "stopped", "rouge_l", "chrf")


def collected(work_dir: Path) -> dict:
    """The kinds of evaluation.json, and what training.json says of the run."""
    training, scores = (
        json.loads((work_dir / name).read_text()) for name in ("training.json", "evaluation.json")
    )
    kinds = {
        kind: {"count": part["count"]}
        | {side: {name: part[side][name] for name in METRICS if name in part[side]} for side in SIDES}
        for kind, part in scores["kinds"].items()
    }
    run = {name: training[name] for name in ("rows", "steps", "seconds", "tokens", "dtype")}
    run |= {name: training["settings"][name] for name in ("open_book", "learning_rate")}
    return {"training": run, "kinds": kinds}


if __name__ == "__main__":
    opened, closed = map(collected, map(Path, sys.argv[1:3]))
    assert opened["training"].pop("open_book") and not closed["training"].pop("open_book")
    result = {"machine": runtime.device().name, "open": opened, "closed": closed}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
