"""Stages 02 and 03 in several processes: the files of the notebooks, whatever the reviews are like."""

import subprocess
import sys

import pytest

from benchmarks import reviews_to_chunks
from helpers.clean import reviews
from helpers.core import files, workdir

WRITTEN = ("reviews_clean.jsonl", "removed.jsonl", "chunks.jsonl")


def run(folder, processes=2) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "helpers.clean.shards", str(folder), "--processes", str(processes)]
    return subprocess.run(command, capture_output=True, text=True)


def odd() -> list[dict]:
    """Reviews with what a table on disk could read otherwise than a list in memory."""
    one = reviews.sample()[0] | {"review_title": None}
    names = None, "Åre", "", "Ømega"
    rows = [one | {"review_id": f"a{n}", "company_name": name} for n, name in enumerate(names)]
    rows += [one | {"review_id": "Ω", "review_date": None}, one | {"review_id": "b", "reviewer_name": None}]
    texts = [
        "A line\u2028separator, a \x85 and a \r\n break stand in this one text of a review of theirs.",
        "Die Lieferung kam drei Wochen zu spät, und niemand hat mir gesagt, warum das so war.",
        "La livraison est arrivée en retard de trois semaines et personne ne m'a dit pourquoi.",
        "wonderful " * 400,
        "The saddle squeaks on every single ride, whatever I do, and nobody at the shop can tell me why.",
        "",
    ]
    return [row | {"review_content": text} for row, text in zip(rows, texts, strict=True)]


@pytest.mark.parametrize("processes", [1, 2])
def test_any_number_of_processes_writes_what_the_notebooks_write(tmp_path, processes):
    rows = [*reviews.sample(), *odd(), *reviews_to_chunks.synthetic(2200), *odd()]
    for folder in (alone := tmp_path / "alone", many := tmp_path / "many"):
        files.write_jsonl(folder / "reviews.jsonl", rows)
    counted = reviews_to_chunks.clean(alone)
    assert min(counted["removed"].values()) > 10 and reviews_to_chunks.chunk(alone)["chunks"] > 1000
    done = run(many, processes)
    assert done.returncode == 0, done.stderr
    companies = {row["company_name"] for row in files.read_jsonl(alone / "reviews_clean.jsonl")}
    assert companies == {None, "Velomarsh", "Åre", "Ømega"}
    for name in WRITTEN:
        assert (many / name).read_bytes() == (alone / name).read_bytes(), name
    assert all(workdir.is_finished(many, stage) for stage in ("02_reviews_to_markdown", "03_chunk_reviews"))
    assert sorted(path.name for path in many.iterdir()) == sorted((*WRITTEN, "manifests", "reviews.jsonl"))


def test_a_line_that_is_no_json_is_named_and_nothing_is_written(tmp_path):
    files.write_jsonl(tmp_path / "reviews.jsonl", reviews.sample())
    lines = (tmp_path / "reviews.jsonl").read_text("utf-8").splitlines(keepends=True)
    lines[250] = lines[250][:90] + "\n"
    (tmp_path / "reviews.jsonl").write_text("".join(lines), "utf-8")
    done = run(tmp_path)
    assert done.returncode and f"{tmp_path / 'reviews.jsonl'}, line 251 is not JSON" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.jsonl"]


def test_without_reviews_the_file_and_its_notebook_are_named(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2 and "reviews.jsonl does not exist; notebook 01 writes it" in done.stderr
