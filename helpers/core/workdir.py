"""work_dir: the folder that all notebooks share. A stage is done where its manifest, written last, holds."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers.core import files, hub, runtime

COLAB_FILES, DRIVE = Path("/content"), Path("/content/drive/MyDrive")
KAGGLE_INPUT, KAGGLE_OUTPUT = Path("/kaggle/input"), Path("/kaggle/working")
NOT_CARRIED = ["checkpoints/**", "*/checkpoints/**", "executed/**", ".*", "**/.*"]  # by WORK_REPO


def open_work_dir(work_dir: str) -> Path:
    """`work_dir` ("": the default), with what it lacks of Kaggle's inputs and WORK_REPO; or PermissionError."""
    folder = Path(work_dir).expanduser() if work_dir else default_work_dir()
    try:
        os.stat(DRIVE if folder.is_relative_to(DRIVE) else "/")  # unmounted, it would be made on this disk
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        fix = f"{error.strerror}; set the parameter work_dir to a folder of yours, or mount Drive if it lies there"
        raise PermissionError(f"work_dir = {str(folder)!r} cannot be written: {fix}") from None
    sources = sorted(path.parent for n in (1, 2, 3) for path in KAGGLE_INPUT.glob("*/" * n + "manifests"))
    if repo := os.environ.get("WORK_REPO"):
        sources.append(Path(hub.open_repo(repo, "dataset").snapshot_download(repo, repo_type="dataset")))
    for source in sources:
        names = [file.relative_to(source) for file in source.rglob("[!.]*") if file.is_file()]
        for name in (lacking := [name for name in names if not (folder / name).exists()]):
            with files.replacing(folder / name) as whole:  # half a file would be taken for one that is there
                shutil.copyfile(source / name, whole)
        if lacking:
            print(f"{len(lacking)} files of earlier notebooks come from {source}")
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
    kept = {"colab": DRIVE.parent, "kaggle": KAGGLE_OUTPUT, "local": Path("/")}[where]
    safe = folder.resolve().is_relative_to(kept)
    return safe, runtime.PLATFORMS[where]["kept" if safe else "lost"]


def read_or_sample(path: Path, sample: Callable[[], list[dict]]) -> tuple[list[dict], str]:
    """Rows of an earlier notebook's file (ValueError if none) or the bundled sample; and which of both."""
    if path.exists():
        if not (rows := files.read_jsonl(path)):
            raise ValueError(f"{path} has no rows: the notebook that wrote it kept none, and shows why")
        return rows, f"{len(rows)} rows from {path.name}, written by an earlier notebook{outdated(path)}"
    rows, origin = sample(), sample_instead(path.parent, f"{path} does not exist")
    return rows, f"{len(rows)} rows of {origin}"


def outdated(path: Path) -> str:
    """ ", but …", also in white on red, where the notebook that wrote `path`, or one before it, read other inputs."""
    records = [files.read_json(record) for record in sorted((path.parent / "manifests").glob("*.json"))]
    writer = next((at for at, record in enumerate(records, 1) if path.name in record["writes"]), 0)
    for record in records[:writer]:
        if files.seal(path.parent, record["reads"]) != record["reads"]:
            why = f"what {record['stage']} read has changed since: run it and those after it again"
            _alarm(f"OUT OF DATE: {path.name}, because {why}.")
            return f", but {why}"
    return ""


def sample_instead(work_dir: Path, why: str, of: str = "") -> str:
    """`the bundled sample{of}, because …`; also in white on red where an earlier notebook had a source of one's own."""
    manifests = map(files.read_json, sorted((work_dir / "manifests").glob("*.json")))
    if own := [manifest["stage"] for manifest in manifests if manifest.get("own")]:
        text = f"NOT YOURS: the bundled sample{of}, because {why}. {own[-1]} had a source of "
        _alarm(text + "your own: run the notebooks that follow it, in their order, and then this one again.")
    return f"the bundled sample{of}, because {why}"


def _alarm(text: str) -> None:
    from IPython.display import HTML, display

    display(HTML(f'<p style="background: #b00020; color: white; padding: 1em"><b>{text}</b></p>'))


def finish_stage(work_dir: Path, stage: str, reads: list[str], writes: list[str], own: bool = False) -> None:
    """Write the manifest (`own`: of a source of one's own), and to WORK_REPO; FileNotFoundError for what is missing."""
    if missing := [name for name in writes if not (work_dir / name).exists()]:
        raise FileNotFoundError(f"{stage} should have written {', '.join(missing)} into {work_dir}")
    sealed = {"reads": files.seal(work_dir, reads), "writes": files.seal(work_dir, writes)}
    files.write_json(work_dir / "manifests" / f"{stage}.json", {"stage": stage, "own": own, **sealed})
    print(f"{stage} is done. In {work_dir}: {', '.join(writes)}")
    if repo := os.environ.get("WORK_REPO"):
        hub.mirror(work_dir, repo, "dataset", f"work_dir after {stage}", ignore_patterns=NOT_CARRIED)


def stale(record: Path, adapter: Path) -> str:
    """Why training.json or evaluation.json says nothing about this adapter; "" where it may be believed."""
    now, known = files.fingerprint(adapter), files.read_json(record, {}).get("adapter")
    stage = "05_finetune_gemma" if record.stem == "training" else "06_evaluate"
    what = f"{record.name} is about another adapter than {adapter.name}/ holds: run notebook {stage} again"
    return "" if now == "absent" or known in (None, now) else what


def is_finished(work_dir: Path, stage: str) -> bool:
    """True when the stage's manifest stands and every file in it is still as it was."""
    manifest = files.read_json(work_dir / "manifests" / f"{stage}.json", {})
    sealed = manifest.get("reads", {}) | manifest.get("writes", {})
    return manifest != {} and files.seal(work_dir, sealed) == sealed
