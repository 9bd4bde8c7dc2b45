"""What is read with a question: its own context, the sheet that it names, or what shares its words."""

from __future__ import annotations

import pytest

from helpers.core import files
from helpers.prove import chat, search
from helpers.train import data, models


@pytest.fixture(scope="module")
def index() -> search.Search:
    return search.of_adapter(models.SAMPLE_ADAPTER)


@pytest.mark.parametrize("question, source", [
    *zip(chat.QUESTIONS, ("all reviews", "all reviews", "customer support", "price")),
    ("What do people say about the batteries?", "battery"),
    ("Is the delivery on time?", "delivery"),
    ("What do customers from NL complain about?", "reviews from NL"),
    ("Which complaints came in the reviews of 2026 Q2?", "reviews of 2026 Q2"),
    ("What should be improved first?", "all reviews"),
    ("How did the ratings change over time?", "all reviews"),
    ("What percentage of reviews are negative?", "all reviews"),
    ("How many reviews have 1 or 2 stars?", "all reviews"),
    ("Are most reviews positive or negative?", "all reviews"),
    ("What are common issues or complaints about Velomarsh?", "all reviews"),  # pairs about parts ask it as well
    ("Tell me the typical complaints about Velomarsh.", "all reviews"),
])  # fmt: skip
def test_a_question_finds_its_sheet(index, question, source):
    found = index.find(question)[0]
    assert found["source"] == f"fact sheet: {source}"
    assert found["context"].startswith(f"### Fact sheet of Velomarsh: {source}\n")


def test_a_known_question_finds_its_own_context_and_rare_words_find_their_chunk(index):
    pair = next(pair for pair in data.kept(models.SAMPLE_ADAPTER)["test"] if pair["kind"] == "review")
    assert index.find(pair["question"])[0]["context"] == pair["context"]
    assert "Porto" in index.find("Which mechanics come home in Porto and in Portugal?")[0]["context"]
    assert len(index.find("What about the brakes?", most=5)) == 5


@pytest.mark.parametrize("question, company, source", [
    ("What do Globex customers complain about most?", "Globex", "all reviews"),
    ("What is Globex's main problem?", "Globex", "all reviews"),
    ("How is the delivery of Globex?", "Globex", "delivery"),
    ("How is the delivery of Acme Bikes?", "Acme Bikes", "delivery"),
    ("Was sagen Kunden über Acme Bikes?", "Acme Bikes", "all reviews"),
    ("What do customers think of Acme?", "Acme", "all reviews"),
    ("How is the customer service of Acme?", "Acme", "customer service"),
    ("What do customers of Acme like about the product or service?", "Acme", "all reviews"),
])  # fmt: skip
def test_of_several_companies_it_finds_the_one_that_is_named(question, company, source):
    """Who asked about all reviews of the second company read the sheet of the first; "customer service" found none."""
    pairs = []
    for pair in sum(data.kept(models.SAMPLE_ADAPTER).values(), []):
        for name in ("Acme", "Acme Bikes", "Globex"):
            of = {"Velomarsh": name, "customer support": "customer service"}
            pairs.append(pair | {"chunk_id": f"{pair['chunk_id']} {name}"})
            for old, new in of.items():
                pairs[-1] |= {field: pairs[-1][field].replace(old, new) for field in ("context", "question")}
    index = search.Search(pairs)
    found = index.find(question)[0]
    assert found["context"].startswith(f"### Fact sheet of {company}: {source}\n")
    assert found["source"] == f"fact sheet of {company}: {source}"
    assert len({found["source"] for found in index.sources.values()}) == len(index.sources), (
        "the page lists them"
    )


@pytest.mark.parametrize("words", [
    "Departments blame each other, and one has to explain everything again",
    "no answer for weeks, quick help from a real person, goodwill beyond the terms",
    "brakes that squeal, a bike itself that rides well, a quiet and strong motor",
])  # fmt: skip
def test_who_asks_with_a_sheets_words_gets_none_of_a_part_of_the_reviews(index, words):
    """A part says almost what its whole says, of fewer reviews."""
    assert "part" not in index.find(words)[0]["source"] and "half" not in index.find(words)[0]["source"]


def test_an_adapter_with_a_closed_book_or_without_contexts_finds_nothing(tmp_path):
    from datasets import Dataset, DatasetDict

    rows = [
        {"question": f"What of {n}?", "answer": "So.", "context": "Read me." if n else ""} for n in range(3)
    ]
    for number, (book, contexts, finds) in enumerate(
        [(True, True, True), (False, True, False), (True, False, False)]
    ):
        adapter = tmp_path / str(number) / "adapter"
        pairs = [row if contexts else row | {"context": ""} for row in rows]
        DatasetDict(train=Dataset.from_list(pairs)).save_to_disk(adapter.parent / data.KEPT)
        files.write_json(adapter.parent / "training.json", {"settings": {"open_book": book}})
        assert (search.of_adapter(adapter) is not None) == finds
