"""What the tests of the notebooks share: 01 to 04 on the bundled sample, each executed once."""

from __future__ import annotations

from functools import cache

import pytest

from tests.notebooks.test_runs import run


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """alone(name): a notebook as a reader opens it first, in an empty work_dir; executed, and that work_dir.

    It runs once a session, so a test may read what it wrote and must not change it.
    """

    @cache
    def alone(name: str):
        work_dir = tmp_path_factory.mktemp("alone") / "work"
        return run(name, work_dir), work_dir

    return alone
