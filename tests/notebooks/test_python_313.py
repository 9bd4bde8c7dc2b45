"""Notebooks 00 and 05 on Python 3.13, Colab's since August 2026, in a virtual environment of its own.

It installs everything anew, so it is part of `make test-all` alone, and only where python3.13 is found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PYTHON = shutil.which("python3.13") if os.environ.get("ALL") else None


@pytest.mark.skipif(PYTHON is None, reason="make test-all, with python3.13 on the PATH")
def test_00_and_05_on_python_313(tmp_path):
    venv = tmp_path / "venv"
    subprocess.run(["make", "setup", f"PYTHON={PYTHON}", f"VENV={venv}"], cwd=REPOSITORY, check=True)
    subprocess.run([venv / "bin" / "python", "-m", "ipykernel", "install", "--prefix", venv], check=True)
    for name, options in (
        ("00_teach_one_sentence", []),
        ("05_finetune_gemma", ["-p", "max_steps", "12", "-p", "learning_rate", "1e-3"]),
    ):
        notebook = REPOSITORY / "notebooks" / f"{name}.ipynb"
        command = [
            venv / "bin" / "papermill",
            notebook,
            tmp_path / "out.ipynb",
            "-p",
            "work_dir",
            tmp_path / "work",
        ]
        subprocess.run([*command, *options], cwd=REPOSITORY, check=True)
        assert (tmp_path / "work" / "manifests" / f"{name}.json").exists()
