"""Checkpoints that survive: sealed when complete, checked before use, mirrored to the Hub if wanted (05).

    folder = checkpoints.folder(work_dir, settings, train_dataset)
    last = checkpoints.newest(folder)                 # None, or the newest one that is complete
    checkpoints.keep(trainer, folder, checkpoint_repo)

The trainer writes and prunes them; this module says which of them can be trusted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import files

if TYPE_CHECKING:
    from datasets import Dataset

SEAL = "complete.json"
FINISHED = "finished.json"


def folder(work_dir: Path, settings: dict, train_dataset: Dataset) -> Path:
    """The folder of this run's checkpoints: another setting or other data is another run."""
    run = files.content_id({"settings": settings, "data": train_dataset["input_ids"]})
    return work_dir / "checkpoints" / run


def seal(checkpoint: Path) -> None:
    """Write the fingerprint of every file of a finished checkpoint beside them, last of all."""
    found = {file.name: files.fingerprint(file) for file in sorted(checkpoint.iterdir()) if file.name != SEAL}
    files.write_json(checkpoint / SEAL, found)


def is_complete(checkpoint: Path) -> bool:
    """True when the seal stands and every file is as it was sealed."""
    if not (checkpoint / SEAL).exists():
        return False
    sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
    return all(files.fingerprint(checkpoint / name) == found for name, found in sealed.items())


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None; half-written and damaged ones are named and passed over."""
    by_step = sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2]))
    for checkpoint in by_step:
        if is_complete(checkpoint):
            return checkpoint
        print(f"{checkpoint.name} is half written or damaged and is passed over")
    return None


def fetch(folder: Path, repo: str) -> None:
    """Bring this run's checkpoints back from the private Hub repo where this runtime has none."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    if newest(folder):
        return
    try:
        if not HfApi().repo_info(repo).private:
            raise ValueError(
                f"checkpoint_repo = {repo!r} is public, and checkpoints hold what the model learned from your "
                "data. Make it private in its settings on the Hub, or name another repo."
            )
    except RepositoryNotFoundError:
        HfApi().create_repo(repo, private=True)
    snapshot_download(repo, allow_patterns=f"{folder.name}/*", local_dir=folder.parent)


def keep(trainer, folder: Path, repo: str = "") -> None:
    """Seal every checkpoint that the trainer saves and, with `repo`, mirror the folder to that private repo.

    A mirror that fails is reported and costs nothing but itself: the next checkpoint takes all along.
    """
    import httpx
    from accelerate import PartialState
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            last = state.global_step == state.max_steps and args.eval_strategy == "steps"
            control.should_evaluate |= last  # its weights are judged too

        def on_save(self, args, state, control, **kwargs):
            PartialState().wait_for_everyone()  # with several GPUs, each process writes a file of its own
            if not state.is_world_process_zero:
                return
            seal(folder / f"checkpoint-{state.global_step}")
            if not repo:
                return
            message = f"checkpoint-{state.global_step} of run {folder.name}"
            try:
                HfApi().upload_folder(
                    repo_id=repo,
                    folder_path=folder,
                    path_in_repo=folder.name,
                    delete_patterns="*",  # what was pruned here goes there too
                    commit_message=message,
                )
            except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
                print(f"{message} is kept here but not on the Hub yet ({type(error).__name__})")

    trainer.add_callback(Keeper())
