"""parity: what is not the tuned model is named with its cause; rounding is not taken for a difference."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from helpers.core import files
from helpers.prove import chat
from helpers.publish import export, parity
from helpers.train import models
from tests.publish.test_export import tuned

BOS, STOP, END = 2, 5, 6
SAID = parity.Answer(
    prompt="<bos>ask", ids=[2, 7, 8, END], tokens=[10, 11, STOP], stops=True,
    likeliest=[{10: -0.1, 20: -3.0}, {11: -0.2, 20: -2.0}, {STOP: -0.1, 20: -4.0}],
)  # fmt: skip


def reason(other: parity.Answer, ours: parity.Answer = SAID) -> str:
    (row,) = parity.compare("form", [ours], [other], BOS, END)
    return row["wrong"]


def test_the_same_answer_passes_and_rounding_does():
    assert reason(SAID) == ""
    rounded = replace(SAID, likeliest=[{10: -0.3, 20: -3.0}, {11: -0.4, 20: -2.0}, {STOP: -0.2, 20: -4.0}])
    (row,) = parity.compare("form", [SAID], [rounded], BOS, END)
    assert (
        row["wrong"] == "" and row["largest difference"] == 0.2 and (row["same tokens"], row["of"]) == (3, 3)
    )


def test_answers_may_part_at_a_near_tie_and_nowhere_else():
    tie = replace(SAID, likeliest=[{10: -0.7, 20: -0.9}, *SAID.likeliest[1:]])
    parted = replace(SAID, tokens=[20, 30], likeliest=[{20: -0.7, 10: -0.8}, {30: -0.1}])
    assert reason(parted, tie) == ""
    assert "its weights are others: at token 0" in reason(parted)  # for ours it was no tie
    assert "at token 0" in reason(replace(parted, likeliest=[{20: -0.1, 10: -2.5}, {30: -0.1}]), tie)
    assert "at token 0" in reason(replace(parted, likeliest=[{20: -0.1, 40: -2.5}, {30: -0.1}]), tie)


def test_a_token_that_is_less_likely_is_seen_even_where_the_answer_is_the_same():
    unsure = replace(SAID, likeliest=[{10: -0.9, 20: -3.0}, *SAID.likeliest[1:]])
    assert "0.80 nats" in reason(unsure)


def test_a_doubled_bos_a_changed_template_other_tokens_and_a_missing_stop_are_told_apart():
    assert "begins with 2 <bos> tokens" in reason(
        replace(SAID, ids=[2, 2, 7, 8, END], prompt="<bos><bos>ask")
    )
    assert "begins with 0 <bos>" in reason(replace(SAID, ids=[7, 8, END]))
    assert "chat template makes another prompt: '<bos>asks'" in reason(replace(SAID, prompt="<bos>asks"))
    assert "splits the prompt into other tokens: [2, 7, 9, 6]" in reason(replace(SAID, ids=[2, 7, 9, END]))
    assert "does not know the stop token, 6," in reason(replace(SAID, ids=[2, 7, 8, 9]))
    assert "does not stop by itself where the adapter's" in reason(replace(SAID, stops=False))
    other_end = replace(SAID, tokens=[10, 11, 12], likeliest=[*SAID.likeliest[:2], {12: -0.1, 20: -3.0}])
    assert "its weights are others: at token 2" in reason(other_end)


def test_the_gate_names_every_form_and_cause_once():
    rows = [
        {"form": "merged", "wrong": "a"},
        {"form": "merged", "wrong": "a"},
        {"form": "gguf", "wrong": "b"},
    ]
    with pytest.raises(ValueError, match="(?s)Nothing may be published.*merged: a\n  gguf: b\nDelete"):
        parity.gate(rows)
    parity.gate([{"form": "merged", "wrong": ""}])


# ---- a tiny model, adapter and merged folder: the whole gate

QUESTIONS = ["what do customers say?", "bikes?"]
ALL = [*chat.QUESTIONS, parity.DIFFICULT]


@pytest.fixture(scope="module")
def model(tiny_gemma):
    return tuned(tiny_gemma)


@pytest.fixture
def published(model, tokenizer, tmp_path, monkeypatch):
    """A work_dir with a merged model. It is random and never stops, so the first token of its answer is the stop."""
    monkeypatch.setattr(parity, "TOKENS", 8)
    ((first,),) = models.generate_ids(model, tokenizer, [ALL[0]], 1)
    stops = [1, first]
    monkeypatch.setattr(models, "stop_ids", lambda _: stops)
    export.merge(model, tokenizer, tmp_path / "publish" / "merged")
    return tmp_path


def test_the_gate_passes_what_was_merged_from_this_adapter(model, tokenizer, published):
    rows = parity.check(model, tokenizer, published, ["adapter", "merged"], ALL)
    assert len(rows) == 2 * len(ALL) >= 10 and not any(row["wrong"] for row in rows)
    assert 0 < max(row["largest difference"] for row in rows) < parity.TOLERANCE
    assert (published / "publish" / "parity.json").exists()


def test_a_model_merged_from_another_adapter_is_refused_by_that_name(model, tokenizer, tiny_gemma, published):
    export.merge(tuned(tiny_gemma, seed=2), tokenizer, published / "publish" / "merged")
    with pytest.raises(
        ValueError, match="merged: 14 of its weights are not base . this adapter, such as model.layers"
    ):
        parity.check(model, tokenizer, published, ["adapter", "merged"], ALL)
    assert not (published / "publish" / "parity.json").exists()


@pytest.mark.parametrize(
    "old, new, cause",
    [
        ("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}", "begins with 2 <bos> tokens instead of one"),
        ("'<start_of_turn>model", "'<start_of_turn> model", "chat template makes another prompt"),
        ("| trim", "", "chat template makes another prompt: '<start_of_turn>user\\\\n  What"),
    ],
)
def test_a_template_that_was_changed_is_refused_by_that_name(model, tokenizer, published, old, new, cause):
    """The third change shows only in a question with spaces around it."""
    path = published / "publish" / "merged" / "chat_template.jinja"
    template = path.read_text()
    assert old in template
    files.write_text(path, template.replace(old, new))
    with pytest.raises(ValueError, match="merged: its") as said:
        parity.check(model, tokenizer, published, ["adapter", "merged"], ALL)
    assert cause.replace("\\\\", "\\") in str(said.value)


def test_a_merged_model_that_forgot_its_stop_token_is_refused(model, tokenizer, published):
    path = published / "publish" / "merged" / "generation_config.json"
    files.write_json(path, json.loads(path.read_text()) | {"eos_token_id": [1]})
    with pytest.raises(ValueError, match="merged: it does not stop by itself where the adapter's answer"):
        parity.check(model, tokenizer, published, ["adapter", "merged"], ALL)


def test_an_adapter_that_does_not_stop_is_refused(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "TO_THE_END", 4)
    with pytest.raises(ValueError, match="'What are common .* does not stop by itself within 4 tokens"):
        parity.check(model, tokenizer, tmp_path, ["adapter"], ALL)


def test_the_answers_are_the_models_own_greedy_ones(model, tokenizer, monkeypatch):
    monkeypatch.setattr(parity, "TOKENS", 8)
    answers = parity.from_model(model, tokenizer, models.stop_ids(tokenizer), [BOS, 7], QUESTIONS)
    plain = models.generate(model, tokenizer, QUESTIONS, max_new_tokens=8, batch_size=1)
    assert [tokenizer.decode(answer.tokens, skip_special_tokens=True).strip() for answer in answers] == plain
    for answer in answers:
        assert answer.ids.count(BOS) == 1 and len(answer.likeliest) >= len(answer.tokens)
        assert all(max(top, key=top.get) == token for top, token in zip(answer.likeliest, answer.tokens))
