import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import chunks, reviews
from tests.fakes.openai_api import FakeOpenAI


def rows(*texts: str) -> list[dict]:
    parsed, _ = reviews.parse(
        [{"review_id": f"r{n}", "review_content": text, "company_name": "A"} for n, text in enumerate(texts)]
    )
    return parsed


texts = st.lists(
    st.text(alphabet="ab .\n", min_size=1, max_size=900).filter(str.strip), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(texts)
def test_no_chunk_mixes_parts_of_reviews_and_none_is_lost(found):
    reviews_in = rows(*found)
    made = chunks.split(reviews_in, chunk_size=400, chunk_overlap=80)
    by_id = {row["review_id"]: reviews.review_markdown(row) for row in reviews_in}
    assert {i for chunk in made for i in chunk["review_ids"]} == set(by_id)
    for chunk in made:
        assert len(chunk["text"]) <= 400
        if len(chunk["review_ids"]) > 1:
            assert chunk["text"] == chunks.RULE.join(by_id[i] for i in chunk["review_ids"])
        else:
            assert chunk["text"].startswith("### Review by")


def test_a_long_review_is_split_with_its_header_repeated_and_overlaps():
    text = " ".join(f"word{n}." for n in range(400))
    made = chunks.split(rows(text), chunk_size=500, chunk_overlap=100)
    assert len(made) > 5
    assert all(chunk["text"].startswith("### Review by an unnamed customer") for chunk in made)
    assert all(f"word{n}." in "".join(chunk["text"] for chunk in made) for n in range(400))
    assert set(made[0]["text"].split()[-3:]) & set(made[1]["text"].split())


def test_ids_are_hashes_of_the_content():
    first, again = chunks.split(rows("one", "two")), chunks.split(rows("one", "two"))
    assert first == again
    assert chunks.split(rows("one", "three"))[0]["id"] != first[0]["id"]


def test_sizes_that_leave_no_room_are_refused():
    with pytest.raises(ValueError, match="chunk_size=300 with chunk_overlap=290 leaves no room"):
        chunks.split(rows("one"), chunk_size=300, chunk_overlap=290)


def test_companies_are_not_mixed():
    two = rows("one", "two")
    two[1]["company_name"] = "B"
    assert [chunk["company"] for chunk in chunks.split(two)] == ["A", "B"]


ORIGINAL = "### Review by [NAME]\n- **Rating**: 2 of 5\n\nteh bike was late by 3 weeks"


@pytest.mark.parametrize(
    "rewrite, reason",
    [
        (ORIGINAL.replace("teh", "the"), None),
        (ORIGINAL.replace("3", "4"), "it adds 4"),
        (ORIGINAL.replace("bike", "bike from Utrecht"), "it adds Utrecht"),
        (ORIGINAL.replace("[NAME]", "him"), "it changes a heading"),
        (None, "not the JSON"),
    ],
)
def test_a_rewrite_counts_only_if_it_adds_nothing(rewrite, reason, tmp_path, monkeypatch):
    text = json.dumps({"text": rewrite}) if rewrite else "Sure! Here it is."
    chunk = {"id": "c1", "review_ids": ["r1"], "company": "A", "text": ORIGINAL}
    with FakeOpenAI(reply=lambda *_: text) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        refined, refused = chunks.refine(
            [chunk], tmp_path / "journal.jsonl", teacher_model="gpt-4o", max_cost_usd=1.0
        )
    assert [row["reason"] for row in refused] == [row["reason"] for row in refused if reason in row["reason"]]
    assert refined[0]["text"] == (ORIGINAL if reason else rewrite)
    assert bool(refused) == bool(reason)
