"""One click to Colab and Kaggle: the repository's address in every badge, link and set-up cell.

`python -m helpers.pipeline.one_click [--address OWNER/NAME] [--ref REF]` writes them into notebooks/ and the README;
again, it changes nothing. By default it asks git for its origin, and for the branch or tag that is checked out.
"""

import argparse
import re
from pathlib import Path
from subprocess import run
from urllib.parse import quote

import nbformat

from helpers.core import files, runtime
from helpers.pipeline import notebooks

# The repository's address in a link to one of its notebooks, on Colab, Kaggle or GitHub.
IN_A_LINK = re.compile(r"(github(?:\.com)?/)[^\s/]+/[^\s/]+/blob/[^\s\"')]+?/notebooks/")
# Pictures and files: found from the notebook at home, and on Colab and Kaggle by a whole address, once there is one.
PICTURE = re.compile(r"\]\((?:https://\S+/)?(pictures/\w+\.svg)(?:\?sanitize=true)?\)")
FILE = re.compile(r"\]\((?:https://github\.com/\S+?/blob/\S+?/|\.\./)((?:helpers|docs|benchmarks)/[^)]+)\)")


def with_address(text: str, address: str, ref: str) -> str:
    """The text, its links to notebooks and `git clone` now leading to that repository (owner/name) and ref."""
    text = re.sub(r"(git clone https://github\.com/)[^\s/]+/[^\s/]+", rf"\g<1>{address}", text)
    whole = not address.startswith("OWNER/")
    picture = rf"https://raw.githubusercontent.com/{address}/{ref}/notebooks/\1?sanitize=true"  # else it is plain text
    text = PICTURE.sub(f"]({picture})" if whole else r"](\1)", text)
    text = FILE.sub(rf"](https://github.com/{address}/blob/{ref}/\1)" if whole else r"](../\1)", text)
    return IN_A_LINK.sub(rf"\g<1>{address}/blob/{ref}/notebooks/", text)


def setup_cell(address: str, ref: str) -> str:
    return with_address(Path(__file__).with_name("setup_cell.txt").read_text("utf-8").rstrip(), address, ref)


def with_one_click(notebook: nbformat.NotebookNode, address: str, ref: str) -> nbformat.NotebookNode:
    """The notebook, changed in place: its links, and the set-up cell, folded."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_address(cell.source, address, ref)
        elif "colab_setup.py" in cell.source:
            cell.source = setup_cell(address, ref)
            cell.metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}
    return notebook


def git(*arguments: str) -> str:
    return run(["git", *arguments], cwd=runtime.REPOSITORY, capture_output=True, text=True).stdout.strip()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m helpers.pipeline.one_click")
    parser.add_argument("--address", metavar="OWNER/NAME", help="default: that of git's origin, on GitHub")
    parser.add_argument("--ref", help="a branch or a tag; default: the one that is checked out")
    options = parser.parse_args(arguments)
    origin = git("remote", "get-url", "origin")
    found = re.search(r"(?<![\w-])github\.com(?::\d+)?[:/]([^/]+/[^/]+?)(?:\.git)?/?$", origin)
    address = options.address or (found and found[1])
    # In a link, as a branch that is called fix#12 needs it; the set-up cell reads it back.
    ref = quote(options.ref or git("branch", "--show-current") or git("describe", "--tags", "--exact-match"))
    if not address or not ref:
        parser.error("git names no origin on GitHub, or no branch: give --address OWNER/NAME and --ref REF")
    for path in sorted((runtime.REPOSITORY / "notebooks").glob("*.ipynb")):
        files.write_text(path, nbformat.writes(with_one_click(notebooks.read(path), address, ref)) + "\n")
    readme = runtime.REPOSITORY / "README.md"
    files.write_text(readme, with_address(readme.read_text(encoding="utf-8"), address, ref))


if __name__ == "__main__":
    main()
