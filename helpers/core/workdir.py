"""work_dir: the folder that all notebooks share. A stage is done where its manifest, written last, holds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers.core import files, hub, runtime

DRIVE = Path("/content/drive/MyDrive")
KAGGLE_INPUT, KAGGLE_OUTPUT = Path("/kaggle/input"), Path("/kaggle/working")
NOT_CARRIED = ["checkpoints/**", "*/checkpoints/**", "executed/**", ".*", "**/.*"]  # by WORK_REPO


def open_work_dir(work_dir: str) -> Path:
    """The parameter `work_dir` ("": the default) as a folder that can be written; else PermissionError."""
    folder = Path(work_dir).expanduser() if work_dir else default_work_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        fix = f"{error.strerror}; set the parameter work_dir to a folder of yours"
        raise PermissionError(f"work_dir = {str(folder)!r} cannot be written: {fix}") from None
    bring(folder)
    return folder


def default_work_dir() -> Path:
    """The folder where results outlive this runtime, as far as the platform has one; prints why."""
    colab = DRIVE / "gemma-from-reviews" if DRIVE.is_dir() else Path("/content/work")
    where = {"colab": colab, "kaggle": KAGGLE_OUTPUT, "local": runtime.REPOSITORY / "work"}
    folder = where[runtime.platform()]
    print(f"work_dir = {folder} ({survives(folder)[1]})")
    return folder


def survives(folder: Path) -> tuple[bool, str]:
    """Whether what is written to `folder` outlives this runtime, and why, or the click that helps."""
    where = runtime.platform()
    if where == "local":
        return True, "it stays on this machine's disk, and git ignores the repository's own work/"
    if where == "kaggle":
        if folder.resolve().is_relative_to(KAGGLE_OUTPUT):
            return True, "Save Version keeps it, and Add Input > Your Work brings it along"
        return False, "Kaggle keeps /kaggle/working only: leave work_dir empty, or set WORK_REPO"
    if folder.resolve().is_relative_to(DRIVE.parent):
        return True, "Google Drive keeps it when the runtime ends"
    return False, (
        "A DISCONNECT DELETES IT, and another tab cannot see it. Open the folder symbol on the left, click Mount "
        "Drive, and run the notebook again from the top; or set WORK_REPO, and checkpoint_repo in notebook 05"
    )


def bring(folder: Path) -> None:
    """Copy into `folder` what it lacks of an attached Kaggle output, three levels deep, and of WORK_REPO."""
    attached = (KAGGLE_INPUT.glob("*/" * depth + "manifests") for depth in (1, 2, 3))
    sources = sorted(path.parent for paths in attached for path in paths)
    if repo := os.environ.get("WORK_REPO"):
        sources.append(Path(hub.open_repo(repo, "dataset").snapshot_download(repo, repo_type="dataset")))
    for source in sources:
        wanted = {file: folder / file.relative_to(source) for file in source.rglob("[!.]*") if file.is_file()}
        lacking = {file: target for file, target in wanted.items() if not target.exists()}
        for file, target in lacking.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        if lacking:
            print(f"{len(lacking)} files of earlier notebooks come from {source}")


def read_or_sample(path: Path, sample: Callable[[], list[dict]]) -> tuple[list[dict], str]:
    """Rows of an earlier notebook's file (ValueError if none) or the bundled sample; and which of both."""
    if path.exists():
        if not (rows := files.read_jsonl(path)):
            raise ValueError(f"{path} has no rows: the notebook that wrote it kept none, and shows why")
        return rows, f"{len(rows)} rows from {path.name}, written by an earlier notebook"
    rows = sample()
    return rows, f"{len(rows)} rows of the bundled sample, because {path} does not exist"


def finish_stage(work_dir: Path, stage: str, reads: list[str], writes: list[str]) -> None:
    """Write the stage's manifest and carry work_dir to WORK_REPO; FileNotFoundError for what is missing."""
    if missing := [name for name in writes if not (work_dir / name).exists()]:
        raise FileNotFoundError(f"{stage} should have written {', '.join(missing)} into {work_dir}")
    sealed = {"reads": files.seal(work_dir, reads), "writes": files.seal(work_dir, writes)}
    files.write_json(work_dir / "manifests" / f"{stage}.json", {"stage": stage, **sealed})
    print(f"{stage} is done. In {work_dir}: {', '.join(writes)}")
    if repo := os.environ.get("WORK_REPO"):
        hub.mirror(work_dir, repo, "dataset", f"work_dir after {stage}", ignore_patterns=NOT_CARRIED)


def stale(record: Path, adapter: Path) -> str:
    """Why training.json or evaluation.json says nothing about this adapter; "" where it may be believed."""
    stage, names = ("05_finetune_gemma", "writes") if record.stem == "training" else ("06_evaluate", "reads")
    manifest = files.read_json(record.parent / "manifests" / f"{stage}.json", {})  # older records name none
    known = files.read_json(record, {}).get("adapter", manifest.get(names, {}).get("adapter", "absent"))
    if known in ("absent", files.fingerprint(adapter)):
        return ""
    about = f"is about another adapter than {adapter.name}/ holds now"
    return f"{record.name} {about}: run notebook {stage} again"


def is_finished(work_dir: Path, stage: str) -> bool:
    """True when the stage's manifest stands and every file in it is still as it was."""
    manifest = files.read_json(work_dir / "manifests" / f"{stage}.json", None)
    return manifest is not None and files.seal_holds(work_dir, {**manifest["reads"], **manifest["writes"]})
