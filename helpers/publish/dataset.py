"""Publishing: the data set, its card, a scan for secrets and personal data, the push to the Hub (04 and 08).

    save_dataset(train, test, work_dir / "qa_dataset", dataset_card(train, test, …))
    push_dataset(work_dir / "qa_dataset", "your-name/reviews-qa")
    push_model(work_dir, "your-name/reviews-gemma")

A push is private, and it stops when the scan finds something or the repository turns out to be public. It is
one commit: after an interruption the Hub has all of it or nothing, and the same call goes on.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from helpers.clean import redaction, reviews
from helpers.core import files, runtime, workdir

CARD = Path(__file__).with_name("dataset_card.md.jinja")
SIZES = {
    "n<1K": 1_000,
    "1K<n<10K": 10_000,
    "10K<n<100K": 100_000,
    "100K<n<1M": 1_000_000,
    "1M<n<10M": 10_000_000,
}
APACHE = "The pairs and the fictional reviews behind them are under the Apache License 2.0."
OTHER = (
    "No licence is granted here: the terms of the reviews' source and of the teacher's provider apply. "
    "Read both before you share this data set."
)
KEYS = ("HF_TOKEN", "OPENAI_API_KEY", "BRIGHTDATA_API_KEY")
SECRETS = {
    "HUGGING FACE TOKEN": r"\bhf_[A-Za-z0-9]{16,}",
    "OPENAI KEY": r"\bsk-[\w-]{16,}",
    "AWS KEY": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "GITHUB TOKEN": r"\b(?:gh[pousr]_|github_pat_)\w{20,}",
    "GOOGLE KEY": r"\bAIza[\w-]{30,}",
    "SLACK TOKEN": r"\bxox[abeoprs]-[\w-]{10,}",
    "JSON WEB TOKEN": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.?[\w-]*",
    "PRIVATE KEY": r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    "API KEY": r"\b(?:[0-9a-f]{64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b",  # Bright Data's, for one
}
ASSIGNED = re.compile(
    r"(?i)(?:key|token|secret|password|passwd|pwd|bearer|authorization)[\"']?(?:\s*[:=]\s*|\s+)[\"']?"
    r"([^\s\"',;]{12,})"
)
SURPRISE = 3.0  # bits a character (Shannon entropy) from which an assigned value counts as a secret
# Our hashes, Trustpilot's review ids and UUIDs: as a whole value, one of these is an id.
ID = re.compile(r"[0-9a-f]{16}|[0-9a-f]{24}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MODEL_FILES = ["README.md", "NOTICE", "parity.json", "adapter/*", "merged/*", "gguf/*"]  # of notebook 08
# Weights are numbers, and the tokenizer's words are those of the base model, which anybody can read.
NOT_SCANNED = ("*.safetensors", "*.gguf", "tokenizer.json", "tokenizer.model")


class Unsafe(ValueError):
    """What was to be uploaded holds a secret or personal data; the message says where, never what."""


def source_of(work_dir: Path, pairs: list[dict]) -> str:
    """Where the reviews behind the pairs come from, as far as work_dir knows."""
    ids = {name for pair in pairs for name in pair["review_ids"]}
    if ids <= {row["review_id"] for row in reviews.sample()}:
        return "the bundled sample: fictional reviews of a fictional company"
    if (work_dir / "snapshot.json").exists():
        return "Trustpilot, collected through Bright Data"
    return "a file of reviews; where it came from is not recorded"


def redacted_in(work_dir: Path) -> Counter[str] | None:
    """Placeholders by kind in stage 02's reviews; None where work_dir has none."""
    path = work_dir / "reviews_clean.jsonl"
    rows = files.read_jsonl(path) if path.exists() else None
    return None if rows is None else sum((Counter(row["redacted"]) for row in rows), Counter())


def dataset_card(
    train: list[dict], test: list[dict], *, company: str, source: str, rejected: Iterable[dict] = (),
    redacted: Counter[str] | None = None, licence: str = "", languages: Iterable[str] = (), **facts: object
) -> str:  # fmt: skip
    """A Markdown card with YAML front matter. `redacted` counts placeholders by kind, None where it is not known.

    `licence` is for a person to give, as an identifier of the Hub's. Without one, the bundled pairs are
    apache-2.0, and all others `other`, because neither reviews nor a teacher's answers are ours to license.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    pairs, rejected, company = train + test, list(rejected), " ".join(company.split())
    ours = {pair["teacher"] for pair in pairs} == {"sample"}
    title = f"Questions and answers about {company}, from customer reviews"
    data = DatasetCardData(
        pretty_name=title,
        license=licence or ("apache-2.0" if ours else "other"),
        license_name=None if licence or ours else "terms-of-source-and-teacher",
        language=sorted(languages) or None,
        task_categories=["question-answering", "text-generation"],
        size_categories=[next((name for name, limit in SIZES.items() if len(pairs) < limit), "n>1M")],
        tags=["synthetic", "customer-reviews"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": side, "path": f"{side}.jsonl"} for side in ("train", "test")],
            }
        ],
    )
    reasons = Counter(row["reason"].split(" (")[0] for row in rejected)
    table = {
        "pairs to train on": len(train),
        "pairs held out": len(test),
        "reviews behind them": len({name for pair in pairs for name in pair["review_ids"]}),
        "source": source,
        "teacher": ", ".join(sorted({pair["teacher"] for pair in pairs})),
        "prompt version": ", ".join(sorted({pair["prompt_version"] for pair in pairs})),
    }
    card = DatasetCard.from_template(
        data,
        template_path=str(CARD),
        title=title,
        company=company,
        facts=table | {name.replace("_", " "): value for name, value in facts.items()},
        example=train[0],
        kept=len(pairs),
        rejected=len(rejected),
        reasons=", ".join(f"{count} × {reason}" for reason, count in reasons.most_common()) or "none",
        redaction="how many is not recorded" if redacted is None else counted(redacted),
        licence=f"`{licence}`" if licence else APACHE if ours else OTHER,
    )
    return str(card)


def counted(redacted: Counter[str]) -> str:
    """Counts by kind as words."""
    return ", ".join(f"{count} × {kind}" for kind, count in redacted.most_common()) or "none was found"


def save_dataset(train: list[dict], test: list[dict], folder: Path, card: str) -> None:
    """A `datasets.DatasetDict` and its card (README.md) in `folder`, whole or not at all."""
    from datasets import Dataset, DatasetDict

    with files.whole_folder(folder) as scratch:
        sides = {"train": Dataset.from_list(train), "test": Dataset.from_list(test)}
        DatasetDict(sides).save_to_disk(scratch)
        files.write_text(scratch / "README.md", card)


def reviewer_names(work_dir: Path) -> set[str]:
    """The full names of the reviewers, as stage 01 knew them; one word alone may be any word."""
    path = work_dir / "reviews.jsonl"
    rows = files.read_jsonl(path) if path.exists() else []
    return {row["reviewer_name"].strip() for row in rows if " " in (row["reviewer_name"] or "").strip()}


def masked(text: str, names: set[str] = frozenset(), keys: Iterable[str] = ()) -> tuple[str, Counter[str]]:
    """The text with secrets, personal data, `names` and `keys` replaced by [KIND], and their counts."""
    counts: Counter[str] = Counter()
    for value in keys:
        counts["KEY OF THIS MACHINE"] += text.count(value)
        text = text.replace(value, "[KEY OF THIS MACHINE]")
    for kind, pattern in SECRETS.items():
        text, found = re.subn(pattern, f"[{kind}]", text)
        counts[kind] += found
    for match in reversed(list(ASSIGNED.finditer(text))):
        if _surprise(match[1]) >= SURPRISE and re.search(r"\d", match[1]) and "[" not in match[1]:
            text = f"{text[: match.start(1)]}[SECRET]{text[match.end(1) :]}"
            counts["SECRET"] += 1
    words = re.findall(r"\w+", text)
    said = {" ".join(words[at : at + length]) for length in (2, 3, 4) for at in range(len(words))}
    for name in sorted(said & names):
        text = text.replace(name, "[NAME]")
        counts["NAME"] += 1
    text, personal = redaction.redact_text(text)
    return text, +(counts + personal)


def _own_keys() -> Iterator[str]:
    for name in KEYS:
        try:
            yield runtime.secret(name)
        except runtime.MissingSecret:
            continue


def _surprise(value: str) -> float:
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def scan(folder: Path, names: set[str] = frozenset()) -> Iterator[dict]:
    """Every secret and every piece of personal data in the text files of `folder`: file, row, kind, excerpt.

    The row is the line in its file. The excerpt has the placeholder in its place. Ids are passed over, and
    so is NOT_SCANNED. Raises UnicodeDecodeError for any other file that is not text.
    """
    keys = list(_own_keys())
    paths = (file for file in folder.rglob("*") if file.is_file() and not any(map(file.match, NOT_SCANNED)))
    for path in sorted(paths):
        for row, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            texts = _strings(json.loads(line)) if path.suffix == ".jsonl" else [line]
            for text in texts:
                clean, counts = masked(text, names, keys)
                for kind in counts:
                    at = clean.find(f"[{kind}]")
                    excerpt = f"…{clean[max(0, at - 30) : at + len(kind) + 32]}…"
                    yield {"file": path.name, "row": row, "kind": kind, "excerpt": excerpt}


def _strings(value: object) -> Iterator[str]:
    """Every text in a JSON value that is not an id as a whole."""
    if isinstance(value, str):
        yield from () if ID.fullmatch(value) else (value,)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def push_dataset(folder: Path, repo: str, names: set[str] = frozenset(), private: bool = True) -> str:
    """Push what `save_dataset` saved, as JSON Lines and its card; what was scanned is what is uploaded.

    A review's id leads to the page that shows who wrote it, so only its hash goes to the Hub.
    """
    from datasets import load_from_disk

    with tempfile.TemporaryDirectory() as scratch:
        for side, rows in load_from_disk(str(folder)).items():
            # Not by Dataset.map, which would leave its cache in `folder`.
            sent = (row | {"review_ids": [*map(files.content_id, row["review_ids"])]} for row in rows)
            files.write_jsonl(Path(scratch) / f"{side}.jsonl", sent)
        files.write_text(Path(scratch) / "README.md", (folder / "README.md").read_text(encoding="utf-8"))
        return push(Path(scratch), repo, "dataset", names, private)


def push_model(work_dir: Path, repo: str, private: bool = True) -> str:
    """Push work_dir/publish as notebook 08 made it; a file that it did not make there goes nowhere.

    Raises PermissionError when the parity gate has not passed for just these files.
    """
    if not repo:
        raise ValueError("push_to_hub needs hub_repo, such as your-name/reviews-gemma")
    if not workdir.is_finished(work_dir, "08_publish.parity"):
        raise PermissionError(
            f"Nothing was uploaded to {repo}: the parity gate has not passed for the files in {work_dir / 'publish'}. "
            "Run notebook 08 from the top."
        )
    return push(work_dir / "publish", repo, "model", reviewer_names(work_dir), private, MODEL_FILES)


def push(
    folder: Path,
    repo: str,
    kind: str,
    names: set[str] = frozenset(),
    private: bool = True,
    only: list[str] | None = None,
) -> str:
    """Upload the files of `folder` to the Hub repository `repo` in one commit; returns its address.

    With `only`, those that match it, in the place of all that match it there.
    Raises Unsafe when the scan finds something, PermissionError when `repo` is public and `private` is
    wanted, ConnectionError when the Hub fails: run it again, and what is uploaded is not uploaded again.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if found := list(islice(scan(folder, names), 10)):
        lines = "".join(
            f"\n  {row['file']}, row {row['row']}: {row['kind']}: {row['excerpt']}" for row in found
        )
        raise Unsafe(
            f"Nothing was uploaded to {repo}: it would hold secrets or personal data.{lines}\n"
            "Take them out where they come from (for data: the reviews, and then again from stage 02), and run the "
            "notebook again."
        )
    api = HfApi(token=runtime.secret("HF_TOKEN"))
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        if private and not api.repo_info(repo, repo_type=kind).private:
            raise PermissionError(
                f"{repo} is public, and nothing was uploaded. Make it private in its settings on the Hub, name "
                "another repository, or, if the whole world may read this, push with private=False: "
                "a parameter of notebook 08, and dataset.push_dataset for data."
            )
        api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"Upload the {kind}",
            allow_patterns=only,
            delete_patterns=only,
        )
    except (HfHubHTTPError, httpx.HTTPError, RuntimeError) as error:  # the last for a large file
        said = f"{type(error).__name__}: {str(error.__cause__ or error)[:300]}"
        raise ConnectionError(
            f"The push to {repo} broke off ({said}). A commit is whole or not there. Run it again: it goes on, "
            "and uploads no large file twice."
        ) from error
    return f"{api.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{repo}"
