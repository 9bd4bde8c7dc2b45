"""The browser that the tests drive. `python -m tests.browser`, part of `make test`, installs one where there is none.

It is CHROMIUM, where that names one, a Chromium or Chrome on the PATH, or Playwright's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

ONE_COMMAND = "sudo apt-get install chromium"
APT = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]


def find() -> str | None:
    """The program's path; None where no program says its version (Ubuntu's `chromium-browser` asks for a snap)."""
    from playwright.sync_api import sync_playwright

    if "CHROMIUM" in os.environ:
        return os.environ["CHROMIUM"]
    names = ("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        paths = [*map(shutil.which, names), playwright.chromium.executable_path]
    works = (path for path in paths if path and os.path.exists(path) and run(path, "--version") == 0)
    return next(works, None)


def run(*command: str) -> int:
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode


def main() -> None:
    """Debian's package where apt and root are at hand, else Playwright's; SystemExit names the one command."""
    if find():
        return
    print("No Chromium is found: installing one, which the tests drive", flush=True)
    if shutil.which("apt-get") and os.geteuid() == 0:
        run("apt-get", "update", "-qq")
        run(*APT)
    if not find():
        run(sys.executable, "-m", "playwright", "install", "chromium")
    if not find():
        sys.exit(f"Chromium could not be installed. Run `{ONE_COMMAND}`, or set CHROMIUM to the path of one.")


if __name__ == "__main__":
    main()
