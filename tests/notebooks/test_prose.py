"""No sentence says what an output may contradict.

The cells of 05 to 07 that draw conclusions run on small made-up results: of a base that goes on writing, as on a
laptop, and of one that was taught to answer, as on a T4; where training helped, harmed and changed nothing. The text
around them is the same in all of these, so it must be true in all. And the numbers that the text gives are compared
with the outputs that are saved in the notebooks.
"""

from __future__ import annotations

import ast
import contextlib
import html
import inspect
import io
import json
import re
from types import SimpleNamespace

import pytest

from helpers.ask import qa
from helpers.clean import chunks, texts
from helpers.collect import review_files
from helpers.core import files
from helpers.pipeline import notebooks
from helpers.prove import chat, evaluation
from helpers.publish import parity
from helpers.train import models
from tests.notebooks.test_form import PATHS, REPOSITORY
from tests.notebooks.test_runs import text

STOPS = {"pretrained": 0.0, "instruct": 1.0}  # the share of the base's answers that end
GAIN = {"better": 1.0, "worse": -1.0, "no difference shown": 0.0}
# Sentences that stood in a notebook, or nearly, and for which kind of base and outcome they are false.
OUTCOMES = {
    r"was never taught|mostly repeats the prompt|goes on writing(?!;)": {"instruct"},
    r"has no idea|knows nothing": {"instruct"},
    r"cost no knowledge|knowledge is intact": {"worse"},
    r"got better|is better than before\b(?!\?)|speaks like an analyst": {"worse", "no difference shown"},
    r"every (question|answer) (improved|got)|all measures": {"worse", "no difference shown"},
    r"\d+ % (lower|higher|better|worse)": {*STOPS, *GAIN},
    r"which of the two (knows|stops)|only the tuned model stops": {"instruct"},
    r"joins not at all|which a small one hardly learns": {"better"},
    r"(an|one) answer in (ten|five)": {*STOPS},
}


def book(number: int):
    return notebooks.read(PATHS[number])


def prose(number: int) -> str:
    return "\n\n".join(cell.source for cell in book(number).cells if cell.cell_type == "markdown")


def shown(number: int, first: str, last: str, names: dict) -> str:
    """Markdown and outputs of a notebook from the cell with `first` to that with `last`, run with these names."""
    cells = book(number).cells
    begin, end = (
        next(at for at, cell in enumerate(cells) if cell.cell_type == "code" and part in cell.source)
        for part in (first, last)
    )
    said = []
    for cell in cells[begin : end + 1]:
        if cell.cell_type == "markdown":
            said.append(cell.source)
            continue
        *body, last_line = ast.parse(cell.source).body
        value = ast.Expression(last_line.value) if isinstance(last_line, ast.Expr) else None
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(ast.Module(body if value else [*body, last_line], []), "cell", "exec"), names)
            result = eval(compile(value, "cell", "eval"), names) if value else None
        said += [printed.getvalue(), getattr(result, "data", None) or ""]
    return "\n\n".join(said)


# ---- notebook 06


def row(at: int, quality: float, stopped: float) -> dict:
    """What `evaluation.measure` says of one answer; a higher `quality`, from -1 to 1, is better by every measure."""
    noise = 0.01 * (at % 3)
    return {
        "question": f"What of {at}?",
        "reference": f"It is number {at}, and that is all.",
        "answer": f"It is {at}",
        "kind": "review",
        "context": "It is.",
        "answer_loss": 2.0 - quality + noise,
        "end": 0.5 + 0.4 * quality,
        "rouge_l": 0.5 + 0.4 * quality - noise,
        "chrf": 50 + 40 * quality - noise,
        "stopped": stopped,
        "invented_number": (1 - quality) / 2,
        "invented_name": (1 - quality) / 2,
        "facts": 0.5 + 0.5 * quality,
        "words": 4,
        "distinct_2": 1.0,
        "copied": 0.05 + 0.05 * quality,
    }


def judged(base_kind: str, outcome: str) -> tuple[str, dict]:
    """Notebook 06 from its first table to the questions that changed sides, and what it worked with."""
    base = [row(at, 0.0, STOPS[base_kind]) for at in range(12)]
    tuned = [row(at, GAIN[outcome], 1.0) for at in range(12)]
    right = {"better": (0.0, 1.0), "worse": (1.0, 0.0), "no difference shown": (1.0, 1.0)}[outcome]
    knew, knows = (
        [
            {"question": f"{at}?", "chosen": f"{side}", "answer_loss": 2.0 - side, "right": right[side]}
            for at in range(40)
        ]
        for side in (0, 1)
    )
    for at in (0, 1):  # two change sides by chance, one each way
        knew[at]["right"], knows[at]["right"] = float(at), float(1 - at)
    answers = iter([knew, knows])
    names = dict(base=base, prompted=base, tuned=tuned, learned=["It is so, and that is all."])
    names |= dict(model=SimpleNamespace(disable_adapter=contextlib.nullcontext), tokenizer=None)
    names["test"] = [
        {"question": one["question"], "answer": one["reference"], "context": "It is."} for one in tuned
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "general_knowledge", lambda *_: next(answers))
        exec(next(cell.source for cell in book(6).cells if "from math import nan" in cell.source), names)
        return shown(6, "described = evaluation.describe", "changed = [", names), names


@pytest.mark.parametrize("outcome", GAIN)
@pytest.mark.parametrize("base_kind", STOPS)
def test_06_says_of_a_result_what_it_is(base_kind, outcome):
    said, names = judged(base_kind, outcome)
    # The summary, against the verdicts of the table's own rows.
    verdicts = [one["tuned − base"].rpartition(": ")[2] for one in evaluation.table(names["result"])]
    for word in set(verdicts) | set(GAIN):
        assert f"{word}, {verdicts.count(word)} of {len(verdicts)}: " in said
    assert verdicts.count(outcome) >= 8, "the made-up result is not what it should be"
    opposite = {"better": "worse", "worse": "better"}.get(outcome)
    assert not opposite or f"{opposite}, 0 of" in said or base_kind == "pretrained"
    assert f"The base ends {STOPS[base_kind]:.0%} of its answers by itself, the tuned model 100%" in said
    # What was forgotten: two of forty changed by chance, the others as the outcome says.
    lost, won = {"better": (1, 39), "worse": (39, 1), "no difference shown": (1, 1)}[outcome]
    assert f"{lost} turned wrong, {won} turned right: {outcome}" in said
    worse = {"better": 0, "worse": 12, "no difference shown": 0}[outcome]
    assert f"worse by answer loss (nats per token): {worse} of 12" in said
    shares = [f"{names['result'][side]['copied']:.0%}" for side in ("tuned", "reference")]
    assert f"Copied words: {shares[0]} in the tuned answers, {shares[1]} in the references" in said


# ---- notebooks 05 and 07


@pytest.mark.parametrize("losses, says", [
    ([2.0, 1.8, 1.5], "2.000 → 1.500, its best, at step 30, and still falling at the end"),
    ([2.0, 1.5, 1.8], "2.000 → 1.500, its best, at step 20, and not lower after that"),
    ([1.5, 1.8, 2.0], "1.500 → 1.500, its best, at step 10, and not lower after that"),
])  # fmt: skip
def test_05_says_whether_the_validation_loss_still_fell(losses, says, monkeypatch, tmp_path):
    log = [{"step": 10 * at, "loss": 3.0} for at in range(1, 4)]
    log += [{"step": 10 * at, "eval_loss": loss} for at, loss in enumerate(losses, 1)]
    names = {
        "trainer": SimpleNamespace(state=SimpleNamespace(global_step=30, log_history=log)),
        "run": tmp_path,
    }
    names |= {"folder": tmp_path, "plan": SimpleNamespace(peak_gb=1)}
    exec(next(cell.source for cell in book(5).cells if "import checkpoints" in cell.source), names)
    assert f"Validation loss {says}\n" in shown(5, "lowest = min(", "lowest = min(", names)


@pytest.mark.parametrize("tuned, base", [(4, 0), (4, 4), (0, 4), (0, 0)])
def test_07_says_who_stopped(tuned, base):
    def ends(count: int, at: int) -> str:
        return "by itself" if at < count else "at max_new_tokens"

    names = {
        "answers": [{"tuned_stopped": ends(tuned, at), "base_stopped": ends(base, at)} for at in range(4)]
    }
    said = shown(7, "chat.running_on(answers)", "chat.running_on(answers)", names | {"chat": chat})
    if tuned == 4:
        assert f"4 of 4 answers of the tuned model stopped by themselves, and {base} of the base's." in said
    else:
        assert "4 of 4 answers of the tuned model did not stop by themselves" in said


@pytest.mark.parametrize("number", [0, 5, 6, 7, 9])
def test_the_text_around_is_true_for_each_base_and_outcome(number):
    for claim, false_for in OUTCOMES.items():
        assert not (found := re.search(claim, prose(number))), f"{found[0]!r} is false for {false_for}"


# ---- the outputs that are saved in the notebooks, and the sample


def number_in(pattern: str, where: str) -> float:
    found = re.search(pattern, where)
    assert found, f"{pattern} is not there"
    return float(found[1].replace(",", ""))


def test_05_gives_the_time_and_memory_that_its_outputs_show():
    words, said = prose(5), text(book(5))
    steps = number_in(r"At most (\d+) steps;", said)
    took, peak, estimated = (
        number_in(pattern, said)
        for pattern in (r"([\d.]+) s of training", r"at the peak ([\d.]+) GB", r"estimated ([\d.]+) GB")
    )
    a_step, rows = took / steps, number_in(r"(\d+) rows fit", said)
    assert number_in(r"about ([\d.]+) seconds per step", words) == pytest.approx(a_step, rel=0.1)
    assert number_in(r": (\d+) minutes for the \d+ steps", words) == pytest.approx(took / 60, abs=1)
    assert number_in(r"minutes for the (\d+) steps", words) == steps
    at_once, batches = map(int, re.search(r"(\d) rows at once × (\d),", said).groups())
    in_words = {
        one: count for count, one in enumerate("zero one two three four five six seven eight".split())
    }
    assert in_words[re.search(r"per step of (\w+) rows?", words)[1]] == at_once * batches
    hours = 3 * rows / (at_once * batches) * a_step / 3600
    assert in_words[re.search(r"(\w+) hours? for three passes", words)[1]] == round(hours)
    assert number_in(r"\| ([\d.]+) GB \(measured\) \| free", words) == pytest.approx(peak, abs=0.1)
    assert number_in(r"([\d.]+) GB", models.KNOWN[0]["peak"]) == pytest.approx(peak, abs=0.1)
    assert abs(estimated - peak) / peak <= number_in(r"it was within (\d+) %", words) / 100


def test_03_gives_a_time_that_was_measured():
    measured = json.loads((REPOSITORY / "benchmarks" / "reviews_to_chunks.json").read_text("utf-8"))["03"]
    assert "half a minute at most for 100,000 reviews (measured)" in prose(3)
    assert measured["seconds"] * 100_000 / measured["reviews"] <= 30


def test_one_question_goes_all_the_way():
    """Its review in 01 to 03, its question from 04 on, and in 05 and 06 its reference as well."""
    *_, title = re.findall(r"review_title</td>\s*<td[^>]*>(.+?)</td>", text(book(1)))
    for number in (2, 3, 5, 8):
        assert f"- **Title**: {title}\n" in text(book(number)), number
    question = re.search(r"Held out, and followed from here: (.+)", text(book(4)))[1]
    reference = re.search(rf"{re.escape(question)}</td>\s*<td[^>]*>(.+?)</td>", text(book(4)))[1]
    for number in range(4, 9):
        said = html.unescape(text(book(number)))
        assert question in said and (number > 6 or html.unescape(reference) in said), number


@pytest.mark.parametrize("number", range(10))
def test_units_are_written_with_per(number):
    """`one call per chunk`, not `a call a chunk`."""
    what = r"calls?|lines?|sections?|process|bits|points?|records?|\d"
    unit = "review|chunk|question|line|GPU|weight|second"
    said = f"{prose(number)}\n{text(book(number))}"
    assert not (found := re.search(rf"\b({what}) a ({unit})\b", said)), found


def test_06_counts_the_questions_that_it_asks():
    asked = [int(count) for count in re.findall(r"(\d+) of \d+ of kind \w+", text(book(6)))]
    assert number_in(r"minutes for (\d+) questions, each answered three times", prose(6)) == sum(asked)


def test_07_asks_as_many_questions_as_it_says():
    in_words = {"four": 4, "five": 5, "six": 6}
    said = re.search(r"ask (\w+) questions", prose(7))[1]
    assert in_words[said] == number_in(r"\d of (\d) answers of the tuned model", text(book(7)))


def test_08_speaks_of_sizes_as_its_table_has_them():
    cells = re.findall(r">([\w/.-]+)</td>\s*<td[^>]*>([\d,.]+)<", text(book(8)))
    size = {name: float(number.replace(",", "")) / 1000 for name, number in cells}  # MB
    assert "the adapter's few megabytes, and beside them the tokenizer, which is larger" in prose(8)
    assert 1 < size["adapter/adapter_model.safetensors"] < 10
    assert size["adapter/tokenizer.json"] > size["adapter/adapter_model.safetensors"]


def test_what_the_text_says_of_the_sample_is_so():
    pairs = qa.sample_pairs(chunks.sample())
    answers = [pair["answer"] for pair in pairs[:-14:5]]
    assert {texts.language(answer) for answer in answers} == {"en"}
    assert "bundled pairs are in English" in prose(4) and "they are all in English" in prose(2)
    unnamed = sum("Velomarsh" not in pair["question"] for pair in pairs)
    assert unnamed and not re.search(r"[Ee]very question[^.]* names the company", prose(1) + prose(4))


def test_columns_that_are_named_as_examples_are_not_understood_without():
    known = [name.replace(" ", "") for names in review_files.OTHER_NAMES.values() for name in names]
    for column in re.findall(r'\{"(\w+)": "review_content"\}', prose(1)):
        assert column.lower() not in known, f"{column} needs no mapping"


@pytest.mark.parametrize("path, count", [("README.md", 4), ("docs/evidence.md", 11)])
def test_readme_and_evidence_have_the_numbers_of_notebook_06(path, count):
    """Each row of their tables, against the table by kind that notebook 06 shows."""
    kinds = {"a review": "review", "a topic's sheet": "topic", "the sheet of all reviews": "whole"}
    cells = (
        next(cell for cell in book(6).cells if "evaluation.TRUTH" in cell.source).outputs[0].data["text/html"]
    )
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", each) for each in re.findall(r"<tr>(.*?)</tr>", cells, re.S)]
    shown = {(row[0], row[1].partition(" (share")[0]): row[2:6] for row in rows}
    text = (REPOSITORY / path).read_text("utf-8")
    table = re.findall(r"^\| (\d+) about (.+?) \| (.+?) \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.M)
    assert len(table) == count and {kinds[about] for _, about, *_ in table} == set(kinds.values())
    for asked, about, measure, *numbers in table:
        name = measure.replace("answers with a number that the", "states a number that its")
        for mine, its in zip(numbers, shown[f"{kinds[about]} ({asked})", name]):
            assert mine == its == "" or abs(float(its) - float(mine)) <= 0.0051, (about, measure)


@pytest.mark.parametrize("path, count", [("docs/evidence.md", 8), ("notebooks/06_evaluate.ipynb", 5)])
def test_what_the_book_is_worth_is_told_as_it_was_measured(path, count):
    """Each row about the closed book, and about the open one on the same questions, against the benchmark."""
    measured = files.read_json(REPOSITORY / "benchmarks" / "open_book.json")["kinds"]
    kinds = {"a review": "review", "a topic's sheet": "topic", "the sheet of all reviews": "whole"}
    names = {"answer loss (nats per token)": "answer_loss", "facts named": "facts"}
    text = prose(6) if path.endswith("ipynb") else (REPOSITORY / path).read_text("utf-8")
    table = re.findall(
        r"^\| (\d+) about ([^|]+?) \| ([^|]+) \| ([\d.]+) \| ([\d.]+) \|(?: ([\d.]+) \|)?$", text, re.M
    )
    assert len(table) == count and {kinds[about] for _, about, *_ in table} == set(kinds.values())
    for asked, about, measure, opened, tuned, base in table:
        part, name = measured[kinds[about]], names.get(measure, "invented_number")
        assert part["count"] == int(asked) and abs(part["tuned"][name] - float(tuned)) <= 0.0051
        assert abs(part["open"][name] - float(opened)) <= 0.0051
        assert not base or abs(part["base"][name] - float(base)) <= 0.0051
    everyone = sum(part["count"] * part["tuned"]["invented_number"] for part in measured.values())
    assert f"{everyone:.0f} of its 32 answers state a number that their source lacks" in (
        REPOSITORY / "README.md"
    ).read_text("utf-8")
    assert all(part["tuned"]["stopped"] == 1 for part in measured.values())


def test_the_call_that_08_gives_to_try_the_gate_can_be_made():
    (given,) = re.findall(r"`(parity\.check\(.+?\))`", prose(8))
    inspect.signature(parity.check).bind(*ast.parse(given).body[0].value.args)
