"""Files that are never half written: whole files, journals, and seals, fingerprints written last."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, folder: bool = False) -> Iterator[Path]:
    """Yield a path, or an empty folder, for what takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"dir": path.parent, "prefix": f".{path.name}-", "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(**place) as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        try:
            if folder:
                new.mkdir()
            yield new
            if path.is_dir():
                path.rename(old)
            new.replace(path)
        except OSError as error:
            error.add_note(f"{path} is as it was. Is the disk full? Free some space or change work_dir.")
            raise
        finally:
            if old.exists() and not path.exists():
                old.rename(path)


whole_folder = partial(replacing, folder=True)


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write a text, or its parts one by one, as UTF-8, whole or not at all."""
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8", newline="\n") as opened:
        opened.writelines([text] if isinstance(text, str) else text)
        opened.flush()
        os.fsync(opened.fileno())


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
    """Append complete lines and flush them to the disk; a torn last line is dropped first."""
    with path.open("ab+") as journal:
        journal.seek(max(0, journal.tell() - 1))
        torn = journal.read() not in (b"", b"\n")
    if torn:  # or whole, and left without its newline by another program
        write_jsonl(path, read_jsonl(path))
    with path.open("ab") as journal:
        journal.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        journal.flush()
        os.fsync(journal.fileno())


def read_jsonl(path: Path) -> list[dict]:
    """The rows without a torn last line, which is printed. ValueError names a whole line that is no JSON."""
    rows, one = [], lru_cache(maxsize=4096)(str)  # one copy of a name, and of a text that many rows share
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    row = json.loads(line).items()
                    rows.append({one(name): one(v) if isinstance(v, str) else v for name, v in row})
            except json.JSONDecodeError as error:
                if line.endswith("\n"):
                    raise ValueError(f"{path}, line {number} is not JSON ({error}): {line[:80]!r}") from None
                print(f"{path}: dropped a torn last line, {line[:60]!r}")
    return rows


def content_id(value: object) -> str:
    """A stable id for JSON-ready content: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of a folder's file names and contents; "absent" where there is none."""
    if not path.exists():
        return "absent"
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(filter(Path.is_file, path.rglob("*"))):
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def seal(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The fingerprints of these, to write last; `seal(folder, sealed) == sealed` while nothing has changed."""
    return {name: fingerprint(folder / name) for name in names}
