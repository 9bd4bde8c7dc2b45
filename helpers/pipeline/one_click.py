"""One click to Colab and Kaggle: the first cell, badges, forms and metadata that every notebook carries.

`python -m helpers.pipeline.one_click` writes them into notebooks/, and the README's links. For a fork, change
ADDRESS and REF below and run it. On those platforms the first cell calls `helpers.core.runtime.install`.
"""

from __future__ import annotations

import re

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from helpers.core import files, runtime
from helpers.pipeline import notebooks

# Where the repository is published: owner and name on GitHub, and the branch, tag or commit to fetch.
ADDRESS = "OWNER/gemma-from-reviews"
REF = "main"

ON_THE_CPU = ("01", "02", "03", "04")  # these notebooks want no GPU
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

PLACES = {  # the badge, and the address that opens a file on GitHub
    "Colab": ("colab.research.google.com/assets/colab-badge.svg", "colab.research.google.com/github/"),
    "Kaggle": (
        "kaggle.com/static/images/open-in-kaggle.svg",
        "kaggle.com/kernels/welcome?src=https://github.com/",
    ),
}
KINDS = {str: "string", bool: "boolean", int: "integer", float: "number"}


def setup_cell() -> str:
    return SETUP.format(address=ADDRESS, ref=REF)


def links(name: str) -> dict[str, str]:
    """Where Colab and Kaggle open `notebooks/NAME`."""
    file = f"{ADDRESS}/blob/{REF}/notebooks/{name}"
    return {where: f"https://{opener}{file}" for where, (_, opener) in PLACES.items()}


def with_links(readme: str) -> str:
    """The README with both links under the name of every notebook in its table."""

    def cell(row: re.Match) -> str:
        both = " · ".join(f"[{where}]({link})" for where, link in links(row[2]).items())
        return f"| [{row[1]}](notebooks/{row[2]})<br>{both} |"

    return re.sub(r"(?m)^\| \[(\w+)\]\(notebooks/(\S+?)\)(?:<br>.+?)? \|", cell, readme)


def with_form(source: str) -> str:
    """A cell of `name = constant  # why` lines with Colab's `# @param` between them; those there stay."""
    lines = []
    for line in source.splitlines():
        if plain := re.fullmatch(r"(\w+ = .+?)  # (?!@param)(.+)", line):
            [value] = notebooks.constants(plain[1]).values()
            line = f'{plain[1]}  # @param {{type:"{KINDS.get(type(value), "raw")}"}} # {plain[2]}'
        lines.append(line)
    return "\n".join(lines)


def with_one_click(notebook: NotebookNode, name: str) -> NotebookNode:
    """The notebook, changed in place, with the set-up cell, badges, forms and metadata of the file `name`."""
    opening, *others = notebook.cells
    lines = [line for line in opening.source.split("\n\n") if not line.startswith("[![Open in")]
    opens = links(name).items()
    badges = " ".join(f"[![Open in {where}](https://{PLACES[where][0]})]({link})" for where, link in opens)
    opening.source = "\n\n".join([*lines[:2], badges, *lines[2:]])
    number = name[:2]
    others = [cell for cell in others if "colab_setup.sh" not in cell.source]
    notebook.cells = [opening, new_code_cell(setup_cell(), id=f"{number}-setup"), *others]
    for cell in notebook.cells:
        if "parameters" in notebooks.tags(cell):
            cell.source = with_form(cell.source)
    gpu = number not in ON_THE_CPU
    for key in ("accelerator", "colab", "kaggle"):
        notebook.metadata.pop(key, None)
    if gpu:
        notebook.metadata |= {"accelerator": "GPU", "colab": {"gpuType": "T4"}}
    notebook.metadata["kaggle"] = {
        "accelerator": "nvidiaTeslaT4" if gpu else "none",  # Kaggle's name for T4 x2
        "dataSources": [],
        "isGpuEnabled": gpu,
        "isInternetEnabled": True,
        "language": "python",
        "sourceType": "notebook",
    }
    return notebook


def main() -> int:
    """Bring all notebooks and the README up to date."""
    for path in sorted((runtime.REPOSITORY / "notebooks").glob("*.ipynb")):
        notebook = with_one_click(notebooks.read(path), path.name)
        files.write_text(path, nbformat.writes(notebook).rstrip("\n") + "\n")
    readme = runtime.REPOSITORY / "README.md"
    files.write_text(readme, with_links(readme.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
