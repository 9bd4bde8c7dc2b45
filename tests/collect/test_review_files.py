"""helpers.collect.review_files: whose columns mean what, dates of either order, and what stops with a fix."""

from __future__ import annotations

import json
import re

import pytest

from helpers.collect import records, review_files
from helpers.core import files


def read(path, content: str | bytes, columns=None) -> tuple[list[dict], list[dict]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return records.parse(review_files.read_records(path, columns))


@pytest.fixture
def mine(tmp_path):
    return tmp_path / "mine.csv"


def test_a_csv_with_other_column_names(mine, capsys):
    rows, _ = read(
        mine,
        "\ufeffREVIEW,Star-Rating,Feedback place,Shop\nGood bike,5,Leeds,7\n",
        {"feedback_place": "reviewer_location"},
    )
    assert rows[0]["review_content"] == "Good bike"
    assert rows[0]["review_rating"] == 5 and rows[0]["reviewer_location"] == "Leeds"
    said = capsys.readouterr().out
    assert "'Star-Rating' is review_rating" in said and "Not used: Shop" in said


@pytest.mark.parametrize(
    "header, fields",
    [
        ("title,body,rating,review_date,reviewer_name,location", 6),  # Judge.me
        ("Review Title,Review Content,Review Score,Date,Display Name", 5),  # Yotpo
        ("Star Rating,Review Title,Review Text,Review Submit Date and Time", 4),  # Play Console
        ("reviewId,userName,content,score,at", 5),  # Google Play scrapers
        ("rating,title,body,reviewerNickname,createdDate,territory", 6),  # App Store Connect
        ("review_id,stars,text,date", 4),  # Yelp's data set
        ("Review Created (UTC),Review Username,Review Title,Review Content,Review Stars,Review ID", 6),
    ],
)
def test_the_exports_of_other_sites_need_no_columns(mine, header, fields):
    values = [
        "3"
        if re.search("rating|score|stars", name, re.IGNORECASE)
        else "2026-01-31"
        if re.search(r"date|created|\bat\b", name, re.IGNORECASE)
        else "some words"
        for name in header.split(",")
    ]
    rows, rejected = read(mine, f"{header}\n{','.join(values)}\n")
    row = rows[0]
    assert not rejected and row["review_content"] == "some words" and row["review_rating"] == 3
    assert sum(value is not None for name, value in row.items() if name != "review_id") >= fields - 1


def test_of_two_columns_that_mean_the_same_one_is_taken_and_named(mine, capsys):
    text = "body,name,text,author\nlong,Shop,short,Ann\n"
    rows, _ = read(mine, text)
    assert rows[0]["review_content"] == "short" and rows[0]["reviewer_name"] == "Ann"
    said = capsys.readouterr().out
    assert "'body' may be review_content too; 'text' was taken" in said
    assert "'name' may be reviewer_name too; 'author' was taken" in said
    assert read(mine, text, {"body": "review_content"})[0][0]["review_content"] == "long"


def test_a_column_of_ones_own_called_error_rejects_nothing(mine):
    rows, rejected = read(mine, "text,rating,error\nGreat,5,no\nGreat,5,no\nBroke,1,yes\n")
    assert [row["review_rating"] for row in rows] == [5, 5, 1] and not rejected
    with pytest.raises(ValueError, match="no column .* it has: remarks, error"):
        read(mine, "remarks,error\nGreat,no\n")


def test_a_column_mapped_to_none_is_left_out(mine):
    rows, rejected = read(mine, "text,score\nHelped at once,good\n", {"score": None})
    assert not rejected and rows[0]["review_rating"] is None


def test_columns_without_a_name_or_with_the_same_name_are_told_apart(mine, capsys):
    rows, _ = read(mine, "text,,text\nfirst,x,second\n", {"text (column 3)": "review_title"})
    assert rows[0]["review_content"] == "first" and rows[0]["review_title"] == "second"
    assert "Not used: (column 2)" in capsys.readouterr().out


def test_records_of_an_array_have_their_numbers_and_nested_names(tmp_path):
    google = {"reviewer": {"displayName": "Ann"}, "starRating": "FIVE", "comment": "Good, [really]: {good}"}
    worse = google | {"starRating": "STAR_RATING_UNSPECIFIED"}
    rows, rejected = read(tmp_path / "a.json", json.dumps({"total": [1], "reviews": [google, worse, 3]}))
    assert rows[0]["reviewer_name"] == "Ann" and rows[0]["review_rating"] == 5
    assert [row["line"] for row in rejected] == [2, 3]
    assert rejected[0]["record"]["starRating"] == "STAR_RATING_UNSPECIFIED" and rejected[1]["record"] == 3


def test_a_rejected_record_names_file_line_column_and_value(mine):
    rows, rejected = read(mine, 'text,stars\n"one\ntwo",5\nBad,x\nA,5,b\nFine,4\n')
    assert [row["review_content"] for row in rows] == ["one\ntwo", "Fine"]
    assert [(row["file"], row["line"], row["field"], row["value"]) for row in rejected] == [
        ("mine.csv", 4, "stars", "x"),
        ("mine.csv", 5, None, None),
    ]
    assert rejected[1]["record"] == ["A", "5", "b"]


DATES = "when they wrote,text\n"


@pytest.mark.parametrize(
    "dates, expected",
    [
        (["31/01/2026", "03/04/2026"], ["2026-01-31", "2026-04-03"]),
        (["01/31/2026 2:05 PM", "03-04-2026"], ["2026-01-31", "2026-03-04"]),
        (["31.01.2026", "3.4.2026"], ["2026-01-31", "2026-04-03"]),
        (["03/04/2026", "05/05/2026"], [None, "2026-05-05"]),
        (["31/01/2026", "01/31/2026", "03/04/2026"], ["2026-01-31", "2026-01-31", None]),
    ],
)
def test_day_and_month_are_told_apart_by_the_column_or_left_empty(mine, capsys, dates, expected):
    lines = "".join(f"{day},text {number}\n" for number, day in enumerate(dates))
    rows, rejected = read(mine, DATES + lines, {"when they wrote": "review_date"})
    assert [row["review_date"] and row["review_date"][:10] for row in rows] == expected and not rejected
    assert ("'03/04/2026' can be day first or month first" in capsys.readouterr().out) == (None in expected)


def test_a_date_that_is_not_is_rejected_as_it_stands_in_the_file(mine):
    _, rejected = read(mine, DATES + "31/31/2026,a\n31/12/2026,b\n", {"when they wrote": "review_date"})
    assert [(row["line"], row["value"]) for row in rejected] == [(2, "31/31/2026")]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "text,stars\n", "a.csv holds no reviews"),
        ("a.json", "[]", "a.json holds no reviews"),
        ("a.csv", "a,b\n1,2\n", r"no column .* it has: a, b\. .*columns = {'a': 'review_content'}"),
        ("a.json", '{"count": 3, "next": "x"}', "no column .* it has: count, next"),
        ("a.jsonl", "text\nmore\n", "No line of .*a.jsonl can be read. Line 1: not JSON"),
    ],
)
def test_a_file_without_reviews_is_an_error_that_names_the_fix(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name, content)


def test_a_path_without_a_file_says_what_a_source_can_be(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.csv' is no file .* give 'sample', 'brightdata' or"):
        review_files.read_records(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    "columns, message",
    [
        (
            {"a": "no_such_field"},
            "maps 'a' to 'no_such_field'; the fields there are: company_name, .*review_content",
        ),
        ({"Feedback": "review_content"}, "columns has 'Feedback', but the columns of .*mine.csv are: a, b"),
        ({"a": "review_content", "b": "review_content"}, "maps two columns to review_content; choose one"),
    ],
)
def test_columns_that_do_not_fit(mine, columns, message):
    with pytest.raises(ValueError, match=message):
        read(mine, "a,b\n1,2\n", columns)


def test_half_an_emoji_becomes_a_question_mark(tmp_path):
    """A cut surrogate pair is valid JSON but no text: writing it as UTF-8 crashed after all was read."""
    content = '[{"text": "cut \\ud83d", "review_replies": ["\\ude00"]}, {"text": "\\ud83d\\ude00\\ud83d", "stars": 9}]'
    parsed, rejected = read(tmp_path / "a.json", content)
    files.write_jsonl(tmp_path / "all.jsonl", parsed + rejected)
    assert parsed[0]["review_content"] == "cut ?" and parsed[0]["review_replies"] == ["?"]
    assert rejected[0]["record"] == {"text": "😀?", "stars": 9}
