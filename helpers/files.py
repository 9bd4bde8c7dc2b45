"""Files that are never half written: whole writes, JSON Lines journals, and a manifest a stage.

A file appears under its name only when it is complete. A journal gains one complete line at a time;
a last line that a crash tore off is recognised and dropped. The manifest of a stage is written last:
where it stands, and what it lists is unchanged, the stage is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path


@contextlib.contextmanager
def _names_the_fix(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}; nothing was changed. Free some space there or choose another work_dir",
            str(path),
        ) from error


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends without an error."""
    with _names_the_fix(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        with _names_the_fix(path):
            yield scratch
            scratch.chmod(0o755)
            shutil.rmtree(path, ignore_errors=True)
            scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write a text, or its parts one by one, as UTF-8, whole or not at all; an OSError names the fix."""
    with _names_the_fix(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            with scratch.open("w", encoding="utf-8", newline="\n") as opened:
                opened.writelines([text] if isinstance(text, str) else text)
                opened.flush()
                os.fsync(opened.fileno())
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def append_jsonl(path: Path, *rows: dict) -> None:
    """Append complete lines and flush them to the disk; a torn last line is cut off first."""
    with _names_the_fix(path), path.open("ab+") as journal:
        tail = _tail(journal)
        if tail and _is_json(tail):  # complete, but written by another program without its newline
            journal.write(b"\n")
        else:
            journal.truncate(journal.seek(0, os.SEEK_END) - len(tail))
        journal.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        journal.flush()
        os.fsync(journal.fileno())


def _tail(journal) -> bytes:
    """What stands after the last newline of an opened file."""
    end = start = journal.seek(0, os.SEEK_END)
    tail = b""
    while start and b"\n" not in tail:
        start = max(0, start - 65536)
        journal.seek(start)
        tail = journal.read(end - start)
    return tail.rpartition(b"\n")[2]


def _is_json(text: str | bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def read_jsonl(path: Path) -> list[dict]:
    """The rows of a JSON Lines file, without a torn last line.

    Raises ValueError that names the line when a complete line is not JSON.
    """
    rows = []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            try:
                rows.append(json.loads(line, object_pairs_hook=_row))
            except json.JSONDecodeError as error:
                if line.endswith("\n"):
                    where = f"{path}, line {number} is not JSON ({error})"
                    raise ValueError(f"{where}: {line.rstrip()[:80]!r}") from None
                if line.strip():
                    print(f"{path}: dropped a torn last line, {line[:60]!r}")
    return rows


@lru_cache(maxsize=4096)
def _one(text: str) -> str:
    return text


def _row(pairs: list[tuple[str, object]]) -> dict:
    """The row, with one copy in memory of each name, and of a text that many rows repeat."""
    return {_one(name): _one(value) if isinstance(value, str) else value for name, value in pairs}


def read_or_sample(path: Path, sample: Callable[[], list[dict]]) -> tuple[list[dict], str]:
    """The rows of an earlier notebook's file, or of the bundled sample, and which of the two."""
    if path.exists():
        rows = read_jsonl(path)
        return rows, f"{len(rows)} rows from {path.name}, written by an earlier notebook"
    rows = sample()
    return rows, f"{len(rows)} rows of the bundled sample, because {path} does not exist"


def content_id(value: object) -> str:
    """A stable id for JSON-ready content: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of a folder's file names and contents; "absent" where there is none."""
    if not path.exists():
        return "absent"
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def finish_stage(work_dir: Path, stage: str, reads: list[str], writes: list[str]) -> None:
    """Write the stage's manifest: what it read and wrote, each with its fingerprint."""
    missing = [name for name in writes if not (work_dir / name).exists()]
    if missing:
        raise FileNotFoundError(f"{stage} should have written {', '.join(missing)} into {work_dir}")
    write_json(
        work_dir / "manifests" / f"{stage}.json",
        {
            "stage": stage,
            "reads": {name: fingerprint(work_dir / name) for name in reads},
            "writes": {name: fingerprint(work_dir / name) for name in writes},
        },
    )
    print(f"{stage} is done. In {work_dir}: {', '.join(writes)}")
    if os.environ.get("WORK_REPO"):
        from helpers import work_repo

        work_repo.keep(work_dir, stage)


def is_finished(work_dir: Path, stage: str) -> bool:
    """True when the stage's manifest stands and every file in it is still as it was."""
    manifest = work_dir / "manifests" / f"{stage}.json"
    if not manifest.exists():
        return False
    files = json.loads(manifest.read_text(encoding="utf-8"))
    return all(
        fingerprint(work_dir / name) == found for name, found in {**files["reads"], **files["writes"]}.items()
    )
