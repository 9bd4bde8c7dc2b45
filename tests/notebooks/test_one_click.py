"""The set-up cell in a folder that holds one notebook and nothing else; badges, forms, links and file names."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import papermill
import pytest

from helpers.core import runtime, workdir
from helpers.pipeline import notebooks, one_click
from tests.conftest import REPOSITORY
from tests.notebooks.test_runs import assert_taught, text

PATHS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]
README = REPOSITORY / "README.md"
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
FORM = re.compile(
    r"(?P<name>\w+) = (?P<value>.+?)  # @param "
    r'(?:\{type:"(?P<kind>\w+)"\}|(?P<choices>\[[^]]*\])(?: \{allow-input: ?true\})?) # \S.*'
)
KINDS = {str: "string", bool: "boolean", int: "integer", float: "number"}


# ---- what every notebook carries


def test_the_notebooks_and_the_readme_are_as_the_tool_writes_them():
    """Where this fails: python -m helpers.pipeline.one_click"""
    for path in PATHS:
        notebook = notebooks.read(path)
        before = json.dumps(notebook, sort_keys=True)
        changed = json.dumps(one_click.with_one_click(notebook), sort_keys=True)
        assert changed == before, f"{path.name}: run python -m helpers.pipeline.one_click"
    text = README.read_text(encoding="utf-8")
    assert one_click.with_address(text) == text


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_the_set_up_cell_is_the_second_and_the_only_one(path):
    cells = notebooks.read(path).cells
    assert [at for at, cell in enumerate(cells) if "colab_setup.sh" in cell.source] == [1]
    assert cells[1].source == one_click.setup_cell()


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_both_badges_point_at_their_own_file(path):
    opening = notebooks.read(path).cells[0].source
    file = f"{one_click.ADDRESS}/blob/{one_click.REF}/notebooks/{path.name}"
    targets = re.findall(r"svg\)\]\((\S+?)\)", opening)
    assert targets == [
        f"https://colab.research.google.com/github/{file}",
        f"https://kaggle.com/kernels/welcome?src=https://github.com/{file}",
    ]


def test_another_address_reaches_every_badge_and_cell(monkeypatch):
    monkeypatch.setattr(one_click, "ADDRESS", "someone/fork")
    monkeypatch.setattr(one_click, "REF", "v2/beta")
    notebook = one_click.with_one_click(notebooks.read(PATHS[0]))
    readme = one_click.with_address(one_click.with_address(README.read_text(encoding="utf-8")))
    assert notebook.cells[0].source.count("someone/fork/blob/v2/beta/notebooks/00_") == 2
    assert "github.com/someone/fork" in notebook.cells[1].source and '"v2/beta"' in notebook.cells[1].source
    assert readme.count("/someone/fork/blob/v2/beta/notebooks/") == 2 * len(PATHS)
    assert "OWNER/" not in readme + notebook.cells[0].source + notebook.cells[1].source


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_colab_forms_parse_and_papermill_still_sees_the_parameters(path):
    defaults = notebooks.parameters(path)
    [cell] = [cell for cell in notebooks.read(path).cells if "parameters" in notebooks.tags(cell)]
    for line in cell.source.splitlines():
        found = FORM.fullmatch(line)
        assert found, f"not a form: {line}"
        default = defaults[found["name"]]
        if found["choices"]:
            choices = json.loads(found["choices"])
            assert default in choices and len(set(choices)) > 1, line
        else:
            assert found["kind"] == KINDS.get(type(default), "raw"), line
    seen = papermill.inspect_notebook(str(path))
    assert {name: ast.literal_eval(found["default"]) for name, found in seen.items()} == defaults


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_notebooks_that_want_a_gpu_say_so_on_both_platforms(path):
    metadata, source = notebooks.read(path).metadata, path.read_text(encoding="utf-8")
    gpu = "runtime.device(" in source
    assert (metadata.get("accelerator"), metadata.get("colab")) == (
        ("GPU", {"gpuType": "T4"}) if gpu else (None, None)
    )
    kaggle = {"dataSources": [], "isInternetEnabled": True, "language": "python", "sourceType": "notebook"}
    wanted = {"accelerator": "nvidiaTeslaT4" if gpu else "none", "isGpuEnabled": gpu}  # Kaggle's T4 x2
    assert metadata.kaggle == kaggle | wanted


def test_what_kaggle_is_pushed_with_is_private_and_names_notebooks_that_exist():
    [metadata] = re.findall(r'`(\{"id": .+?\})`', README.read_text(encoding="utf-8"))
    kernel = json.loads(metadata)
    assert kernel["is_private"] and kernel["machine_shape"] == "NvidiaTeslaT4" and kernel["enable_internet"]
    assert kernel["id"] == "NAME/" + kernel["title"].replace(" ", "-"), "Kaggle makes the id of the title"
    assert Path(kernel["code_file"]).stem in NAMES
    assert {name.partition("/")[2].replace("-", "_") for name in kernel["kernel_sources"]} <= set(NAMES)


@pytest.mark.parametrize("path", [README, *DOCS, *PATHS], ids=lambda path: path.stem)
def test_every_link_and_file_name_resolves_in_the_repository(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join(cell.source for cell in notebooks.read(path).cells)
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)", text):
        assert (path.parent / target).exists(), target
    for target in re.findall(r"github(?:\.com)?/[^/\s]+/[^/\s]+/blob/[^\s)]+?/(notebooks/[^\s)]+)", text):
        assert (REPOSITORY / target).exists(), target
    for target in re.findall(r"(?<![\w/.-])(?:notebooks|helpers|tests|benchmarks|docs)/[\w./-]*\w", text):
        assert (REPOSITORY / target).exists(), target
    for name in re.findall(r"-m ((?:helpers|benchmarks)(?:\.\w+)+)", text):
        module = REPOSITORY / name.replace(".", "/")
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), name
    for notebook in re.findall(r"\b\d\d_\w+", text):
        assert notebook in NAMES, notebook


def test_the_map_of_the_code_names_every_room_module_and_function_that_it_should():
    """docs/code.md links to each room and module, and to no other; the functions that it sends a reader to exist.

    A room's own text names its modules as well.
    """
    text, helpers = (REPOSITORY / "docs" / "code.md").read_text(encoding="utf-8"), REPOSITORY / "helpers"
    linked = re.findall(r"\]\(\.\./helpers/(\w+/\w+\.py)\)", text)
    modules = {path.relative_to(helpers).as_posix() for path in helpers.glob("*/*.py")}
    assert sorted(linked) == sorted(modules - {"pipeline/__main__.py"})
    for path in helpers.glob("*/[!_]*.py"):
        assert f"`{path.stem}`" in path.with_name("__init__.py").read_text(encoding="utf-8"), path
    for room, module, name in re.findall(r"`(\w+)\.(\w+)\.(\w+)`", text):
        source = (helpers / room / f"{module}.py").read_text(encoding="utf-8")
        assert re.search(rf"^(?:def|class) {name}\b", source, re.MULTILINE), f"{room}.{module}.{name}"


# ---- the set-up cell, with the repository on a loopback git server


def git(*arguments: object, cwd: Path) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    done = subprocess.run(
        ["git", *who, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def copy_of_the_tree(to: Path) -> Path:
    """This working tree, without what git ignores."""
    for name in git("ls-files", "-co", "--exclude-standard", cwd=REPOSITORY).splitlines():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, to / name)
    return to


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of this working tree on `git daemon`, and its folder; the branch is main."""
    base = tmp_path_factory.mktemp("git")
    tree = copy_of_the_tree(base / "repository")
    git("init", "-q", "-b", "main", cwd=tree)
    git("add", "-A", cwd=tree)
    git("commit", "-qm", "The tree under test", cwd=tree)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--listen=127.0.0.1", f"--port={port}", f"--base-path={base}", "--export-all", "--reuseaddr"]
    daemon = subprocess.Popen([f"{git('--exec-path', cwd=tree)}/git-daemon", *options])
    address = f"git://127.0.0.1:{port}/repository"
    try:
        while subprocess.run(["git", "ls-remote", address], capture_output=True).returncode:
            assert daemon.poll() is None, "git daemon has stopped"
            time.sleep(0.05)
        yield address, tree
    finally:
        daemon.kill()
        daemon.wait()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with notebook 00 and nothing else."""
    (tmp_path / "clean").mkdir()
    shutil.copy(PATHS[0], tmp_path / "clean")
    return tmp_path / "clean"


def environment(folder: Path, where: str, **more: str) -> dict[str, str]:
    """As on the platform, for a Python in which the packages are installed."""
    ours = ("COLAB_", "KAGGLE_", "GEMMA_", "PYTHONPATH", "CUDA_VISIBLE", "UNSLOTH_COMPILE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    there = {
        "colab": {"COLAB_RELEASE_TAG": "release-colab", "FAKE_COLAB": "headless"},
        "kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive", "UV_SYSTEM_PYTHON": "1"},
        "home": {},
    }[where]
    own = {"TMPDIR": str(folder.parent / "tmp"), "REQUIREMENTS": "requirements-cpu.txt"}
    own["PYTHONPATH"] = str(REPOSITORY / "tests" / "fakes" / where)
    Path(own["TMPDIR"]).mkdir(exist_ok=True)
    return kept | there | own | more


AFTER = """
helpers = sys.modules.get("helpers")
print("helpers:", helpers and Path(helpers.__file__).parent.parent)
print("settings:", os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("UNSLOTH_COMPILE_LOCATION"))
"""


def run_cell(folder: Path, where: str, **more: str) -> subprocess.CompletedProcess:
    """The set-up cell in `folder`, and after it where helpers came from."""
    return subprocess.run(
        [sys.executable, "-c", one_click.setup_cell() + AFTER],
        cwd=folder,
        env=environment(folder, where, **more),
        capture_output=True,
        text=True,
    )


def test_at_home_the_cell_does_nothing(folder):
    done = run_cell(folder, "home", GEMMA_REPOSITORY="git://127.0.0.1:9/nowhere")
    assert done.stdout == "helpers: None\nsettings: None None\n" and not done.stderr
    assert [path.name for path in folder.iterdir()] == [PATHS[0].name]
    assert not any((folder.parent / "tmp").iterdir())


@pytest.mark.parametrize("where", ["colab", "kaggle"])
def test_the_cell_fetches_and_installs_once(served, folder, where):
    done = run_cell(folder, where, GEMMA_REPOSITORY=served[0])
    clone = folder.parent / "tmp" / "gemma-from-reviews" / "main"
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"helpers: {clone}\nsettings: 0 /tmp/unsloth_compiled_cache" in done.stdout
    assert "Added: nothing" in done.stdout, "the packages are there, so nothing is installed"
    assert [path.name for path in folder.iterdir()] == [PATHS[0].name]
    again = run_cell(folder, where, GEMMA_REPOSITORY="git://127.0.0.1:9/nowhere")
    assert again.returncode == 0 and f"helpers: {clone}" in again.stdout, "a rerun fetches nothing"


def test_a_fork_s_tag_or_commit_can_be_asked_for(served, folder):
    address, tree = served
    git("checkout", "-qb", "fork", cwd=tree)
    (tree / "helpers" / "fork.py").write_text("")
    git("add", "-A", cwd=tree)
    git("commit", "-qm", "A fork", cwd=tree)
    git("tag", "v1.0", cwd=tree)
    commit = git("rev-parse", "HEAD", cwd=tree)
    git("checkout", "-q", "main", cwd=tree)
    for ref in ("v1.0", commit):
        done = run_cell(folder, "colab", GEMMA_REPOSITORY=address, GEMMA_REF=ref)
        assert done.returncode == 0, done.stderr
        assert (folder.parent / "tmp" / "gemma-from-reviews" / ref / "helpers" / "fork.py").exists()


@pytest.mark.parametrize("inside", ["notebooks", "."])
def test_in_a_clone_nothing_is_fetched(served, folder, inside):
    done = run_cell(served[1] / inside, "colab", GEMMA_REPOSITORY="git://127.0.0.1:9/nowhere")
    assert f"helpers: {served[1]}" in done.stdout, done.stdout + done.stderr


def test_with_the_internet_off_the_click_is_named(folder):
    done = run_cell(folder, "kaggle", GEMMA_REPOSITORY="git://127.0.0.1:9/nowhere")
    assert "git://127.0.0.1:9/nowhere (main) cannot be fetched: fatal: unable to connect" in done.stderr
    assert "On Kaggle: Settings > Turn on internet. Then run this cell again." in done.stderr


def test_when_the_set_up_stops_so_does_the_notebook(served, folder):
    (folder / "bad.txt").write_text("numpy==1.0\n")
    done = run_cell(folder, "colab", GEMMA_REPOSITORY=served[0], REQUIREMENTS=str(folder / "bad.txt"))
    assert done.returncode == 1 and "you require numpy==1.0 and numpy==" in done.stdout
    assert "RuntimeError: colab_setup.sh stopped. Nothing was changed" in done.stderr, done.stderr


def test_a_kernel_that_needs_a_restart_gets_no_further_without_it(tmp_path, monkeypatch):
    """A rerun of the cell finds nothing to install; the old modules are still loaded."""
    script = tmp_path / "colab_setup.sh"
    script.write_text("echo 'Runtime > Restart session'; exit 3")
    monkeypatch.setattr(runtime, "REPOSITORY", tmp_path)
    monkeypatch.setattr(runtime, "asked_to_restart", "")
    with pytest.raises(RuntimeError, match="Restart session"):
        runtime.install()
    script.write_text("exit 0")
    with pytest.raises(RuntimeError, match="Restart session"):
        runtime.install()


def test_00_runs_to_its_end_where_only_the_notebook_was_opened(served, folder, real_gemma):
    """As on Colab, headless: papermill in a folder that holds the notebook alone. It teaches the real Gemma."""
    command = [sys.executable, "-m", "papermill", PATHS[0].name, "out.ipynb", "-p", "work_dir", "work"]
    done = subprocess.run(
        [*command, "--cwd", folder, "--execution-timeout", "900"],
        cwd=folder,
        env=environment(folder, "colab", GEMMA_REPOSITORY=served[0]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert workdir.is_finished(folder / "work", PATHS[0].stem)
    executed = notebooks.read(folder / "out.ipynb")
    assert "Added: nothing" in text(executed)
    assert_taught(executed, folder / "work")
