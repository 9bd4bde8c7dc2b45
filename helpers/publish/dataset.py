"""What goes to the Hub: the data set, a scan for secrets and personal data, the push (04 and 08).

A push is private, stops when the scan finds something, and is one commit: after an interruption the Hub has all of
it or nothing, and the same call goes on.
"""

import contextlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from helpers.clean import names, redaction
from helpers.core import files, hub, runtime, workdir

SECRETS = (
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-[\w-]{16,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\b(?:gh[pousr]_|github_pat_)\w{20,}"
    r"|\bAIza[\w-]{30,}|\bxox[abeoprs]-[\w-]{10,}|\b[0-9a-f]{64}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
IDS = dict.fromkeys(("id", "chunk_id", "review_ids"))  # of a pair; they are hashes, and not scanned
MODEL_FILES = ["README.md", "NOTICE", "parity.json", "adapter/*", "merged/*", "gguf/*"]  # of notebook 08
# Weights are numbers, and the tokenizer's words are those of the base model, which anybody can read.
NOT_SCANNED = ("*.safetensors", "*.gguf", "tokenizer.json", "tokenizer.model")


def save_dataset(train: list[dict], test: list[dict], folder: Path, card: str) -> None:
    """A `datasets.DatasetDict` and its card (README.md) in `folder`, whole or not at all."""
    from datasets import Dataset, DatasetDict

    with files.whole_folder(folder) as scratch:
        DatasetDict(train=Dataset.from_list(train), test=Dataset.from_list(test)).save_to_disk(scratch)
        files.write_text(scratch / "README.md", card)


def reviewer_names(work_dir: Path) -> set[tuple[str, ...]]:
    """The full names of the reviewers as stage 01 knew them, as `names.parts`; one word alone may be any word."""
    path = work_dir / "reviews.jsonl"
    rows = files.read_jsonl(path) if path.exists() else []
    return {parts for row in rows if len(parts := names.parts(row["reviewer_name"])) > 1}


def masked(text: str, reviewers: set = frozenset(), secrets: str = SECRETS) -> tuple[str, Counter[str]]:
    """The text with secrets, personal data and full names of `reviewers` replaced by [KIND], and their counts."""
    text, count = re.subn(secrets, "[SECRET]", text)
    for name in (full_names := _full_names(text, reviewers)):
        text = text.replace(name, "[NAME]")
    text, personal = redaction.redact_text(text)
    return text, +(Counter(SECRET=count, NAME=len(full_names)) + personal)


def _full_names(text: str, reviewers: set) -> list[str]:
    """The names of `reviewers`, of up to six words, as the text has them; a word in small letters is none of a name."""
    words = [word for word in names.WORD.finditer(text) if word.group().lower() not in names.IN_NAMES]
    plain = ["" if word.group()[0].islower() else names.canonical(word.group()) for word in words]
    runs = ((at, at + n) for n in range(6, 1, -1) for at in range(len(words) - n + 1))
    spans = [(words[at], words[end - 1]) for at, end in runs if tuple(plain[at:end]) in reviewers]
    return [text[first.start() : last.end()] for first, last in spans]


def scan(folder: Path, reviewers: set = frozenset()) -> Iterator[dict]:
    """Every secret and every piece of personal data in the text files of `folder`: file, row, kind, excerpt.

    The row is the line, and the excerpt is masked. Secrets are known by their form, as in SECRETS, or are keys of
    our own: a password in plain words is not found. IDS and NOT_SCANNED are passed over; any other file must be text.
    """
    secrets = SECRETS
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "BRIGHTDATA_API_KEY"):
        with contextlib.suppress(runtime.MissingSecret):
            secrets = f"{re.escape(runtime.secret(name))}|{secrets}"
    paths = (file for file in folder.rglob("*") if file.is_file() and not any(map(file.match, NOT_SCANNED)))
    for path in sorted(paths):
        # splitlines() would also cut inside of a JSON string, at U+2028 for one.
        for row, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
            for text in _texts(json.loads(line) | IDS if path.suffix == ".jsonl" else line):
                clean, counts = masked(text, reviewers, secrets)
                for kind in counts:
                    at = clean.find(f"[{kind}]")
                    excerpt = f"…{clean[max(0, at - 30) : at + len(kind) + 32]}…"
                    yield {"file": path.name, "row": row, "kind": kind, "excerpt": excerpt}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def push_dataset(folder: Path, repo: str, reviewers: set = frozenset(), private: bool = True) -> str:
    """Push what `save_dataset` saved as JSON Lines; of a review's id, which leads to its writer's page, only a hash."""
    from datasets import load_from_disk

    with tempfile.TemporaryDirectory() as scratch:
        for side, rows in load_from_disk(str(folder)).items():
            # Not by Dataset.map, which would leave its cache in `folder`.
            hashed = (row | {"review_ids": [*map(files.content_id, row["review_ids"])]} for row in rows)
            files.write_jsonl(Path(scratch) / f"{side}.jsonl", hashed)
        shutil.copy(folder / "README.md", scratch)
        return push(Path(scratch), repo, "dataset", reviewers, private)


def push_model(work_dir: Path, repo: str, private: bool = True) -> str:
    """Push work_dir/publish as notebook 08 made it; PermissionError when the parity gate has not seen it as it is."""
    if not workdir.is_finished(work_dir, "08_publish.parity"):
        unseen = f"the parity gate has not passed for the files in {work_dir / 'publish'}"
        raise PermissionError(f"Nothing was uploaded to {repo}: {unseen}. Run notebook 08 from the top.")
    return push(work_dir / "publish", repo, "model", reviewer_names(work_dir), private, MODEL_FILES)


def push(folder: Path, repo: str, kind: str, reviewers: set, private: bool, only=None) -> str:
    """Upload the files of `folder` to the Hub repository `repo` in one commit; returns its address.

    With `only`, those that match it, in the place of all that match it there. ValueError for what the scan finds,
    PermissionError when `repo` is public and `private` is wanted, ConnectionError when the Hub fails.
    """
    if unsafe := list(islice(scan(folder, reviewers), 10)):
        places = "".join("\n  {file}, row {row}: {kind}: {excerpt}".format(**row) for row in unsafe)
        raise ValueError(
            f"Nothing was uploaded to {repo}: it would hold secrets or personal data.{places}\nTake them out where "
            "they come from (for data: the reviews, and then again from stage 02), and run the notebook again."
        )
    options = {"commit_message": f"Upload the {kind}", "allow_patterns": only, "delete_patterns": only}
    try:
        api = hub.open_repo(repo, kind, private)
        api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, **options)
    except PermissionError as error:
        raise PermissionError(f"{error} For all to see: private=False (notebook 08, push_dataset).") from None
    except hub.FAILURES as error:
        reason = f"{type(error).__name__}: {str(error.__cause__ or error)[:300]}"
        again = "A commit is whole or not there. Run it again: it goes on, and uploads no large file twice."
        raise ConnectionError(f"The push to {repo} broke off ({reason}). {again}") from error
    return f"{api.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{repo}"
