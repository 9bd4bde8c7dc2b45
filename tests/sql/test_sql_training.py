"""The tests in plain_trl.py, in a process where nothing has imported Unsloth, which would change TRL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY


def test_training_with_plain_trl():
    path = Path(__file__).with_name("plain_trl.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", path]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:]
