"""Does notebook 00 recall its sentence with every seed, and how long does it take?

    python -m benchmarks.one_sentence          # about ten minutes on two cores; writes one_sentence.json

The notebook itself asserts the recall, word for word, and stops where it fails.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import papermill

from benchmarks import machine

RESULT = Path(__file__).with_suffix(".json")
NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "00_teach_one_sentence.ipynb"


def main() -> None:
    runs = []
    for seed in range(10):
        started = time.perf_counter()
        try:
            parameters = {"work_dir": tempfile.mkdtemp(), "seed": seed}
            papermill.execute_notebook(str(NOTEBOOK), None, parameters=parameters, progress_bar=False)
            recalled = True
        except papermill.PapermillExecutionError as error:
            print(error)
            recalled = False
        runs.append({"seed": seed, "recalled": recalled, "seconds": round(time.perf_counter() - started, 1)})
        print(runs[-1], flush=True)
    result = {
        **machine.describe(),
        "recalled": f"{sum(run['recalled'] for run in runs)} of {len(runs)}",
        "slowest, seconds": max(run["seconds"] for run in runs),
        "runs": runs,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
