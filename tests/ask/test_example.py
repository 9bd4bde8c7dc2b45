"""The review that all notebooks follow is one review at every stage, and its question is held out."""

from __future__ import annotations

import random

import pytest

from helpers.ask import qa, splits
from helpers.clean import chunks, reviews
from tests.ask.test_splits import distinct


@pytest.fixture(scope="module")
def stages() -> dict[str, list[dict]]:
    """The bundled sample after notebooks 01 to 04; the last pairs are those that the gate rejects."""
    pieces = chunks.sample()
    pairs = qa.sample_pairs(pieces)[:-14]
    stages = {"reviews": reviews.sample(), "clean": reviews.clean_sample(), "chunks": pieces, "pairs": pairs}
    return stages | {"test": splits.split_pairs(pairs)[1]}


def test_the_sample_has_one_from_the_first_notebook_to_the_held_out_questions(stages):
    followed = {stage: splits.example(rows) for stage, rows in stages.items()}
    ids = {row.get("review_id") or row["review_ids"][0] for row in followed.values()}
    assert len(ids) == 1, followed
    assert followed["pairs"] == followed["test"], "the question was not held out"
    assert followed["chunks"]["id"] == followed["test"]["chunk_id"], "the question is about another chunk"
    assert followed["reviews"]["reviewer_name"] != followed["clean"]["reviewer_name"], "nothing to redact"


@pytest.mark.parametrize("seed", range(5))
def test_of_other_pairs_too_it_is_held_out_in_whatever_order_they_come(seed):
    rows = [row | {"review_ids": [f"{seed}-{n}"]} for n, row in enumerate(distinct(40))]
    first = splits.example(rows)
    random.Random(seed).shuffle(rows)
    assert splits.example(rows) == first
    assert splits.example(splits.split_pairs(rows)[1]) == first


def test_a_pair_about_a_fact_sheet_is_followed_only_where_there_is_no_other():
    review, sheet = distinct(2)
    sheet |= {"kind": "overview", "review_ids": []}
    assert splits.example([sheet, review]) == review and splits.example([sheet]) == sheet
