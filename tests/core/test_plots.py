import re

from helpers.core import plots


def test_a_table_escapes_what_reviewers_wrote_and_shows_it_whole():
    html = plots.table([{"text": "<script>alert(1)</script> " + "word " * 100 + "\nend"}]).data
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert "word end" in re.sub(r"\s+", " ", html) and "..." not in html


def test_no_rows_are_no_table():
    assert plots.table([]) is None


def test_a_limit_within_reach_is_drawn_and_one_far_off_is_named():
    near, far = (
        plots.lengths([5, 9], "tokens", "t", limit=10),
        plots.lengths([5, 9], "tokens", "t", limit=2048),
    )
    assert len(near.axes[0].lines) == 1 and not far.axes[0].lines
    assert "the limit of 2,048 is far to the right" in far.axes[0].get_xlabel()


def test_months_without_a_review_are_shown():
    figure = plots.months(["2026-01", "2026-04", "2026-04"])
    assert [bar.get_height() for bar in figure.axes[0].patches] == [1, 0, 0, 2]
