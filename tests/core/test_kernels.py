"""The tests' own kernels: forked where that makes no difference, and fresh elsewhere."""

import os

import nbclient
import nbformat
import pytest

from tests.conftest import REPOSITORY


def said() -> str:
    source = "import os, sys; print('unsloth' in sys.modules, os.getcwd(), os.environ.get('MINE'))"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    return nbclient.NotebookClient(book, kernel_name="python3").execute().cells[0].outputs[0].text.strip()


@pytest.mark.skipif(os.environ.get("OMP_NUM_THREADS") != "1", reason="forked in `make test` alone")
def test_a_kernel_is_forked_unless_folder_or_environment_are_others(monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("MINE", "yes")
    assert said() == f"True {REPOSITORY} yes"
    monkeypatch.delenv("MINE")
    monkeypatch.setenv("UNSLOTH_IS_PRESENT", "1")  # as after its import in the test's own process
    assert said() == f"True {REPOSITORY} None", "a kernel has the environment of the one before"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert said() == f"False {REPOSITORY} None"
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.chdir(tmp_path)
    assert said() == f"False {tmp_path} None"
