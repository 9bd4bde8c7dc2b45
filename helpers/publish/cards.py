"""What a data set or a model says of itself: the cards, from what the notebooks left in work_dir (04 and 08)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from helpers.ask import answers
from helpers.clean import reviews
from helpers.core import files
from helpers.prove import evaluation, judge
from helpers.publish import export
from helpers.train import local_gemma

HERE = Path(__file__).parent


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


def _counted(redacted: Counter[str] | None) -> str:
    if redacted is None:
        return "how many is not recorded"
    return ", ".join(f"{count} × {kind}" for kind, count in redacted.most_common()) or "none was found"


def dataset_card(
    train: list[dict], test: list[dict], *, company: str, source: str, rejected: Iterable[dict] = (),
    redacted: Counter[str] | None = None, licence: str = "", languages: Iterable[str] = (), **facts: object
) -> str:  # fmt: skip
    """A Markdown card with YAML front matter. `redacted` counts placeholders by kind, None where it is not known.

    `licence` is for a person to give, as an identifier of the Hub's. Without one, the bundled pairs are
    apache-2.0, and all others `other`, because neither reviews nor a teacher's answers are ours to license.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    pairs, company = train + test, " ".join(company.split())
    bundled = {pair["teacher"] for pair in pairs} == {"sample"}
    sides = [{"split": side, "path": f"{side}.jsonl"} for side in ("train", "test")]
    data = DatasetCardData(
        pretty_name=f"Questions and answers about {company}, from customer reviews",
        license=licence or ("apache-2.0" if bundled else "other"),
        license_name=None if licence or bundled else "terms-of-source-and-teacher",
        language=sorted(languages) or None,
        task_categories=["question-answering", "text-generation"],
        tags=["synthetic", "customer-reviews"],
        configs=[{"config_name": "default", "data_files": sides}],
    )
    card = DatasetCard.from_template(
        data,
        template_path=str(HERE / "dataset_card.md.jinja"),
        company=company,
        source=source,
        train=train,
        test=test,
        count_of_reviews=len({name for pair in pairs for name in pair["review_ids"]}),
        facts=facts,
        reasons=Counter(row["reason"].split(" (")[0] for row in rejected),
        redaction=_counted(redacted),
        licence=licence,
        bundled=bundled,
    )
    return str(card)


def notice(adapter: Path) -> str:
    """The terms of the base under an adapter, which hold for what is made of it."""
    import jinja2

    template = jinja2.Template((HERE / "notice.jinja").read_text(encoding="utf-8"))
    return template.render(base=export.base_name(adapter), local=local_gemma.NAME)


def model_card(work_dir: Path, adapter: Path, forms: list[str]) -> str:
    """The card of work_dir/publish; what an earlier notebook did not leave is said to be unknown, not left out."""
    from huggingface_hub import ModelCard, ModelCardData

    parity = files.read_json(work_dir / "publish" / "parity.json", {})
    scores = files.read_json(work_dir / "evaluation.json", {})
    journal, pairs_file = work_dir / "qa_journal.jsonl", work_dir / "qa_pairs.jsonl"
    pairs = files.read_jsonl(pairs_file) if pairs_file.exists() else []
    base, licence = export.base_name(adapter), notice(adapter)
    base, gemma = "google/gemma-3-270m" if base == local_gemma.NAME else base, licence.startswith("Gemma is")
    data = ModelCardData(
        base_model=base if "/" in base else None,  # a folder of one's own is not on the Hub
        license="gemma" if gemma else "other",
        license_name=None if gemma else "terms-of-the-base-model",
        library_name="transformers" if "merged" in forms else "peft",
        pipeline_tag="text-generation",
        tags=["customer-reviews", "lora", *["gguf"] * ("gguf" in forms)],
    )
    if scores:
        scores["table"] = evaluation.table(scores)
        scores["table"] += evaluation.table(scores["knowledge"], evaluation.KNOWLEDGE_METRICS)
    card = ModelCard.from_template(
        data,
        template_path=str(HERE / "model_card.md.jinja"),
        base=base,
        training=files.read_json(work_dir / "training.json", {}),
        scores=scores,
        parity=parity,
        cost=answers.summary(journal)["usd"] if journal.exists() else None,
        forms=forms,
        source=source_of(work_dir, pairs).capitalize() if pairs else "",
        redaction=_counted(redacted_in(work_dir)),
        teachers=Counter(pair["teacher"] for pair in pairs).most_common(),
        judge=judge.report(scores["judge"]).replace("\n", "; ") if "judge" in scores else "",
        licence=licence,
    )
    return str(card)


def save(work_dir: Path, adapter: Path, forms: list[str]) -> str:
    """Write README.md and NOTICE into work_dir/publish, and return the card."""
    card = model_card(work_dir, adapter, forms)
    files.write_text(work_dir / "publish" / "README.md", card)
    files.write_text(work_dir / "publish" / "NOTICE", notice(adapter) + "\n")
    return card
