"""The report page in a real browser: its length, what it says of which numbers, and what it leaves out."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import expect

from helpers.core import files, plots, workdir
from helpers.pipeline import report

MEASURES = {
    "answer_loss": (2.0, 1.0),
    "rouge_l": (0.2, 0.4),
    "chrf": (30.0, 50.0),
    "invented_number": (0.5, 0.25),
    "facts": (0.25, 0.5),
    "stopped": (0.0, 1.0),
}


def change(mean: float, spread: float) -> dict:
    return {"mean": mean, "low": mean - spread, "high": mean + spread}


def part(count: int, spreads: dict | None = None) -> dict:
    """What `evaluation.compare` gives; `spreads` are half the widths of intervals, by default too small to matter."""
    spreads = spreads or {}
    sides = {
        side: {name: pair[at] for name, pair in MEASURES.items()} for at, side in enumerate(("base", "tuned"))
    }
    changes = {name: change(b - a, spreads.get(name, 0.01)) for name, (a, b) in MEASURES.items()}
    prompted = {"prompted": dict(sides["base"]), "over_prompted": dict(changes)}
    return {"count": count, **sides, "difference": changes, "worse": dict.fromkeys(MEASURES, 1), **prompted}


def example(kind: str, words: int = 12) -> dict:
    rows = {}
    for side in ("base", "prompted", "tuned"):
        row = {
            "question": f"What do customers say of {kind}? " * (words // 8),
            "reference": "Customers wait for it. " * words,
            "kind": kind,
        }
        row |= {"answer": f"The {side} model answers this. " * words, "context": "A long context. " * words}
        rows[side] = row | {
            "facts": 0.5,
            "invented_number": 0.0,
            "stopped": float(side == "tuned"),
            "words": 9,
        }
    return rows


def evaluation(words: int = 12, **more) -> dict:
    kinds = {"review": part(12), "topic": part(12, {"facts": 9.0}), "whole": part(8)}
    knowledge = {"count": 40, "base": {"right": 0.8}, "tuned": {"right": 0.7}, "worse": {"right": 5}}
    knowledge["difference"] = {"right": change(-0.1, 0.2)}
    examples = [example(kind, words) for kind in ("review", "review", "topic", "whole")]
    found = {"kinds": kinds, "got_worse": 3, "knowledge": knowledge, "examples": examples}
    return part(32, {"facts": 9.0}) | found | more


TRAINING = {
    "model_name": "local-gemma-3-270m",
    "device": "CPU, 2 threads",
    "steps": 48,
    "seconds": 960.0,
    "memory_gb": {"estimated": 3.98, "measured": 4.21},
    "settings": {"open_book": True},
    "pairs": {"train": 600, "validation": 20, "test": 90},
    "losses": [{"step": step, "loss": 3 - step / 30} for step in range(1, 49)],
    "validation_losses": [{"step": step, "loss": 3 - step / 30} for step in (10, 20, 30, 40)],
}
ROWS = dict(reviews=326, rejected=7, reviews_clean=291, removed=35, chunks=297, qa_pairs=770)


def executed(work_dir, name: str) -> None:
    cells = [new_markdown_cell(f"# The title of {name}\n\n" + "A sentence of prose. " * 300)]
    cells += [
        new_markdown_cell("## Parameters"),
        new_code_cell("size = 1", metadata={"tags": ["parameters"]}),
    ]
    printed = [new_output("stream", name="stdout", text="a line\n" * 200)]
    cells += [
        new_code_cell("show()", outputs=printed),
        new_markdown_cell("<details><summary>Q</summary>\n\nA\n\n</details>"),
    ]
    ran = {"papermill": {"duration": 61.0, "parameters": {"work_dir": "x", "size": 2}}}
    nbformat.write(new_notebook(cells=cells, metadata=ran), work_dir / "executed" / f"{name}.ipynb")


@pytest.fixture
def work_dir(tmp_path):
    """A whole run with texts as long as they get."""
    (tmp_path / "executed").mkdir()
    for number, name in enumerate("collect clean chunk ask train evaluate chat publish".split(), 1):
        executed(tmp_path, f"{number:02}_{name}")
    for name, count in ROWS.items():
        files.write_jsonl(tmp_path / f"{name}.jsonl", [{"row": at} for at in range(count)])
    files.write_json(tmp_path / "training.json", TRAINING)
    files.write_json(tmp_path / "evaluation.json", evaluation(words=80))
    return tmp_path


def text(work_dir) -> str:
    """The words of the page outside of its folds, in one line."""
    page = report.write(work_dir).read_text()
    page = re.sub(r"</summary>.*?</details>|<style>.*?</style>", "", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_whole_page_has_at_most_four_screens_and_900_words_before_anything_is_unfolded(work_dir, browser):
    tab = browser.new_page(viewport={"width": 1300, "height": 900})
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(report.write(work_dir).as_uri())
    assert tab.evaluate("document.documentElement.scrollHeight") <= 4 * 900
    assert tab.evaluate("document.documentElement.scrollWidth") == 1300
    assert len(tab.inner_text("body").split()) <= 900
    assert len(asked) == 1, "the page needs nothing but itself"
    assert tab.locator(".folds details").count() == 8, "one fold per notebook"
    assert not tab.get_by_text("A sentence of prose.").first.is_visible()

    tab.get_by_text("How it was measured").click()  # leads into the fold of 06, and opens it
    expect(tab.locator("[id='06_evaluate']").get_by_text("A sentence of prose.").first).to_be_visible()
    assert tab.locator(".folds details[open]").count() == 1
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390, "nothing sticks out on a phone"
    tab.close()


def test_the_page_is_dark_where_the_reader_has_it_dark_and_white_on_paper(work_dir, browser):
    tab = browser.new_page(color_scheme="dark")
    tab.goto(report.write(work_dir).as_uri())
    ground = "getComputedStyle(document.body).backgroundColor"
    assert max(map(int, re.findall(r"\d+", tab.evaluate(ground)))) < 64
    tab.emulate_media(color_scheme="light")
    assert min(map(int, re.findall(r"\d+", tab.evaluate(ground)))) > 192
    tab.emulate_media(color_scheme="dark", media="print")
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    assert not tab.locator(".folds details").first.is_visible(), "a closed fold takes no paper"
    pages = re.findall(rb"/Type /Page\b", tab.pdf(format="A4"))
    assert 1 <= len(pages) <= 4
    tab.close()


def test_the_verdicts_are_those_of_the_intervals(work_dir):
    page = text(work_dir)
    assert "6 measures say: 5 × better, 1 × no difference shown." in page
    assert "Names the facts asked for higher is better 50 % no difference shown" in page
    assert "None of these comparisons says worse" in page
    assert "The right answer became less likely for 3 of 32 questions." in page
    assert (
        "Common knowledge, 40 questions: 80 % right before, 70 % after, no difference shown; 5 turned wrong."
        in page
    )
    assert "It still fell at the end" in page and "It reads a text with each question" in page

    worse = evaluation()
    worse["difference"]["facts"] = change(-0.25, 0.1)
    worse["kinds"]["topic"]["difference"]["answer_loss"] = change(1.0, 0.5)
    files.write_json(work_dir / "evaluation.json", worse)
    losses = [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 1.5}]
    closed = {"validation_losses": losses, "settings": {"open_book": False}}
    files.write_json(work_dir / "training.json", TRAINING | closed)
    page = text(work_dir)
    assert "6 measures say: 5 × better, 1 × worse." in page
    assert "2 of these comparisons say worse" in page and "None of these" not in page
    assert "It was lowest at step 10" in page and "It reads nothing" in page


@pytest.mark.parametrize(
    "low, high, better, word",
    [
        (0.1, 0.2, "higher", "better"),
        (0.1, 0.2, "lower", "worse"),
        (-0.2, -0.1, "lower", "better"),
        (-0.2, -0.1, "higher", "worse"),
        (-0.1, 0.2, "higher", "no difference shown"),
        (0.0, 0.2, "lower", "no difference shown"),
        (0.1, 0.2, "", "differs"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(low, high, better, word):
    assert plots.verdict({"mean": (low + high) / 2, "low": low, "high": high}, better) == word


def test_the_funnel_counts_the_files_and_ends_where_they_are_out_of_date(work_dir):
    page = text(work_dir)
    counts = "333 reviews that can be read 326 reviews after cleaning 291 chunks of whole reviews 297"
    assert f"records collected {counts} question–answer pairs kept 770" in page
    for stage, file in (("01_collect_reviews", "reviews"), ("02_reviews_to_markdown", "reviews_clean")):
        workdir.finish_stage(work_dir, stage, reads=["reviews.jsonl"], writes=[f"{file}.jsonl"])
    assert "chunks of whole reviews 297" in text(work_dir)
    files.write_jsonl(work_dir / "reviews.jsonl", [{"row": 1}])
    workdir.finish_stage(work_dir, "01_collect_reviews", reads=[], writes=["reviews.jsonl"])
    page = text(work_dir)
    assert "reviews that can be read 1 " in page and "after cleaning" not in page and "pairs kept" not in page


def test_the_funnel_ends_with_the_split_of_the_dataset(work_dir):
    from datasets import Dataset, DatasetDict

    sides = {
        side: Dataset.from_dict({"question": ["Why?"] * count}) for side, count in (("train", 5), ("test", 2))
    }
    DatasetDict(sides).save_to_disk(work_dir / "qa_dataset")
    assert "of them to train on 5 of them held out for the test 2" in text(work_dir)


def test_what_was_paid_is_the_sum_of_the_journals(work_dir):
    assert "Paid calls none is recorded" in text(work_dir)
    rows = [("sent", 9.0), ("stop", 0.25), ("stop", 0.5)]
    rows = [{"key": "k", "finish_reason": reason, "cost_usd": usd} for reason, usd in rows]
    files.append_jsonl(work_dir / "qa_journal.jsonl", *rows)
    assert "Paid calls $0.75 for the teacher and the judge" in text(work_dir)
    files.write_json(work_dir / "snapshot.json", {"state": "done"})
    assert "Bright Data's own bill is not in it" in text(work_dir)


def test_a_run_of_01_and_02_alone_has_a_page_without_the_rest(tmp_path):
    (tmp_path / "executed").mkdir()
    executed(tmp_path, "01_collect")
    files.write_jsonl(tmp_path / "reviews.jsonl", [{"row": 1}] * 3)
    page = text(tmp_path)
    assert "records collected 3 reviews that can be read 3" in page and "The title of 01_collect" in page
    for part_of in ("Limits", "What it says now", "What got worse", "How the training went", "measures say"):
        assert part_of not in page


@pytest.mark.parametrize(
    "gone", [("kinds",), ("kinds", "prompted", "over_prompted"), ("kinds", "examples", "knowledge")]
)
def test_an_older_evaluation_has_what_it_has(work_dir, gone):
    old = {name: value for name, value in evaluation().items() if name not in gone}
    files.write_json(work_dir / "evaluation.json", old)
    page = text(work_dir)
    assert ("What it says now" in page) == ("examples" not in gone)
    assert ("examples: the base" in page) == ("prompted" not in gone)
    assert ("Common knowledge" in page) == ("knowledge" not in gone)
    assert "12 about one topic" not in page and "all 32" in page


def test_pairs_without_context_or_kind_show_three_answers_and_no_facts(work_dir):
    closed = evaluation(kinds={})
    for row in (row for rows in closed["examples"] for row in rows.values()):
        for name in ("kind", "context", "facts", "invented_number"):
            del row[name]
    for side in ("base", "tuned", "prompted", "difference", "over_prompted", "worse"):
        for name in ("facts", "invented_number"):
            del closed[side][name]
    files.write_json(work_dir / "evaluation.json", closed)
    page = text(work_dir)
    assert "4 measures say: 4 × better." in page and "The first held-out questions, not picked" in page
    assert page.count("Reference Customers wait for it.") == 3 and "of the facts" not in page
    assert "About one" not in page and "No measure here says whether an answer is true." in page


def test_scores_and_losses_of_another_adapter_are_left_out(work_dir):
    (work_dir / "adapter").mkdir()
    (work_dir / "adapter" / "weights").write_text("one")
    for name in ("evaluation", "training"):
        found = files.read_json(work_dir / f"{name}.json")
        files.write_json(work_dir / f"{name}.json", found | {"adapter": "that of another"})
    page = text(work_dir)
    assert "No scores: evaluation.json is about another adapter" in page
    for part_of in ("measures say", "What it says now", "Limits", "How the training went", "48 steps"):
        assert part_of not in page
