"""splits: nothing is shared by both sides, nothing is lost, and the share is as near as groups allow."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.ask import splits


def pair(question: str, answer: str, **fields) -> dict:
    return {"id": "p", "chunk_id": "c", "review_ids": ["r"], "question": question, "answer": answer} | fields


def distinct(count: int) -> list[dict]:
    texts = [
        (f"a{n} b{n} c{n} d{n}?", " ".join(f"{c}{n}" for c in "efghijklmnopqrstuvwxyz")) for n in range(count)
    ]
    return [pair(*both, id=f"p{n}", chunk_id=f"c{n}", review_ids=[f"r{n}"]) for n, both in enumerate(texts)]


def jaccard(one: str, other: str) -> float:
    def grams(text):
        words = text.lower().strip("?.").split()
        return {tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))}

    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


WORDS = "price delivery brake saddle app refund staff colour battery manual light wheel".split()
SENTENCE = st.lists(st.sampled_from(WORDS), min_size=4, max_size=7).map(" ".join)
# Answers of 24 words, many of them alike but for a few.
ANSWERS = [
    " ".join([f"{start}{n}" for n in range(24 - end)] + WORDS[:end])
    for start in "xyz"
    for end in range(0, 12, 2)
]
NAMES = st.sets(st.integers(0, 60), min_size=1, max_size=3)
SOME = st.lists(
    st.tuples(
        SENTENCE,
        st.sampled_from(ANSWERS),
        st.integers(0, 40),
        st.sets(st.integers(0, 60), min_size=1, max_size=3),
    ),
    min_size=2,
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(SOME, st.floats(0.05, 0.95), st.integers(0, 3), st.randoms(use_true_random=False))
def test_no_review_chunk_or_near_duplicate_is_on_both_sides_and_nothing_is_lost(rows, share, seed, draw):
    pairs = [
        pair(
            question,
            answer,
            id=f"p{n}",
            chunk_id=f"c{chunk}",
            review_ids=[f"r{name}" for name in sorted(names)],
        )
        for n, (question, answer, chunk, names) in enumerate(rows)
    ]
    try:
        train, test = splits.split_pairs(pairs, share, seed)
    except ValueError as error:
        assert "1 group(s)" in str(error)
        return
    assert train and test and sorted(train + test, key=lambda row: int(row["id"][1:])) == pairs
    for held in test:
        for seen in train:
            assert held["chunk_id"] != seen["chunk_id"]
            assert not set(held["review_ids"]) & set(seen["review_ids"])
            assert jaccard(held["question"], seen["question"]) <= 0.6
            assert jaccard(held["answer"], seen["answer"]) <= 0.8
    assert splits.leaks(train, test) == []
    draw.shuffle(pairs)
    assert splits.split_pairs(pairs, share, seed) == (train, test)


E3 = distinct(4)[3]["answer"].upper()


@pytest.mark.parametrize("change, what", [
    ({"chunk_id": "c3"}, "chunk c3"), ({"review_ids": ["r9", "r3"]}, "review r3"),
    ({"question": "A3 b3 c3 d3"}, "question A3 b3 c3 d3"), ({"answer": E3}, f"answer {E3}"),
])  # fmt: skip
def test_a_leak_is_named(change, what):
    rows = distinct(10)
    assert splits.leaks(rows[:8], rows[8:]) == []
    assert splits.leaks(rows[:8], [rows[8], rows[9] | change]) == [what]


def test_chains_of_shared_reviews_stay_on_one_side():
    chain = distinct(12)
    for n, row in enumerate(chain[:10]):
        row["review_ids"] = [f"r{n}", f"r{n + 1}"]
    chain[10]["review_ids"] = ["r10"]
    train, test = splits.split_pairs(chain, 0.15)
    assert [row["id"] for row in test] == ["p11"] and len(train) == 11


def test_the_share_is_as_near_as_whole_groups_allow():
    assert len(splits.split_pairs(distinct(100), 0.15)[1]) == 15
    groups = distinct(100)
    for n, row in enumerate(groups):  # groups of 60, 7, 7, 7, 7, 7 and 5 pairs
        row["review_ids"] = ["big"] if n < 60 else [f"g{(n - 60) // 7}"]
    assert len(splits.split_pairs(groups, 0.15)[1]) in (12, 14)
    assert len(splits.split_pairs(groups, 0.2)[1]) in (14, 19)
    assert len(splits.split_pairs(groups, 0.65)[1]) == 40, "the largest group is trained on"
    assert len(splits.split_pairs(distinct(2), 0.01)[1]) == 1


@pytest.mark.parametrize(
    "sizes, parts",
    [
        ({"test": 3, "validation": 2}, [4, 2, 3]),
        (
            {"test": 9, "validation": 9},
            [4, 1, 4],
        ),  # validation gets one of the groups that all fitted into test
        ({"test": 0, "validation": 0}, [7, 1, 1]),
    ],
)
def test_no_side_is_empty_and_train_has_the_largest_group(sizes, parts):
    rows = [f"{letter}{n}" for letter, size in zip("abcd", (2, 2, 1, 4)) for n in range(size)]
    found = splits.split(rows, lambda row: [row[0]], sizes)
    assert {"d0", "d1", "d2", "d3"} <= set(found["train"]) and sorted(sum(found.values(), [])) == rows
    assert all(found.values()) and list(found) == ["test", "validation", "train"]
    with pytest.raises(ValueError, match="9 rows form 4 group.*test, a, b, c, train need one each"):
        splits.split(rows, lambda row: [row[0]], dict.fromkeys(("test", *"abc"), 1))


def test_without_a_seed_the_sides_are_filled_in_the_order_of_the_rows():
    assert splits.split("aabcc", lambda row: [row], {"test": 2}, seed=None)["test"] == ["a", "a"]


def test_another_seed_holds_out_other_pairs_and_another_teacher_the_same_reviews():
    rows = distinct(50)
    held = splits.split_pairs(rows, seed=1)[1]
    assert held != splits.split_pairs(rows, seed=2)[1]
    other = [
        row | {"id": f"x{n}", "chunk_id": f"y{n}", "answer": f"z{n} z z z"} for n, row in enumerate(rows)
    ]
    names = [
        sorted(row["review_ids"][0] for row in side) for side in (held, splits.split_pairs(other, seed=1)[1])
    ]
    assert names[0] == names[1]


def test_an_instruction_that_all_questions_begin_with_makes_them_no_near_duplicates():
    words = "You are the assistant of a shop. Answer in two sentences, in a friendly tone, and never promise a date. "
    rows = [row | {"question": f"{words * 2}{row['question']}"} for row in distinct(60)]
    train, test = splits.split_pairs(rows)
    assert len(test) == 9 and len(train) == 51


@pytest.mark.parametrize("prompts", [1, 2, 3, 8])
def test_a_few_system_prompts_before_the_questions_change_nothing(prompts):
    """Two prompts of 80 words were one group each: no split, and with three each side got a third of the rows."""
    rows = distinct(120)
    said = [" ".join(f"rule{n}x{word}" for word in range(80)) for n in range(prompts)]
    led = [
        row | {"question": f"{said[n % prompts]}\n\nMore.\n\n{row['question']}"} for n, row in enumerate(rows)
    ]
    plain, sides = (splits.split_pairs(some, validation=0.1) for some in (rows, led))
    assert [[row["id"] for row in side] for side in sides] == [[row["id"] for row in side] for side in plain]


@pytest.mark.parametrize("end", ["Answer in English, please.", "Answer."])
def test_a_repeated_question_before_a_closing_that_all_share_stays_on_one_side(end):
    rows = [
        row | {"id": f"{row['id']}-{n}", "chunk_id": f"{row['id']}-{n}", "review_ids": [f"{row['id']}-{n}"]}
        for row in distinct(60)
        for n in range(3)
    ]
    rows = [row | {"question": f"{row['question']}\n\n{end}"} for row in rows]
    train, test = splits.split_pairs(rows)
    assert len(test) == 27 and not {row["question"] for row in train} & {row["question"] for row in test}


def test_questions_about_one_passage_that_stands_before_them_stay_on_one_side():
    rows = distinct(300)
    passages = [" ".join(f"word{n // 5}x{word}" for word in range(80)) for n in range(300)]
    rows = [row | {"question": f"{said}\n\n{row['question']}"} for said, row in zip(passages, rows)]
    train, test = splits.split_pairs(rows)
    first = [{row["question"].partition("\n")[0] for row in side} for side in (train, test)]
    assert len(test) == 45 and not first[0] & first[1]


def test_a_split_that_cannot_be_made_says_so():
    with pytest.raises(ValueError, match="1 group.*chunk_size"):
        splits.split_pairs([row | {"review_ids": ["same"]} for row in distinct(5)])
    with pytest.raises(ValueError, match="0 group"):
        splits.split_pairs([])
    with pytest.raises(ValueError, match="test_share=15"):
        splits.split_pairs(distinct(5), 15)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("field, least", [("question", 0.6), ("answer", 0.8)])
def test_near_duplicates_are_found_as_by_brute_force(field, least, seed):
    draw, rows = random.Random(seed), []
    for _ in range(80):
        words = draw.choices(
            WORDS, k=draw.randrange(2, 16) if field == "question" else draw.randrange(22, 40)
        )
        if rows and draw.random() < 0.6:  # a change of a word or two in an earlier one
            words = draw.choice(rows)[field].split()
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        rows.append({field: " ".join(words)})
    slow = [(i, j) for j in range(80) for i in range(j) if jaccard(rows[i][field], rows[j][field]) > least]
    assert sorted(splits.near_duplicates(rows, field)) == sorted(slow) and len(slow) >= 3


def test_a_short_answer_may_be_everybodys():
    rows = [row | {"answer": "Yes, it does."} for row in distinct(20)]
    assert len(splits.split_pairs(rows)[1]) == 3 and splits.near_duplicates(rows, "answer") == []
