import json
import math

import pytest

from helpers import evaluation, models
from tests.fakes.openai_api import FakeOpenAI

PAIRS = [
    {"question": "Why?", "answer": "Because."},
    {"question": "What do customers of this company say?", "answer": "They like their bikes. They say so."},
    {"question": "How come?", "answer": "No idea."},
]


@pytest.fixture(scope="module")
def loaded(tiny_gemma):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(tiny_gemma), AutoTokenizer.from_pretrained(tiny_gemma)


def test_the_answer_loss_is_the_models_own_over_the_answer_only(loaded):
    import torch

    model, tokenizer = loaded
    measured = evaluation.answer_losses(model, tokenizer, PAIRS, batch_size=2)
    for pair, loss in zip(PAIRS, measured):
        ids = models.chat_ids(tokenizer, pair["question"], pair["answer"])
        prompt = len(models.chat_ids(tokenizer, pair["question"]))
        labels = torch.tensor([[-100] * prompt + ids[prompt:]])
        own = model(torch.tensor([ids]), labels=labels).loss.item()
        assert abs(own - loss) < 1e-4


def test_measure_has_every_metric_and_is_repeatable(loaded):
    first = evaluation.measure(*loaded, PAIRS, max_new_tokens=8)
    assert first == evaluation.measure(*loaded, PAIRS, max_new_tokens=8)
    assert all(set(evaluation.METRICS) <= set(row) for row in first)


def rows(losses: list[float]) -> list[dict]:
    return [{"question": "q", "answer_loss": x, "rouge_l": 1 / x, "chrf": 10 / x, "words": 5} for x in losses]


def test_a_better_model_is_called_better_and_its_worse_examples_are_listed():
    base, tuned = rows([4.0, 4.2, 3.9, 4.1, 4.0, 4.3]), rows([2.0, 2.1, 2.2, 4.5, 2.0, 2.2])
    result = evaluation.compare(base, tuned)
    assert result["base"]["answer_loss"] == pytest.approx(sum([4.0, 4.2, 3.9, 4.1, 4.0, 4.3]) / 6)
    assert result["tuned"]["perplexity"] == pytest.approx(math.exp(15 / 6))
    assert [row["verdict"] for row in evaluation.table(result)][:3] == ["better"] * 3
    assert [row["tuned loss"] for row in evaluation.got_worse(base, tuned)] == [4.5]


def test_no_difference_is_called_no_difference():
    base = rows([4.0, 3.0, 5.0, 4.0])
    result = evaluation.compare(base, rows([3.0, 4.0, 4.0, 5.0]))
    assert result["difference"]["answer_loss"]["low"] < 0 < result["difference"]["answer_loss"]["high"]
    assert evaluation.table(result)[0]["verdict"] == "no difference shown"
    assert evaluation.compare(base, base)["difference"]["answer_loss"] == {
        "mean": 0.0,
        "low": 0.0,
        "high": 0.0,
    }


def test_a_worse_model_is_called_worse():
    result = evaluation.compare(rows([2.0, 2.1, 2.2]), rows([4.0, 4.2, 3.9]))
    assert [row["verdict"] for row in evaluation.table(result)][:3] == ["worse"] * 3


def judged(server: FakeOpenAI, tmp_path, monkeypatch) -> dict:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", server.key)
    base = [{"question": f"q{n}", "reference": "r", "answer": "bad"} for n in range(4)]
    tuned = [{**row, "answer": "good"} for row in base]
    return evaluation.judge(base, tuned, "gpt-4o", tmp_path / "judge.jsonl")


def prefers_good(body: dict) -> str:
    text = body["messages"][-1]["content"]
    return json.dumps({"winner": "first" if "<first>\ngood" in text else "second"})


def test_the_judge_sees_both_orders(tmp_path, monkeypatch):
    with FakeOpenAI(reply=prefers_good) as server:
        assert judged(server, tmp_path, monkeypatch) == {"tuned": 4, "base": 0, "tie": 0}
        assert len(server.asked) == 8
        assert judged(server, tmp_path, monkeypatch)["tuned"] == 4
        assert len(server.asked) == 8, "a rerun paid again"


@pytest.mark.parametrize("reply", ['{"winner": "first"}', '{"winner": "tie"}', "The first one, clearly."])
def test_a_judge_that_only_looks_at_the_place_finds_ties(reply, tmp_path, monkeypatch):
    with FakeOpenAI(reply=lambda _: reply) as server:
        assert judged(server, tmp_path, monkeypatch) == {"tuned": 0, "base": 0, "tie": 4}
