"""helpers.collect.review_files: whose columns mean what, dates of either order, and what stops with a fix."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helpers.collect import records, review_files
from helpers.core import files, workdir


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
        (
            "product_handle,state,rating,title,author,email,location,body,reply,created_at,replied_at",
            7,
        ),  # Shopify
        ("reviewId,productId,rating,title,body,reviewer.name,reviewer.email,dateCreated", 6),  # Okendo
        ("Id,ProductId,UserId,ProfileName,HelpfulnessNumerator,Score,Summary,Text", 5),  # Amazon's fine foods
        ("Name,Email,Sale Date,Feedback Date,Product Id,Service Rating,Service Comment", 4),  # Feefo
        ("date,review,rating,isEdited,title,userName,developerResponse", 6),  # App Store scrapers
        ("reviewer,date_reviewed,star_rating,message,order_id", 4),  # Etsy
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
    said = "values cannot be read and are left empty, such as '03/04/2026' (not a date, or one of two"
    assert (said in capsys.readouterr().out) == (None in expected)


def test_a_date_that_cannot_be_is_left_empty_and_named_as_it_stands_in_the_file(mine, capsys):
    rows, rejected = read(mine, DATES + "31/31/2026,a\n31/12/26,b\n", {"when they wrote": "review_date"})
    assert [row["review_date"] for row in rows] == [None, "2026-12-31T00:00:00"] and not rejected
    assert "1 values cannot be read and are left empty, such as '31/31/2026'" in capsys.readouterr().out


CASES = Path(__file__).parents[1] / "fixtures" / "reviews"


@pytest.mark.parametrize(
    "name, field, values",
    [
        ("01_datafiniti_product_id.csv", "reviewer_name", [f"user{n}" for n in range(5)]),
        ("01_datafiniti_product_id.csv", "review_rating", [1, 2, 3, 4, 5]),
        ("02_outscraper.csv", "reviewer_name", ["Priya Nandakumar", "Tom Ellery"]),
        ("02_outscraper.csv", "company_name", [None, None]),
        ("03_null_words.csv", "company_name", [None] * 4),
        ("03_null_words.csv", "review_title", [None, "Great product overall and fast delivery", None, None]),
        ("03_null_words.csv", "reviewer_name", [None, "Mia", None, None]),
        ("04_surveymonkey.csv", "review_id", ["1180001", "1180002"]),
        ("04_surveymonkey.csv", "review_date", ["2026-01-31T10:04:00", "2026-02-01T11:03:00"]),
        ("06_excel_trailing.csv", "review_title", ["Solid", None, "Burnt", None]),
        ("09_one_cut_byte_utf8.csv", "review_rating", [5] * 199),
        ("10_amazon.csv", "review_rating", [5, 2, 4, 4]),
        ("10_amazon.csv", "review_date", ["2024-01-05T00:00:00", None, None, None]),
        ("11_app_store_connect.json", "reviewer_name", ["trainfan", "mapless"]),
        ("11_app_store_connect.json", "review_title", ["Lovely", "Crash"]),
        (
            "16_amazon_2023.jsonl",
            "review_date",
            ["2020-05-05T14:08:48.923000Z", "2020-05-05T14:08:48.924000Z"],
        ),
        ("18_title_is_whole_text.csv", "review_rating", [5, 4]),
    ],
)
def test_files_that_went_wrong(name, field, values):
    columns = {"reviews.text": "review_content"} if name.startswith("01") else {}
    for chosen in (columns, {}):  # what `columns` says is found by itself too
        parsed, _ = records.parse(review_files.read_records(CASES / name, chosen))
        assert [row[field] for row in parsed] == values


@pytest.mark.parametrize(
    "text, name",
    [
        ("Datum;Autor;Bewertung;Titel;Bewertungstext\n31.01.2026;{};5;Super;{}", "Anna Berg"),
        ("Datum;Name;Sterne;Bewertung\n31.01.2026;{};5;{}", "Anna Berg"),
        ("date;auteur;note;titre;avis\n31/01/2026;{};5;Bien;{}", "Anne Petit"),
        ("fecha;autor;puntuación;título;comentario\n2026-01-31;{};5;Bien;{}", "Ana Soto"),
        ("data;autore;valutazione;titolo;recensione\n2026/1/31;{};5;Bene;{}", "Anna Riva"),
        ("datum;naam;cijfer;titel;beoordeling\n31-01-2026;{};5;Goed;{}", "Anne Smit"),
        ("投稿日;投稿者;評価;タイトル;レビュー本文\n2026/1/31;{};5;良い;{}", "安奈"),
    ],
)
def test_headers_in_other_languages(mine, text, name):
    rows, rejected = read(mine, text.format(name, "It came quickly and it works well") + "\n")
    (row,) = rows
    assert (row["review_content"], row["reviewer_name"]) == ("It came quickly and it works well", name)
    assert (row["review_rating"], row["review_date"]) == (5, "2026-01-31T00:00:00") and not rejected


def test_where_0_means_no_rating_that_row_is_rejected(mine):
    rows, rejected = read(mine, "rating,text\n5,a good one\n0,b\n4,c\n5,d\n")
    assert len(rows) == 3 and rejected[0]["field"] == "rating"


def test_a_note_may_be_a_text(mine):
    rows, _ = read(mine, "id,note\n1,The bike came quickly and works\n2,Broken after three weeks\n")
    assert [row["review_content"][:8] for row in rows] == ["The bike", "Broken a"]


@pytest.mark.parametrize("name", ["Antwort vom Shop", "Réponse de l'entreprise", "Owner response (text)"])
def test_what_the_shop_answers_at_length_is_no_review(mine, name):
    long = "Thank you for these kind words about us, and come back soon"
    rows, _ = read(
        mine, f"Kundenmeinung,{name}\nIt came a week too late,{long}\nBroken after three weeks,{long} 2\n"
    )
    assert [row["review_content"] for row in rows] == ["It came a week too late", "Broken after three weeks"]


@pytest.mark.parametrize(
    "scores",
    [
        [0, 1, 2, 3, 3, 4, 5, 5, 9, 10, 7, 2, 1, 4],
        [3.0, 4.0, 9.0, 2.0, 1.0, 5.0, 10.0, 5.0, 2.0, 4.0, 1.0, 3.0, 5.0, 5.0],
        [80, 95, 3, 1, 5, 4] + [5] * 8,
        [0, 1, 1, 1, 1, 1, 1] * 2,
        [-1, 1, 1, 1, 1, 1, 1] * 2,
        [0, 1, 2, 3, 4, 4, 4] * 2,
    ],
)
def test_another_scale_is_no_stars_though_most_of_its_values_would_fit(mine, capsys, scores):
    rows, rejected = read(
        mine, "score,comment\n" + "".join(f"{s},words about {n}\n" for n, s in enumerate(scores))
    )
    assert len(rows) == 14 and not rejected and not any(row["review_rating"] for row in rows)
    assert "'score' is not taken for review_rating" in capsys.readouterr().out


@pytest.mark.parametrize(
    "whole",
    [
        {"text": {"0": "Came quickly", "1": "Never came"}, "rating": {"0": 5, "1": 1}},  # pandas' to_json
        {
            "status": "ok",
            "data": {"reviews": [{"text": "Came quickly", "rating": 5}, {"text": "Never came", "rating": 1}]},
        },
        {
            "topics": [{"a": 1}],
            "reviews": [{"text": "Came quickly", "rating": 5}, {"text": "Never came", "rating": 1}],
        },
    ],
)
def test_json_as_pandas_and_services_write_it(tmp_path, whole):
    rows, _ = read(tmp_path / "mine.json", json.dumps(whole))
    assert [(row["review_content"], row["review_rating"]) for row in rows] == [
        ("Came quickly", 5),
        ("Never came", 1),
    ]


def test_a_first_review_without_the_optional_fields_is_no_second_header(mine):
    rows, _ = read(
        mine, "text,rating,title,author,country\nCame,5,,,\nNever,1,Bad,Tom,GB\nFine,3,Ok,Tim,GB\n"
    )
    assert [row["review_content"] for row in rows] == ["Came", "Never", "Fine"]


def test_a_title_above_the_header_is_named(mine):
    with pytest.raises(ValueError, match="Delete what stands above the header"):
        read(
            mine,
            "Review report,,,\nExported 31.01.2026,,,\nDate,Rating,Review,Author\n31.01.2026,5,Came,Ann\n",
        )


def test_what_r_writes_for_nothing_is_nothing(mine):
    rows, rejected = read(
        mine, '"","text","rating","author"\n"1","Came",5,"Ann"\n"2","Late",NA,NA\n"3","Ok",-,"Al"\n'
    )
    assert [(row["review_rating"], row["reviewer_name"]) for row in rows] == [
        (5, "Ann"),
        (None, None),
        (None, "Al"),
    ]
    assert not rejected


def test_the_longest_texts_are_taken_where_no_name_is_known(capsys):
    parsed, _ = records.parse(review_files.read_records(CASES / "05_semicolon_commas_in_header.csv"))
    assert [row["review_content"][:8] for row in parsed] == ["Der Akku", "Die Hotl"]
    assert "is taken for review_content: its texts are the longest" in capsys.readouterr().out


def test_the_advice_names_the_longest_texts_where_none_are_long_enough(mine):
    with pytest.raises(ValueError, match=r"columns = \{'remark': 'review_content'\}"):
        read(mine, "code,remark,url\nA1,very good,https://shop.example/a/long/address\n")


@pytest.mark.parametrize(
    "header, values, said",
    [
        (
            "id,text",
            ["7,{0}"] * 3,
            "'id' is not taken for review_id: the same one stands beside different texts",
        ),
        (
            "name,text",
            ["Shop,{0}"] * 3,
            "'name' is not taken for reviewer_name: 'Shop' stands beside 3 of 3 texts",
        ),
        (
            "title,text",
            ["Shop,{0}"] * 2 + ["Inn,{0}"],
            "'title' is not taken for review_title: 'Shop' stands beside 2",
        ),
        (
            "user,text",
            ["1{0},{0}"] * 3,
            "'user' is not taken for reviewer_name: its values are of another kind",
        ),
        (
            "date,text",
            ["soon,{0}"] * 3,
            "'date' is not taken for review_date: its values are of another kind",
        ),
        ("score,text", ["9,{0}", "10,{0}", "3,{0}"], "'score' is not taken for review_rating: its values"),
        ("comments,text", ["3,{0}"] * 3, "'comments' may be review_content too; 'text' was taken"),
    ],
)
def test_a_general_name_is_believed_when_its_values_agree(mine, capsys, header, values, said):
    lines = [value.format(number) for number, value in enumerate(values)]
    rows, rejected = read(mine, "\n".join([header, *(f"{line} words" for line in lines)]))
    assert [row["review_content"] for row in rows] == ["0 words", "1 words", "2 words"] and not rejected
    assert said in capsys.readouterr().out and rows[0]["review_id"] != "7" and not rows[0]["reviewer_name"]


def test_an_id_that_comes_again_with_its_text_is_a_second_delivery(mine):
    rows, rejected = read(mine, "id,name,text\n1,Ann,good\n2,Ben,bad\n2,Ben,bad\n3,Cem,fine\n")
    assert [row["review_id"] for row in rows] == ["1", "2", "3"] and rows[0]["reviewer_name"] == "Ann"
    assert "delivered twice (first in line 3)" in rejected[0]["reason"]


def test_two_exports_that_count_from_1_lose_no_review(mine, capsys):
    rows, rejected = read(mine, "review_id,text\n1,good\n2,bad\n1,fine\n2,bad\n1,poor\n")
    assert [row["review_id"] for row in rows] == ["1", "2", "1-2", "1-3"]
    assert [row["line"] for row in rejected] == [5]
    assert "review_id: 2 stood above another text and got a suffix, such as 1-2" in capsys.readouterr().out


@pytest.mark.parametrize("quoted", ['"{{""ImportId"":""{}""}}"', "{{'ImportId': '{}'}}"])
def test_the_headers_of_qualtrics_are_no_reviews(mine, capsys, quoted):
    ids = ",".join(quoted.format(name) for name in ("_recordId", "recordedDate", "QID1_TEXT"))
    text = "Waited for a month and nobody called"
    lines = [
        "ResponseId,RecordedDate,Q1",
        "Response ID,Recorded Date,What can we do better?",
        ids,
        f"R_1,2026-01-31,{text}",
    ]
    (row,), rejected = read(mine, "\n".join(lines))
    assert row["review_id"] == "R_1" and row["review_content"] == text and not rejected
    assert "rows to line 3 are second headers, and left out" in capsys.readouterr().out


def test_the_second_header_of_a_survey_with_one_answer(mine):
    header = "Respondent ID,Start Date,IP Address,Last Name,First Name,Comments\n,,,,,Open-Ended Response\n"
    (row,), _ = read(mine, header + "11,2026-01-31,1.1.1.1,Nimbus,Ada,It came late\n")
    assert (row["review_content"], row["reviewer_name"]) == ("It came late", "Ada Nimbus")


def test_a_first_and_a_last_name_are_one(tmp_path, capsys):
    names = [{"First Name": "Ada", "Last Name": "Nimbus"}, {"Last Name": "Hill"}, {"First Name": "Tom"}]
    rows = [{"text": "good", **name} for name in [*names, {"First Name": "An", "Last Name": None}]]
    parsed, _ = read(tmp_path / "a.json", json.dumps(rows))
    assert [row["reviewer_name"] for row in parsed] == ["Ada Nimbus", "Hill", "Tom", "An"]
    assert "'Last Name' is added to reviewer_name" in capsys.readouterr().out


def test_the_error_of_an_api_is_no_review(tmp_path):
    error = {"error": {"code": 403, "message": "The caller does not have the permission to read reviews"}}
    assert read(tmp_path / "a.json", json.dumps(error))[0] == []
    rows, rejected = read(tmp_path / "a.jsonl", f'{{"text": "It came late"}}\n{json.dumps(error)}')
    assert len(rows) == 1 and "error" in rejected[0]["reason"] and rejected[0]["value"] == error["error"]


def test_the_employers_of_reviewers_are_not_the_company(mine, capsys):
    lines = "".join(f"Firm {n},text {n}\n" for n in range(6))
    assert not read(mine, "Company,text\n" + lines)[0][0]["company_name"]
    assert (
        "'Company' is not taken for company_name: nearly every review has another" in capsys.readouterr().out
    )
    assert read(mine, "Company,text\n" + "A,x\nA,y\nB,z\nA,u\nB,v\n")[0][0]["company_name"] == "A"


def test_mongodb_says_what_kind_its_values_are(tmp_path):
    row = {
        "_id": {"$oid": "65a"},
        "text": "Good",
        "rating": {"$numberInt": "4"},
        "date": {"$date": "2026-01-31"},
    }
    (row,), _ = read(tmp_path / "a.json", json.dumps([row]))
    assert (row["review_id"], row["review_rating"], row["review_date"][:10]) == ("65a", 4, "2026-01-31")


@pytest.mark.parametrize(
    "person", [{"author": {"name": "Ann"}}, {"user": {"username": "Ann"}}, {"user.name": "Ann"}]
)
def test_authors_are_found_where_they_are_nested(tmp_path, person):
    rows, _ = read(tmp_path / "a.json", json.dumps([{"text": "Good", **person}]))
    assert rows[0]["reviewer_name"] == "Ann"


def test_an_object_alone_in_a_list_is_opened(tmp_path):
    """So Google Play's API has its comments; a list of several is left as it is."""
    comment = {"text": "Good", "starRating": 4, "lastModified": {"seconds": "1769853600"}}
    rows, _ = read(
        tmp_path / "a.json",
        json.dumps({"reviews": [{"reviewId": "1", "comments": [{"userComment": comment}]}]}),
    )
    assert (rows[0]["review_content"], rows[0]["review_rating"]) == ("Good", 4)
    assert rows[0]["review_date"] == "2026-01-31T10:00:00Z"


def test_the_replies_of_the_company_are_no_reviews(mine):
    """They may be longer than what they answer."""
    rows, _ = read(
        mine,
        "Bemerkung,Developer Reply Text\nIt came a week too late,Thank you for these kind words about us\n",
    )
    assert rows[0]["review_content"] == "It came a week too late" and rows[0]["review_replies"]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "text,stars\n", "a.csv holds no reviews that can be read. Export it again"),
        ("a.json", "[{}, {}]", "a.json holds no reviews that can be read. Line 1: empty"),
        (
            "a.csv",
            '"2","Fine","It came two weeks late"\n"1","Bad","Broken"\n',
            "first line looks like a review",
        ),
        ("a.json", "[]", "a.json holds no reviews that can"),
        ("a.csv", "a,b\n1,2\n", r"no column .* it has: a, b\. .*columns = {'a': 'review_content'}"),
        ("a.json", '{"count": 3, "next": "x"}', "no column .* it has: count, next"),
        ("a.jsonl", "text\nmore\n", "a.jsonl holds no reviews .* Line 1: not JSON"),
    ],
)
def test_a_file_without_reviews_is_an_error_that_names_the_fix(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name, content)


def test_a_path_without_a_file_says_what_a_source_can_be(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.csv' is no file"):
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
    content = '[{"text": "cut \\ud83d", "stars": 5, "review_replies": ["\\ude00"]},'
    content += '{"text": "\\ud83d\\ude00\\ud83d", "stars": 9}]'
    parsed, rejected = read(tmp_path / "a.json", content)
    files.write_jsonl(tmp_path / "all.jsonl", parsed + rejected)
    assert parsed[0]["review_content"] == "cut ?" and parsed[0]["review_replies"] == ["?"]
    assert rejected[0]["record"] == {"text": "😀?", "stars": 9}


def test_a_file_of_one_s_own_is_found_by_its_name(tmp_path, monkeypatch, capsys):
    """In the Files panel of Colab, in Drive, in a Kaggle input; a path that is one comes first."""
    monkeypatch.chdir(tmp_path)
    places = [tmp_path / name for name in ("content", "drive", "input")]
    for name, place in zip(("COLAB_FILES", "DRIVE", "KAGGLE_INPUT"), places):
        monkeypatch.setattr(workdir, name, place)
    found = [
        places[0] / "a [1].csv",
        places[1] / "b.csv",
        places[2] / "mine" / "c.csv",
        places[2] / "u" / "v" / "mine" / "d.csv",
    ]
    for path in found:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n")
    assert [review_files.find(path.name) for path in found] == found
    assert capsys.readouterr().out.splitlines() == [f"{path.name} is {path}" for path in found]
    (tmp_path / "b.csv").write_text("text\n")
    assert [review_files.find("b.csv"), review_files.find("none.csv")] == [Path("b.csv"), Path("none.csv")]
    assert not capsys.readouterr().out
