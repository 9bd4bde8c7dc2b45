"""One click to Colab and Kaggle: the first cell, badges, forms and metadata that every notebook carries.

    python -m helpers.pipeline.one_click                        # writes them into notebooks/ and the README's links
    python -m helpers.pipeline.one_click kaggle 05 --user NAME  # a folder that `kaggle kernels push` takes

For a fork, change ADDRESS and REF below and run the first. On those platforms the first cell calls `install`.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import files, runtime

if TYPE_CHECKING:
    from nbformat import NotebookNode

# Where the repository is published: owner and name on GitHub, and the branch, tag or commit to fetch.
ADDRESS = "OWNER/gemma-from-reviews"
REF = "main"

HERE = runtime.REPOSITORY
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

BADGES = {
    "Colab": "https://colab.research.google.com/assets/colab-badge.svg",
    "Kaggle": "https://kaggle.com/static/images/open-in-kaggle.svg",
}
KINDS = {str: "string", bool: "boolean", int: "integer", float: "number"}


def setup_cell() -> str:
    return SETUP.format(address=ADDRESS, ref=REF)


def links(name: str) -> dict[str, str]:
    """Where Colab and Kaggle open `notebooks/NAME`."""
    file = f"{ADDRESS}/blob/{REF}/notebooks/{name}"
    return {
        "Colab": f"https://colab.research.google.com/github/{file}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src=https://github.com/{file}",
    }


def badges(name: str) -> str:
    return " ".join(f"[![Open in {where}]({BADGES[where]})]({link})" for where, link in links(name).items())


def with_links(readme: str) -> str:
    """The README with both links under the name of every notebook in its table."""

    def cell(row: re.Match) -> str:
        both = " · ".join(f"[{where}]({link})" for where, link in links(row[2]).items())
        return f"| [{row[1]}](notebooks/{row[2]})<br>{both} |"

    return re.sub(r"(?m)^\| \[(\w+)\]\(notebooks/(\S+?)\)(?:<br>.+?)? \|", cell, readme)


def with_form(source: str) -> str:
    """A cell of `name = constant  # why` lines with Colab's `# @param` between them; those there stay."""
    from helpers.pipeline import notebooks

    lines = []
    for line in source.splitlines():
        if found := re.fullmatch(r"(\w+ = .+?)  # (?!@param)(.+)", line):
            [value] = notebooks.constants(found[1]).values()
            line = f'{found[1]}  # @param {{type:"{KINDS.get(type(value), "raw")}"}} # {found[2]}'
        lines.append(line)
    return "\n".join(lines)


def with_one_click(notebook: NotebookNode, name: str) -> NotebookNode:
    """The notebook, changed in place, with the set-up cell, badges, forms and metadata of the file `name`."""
    from nbformat.v4 import new_code_cell

    from helpers.pipeline import notebooks

    opening, *others = notebook.cells
    lines = [line for line in opening.source.split("\n\n") if not line.startswith("[![Open in")]
    opening.source = "\n\n".join([*lines[:2], badges(name), *lines[2:]])
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


def write_all() -> None:
    """Bring all notebooks and the README up to date."""
    import nbformat

    for path in sorted((HERE / "notebooks").glob("*.ipynb")):
        notebook = with_one_click(nbformat.read(path, as_version=4), path.name)
        files.write_text(path, nbformat.writes(notebook).rstrip("\n") + "\n")
    readme = HERE / "README.md"
    files.write_text(readme, with_links(readme.read_text(encoding="utf-8")))


def kaggle_kernel(path: Path, user: str) -> dict:
    """The kernel-metadata.json of a notebook: private, T4 x2, internet on, the one before it attached."""
    slug, gpu = path.stem.replace("_", "-"), path.stem[:2] not in ON_THE_CPU
    earlier = [p.stem.replace("_", "-") for p in sorted(path.parent.glob("*.ipynb")) if p.name < path.name]
    return {
        "id": f"{user}/{slug}",
        "title": slug.replace("-", " "),
        "code_file": path.name,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": "true",
        "enable_gpu": str(gpu).lower(),
        "machine_shape": "NvidiaTeslaT4" if gpu else "",
        "enable_internet": "true",
        "kernel_sources": [f"{user}/{name}" for name in earlier[-1:]],
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.pipeline.one_click", description=__doc__.splitlines()[0]
    )
    parsers = parser.add_subparsers()
    kaggle = parsers.add_parser("kaggle", help="make a folder for `kaggle kernels push`")
    kaggle.add_argument("number", help="of the notebook, such as 05")
    kaggle.add_argument("--user", required=True, help="your name at Kaggle")
    kaggle.add_argument("--to", type=Path, help="the folder to make (default: kaggle-NUMBER)")
    options = parser.parse_args(arguments)
    if "number" not in options:
        write_all()
        return 0
    [path] = (HERE / "notebooks").glob(f"{options.number}_*.ipynb")
    to = options.to or Path(f"kaggle-{options.number}")
    files.write_json(to / "kernel-metadata.json", kaggle_kernel(path, options.user))
    shutil.copy(path, to)
    print(f"Now: kaggle kernels push -p {to}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
