import errno
import json
import os
from pathlib import Path

import pytest

from helpers.core import files, workdir


def test_a_torn_last_line_is_dropped_and_cut_off_before_the_next_append(tmp_path, capsys):
    journal = tmp_path / "journal.jsonl"
    files.append_jsonl(journal, {"n": 1})
    with journal.open("a") as opened:
        opened.write('{"n": 2, "text": "torn o')
    assert files.read_jsonl(journal) == [{"n": 1}]
    assert "torn last line" in capsys.readouterr().out
    files.append_jsonl(journal, {"n": 3})
    assert files.read_jsonl(journal) == [{"n": 1}, {"n": 3}]


def test_a_complete_last_line_without_its_newline_is_kept(tmp_path):
    """append_jsonl once cut it off as torn, which would have lost a paid answer."""
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"n": 1}')
    files.append_jsonl(journal, {"n": 2})
    assert files.read_jsonl(journal) == [{"n": 1}, {"n": 2}]


def test_a_torn_line_longer_than_one_block_is_cut_off(tmp_path):
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b'{"n": 1}\n' + b'{"' + b"x" * 200_000)
    files.append_jsonl(journal, {"n": 2})
    assert files.read_jsonl(journal) == [{"n": 1}, {"n": 2}]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"n": 1}\n{"n": \n{"n": 3}\n')
    with pytest.raises(ValueError, match="journal.jsonl, line 2 is not JSON"):
        files.read_jsonl(journal)


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path):
    """A blank last line was "not JSON", and a file that a Windows editor saved "Unexpected UTF-8 BOM"."""
    path = tmp_path / "own.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n": 1}\n\n{"n": 2}\n \n')
    assert files.read_jsonl(path) == [{"n": 1}, {"n": 2}]


def test_a_full_disk_leaves_the_old_file_and_names_the_fix(tmp_path, monkeypatch):
    path = tmp_path / "reviews.jsonl"
    files.write_text(path, "old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError, match="No space left on device\n.*reviews.jsonl is as it was. Is the disk full"
    ):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["reviews.jsonl"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "adapter"
    with files.whole_folder(target) as scratch:
        (scratch / "a").write_text("old")
    with pytest.raises(RuntimeError), files.whole_folder(target) as scratch:
        (scratch / "a").write_text("new")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["adapter"]


def test_a_librarys_own_error_keeps_its_text(tmp_path):
    """transformers raises OSError without a number; its text became "[Errno None] None; nothing was changed"."""
    with pytest.raises(OSError, match="^Can't load tokenizer\n"), files.whole_folder(tmp_path / "adapter"):
        raise OSError("Can't load tokenizer")


def test_the_old_folder_is_there_until_the_new_one_stands(tmp_path, monkeypatch):
    """It was removed before the new one was renamed: a failure between the two lost the adapter."""
    target = tmp_path / "adapter"
    with files.whole_folder(target) as scratch:
        (scratch / "a").write_text("old")

    def fails(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output error"), files.whole_folder(target) as scratch:
        (scratch / "a").write_text("new")
        monkeypatch.setattr(Path, "replace", fails)
    assert (target / "a").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["adapter"]


def test_a_stage_is_finished_only_while_its_files_are_as_they_were(tmp_path):
    files.write_text(tmp_path / "in", "1")
    files.write_text(tmp_path / "out", "2")
    assert not workdir.is_finished(tmp_path, "02")
    workdir.finish_stage(tmp_path, "02", reads=["in", "never_there"], writes=["out"])
    assert workdir.is_finished(tmp_path, "02")
    for name in ("in", "out", "never_there"):
        before = files.fingerprint(tmp_path / name)
        files.write_text(tmp_path / name, "changed")
        assert not workdir.is_finished(tmp_path, "02"), f"{before} {name}"
        workdir.finish_stage(tmp_path, "02", reads=["in", "never_there"], writes=["out"])
        assert workdir.is_finished(tmp_path, "02")


def test_a_stage_cannot_be_finished_without_its_output(tmp_path):
    with pytest.raises(FileNotFoundError, match="02 should have written out"):
        workdir.finish_stage(tmp_path, "02", reads=[], writes=["out"])
    assert not (tmp_path / "manifests").exists()


def test_the_fingerprint_of_a_folder_sees_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = files.fingerprint(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert files.fingerprint(tmp_path / "a") != first


def test_json_is_written_as_utf8(tmp_path):
    files.write_json(tmp_path / "x.json", {"answer": "我学会了"})
    assert "我学会了" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"answer": "我学会了"}


def test_the_sample_stands_in_for_a_missing_file_and_says_so(tmp_path):
    rows, origin = workdir.read_or_sample(tmp_path / "reviews.jsonl", lambda: [{"n": 1}])
    assert rows == [{"n": 1}] and "bundled sample" in origin
    files.write_jsonl(tmp_path / "reviews.jsonl", [{"n": 2}, {"n": 3}])
    rows, origin = workdir.read_or_sample(tmp_path / "reviews.jsonl", lambda: [{"n": 1}])
    assert len(rows) == 2 and "written by an earlier notebook" in origin


def test_what_was_read_and_has_changed_since_is_said(tmp_path, monkeypatch):
    """After another file in 01, 04 said "rows from chunks.jsonl" and asked a paid teacher about the old reviews."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda html: shown.append(html.data))
    files.write_jsonl(tmp_path / "reviews.jsonl", [{"n": 1}])
    names = ["reviews.jsonl", "reviews_clean.jsonl", "chunks.jsonl"]
    for stage, read, written in zip(("02_reviews_to_markdown", "03_chunk_reviews"), names, names[1:]):
        files.write_jsonl(tmp_path / written, [{"of": written}])
        workdir.finish_stage(tmp_path, stage, reads=[read], writes=[written])
    workdir.finish_stage(tmp_path, "05_finetune_gemma", reads=["qa_dataset"], writes=[])
    assert workdir.outdated(tmp_path / "chunks.jsonl") == "" and not shown
    files.write_jsonl(tmp_path / "reviews.jsonl", [{"n": 2}])
    _, origin = workdir.read_or_sample(tmp_path / "chunks.jsonl", list)
    assert "but what 02_reviews_to_markdown read has changed since: run it and those after it again" in origin
    assert "OUT OF DATE: chunks.jsonl" in shown.pop() and not shown
    files.write_jsonl(tmp_path / "own.jsonl", [{"n": 2}])  # nobody's manifest names it
    assert workdir.outdated(tmp_path / "own.jsonl") == workdir.outdated(tmp_path / "reviews.jsonl") == ""


def test_a_notebook_that_kept_nothing_is_named_by_the_next(tmp_path):
    """Of an export of ratings alone, notebook 02 keeps no text; 03 once stopped at "max() arg is empty"."""
    files.write_jsonl(tmp_path / "reviews_clean.jsonl", [])
    with pytest.raises(
        ValueError, match="reviews_clean.jsonl has no rows: the notebook that wrote it kept none"
    ):
        workdir.read_or_sample(tmp_path / "reviews_clean.jsonl", lambda: [{"n": 1}])


@pytest.fixture
def shown(monkeypatch):
    """What was displayed, as HTML."""
    pieces = []
    monkeypatch.setattr("IPython.display.display", lambda html: pieces.append(html.data))
    return pieces


def own_work_dir(folder: Path, own: bool) -> Path:
    (folder / "reviews.jsonl").write_text("{}\n")
    workdir.finish_stage(folder, "01_collect_reviews", [], ["reviews.jsonl"], own=own)
    return folder


def test_the_sample_in_place_of_one_s_own_data_is_shown_in_white_on_red(tmp_path, shown):
    """02 was left out: 03 works on the sample, and somebody may not read one grey line that says so."""
    work_dir = own_work_dir(tmp_path, own=True)
    rows, origin = workdir.read_or_sample(work_dir / "reviews_clean.jsonl", lambda: [{"n": 1}])
    path = work_dir / "reviews_clean.jsonl"
    assert rows == [{"n": 1}] and origin == f"1 rows of the bundled sample, because {path} does not exist"
    [html] = shown
    assert (
        "background: #b00020; color: white" in html and "01_collect_reviews had a source of your own" in html
    )
    assert f"NOT YOURS: the bundled sample, because {path} does not exist" in html
    workdir.read_or_sample(work_dir / "reviews.jsonl", lambda: [{"n": 1}])
    assert len(shown) == 1


def test_the_adapter_and_the_pairs_of_the_sample_warn_as_well(tmp_path, shown, monkeypatch):
    from helpers.train import data, models

    monkeypatch.setattr(data, "sample", list)  # whose gate takes seconds
    work_dir = own_work_dir(tmp_path, own=True)
    assert models.find_adapter("", work_dir)[0] == models.SAMPLE_ADAPTER
    with pytest.raises(ValueError, match="no rows in train"):
        data.load_qa_dataset("auto", work_dir)
    assert ["bundled sample's, because" in html for html in shown] == [True, False]
    data._read_sides("sample")  # asked for
    assert len(shown) == 2


def test_nothing_is_shown_where_the_sample_was_the_source_or_an_older_version_wrote_the_manifest(
    tmp_path, shown
):
    work_dir = own_work_dir(tmp_path, own=False)
    manifest = work_dir / "manifests" / "01_collect_reviews.json"
    workdir.read_or_sample(work_dir / "reviews_clean.jsonl", lambda: [{"n": 1}])
    files.write_json(
        manifest, {name: value for name, value in files.read_json(manifest).items() if name != "own"}
    )
    workdir.read_or_sample(work_dir / "reviews_clean.jsonl", lambda: [{"n": 1}])
    assert shown == []
