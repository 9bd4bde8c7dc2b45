"""Stages 02 and 03 on a million reviews, about 2 GB, with `helpers.clean.shards`.

    python -m benchmarks.shards     # an hour; writes benchmarks/shards.json

The reviews are those of `benchmarks.reviews_to_chunks`. Some of them go through one process and then through
two, whose files must be equal; then all go through two. The time is a clock's, since what is measured is what
two processes save; the peak is of the largest process, with what it has mapped of the files.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).with_suffix(".json")
WRITTEN = ("reviews_clean.jsonl", "removed.jsonl", "chunks.jsonl")
COUNT, SOME = 1_000_000, 30_000


def measure(folder: Path, processes: int) -> dict:
    """Seconds, and the peak MiB of the largest process."""
    command = [sys.executable, "-m", "helpers.clean.shards", str(folder), "--processes", str(processes)]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=REPOSITORY) as running:
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)
    return {"seconds": round(time.perf_counter() - start), "peak_mib": round(usage.ru_maxrss / 1024)}


def main() -> None:
    from benchmarks import machine, reviews_to_chunks
    from helpers.core import files

    result = machine.describe()
    with tempfile.TemporaryDirectory() as name:
        few, many = Path(name, "few"), Path(name, "many")
        files.write_jsonl(few / "reviews.jsonl", reviews_to_chunks.synthetic(SOME))
        seals = []
        for processes in (1, 2):
            result[f"{SOME} reviews, processes: {processes}"] = measure(few, processes)
            seals.append(files.seal(few, WRITTEN))
        result["same_files"] = seals[0] == seals[1]
        print(json.dumps(result, indent=2), flush=True)
        files.write_jsonl(many / "reviews.jsonl", reviews_to_chunks.synthetic(COUNT))
        result[f"{COUNT} reviews, processes: 2"] = measure(many, 2)
        result["lines"] = {file: (many / file).read_bytes().count(b"\n") for file in WRITTEN}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
