"""`make test` sets up its own browser, or names the one command that does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import browser
from tests.conftest import REPOSITORY


@pytest.fixture
def make_browser(tmp_path):
    """make_browser(): `make browser` on a machine with little on its PATH but what the test puts there."""
    (tmp_path / "bin").mkdir()
    for name in ("cat", "sha256sum", "cut"):  # with which the Makefile names its stamp
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))

    def make_browser() -> tuple[int, str]:
        nowhere = {
            "PLAYWRIGHT_BROWSERS_PATH": f"{tmp_path}/own",
            "PLAYWRIGHT_DOWNLOAD_HOST": "http://127.0.0.1:9",
        }
        kept = {name: value for name, value in os.environ.items() if name != "CHROMIUM"}
        done = subprocess.run(
            [shutil.which("make"), "--no-print-directory", "-o", "setup", "browser", f"PY={sys.executable}"],
            cwd=REPOSITORY,
            env=kept | nowhere | {"PATH": f"{tmp_path}/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return make_browser


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_browser_that_is_there_is_taken(make_browser, tmp_path):
    program(tmp_path / "bin" / "google-chrome", "exit 0")
    assert make_browser() == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="apt needs root")
def test_with_apt_and_root_debian_s_package_is_installed(make_browser, tmp_path):
    program(tmp_path / "bin" / "chromium-browser", "echo 'snap install chromium' >&2; exit 1")
    path = tmp_path / "bin" / "chromium"
    program(
        tmp_path / "bin" / "apt-get",
        f'echo "$@" >> {tmp_path}/log; [ "$1" = update ] || printf "#!/bin/sh" > {path}; /bin/chmod +x {path}',
    )
    code, said = make_browser()
    assert code == 0 and "installing one" in said, said
    assert (tmp_path / "log").read_text().splitlines() == ["update -qq", " ".join(browser.APT[1:])]


def test_where_nothing_can_be_installed_the_one_command_is_named(make_browser):
    code, said = make_browser()
    assert code and f"Run `{browser.ONE_COMMAND}`" in said, said


def test_make_test_sets_the_browser_up_and_the_ci_does_nothing_more():
    plan = subprocess.run(
        ["make", "-n", "-o", "setup", "test"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout
    assert 0 < plan.index("-m tests.browser") < plan.index("-m pytest")
    lines = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if not line.startswith(("#", "set ", "cd "))] == ["make test"]
