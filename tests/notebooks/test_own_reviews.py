"""Notebook 01 reads files of other sources: what loads, what is rejected, and what the pictures show."""

from __future__ import annotations

import json
from pathlib import Path

import papermill
import pytest

from helpers.clean import reviews
from helpers.core import files
from tests.conftest import ALL
from tests.notebooks.test_runs import pictures, run, text


@pytest.fixture
def work_dir(tmp_path) -> Path:
    return tmp_path / "work"


SHOP = """\ufefftitle,body,rating,review_date,reviewer_name,location
Great,"Came in two days,
and well packed",5,2026-01-31 12:33:11 UTC,Ann,DE
Broken,It broke,not sure,2026-02-01 09:00:00 UTC,Ben,FR
Too many,It has one more,4,2026-02-02 09:00:00 UTC,Cem,NL,more
"Never closed,I like it,4,2026-02-03 09:00:00 UTC,Dora,NL
Fine,It does what it should,4,2026-02-04 09:00:00 UTC,Eva,NL
"""
APP = """Review Text;Star Rating;Review Submit Date and Time;What we answered;Country
Crashes at the start;1;13/02/2026 10:00;Sorry;AT
Fast and simple;5;03/02/2026 10:00;;CH
Only a text;;;;
"""


def test_two_files_of_different_sources_load_and_a_broken_line_costs_one_line(tmp_path):
    (tmp_path / "shop.csv").write_text(SHOP, encoding="utf-8")
    (tmp_path / "app.csv").write_text(APP, encoding="utf-16")
    shop, app = tmp_path / "shop", tmp_path / "app"
    said = text(run("01", shop, source=str(tmp_path / "shop.csv")))
    assert "2 reviews, 3 rejected records" in said and "5 records from" in said
    assert [row["review_title"] for row in files.read_jsonl(shop / "reviews.jsonl")] == ["Great", "Fine"]
    rejected = files.read_jsonl(shop / "rejected.jsonl")
    assert [(row["file"], row["line"], row["field"], row["value"]) for row in rejected] == [
        ("shop.csv", 4, "rating", "not sure"),
        ("shop.csv", 5, None, None),
        ("shop.csv", 6, None, None),
    ]
    assert [row["reason"].split(" (")[0] for row in rejected] == [
        "not a whole number of stars",
        "wrong number of fields",
        "a quotation mark is not closed or not doubled",
    ]
    assert rejected[0]["record"]["body"] == "It broke" and rejected[2]["record"].startswith('"Never closed')
    assert all(row["reason"].split(" (")[0] in said and f">{row['line']}<" in said for row in rejected)

    done = run("01", app, source=str(tmp_path / "app.csv"), columns={"What we answered": "review_replies"})
    assert "3 reviews, 0 rejected records" in text(done) and "Every record could be read" in text(done)
    assert "'Star Rating' is review_rating" in text(done) and pictures(done) == 4
    rows = files.read_jsonl(app / "reviews.jsonl")
    assert [row["review_rating"] for row in rows] == [1, 5, None]
    assert [row["review_date"] for row in rows] == ["2026-02-13T10:00:00", "2026-02-03T10:00:00", None]
    assert [row["reviewer_location"] for row in rows] == ["AT", "CH", None] and rows[0][
        "review_replies"
    ] == "Sorry"

    said = text(run("03", app))  # 02 was left out
    assert "NOT YOURS: the bundled sample, because" in said and "background: #b00020" in said


def test_a_file_with_nothing_but_texts_has_pictures_that_say_so(work_dir, tmp_path):
    (tmp_path / "texts.csv").write_text("feedback\nGood\nCould be better\n")
    done = run("01", work_dir, source=str(tmp_path / "texts.csv"))
    said = text(done)
    assert "2 reviews, 0 rejected records" in said and pictures(done) == 4
    assert "0 of 2 reviews have a rating" in said and "0 of 2 reviews have a date\n" in said
    assert "0 of 2 reviews name a country" in said and "without a text: 0 of 2" in said


def test_json_lines_with_a_torn_line_and_an_array_with_ratings_of_another_scale(tmp_path):
    lines = [json.dumps({"comment": f"Visit {number}", "score": number}) for number in (1, 2, 3)]
    (tmp_path / "a.jsonl").write_text("\n".join([lines[0], lines[1][:-9], lines[2]]))
    run("01", tmp_path / "one", source=str(tmp_path / "a.jsonl"))
    (rejected,) = files.read_jsonl(tmp_path / "one" / "rejected.jsonl")
    assert (rejected["line"], rejected["record"]) == (2, lines[1][:-9]) and "not JSON" in rejected["reason"]
    assert len(files.read_jsonl(tmp_path / "one" / "reviews.jsonl")) == 2

    half = [{"text": "Helped", "score": 4.5}, {"text": "Did not", "score": 80}]
    (tmp_path / "b.json").write_text(json.dumps({"reviews": half}, indent=1))
    with pytest.raises(papermill.PapermillExecutionError, match="No review could be read"):
        run("01", tmp_path / "two", source=str(tmp_path / "b.json"), columns={"score": "review_rating"})
    said = text(run("01", tmp_path / "two", source=str(tmp_path / "b.json"), company_name="Velomarsh"))
    assert "'score' is not taken for review_rating" in said and "0 of 2 reviews do not say which" in said
    rows = files.read_jsonl(tmp_path / "two" / "reviews.jsonl")
    assert [(row["review_rating"], row["company_name"]) for row in rows] == [(None, "Velomarsh")] * 2


CASES = Path(__file__).parents[1] / "fixtures" / "reviews"
READ = {  # how many reviews of each file 01 reads, and what is in the chunks of 03
    "01_datafiniti_product_id.csv": (5, "reading in bed"),
    "02_outscraper.csv": (
        2,
        "Harbour Bakery sells the best rye bread in town. Ask for the seeded loaf, says [NAME].",
    ),
    "03_null_words.csv": (4, "Great product overall"),
    "04_surveymonkey.csv": (2, "Support solved my problem"),
    "05_semicolon_commas_in_header.csv": (2, "der Techniker kam erst"),
    "06_excel_trailing.csv": (4, "Instructions are only in German"),
    "09_one_cut_byte_utf8.csv": (199, "Bestellung 0 kam pünktlich"),
    "10_amazon.csv": (4, "Der Deckel ist nach zwei Wochen gebrochen"),
    "11_app_store_connect.json": (2, "it is always right"),
    "16_amazon_2023.jsonl": (2, "no scratches.\nWould buy again."),
    "17_us_phones_no_country.csv": (
        4,
        "manager at [PHONE] never called back, and the office line [PHONE] just",
    ),
    "18_title_is_whole_text.csv": (2, "The second review is short"),
}


@pytest.mark.parametrize(
    "name", READ if ALL else ["02_outscraper.csv", "10_amazon.csv", "18_title_is_whole_text.csv"]
)
def test_files_that_went_wrong_go_through_the_notebooks(work_dir, name):
    """tests/collect and tests/clean have each of them at the level of the functions."""
    count, expected = READ[name]
    said = text(run("01", work_dir, source=str(CASES / name), company_name="Velomarsh"))
    assert f"{count} reviews, " in said
    nameless = sum(not row["reviewer_name"] for row in files.read_jsonl(work_dir / "reviews.jsonl"))
    assert f"{nameless} of {count} reviews do not say who wrote them" in text(run("02", work_dir))
    run("03", work_dir)
    pieces = files.read_jsonl(work_dir / "chunks.jsonl")
    assert expected in "\n".join(piece["text"] for piece in pieces)
    assert {piece["company"] for piece in pieces} == ({"Lumo"} if name.startswith("01") else {"Velomarsh"})


@pytest.mark.parametrize(
    "name, columns, message",
    [
        ("missing.csv", {}, "missing.csv' is no file"),
        (
            "a.csv",
            {"Feedback": "review_content"},
            "columns has 'Feedback', but the columns of .*a.csv are: a, b",
        ),
        ("a.csv", {}, "no column that is known to hold the text"),
    ],
)
def test_a_file_that_cannot_be_used_stops_with_the_fix(work_dir, tmp_path, name, columns, message):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(papermill.PapermillExecutionError, match=message):
        run("01", work_dir, source=str(tmp_path / name), columns=columns)
    assert not (work_dir / "reviews.jsonl").exists()


def test_a_teacher_is_not_asked_about_a_company_without_a_name(work_dir, monkeypatch):
    """Where answers were paid for already, they are read as before."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    chunk = {"id": "1", "review_ids": ["a"], "company": None, "text": "### Review by [NAME]\n\nIt came late."}
    files.write_jsonl(work_dir / "chunks.jsonl", [chunk])
    with pytest.raises(
        papermill.PapermillExecutionError, match="run notebooks 01 to 03 again .* company_name"
    ):
        run("04", work_dir, teacher="openai")
    assert not (work_dir / "qa_journal.jsonl").exists()


def test_the_sentences_about_the_sample_are_what_its_reviews_say(alone):
    done, work_dir = alone("01")
    said = text(done)
    parsed = files.read_jsonl(work_dir / "reviews.jsonl")
    assert parsed == reviews.sample()
    ends = sum(row["review_rating"] in (1, 5) for row in parsed)
    assert f"326 of 326 reviews have a rating, and {ends} of those give one star or five" in said
    places = [row["reviewer_location"] for row in parsed if row["reviewer_location"]]
    assert f"{len(places)} of 326 reviews name a country or place, {len(set(places))} different ones" in said
    assert "Most often, for 5 of 333 records: review_id: delivered twice" in said
    assert "Not used" not in said.partition("try.csv: ")[0]  # the exercise reads a file of its own
