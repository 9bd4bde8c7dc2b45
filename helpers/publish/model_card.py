"""The model's card, from what the earlier notebooks wrote: data, cost, scores, limits, licence (stage 08)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from helpers.core import files
from helpers.prove import evaluation, judge
from helpers.publish import dataset
from helpers.train import local_gemma

CARD = Path(__file__).with_name("model_card.md.jinja")
GEMMA = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. These are "
    "modified weights: whoever gets them from you is bound by the same terms, and has to get them with this notice."
)
OTHER = "The licence of the base model applies to these weights, and to whoever gets them from you."
LOCAL = (
    " The weights that were tuned came from a third party's 4-bit conversion of Google's: this model is a "
    "demonstration. To publish one for use, tune Google's own weights."
)
REVIEWS = " The source of the reviews and the teacher's provider have terms of their own; read both before you share."


def base_of(adapter: Path) -> tuple[str, str, str]:
    """The base as the Hub knows it, what a person calls it, and the text about its licence."""
    name = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    if name == local_gemma.NAME:
        return "google/gemma-3-270m", "Gemma 3 270M", GEMMA + LOCAL + REVIEWS
    licence = GEMMA if "gemma-3" in name.lower() else OTHER
    return name, name.rpartition("/")[2], licence + REVIEWS


def cost(work_dir: Path) -> str:
    """What the teacher's answers cost, out of its journal."""
    path = work_dir / "qa_journal.jsonl"
    if not path.exists():
        return "nothing was paid in this work_dir"
    return f"${sum(row.get('cost_usd') or 0 for row in files.read_jsonl(path)):.2f} for the teacher"


def model_card(work_dir: Path, adapter: Path, forms: list[str]) -> str:
    """The card of work_dir/publish; what an earlier notebook did not leave is said to be unknown, not left out."""
    from huggingface_hub import ModelCard, ModelCardData

    training, scores, parity = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for path in (
            work_dir / "training.json",
            work_dir / "evaluation.json",
            work_dir / "publish" / "parity.json",
        )
    )
    pairs = files.read_jsonl(work_dir / "qa_pairs.jsonl") if (work_dir / "qa_pairs.jsonl").exists() else []
    base, called, licence = base_of(adapter)
    gemma = licence.startswith(GEMMA)
    redacted, settings = dataset.redacted_in(work_dir), training.get("settings", {})
    facts = {"base model": base, "method": f"LoRA, rank {settings['lora_r']}" if settings else "LoRA"}
    if training:
        first, last = training["losses"][0]["loss"], training["losses"][-1]["loss"]
        facts |= {
            "trained on": f"{training['rows']} pairs, {training['steps']} steps, {training['tokens']} tokens",
            "trained with": f"learning rate {settings['learning_rate']}, {training['dtype']}, {training['device']}",
            "loss": f"{first:.2f} at the first step, {last:.2f} at the last",
            "time": f"{training['seconds'] / 60:.0f} minutes",
        }
    facts["cost"] = cost(work_dir)
    teachers = Counter(pair["teacher"] for pair in pairs)
    card = ModelCard.from_template(
        ModelCardData(
            base_model=base,
            license="gemma" if gemma else "other",
            license_name=None if gemma else "terms-of-the-base-model",
            library_name="transformers" if "merged" in forms else "peft",
            pipeline_tag="text-generation",
            tags=["customer-reviews", "lora", *(["gguf"] if "gguf" in forms else [])],
        ),
        template_path=str(CARD),
        title="Answers about customer reviews",
        base=called,
        facts=facts,
        contents={form: holds for form, holds in CONTENTS.items() if form in forms},
        parity=parity and _said(parity),
        data=dataset.source_of(work_dir, pairs).capitalize() + "." if pairs else "Not recorded in this work_dir.",
        redaction="how many is not recorded" if redacted is None else dataset.counted(redacted),
        teacher="Written by " + ", ".join(f"{name} ({n} pairs)" for name, n in teachers.most_common())
        + ", and nobody has checked whether they are true." if pairs else "Who wrote them is not recorded.",
        scores=scores and evaluation.table(scores)
        + evaluation.table(scores["knowledge"], evaluation.KNOWLEDGE_METRICS),
        count=scores.get("count"),
        worse=scores.get("got_worse"),
        knowledge=scores and scores["knowledge"]["count"],
        judge=judge.report(scores["judge"]).replace("\n", "; ") if "judge" in scores else "",
        licence=licence,
    )  # fmt: skip
    return str(card)


CONTENTS = {
    "adapter": 'the LoRA adapter and the tokenizer: `PeftModel.from_pretrained(base, repo, subfolder="adapter")`',
    "merged": 'base and adapter in one, bfloat16: `AutoModelForCausalLM.from_pretrained(repo, subfolder="merged")`',
    "gguf": "the same for llama.cpp and Ollama: `ollama create reviews -f gguf/Modelfile`",
}


def _said(parity: dict) -> dict:
    rows = parity["rows"]
    return {
        "questions": len({row["question"] for row in rows}),
        "largest": max(row["largest difference"] for row in rows),
        "tolerance": parity["tolerance"],
    }


def save(work_dir: Path, adapter: Path, forms: list[str]) -> str:
    """Write README.md and NOTICE into work_dir/publish, and return the card."""
    card = model_card(work_dir, adapter, forms)
    files.write_text(work_dir / "publish" / "README.md", card)
    files.write_text(work_dir / "publish" / "NOTICE", base_of(adapter)[2] + "\n")
    return card
