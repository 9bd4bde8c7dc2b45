"""Tools on notebook files: their parameters, a clean copy to commit, and what a report shows of them.

To clean an executed notebook: `python -m helpers.pipeline.notebooks clean IN OUT --work-dir DIR`.
Nothing here runs a notebook; that is `helpers.pipeline.run`.
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
RUN_METADATA = ("papermill", "execution", "ExecuteTime", "executionInfo", "outputId", "colab")
ADDED_TAGS = {"injected-parameters", "papermill-error-cell-tag"}  # of the cells that papermill adds


def read(path: Path) -> NotebookNode:
    """The notebook at `path`. Raises ValueError that names the file when it is not one."""
    try:
        return nbformat.read(path, as_version=4)
    except nbformat.reader.NotJSONError:
        raise ValueError(f"{path} is not a notebook: its content is not JSON") from None


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def own_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that a person wrote, without those that papermill added."""
    return [cell for cell in notebook.cells if not tags(cell) & ADDED_TAGS]


def title(notebook: NotebookNode, default: str) -> str:
    """The text of the first `# heading`, or `default`."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# +(.+?)\s*$", prose, re.MULTILINE)
    return found[1].replace("`", "") if found else default


def constants(source: str) -> dict[str, object]:
    """Names and values of a cell of `name = constant` lines. Raises ValueError for anything else."""
    values = {}
    for line in ast.parse(source).body:
        match line:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, ast.expr() as value):
                try:
                    values[name] = ast.literal_eval(value)
                except ValueError:
                    raise ValueError(f"`{ast.unparse(line)}` computes something") from None
            case _:
                raise ValueError(f"`{ast.unparse(line)}` is not of the form `name = constant`")
    return values


def parameters(path: Path) -> dict[str, object]:
    """Names and default values of the one cell tagged `parameters`.

    Raises ValueError that names the notebook when there is not exactly one such cell, or when the cell
    holds anything but constant assignments.
    """
    cells = [cell for cell in read(path).cells if "parameters" in tags(cell)]
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
        if output.output_type == "stream":
            # a progress bar redraws its line with \r
            output.text = re.sub(r"[^\n]*\r[^\n]*\n?", "", output.text.replace("\r\n", "\n"))
    return [output for output in kept if output.get("text") != ""]


def clean(notebook: NotebookNode, work_dir: str = "") -> NotebookNode:
    """A copy to commit: outputs stay, all that differs from run to run or machine to machine goes.

    That is execution counts, widgets, stderr, progress bars, timestamps, and what papermill added.
    The absolute path of `work_dir` becomes the word work_dir. Cell ids stay as they are.
    """
    cleaned = copy.deepcopy(notebook)
    cleaned.cells = own_cells(cleaned)
    cleaned.metadata.pop("widgets", None)
    cleaned.metadata.pop("papermill", None)
    cleaned.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cleaned.metadata.language_info = {"name": "python"}
    paths = {str(Path(work_dir).absolute()), str(Path(work_dir).resolve())} if work_dir else set()
    for cell in cleaned.cells:
        for name in RUN_METADATA:
            cell.metadata.pop(name, None)
        if not tags(cell):  # papermill adds an empty list
            cell.metadata.pop("tags", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_replaced(output, paths) for output in settled(cell.outputs)]
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = None
    return cleaned


def _replaced(value, paths: set[str]):
    """`value`, a JSON value, with `paths` replaced by the word work_dir in every text but pictures."""
    if isinstance(value, str):
        for path in sorted(paths, key=len, reverse=True):
            value = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", "work_dir", value)
        return value
    if isinstance(value, dict):
        picture = "image/png", "image/jpeg"
        return NotebookNode({k: v if k in picture else _replaced(v, paths) for k, v in value.items()})
    return [_replaced(item, paths) for item in value] if isinstance(value, list) else value


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
