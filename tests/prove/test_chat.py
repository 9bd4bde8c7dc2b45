"""Answers that stream, repeat and stop, from a random Gemma with a random adapter on it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helpers.core import files
from helpers.prove import chat
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


def test_a_whole_number_is_a_temperature_too(tuned):
    """transformers wants a float, and the page's slider gives 2 at its end: the answer never came."""
    assert last(*tuned, "Why?", temperature=2).text == last(*tuned, "Why?", temperature=2.0).text


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
    model.generation_config.suppress_tokens = [token for token in range(len(tokenizer)) if token != end]
    try:
        answer = last(*tuned, "Why?")
    finally:
        model.generation_config.suppress_tokens = models.stop_ids(tokenizer)
    assert (answer.text, answer.tokens, answer.ended) == ("", 1, "by itself")
    assert str(chat.Answer("Yes.", 30, 1.5, "by itself")) == "30 tokens, 20.0 per second, stopped by itself"


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
