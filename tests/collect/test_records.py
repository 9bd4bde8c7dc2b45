"""helpers.collect.records: one form of a review, and what does not fit into it."""

from __future__ import annotations

import pytest

from helpers.collect import records


def review(**fields) -> dict:
    return records.parse([{"review_id": "1", **fields}])[0][0]


def test_the_record_has_bright_datas_37_fields():
    assert len(records.Review.model_fields) == 37
    row = review(**{"5_star": 3, "company activity": "Claimed"})
    assert row["5_star"] == 3 and row["company activity"] == "Claimed"


@pytest.mark.parametrize(
    "value, stars",
    [(5, 5), ("4", 4), ("3.0", 3), ("3,0", 3), (2.0, 2), (None, None), ("", None), (" N/A ", None)]
    + [("4/5", 4), ("4 of 5", 4), ("4.0 out of 5 stars", 4), ("1 star", 1), ("FOUR", 4)]
    + [("2,0 von 5 Sternen", 2), ("4,0 sur 5 étoiles", 4), ("4,0 de 5 estrellas", 4), ("5,0 su 5 stelle", 5)]
    + [("★★★★", 4), ("★★☆☆☆", 2), ("⭐⭐⭐", 3), ("⭐️⭐️", 2)]
    + [("1 Stern", 1), ("4 Sterne", 4), ("1 stella", 1), ("1 ster", 1), ("4,0 z 5", 4), ("2 av 5", 2)]
    + [("4,0\xa0sur\xa05\xa0étoiles", 4), ("Rated 4 out of 5 stars", 4), ("-", None), ("NA", None)]
    + [("4,0 z 5 gwiazdek", 4), ("4,0 av 5 stjärnor", 4), ("4 af 5 stjerner", 4), ("4,0 de 5 estrelas", 4)]
    + [("5つ星のうち4.0", 4), ("4 star rating", 4), ("4★", 4), ("4.0 of 5 bubbles", 4), ("4-star", 4)],
)
def test_ratings_come_as_numbers_and_texts(value, stars):
    assert review(review_rating=value)["review_rating"] == stars


@pytest.mark.parametrize(
    "value", [0, 6, 4.5, "4.5", "0", "9", "80%", "8/10", "44", "good", "☆☆☆☆☆", "★★☆", "★" * 6, True, "-1"]
)
def test_other_scales_are_rejected_not_converted(value):
    parsed, rejected = records.parse([{"review_id": "1", "review_rating": value}])
    assert not parsed and rejected[0]["field"] == "review_rating" and rejected[0]["value"] == value


@pytest.mark.parametrize(
    "value, day",
    [("2026-01-31T07:35:21.000Z", "2026-01-31T07:35:21Z"), ("2026-01-31", "2026-01-31T00:00:00")]
    + [("2026-01-31 14:05:00 UTC", "2026-01-31T14:05:00Z"), ("2026/01/31 14:05", "2026-01-31T14:05:00")]
    + [("2026-01-31 14:05:00 +0100", "2026-01-31T14:05:00+01:00"), ("20260131", "2026-01-31T00:00:00")]
    + [("31 January 2026", "2026-01-31T00:00:00"), ("31-Jan-2026", "2026-01-31T00:00:00")]
    + [("Jan. 31, 2026 2:05 PM", "2026-01-31T14:05:00"), ("January 31, 2026", "2026-01-31T00:00:00")]
    + [(1769817600, "2026-01-31T00:00:00Z"), ("1769817600000", "2026-01-31T00:00:00Z")]
    + [("Reviewed in the United States on January 5, 2024", "2024-01-05T00:00:00")]
    + [("2nd July 2024", "2024-07-02T00:00:00"), (None, None), ("", None), ("NaN", None)]
    + [("2026/01/31 2:05:00 PM GMT+1", "2026-01-31T14:05:00"), ("2026/1/5", "2026-01-05T00:00:00")]
    + [("31-Jan-26", "2026-01-31T00:00:00"), ("2026.01.31", "2026-01-31T00:00:00"), ("NaT", None)],
)
def test_dates_in_iso_as_numbers_and_with_the_months_name(value, day):
    assert review(review_date=value)["review_date"] == day


@pytest.mark.parametrize(
    "value",
    ["yesterday", "2026", 2026, 45678, 123456789, "31/01/26", "2026-02-30", "31.01.2026", True, 10**30]
    + ["0001-01-01T00:00:00", "9999-12-31", "1970-01-01", "31 December 9999", "2101-01-01"],
)
def test_a_number_or_word_that_is_no_date_is_not_turned_into_one(value, capsys):
    """pydantic alone takes the year 2026 for the 34th minute of 1970."""
    parsed, rejected = records.parse([{"review_id": "1", "review_date": value}])
    assert not rejected and parsed[0]["review_date"] is None
    assert (
        f"review_date: 1 values cannot be read and are left empty, such as {str(value)!r}"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "word",
    ["NULL", "\\N", "None", " nan ", "N/A", "#N/A", "<NA>", "undefined", "", float("nan")]
    + ["(null)", "[NULL]", "nil", "n.a.", "--", "(blank)", "#VALUE!", "-nan", "[]"],
)
def test_words_for_missing_are_known_in_every_field(word):
    (row,), rejected = records.parse([dict.fromkeys(records.FIELDS, word)])
    assert not rejected and {value for name, value in row.items() if name != "review_id"} == {None}


def test_a_side_field_that_cannot_be_read_costs_itself_and_the_rating_costs_the_review(capsys):
    side = {"company_overall_rating": "good", "is_verified_review": "perhaps", "review_useful_count": [3]}
    rows = [{"review_content": "It came late", "review_rating": rating, **side} for rating in (4, 4.5)]
    (row,), (rejected,) = records.parse(rows)
    assert row["review_content"] == "It came late" and [row[name] for name in side] == [None] * 3
    assert (
        rejected["field"] == "review_rating" and "company_overall_rating: 2 values" in capsys.readouterr().out
    )


def test_what_cannot_be_parsed_is_kept_with_its_reason():
    rows = [
        {"review_id": "1", "review_rating": 9},
        {"review_id": "2", "review_content": ["a", "list"]},
        {"error": "No data", "error_code": "dead_page"},
        {"review_id": "3"},
        {"review_id": "3"},
    ]
    parsed, rejected = records.parse(rows)
    assert [row["review_id"] for row in parsed] == ["3"]
    assert [(row["file"], row["line"], row["field"], row["value"]) for row in rejected] == [
        (None, 1, "review_rating", 9),
        (None, 2, "review_content", ["a", "list"]),
        (None, 3, "error", "No data"),
        (None, 5, "review_id", "3"),
    ]
    for row, reason in zip(
        rejected,
        ["less than or equal to 5", "valid string", "dead_page", "delivered twice (first in line 4)"],
    ):
        assert reason in row["reason"]
    assert rejected[0]["record"] == rows[0]


def test_a_service_that_sends_an_id_again_means_the_same_review():
    parsed, rejected = records.parse(
        [{"review_id": "1", "review_content": text} for text in ("good", "edited")]
    )
    assert [row["review_content"] for row in parsed] == ["good"] and len(rejected) == 1


def test_reviews_without_an_id_get_one_from_their_content_and_are_all_counted():
    """Two customers may write the same few words. The id of the first is what it has always been."""
    texts = ["good", "bad", "good", "good"]
    parsed, rejected = records.parse([{"review_content": text} for text in texts])
    assert [row["review_content"] for row in parsed] == texts and not rejected
    first = "63d2fbd69390ffd0"
    assert [row["review_id"] for row in parsed if row["review_content"] == "good"] == [
        first,
        f"{first}-2",
        f"{first}-3",
    ]


@pytest.mark.parametrize(
    "record, error",
    [
        ({"error": "No data", "error_code": "dead_page", "input": {"url": "u"}}, "error"),
        ({"error": "No data", "input": {"url": "u"}}, "error"),
        ({"error_code": "dead_page", "input": {"url": "u"}}, "error_code"),
        ({"error": "no", "review_content": "Came in two days"}, None),
        ({"error": "yes", "review_rating": 5}, None),
        ({"error": None, "error_code": "", "review_title": None}, None),
    ],
)
def test_an_error_row_is_one_that_names_an_error_and_holds_no_review(record, error):
    parsed, rejected = records.parse([record])
    assert records.is_error_row(record) == (error is not None) == bool(rejected) != bool(parsed)
    if error:
        assert rejected[0]["field"] == error and rejected[0]["value"] == record[error]
        assert (record.get("error_code") or record["error"]) in rejected[0]["reason"]
