"""The pictures in the prose are the drawn ones and are told in words; the road map marks the right station."""

from __future__ import annotations

import re
import runpy

import pytest

from helpers.pipeline import notebooks, report
from tests.notebooks.test_form import FOLDER, NAMES, PATHS, REPOSITORY

road_map = runpy.run_path(str(REPOSITORY / "docs" / "road_map.py"))
drawings = runpy.run_path(str(REPOSITORY / "docs" / "drawings.py"))


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_each_notebook_shows_its_own_station_and_says_it(path):
    here = int(path.name[:2])
    opening = notebooks.read(path).cells[0].source
    ((alt, picture),) = re.findall(r"!\[(Road map: .+?)\]\((\S+?)\)", opening)
    assert alt == road_map["alt"](here)
    assert re.fullmatch(rf"(https://\S+/)?pictures/{here:02}\.svg(\?sanitize=true)?", picture)
    assert (FOLDER / "pictures" / f"{here:02}.svg").read_text("utf-8") == road_map["draw"](here)


@pytest.mark.parametrize("here", range(10))
def test_one_station_is_marked_and_the_picture_needs_nothing_else(here):
    drawn = road_map["draw"](here)
    assert drawn.count("you are here") == 1 and drawn.count("<rect") == len(PATHS)
    assert f"<title>{road_map['alt'](here)}</title>" in drawn
    assert not re.search(r"<script|<style|href|url\(", drawn)


@pytest.mark.parametrize("name", drawings["DRAWINGS"])
def test_a_drawing_stands_in_a_notebook_as_it_is_drawn_with_its_words(name):
    drawn = drawings["draw"](name)
    assert (FOLDER / "pictures" / f"{name}.svg").read_text("utf-8") == drawn
    assert not re.search(r"<script|<style|href|url\(", drawn)
    said = "\n".join(cell.source for path in PATHS for cell in notebooks.read(path).cells)
    alts = re.findall(rf"!\[(.+?)\]\((?:https://\S+/)?pictures/{name}\.svg", said)
    assert alts == [drawings["alt"](name)]


def test_the_report_which_stands_alone_leaves_the_picture_out():
    said = report.prose(notebooks.read(PATHS[5]).cells[0].source)
    assert "<img" not in said and "You will" in said
