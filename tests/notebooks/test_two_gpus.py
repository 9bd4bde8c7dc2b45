"""Kaggle's T4 × 2: notebook 09 trains on both, in two processes; the notebooks with Unsloth see one."""

from __future__ import annotations

import json
import os
import sys
import types

import pytest

import colab_setup
from helpers.core import runtime

PATH = runtime.REPOSITORY / "notebooks" / "09_text_to_sql.ipynb"


@pytest.mark.parametrize("where, processes", [("kaggle", 2), ("colab", None)])
def test_notebook_09_sees_both_cards_where_there_are_two(tmp_path, monkeypatch, where, processes):
    """The set-up cell hid one from every notebook, so that the launcher never ran."""
    cells = ["".join(cell["source"]) for cell in json.loads(PATH.read_text())["cells"]]
    (code,) = (source for source in cells if "notebook_launcher(" in source)
    torch, accelerate, started = types.ModuleType("torch"), types.ModuleType("accelerate"), []
    cards = {"kaggle": "0,1", "colab": "0"}[where]

    def device_count() -> int:
        return len(os.environ.get("CUDA_VISIBLE_DEVICES", cards).split(","))

    torch.cuda = types.SimpleNamespace(device_count=device_count)
    accelerate.notebook_launcher = lambda run, args, num_processes: started.append(num_processes)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "accelerate", accelerate)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", colab_setup.SETTINGS["CUDA_VISIBLE_DEVICES"])
    monkeypatch.setattr(runtime, "platform", lambda: where)
    qlora = types.SimpleNamespace(Options=lambda **given: given, run=None)
    qlora.Options.__annotations__ = {"work_dir": "str"}
    workdir = types.SimpleNamespace(open_work_dir=lambda name: tmp_path)
    names = dict(os=os, runtime=runtime, qlora=qlora, workdir=workdir, work_dir="", more_options={})
    exec(code, names)
    assert started == ([processes] if processes else [])
    assert device_count() == 1  # for the cells below, which would train with DataParallel
