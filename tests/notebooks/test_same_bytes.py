"""Notebooks 01 to 04 write on the bundled sample, byte by byte, what they wrote before the helpers moved into rooms.

The SHA-256 sums in tests/fixtures/same_bytes.json are of what the code at commit 6d73375 wrote, but for the overview
pairs and eight more about the whole, which the sample has since. Without rejected.jsonl, whose `line` in a JSON array
has become the number of the record.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BEFORE = json.loads((REPOSITORY / "tests" / "fixtures" / "same_bytes.json").read_text())


def sha256(path: Path) -> str:
    """Of a file's bytes; of a side of the data set its rows in order, since Arrow's own files vary with its version."""
    if path.suffix:
        content = path.read_bytes()
    else:
        from datasets import load_from_disk

        content = json.dumps(load_from_disk(str(path)).to_list(), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("notebook, name", [(number, name) for number in BEFORE for name in BEFORE[number]])
def test_the_sample_gives_the_same_bytes_as_before(alone, notebook, name):
    _, work_dir = alone(notebook)
    assert sha256(work_dir / name) == BEFORE[notebook][name]
