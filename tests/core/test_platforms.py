"""Secrets and results on Colab and Kaggle, through fakes of their modules; each message names the click."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.core import files, runtime, workdir
from tests.fakes.hub import FakeHub

FAKES = Path(__file__).parents[1] / "fakes"
NAME = "OPENAI_API_KEY"


@pytest.fixture
def place(monkeypatch, tmp_path):
    """place("colab", …): this process stands there, with these variables; the folder it works in is empty."""

    def place(where: str, **environment: str) -> None:
        for name in list(os.environ):
            if name.startswith(("COLAB_", "KAGGLE_", "PAGE_", "FAKE_")) or name in (NAME, "WORK_REPO"):
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(runtime, "platform", lambda: where)
        monkeypatch.syspath_prepend(FAKES / where)
        monkeypatch.setattr("IPython.get_ipython", Shell)

    yield place
    for name in [name for name in sys.modules if name.startswith(("google.colab", "kaggle_"))]:
        del sys.modules[name]


class Shell:
    kernel = "the page's"


TOKEN = {"KAGGLE_USER_SECRETS_TOKEN": "jwt"}


@pytest.mark.parametrize("where, more", [("colab", {}), ("kaggle", TOKEN)])
def test_the_page_answers_and_the_environment_comes_before_it(place, where, more):
    place(where, PAGE_OPENAI_API_KEY=" from-the-page\n", **more)
    assert runtime.secret(NAME) == "from-the-page"
    place(where, PAGE_OPENAI_API_KEY="from-the-page", OPENAI_API_KEY="from-the-environment", **more)
    assert runtime.secret(NAME) == "from-the-environment"


@pytest.mark.parametrize(
    "where, environment, click",
    [
        ("colab", {}, "open the key symbol (Secrets) on the left, add OPENAI_API_KEY"),
        ("colab", {"PAGE_OPENAI_API_KEY": "denied"}, "switch on 'Notebook access'"),
        ("colab", {"FAKE_COLAB": "headless"}, "set OPENAI_API_KEY in the environment of the command"),
        ("colab", {"FAKE_COLAB": "headless"}, "10 seconds went by, allow it, and run this cell again"),
        ("kaggle", TOKEN, "open Add-ons > Secrets, add OPENAI_API_KEY, and tick it"),
        ("kaggle", {}, "open Add-ons > Secrets"),
        ("kaggle", TOKEN | {"FAKE_INTERNET": "off"}, "open Settings > Turn on internet"),
    ],
    ids=["no secret", "no access", "no page", "slow consent", "no Kaggle secret", "no token", "internet off"],
)
def test_without_the_secret_the_message_names_the_click(place, where, environment, click):
    place(where, **environment)
    with pytest.raises(runtime.MissingSecret) as caught:
        runtime.secret(NAME)
    assert click in str(caught.value)


def test_a_plain_process_on_colab_is_headless_too(place, monkeypatch):
    """userdata needs IPython's kernel, and breaks with an AttributeError where there is none."""
    place("colab", PAGE_OPENAI_API_KEY="unreachable")
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    with pytest.raises(runtime.MissingSecret, match="no Colab page is open"):
        runtime.secret(NAME)


def test_a_mounted_drive_is_where_the_next_runtime_looks_too(place, tmp_path, monkeypatch, capsys):
    place("colab")
    monkeypatch.setattr(workdir, "DRIVE", tmp_path / "MyDrive")
    assert workdir.default_work_dir() == Path("/content/work")
    assert "A DISCONNECT DELETES IT" in capsys.readouterr().out
    (tmp_path / "MyDrive").mkdir()
    files.write_jsonl(workdir.open_work_dir("") / "reviews.jsonl", [{"id": 1}])
    assert files.read_jsonl(workdir.open_work_dir("") / "reviews.jsonl") == [{"id": 1}]
    assert "Google Drive keeps it when the runtime ends" in capsys.readouterr().out


def test_a_work_dir_in_a_drive_that_is_not_mounted_is_refused(place, tmp_path, monkeypatch):
    """It was made on the runtime's own disk, and the notebook said that Google Drive keeps it."""
    place("colab")
    monkeypatch.setattr(workdir, "DRIVE", tmp_path / "drive" / "MyDrive")
    with pytest.raises(PermissionError, match="No such file or directory; .*mount Drive"):
        workdir.open_work_dir(str(tmp_path / "drive" / "MyDrive" / "gemma"))
    assert not (tmp_path / "drive").exists()


def test_on_kaggle_results_go_where_a_saved_version_keeps_them(place, capsys):
    place("kaggle")
    assert workdir.default_work_dir() == Path("/kaggle/working")
    said = capsys.readouterr().out
    assert "Save Version" in said and "Add Input > Your Work" in said


def test_what_an_attached_kaggle_output_holds_is_there_for_the_next_notebook(tmp_path, monkeypatch, capsys):
    earlier = tmp_path / "input" / "notebooks" / "someone" / "03-chunk-reviews"
    earlier.mkdir(parents=True)
    files.write_jsonl(earlier / "chunks.jsonl", [{"id": "a"}])
    files.write_jsonl(earlier / "reviews.jsonl", [{"old": True}])
    workdir.finish_stage(earlier, "03_chunk_reviews", reads=[], writes=["chunks.jsonl"])
    (tmp_path / "work").mkdir()
    files.write_jsonl(tmp_path / "work" / "reviews.jsonl", [{"mine": True}])
    monkeypatch.setattr(workdir, "KAGGLE_INPUT", tmp_path / "input")
    folder = workdir.open_work_dir(str(tmp_path / "work"))
    assert workdir.is_finished(folder, "03_chunk_reviews")
    assert files.read_jsonl(folder / "reviews.jsonl") == [{"mine": True}], "what is there stays"
    assert "2 files of earlier notebooks come from" in capsys.readouterr().out


def test_a_kill_while_earlier_files_are_brought_leaves_none_of_them_cut_off(tmp_path, monkeypatch):
    """What stood there cut off was taken for whole from then on, with the rows that it had."""
    earlier = tmp_path / "input" / "03-chunk-reviews"
    files.write_jsonl(earlier / "chunks.jsonl", [{"id": "a"}, {"id": "b"}])
    workdir.finish_stage(earlier, "03_chunk_reviews", reads=[], writes=["chunks.jsonl"])
    monkeypatch.setattr(workdir, "KAGGLE_INPUT", tmp_path / "input")
    with monkeypatch.context() as patch:
        patch.setattr(workdir.shutil, "copyfile", cut_off)
        with pytest.raises(KeyboardInterrupt):
            workdir.open_work_dir(str(tmp_path / "work"))
    folder = workdir.open_work_dir(str(tmp_path / "work"))
    assert [row["id"] for row in files.read_jsonl(folder / "chunks.jsonl")] == ["a", "b"]
    assert workdir.is_finished(folder, "03_chunk_reviews")


def cut_off(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[:13])
    raise KeyboardInterrupt


NOTEBOOK = """
import sys
from helpers.core import files, workdir
folder = workdir.open_work_dir(sys.argv[1])
print(sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()))
stage = sys.argv[2]
for large in (folder / "checkpoints", folder / "text_to_sql" / "checkpoints" / "run"):
    large.mkdir(parents=True, exist_ok=True)
    (large / "optimizer.pt").write_text("stays")
(folder / "adapter.safetensors").write_bytes(bytes(20_000))
files.write_jsonl(folder / f"{stage}.jsonl", [{"stage": stage}])
workdir.finish_stage(folder, stage, reads=[], writes=[f"{stage}.jsonl"])
"""


def test_a_private_data_set_carries_the_results_into_a_new_runtime(tmp_path):
    def notebook(runtime: str, stage: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", NOTEBOOK, tmp_path / runtime / "work", stage],
            cwd=FAKES.parents[1],
            env=os.environ | hub.environment(tmp_path / runtime / "home") | {"WORK_REPO": "someone/work"},
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    with FakeHub() as hub:
        assert "work_dir after 01 is kept in the private dataset repository someone/work" in notebook(
            "first", "01"
        )
        assert hub.repos["datasets/someone/work"].private
        assert sorted(hub.repos["datasets/someone/work"].files) == [
            ".gitattributes",
            "01.jsonl",
            "adapter.safetensors",
            "manifests/01.json",
        ], "of no notebook, 09 included, do checkpoints go along"
        assert "['01.jsonl', 'adapter.safetensors', 'manifests/01.json']" in notebook("second", "02")
        hub.troubles = [("/api/datasets/someone/work/commit", 403)]
        assert "kept here but not on the Hub yet" in notebook("second", "03")
        hub.troubles = []
        assert "03.jsonl" not in hub.repos["datasets/someone/work"].files
        notebook("second", "04")
        assert {"03.jsonl", "04.jsonl"} <= set(hub.repos["datasets/someone/work"].files), (
            "the next takes all along"
        )


def test_an_upload_that_fails_ends_no_notebook(tmp_path):
    """huggingface_hub wraps a failed LFS upload in RuntimeError, which once ended a finished notebook."""
    program = f"import time; time.sleep = lambda seconds: None\n{NOTEBOOK}\nprint('the end')"
    with FakeHub() as hub:
        hub.troubles = [("PUT /lfs/", "drop")] * 6
        done = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "work", "01"],
            cwd=FAKES.parents[1],
            env=os.environ | hub.environment(tmp_path / "home") | {"WORK_REPO": "someone/work"},
            capture_output=True,
            text=True,
        )
        assert not hub.troubles and "01.jsonl" not in hub.repos["datasets/someone/work"].files
    assert "work_dir after 01 is kept here but not on the Hub yet (RuntimeError: " in done.stdout
    assert done.stdout.endswith("the end\n"), done.stderr


def test_a_public_data_set_is_refused(tmp_path):
    with FakeHub() as hub:
        hub.add("datasets/someone/work", {}, private=False)
        done = subprocess.run(
            [sys.executable, "-c", NOTEBOOK, tmp_path / "work", "01"],
            cwd=FAKES.parents[1],
            env=os.environ | hub.environment(tmp_path / "home") | {"WORK_REPO": "someone/work"},
            capture_output=True,
            text=True,
        )
        assert "PermissionError: someone/work is public" in done.stderr
        assert not hub.repos["datasets/someone/work"].commits[1:]
