import math

import pytest

from helpers.core import files
from helpers.prove import evaluation
from helpers.train import models

CONTEXT = "Company: Velomarsh\n\nAnna waited 62 days for the Howler, and 41 % of others did."
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
    """Also where pairs share a sheet that is longer than the sliding window, and where one begins as another."""
    import torch

    model, tokenizer = loaded
    sheet = [pair | {"question": f"{CONTEXT * 3} {pair['question']}"} for pair in PAIRS]
    pairs = [*sheet, *PAIRS, PAIRS[0] | {"answer": "Because of it."}]
    assert len(models.chat_ids(tokenizer, CONTEXT * 3)) > 2 * model.config.sliding_window
    for pair, nats in zip(pairs, evaluation.answer_nats(model, tokenizer, pairs, batch_size=2)):
        ids = models.chat_ids(tokenizer, pair["question"], pair["answer"])
        prompt = len(models.chat_ids(tokenizer, pair["question"]))
        labels = torch.tensor([[-100] * prompt + ids[prompt:]])
        loss = model(torch.tensor([ids]), labels=labels).loss.item()
        assert abs(loss - sum(nats) / len(nats)) < 1e-4


def test_measure_has_every_metric_and_is_repeatable(loaded):
    first = evaluation.measure(*loaded, PAIRS, max_new_tokens=8)
    assert first == evaluation.measure(*loaded, PAIRS, max_new_tokens=8)
    of_context = {"invented_number", "invented_name", "facts"}
    assert all(set(evaluation.METRICS) - {"perplexity", *of_context} <= set(row) for row in first)
    assert [row["stopped"] for row in first] == [0.0] * 3
    nats = evaluation.answer_nats(*loaded, PAIRS)  # the last token of an answer ends its turn
    assert [row["end"] for row in first] == pytest.approx([math.exp(-tokens[-1]) for tokens in nats])
    assert all(0 < row["end"] < 0.1 for row in first)


def test_an_answer_that_ends_its_turn_stops_by_itself_and_one_that_is_cut_off_does_not(loaded, monkeypatch):
    model, tokenizer = loaded
    end = models.stop_ids(tokenizer)[1]
    word = tokenizer("bikes", add_special_tokens=False).input_ids
    monkeypatch.setattr(models, "generate_ids", lambda *_, **__: [[*word, end], word, [end]])
    rows = evaluation.measure(model, tokenizer, PAIRS)
    assert [row["stopped"] for row in rows] == [1.0, 0.0, 1.0]
    assert [row["answer"] for row in rows] == ["bikes", "bikes", ""]


def test_rouge_and_chrf_are_those_of_the_libraries_in_any_script(loaded, monkeypatch):
    """rouge-score's own tokenizer knows a to z and digits: two equal Chinese answers scored 0."""
    model, tokenizer = loaded
    answers = ["送货很慢，没有人说明原因。", "Die Lieferung kam spät.", "They waited for their bikes."]
    references = [answers[0], "Die Lieferung kam zu spät.", "They waited two weeks for their bike."]
    monkeypatch.setattr(models, "generate_ids", lambda *_, **__: [[5]] * 3)
    monkeypatch.setattr(tokenizer.__class__, "batch_decode", lambda *_, **__: answers)
    pairs = [{"question": "Why?", "answer": reference} for reference in references]
    rows = evaluation.measure(model, tokenizer, pairs)
    assert rows[0]["rouge_l"] == 1.0 and rows[0]["chrf"] == pytest.approx(100)
    assert rows[1]["rouge_l"] == pytest.approx(2 * 4 / (4 + 5))  # 4 words in common, in order
    assert rows[2]["rouge_l"] == pytest.approx(2 * 5 / (5 + 7)), "bike and bikes are one stem"


def test_repetition_and_what_is_copied_from_training_answers():
    learned = "Velomarsh should send proactive updates as soon as a date is at risk, and say why."
    copy = "Well, Velomarsh should send proactive updates as soon as they know more."
    circle = "and so on " * 20
    rows = evaluation.describe([copy, circle, "", learned, "Nothing of it."], [learned, "Other."])
    assert [row["words"] for row in rows] == [12, 60, 0, 16, 3]
    assert rows[0]["copied"] == pytest.approx(8 / 12), "the eight words from Velomarsh to as"
    assert [row["copied"] for row in rows[1:]] == [0, 0, 1, 0]
    assert rows[1]["distinct_2"] == pytest.approx(3 / 59) and rows[3]["distinct_2"] == 1


def test_a_run_of_seven_words_is_not_copied():
    learned = "one two three four five six seven eight"
    assert evaluation.describe(["one two three four five six seven nine"], [learned])[0]["copied"] == 0


def rows(losses: list[float]) -> list[dict]:
    same = {"question": "q", "words": 5, "end": 0.5, "stopped": 1.0, "distinct_2": 0.9, "copied": 0.0}
    return [{**same, "answer_loss": x, "rouge_l": 1 / x, "chrf": 10 / x} for x in losses]


def verdicts(result: dict) -> dict[str, str]:
    """Of the difference to the base, by metric."""
    names = {label: name for name, (label, _, _) in evaluation.METRICS.items()}
    return {
        names[row["measure"]]: row["tuned − base"].rpartition(": ")[2] for row in evaluation.table(result)
    }


QUALITY = ("answer_loss", "perplexity", "rouge_l", "chrf")


def test_a_better_model_is_called_better_and_its_worse_examples_are_counted():
    base, tuned = rows([4.0, 4.2, 3.9, 4.1, 4.0, 4.3]), rows([2.0, 2.1, 2.2, 4.5, 2.0, 2.2])
    tuned[0]["chrf"] = 0.1
    result = evaluation.compare(base, tuned)
    assert result["base"]["answer_loss"] == pytest.approx(sum([4.0, 4.2, 3.9, 4.1, 4.0, 4.3]) / 6)
    assert result["tuned"]["perplexity"] == pytest.approx(math.exp(15 / 6))
    assert [verdicts(result)[metric] for metric in QUALITY[:3]] == ["better"] * 3
    assert result["worse"] == {"answer_loss": 1, "rouge_l": 1, "chrf": 2, "end": 0, "stopped": 0}


def test_no_difference_is_called_no_difference():
    base = rows([4.0, 3.0, 5.0, 4.0])
    result = evaluation.compare(base, rows([3.0, 4.0, 4.0, 5.0]))
    assert result["difference"]["answer_loss"]["low"] < 0 < result["difference"]["answer_loss"]["high"]
    assert set(verdicts(result).values()) == {"no difference shown"}
    same = evaluation.compare(base, base)
    assert all(change == {"mean": 0.0, "low": 0.0, "high": 0.0} for change in same["difference"].values())


def test_a_worse_model_is_called_worse():
    result = evaluation.compare(rows([2.0, 2.1, 2.2] * 2), rows([4.0, 4.2, 3.9] * 2))
    assert [verdicts(result)[metric] for metric in QUALITY] == ["worse"] * 4


@pytest.mark.parametrize(
    "count, verdict", [(1, "no difference shown"), (5, "no difference shown"), (6, "better")]
)
def test_a_handful_of_questions_shows_no_difference(count, verdict):
    """Of one held-out question the interval was a point, and the model "better"."""
    result = evaluation.compare(rows([3.0] * count), rows([1.0] * count))
    assert verdicts(result)["answer_loss"] == verdict


def test_the_references_means_stand_beside_those_of_the_models():
    reference = evaluation.describe(["one two three", "one"])
    result = evaluation.compare(rows([2.0]), rows([1.0]), reference=reference)
    shown = {row["measure"]: row["reference"] for row in evaluation.table(result)}
    assert shown[evaluation.METRICS["words"][0]] == "2" and shown[evaluation.METRICS["chrf"][0]] == ""


@pytest.mark.parametrize("answer, number, name, facts", [
    ("In 62 days she got the Howler at Velomarsh.", 0, 0, 0.5),
    ("41 % of customers waited 62 days.", 0, 0, 1),
    ("They waited 63 days, says Anna.", 1, 0, 0),
    ("They sent a Trail to Utrecht.", 0, 1, 0),
    ("Velomarsh waits. Customers wait.", 0, 0, 0),
])  # fmt: skip
def test_what_is_counted_of_truth(answer, number, name, facts):
    pair = {
        "question": "How long?",
        "answer": "62 days, for 41 %.",
        "context": CONTEXT,
        "facts": ["62", "41 %"],
    }
    assert evaluation.truth(pair, answer) == {
        "invented_number": number,
        "invented_name": name,
        "facts": facts,
    }
    assert "facts" not in evaluation.truth(pair | {"facts": []}, answer)
    assert evaluation.truth(pair | {"context": ""}, answer) == {}
    recited = "So it goes on and on, for many words: " + answer
    assert evaluation.truth(pair, recited)["facts"] <= facts, "who recites names nothing in time"


def test_a_context_stands_in_the_prompt_with_an_open_book_and_examples_before_it(loaded, monkeypatch):
    model, tokenizer = loaded
    seen, generate = [], model.generate
    monkeypatch.setattr(model, "generate", lambda **options: seen.append(options) or generate(**options))
    pair = {
        "question": "How long?",
        "answer": "62 days.",
        "context": CONTEXT,
        "id": "1",
        "chunk_id": "c",
        "kind": "review",
    }
    shots = evaluation.examples([pair | {"answer": "By then."}], True)
    assert shots == [(models.prompt("How long?", CONTEXT), "By then.")]
    rows = [evaluation.measure(model, tokenizer, [pair], open_book=book, examples=before, max_new_tokens=4)
            for book, before in ((True, ()), (False, ()), (True, shots))]  # fmt: skip
    texts = [tokenizer.decode(options["input_ids"][0]) for options in seen]
    assert ["Anna waited" in text for text in texts] == [True, False, True]
    assert texts[2].count("<context>") == 2 and texts[2].index("By then.") < texts[2].rindex("<context>")
    assert len({row[0]["answer_loss"] for row in rows}) == 3 and all(
        "invented_number" in row[0] for row in rows
    )


def test_examples_that_are_read_once_change_neither_losses_nor_answers(loaded, monkeypatch):
    """Longer than the sliding window, before questions of other lengths, alone in a batch too."""
    model, tokenizer = loaded
    pairs = [
        pair | {"question": pair["question"] + " And why?" * n} for n, pair in enumerate([*PAIRS, *PAIRS])
    ]
    shots = [(CONTEXT * 3, "By then."), ("How long?", "62 days.")]
    assert len(models.chat_ids(tokenizer, "", examples=shots)) > 2 * model.config.sliding_window

    def both(batch_size: int) -> tuple:
        nats = evaluation.answer_nats(model, tokenizer, pairs, batch_size, shots)
        asked = [pair["question"] for pair in pairs]
        return nats, models.generate_ids(model, tokenizer, asked, 12, batch_size, shots)

    sizes = []
    count = lambda module, args, options: sizes.append((*args, options.get("input_ids"))[0].numel())  # noqa: E731
    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    for batch_size in (3, 1):
        once, answers = both(batch_size)
        few = sum(sizes)
        sizes.clear()
        with monkeypatch.context() as patch:
            patch.setattr(models, "batch_of", lambda *three, batch=models.batch_of: batch(*three[:3]))
            whole, others = both(batch_size)
        assert answers == others and (few < sum(sizes) / 1.5 or batch_size == 1)
        assert [sum(row) for row in once] == pytest.approx([sum(row) for row in whole], rel=1e-5)
        sizes.clear()
    hook.remove()


def test_the_examples_are_the_shortest_of_each_kind_in_turn():
    pairs = [
        {"id": f"{kind}{size}", "kind": "review" if kind == "review" else "overview", "chunk_id": f"{kind}-1"}
        | {"question": f"{kind} {size}?", "answer": "So.", "context": "long " * size}
        for kind in ("review", "topic", "part") for size in (3, 1, 2)
    ]  # fmt: skip
    asked = [prompt.splitlines()[-1] for prompt, _ in evaluation.examples(pairs, True)]
    assert sorted(asked) == ["part 1?", "review 1?", "topic 1?"]
    assert len(evaluation.examples(pairs[:1], False)) == 1


def test_the_base_with_examples_and_each_kind_have_columns_of_their_own():
    base, tuned = rows([4.0, 4.2, 3.9, 4.1]), rows([2.0, 2.1, 2.2, 2.3])
    for number, (before, after) in enumerate(zip(base, tuned)):
        kind = "review" if number < 2 else "whole"
        before |= {"kind": kind, "invented_number": 1.0} | ({"facts": 0.1} if kind == "whole" else {})
        after |= {"kind": kind, "invented_number": 0.0} | ({"facts": 0.9} if kind == "whole" else {})
    prompted = [row | {"answer_loss": 3.0} for row in base]
    result = evaluation.compare(base, tuned, prompted=prompted)
    shown = {row["measure"]: row for row in evaluation.table(result)}
    loss, facts = (shown[evaluation.METRICS[name][0]] for name in ("answer_loss", "facts"))
    assert loss["base with examples"] == "3.000" and loss["tuned − with examples"].startswith("-0.850 (")
    assert facts["base"] == "0.10" and facts["tuned"] == "0.90", "taken over the rows that have facts"
    kinds = evaluation.by_kind(base, tuned, [{"words": 5}] * 4, prompted)
    assert {kind: part["count"] for kind, part in kinds.items()} == {"review": 2, "whole": 2}
    assert "facts" not in kinds["review"]["difference"] and kinds["whole"]["tuned"]["facts"] == pytest.approx(
        0.9
    )


def test_the_interval_holds_the_true_difference_about_95_times_in_100():
    """Paired, as the questions differ more than the models: unpaired intervals would be 10 times as wide."""
    import numpy as np

    draw, held, widths = np.random.default_rng(1), 0, []
    for _ in range(200):
        hard = draw.normal(4.0, 1.0, 60)
        found = evaluation.paired_interval(hard, hard - 0.5 + draw.normal(0, 0.2, 60), samples=500)
        held += found["low"] <= -0.5 <= found["high"]
        widths.append(found["high"] - found["low"])
    assert 180 <= held <= 198 and np.mean(widths) == pytest.approx(2 * 1.96 * 0.2 / 60**0.5, rel=0.1)


def test_the_perplexitys_interval_is_that_of_exp():
    before, after = [3.0, 3.5, 4.0] * 2, [2.0, 2.5, 3.0] * 2
    found = evaluation.paired_interval(before, after, math.exp)
    assert found["mean"] == pytest.approx(math.exp(2.5) - math.exp(3.5)) and found["high"] < 0
    assert math.exp(2) - math.exp(3) > found["mean"] > found["low"] >= math.exp(3) - math.exp(4)


def test_general_knowledge_is_checked_and_fair():
    """40 questions, each with one right and three wrong answers, and no question twice."""
    questions = files.read_jsonl(evaluation.KNOWLEDGE)
    assert len(questions) == 40 == len({row["question"] for row in questions})
    for row in questions:
        assert len({row["right"], *row["wrong"]}) == 4 and row["sentence"].count("{}") == 1
        assert row["question"].endswith("?") and row["sentence"].endswith(".")


def test_the_right_answer_is_the_one_with_the_highest_probability(loaded, monkeypatch, tmp_path):
    """The probability of the whole sentence, not the mean a token: a long wrong name must not win by dilution."""
    rows = [
        {"question": "a?", "sentence": "It is {}.", "right": "A", "wrong": ["B", "C", "D"]},
        {"question": "b?", "sentence": "It is {}.", "right": "A", "wrong": ["B", "C", "D"]},
    ]
    files.write_jsonl(tmp_path / "facts.jsonl", rows)
    asked = []

    def nats(model, tokenizer, pairs, batch_size):
        asked.extend(pairs)
        return [[1.0, 1.0], [0.9, 0.9, 0.9], [3.0], [4.0], [1.0, 2.0], [2.9], [9.0], [9.0]]

    monkeypatch.setattr(evaluation, "answer_nats", nats)
    assert evaluation.general_knowledge(*loaded, tmp_path / "facts.jsonl") == [
        {"question": "a?", "chosen": "A", "answer_loss": 1.0, "right": 1.0},
        {"question": "b?", "chosen": "B", "answer_loss": 1.5, "right": 0.0},
    ]
    assert [pair["answer"] for pair in asked[:2]] == ["It is A.", "It is B."]
