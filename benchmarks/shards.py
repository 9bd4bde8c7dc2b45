"""Stages 02 and 03 on a million reviews, about 2 GB, with `helpers.clean.shards`.

    python -m benchmarks.shards     # an hour; writes benchmarks/shards.json

The reviews are those of `benchmarks.reviews_to_chunks`. Some of them go through one process and then through
two, whose files must be equal; then all go through two. The time is a clock's, since what is measured is what
two processes save. The peaks are of the largest process, with what it has mapped of the files and without. Those
of the million in shards.json were taken in a memory cgroup of 2 GB, all processes and their cached files together.
"""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).with_suffix(".json")
WRITTEN = ("reviews_clean.jsonl", "removed.jsonl", "chunks.jsonl")
COUNT, SOME = 1_000_000, 30_000


def measure(folder: Path, processes: int) -> dict:
    """Seconds, and the peak MiB of the largest process, looked at ten times a second."""
    command = [sys.executable, "-m", "helpers.clean.shards", str(folder), "--processes", str(processes)]
    start, peak, own = time.perf_counter(), 0, 0
    with psutil.Popen(command, cwd=REPOSITORY) as running:
        while running.poll() is None:
            for process in (running, *running.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    memory = process.memory_info()
                    peak, own = max(peak, memory.rss), max(own, memory.rss - memory.shared)
            time.sleep(0.1)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)
    mib = {"peak_mib": round(peak / 2**20), "without_files_mib": round(own / 2**20)}
    return {"seconds": round(time.perf_counter() - start), **mib}


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
