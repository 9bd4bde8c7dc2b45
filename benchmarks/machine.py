"""The machine that a benchmark ran on, in words, for its result file."""

from __future__ import annotations

import platform
from datetime import date
from pathlib import Path

import torch


def describe() -> dict[str, str]:
    """Date, processor or card with what matters for speed, and the versions of Python and torch."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    special = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    machine = ", ".join([name, f"{torch.get_num_threads()} threads", *special])
    if torch.cuda.is_available():
        machine = f"{torch.cuda.get_device_name(0)}; {machine}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return {"date": date.today().isoformat(), "machine": machine, "versions": versions}
