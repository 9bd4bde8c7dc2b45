import json
import re
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from helpers.ask import qa
from helpers.clean import reviews, texts
from helpers.collect import records, review_files
from helpers.core import files


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
    + [("★★★★", 4), ("★★☆☆☆", 2), ("⭐⭐⭐", 3), ("⭐️⭐️", 2)],
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
    + [(None, None), ("", None), ("NaN", None)],
)
def test_dates_in_iso_as_numbers_and_with_the_months_name(value, day):
    assert review(review_date=value)["review_date"] == day


@pytest.mark.parametrize(
    "value",
    ["yesterday", "2026", 2026, 45678, 123456789, "31/01/26", "2026-02-30", "31.01.2026", True, 10**30],
)
def test_a_number_or_word_that_is_no_date_is_not_turned_into_one(value):
    """pydantic alone takes the year 2026 for the 34th minute of 1970."""
    parsed, rejected = records.parse([{"review_id": "1", "review_date": value}])
    assert not parsed and rejected[0]["field"] == "review_date" and "not a date" in rejected[0]["reason"]


def test_what_cannot_be_parsed_is_kept_with_its_reason():
    records = [
        {"review_id": "1", "review_rating": 9},
        {"review_id": "2", "review_date": "yesterday"},
        {"error": "No data", "error_code": "dead_page"},
        {"review_id": "3"},
        {"review_id": "3"},
    ]
    parsed, rejected = records.parse(records)
    assert [row["review_id"] for row in parsed] == ["3"]
    assert [(row["file"], row["line"], row["field"], row["value"]) for row in rejected] == [
        (None, 1, "review_rating", 9),
        (None, 2, "review_date", "yesterday"),
        (None, 3, "error", "No data"),
        (None, 5, "review_id", "3"),
    ]
    for row, reason in zip(
        rejected, ["less than or equal to 5", "not a date", "dead_page", "delivered twice (first in line 4)"]
    ):
        assert reason in row["reason"]
    assert rejected[0]["record"] == records[0]


def test_half_an_emoji_becomes_a_question_mark(tmp_path):
    """A cut surrogate pair is valid JSON but no text: writing it as UTF-8 crashed after all was read."""
    records = '[{"text": "cut \\ud83d", "review_replies": ["\\ude00"]}, {"text": "\\ud83d\\ude00\\ud83d", "stars": 9}]'
    parsed, rejected = read(tmp_path / "a.json", records)
    files.write_jsonl(tmp_path / "all.jsonl", parsed + rejected)
    assert parsed[0]["review_content"] == "cut ?" and parsed[0]["review_replies"] == ["?"]
    assert rejected[0]["record"] == {"text": "😀?", "stars": 9}


def test_reviews_without_an_id_get_one_from_their_content():
    parsed, _ = records.parse(
        [{"review_content": "good"}, {"review_content": "bad"}, {"review_content": "good"}]
    )
    assert len(parsed) == 2


# Files from other sources.


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


def test_a_column_mapped_to_none_is_left_out(mine):
    rows, rejected = read(mine, "text,score\nHelped at once,good\n", {"score": None})
    assert not rejected and rows[0]["review_rating"] is None


def test_columns_without_a_name_or_with_the_same_name_are_told_apart(mine, capsys):
    rows, _ = read(mine, "text,,text\nfirst,x,second\n", {"text (column 3)": "review_title"})
    assert rows[0]["review_content"] == "first" and rows[0]["review_title"] == "second"
    assert "Not used: (column 2)" in capsys.readouterr().out


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_header_tells_the_delimiter(mine, mark):
    rows, rejected = read(mine, f'text{mark}stars\n"Good, really; good\t| yes"{mark}5\n')
    assert rows[0]["review_content"] == "Good, really; good\t| yes" and not rejected


def test_excels_separator_line_and_rows_without_content_are_no_records(mine):
    rows, rejected = read(mine, "sep=;\r\ntext;stars\r\n\r\nGood;5\r\n;\r\nBad;x\r\n")
    assert len(rows) == 1 and [row["line"] for row in rejected] == [6]


def test_quoted_newlines_keep_the_line_numbers_of_the_editor(mine):
    rows, rejected = read(mine, 'text,stars\n"one\ntwo, ""three""",5\nBad,x\n"a\nb",1,2\nshort\nFine,4\n')
    assert [row["review_content"] for row in rows] == ['one\ntwo, "three"', "Fine"]
    assert [(row["file"], row["line"], row["field"], row["value"]) for row in rejected] == [
        ("mine.csv", 4, "stars", "x"),
        ("mine.csv", 5, None, None),
        ("mine.csv", 7, None, None),
    ]
    assert rejected[1]["reason"] == "wrong number of fields (3 instead of 2)"
    assert rejected[1]["record"] == '"a\nb",1,2\n'


@pytest.mark.parametrize("after", ["Fine {0},4\n", '"Fine {0}",4\n', '"So ""{0}""",4\n'])
def test_a_quotation_mark_that_never_closes_costs_one_line(mine, after):
    lines = "".join(after.format(number) for number in range(3))
    rows, rejected = read(mine, f'text,stars\nGood,5\n"Bad,1\n{lines}')
    assert [row["line"] for row in rejected] == [3] and len(rows) == 4
    assert rejected[0]["reason"].startswith("a quotation mark is not closed")
    assert rejected[0]["record"] == '"Bad,1\n'


def test_spaces_behind_a_comma_do_not_break_a_quoted_text(mine):
    rows, rejected = read(mine, 'stars, text\n4, "Good, really"\n')
    assert not rejected and rows[0]["review_content"] == "Good, really"


def test_a_json_line_that_is_none_is_rejected_with_its_number(tmp_path):
    lines = '{"text": "good"}\n\n{"text": "bro\n{"text": "line\u2028separator"}\n[1]\n{"text": "torn'
    rows, rejected = read(tmp_path / "a.jsonl", lines)
    assert [row["review_content"] for row in rows] == ["good", "line\u2028separator"]
    assert [row["line"] for row in rejected] == [3, 5, 6]
    assert rejected[0]["reason"].startswith("not JSON") and rejected[0]["record"] == '{"text": "bro'
    assert rejected[1]["reason"] == "not a JSON object"


def test_json_lines_and_arrays_are_the_same(tmp_path):
    records = [{"review_id": "1", "text": "good"}, {"review_id": "2", "text": "bad"}]
    array = read(tmp_path / "a.json", json.dumps(records, indent=1))
    wrapped = read(tmp_path / "b.json", json.dumps({"company": "A", "page": [], "reviews": records}))
    assert array == wrapped == read(tmp_path / "c.jsonl", "\n".join(json.dumps(row) for row in records))
    assert len(array[0]) == 2


def test_records_of_an_array_have_their_lines_and_nested_names(tmp_path):
    google = {"reviewer": {"displayName": "Ann"}, "starRating": "FIVE", "comment": "Good, [really]: {good}"}
    worse = google | {"starRating": "STAR_RATING_UNSPECIFIED"}
    rows, rejected = read(
        tmp_path / "a.json", json.dumps({"total": [1], "reviews": [google, worse, 3]}, indent=1)
    )
    assert rows[0]["reviewer_name"] == "Ann" and rows[0]["review_rating"] == 5
    text = (tmp_path / "a.json").read_text().split("\n")
    assert text[rejected[0]["line"] - 1].strip() == "{" and "UNSPECIFIED" in text[rejected[0]["line"] + 3]
    assert text[rejected[1]["line"] - 1].strip() == "3"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_exports(mine, capsys, encoding):
    rows, _ = read(mine, "text,stars\nplain and long enough,1\nDéjà vu für 5 €,5\n".encode(encoding))
    assert rows[1]["review_content"] == "Déjà vu für 5 €"
    assert ("Windows-1252. Save it as UTF-8 if line 3" in capsys.readouterr().out) == (encoding == "cp1252")


@pytest.mark.parametrize(
    "content",
    [
        "text\nцена хорошая, доставка быстрая\n".encode("cp1251"),
        "text\n良い自転車です。また買います\n".encode("shift-jis"),
        "text\ngood\n".encode("utf-16-le"),
        "text\nA long line with one Café\n".encode() + b"Another with one Caf\xe9\n",
    ],
    ids=["cp1251", "shift-jis", "utf-16 without its mark", "a broken line in UTF-8"],
)
def test_no_text_is_garbled_in_silence(mine, content):
    with pytest.raises(ValueError, match=r"mine.csv is not UTF-8 text; .* save it as UTF-8"):
        read(mine, content)


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
        ("a.csv", "", "a.csv is empty"),
        ("a.json", " \n", "a.json is empty"),
        ("a.csv", "text,stars\n", "a.csv holds no reviews"),
        ("a.json", "[]", "a.json holds no reviews"),
        ("a.csv", "a,b\n1,2\n", r"no column .* it has: a, b\. .*columns = {'a': 'review_content'}"),
        ("a.json", '{"count": 3, "next": "x"}', "no column .* it has: count, next"),
        ("a.json", '[{"text": "a"},\n{"text": ]', r"a.json, line 2, column 10: .* damaged or was cut off"),
        ("a.json", '"text"', "a.json holds a single str; reviews are a JSON array"),
        ("a.jsonl", "text\nmore\n", "No line of .*a.jsonl can be read. Line 1: not JSON"),
        ("a.csv", '"text,stars\nGood,5\n', "a.csv, line 1, the header: a quotation mark"),
        ("a.xlsx", "PK", r"suffix '.xlsx', which is not read; save it as CSV \(UTF-8\)"),
        ("a", "text", "suffix '', which is not read"),
    ],
)
def test_a_file_without_reviews_is_an_error_that_names_the_fix(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name, content)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.csv' is no file .* give 'sample', 'brightdata' or"):
        review_files.read_records(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match="is a folder; give the path of one file in it"):
        review_files.read_records(tmp_path)


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


LONG = "The bike came late and nobody at the shop could tell me why it had taken so many weeks to get here"


def cleaned(*records: dict, **options) -> tuple[list[dict], dict[str, str]]:
    """The kept rows, and the reasons of the removed by id."""
    rows, _ = records.parse([{"review_id": str(n), **record} for n, record in enumerate(records, 1)])
    kept, removed = reviews.clean(rows, **options)
    assert sorted(row["review_id"] for row in kept + removed) == sorted(row["review_id"] for row in rows)
    return kept, {row["review_id"]: row["reason"] for row in removed}


def test_short_and_near_duplicate_reviews_are_set_aside_with_a_reason():
    kept, reasons = cleaned(
        {"review_content": LONG},
        {"review_content": LONG.replace("weeks", "days") + "!"},
        {"review_content": "Nope"},
        {"review_content": None},
        {"review_content": "Something else entirely, a short but fine review of a bell"},
        {"review_title": LONG[:18], "review_content": f"{LONG[18:].upper()}…"},
    )
    assert [row["review_id"] for row in kept] == ["1", "5"]
    assert reasons == {
        "2": "near-duplicate of 1 (83% of word pairs shared)",
        "3": "fewer than 3 words",
        "4": "fewer than 3 words",
        "6": "exact duplicate of 1",
    }


def test_of_twins_the_first_by_date_stays_in_whatever_order_they_come():
    """Bright Data delivers a snapshot in no particular order."""
    twins = [
        {"review_id": "a", "review_date": "2026-03-01", "review_content": LONG + " again"},
        {"review_id": "b", "review_date": "2026-01-01", "review_content": LONG},
        {"review_id": "c", "review_content": LONG},
        {"review_id": "d", "review_date": "2026-02-01", "review_content": LONG + " again"},
    ]
    for order in permutations(twins):
        kept, reasons = cleaned(*order)
        assert [row["review_id"] for row in kept] == ["b"]
        assert reasons["c"] == "exact duplicate of b"
        assert reasons["a"] == reasons["d"] == "near-duplicate of b (95% of word pairs shared)"


def test_a_phrase_that_many_write_is_kept_once_and_not_taken_for_its_opposite():
    kept, reasons = cleaned(
        {"review_content": "A very good bike", "reviewer_name": "Ann"},
        {"review_content": "A very good bike!", "reviewer_name": "Ben"},
        {"review_content": "a very good bike", "reviewer_name": "Ann"},
        {"review_content": "A very bad bike", "reviewer_name": "Cas"},
        {"review_content": "I would say it is a good bike"},
        {"review_content": "I would say it is a bad bike"},
    )
    assert [row["review_id"] for row in kept] == ["1", "4", "5", "6"]
    assert reasons == {"2": "common phrase, copy of 1", "3": "exact duplicate of 1"}


def test_a_text_without_spaces_is_not_one_word():
    kept, reasons = cleaned(
        {"review_content": "自行车晚到了两个星期，而且没有人接电话。"},
        {"review_content": "자전거가 좋아요"},
        {"review_content": "จักรยานดีมาก"},
        {"review_content": "很好"},
    )
    assert [row["language"] for row in kept] == ["zh", "th"]
    assert reasons == {"2": "fewer than 3 words", "4": "fewer than 3 words"}


def test_any_iterable_is_cleaned_and_not_changed():
    rows = reviews.sample()[:40]
    before = json.dumps(rows)
    assert reviews.clean(iter(rows)) == reviews.clean(rows) and json.dumps(rows) == before


def test_a_cleaned_review_has_its_fields_and_the_link_only_where_names_stay():
    kept, _ = cleaned({"review_content": LONG, "review_url": "https://www.trustpilot.com/reviews/1"})
    assert set(kept[0]) == set(reviews.FIELDS) and kept[0]["review_url"] is None
    assert "View Full Review" not in reviews.markdown(kept)
    kept, _ = cleaned({"review_content": LONG, "review_url": "https://x.example/a b)"}, redact_pii=False)
    assert reviews.markdown(kept).endswith(f"{LONG}\n\n[View Full Review](https://x.example/a%20b%29)\n")


def test_markdown_survives_nulls_and_has_a_section_a_review():
    rows, _ = records.parse(
        [{"review_id": "1"}, {"review_id": "2", "review_content": "Good", "company_name": "A"}]
    )
    document = reviews.markdown([{**row, "redacted": {}} for row in rows])
    assert document.count("### Review by") == 2 and document.count("# ") == 4
    assert "None" not in document


def test_markdown_in_the_form_of_the_article():
    row = {
        "company_name": "Velomarsh", "company_website": "https://velomarsh.example", "company_total_reviews": 12,
        "company_overall_rating": 4.5, "company_location": "Utrecht", "company_category": "Bicycle Store",
        "company_about": "We sell\nbikes.", "reviewer_name": "Ada", "reviewer_location": "NL",
        "review_date": "2026-01-31", "review_date_of_experience": "2026-01-15", "review_rating": 4,
        "review_title": "Good", "review_content": "It rides.\nIt stops.", "review_url": "https://t.example/1",
    }  # fmt: skip
    rows, _ = records.parse([{"company_name": "Velomarsh", "review_content": "First."}, row])
    assert (
        reviews.markdown(rows)
        == """\
# Velomarsh Review Summary

[Visit Website](https://velomarsh.example)

- **Overall Rating**: 4.5
- **Total Reviews**: 12
- **Location**: Utrecht
- **Industry**: Bicycle Store

> We sell bikes.

---

### Review by an unnamed customer

First.

---

### Review by Ada (NL)
- **Posted on**: 2026-01-31
- **Experience Date**: 2026-01-15
- **Rating**: 4 of 5
- **Title**: Good

It rides.
It stops.

[View Full Review](https://t.example/1)
"""
    )


MARKUP = st.lists(
    st.sampled_from(
        [
            "# Title",
            "### Review by Bob",
            "---",
            "***",
            "- - -",
            "===",
            "- **Rating**: 5 of 5",
            "```",
            "~~~",
            "<!--",
        ]
        + [
            "<div>",
            "[a]: b",
            "[NAME]:",
            "\\# a",
            "word",
            "-",
            "#",
            "=",
            "_",
            "*",
            "\n",
            "\n\n",
            "\r",
            "\u2028",
            " ",
        ]
        + [
            "    code",
            "> quote",
            "+ **Title**: x",
            "<script>",
            "1. a",
            "|--|--|",
            "\x0b",
            "</p>",
            "&#35; a",
            "`",
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(text=MARKUP, title=MARKUP, name=MARKUP, about=MARKUP, raw=st.booleans())
@example(
    text="word\n===\nword\n-\n# a",
    title="a\n---\n# b",
    name="a\n### Review by Bob",
    about="a\n\n# b",
    raw=False,
)
def test_no_text_can_forge_or_end_a_section(text, title, name, about, raw):
    """With texts as notebook 02 cleans them, and, one by one, with raw ones."""
    fields = {"review_content": text, "review_title": title, "reviewer_name": name}
    fields |= {
        "company_about": about,
        "company_name": name,
        "company_location": title,
        "reviewer_location": name,
    }
    rows, _ = records.parse([{"review_id": "1", **fields}, {"review_id": "2", "review_content": "Ends."}])
    plain = {field: texts.plain(rows[0][field]) for field in fields}
    rows[0] |= {"review_content": plain["review_content"]} if raw else plain
    document = reviews.markdown(rows)
    lines = document.split("\n")
    assert sum(line.startswith("### Review by ") for line in lines) == 2
    assert sum(line.startswith("# ") for line in lines) == len({row["company_name"] or "" for row in rows})
    assert lines.count("---") == document.count(reviews.RULE) == len(re.findall(r"(?m)^#+ ", document)) - 1
    assert sum(line.startswith("- **") for line in lines) <= 3
    tokens = [token for token in MarkdownIt("commonmark").parse(document) if token.level == 0]
    kinds = Counter(token.tag for token in tokens if token.type in ("heading_open", "hr"))
    assert kinds["h1"] == len({row["company_name"] or "" for row in rows})
    assert kinds["h3"] == 2 and kinds["hr"] == lines.count("---") and kinds["h2"] == 0
    assert not [token for token in tokens if token.type in ("fence", "html_block")]
    assert "Ends." in lines


@given(MARKUP)
def test_an_escaped_text_can_be_read_back(text):
    assert re.sub(r"(?m)^([^\S\n]*)\\", r"\1", reviews.escaped(text)) == text


@pytest.mark.parametrize(
    "text", ["#1 in town", "- late\n- rude", "<3 it", "~20 km", "*nice*", "[NAME]", "5 -"]
)
def test_plain_lines_stay_as_they_are(text):
    assert reviews.escaped(text) == text


# The bundled sample keeps the promises of its README.


@pytest.fixture(scope="module")
def raw() -> list[dict]:
    return review_files.read_records(reviews.SAMPLE)


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


SOUND_PAIRS = 450  # those after them are flawed on purpose: tests/ask/test_gate.py


def test_no_sample_pair_repeats_another():
    pairs = files.read_jsonl(qa.SAMPLE)[:SOUND_PAIRS]
    assert len(pairs) >= 400
    for field in ("question", "answer"):
        said = [" ".join(texts.words(pair[field])) for pair in pairs]
        assert len(set(said)) == len(said)
    ids = {row["review_id"] for row in reviews.clean_sample()}
    assert {pair["review_id"] for pair in pairs} <= ids


def test_every_sample_answer_has_three_to_five_sentences():
    for pair in files.read_jsonl(qa.SAMPLE)[:SOUND_PAIRS]:
        sentences = re.findall(r"[.!?](?=\s|$)", pair["answer"])
        assert 3 <= len(sentences) <= 5, pair["answer"]


def test_the_exercise_of_notebook_02_is_true_of_the_sample():
    """It once said that short reviews are mostly five stars; nobody had counted."""
    usual, strict = reviews.clean_sample(), reviews.clean(reviews.sample(), min_words=25)[0]
    stay = {row["review_id"] for row in strict}
    left = Counter(row["review_rating"] for row in usual if row["review_id"] not in stay)
    assert left[1] == left[5] > 5
