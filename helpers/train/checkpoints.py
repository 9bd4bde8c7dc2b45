"""The trainer's checkpoints: sealed when complete, checked before use, mirrored to the Hub if wanted (05, 09)."""

import time
from pathlib import Path

from helpers.core import files, hub
from helpers.train import memory

SEAL, FINISHED, SPENT = "complete.json", "finished.json", "spent.json"
NOTHING = {"seconds": 0.0, "peak_gb": 0.0}


def folder(work_dir: Path, settings: dict, train_dataset) -> Path:
    """The folder of this run's checkpoints: another setting or other data is another run; 3.0 and 3 are the same."""
    settings = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in settings.items()}
    content = files.content_id({"settings": settings, "data": train_dataset["input_ids"]})
    return work_dir / "checkpoints" / content


def seal(checkpoint: Path) -> None:
    """Write the fingerprint of every file of a finished checkpoint beside them, last of all."""
    names = sorted(file.name for file in checkpoint.iterdir() if file.name != SEAL)
    files.write_json(checkpoint / SEAL, files.seal(checkpoint, names))


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None; half-written and damaged ones are named and passed over."""
    by_step = sorted(folder.glob("checkpoint-*[0-9]"), key=lambda path: -int(path.name.rpartition("-")[2]))
    for checkpoint in by_step:  # and Drive may hold a "checkpoint-50 (1)" beside the one that is meant
        sealed = files.read_json(checkpoint / SEAL, None)
        if sealed is not None and files.seal(checkpoint, sealed) == sealed:
            return checkpoint
        print(f"{checkpoint.name} is half written or damaged and is passed over")
    return None


def spent(folder: Path) -> dict[str, float]:
    """The run's `seconds` of training up to its last checkpoint or its end, and its `peak_gb`, in all sessions."""
    return files.read_json(folder / SPENT, NOTHING)


def fetch(folder: Path, repo: str) -> None:
    """Bring this run's checkpoints back from the private Hub repo, if none is here. Raises as `hub.open_repo`."""
    if not newest(folder):
        api = hub.open_repo(repo)
        api.snapshot_download(repo, allow_patterns=f"{folder.name}/*", local_dir=folder.parent)


def keep(trainer, folder: Path, repo: str = "") -> None:
    """Seal every checkpoint and, with `repo`, mirror all to that private repo; where that fails, the next one does."""
    from accelerate import PartialState
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            self.before = spent(folder) if state.global_step else NOTHING
            self.started = time.monotonic()

        def on_step_end(self, args, state, control, **kwargs):
            last = state.global_step == state.max_steps and args.eval_strategy == "steps"
            control.should_evaluate |= last  # so that the last weights are evaluated, too

        def on_save(self, args, state, control, **kwargs):
            PartialState().wait_for_everyone()  # with several GPUs, each process writes a file of its own
            if state.is_world_process_zero:
                seal(folder / f"checkpoint-{state.global_step}")
                self.mirror(f"checkpoint-{state.global_step}")

        def on_train_end(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                files.write_json(folder / FINISHED, vars(state))
                self.mirror("the end")

        def mirror(self, what: str) -> None:
            seconds = self.before["seconds"] + time.monotonic() - self.started
            peak = max(self.before["peak_gb"], memory.peak_gb())
            files.write_json(folder / SPENT, {"seconds": round(seconds, 1), "peak_gb": round(peak, 2)})
            if repo:  # what was pruned here goes there too
                place = {"path_in_repo": folder.name, "delete_patterns": "*"}
                hub.mirror(folder, repo, "model", f"{what} of run {folder.name}", **place)

    trainer.add_callback(Keeper())
