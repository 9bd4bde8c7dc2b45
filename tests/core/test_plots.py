"""helpers.core.plots: what the pictures hold, and that what people wrote cannot break them."""

from __future__ import annotations

import re

from helpers.core import plots


def names(axis) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


def test_a_table_escapes_what_reviewers_wrote_and_shows_it_whole():
    html = plots.table([{"text": "<script>alert(1)</script> " + "word " * 100 + "\nend"}]).data
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert "word end" in re.sub(r"\s+", " ", html) and "..." not in html


def test_a_word_without_an_end_may_break_and_others_stay_as_they_are():
    """A base model repeats one tag for a whole answer, and would leave the answer beside it one word's room."""
    address = "https://example.com/reviews/2026/velomarsh"
    html = plots.table([{"endless": "<specific>" * 40, "address": address}]).data
    assert html.count("\u200b") == 6 and address in html
    assert html.replace("\u200b", "").count("&lt;specific&gt;") == 40


def test_a_table_without_rows_says_so():
    assert "no rows</td>" in plots.table([]).data


def test_the_most_common_names_have_a_bar_each_and_all_others_a_grey_one(tmp_path):
    places = [f"{letter}{letter}" for letter in "ABCDEFGHIJKLM" for _ in range(3)] + [
        "$1$^",
        "x" * 60,
        None,
        "",
    ]
    figure = plots.bars(places + places[:3], "Where", "reviews", limit=10)
    (axis,) = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [6] + 9 * [3] + [3 * 3 + 2]
    assert names(axis)[0] == "AA" and names(axis)[-1] == "5 more"
    assert [text.get_text() for text in axis.texts][:2] == ["6", "3"], "each bar has its number"
    assert axis.patches[-1].get_facecolor() != axis.patches[0].get_facecolor()


def test_numbers_by_name_keep_their_order():
    (axis,) = plots.bars({"few": 1, "many": 3}, "Title", "rows").axes
    assert names(axis) == ["few", "many"] and [bar.get_width() for bar in axis.patches] == [1, 3]
    assert all(tick == int(tick) for tick in axis.get_xticks())


def test_a_long_name_is_cut_and_a_dollar_sign_is_no_formula(tmp_path):
    odd = plots.bars(["$1$^", "x" * 60], "Where", "reviews")
    odd.savefig(tmp_path / "odd.png")  # a formula that cannot be read would raise here
    assert names(odd.axes[0]) == ["$1$^", "x" * 47 + "…"]


def test_no_names_are_no_bars(tmp_path):
    figure = plots.bars([None], "Where", "reviews")
    figure.savefig(tmp_path / "none.png")
    assert not figure.axes[0].patches


def test_a_limit_within_reach_is_drawn_and_one_far_off_is_not():
    near, far = (plots.histogram({"rows": [5, 9]}, "t", "tokens", limit=limit) for limit in (10, 2048))
    assert len(near.axes[0].lines) == 1 and near.axes[0].lines[0].get_label() == "limit 10"
    assert not far.axes[0].lines


def test_histograms_side_by_side_hold_every_row_on_one_scale():
    figure = plots.histogram({"base": [3, 90, 91], "tuned": [40, 41], "reference": [50]}, "Words", "words")
    heights = [[bar.get_height() for bar in axis.patches] for axis in figure.axes]
    assert [sum(row) for row in heights] == [3, 2, 1]
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    assert {(axis.patches[0].get_x(), axis.patches[-1].get_x()) for axis in figure.axes} == {
        (figure.axes[0].patches[0].get_x(), figure.axes[0].patches[-1].get_x())
    }
    assert [axis.get_title() for axis in figure.axes] == ["base", "tuned", "reference"]
