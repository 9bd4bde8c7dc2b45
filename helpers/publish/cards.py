"""What a data set or a model says of itself: the cards, from what the notebooks left in work_dir (04 and 08)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from helpers.ask import answers
from helpers.clean import reviews
from helpers.core import files
from helpers.prove import evaluation, judge
from helpers.train import local_gemma

HERE = Path(__file__).parent
GEMMA = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. These are "
    "modified weights: whoever gets them from you is bound by the same terms, and has to get them with this notice."
)
OTHER_MODEL = "The licence of the base model applies to these weights, and to whoever gets them from you."
LOCAL = (
    " The weights that were tuned came from a third party's 4-bit conversion of Google's: this model is a "
    "demonstration. To publish one for use, tune Google's own weights."
)
REVIEWS = " The source of the reviews and the teacher's provider have terms of their own; read both before you share."


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

    pairs, rejected, company = train + test, list(rejected), " ".join(company.split())
    bundled = {pair["teacher"] for pair in pairs} == {"sample"}
    title = f"Questions and answers about {company}, from customer reviews"
    sides = [{"split": side, "path": f"{side}.jsonl"} for side in ("train", "test")]
    data = DatasetCardData(
        pretty_name=title,
        license=licence or ("apache-2.0" if bundled else "other"),
        license_name=None if licence or bundled else "terms-of-source-and-teacher",
        language=sorted(languages) or None,
        task_categories=["question-answering", "text-generation"],
        tags=["synthetic", "customer-reviews"],
        configs=[{"config_name": "default", "data_files": sides}],
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
        template_path=str(HERE / "dataset_card.md.jinja"),
        title=title,
        company=company,
        facts=table | {name.replace("_", " "): value for name, value in facts.items()},
        example=train[0],
        kept=len(pairs),
        rejected=len(rejected),
        reasons=", ".join(f"{count} × {reason}" for reason, count in reasons.most_common()) or "none",
        redaction=_counted(redacted),
        licence=licence,
        bundled=bundled,
    )
    return str(card)


def base_of(adapter: Path) -> tuple[str | None, str, str]:
    """The base as the Hub knows it, what a person calls it, and the text about its licence.

    A base that was given as a folder of one's own has no name on the Hub; its path is published nowhere.
    """
    name = files.read_json(adapter / "adapter_config.json")["base_model_name_or_path"]
    if name == local_gemma.NAME:
        return "google/gemma-3-270m", "Gemma 3 270M", GEMMA + LOCAL + REVIEWS
    licence = GEMMA if "gemma-3" in name.lower() else OTHER_MODEL
    on_the_hub = name.count("/") == 1 and not Path(name).expanduser().exists()
    return name if on_the_hub else None, Path(name).name, licence + REVIEWS


def model_card(work_dir: Path, adapter: Path, forms: list[str]) -> str:
    """The card of work_dir/publish; what an earlier notebook did not leave is said to be unknown, not left out."""
    from huggingface_hub import ModelCard, ModelCardData

    parity = files.read_json(work_dir / "publish" / "parity.json", {})
    scores = files.read_json(work_dir / "evaluation.json", {})
    journal, pairs_file = work_dir / "qa_journal.jsonl", work_dir / "qa_pairs.jsonl"
    pairs = files.read_jsonl(pairs_file) if pairs_file.exists() else []
    base, title, licence = base_of(adapter)
    gemma = licence.startswith(GEMMA)
    data = ModelCardData(
        base_model=base,
        license="gemma" if gemma else "other",
        license_name=None if gemma else "terms-of-the-base-model",
        library_name="transformers" if "merged" in forms else "peft",
        pipeline_tag="text-generation",
        tags=["customer-reviews", "lora", *(["gguf"] if "gguf" in forms else [])],
    )
    knowledge = scores and evaluation.table(scores["knowledge"], evaluation.KNOWLEDGE_METRICS)
    card = ModelCard.from_template(
        data,
        template_path=str(HERE / "model_card.md.jinja"),
        base=title,
        base_model=base or title,
        training=files.read_json(work_dir / "training.json", {}),
        cost=answers.summary(journal)["usd"] if journal.exists() else None,
        forms=forms,
        parity=parity,
        largest=max((row["largest difference"] for row in parity.get("rows", [])), default=0),
        source=source_of(work_dir, pairs).capitalize() if pairs else "",
        redaction=_counted(redacted_in(work_dir)),
        teachers=Counter(pair["teacher"] for pair in pairs).most_common(),
        scores=scores,
        table=scores and evaluation.table(scores) + knowledge,
        judge=judge.report(scores["judge"]).replace("\n", "; ") if "judge" in scores else "",
        licence=licence,
    )
    return str(card)


def save(work_dir: Path, adapter: Path, forms: list[str]) -> str:
    """Write README.md and NOTICE into work_dir/publish, and return the card."""
    card = model_card(work_dir, adapter, forms)
    files.write_text(work_dir / "publish" / "README.md", card)
    files.write_text(work_dir / "publish" / "NOTICE", base_of(adapter)[2] + "\n")
    return card
