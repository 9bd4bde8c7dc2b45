"""`make lab` in headless Chromium: notebook 05 is opened, all its cells run, and its plot seen.

ALL=1 does so with 00, trains the real 270M in 05, and walks from 01 to 07, which takes a quarter of an hour.
SCREENSHOTS=FOLDER keeps pictures of all that is seen, screen by screen.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from playwright.sync_api import expect

from helpers.core import files, workdir
from helpers.pipeline import notebooks
from tests.conftest import ALL, whole
from tests.notebooks.test_one_click import copy_of_the_tree
from tests.notebooks.test_runs import TINY

# Seconds; the tests wait for what they expect to see, this is when they give up.
PATIENCE = 1800 if ALL else 600


def wait_for(what, happened) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.2)


def answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(f"{address}/api").status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab that `make lab` started in a copy of the tree, and that copy."""
    folder = tmp_path_factory.mktemp("lab")
    tree = copy_of_the_tree(folder / "repository")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = {"open_browser": False, "ip": "127.0.0.1", "port": port, "port_retries": 0, "allow_root": True}
    files.write_json(
        folder / "config" / "jupyter_server_config.json",
        {"ServerApp": server, "IdentityProvider": {"token": ""}},
    )
    settings = folder / "settings" / "@jupyterlab"
    # All cells stay in the page, also those that are scrolled out of sight.
    files.write_json(
        settings / "notebook-extension" / "tracker.jupyterlab-settings", {"windowingMode": "none"}
    )
    files.write_json(
        settings / "apputils-extension" / "notification.jupyterlab-settings", {"fetchNews": "false"}
    )
    own = {"JUPYTER_CONFIG_DIR": folder / "config", "JUPYTERLAB_SETTINGS_DIR": folder / "settings"}
    with (folder / "log.txt").open("w") as log:
        make = subprocess.Popen(
            ["make", "-o", "setup", "lab", f"PY={sys.executable}"],  # the packages are installed
            cwd=tree,
            env=os.environ | {name: str(value) for name, value in own.items()},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for("the start of JupyterLab", lambda: answers(address) or make.poll() is not None)
        assert make.poll() is None, (folder / "log.txt").read_text()
        yield address, tree
    finally:
        os.killpg(make.pid, signal.SIGTERM)
        make.wait(60)


@pytest.fixture
def run_all(lab, browser):
    """run_all(name, parameter=value, …): the notebook's tab after "Run All Cells", and the file as Lab saved it."""
    address, tree = lab

    def run_all(name: str, **parameters):
        path = tree / "notebooks" / f"{name}.ipynb"
        notebook = notebooks.read(path)
        [cell] = [cell for cell in notebook.cells if "parameters" in notebooks.tags(cell)]
        for parameter, value in (parameters | {"work_dir": str(tree / "work")}).items():
            cell.source, found = re.subn(
                rf"(?m)^{parameter} = .+?  #", f"{parameter} = {value!r}  #", cell.source
            )
            assert found == 1
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = []  # those in the file are from a run elsewhere
        files.write_json(path, notebook)
        tab = browser.new_page(viewport={"width": 1300, "height": 1000})
        tab.set_default_timeout(60_000)
        tab.goto(
            f"{address}/lab/workspaces/{name}/tree/{path.name}"
        )  # a workspace remembers the tabs of before
        cells = tab.locator(".jp-Notebook .jp-CodeCell")
        wanted = sum(cell.cell_type == "code" for cell in notebook.cells)
        expect(cells).to_have_count(wanted, timeout=60_000)
        expect(tab.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=60_000)
        tab.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
        tab.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
        prompts = cells.locator(".jp-InputPrompt")
        done, waiting = (prompts.filter(has_text=re.compile(text)) for text in (r"^\[\d+\]:$", r"^\[\*\]:$"))
        wait_for("the end of the run", lambda: done.count() and not waiting.count())
        # The set-up cell, the first, is folded: its title is seen, and no editor and no number.
        expect(cells.first.locator(".cm-editor")).to_have_count(0)
        expect(cells.first.locator(".jp-OutputArea-output")).to_have_count(0)
        expect(cells.first.locator(".jp-Placeholder")).to_contain_text("@title Set-up")
        if shots := os.environ.get("SCREENSHOTS"):
            scroller = tab.locator(".jp-Notebook .jp-WindowedPanel-outer")
            for at in range(scroller.evaluate("all => Math.ceil(all.scrollHeight / 850)")):
                scroller.evaluate("(all, top) => all.scrollTo(0, top)", 850 * at)
                tab.screenshot(path=f"{shots}/{name}_{at:02}.png")
        assert done.count() == wanted - 1, cells.nth(done.count() - 1).inner_text()  # the cell that failed
        tab.keyboard.press("Control+s")
        wait_for("the save", lambda: 'execution_count": 1,' in path.read_text(encoding="utf-8"))
        outputs = [output for cell in notebooks.read(path).cells for output in cell.get("outputs", [])]
        assert outputs and not [output for output in outputs if output.output_type == "error"]
        assert not re.search("^.*Warning: .*$", "".join(output.get("text", "") for output in outputs), re.M)
        assert workdir.is_finished(tree / "work", name)
        pictures = sum("image/png" in output.get("data", {}) for output in outputs)
        # The page draws a picture some time after its cell has ended.
        wait_for("the pictures", lambda: all(drawn(tab)) and len(drawn(tab)) >= pictures)
        return tab

    return run_all


def drawn(tab) -> list[bool]:
    """For each picture among the outputs, whether the browser has drawn it."""
    return tab.locator(".jp-OutputArea-output img").evaluate_all(
        "all => all.map(one => one.naturalWidth > 100)"
    )


@whole
def test_00_in_jupyterlab(run_all, real_gemma):
    tab = run_all("00_teach_one_sentence")
    outputs = tab.locator(".jp-Notebook .jp-OutputArea-output")
    expect(outputs.filter(has_text="⟦我学会了<end_of_turn>⟧").first).to_be_attached()
    expect(outputs.locator("td", has_text=re.compile("^我学会了$")).first).to_be_visible()
    assert drawn(tab)


def test_05_in_jupyterlab(run_all, tiny_gemma):
    real = {"max_steps": 12, "learning_rate": 1e-3}
    options = real if ALL else {"model_name": str(tiny_gemma), **TINY}
    assert drawn(run_all("05_finetune_gemma", **options))


@whole
def test_the_path_from_the_reviews_to_the_chat_in_jupyterlab(run_all, real_gemma):
    """One after the other in one work_dir, as a newcomer goes; the training and the evaluation in a small size."""
    run_all("01_collect_reviews")
    run_all("02_reviews_to_markdown")
    run_all("03_chunk_reviews")
    run_all("04_generate_qa_pairs")
    run_all("05_finetune_gemma", max_steps=12)
    run_all("06_evaluate", max_examples=2)
    tab = run_all("07_chat", max_new_tokens=64)
    expect(tab.locator(".jp-OutputArea-output", has_text="trained by notebook 05").first).to_be_attached()
