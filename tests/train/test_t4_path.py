"""The benchmark for a GPU walks its whole way on a CPU, with a tiny multimodal model and its processor.

Without ALL=1, tests/notebooks/test_processor.py runs the notebooks themselves with both.
"""

import ast
import subprocess
import sys

from tests.conftest import REPOSITORY, whole


@whole
def test_the_dry_run_goes_through_every_part():
    result = REPOSITORY / "benchmarks" / "t4_path.json"  # a card's figures, which a dry run leaves alone
    before = result.read_bytes() if result.exists() else None
    command = [sys.executable, "-m", "benchmarks.t4_path", "--dry-run"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    runs = [ast.literal_eval(line) for line in done.stdout.splitlines() if line.startswith("{'part'")]
    assert done.returncode == 0, done.stderr[-2000:]
    assert [run["part"] for run in runs] == ["notebook", "published", "generation"]
    assert runs[0]["rows at once"] == 1 and runs[2]["07, tokens per second"] > 0
    assert (result.read_bytes() if result.exists() else None) == before
