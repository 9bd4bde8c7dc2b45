"""Peak memory of a collection of 100,000 reviews, about 150 MB, from a server on the loopback.

    python -m benchmarks.collect_memory     # under a minute; writes benchmarks/collect_memory.json

The collection runs in a process of its own; the server in another, whose memory does not count. The rows are
read one by one, then as a list; what notebook 01 makes of them afterwards is not measured.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).with_suffix(".json")
LIMIT_MIB = 500e6 / 2**20


def peak_mib() -> float:
    """This process's largest resident memory. Linux's rusage would also count what it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def collect(rows: int) -> None:
    """Collect, read every row once, and print what it took; then as a list, as notebook 01 holds the rows."""
    from helpers.collect import brightdata

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        url = "https://www.trustpilot.com/review/example.com"
        found = brightdata.collect(url, rows, Path(folder) / "snapshot.json", confirm_spend=True)
        names = {row["review_id"] for row in found}
        seconds = time.perf_counter() - began
        peak = peak_mib()
        list(brightdata.collect(url, rows, Path(folder) / "snapshot.json"))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.jsonl"))
    result = {"rows": len(names), "bytes_a_row": round(size / len(names)), "megabytes": round(size / 1e6)}
    result |= {"seconds": round(seconds, 1), "peak_mib": round(peak), "peak_mib_as_a_list": round(peak_mib())}
    print(json.dumps(result))


def measure(rows: int) -> dict:
    """Rows, seconds and peak MiB of a collection in a fresh process."""
    from tests.fakes.brightdata import FakeBrightData

    with FakeBrightData(reviews=rows, text_length=400) as fake:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.collect_memory", str(rows)],
            cwd=REPOSITORY,
            env={**os.environ, "BRIGHTDATA_BASE_URL": fake.url, "BRIGHTDATA_API_KEY": "any", "NO_PROXY": "*"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return {"asked": rows, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    from benchmarks import machine

    result = machine.describe() | measure(100_000)
    result |= {"limit_mib": int(LIMIT_MIB), "within": result["peak_mib_as_a_list"] < LIMIT_MIB}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    collect(int(sys.argv[1])) if len(sys.argv) > 1 else main()
