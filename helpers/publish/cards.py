"""What a data set or a model says of itself: the cards, from what the notebooks left in work_dir (04 and 08)."""

from collections import Counter
from pathlib import Path

from helpers.ask import answers
from helpers.clean import reviews
from helpers.core import files, workdir
from helpers.prove import evaluation, judge
from helpers.publish import export
from helpers.train import data, local_gemma, models


def source_of(work_dir: Path, pairs: list[dict]) -> str:
    """Where the reviews behind the pairs come from, as far as work_dir knows."""
    ids = {name for pair in pairs for name in pair["review_ids"]}
    if ids <= {row["review_id"] for row in reviews.sample()}:
        return "the bundled sample: fictional reviews of a fictional company"
    collected = (row for path in work_dir.glob("snapshot_rows/*.jsonl") for row in files.read_jsonl(path))
    if any(row.get("review_id") in ids for row in collected):
        return "Trustpilot, collected through Bright Data"
    return "a file of reviews; where it came from is not recorded"


def redacted_in(work_dir: Path, pairs: list[dict]) -> Counter[str] | None:
    """Placeholders by kind in stage 02's reviews; None where those lack some of the pairs', or were not redacted."""
    path, ids = work_dir / "reviews_clean.jsonl", {name for pair in pairs for name in pair["review_ids"]}
    known = {row["review_id"]: row["redacted"] for row in files.read_jsonl(path)} if path.exists() else {}
    counts = [*known.values()] if known and ids <= known.keys() else [None]
    return None if None in counts else sum(map(Counter, counts), Counter())


def _render(name: str, **values: object) -> str:
    import jinja2

    return jinja2.Template(Path(__file__).with_name(name).read_text(encoding="utf-8")).render(values)


def dataset_card(
    train, test, *, company, source, rejected=(), redacted=None, licence="", languages=(), **facts
) -> str:
    """A Markdown card with YAML front matter. `redacted` counts placeholders by kind, None where it is not known.

    `licence` is for a person to give, as an identifier of the Hub's. Without one, the bundled pairs are
    apache-2.0, and all others `other`, because neither reviews nor a teacher's answers are ours to license.
    """
    reasons = Counter(row["reason"].split(" (")[0] for row in rejected)
    names = {name for pair in train + test for name in pair["review_ids"]}
    values = {"train": train, "test": test, "reviews": len(names), "company": " ".join(company.split())}
    values |= {"source": source, "facts": facts, "languages": sorted(languages), "reasons": reasons}
    return _render("dataset_card.md.jinja", redacted=redacted, licence=licence, **values)


def notice(adapter: Path) -> str:
    """The terms of the base under an adapter, which hold for what is made of it."""
    return _render("notice.jinja", base=export.base_name(adapter), local=local_gemma.NAME)


def model_card(work_dir: Path, adapter: Path, forms: list[str]) -> str:
    """The card of work_dir/publish, which says what is unknown; ValueError for records of another adapter."""
    base = export.base_name(adapter)
    for record in ("training.json", "evaluation.json"):
        if why := workdir.stale(work_dir / record, adapter):
            raise ValueError(why)
    training = files.read_json(work_dir / "training.json", {})
    pairs = sum(data.kept(adapter).values(), [])
    journal, from_reviews = work_dir / "qa_journal.jsonl", data.from_reviews(pairs)
    if scores := files.read_json(work_dir / "evaluation.json", {}):
        scores["table"] = evaluation.table(scores)
        scores["table"] += evaluation.table(scores["knowledge"], evaluation.KNOWLEDGE_METRICS)
    answered = [row["tuned"] for row in scores.get("examples", []) if data.open_book(adapter)]
    read = [row for row in answered if row.get("context")]  # an older evaluation kept none
    example = max(read, key=lambda row: (row.get("facts", 0), row["rouge_l"]), default=None)
    return _render(
        "model_card.md.jinja",
        base="google/gemma-3-270m" if base == local_gemma.NAME else base,
        training=training,
        scores=scores,
        parity=files.read_json(work_dir / "publish" / "parity.json", {}),
        forms=forms,
        cost=answers.summary(journal)["usd"] if from_reviews and journal.exists() else None,
        from_reviews=from_reviews,
        source=source_of(work_dir, pairs) if from_reviews else training.get("data", ""),
        teachers=Counter(pair["teacher"] for pair in pairs if pair["teacher"] != "unknown").most_common(),
        redacted=redacted_in(work_dir, pairs) if from_reviews else None,
        example=example and example | {"prompt": models.prompt(example["question"], example["context"])},
        judge=judge.report(scores["judge"]).replace("\n", "; ") if "judge" in scores else "",
        notice=notice(adapter),
    )


def save(work_dir: Path, adapter: Path, forms: list[str]) -> str:
    """Write README.md and NOTICE into work_dir/publish, and return the card."""
    card = model_card(work_dir, adapter, forms)
    files.write_text(work_dir / "publish" / "README.md", card)
    files.write_text(work_dir / "publish" / "NOTICE", notice(adapter) + "\n")
    return card
