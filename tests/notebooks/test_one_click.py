"""The set-up cell in a folder that holds one notebook and nothing else; badges, forms, links and file names."""

from __future__ import annotations

import ast
import http.server
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import papermill
import pytest
import yaml

from helpers.core import runtime, workdir
from helpers.pipeline import notebooks, one_click
from tests.conftest import REPOSITORY
from tests.notebooks.test_runs import assert_taught, text

PATHS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]
README = REPOSITORY / "README.md"
FORK = "https://github.com/someone/the.fork"
DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
# As Colab reads it: nothing stands behind the kind.
FORM = re.compile(
    r"(?P<name>\w+) = (?P<value>.+?)  # @param "
    r'(?:\{type:"(?P<kind>\w+)"\}|(?P<choices>\[[^]]*\])(?: \{allow-input: ?true\})?)'
)
# Where this repository is published, as the README's links say it: owner/name, and the ref.
ADDRESS, REF = re.search(
    r"colab\.research\.google\.com/github/([^/]+/[^/]+)/blob/(.+?)/notebooks/", README.read_text("utf-8")
).groups()
KINDS = {str: "string", bool: "boolean", int: "integer", float: "number"}


# ---- what every notebook carries


def test_the_notebooks_and_the_readme_are_as_the_tool_writes_them():
    """Where this fails: python -m helpers.pipeline.one_click"""
    for path in PATHS:
        notebook = notebooks.read(path)
        before = json.dumps(notebook, sort_keys=True)
        changed = json.dumps(one_click.with_one_click(notebook, ADDRESS, REF), sort_keys=True)
        assert changed == before, f"{path.name}: run python -m helpers.pipeline.one_click"
    text = README.read_text(encoding="utf-8")
    assert one_click.with_address(text, ADDRESS, REF) == text


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_the_set_up_cell_is_the_second_and_the_only_one(path):
    cells = notebooks.read(path).cells
    assert [at for at, cell in enumerate(cells) if "colab_setup" in cell.source] == [1]
    assert cells[1].source == one_click.setup_cell(ADDRESS, REF)
    assert cells[1].source.count("\n") + 1 <= 9 and "sys.path" not in cells[2].source
    assert cells[1].metadata == {"cellView": "form", "jupyter": {"source_hidden": True}}, "it is folded"


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_both_badges_point_at_their_own_file(path):
    opening = notebooks.read(path).cells[0].source
    targets = re.findall(r"svg\)\]\((\S+?)\)", opening)
    assert targets == links_to(path)


def links_to(path: Path) -> list[str]:
    """Where a notebook opens on Colab and on Kaggle, there with two T4s if it can use one."""
    file = f"{ADDRESS}/blob/{REF}/notebooks/{path.name}"
    gpu = "&accelerator=nvidiaTeslaT4" if "accelerator" in notebooks.read(path).metadata else ""
    kaggle = f"https://www.kaggle.com/notebooks/welcome?src=https://github.com/{file}{gpu}"
    return [f"https://colab.research.google.com/github/{file}", kaggle]


def test_the_next_and_the_previous_notebook_open_at_home_on_colab_and_on_kaggle():
    for path, following in zip(PATHS, PATHS[1:]):
        for here, there, word in ((path, following, "Next"), (following, path, "Before")):
            colab, kaggle = links_to(there)
            link = f"**{word}:** [{there.stem}]({there.name}) ([Colab]({colab}) · [Kaggle]({kaggle}))"
            assert link in notebooks.read(here).cells[-1].source, f"{here.stem} to {there.stem}"
    readme = README.read_text(encoding="utf-8")
    assert all(f"]({link})" in readme for path in PATHS for link in links_to(path))


def test_a_clone_of_a_fork_takes_its_address_from_git_and_a_second_run_changes_nothing(tmp_path):
    """Badges, links and set-up cells; the branch too. --address and --ref override both."""
    tree = copy_of_the_tree(tmp_path / "clone")
    git("init", "-q", "-b", "v2/beta", cwd=tree)
    git("remote", "add", "origin", "https://github.com/someone/the.fork.git", cwd=tree)

    def written(*options: str) -> str:
        command = [sys.executable, "-m", "helpers.pipeline.one_click", *options]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
        assert not done.stdout + done.stderr
        return "".join(
            path.read_text("utf-8") for path in [*sorted(tree.glob("notebooks/*.ipynb")), tree / "README.md"]
        )

    before = "".join(path.read_text("utf-8") for path in [*PATHS, README])
    moved = before.replace(f"{ADDRESS}/blob/{REF}/", "someone/the.fork/blob/v2/beta/")
    picture = r"](https://raw.githubusercontent.com/someone/the.fork/v2/beta/notebooks/\1?sanitize=true)"
    moved = re.sub(r"\]\((pictures/\w+\.svg)\)", picture, moved)
    moved = re.sub(
        r"\]\(\.\./((?:helpers|docs|benchmarks)/)",
        r"](https://github.com/someone/the.fork/blob/v2/beta/\1",
        moved,
    )
    assert "git clone https://github.com/" in moved
    assert written() == moved.replace(f"git clone https://github.com/{ADDRESS}", f"git clone {FORK}")
    assert written() == written()
    assert written("--address", ADDRESS, "--ref", urllib.parse.unquote(REF)) == before


@pytest.mark.parametrize(
    "origin",
    [
        "https://github.com/someone/the.fork",
        "git@github.com:someone/the.fork.git",
        "ssh://git@github.com:22/someone/the.fork",
        "ssh://git@ssh.github.com:443/someone/the.fork.git",
        "https://someone:secret@github.com/someone/the.fork",
    ],
)
def test_the_origin_is_understood_however_it_is_written(tmp_path, monkeypatch, origin):
    monkeypatch.setattr(runtime, "REPOSITORY", tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text(f"https://github.com/{ADDRESS}/blob/{REF}/notebooks/00.ipynb")
    git("init", "-q", "-b", "fix#12", cwd=tmp_path)
    git("remote", "add", "origin", origin, cwd=tmp_path)
    one_click.main([])
    assert readme.read_text() == "https://github.com/someone/the.fork/blob/fix%2312/notebooks/00.ipynb"


def test_the_workflow_rewrites_a_fork_once(tmp_path):
    """Its own commands, as GitHub runs them after a push to the fork's default branch."""
    workflow = REPOSITORY / ".github" / "workflows" / "badges.yml"
    assert workflow.read_text().count("\n") < 30
    steps = [
        step["run"]
        for step in yaml.safe_load(workflow.read_text())["jobs"]["badges"]["steps"]
        if "run" in step
    ]
    fork = copy_of_the_tree(tmp_path / "fork")
    git("init", "-q", "--bare", "-b", "trunk", tmp_path / "origin", cwd=tmp_path)
    git("init", "-q", "-b", "trunk", cwd=fork)
    git("add", "-A", cwd=fork)
    git("commit", "-qm", "As it was forked", cwd=fork)
    git("remote", "add", "origin", tmp_path / "origin", cwd=fork)
    git("push", "-qu", "origin", "trunk", cwd=fork)
    there = {"GITHUB_REPOSITORY": "someone/fork", "GITHUB_REF_NAME": "trunk"}
    there["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for pushes in (1, 1):  # the second time it finds nothing to do
        for step in steps[1:]:
            subprocess.run(["bash", "-ec", step], cwd=fork, env=os.environ | there, check=True)
        log = git("log", "--oneline", "origin/trunk", cwd=fork).splitlines()
        assert len(log) == 1 + pushes and log[0].endswith("Badges and links lead to this repository")
    assert "someone/fork/blob/trunk/notebooks/" in (fork / "README.md").read_text()


def test_a_tag_is_a_ref_and_without_an_origin_on_github_the_options_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "REPOSITORY", tmp_path)
    (tmp_path / "README.md").write_text(f"https://github.com/{ADDRESS}/blob/{REF}/notebooks/00.ipynb")
    git("init", "-q", cwd=tmp_path)
    git("remote", "add", "origin", "https://user:secret@not-github.com/a/b", cwd=tmp_path)
    with pytest.raises(SystemExit):
        one_click.main([])
    said = capsys.readouterr().err
    assert "give --address OWNER/NAME and --ref REF" in said and "secret" not in said
    git("add", "-A", cwd=tmp_path)
    git("commit", "-qm", "one", cwd=tmp_path)
    git("tag", "v1.0", cwd=tmp_path)
    git("checkout", "-q", "v1.0", cwd=tmp_path)
    one_click.main(["--address", "a/b"])
    assert "github.com/a/b/blob/v1.0/notebooks/" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_colab_forms_parse_and_papermill_still_sees_the_parameters(path):
    defaults = notebooks.parameters(path)
    cells = notebooks.read(path).cells
    [at] = [at for at, cell in enumerate(cells) if "parameters" in notebooks.tags(cell)]
    for line in cells[at].source.splitlines():
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
    [metadata] = re.findall(
        r'`(\{"id": .+?\})`', (REPOSITORY / "docs" / "colab-kaggle.md").read_text(encoding="utf-8")
    )
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
    for target in re.findall(r"github(?:\.com)?/[^/\s]+/[^/\s]+/blob/[^\s)]+?/(notebooks/[^\s)&\"]+)", text):
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
        assert re.search(rf"^(?:def |class |){name}\b", source, re.MULTILINE), f"{room}.{module}.{name}"


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


def place(folder: Path, address: str, ref: str = "main") -> Path:
    """Where the cell in `folder` puts what it fetches from `address`."""
    return folder.parent / "tmp" / "gemma-from-reviews" / address / ref


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
import os, sys
from pathlib import Path
helpers = sys.modules.get("helpers")
print("helpers:", helpers and Path(helpers.__file__).parent.parent)
print("settings:", os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("UNSLOTH_COMPILE_LOCATION"))
"""


def run_cell(folder: Path, where: str, **more: str) -> subprocess.CompletedProcess:
    """The set-up cell in `folder`, and after it where helpers came from."""
    return subprocess.run(
        [sys.executable, "-c", one_click.setup_cell(ADDRESS, REF) + AFTER],
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
    clone = place(folder, "repository")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"helpers: {clone}\nsettings: 0 /tmp/unsloth_compiled_cache" in done.stdout
    assert "Added: nothing" in done.stdout, "the packages are there, so nothing is installed"
    assert [path.name for path in folder.iterdir()] == [PATHS[0].name]
    offline = served[0].rpartition(":")[0] + ":9/repository"
    again = run_cell(folder, where, GEMMA_REPOSITORY=offline)
    assert again.returncode == 0 and f"helpers: {clone}" in again.stdout, "a rerun fetches nothing"


def test_another_repository_is_fetched_beside_the_first(published, folder, sessions):
    """A runtime that has run one keeps it, and the other one, which has the same branch, was not looked at."""
    for name in ("ours/gemma", "someone/fork"):
        done = run_cell(folder, "colab", **sessions(None), GEMMA_REPOSITORY=f"https://github.com/{name}")
        assert f"helpers: {place(folder, name)}\n" in done.stdout, done.stdout + done.stderr


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
        assert (place(folder, "repository", ref) / "helpers" / "fork.py").exists()


@pytest.mark.parametrize("inside", ["notebooks", "."])
def test_in_a_clone_nothing_is_fetched(served, folder, inside):
    done = run_cell(served[1] / inside, "colab", GEMMA_REPOSITORY="git://127.0.0.1:9/nowhere")
    assert f"helpers: {served[1]}" in done.stdout, done.stdout + done.stderr


def test_with_the_internet_off_the_click_is_named(folder):
    done = run_cell(folder, "kaggle", GEMMA_REPOSITORY="git://127.0.0.1:9/nowhere")
    assert "git://127.0.0.1:9/nowhere (main) cannot be fetched: fatal: unable to connect" in done.stderr
    assert "On Kaggle: Settings > Turn on internet. Then run this cell again." in done.stderr


# ---- where the notebook was opened from


@pytest.fixture
def sessions(served):
    """sessions(path): the environment of a Colab whose sessions API names that path; GitHub is the loopback server.

    `path` None: the API is there and knows of no session.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/api/sessions"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(self.server.sessions).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def sessions(path: str | None) -> dict[str, str]:
        quoted = path and urllib.parse.quote(path, safe="=")
        server.sessions = [{"path": quoted, "type": "notebook"}] if path else []
        github = f"url.{served[0].rpartition('/')[0]}/.insteadOf"
        return {
            "COLAB_JUPYTER_IP": "127.0.0.1",
            "KMP_TARGET_PORT": str(server.server_port),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": github,
            "GIT_CONFIG_VALUE_0": "https://github.com/",
        }

    yield sessions
    server.shutdown()
    server.server_close()


BRANCH = "feature/better#2"


@pytest.fixture(scope="module")
def published(served):
    """On the loopback server, beside the tree under test: a fork with a branch of its own, and ours by its address."""
    base = served[1].parent
    for repository in ("someone/fork", "ours/gemma"):
        git("clone", "-q", served[1], base / repository, cwd=base)
    fork = base / "someone" / "fork"
    git("checkout", "-qb", BRANCH, cwd=fork)
    (fork / "helpers" / "better.py").write_text("")
    git("add", "-A", cwd=fork)
    git("commit", "-qm", "Better", cwd=fork)


@pytest.mark.parametrize("quoted", [True, False])
def test_a_fork_s_branch_is_fetched_where_the_notebook_was_opened_from_it(
    published, folder, sessions, quoted, monkeypatch
):
    if not quoted:
        monkeypatch.setattr(urllib.parse, "quote", lambda path, safe: path)
    path = f"fileId=https://github.com/someone/fork/blob/{BRANCH}/notebooks/{PATHS[0].name}"
    done = run_cell(folder, "colab", **sessions(path))
    clone = place(folder, "someone/fork", BRANCH)
    assert f"helpers: {clone}\n" in done.stdout and (clone / "helpers" / "better.py").exists(), done.stderr


@pytest.mark.parametrize(
    "path", ["fileId=1a2B3c4D5e6F", None, "fileId=https://github.com/a/b/blob/main/mine.ipynb"]
)
def test_from_drive_or_from_nowhere_the_written_address_is_fetched(
    published, folder, sessions, path, monkeypatch
):
    monkeypatch.setattr(one_click, "setup_cell", lambda *_: setup_cell("ours/gemma", "main"))
    done = run_cell(folder, "colab", **sessions(path))
    assert f"helpers: {place(folder, 'ours/gemma')}\n" in done.stdout, done.stderr


def test_a_branch_that_a_link_has_to_quote_is_fetched_by_its_name(published, folder, sessions, monkeypatch):
    written = one_click.setup_cell("someone/fork", urllib.parse.quote(BRANCH))
    assert "blob/feature/better%232/notebooks/" in written
    monkeypatch.setattr(one_click, "setup_cell", lambda *_: written)
    done = run_cell(folder, "colab", **sessions(None))
    assert f"helpers: {place(folder, 'someone/fork', BRANCH)}\n" in done.stdout, done.stderr


setup_cell = one_click.setup_cell


def test_where_the_sessions_cannot_be_asked_the_written_address_is_fetched(
    published, folder, sessions, monkeypatch
):
    monkeypatch.setattr(one_click, "setup_cell", lambda *_: setup_cell("ours/gemma", "main"))
    done = run_cell(folder, "colab", **sessions(None) | {"KMP_TARGET_PORT": "9"})
    assert f"helpers: {place(folder, 'ours/gemma')}\n" in done.stdout, done.stderr


@pytest.mark.parametrize("where", ["colab", "kaggle"])
def test_an_address_that_nobody_has_written_says_so_and_fetches_nothing(folder, where, monkeypatch):
    monkeypatch.setattr(one_click, "setup_cell", lambda *_: setup_cell("OWNER/gemma-from-reviews", "main"))
    done = run_cell(folder, where)
    assert done.returncode == 1 and done.stderr.startswith(
        "The address still says OWNER: upload the repository's folder"
    )
    assert "%env GEMMA_REPOSITORY=https://github.com/NAME/gemma-from-reviews" in done.stderr
    assert not any((folder.parent / "tmp").iterdir())


def test_a_folder_of_the_repository_that_was_uploaded_is_found(served, folder):
    shutil.copytree(served[1], folder / "gemma-from-reviews-main")
    done = run_cell(folder, "colab")
    assert f"helpers: {folder}/gemma-from-reviews-main\n" in done.stdout, done.stderr


def test_a_key_in_the_address_is_not_shown(folder):
    done = run_cell(folder, "colab", GEMMA_REPOSITORY="https://user:hf_secret@127.0.0.1:9/nowhere")
    assert "127.0.0.1:9/nowhere (main) cannot be fetched" in done.stderr and "hf_secret" not in done.stderr


# ---- the script that it runs


def test_when_the_set_up_stops_so_does_the_notebook(served, folder):
    (folder / "bad.txt").write_text("numpy==1.0\n")
    done = run_cell(folder, "colab", GEMMA_REPOSITORY=served[0], REQUIREMENTS=str(folder / "bad.txt"))
    assert done.returncode == 1 and "you require numpy==1.0 and numpy==" in done.stdout
    assert "RuntimeError: colab_setup.sh stopped. Nothing was changed" in done.stderr, done.stderr


def test_a_kernel_that_needs_a_restart_gets_no_further_without_it(tmp_path, monkeypatch):
    """A rerun of the cell finds nothing to install; the old modules are still loaded."""
    script = tmp_path / "colab_setup.sh"
    script.write_text("echo 'Runtime > Restart session'; exit 3")
    shutil.copy(REPOSITORY / "colab_setup.py", tmp_path)
    monkeypatch.setattr(os, "environ", os.environ | {"COLAB_RELEASE_TAG": "release-colab"})
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(RuntimeError, match="Restart session"):
        runpy.run_path(str(tmp_path / "colab_setup.py"))
    script.write_text("exit 0")
    with pytest.raises(RuntimeError, match="Restart session"):
        runpy.run_path(str(tmp_path / "colab_setup.py"))


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
