"""Seconds to install the pinned packages with pip and as `make setup` does it, with uv; caches empty, then full.

    python -m benchmarks.installing          # about a quarter of an hour and 8 GB of disk; writes installing.json

Each installs into a virtual environment of its own, in turns. With an empty cache the packages are downloaded, so the
seconds are also those of the line.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).with_suffix(".json")


def install(tool: str, venv: Path, caches: Path) -> float:
    """Seconds for a new virtual environment with all that requirements-cpu.txt and requirements-unsloth.txt pin."""
    python, places = str(venv / "bin" / "python"), {"PIP_CACHE_DIR": "pip", "UV_CACHE_DIR": "uv"}
    own = os.environ | {name: str(caches / folder) for name, folder in places.items()}

    def run(*command: str) -> None:
        subprocess.run(command, cwd=REPOSITORY, env=own, stdout=subprocess.DEVNULL, check=True)

    started = time.perf_counter()
    if tool == "uv":
        pins = b"".join((REPOSITORY / f"requirements-{name}.txt").read_bytes() for name in ("cpu", "unsloth"))
        stamp = f"{venv}/installed-{hashlib.sha256(pins).hexdigest()[:16]}"
        run("make", f"VENV={venv}", f"PYTHON={sys.executable}", stamp)
    else:
        run(sys.executable, "-m", "venv", str(venv))
        run(python, "-m", "pip", "install", "-q", "-r", "requirements-cpu.txt")
        run(python, "-m", "pip", "install", "-q", "--no-deps", "-r", "requirements-unsloth.txt")
    return time.perf_counter() - started


def main() -> None:
    from benchmarks import machine

    seconds: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for cache in ("empty", "full"):
            for tool in ("pip", "uv"):
                took = install(tool, Path(name) / f"{tool}-{cache}", Path(name) / "caches")
                seconds.setdefault(f"{cache} cache", {})[tool] = round(took, 1)
                print(cache, tool, round(took, 1), flush=True)
    times = {cache: round(took["pip"] / took["uv"], 2) for cache, took in seconds.items()}
    result = {**machine.describe(), "seconds": seconds, "uv is faster by": times}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
