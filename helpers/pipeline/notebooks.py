"""Tools on notebook files: their parameters, a clean copy to commit, and what a report shows of them.

To clean an executed notebook: `python -m helpers.pipeline.notebooks clean IN OUT --work-dir DIR`.
"""

from __future__ import annotations

import argparse
import ast
import copy
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers.core import files

WIDGET = "application/vnd.jupyter.widget-view+json"
ADDED_TAGS = ("injected-parameters", "papermill-error-cell-tag")  # of the cells that papermill adds


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def own_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that a person wrote, without those that papermill added."""
    return [cell for cell in notebook.cells if not tags(cell).intersection(ADDED_TAGS)]


def title(notebook: NotebookNode, default: str) -> str:
    """The text of the first `# heading`, or `default`."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# +(.+?)\s*$", prose, re.MULTILINE)
    return heading[1].replace("`", "") if heading else default


def constants(source: str) -> dict[str, object]:
    """Names and values of a cell of `name = constant` lines. Raises ValueError for anything else."""
    values = {}
    for line in ast.parse(source).body:
        try:
            values[line.targets[0].id] = ast.literal_eval(line.value)
        except (AttributeError, ValueError):
            raise ValueError(f"`{ast.unparse(line)}` is not of the form `name = constant`") from None
    return values


def parameters(path: Path) -> dict[str, object]:
    """Names and default values of the one cell tagged `parameters`.

    Raises ValueError that names the notebook when there is not exactly one such cell, when it holds anything but
    constants (papermill's own `inspect_notebook` passes over what it cannot read), or when a cell of an earlier
    run would take new values where they have no effect.
    """
    notebook = read(path)
    if len(own_cells(notebook)) < len(notebook.cells):
        raise ValueError(
            f"{path.name}: delete the cells that papermill added, tagged {' or '.join(ADDED_TAGS)}"
        )
    cells = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    if len(cells) != 1:
        raise ValueError(f"{path.name} has {len(cells)} cells tagged `parameters`; it needs exactly one")
    try:
        return constants(cells[0].source)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{path.name}: its `parameters` cell may only hold constants; {error}") from None


def settled(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without stderr, widgets and progress lines; text printed in pieces becomes one output."""
    kept: list[NotebookNode] = []
    for output in copy.deepcopy(outputs):
        if output.get("name") == "stderr" or WIDGET in output.get("data", {}):
            continue
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":  # a progress bar redraws its line with \r
            output.text = re.sub(r"[^\n]*\r[^\n]*\n?", "", output.text.replace("\r\n", "\n"))
    return [output for output in kept if output.get("text") != ""]


def clean(notebook: NotebookNode, work_dir: str = "") -> NotebookNode:
    """A copy to commit: outputs stay, all that differs from run to run or machine to machine goes.

    That is execution counts, widgets, stderr, progress bars, and all metadata of cells but their tags.
    The absolute path of `work_dir` becomes the word work_dir. Cell ids stay as they are.
    """
    cleaned = copy.deepcopy(notebook)
    cleaned.cells = own_cells(cleaned)
    for name in ("widgets", "papermill"):
        cleaned.metadata.pop(name, None)
    cleaned.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cleaned.metadata.language_info = {"name": "python"}
    paths = {str(Path(work_dir).absolute()), str(Path(work_dir).resolve())} if work_dir else set()
    for cell in cleaned.cells:
        cell.metadata = NotebookNode({"tags": cell.metadata.tags} if tags(cell) else {})
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_replaced(output, paths) for output in settled(cell.outputs)]
    return cleaned


def _replaced(value, paths: set[str]):
    """A JSON value without execution counts, and with the word work_dir for `paths` in all but pictures."""
    if isinstance(value, dict):
        kept = {k: v if k.startswith("image/") else _replaced(v, paths) for k, v in value.items()}
        return NotebookNode(kept | ({"execution_count": None} if "execution_count" in value else {}))
    if isinstance(value, list):
        return [_replaced(item, paths) for item in value]
    for path in sorted(paths, key=len, reverse=True) if isinstance(value, str) else ():
        value = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", "work_dir", value)
    return value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.pipeline.notebooks")
    add = parser.add_subparsers(required=True).add_parser("clean", help="strip what a run left").add_argument
    add("source", type=Path, metavar="IN")
    add("target", type=Path, metavar="OUT")
    add("--work-dir", default="", metavar="DIR", help="replace this path in the outputs")
    options = parser.parse_args(arguments)
    cleaned = clean(read(options.source), options.work_dir)
    nbformat.validate(cleaned)
    files.write_text(options.target, nbformat.writes(cleaned).rstrip("\n") + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
