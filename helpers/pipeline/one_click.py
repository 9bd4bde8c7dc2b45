"""One click to Colab and Kaggle: the address of the repository in every badge, link and set-up cell.

`python -m helpers.pipeline.one_click` writes it into notebooks/ and the README. For a fork, change ADDRESS and REF
below and run it. On those platforms the set-up cell calls `helpers.core.runtime.install`.
"""

from __future__ import annotations

import re

import nbformat
from nbformat import NotebookNode

from helpers.core import files, runtime
from helpers.pipeline import notebooks

# Where the repository is published: owner and name on GitHub, and the branch, tag or commit to fetch.
ADDRESS = "OWNER/gemma-from-reviews"
REF = "main"

SETUP = """\
# @title Set-up: fetches helpers and installs packages on Colab and Kaggle, does nothing at home
import os
import subprocess
import sys
import tempfile
from pathlib import Path

address = os.environ.get("GEMMA_REPOSITORY", "https://github.com/{address}")  # or your fork's
ref = os.environ.get("GEMMA_REF", "{ref}")  # a branch, a tag or a commit
if os.environ.get("COLAB_RELEASE_TAG") or os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):
    clones = [Path(), Path(".."), Path(tempfile.gettempdir(), "gemma-from-reviews", ref)]
    clone = next((folder for folder in clones if (folder / "colab_setup.sh").exists()), clones[-1])
    if not (clone / "colab_setup.sh").exists():
        git = 'git init -q "$0" && cd "$0" && git fetch -q --depth 1 "$1" "$2" && git checkout -q FETCH_HEAD'
        done = subprocess.run(["bash", "-c", git, clone, address, ref], capture_output=True, text=True)
        click = "On Kaggle: Settings > Turn on internet. Then run this cell again."
        assert done.returncode == 0, f"{{address}} ({{ref}}) cannot be fetched: {{done.stderr.strip()}}\\n{{click}}"
    sys.path.insert(0, str(clone.resolve()))
    from helpers.core import runtime
    runtime.install()"""

# The repository's address in a link that opens one of its notebooks on Colab or Kaggle.
IN_A_LINK = re.compile(
    r"(colab\.research\.google\.com/github/|kaggle\.com/kernels/welcome\?src=https://github\.com/)"
    r"[^\s)]+/notebooks/"
)


def setup_cell() -> str:
    return SETUP.format(address=ADDRESS, ref=REF)


def with_address(text: str) -> str:
    """Markdown whose links to a notebook on Colab and Kaggle lead to ADDRESS at REF."""
    return IN_A_LINK.sub(rf"\1{ADDRESS}/blob/{REF}/notebooks/", text)


def with_one_click(notebook: NotebookNode) -> NotebookNode:
    """The notebook, changed in place: the badges of its first cell, and the set-up cell."""
    notebook.cells[0].source = with_address(notebook.cells[0].source)
    for cell in notebook.cells:
        if "colab_setup.sh" in cell.source:
            cell.source = setup_cell()
    return notebook


def main() -> None:
    """Bring all notebooks and the README up to date."""
    for path in sorted((runtime.REPOSITORY / "notebooks").glob("*.ipynb")):
        files.write_text(path, nbformat.writes(with_one_click(notebooks.read(path))) + "\n")
    readme = runtime.REPOSITORY / "README.md"
    files.write_text(readme, with_address(readme.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
