"""The benchmark for a GPU walks its whole way on a CPU, with a tiny multimodal model and its processor."""

import json
import subprocess
import sys

from tests.conftest import REPOSITORY


def test_the_dry_run_goes_through_every_part():
    command = [sys.executable, "-m", "benchmarks.t4_path", "--dry-run"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    runs = [
        json.loads(line.replace("'", '"').replace("False", "false"))
        for line in done.stdout.splitlines()
        if line.startswith("{'part'")
    ]
    assert done.returncode == 0 and [run["part"] for run in runs] == [
        "notebook",
        "published",
        "generation",
    ], done.stderr[-2000:]
    assert runs[0]["rows at once"] == 8 and runs[2]["07, tokens a second"] > 0
    assert not (REPOSITORY / "benchmarks" / "t4_path.json").exists()
