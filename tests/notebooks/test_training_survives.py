"""Notebook 05 is killed, damaged and moved, and ends where an undisturbed run ends.

ALL=1 kills it at more steps, and gives it every form of data and the bad rows, too; tests/train/test_data.py gives
them to the function that reads them.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import nbclient
import nbformat
import papermill
import pytest

from helpers.core import files
from tests.conftest import ALL, whole
from tests.fakes.hub import FakeHub
from tests.notebooks.test_runs import REPOSITORY, TINY, run, text

STEPS, KILLED_AT = 30, 25  # checkpoints at 10, 20 and 30
KILLS = random.Random(3407).sample(range(11, STEPS + 1), 5) if ALL else [KILLED_AT]
REPO = "someone/checkpoints"
KILLER = """
import os, signal
from transformers import TrainerCallback

class Killer(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == {step}:
            os.kill(os.getpid(), signal.SIGKILL)

trainer.add_callback(Killer())
"""


def settings(tiny_gemma: Path) -> dict:
    """Of a training on the sample's pairs as they stand in their file, since the gate would take seconds a run."""
    pairs = REPOSITORY / "helpers" / "samples" / "qa_pairs.jsonl"
    return {**TINY, "model_name": str(tiny_gemma), "max_steps": STEPS, "dataset": str(pairs)}


def run_killed(work_dir: Path, step: int, **parameters) -> None:
    """Execute notebook 05 and kill -9 its kernel at the end of a step, before that step can be saved."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / "05_finetune_gemma.ipynb", as_version=4)
    at = next(n for n, cell in enumerate(notebook.cells) if "training.train(" in cell.source)
    notebook.cells.insert(at, nbformat.v4.new_code_cell(KILLER.format(step=step)))
    work_dir.parent.mkdir(parents=True, exist_ok=True)
    changed = work_dir.parent / "killed.ipynb"
    nbformat.write(notebook, changed)
    with pytest.raises(nbclient.exceptions.DeadKernelError):
        papermill.execute_notebook(
            str(changed),
            None,
            parameters={"work_dir": str(work_dir), **parameters},
            cwd=str(REPOSITORY),
            progress_bar=False,
        )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_gemma) -> Path:
    work_dir = tmp_path_factory.mktemp("undisturbed") / "work"
    run("05", work_dir, **settings(tiny_gemma))
    return work_dir


@pytest.fixture(scope="module")
def hub():
    with FakeHub() as hub:
        yield hub


@contextmanager
def logged_in(hub: FakeHub, home: Path):
    """Kernels that start meanwhile find the hub, with an empty cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hub.environment(home).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def killed(tmp_path_factory, tiny_gemma, hub) -> Path:
    """A work_dir whose training was killed at step 25; its checkpoints are in a Hub repo as well."""
    folder = tmp_path_factory.mktemp("killed")
    with logged_in(hub, folder / "home"):
        run_killed(folder / "work", KILLED_AT, **settings(tiny_gemma), checkpoint_repo=REPO)
    return folder / "work"


def assert_same_end(work_dir: Path, undisturbed: Path) -> None:
    """As many steps, the same losses within 0.5 %, and the same adapter."""
    import torch
    from safetensors.torch import load_file

    record, expected = (json.loads((at / "training.json").read_text()) for at in (work_dir, undisturbed))
    assert record["steps"] == expected["steps"] == STEPS
    assert [row["step"] for row in record["losses"]] == list(range(1, STEPS + 1))
    assert record["losses"][-1]["loss"] == pytest.approx(expected["losses"][-1]["loss"], rel=0.005)
    assert record["validation_losses"][-1]["loss"] == pytest.approx(
        expected["validation_losses"][-1]["loss"], rel=0.005
    )
    assert record["best_step"] == expected["best_step"]
    ours, theirs = (load_file(at / "adapter" / "adapter_model.safetensors") for at in (work_dir, undisturbed))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.allclose(weight, theirs[name], rtol=1e-2, atol=1e-4), name


@pytest.mark.parametrize("step", KILLS)
def test_a_kernel_killed_at_any_step_ends_as_if_nothing_had_happened(
    tmp_path, tiny_gemma, undisturbed, killed, step
):
    if step == KILLED_AT:
        shutil.copytree(killed, tmp_path / "work")
    else:
        run_killed(tmp_path / "work", step, **settings(tiny_gemma))
    said = text(run("05", tmp_path / "work", **settings(tiny_gemma)))
    assert f"Going on from checkpoint-{(step - 1) // 10 * 10}" in said
    assert_same_end(tmp_path / "work", undisturbed)


def test_a_truncated_newest_checkpoint_is_passed_over(tmp_path, tiny_gemma, undisturbed, killed):
    shutil.copytree(killed, tmp_path / "work")
    (weights,) = (tmp_path / "work" / "checkpoints").glob("*/checkpoint-20/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    said = text(run("05", tmp_path / "work", **settings(tiny_gemma)))
    assert "checkpoint-20 is half written or damaged and is passed over" in said
    assert "Going on from checkpoint-10" in said
    assert_same_end(tmp_path / "work", undisturbed)


def test_a_rerun_after_the_end_trains_nothing_and_gives_the_same_adapter(tmp_path, tiny_gemma, undisturbed):
    """Also where the work_dir was moved: a checkpoint is found by its name, not by its old path."""
    moved = tmp_path / "work"
    shutil.copytree(undisturbed, moved)
    shutil.rmtree(moved / "adapter")
    said = text(run("05", moved, **settings(tiny_gemma)))
    assert f"Going on from checkpoint-{STEPS}" in said
    records = [json.loads((at / "training.json").read_text()) for at in (moved, undisturbed)]
    for name in ("losses", "seconds"):  # and not how long it took to do nothing
        assert records[0][name] == records[1][name]
    assert records[0]["memory_gb"]["measured"] == records[1]["memory_gb"]["measured"]
    name = "adapter/adapter_model.safetensors"
    assert files.fingerprint(moved / name) == files.fingerprint(undisturbed / name)


def test_a_lost_runtime_goes_on_from_the_private_hub_repo(tmp_path, tiny_gemma, undisturbed, killed, hub):
    """The new runtime has an empty work_dir: what the killed one did is in the repo alone."""
    with logged_in(hub, tmp_path / "home"):
        said = text(run("05", tmp_path / "work", **settings(tiny_gemma), checkpoint_repo=REPO))
    assert hub.repos[f"models/{REPO}"].private
    assert "Going on from checkpoint-20" in said and hub.token not in said
    assert_same_end(tmp_path / "work", undisturbed)


def test_early_stopping_ends_the_run_and_keeps_the_best_also_when_it_was_killed(tmp_path, tiny_gemma):
    """Ten pairs learned by heart: the validation loss turns up long before the last step.

    The looks without a better one were counted anew after a kill, so that such a run went on for longer.
    """
    rows = [{"question": f"{word} alpha beta?", "answer": f"It is {word} and {word}."} for word in WORDS] * 2
    files.write_jsonl(tmp_path / "few.jsonl", rows)
    parameters = {**settings(tiny_gemma), "dataset": str(tmp_path / "few.jsonl")}
    parameters |= {"max_steps": 340, "learning_rate": 0.1}
    run("05", tmp_path / "work", **parameters)
    record = json.loads((tmp_path / "work" / "training.json").read_text())
    found = {row["step"]: row["loss"] for row in record["validation_losses"]}
    assert record["steps"] < 340 and record["best_step"] == min(found, key=found.get)
    assert list(found)[-1] - record["best_step"] >= 3 * 80
    run_killed(tmp_path / "killed", record["steps"] - 10, **parameters)
    run("05", tmp_path / "killed", **parameters)
    resumed = json.loads((tmp_path / "killed" / "training.json").read_text())
    assert (resumed["steps"], resumed["best_step"]) == (record["steps"], record["best_step"])


WORDS = "river stone cloud metal paper glass wood sand rain snow wind fire bread salt milk honey".split()
BAD_ROWS = {
    "empty answer": (
        [{"question": "Why?", "answer": "So."}, {"question": "Who?", "answer": ""}],
        "row 2: the answer",
    ),
    "no answer": ([{"question": "Why?", "answer": "So."}, {"question": "Who?"}], "row 2: the answer"),
    "long talk": ([{"messages": [{"role": "user", "content": "a"}] * 3}], "row 1: messages has the roles"),
}


@whole
@pytest.mark.parametrize("rows, says", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_stops_notebook_05_with_its_number_and_the_fix(tmp_path, tiny_gemma, rows, says):
    files.write_jsonl(tmp_path / "bad.jsonl", rows)
    with pytest.raises(papermill.PapermillExecutionError, match=says):
        run("05", tmp_path / "work", **settings(tiny_gemma) | {"dataset": str(tmp_path / "bad.jsonl")})


FORMS = {
    "article.json": lambda q, a: {"id": files.content_id(q), "question": q, "answer": a},
    "messages.jsonl": lambda q, a: {
        "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
    },
    "table.csv": lambda q, a: {"question": q, "answer": a},
}


@pytest.mark.parametrize("name", FORMS if ALL else ["table.csv"])
def test_each_form_trains_and_rows_that_are_too_long_are_listed(tmp_path, tiny_gemma, name):
    """Six rows do not fit: five are a little too long, the question of one alone is."""
    import pandas

    pairs = [(f"What about the {word} {n}?", f"The {word} is fine.") for n, word in enumerate(3 * WORDS)]
    pairs += [(f"What of the {word} story?", "word " * 60) for word in WORDS[:5]]
    pairs += [("word " * 200, "Its answer would be cut off whole.")]
    rows = [FORMS[name](*pair) for pair in pairs]
    path = tmp_path / name
    if name.endswith("csv"):
        pandas.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text(json.dumps(rows) if name.endswith("json") else "\n".join(map(json.dumps, rows)))
    parameters = {**settings(tiny_gemma), "dataset": str(path), "max_steps": 10, "max_seq_length": 128}
    done = run("05", tmp_path / "work", **parameters)
    said = text(done)
    sides = json.loads((tmp_path / "work" / "training.json").read_text())["rows"]
    listed = len(re.findall(r">(What of the \w+ story\?|(word ?){200})<", said))
    assert re.search(r"rows fit, \d+ are over max_seq_length = 128 and left out", said) and listed >= 1
    assert sides + listed <= len(rows) and sides >= 10
