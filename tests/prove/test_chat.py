"""Answers that stream, repeat and stop, from a random Gemma with a random adapter on it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest

from helpers.core import files
from helpers.prove import chat
from helpers.train import models
from tests.conftest import REPOSITORY


def last(*args, name="tuned", **settings) -> chat.Answer:
    return list(chat.stream(*args, **{"max_new_tokens": 12, **settings}))[-1][name]


def test_the_article_s_four_topics_are_the_default_questions():
    topics = ["complaints", "like most", "support", "pricing"]
    assert len(chat.QUESTIONS) == 4
    assert all(topic in question for topic, question in zip(topics, chat.QUESTIONS))


def test_the_same_seed_gives_the_same_answer(tuned):
    first, again = last(*tuned, "Why?"), last(*tuned, "Why?")
    assert first.text == again.text and first.tokens == again.tokens == 12
    assert last(*tuned, "Why?", seed=1).text != first.text


def test_temperature_0_is_the_greedy_answer(tuned):
    greedy = models.generate(*tuned, ["Why?"], max_new_tokens=12)[0].rstrip("\ufffd")
    assert last(*tuned, "Why?", temperature=0).text == greedy
    assert last(*tuned, "Why?").text != greedy


def test_a_whole_number_is_a_temperature_too(tuned):
    """transformers wants a float, and the page's slider gives 2 at its end: the answer never came."""
    assert last(*tuned, "Why?", temperature=2).text == last(*tuned, "Why?", temperature=2.0).text


def test_base_is_the_model_with_the_adapter_off(tuned):
    model, tokenizer = tuned
    with model.disable_adapter():
        base = models.generate(model, tokenizer, ["Why?"], max_new_tokens=12)[0].rstrip("\ufffd")
    assert last(*tuned, "Why?", temperature=0, name="base").text == base.rstrip("\ufffd")
    assert last(*tuned, "Why?", temperature=0).text != base


def test_an_answer_grows_and_its_last_state_has_everything(tuned):
    states = [answers["tuned"] for answers in chat.stream(*tuned, "Why?", max_new_tokens=12)]
    assert len(states) == 13
    assert [state.tokens for state in states] == sorted(state.tokens for state in states)
    assert all(late.text.startswith(early.text.strip()) for early, late in zip(states[:-1], states[1:-1]))
    assert not any(state.ended for state in states[:-1]) and states[-1].ended == "at max_new_tokens"
    assert states[-1].tokens_per_second == pytest.approx(12 / states[-1].seconds)


class Scripted:
    """In place of the model's choice: each row of the batch says its tokens."""

    def __init__(self, *rows: list[int]):
        self.rows, self.at = rows, 0

    def __call__(self, ids, scores):
        scores = scores.new_full(scores.shape, -float("inf"))
        for row, tokens in zip(scores, self.rows):
            row[tokens[min(self.at, len(tokens) - 1)]] = 0.0
        self.at += 1
        return scores


@pytest.mark.parametrize("early", ["tuned", "base"])
def test_an_answer_that_ends_its_turn_stopped_by_itself_while_the_other_goes_on(tuned, monkeypatch, early):
    model, tokenizer = tuned
    end, (word, other) = (
        models.stop_ids(tokenizer)[1],
        tokenizer("Yes no", add_special_tokens=False).input_ids[:2],
    )
    spoken = {name: [word, end] if name == early else [other] for name in chat.ROWS}
    monkeypatch.setattr(
        model, "generate", partial(model.generate, logits_processor=[Scripted(*spoken.values())])
    )
    states = list(chat.stream(model, tokenizer, "Why?", max_new_tokens=12))
    late = next(name for name in chat.ROWS if name != early)
    assert (states[-1][early].tokens, states[-1][early].ended) == (2, "by itself")
    assert states[-1][early].text == tokenizer.decode([word]).strip()
    assert (states[-1][late].tokens, states[-1][late].ended) == (12, "at max_new_tokens")
    assert states[1][early] == states[-1][early], "its time stands still"
    assert str(chat.Answer("Yes.", 30, 1.5, "by itself")) == "30 tokens, 20.0 per second, stopped by itself"


def test_a_letter_of_several_tokens_is_shown_when_it_is_whole(tuned, monkeypatch):
    model, tokenizer = tuned
    said = tokenizer("a 🜁🜂 b", add_special_tokens=False).input_ids
    script = Scripted(said, said)
    monkeypatch.setattr(model, "generate", partial(model.generate, logits_processor=[script]))
    states = [
        answers["tuned"].text for answers in chat.stream(model, tokenizer, "?", max_new_tokens=len(said))
    ]
    assert states[-1] == "a 🜁🜂 b" and not any("\ufffd" in text for text in states)
    assert len(said) > 5, "a letter here has more tokens than one"


def test_whoever_stops_reading_stops_the_generation(tuned):
    """A closed browser tab must not keep the model busy."""
    steps = []
    counter = tuned[0].register_forward_pre_hook(lambda *_: steps.append(1))
    reader = chat.stream(*tuned, "Why?", max_new_tokens=2000)
    next(reader)
    reader.close()
    counter.remove()
    assert len(steps) < 2000 and not chat.TURN.locked()
    assert last(*tuned, "Why?").tokens == 12, "the next question is answered"


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
        assert row[name] == last(*tuned, "Why?", name=name).text
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
