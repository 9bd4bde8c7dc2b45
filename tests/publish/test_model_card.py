"""model_card: what the earlier notebooks wrote is in it, and what they did not is front to be unknown."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, DatasetDict

from helpers.clean import reviews
from helpers.core import files
from helpers.prove import evaluation
from helpers.publish import cards, dataset
from helpers.train import data, models
from tests.publish.test_publish import some

FORMS = ["adapter", "merged", "gguf", "parity"]


def rows(**change) -> list[dict]:
    first = dict.fromkeys(evaluation.METRICS, 0.5) | {"question": "q", "answer_loss": 3.0}
    return [
        {**first, **change, "answer_loss": first["answer_loss"] + n / 10 + change.get("by", 0)}
        for n in range(8)
    ]


@pytest.fixture
def work_dir(tmp_path):
    """What notebooks 02 to 06 leave, and parity.json."""
    training = {
        "rows": 359, "steps": 45, "tokens": 41566, "seconds": 256.9, "device": "a CPU", "dtype": "bfloat16",
        "settings": {"lora_r": 8, "learning_rate": 0.001},
        "losses": [{"step": step, "loss": 4 - step / 10} for step in range(20)],
    }  # fmt: skip
    files.write_json(tmp_path / "training.json", training)
    known = [{"right": 1.0, "answer_loss": 2.0}] * 40
    scores = evaluation.compare(rows(), rows(by=-1.5)) | {
        "got_worse": 2,
        "knowledge": evaluation.compare(known, known, evaluation.KNOWLEDGE_METRICS),
        "judge": {"model": "gpt-4o-mini", "check": {"refused": "it is blind"}},
    }
    files.write_json(tmp_path / "evaluation.json", scores)
    rows_of = [{"question": n % 5, "largest difference": n / 100} for n in range(15)]
    files.write_json(tmp_path / "publish" / "parity.json", {"tolerance": 0.5, "rows": rows_of})
    sides = dict(zip(data.SPLITS, ([pair] for pair in some(3))))
    DatasetDict({side: Dataset.from_list(sides[side]) for side in sides}).save_to_disk(tmp_path / data.KEPT)
    # Each attempt has a row with the most that it can cost before it is sent, and one with what it did cost.
    attempt = {"model": "gpt-4o", "text": "", "prompt_tokens": 9, "completion_tokens": 9, "reason": ""}
    rows_of = [
        {**attempt, "key": key, "finish_reason": finish, "cost_usd": usd}
        for key, usd in (("a", 0.1), ("b", 0.03))
        for finish, usd in (("sent", 10 * usd), ("stop", usd))
    ]
    files.write_jsonl(tmp_path / "qa_journal.jsonl", rows_of)
    known = [{"review_id": name, "redacted": {"EMAIL": 1}} for pair in some(3) for name in pair["review_ids"]]
    files.write_jsonl(tmp_path / "reviews_clean.jsonl", known)
    return tmp_path


def test_the_card_says_what_went_in_what_it_cost_and_how_good_it_is(work_dir):
    card = cards.save(work_dir, shutil.copytree(models.SAMPLE_ADAPTER, work_dir / "adapter"), FORMS)
    assert (work_dir / "publish" / "README.md").read_text() == card
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["base_model"], front["license"], front["library_name"]) == (
        "google/gemma-3-270m",
        "gemma",
        "transformers",
    )
    for part in (
        "| trained on | 45 steps with 41,566 tokens, from 359 pairs |",
        "| loss, mean of 5 steps | 3.80 at the beginning, 2.30 at the end |",
        "| cost | $0.13 for the teacher |", "placeholders before a model saw the\n  reviews: 3 × EMAIL.",
        "Written by gpt-4o (3 pairs)", "On 8 held-out questions", "for 5 questions", "differed by at most 0.14 nats",
        "less likely for 2 of the 8", "about 40 questions", "| right answer preferred (share) | 1.00 | 1.00 |",
        "gpt-4o-mini is refused as a judge: it is blind",
        "Gemma Terms of Use found at ai.google.dev/gemma/terms", "`gguf` |", "What it should not be used for",
    ):  # fmt: skip
        assert part in card, part
    (line,) = [line for line in card.splitlines() if line.startswith("| answer loss")]
    assert line == "| answer loss (nats per token) | 3.350 | 1.850 | -1.500 (-1.500 … -1.500): better |"
    assert "Gemma Terms of Use" in (work_dir / "publish" / "NOTICE").read_text()
    assert list(dataset.scan(work_dir / "publish")) == []


def test_the_example_is_the_answer_with_the_most_facts_that_is_nearest_to_its_reference(work_dir):
    """It was the one with the shortest context, which ended in a sentence that nobody could read."""
    adapter = shutil.copytree(models.SAMPLE_ADAPTER, work_dir / "adapter")
    files.write_json(work_dir / "training.json", files.read_json(work_dir / "training.json") | {"settings": {
        "lora_r": 8, "learning_rate": 0.001, "open_book": True}})  # fmt: skip
    scores = files.read_json(work_dir / "evaluation.json")
    answers = [
        ("few facts", 0.5, 0.9, "a"),
        ("garbled", 1.0, 0.4, "b"),
        ("right", 1.0, 0.8, "a longer context"),
    ]
    scores["examples"] = [
        {"tuned": {"question": "Why?", "answer": text, "facts": facts, "rouge_l": rouge, "context": context}}
        for text, facts, rouge, context in answers
    ]
    files.write_json(work_dir / "evaluation.json", scores)
    assert "\n> right\n" in cards.model_card(work_dir, adapter, FORMS)


def test_what_is_not_known_is_called_so(tmp_path):
    shutil.copytree(models.SAMPLE_ADAPTER, tmp_path / "adapter")
    card = cards.model_card(tmp_path, tmp_path / "adapter", ["adapter", "parity"])
    for part in (
        "It was not evaluated",
        "Not recorded in this work_dir",
        "Whether it was taken out is not recorded",
        "Who wrote them is",
        "fine-tuned on pairs of questions and answers.",
    ):
        assert part in card, part
    assert not re.search("compan|Trustpilot|customer-reviews|placeholder", card)
    assert "`gguf`" not in card and yaml.safe_load(card.split("---\n")[1])["library_name"] == "peft"


def test_of_the_bundled_adapter_the_sample_is_known():
    card = cards.model_card(Path("nowhere"), models.SAMPLE_ADAPTER, ["adapter", "parity"])
    assert "**Where from.** The bundled sample: fictional reviews" in card and "sample (994 pairs)" in card
    assert "Whether it was taken out is not recorded" in card


def test_pairs_of_ones_own_are_not_called_reviews_although_work_dir_has_some(work_dir):
    """The card of a model trained on a file named the source, teacher and placeholders of what else lay there."""
    adapter = shutil.copytree(models.SAMPLE_ADAPTER, work_dir / "adapter")
    rows = [{"question": f"{n} of what is it?", "answer": f"So {n}."} for n in range(40)]
    files.write_jsonl(work_dir / "mine.jsonl", rows)
    data.load_qa_dataset(str(work_dir / "mine.jsonl"), work_dir)[0].save_to_disk(work_dir / data.KEPT)
    record = files.read_json(work_dir / "training.json") | {"data": "the file that the parameter names"}
    files.write_json(work_dir / "training.json", record)
    card = cards.model_card(work_dir, adapter, FORMS)
    assert (
        "**Where from.** The file that the parameter names." in card and "no payment for these pairs" in card
    )
    assert not re.search("compan|Trustpilot|customer-reviews|placeholder|gpt-4o \\(", card)


@pytest.mark.parametrize("name, number", [("training.json", "05"), ("evaluation.json", "06")])
def test_what_is_said_of_another_adapter_is_refused_by_name(work_dir, name, number):
    """An adapter trained after its evaluation got the scores of the one before it, and nobody said so."""
    adapter = shutil.copytree(models.SAMPLE_ADAPTER, work_dir / "adapter")
    record = files.read_json(work_dir / name)
    files.write_json(work_dir / name, record | {"adapter": files.fingerprint(adapter)})
    cards.save(work_dir, adapter, FORMS)
    files.write_text(adapter / "held_out.json", "trained again")
    with pytest.raises(ValueError, match=f"{name} is about another adapter .*run notebook {number}_"):
        cards.save(work_dir, adapter, FORMS)


def test_a_base_from_a_folder_of_ones_own_is_named_without_its_path(tmp_path):
    base = str(tmp_path / "private" / "my-gemma-3")
    files.write_json(tmp_path / "adapter" / "adapter_config.json", {"base_model_name_or_path": base})
    card = cards.model_card(tmp_path, tmp_path / "adapter", FORMS)
    assert "| base model | my-gemma-3 |" in card and str(tmp_path) not in card
    assert "base_model" not in yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize(
    "base, licence",
    [
        ("unsloth/gemma-3-4b-it-unsloth-bnb-4bit", "gemma"),
        ("unsloth/gemma-4-E2B-it", "other"),
        ("a/b", "other"),
    ],
)
def test_the_licence_is_that_of_the_base(tmp_path, base, licence):
    files.write_json(tmp_path / "adapter" / "adapter_config.json", {"base_model_name_or_path": base})
    card = cards.model_card(tmp_path, tmp_path / "adapter", FORMS)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == licence and front["base_model"] == base
    assert ("Gemma Terms of Use" in card.split("## Licence")[1]) == (licence == "gemma")
    assert "third party" not in card


def test_where_nothing_was_redacted_no_card_says_that_nothing_was_found(tmp_path):
    """With redact_pii off, both cards said that personal data was replaced, and that none was found."""
    pairs = [{"review_ids": [row["review_id"]]} for row in reviews.clean(reviews.sample()[:9])[0]]
    assert cards.redacted_in(tmp_path, pairs) is None
    for redact in (False, True):
        files.write_jsonl(tmp_path / "reviews_clean.jsonl", reviews.clean(reviews.sample()[:9], 3, redact)[0])
        assert (cards.redacted_in(tmp_path, pairs) is not None) == redact
    files.write_jsonl(tmp_path / "reviews_clean.jsonl", reviews.clean(reviews.sample()[9:20])[0])
    assert cards.redacted_in(tmp_path, pairs) is None, "those are other reviews, of another file perhaps"
