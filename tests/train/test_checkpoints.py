from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.core import files
from helpers.train import checkpoints
from tests.fakes.hub import FakeHub

REPOSITORY = Path(checkpoints.__file__).parents[2]


def make(folder: Path, step: int | str, sealed: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter_model.safetensors").write_bytes(bytes(1000))
    (checkpoint / "optimizer.pt").write_bytes(str(step).encode() * 2000)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    if sealed:
        checkpoints.seal(checkpoint)
    return checkpoint


def test_the_newest_is_by_step_and_not_by_name(tmp_path):
    for step in (5, 100, 20):
        make(tmp_path, step)
    assert checkpoints.newest(tmp_path).name == "checkpoint-100"
    make(tmp_path, "100 (1)", sealed=False)  # as Drive names a second of the same name; it ended in int()
    assert checkpoints.newest(tmp_path).name == "checkpoint-100"
    assert checkpoints.newest(tmp_path / "nowhere") is None


def test_one_that_was_not_sealed_is_passed_over(tmp_path, capsys):
    make(tmp_path, 10)
    make(tmp_path, 20, sealed=False)
    assert checkpoints.newest(tmp_path).name == "checkpoint-10"
    assert "checkpoint-20 is half written or damaged" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_one_with_a_truncated_or_missing_file_is_passed_over(tmp_path, name):
    make(tmp_path, 10)
    damaged = make(tmp_path, 20) / name
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert checkpoints.newest(tmp_path).name == "checkpoint-10"
    damaged.unlink()
    assert checkpoints.newest(tmp_path).name == "checkpoint-10"


def test_another_setting_or_other_data_is_another_run(tmp_path):
    from datasets import Dataset

    one, two = (Dataset.from_list([{"input_ids": ids}]) for ids in ([1, 2], [1, 3]))
    folders = {checkpoints.folder(tmp_path, {"r": r}, rows) for r in (8, 16) for rows in (one, two)}
    assert len(folders) == 4 and checkpoints.folder(tmp_path, {"r": 8}, one) in folders


def with_hub(hub: FakeHub, home: Path, code: str, **changes) -> subprocess.CompletedProcess:
    """Run code in a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported. It waits for nothing."""
    head = "from pathlib import Path\nfrom helpers.train import checkpoints\n"
    head += "import time\nsleep = time.sleep\ntime.sleep = lambda seconds: sleep(min(seconds, 0.05))\n"
    return subprocess.run(
        [sys.executable, "-c", head + code],
        **{"env": os.environ | hub.environment(home), "cwd": REPOSITORY} | changes,
        capture_output=True,
        text=True,
    )


MIRROR = """
class Trainer:
    def add_callback(self, callback): self.callback = callback
from transformers import TrainerState
state = TrainerState(global_step={step}, max_steps=99)
trainer = Trainer()
checkpoints.keep(trainer, Path({folder!r}), "someone/checkpoints")
trainer.callback.on_train_begin(None, state, None)
trainer.callback.on_save(None, state, None)
"""
END = "trainer.callback.on_train_end(None, state, None)"
FETCH = "checkpoints.fetch(Path({folder!r}), 'someone/checkpoints')"


def test_a_mirror_is_private_holds_what_is_here_and_comes_back(tmp_path):
    run, elsewhere = tmp_path / "a" / "abc", tmp_path / "b" / "abc"
    begin = f"from tests.train.test_checkpoints import make\nrun = Path({str(run)!r})\n"
    steps = [
        f"make(run, {step}, sealed=False)" + MIRROR.format(step=step, folder=str(run))
        for step in (10, 20, 30)
    ]
    pruned = "(run / 'checkpoint-10' / 'optimizer.pt').unlink()\n"
    code = begin + FETCH.format(folder=str(run)) + "\n" + steps[0] + steps[1] + pruned + steps[2]
    with FakeHub() as hub:
        done = with_hub(hub, tmp_path, code)
        assert done.returncode == 0, done.stderr
        repo = hub.repos["models/someone/checkpoints"]
        assert repo.private
        names = {name for name in repo.files if name.startswith("abc/")}
        assert "abc/checkpoint-30/complete.json" in names and "abc/checkpoint-10/optimizer.pt" not in names
        done = with_hub(hub, tmp_path / "new", FETCH.format(folder=str(elsewhere)))
        assert done.returncode == 0, done.stderr
    assert checkpoints.newest(elsewhere).name == "checkpoint-30"


def test_a_public_repo_is_refused(tmp_path):
    with FakeHub() as hub:
        hub.add("models/someone/checkpoints", {}, private=False)
        done = with_hub(hub, tmp_path, FETCH.format(folder=str(tmp_path / "abc")))
    assert "PermissionError: someone/checkpoints is public" in done.stderr


@pytest.mark.parametrize("troubles", [[("/commit/", "drop")], [("PUT /lfs/", "drop")] * 50])
def test_a_hub_that_fails_does_not_stop_the_training(tmp_path, troubles):
    """huggingface_hub wraps the failed upload of a large file, as every adapter is, in a RuntimeError."""
    make(tmp_path / "abc", 10, sealed=False)
    with FakeHub() as hub:
        hub.add("models/someone/checkpoints", {}, private=True)
        hub.troubles = troubles
        done = with_hub(hub, tmp_path, MIRROR.format(step=10, folder=str(tmp_path / "abc")))
        assert done.returncode == 0, done.stderr
        assert "checkpoint-10 of run abc is kept here but not on the Hub yet" in done.stdout
        hub.troubles = []
        done = with_hub(hub, tmp_path, MIRROR.format(step=10, folder=str(tmp_path / "abc")))
        assert "abc/checkpoint-10/complete.json" in hub.repos["models/someone/checkpoints"].files


def test_the_key_in_dotenv_opens_the_mirror(tmp_path):
    """Only the environment was read, so that a key in .env, or on Kaggle's page, ended in a 401."""
    with FakeHub() as hub:
        environment = os.environ | hub.environment(tmp_path) | {"PYTHONPATH": str(REPOSITORY)}
        (tmp_path / ".env").write_text(f"HF_TOKEN={environment.pop('HF_TOKEN')}\n")
        code = FETCH.format(folder=str(tmp_path / "abc"))
        done = with_hub(hub, tmp_path, code, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert hub.repos["models/someone/checkpoints"].private


def test_the_end_of_a_run_is_mirrored_too(tmp_path):
    """It was noted after the last upload: on a new machine, a run that was stopped early trained on."""
    make(tmp_path / "abc", 10, sealed=False)
    with FakeHub() as hub:
        done = with_hub(hub, tmp_path, MIRROR.format(step=10, folder=str(tmp_path / "abc")) + END)
        assert done.returncode == 0, done.stderr
        stored = hub.repos["models/someone/checkpoints"].files
        assert json.loads(stored["abc/finished.json"])["global_step"] == 10
        assert json.loads(stored["abc/spent.json"]).keys() == {"seconds", "peak_gb"}


def test_what_a_run_has_spent_goes_on_with_it_and_begins_anew_with_step_0(tmp_path):
    """A resumed run counted its last session alone, and a rerun after the end the time of doing nothing."""
    import types

    trainer = types.SimpleNamespace()
    trainer.add_callback = lambda callback: setattr(trainer, "callback", callback)
    checkpoints.keep(trainer, tmp_path)
    files.write_json(tmp_path / checkpoints.SPENT, {"seconds": 1000.0, "peak_gb": 99.0})
    for step, more in ((10, True), (0, False)):
        state = types.SimpleNamespace(global_step=step, is_world_process_zero=True)
        trainer.callback.on_train_begin(None, state, None)
        state.global_step = 20
        make(tmp_path, 20, sealed=False)
        trainer.callback.on_save(None, state, None)
        spent = checkpoints.spent(tmp_path)
        assert (spent["seconds"] >= 1000, spent["peak_gb"] == 99.0) == (more, more)
        shutil.rmtree(tmp_path / "checkpoint-20")
