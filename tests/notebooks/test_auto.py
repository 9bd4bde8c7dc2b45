"""What a 0 stands for in notebook 05, and why: on a GPU the usual values, without one what two cores can do."""

from __future__ import annotations

from helpers.core import plots, runtime
from helpers.pipeline import notebooks
from helpers.sql import qlora
from tests.notebooks.test_form import PATHS, REPOSITORY

NAMES = "learning_rate", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"
GPU = runtime.Device("cuda", "Tesla T4", 14.6, 80, "torch sees a CUDA GPU", (7, 5))
CPU = runtime.Device("cpu", "x86_64 CPU, 2 threads", 12, 80, "torch sees no GPU")


def settled(device: runtime.Device, monkeypatch, **given) -> tuple[list, list[dict]]:
    """The four values after the cell of notebook 05 that settles them, and the rows that it shows."""
    cells = notebooks.read(PATHS[5]).cells
    (cell,) = [cell.source for cell in cells if cell.cell_type == "code" and "no_gpu = " in cell.source]
    defaults = notebooks.parameters(PATHS[5])
    monkeypatch.setattr(plots, "table", lambda rows: shown.extend(rows))
    shown: list[dict] = []
    names = defaults | given | {"device": device, "plots": plots}
    exec(cell, names)
    return [names[name] for name in NAMES], shown


def test_a_gpu_gets_the_usual_values(monkeypatch):
    values, shown = settled(GPU, monkeypatch)
    assert values == [2e-4, -1, 2, 4]
    assert [row["parameter"] for row in shown] == [*NAMES] and not any(
        "no GPU" in row["why"] for row in shown
    )


def test_two_cores_get_those_of_the_demo(monkeypatch):
    values, shown = settled(CPU, monkeypatch)
    assert values == [1e-3, 320, 1, 1]
    assert [row["value"] for row in shown] == ["0.001", "320", "1", "1"]
    assert all(row["why"].startswith("no GPU") for row in shown)
    assert "learning_rate" not in (REPOSITORY / "Makefile").read_text(), "the demo has no settings of its own"


def test_a_number_of_yours_stands_on_both_and_is_said_to_be_yours(monkeypatch):
    for device in (GPU, CPU):
        values, shown = settled(device, monkeypatch, learning_rate=5e-5, max_steps=-1)
        assert values[:2] == [5e-5, -1]
        assert [row["why"] for row in shown[:2]] == ["as the parameter asks"] * 2


def test_the_command_for_several_gpus_begins_with_the_notebooks_values(monkeypatch):
    defaults = notebooks.parameters(PATHS[5])
    for device in (GPU, CPU):
        values, _ = settled(device, monkeypatch)
        options, _ = qlora.for_device(qlora.Options(**qlora.PAIRS), device)
        for name, value in (defaults | dict(zip(NAMES, values))).items():
            assert getattr(options, name) == value, name
