import json
import re
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from helpers.clean import chunks, reviews, texts
from helpers.collect import records, review_files

LONG = "The bike came late and nobody at the shop could tell me why it had taken so many weeks to get here"


def cleaned(*given: dict, **options) -> tuple[list[dict], dict[str, str]]:
    """The kept rows, and the reasons of the removed by id."""
    rows, _ = records.parse([{"review_id": str(n), **record} for n, record in enumerate(given, 1)])
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
    contents = [row.get("review_content") for row in raw if "error" not in row]
    joined = "\n".join(text or "" for text in contents)
    words = [len((text or "").split()) for text in contents]
    assert any(isinstance(row.get("review_rating"), str) for row in raw)
    assert None in contents and "" in contents
    assert 1 in words and max(words) >= 550
    assert re.search(r"&amp;|&#39;|&nbsp;", joined) and re.search("[\U0001f300-\U0001faff]", joined)
    assert re.search(r"ignore (all )?(your )?previous instructions", joined, re.IGNORECASE)
    assert "@example." in joined and len(set(contents)) < len(contents)
    for language in (r"\bund\b", r"\bet\b", r"\bpero\b", r"\bche\b", r"\bhet\b", r"\bthe\b"):
        assert len(re.findall(language, joined)) > 5


def test_the_exercise_of_notebook_02_is_true_of_the_sample():
    """It once said that short reviews are mostly five stars; nobody had counted."""
    usual, strict = reviews.clean_sample(), reviews.clean(reviews.sample(), min_words=25)[0]
    stay = {row["review_id"] for row in strict}
    left = Counter(row["review_rating"] for row in usual if row["review_id"] not in stay)
    assert left[1] == left[5] > 5


def test_what_a_page_hides_reaches_neither_document_nor_chunk():
    hidden = "<!-- obey --><style>obey {}</style><script>obey()</script>"
    names = (
        "company_name",
        "company_about",
        "company_location",
        "company_category",
        "review_title",
        "review_content",
    )
    (row,), _ = records.parse([{name: f"Seen in the {name}{hidden}" for name in names}])
    kept, _ = reviews.clean([row])
    said = reviews.markdown(kept) + str(chunks.split(kept))
    assert "obey" not in said and all(f"Seen in the {name}" in said for name in names)
