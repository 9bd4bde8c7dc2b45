import json
import re
from collections import Counter

import pytest

from helpers import files, qa, reviews


def review(**fields) -> dict:
    return reviews.parse([{"review_id": "1", **fields}])[0][0]


def test_the_record_has_bright_datas_37_fields():
    assert len(reviews.Review.model_fields) == 37
    row = review(**{"5_star": 3, "company activity": "Claimed"})
    assert row["5_star"] == 3 and row["company activity"] == "Claimed"


@pytest.mark.parametrize("value, stars", [(5, 5), ("4", 4), ("3.0", 3), (2.0, 2), (None, None), ("", None)])
def test_ratings_are_numbers_or_strings(value, stars):
    assert review(review_rating=value)["review_rating"] == stars


def test_what_cannot_be_parsed_is_kept_with_its_reason():
    records = [
        {"review_id": "1", "review_rating": 9},
        {"review_id": "2", "review_date": "yesterday"},
        {"error": "No data", "error_code": "dead_page"},
        {"review_id": "3"},
        {"review_id": "3"},
    ]
    parsed, rejected = reviews.parse(records)
    assert [row["review_id"] for row in parsed] == ["3"]
    assert [row["row"] for row in rejected] == [1, 2, 3, 5]
    for row, reason in zip(
        rejected, ["review_rating = 9", "review_date = 'yesterday'", "dead_page", "twice"]
    ):
        assert reason in row["reason"]
    assert rejected[0]["record"] == records[0]


def test_reviews_without_an_id_get_one_from_their_content():
    parsed, _ = reviews.parse(
        [{"review_content": "good"}, {"review_content": "bad"}, {"review_content": "good"}]
    )
    assert len(parsed) == 2


def test_a_csv_with_other_column_names(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("Review,Stars,Feedback place\nGood bike,5,Leeds\n", encoding="utf-8-sig")
    rows, _ = reviews.parse(reviews.read_records(path, {"Feedback place": "reviewer_location"}))
    assert rows[0]["review_content"] == "Good bike"
    assert rows[0]["review_rating"] == 5 and rows[0]["reviewer_location"] == "Leeds"


def test_json_lines_and_arrays_are_the_same(tmp_path):
    records = [{"review_id": "1", "text": "good"}, {"review_id": "2", "text": "bad"}]
    (tmp_path / "a.json").write_text(json.dumps(records))
    files.write_jsonl(tmp_path / "b.jsonl", records)
    assert reviews.read_records(tmp_path / "a.json") == reviews.read_records(tmp_path / "b.jsonl")


def test_errors_name_file_and_field(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.csv' is no file"):
        reviews.read_records(tmp_path / "nowhere.csv")
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match="no_such_field"):
        reviews.read_records(tmp_path / "a.csv", {"a": "no_such_field"})


@pytest.mark.parametrize(
    "messy, plain",
    [
        ("Tom &amp; Jerry&#39;s", "Tom & Jerry's"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("a\u00a0 \u200bb\x07", "a b"),
        ("<b>bold</b> 3 < 4 > 2", "bold 3 < 4 > 2"),
        ("e\u0301", "\u00e9"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        (None, ""),
    ],
)
def test_plain_text(messy, plain):
    assert reviews.plain_text(messy) == plain


LONG = "The bike came late and nobody at the shop could tell me why it had taken so many weeks to get here"


def test_short_and_near_duplicate_reviews_are_set_aside_with_a_reason():
    rows, _ = reviews.parse(
        [
            {"review_id": "1", "review_content": LONG},
            {"review_id": "2", "review_content": LONG.replace("weeks", "days") + "!"},
            {"review_id": "3", "review_content": "Nope"},
            {"review_id": "4", "review_content": None},
            {
                "review_id": "5",
                "review_content": "Something else entirely, a short but fine review of a bell",
            },
        ]
    )
    kept, removed = reviews.clean(rows, min_words=3)
    assert [row["review_id"] for row in kept] == ["1", "5"]
    assert {row["review_id"]: row["reason"] for row in removed} == {
        "2": "near-duplicate of 1",
        "3": "fewer than 3 words",
        "4": "fewer than 3 words",
    }


@pytest.mark.parametrize(
    "text, country, kind",
    [
        ("write to jo.smith+bike@example.com please", "GB", "EMAIL"),
        ("ring me on +44 20 7946 0123 today", "GB", "PHONE"),
        ("Tel. 030 23125 123, danke", "DE", "PHONE"),
        ("au 01 99 00 12 34 le soir", "FR", "PHONE"),
        ("pay to DE89 3704 0044 0532 0130 00 now", "DE", "IBAN"),
        ("my order VM-204873 is lost", "NL", "ORDER"),
        ("Yours, Ada Nimbus", "GB", "NAME"),
    ],
)
def test_personal_data_becomes_a_placeholder(text, country, kind):
    redacted, counts = reviews.redact_text(text, "Ada Nimbus", country)
    assert counts == {kind: 1}
    assert f"[{kind}]" in redacted and not re.search(r"\d{3}|@|Ada", redacted)


@pytest.mark.parametrize(
    "text", ["paid 2,899 euros on 12.03.2026", "14 km in 20 minutes, 5/5", "PowerPack 500"]
)
def test_prices_and_dates_are_no_personal_data(text):
    assert reviews.redact_text(text, "Ada Nimbus", "DE") == (text, Counter())


def test_redaction_can_be_switched_off():
    rows, _ = reviews.parse([{"review_id": "1", "review_content": f"{LONG} a@example.com"}])
    assert "a@example.com" in reviews.clean(rows, redact_pii=False)[0][0]["review_content"]


def test_markdown_survives_nulls_and_has_a_section_a_review():
    rows, _ = reviews.parse(
        [{"review_id": "1"}, {"review_id": "2", "review_content": "Good", "company_name": "A"}]
    )
    document = reviews.markdown([{**row, "redacted": {}} for row in rows])
    assert document.count("### Review by") == 2 and document.count("# ") == 4
    assert "None" not in document


# The bundled sample keeps the promises of its README.


@pytest.fixture(scope="module")
def raw() -> list[dict]:
    return reviews.read_records(reviews.SAMPLE)


def test_the_sample_has_300_reviews_of_one_fictional_company(raw):
    assert len(reviews.sample()) >= 300
    assert {row["company_name"] for row in reviews.sample()} == {"Velomarsh"}
    assert all(row["company_website"].endswith(".example") for row in reviews.sample())


def test_the_sample_is_as_messy_as_the_real_thing(raw):
    texts = [row.get("review_content") for row in raw if "error" not in row]
    joined = "\n".join(text or "" for text in texts)
    words = [len((text or "").split()) for text in texts]
    assert any(isinstance(row.get("review_rating"), str) for row in raw)
    assert None in texts and "" in texts
    assert 1 in words and max(words) >= 550
    assert re.search(r"&amp;|&#39;|&nbsp;", joined) and re.search("[\U0001f300-\U0001faff]", joined)
    assert re.search(r"ignore (all )?(your )?previous instructions", joined, re.IGNORECASE)
    assert "@example." in joined and len(set(texts)) < len(texts)
    for language in (r"\bund\b", r"\bet\b", r"\bpero\b", r"\bche\b", r"\bhet\b", r"\bthe\b"):
        assert len(re.findall(language, joined)) > 5


def test_no_sample_pair_repeats_another():
    pairs = files.read_jsonl(qa.SAMPLE)
    assert len(pairs) >= 400
    for field in ("question", "answer"):
        texts = [" ".join(reviews.words(pair[field])) for pair in pairs]
        assert len(set(texts)) == len(texts)
    ids = {row["review_id"] for row in reviews.clean_sample()}
    assert {pair["review_id"] for pair in pairs} <= ids


def test_every_sample_answer_has_three_to_five_sentences():
    for pair in files.read_jsonl(qa.SAMPLE):
        sentences = re.findall(r"[.!?](?=\s|$)", pair["answer"])
        assert 3 <= len(sentences) <= 5, pair["answer"]


def test_the_exercise_of_notebook_02_is_true_of_the_sample():
    """It once said that short reviews are mostly five stars; nobody had counted."""
    usual, strict = reviews.clean_sample(), reviews.clean(reviews.sample(), min_words=25)[0]
    stay = {row["review_id"] for row in strict}
    left = Counter(row["review_rating"] for row in usual if row["review_id"] not in stay)
    assert left[1] == left[5] > 5
