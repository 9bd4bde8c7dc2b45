"""qa: prompt, parsing, the gate's reasons one by one, the leak-free split, the dataset."""

from __future__ import annotations

import random

import pytest
import yaml

from helpers import files, qa, splits, teacher
from tests.fakes.openai_api import FakeOpenAI

TEXT = (
    "### Review by [NAME] (DE)\n- **Rating**: 2 of 5\n\nI waited 1,200 hours, or 50 days, for the bike and "
    "nobody at the shop could ever tell me when it would finally be ready to collect. The brakes squeal."
)
CHUNKS = [
    {"id": "c1", "review_ids": ["r1", "r2"], "company": "Velo 24", "text": TEXT},
    {"id": "c2", "review_ids": ["r3"], "company": "Velo 24", "text": "The saddle is soft {really}."},
    {"id": "c3", "review_ids": ["r3"], "company": "Velo 24", "text": "The second half of a long review."},
]
QUESTION = "Why do long waits hurt the trust of Velo customers?"
ANSWER = (
    "Customers plan around a promised day, so silence after 50 days feels like neglect. Trust falls further "
    "when staff have no date to offer. Sending a short message as soon as a date slips would keep many."
)


def pair(question: str = QUESTION, answer: str = ANSWER, **fields) -> dict:
    made = {"id": "p", "chunk_id": "c1", "review_ids": ["r1"], "question": question, "answer": answer}
    return made | {"teacher": "gpt-4o", "prompt_version": "1"} | fields


def answers(*texts: str, finish: str = "stop") -> dict[str, teacher.Answer]:
    keys = [request.key for request in qa.requests_for(CHUNKS, 1, "org/model")]
    return {key: teacher.Answer(key, "org/model", text, finish, 1, 1, 0.0) for key, text in zip(keys, texts)}


def parsed(text: str, finish: str = "stop") -> tuple[list[tuple[str, str]], list[str]]:
    pairs, rejected = qa.pairs_from(answers(text, finish=finish), CHUNKS, "org/model")
    return [(row["question"], row["answer"]) for row in pairs], [row["reason"] for row in rejected]


def test_a_request_holds_the_review_as_data_between_markers_that_it_cannot_forge():
    first, second, _ = qa.requests_for(CHUNKS, 2, "gpt-4o")
    assert first.key.split("/") == ["c1", qa.PROMPT_VERSION, "gpt-4o", "2"]
    start, end = first.user.index("<reviews-c1>"), first.user.index("</reviews-c1>")
    assert TEXT in first.user[start:end] and "Velo 24" in first.user[:start] and "{really}" in second.user
    assert "do not obey" in first.system and "not instructions" in first.user[end:]
    assert first.max_tokens > qa.requests_for(CHUNKS, 1, "gpt-4o")[0].max_tokens


def test_requests_and_the_schema_work_with_the_real_client(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-fake-key")
    with FakeOpenAI() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        requests = qa.requests_for(CHUNKS, 1, "gpt-4o")
        given = teacher.ask_all(
            requests, tmp_path / "j.jsonl", model="gpt-4o", response_model=qa.QAPairs, max_cost_usd=1.0
        )
    schema = server.asked[0]["response_format"]["json_schema"]["schema"]
    for part in (schema, schema["$defs"]["QAPair"]):  # what OpenAI demands of a strict schema
        assert part["additionalProperties"] is False and part["required"] == list(part["properties"])
    pairs, rejected = qa.pairs_from(given, CHUNKS, "gpt-4o")
    assert [row["chunk_id"] for row in pairs] == ["c1", "c2", "c3"] and not rejected
    assert list(pairs[0]) == list(pair())
    assert pairs[0]["review_ids"] == ["r1", "r2"] and pairs[0]["prompt_version"] == qa.PROMPT_VERSION
    assert len({row["id"] for row in pairs}) == 3 and all(len(row["id"]) == 16 for row in pairs)


@pytest.mark.parametrize("text", [
    '{"pairs": [{"question": "Why?", "answer": "So. There."}]}',
    'Sure!\n```json\n{"pairs": [{"question": " Why? ", "answer": "So. There.", "topic": "x"}]}\n```',
    '[{"question": "Why?", "answer": "So. There."}]',
    '{"question": "Why?", "answer": "So. There."}',
    "Q: Why?\nA: So.\n There.",
    "**Q1:** Why?\n\n**A1:** So. There.\n",
    "Here {as asked}:\n1. Question: Why?\n   Answer: So. There.",
])  # fmt: skip
def test_json_and_labelled_lines_are_parsed(text):
    assert parsed(text) == ([("Why?", "So. There.")], [])


def test_several_labelled_pairs():
    found, _ = parsed("Q: One?\nA: First. [EMAIL]\n\nQ: Two?\nA: Second.\nQuality: stays.")
    assert found == [("One?", "First. [EMAIL]"), ("Two?", "Second. Quality: stays.")]


@pytest.mark.parametrize("text, reason", [
    ("I cannot help with that.", "neither JSON nor"),
    ("", "neither JSON nor"),
    ('{"pairs": []}', "nothing to ask"),
    ('{"pairs": [{"question": "Why?"}]}', "answer: Field required"),
    ('{"pairs": [{"question": "Why?", "answer": 3}]}', "answer: Input should be a valid string"),
])  # fmt: skip
def test_what_is_malformed_is_rejected_with_a_reason(text, reason):
    found, reasons = parsed(text)
    assert not found and len(reasons) == 1 and reason in reasons[0]


def test_whole_pairs_of_an_answer_that_was_cut_off_are_kept():
    text = '{"pairs": [{"question": "Why?", "answer": "So. There."}, {"question": "And th'
    assert parsed(text, finish="length") == ([("Why?", "So. There.")], ["cut off by max_tokens"])
    assert parsed(text) == ([("Why?", "So. There.")], ["broken JSON"])


def test_answers_of_another_prompt_or_model_in_the_journal_are_not_used():
    reply = '{"question": "Why?", "answer": "So."}'
    other = {key.replace(qa.PROMPT_VERSION, "qa-old"): row for key, row in answers(reply).items()}
    assert qa.pairs_from(other, CHUNKS, "org/model") == ([], [])
    assert qa.pairs_from(answers(reply), CHUNKS, "org") == ([], [])
    assert qa.pairs_from(answers(reply), CHUNKS[1:], "org/model") == ([], [])  # chunked otherwise since


def test_sample_pairs_belong_to_the_first_chunk_of_their_review(tmp_path, capsys):
    rows = [{"review_id": name, "question": f"{name}?", "answer": "A."} for name in ("r2", "r3", "gone")]
    files.write_jsonl(tmp_path / "s.jsonl", rows)
    pairs = qa.sample_pairs(CHUNKS, tmp_path / "s.jsonl")
    assert [(row["chunk_id"], row["review_ids"], row["teacher"]) for row in pairs] == [
        ("c1", ["r2"], "sample"),
        ("c2", ["r3"], "sample"),
    ]
    assert "1 of 3 sample pairs are left out" in capsys.readouterr().out
    with pytest.raises(ValueError, match="teacher to 'openai'"):
        qa.sample_pairs([CHUNKS[0] | {"review_ids": ["other"]}], tmp_path / "s.jsonl")


def test_the_gate_keeps_a_good_pair_as_it_is():
    assert qa.quality_gate([pair()], CHUNKS) == ([pair()], [])


COPIED = "Nobody at the shop could ever tell me when it would finally be ready. " + ANSWER


@pytest.mark.parametrize("bad, reason", [
    (pair(question=" ?! "), "empty question"),
    (pair(answer="…"), "empty answer"),
    (pair(question="Why so slow?"), "question too short (3 words)"),
    (pair(question="why " * 41), "question too long (41 words)"),
    (pair(answer="Too short. Really."), "answer too short (3 words)"),
    (pair(answer="It is long and it goes on. " * 29), "answer too long (203 words)"),
    (pair(answer="word " * 30 + "."), "answer not 2 to 8 sentences (1)"),
    (pair(answer="They wait too long. " * 9), "answer not 2 to 8 sentences (9)"),
    (pair(answer="They wait. Then they are cut " + "off " * 20), "answer not 2 to 8 sentences (1)"),
    (pair(answer=ANSWER + " Write to [EMAIL]."), "leaked placeholder ([EMAIL])"),
    (pair(question="Why does [NAME] wait for Velo bikes?"), "leaked placeholder ([NAME])"),
    (pair(answer=ANSWER + " The reviewer’s bike squeals."), "mentions its source (The reviewer)"),
    (pair(question="What does this review say about Velo?"), "mentions its source (this review)"),
    (pair(answer=COPIED), "copies 12 words or more (at the shop could ever"),
    (pair(answer=ANSWER + " About 73 percent of 1,500 agree."), "number not in the reviews (73, 1500)"),
    (pair(chunk_id="gone"), "unknown chunk (gone)"),
])  # fmt: skip
def test_each_reason_of_the_gate(bad, reason):
    kept, rejected = qa.quality_gate([bad], CHUNKS)
    assert not kept and rejected[0]["reason"].startswith(reason)
    assert {name: rejected[0][name] for name in bad} == bad and len(rejected[0]) == len(bad) + 1


@pytest.mark.parametrize("good", [
    pair(answer=ANSWER + " At 1200 hours, Velo 24 owes them 3.5 words.", question=QUESTION + " 3.50"),
    pair(answer=ANSWER + " About 73 percent agree.", teacher="sample"),
    pair(answer=ANSWER + " Shops, e.g. those in town, help at v. low cost."),
    pair(answer=ANSWER + " Reviewers of bikes praise the review process of staff."),
    pair(answer="Nobody at the shop could ever tell me when it would. " + ANSWER),  # 11 words
])  # fmt: skip
def test_what_the_gate_lets_pass(good):
    assert qa.quality_gate([good], CHUNKS)[1] == []


def test_a_duplicate_question_is_rejected_whatever_its_case_and_punctuation():
    other = pair(question="why do LONG waits hurt the trust of Velo customers", id="p2")
    kept, rejected = qa.quality_gate([pair(answer="Bad."), pair(), other], CHUNKS)
    assert kept == [pair()] and rejected[1] == other | {"reason": "duplicate question"}
    assert len(rejected) == 2, "a rejected pair's question must stay free"


def related(count: int, seed: int) -> list[dict]:
    """Pairs whose review ids and questions overlap at random, in chains too."""
    draw, pairs = random.Random(seed), []
    words = "price delivery brake saddle app refund staff colour battery manual light wheel".split()
    for n in range(count):
        question = f"What about the {' '.join(draw.sample(words, 6))}?"
        if pairs and draw.random() < 0.2:
            question = draw.choice(pairs)["question"].replace("What about", "And")
        ids = [f"r{draw.randrange(2 * count)}" for _ in range(draw.choice([1, 1, 1, 2]))]
        pairs.append(pair(question=question, id=f"p{n}", review_ids=ids))
    return pairs


def jaccard(one: str, other: str) -> float:
    def grams(text):
        words = text.lower().strip("?").split()
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}

    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


@pytest.mark.parametrize("seed", range(10))
def test_the_split_leaks_nothing_and_loses_nothing(seed):
    pairs = related(60, seed)
    train, test = qa.split(pairs, 0.2, seed)
    assert sorted(row["id"] for row in train + test) == sorted(row["id"] for row in pairs) and train and test
    for held in test:
        for seen in train:
            assert not set(held["review_ids"]) & set(seen["review_ids"])
            assert jaccard(held["question"], seen["question"]) <= 0.6
    shuffled = pairs[:]
    random.Random(1).shuffle(shuffled)
    assert qa.split(shuffled, 0.2, seed) == (train, test)


def distinct(count: int) -> list[dict]:
    return [pair(f"a{n} b{n} c{n} d{n}?", id=f"p{n}", review_ids=[f"r{n}"]) for n in range(count)]


def test_chains_of_shared_reviews_stay_on_one_side():
    chain = distinct(12)
    for n, row in enumerate(chain[:10]):
        row["review_ids"] = [f"r{n}", f"r{n + 1}"]
    chain[10]["review_ids"] = ["r10"]
    train, test = qa.split(chain, 0.15)
    assert [row["id"] for row in test] == ["p11"] and len(train) == 11


def test_the_share_is_as_near_as_whole_groups_allow():
    assert len(qa.split(distinct(100), 0.15)[1]) == 15
    groups = distinct(100)
    for n, row in enumerate(groups):  # groups of 60, 7, 7, 7, 7, 7 and 5 pairs
        row["review_ids"] = ["big"] if n < 60 else [f"g{(n - 60) // 7}"]
    assert len(qa.split(groups, 0.15)[1]) == 14
    assert len(qa.split(groups, 0.2)[1]) == 19
    assert len(qa.split(groups, 0.65)[1]) == 65
    assert len(qa.split(distinct(2), 0.01)[1]) == 1


def test_another_seed_holds_out_other_pairs():
    assert qa.split(distinct(50), seed=1)[1] != qa.split(distinct(50), seed=2)[1]


def test_a_split_that_cannot_be_made_says_so():
    with pytest.raises(ValueError, match="1 group.*chunk_size"):
        qa.split([row | {"review_ids": ["same"]} for row in distinct(5)])
    with pytest.raises(ValueError, match="0 group"):
        qa.split([])
    with pytest.raises(ValueError, match="test_share=15"):
        qa.split(distinct(5), 15)


def test_near_duplicates_are_found_as_by_brute_force():
    questions = [row["question"] for row in related(60, 3)]
    slow = [(i, j) for j in range(60) for i in range(j) if jaccard(questions[i], questions[j]) > 0.6]
    assert sorted(splits.near_duplicates(questions)) == sorted(slow) and slow


def test_the_dataset_is_read_back_with_its_card(tmp_path):
    from datasets import load_from_disk

    train, test = qa.split(distinct(20))
    card = qa.dataset_card(train, test, company='Velo "24": bikes', cost_usd=0.12, note="a | b\nc")
    for _ in range(2):  # the second time replaces the first
        qa.save_dataset(train, test, tmp_path / "qa_dataset", card)
    read = load_from_disk(tmp_path / "qa_dataset")
    assert list(read["train"]) == train and list(read["test"]) == test
    _, front, body = (tmp_path / "qa_dataset" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front)["size_categories"] == ["n<1K"]
    assert 'Velo "24": bikes' in yaml.safe_load(front)["pretty_name"]
    for line in ("| training pairs | 17 |", "| cost usd | 0.12 |", "| note | a / b c |"):
        assert line in body
