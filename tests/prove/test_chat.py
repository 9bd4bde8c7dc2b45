"""Answers that stream, repeat and stop, from a random Gemma with a random adapter on it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from helpers.core import files
from helpers.prove import chat, search
from helpers.train import models
from tests.conftest import REPOSITORY


def last(*args, **settings) -> chat.Answer:
    return list(chat.stream(*args, **{"max_new_tokens": 12, **settings}))[-1]


def test_the_article_s_four_topics_are_the_default_questions():
    topics = ["complaints", "like most", "support", "pricing"]
    assert len(chat.QUESTIONS) == 4
    assert all(topic in question for topic, question in zip(topics, chat.QUESTIONS))


def test_the_same_seed_gives_the_same_answer(tuned):
    first, again = last(*tuned, "Why?"), last(*tuned, "Why?")
    assert first.text == again.text and first.tokens == again.tokens == 12
    assert last(*tuned, "Why?", seed=1).text != first.text


def test_temperature_0_is_the_greedy_answer(tuned):
    greedy = models.generate(*tuned, ["Why?"], max_new_tokens=12)[0]
    assert last(*tuned, "Why?", temperature=0).text == greedy
    assert last(*tuned, "Why?").text != greedy


def test_base_is_the_model_with_the_adapter_off(tuned):
    model, tokenizer = tuned
    with model.disable_adapter():
        base = models.generate(model, tokenizer, ["Why?"], max_new_tokens=12)[0]
    assert last(*tuned, "Why?", temperature=0, tuned=False).text == base
    assert last(*tuned, "Why?", temperature=0).text != base, "the adapter is on again"


def test_an_answer_grows_and_its_last_state_has_everything(tuned):
    states = list(chat.stream(*tuned, "Why?", max_new_tokens=12))
    assert len(states) > 3
    assert [state.tokens for state in states] == sorted(state.tokens for state in states)
    assert all(late.text.startswith(early.text.strip()) for early, late in zip(states[:-1], states[1:-1]))
    assert not any(state.ended for state in states[:-1]) and states[-1].ended == "at max_new_tokens"
    assert states[-1].tokens_per_second == pytest.approx(12 / states[-1].seconds)


def test_an_answer_that_ends_its_turn_stopped_by_itself(tuned):
    model, tokenizer = tuned
    end = models.stop_ids(tokenizer)[1]
    only = model.lm_head.register_forward_hook(
        lambda *call: torch.nn.functional.one_hot(torch.full(call[-1].shape[:-1], end), len(tokenizer)) * 1e9
    )
    answer = last(*tuned, "Why?")
    only.remove()
    assert (answer.text, answer.tokens, answer.ended) == ("", 1, "by itself")
    assert str(chat.Answer("Yes.", 30, 1.5, "by itself")) == "30 tokens, 20.0 a second, stopped by itself"


QUOTED = models.prompt("Why?", "bikes of this company, bikes of this company, what do customers say? " * 3)


def looks(model, *args, **settings) -> tuple[chat.Answer, int]:
    """The answer, and how often the model was run for it."""
    seen = []
    counter = model.register_forward_pre_hook(lambda *_: seen.append(1))
    answer = last(model, *args, **settings)
    counter.remove()
    return answer, len(seen)


@pytest.mark.parametrize("question", ["Why?", QUOTED], ids=["short", "past the window"])
@pytest.mark.parametrize("with_adapter", [True, False])
def test_guesses_leave_the_greedy_answer_as_it_is(tuned, question, with_adapter):
    """The window of the tiny Gemma is 64 tokens: a cache that forgets what a wrong guess pushed out fails here."""
    model, tokenizer = tuned
    with nullcontext() if with_adapter else model.disable_adapter():
        whole = models.generate(model, tokenizer, [question], max_new_tokens=150)[0]
    answer, seen = looks(*tuned, question, tuned=with_adapter, temperature=0, max_new_tokens=150)
    assert answer.text == whole and answer.tokens == 150
    assert seen < 150, "no guess was right, so that this proves nothing"


@pytest.mark.parametrize("right", [True, False])
def test_wrong_guesses_cost_looks_and_change_nothing(tuned, monkeypatch, right):
    ids = models.generate_ids(*tuned, ["Why?"], max_new_tokens=100)[0]
    asked = len(models.chat_ids(tuned[1], "Why?"))

    def guess(so_far, ends, most):
        coming = ids[len(so_far) - asked :][:most]
        return coming if right else [*coming[:2], *(token + 1 for token in coming[2:])]

    monkeypatch.setattr(chat, "guess", guess)
    answer, seen = looks(*tuned, "Why?", temperature=0, max_new_tokens=100)
    assert answer.text == models.texts(tuned[1], [ids])[0]
    assert seen == (17 if right else 34)  # 6 tokens a look, or 3


def test_a_guess_is_what_followed_before_and_holds_no_end():
    assert chat.guess([5, 6, 7, 8, 9, 5, 6], [1], 2) == [7, 8]
    assert chat.guess([5, 6, 7, 1, 9, 5, 6], [1], 4) == [7]
    assert chat.guess([4, 6, 7, 3, 5, 6, 8, 3, 5, 6], [1], 1) == [8], "three alike come before two"
    assert chat.guess([5, 6, 7, 8], [1], 4) == chat.guess([5, 6, 7, 5, 6], [1], 0) == []


def warped(logits, temperature, top_p, top_k):
    """The odds by Transformers' own warpers."""
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    for warper in (TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)):
        logits = warper(None, logits)
    return logits.softmax(-1)


@pytest.mark.parametrize("settings", [(0.7, 0.95, 64), (1.3, 1.0, 3), (1.0, 0.3, 64), (2.0, 0.9, 256)])
def test_the_odds_are_those_of_transformers(settings):
    logits, draws = torch.randn(1, 512, generator=torch.Generator().manual_seed(1)) * 2, 50_000
    odds = warped(logits, *settings)[0]
    drawn = chat.choose(logits.expand(draws, -1), torch.Generator().manual_seed(2), *settings)
    shares = torch.bincount(torch.tensor(drawn), minlength=512) / draws
    assert not shares[odds == 0].any() and (shares - odds).abs().max() < 0.01


def test_guesses_leave_the_odds_as_they_are(tuned, monkeypatch):
    """Of three words at each of two places; the guess is always the same, and likely or not."""
    model, tokenizer = tuned
    settings, draws, asked = (
        dict(temperature=1.5, top_p=1.0, top_k=3),
        600,
        models.chat_ids(tokenizer, "Why?"),
    )

    def odds(*said):
        with torch.inference_mode():
            return warped(model(torch.tensor([[*asked, *said]])).logits[:, -1], 1.5, 1.0, 3)[0]

    first = odds()
    wanted = {(a, b): (first[a] * odds(a)[b]).item() for a in first.topk(3)[1].tolist() for b in range(512)}
    wanted = {said: share for said, share in wanted.items() if share}
    guessed = max(wanted, key=wanted.get)
    monkeypatch.setattr(chat, "guess", lambda ids, ends, most: [*guessed][len(ids) - len(asked) :][:most])
    said = []
    monkeypatch.setattr(models, "texts", lambda tokenizer, answers: said.append(tuple(answers[0])) or [""])
    for seed in range(draws):
        last(*tuned, "Why?", max_new_tokens=2, seed=seed, **settings)
    shares = {pair: said.count(pair) / draws for pair in wanted}
    assert sum(shares.values()) == pytest.approx(1)
    assert all(abs(shares[pair] - share) < 0.07 for pair, share in wanted.items()), (shares, wanted)


def test_the_real_gemma_says_what_it_says_without_guesses(real_gemma):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_gemma)
    model = AutoModelForCausalLM.from_pretrained(real_gemma, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, models.SAMPLE_ADAPTER).eval()
    question = search.prompts(models.SAMPLE_ADAPTER, chat.QUESTIONS[:1])[0]
    answer, seen = looks(model, tokenizer, question, temperature=0, max_new_tokens=32)
    assert answer.text == models.generate(model, tokenizer, [question], max_new_tokens=32)[0]
    assert seen < 28, "its answer quotes the sheet"


def test_whoever_stops_reading_stops_the_generation(tuned):
    """A closed browser tab must neither keep the model busy nor leave its adapter off."""
    steps = []
    counter = tuned[0].register_forward_pre_hook(lambda *_: steps.append(1))
    reader = chat.stream(*tuned, "Why?", tuned=False, max_new_tokens=2000)
    next(reader)
    reader.close()
    counter.remove()
    assert len(steps) < 2000 and not chat.TURN.locked()
    after, base = last(*tuned, "Why?", temperature=0), last(*tuned, "Why?", temperature=0, tuned=False)
    assert after.text != base.text, "the adapter is on again"


def test_an_error_while_streaming_reaches_the_reader(tuned):
    """Raised in the generating thread, it once left the reader waiting for ever."""
    with pytest.raises(ValueError, match="temperature"):
        last(*tuned, "Why?", temperature=-1.0)
    with pytest.raises(ValueError, match="question is empty"):
        last(*tuned, " ")
    assert last(*tuned, "Why?").tokens == 12, "the next question is answered"


def test_side_by_side_prints_both_and_returns_a_row(tuned, capsys):
    row = chat.side_by_side(*tuned, "Why?", max_new_tokens=12)
    said = capsys.readouterr().out
    assert said.startswith("❯ Why?\n") and said.index("tuned: ") < said.index("base: ")
    assert said.count("[12 tokens, ") == 2 and said.count("stopped at max_new_tokens]") == 2
    for name in ("tuned", "base"):
        assert row[name] == last(*tuned, "Why?", tuned=name == "tuned").text
        assert row[f"{name}_tokens"] == 12 and row[f"{name}_stopped"] == "at max_new_tokens"
        assert row[f"{name}_tokens_per_second"] > 0
    assert row["tuned"] != row["base"]


CUT, ENDED = ({"tuned_stopped": how} for how in ("at max_new_tokens", "by itself"))


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ([ENDED] * 4, False),
        ([CUT] + [ENDED] * 3, False),
        ([CUT] * 2 + [ENDED] * 2, True),
        ([CUT] * 4, True),
        ([CUT], False),
        ([CUT] * 2, True),
        ([CUT] * 3 + [ENDED] * 9, False),
        ([CUT] * 4 + [ENDED] * 8, True),
    ],
)
def test_answers_that_run_on_are_said_with_the_fix(answers, wrong):
    said = chat.running_on(answers)
    assert said.startswith(f"{answers.count(CUT)} of {len(answers)} answers") is wrong is bool(said)
    assert not wrong or "run notebook 05 again" in said and "raise max_new_tokens" in said


def test_the_demo_fails_where_its_answers_run_on(tmp_path):
    for answers, status in (([ENDED] * 4, 0), ([CUT] * 3 + [ENDED], 1)):
        files.write_jsonl(tmp_path / "answers.jsonl", answers)
        command = [sys.executable, "-m", "helpers.prove.chat", str(tmp_path / "answers.jsonl")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode == status and ("3 of 4 answers" in done.stderr) is bool(status)
