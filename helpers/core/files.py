"""Files that are never half written: whole writes, JSON Lines journals, fingerprints.

A file appears under its name only when it is complete. A journal gains one complete line at a time;
a last line that a crash tore off is recognised and dropped. A seal, the fingerprints of some files, is
written last: where it stands and holds, they are complete. Files that people bring are read by `tables`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def _names_the_fix(path: Path) -> Iterator[None]:
    """Adds to the operating system's errors which path they are about; a library's own OSError has no number."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        fix = f"{error.strerror}; nothing was changed. Free some space there or choose another work_dir"
        raise OSError(error.errno, fix, str(path)) from error


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends without an error."""
    with _names_the_fix(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    aside = scratch.with_name(f"{scratch.name}-old")
    try:
        with _names_the_fix(path):
            yield scratch
            scratch.chmod(0o755)
            if path.exists():
                path.rename(aside)
            scratch.rename(path)
    finally:
        if aside.exists() and not path.exists():
            aside.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
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


def read_json(path: Path, default: object = ...) -> object:
    """The file's JSON value; `default`, where one is given, when there is no file."""
    if default is not ... and not path.exists():
        return default
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def append_jsonl(path: Path, *rows: dict) -> None:
    """Append complete lines and flush them to the disk; a torn last line is cut off first."""
    with _names_the_fix(path), path.open("ab+") as journal:
        _end_with_a_whole_line(journal)
        journal.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        journal.flush()
        os.fsync(journal.fileno())


def _end_with_a_whole_line(journal: BinaryIO) -> None:
    """Cut off what a crash tore; a row that another program left without its newline gets one."""
    size = journal.seek(0, os.SEEK_END)
    journal.seek(max(0, size - 1))
    if journal.read() in (b"", b"\n"):
        return
    journal.seek(0)
    last = journal.read().rpartition(b"\n")[2]
    try:
        json.loads(last)
    except ValueError:
        journal.truncate(size - len(last))
    else:
        journal.write(b"\n")


def read_jsonl(path: Path) -> list[dict]:
    """The rows of a JSON Lines file, without blank lines and a torn last line.

    Raises ValueError that names the line when a complete line is not JSON.
    """
    rows = []
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                if line.endswith("\n"):
                    where = f"{path}, line {number} is not JSON ({error})"
                    raise ValueError(f"{where}: {line.rstrip()[:80]!r}") from None
                print(f"{path}: dropped a torn last line, {line[:60]!r}")
    return rows


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


def seal(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The fingerprints of these files or folders in `folder`, to be written last and compared by `seal_holds`."""
    return {name: fingerprint(folder / name) for name in names}


def seal_holds(folder: Path, sealed: dict[str, str]) -> bool:
    """Whether every file that was sealed is still as it was."""
    return seal(folder, sealed) == sealed
