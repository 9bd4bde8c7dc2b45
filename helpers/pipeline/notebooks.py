"""Tools on notebook files: their title, their parameters, and a clean copy to commit.

`python -m helpers.pipeline.notebooks IN OUT WORK_DIR` cleans an executed notebook; the folder's path becomes a word.
"""

import ast
import copy
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers.core import files

INJECTED = "injected-parameters"  # papermill's tag for the cell that it adds with a run's values
KEPT = ("tags", "cellView", "jupyter")  # of a cell's metadata; two fold it, on Colab and in JupyterLab
WIDGET = "application/vnd.jupyter.widget-view+json"


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def authored(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that a person wrote, without the one that papermill adds."""
    return [cell for cell in notebook.cells if INJECTED not in tags(cell)]


def title(notebook: NotebookNode, default: str) -> str:
    """The text of the first `# heading`, or `default`."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# +(.+)", prose, re.MULTILINE)
    return heading[1] if heading else default


def parameters(path: Path) -> dict[str, object]:
    """Names and defaults in the cell tagged `parameters`; ValueError where new values could not be set in its place."""
    notebook = read(path)
    if authored(notebook) != notebook.cells:
        raise ValueError(f"{path.name}: delete the cell tagged `{INJECTED}`, which papermill added")
    cells = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    if len(cells) != 1:
        raise ValueError(f"{path.name} has {len(cells)} cells tagged `parameters`; it needs exactly one")
    try:  # papermill's own inspect_notebook ends a text at its first #
        return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(cells[0].source).body}
    except (AttributeError, ValueError, SyntaxError):
        raise ValueError(f"{path.name}: its `parameters` cell may only hold `name = constant`") from None


def settled(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without stderr, widgets, progress and counts; text printed in pieces becomes one output."""
    kept: list[NotebookNode] = []
    for output in copy.deepcopy(outputs):
        if output.get("name") == "stderr" or WIDGET in output.get("data", {}):
            continue
        if kept and kept[-1].output_type == output.output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":  # a progress bar redraws its line with \r
            output.text = re.sub(r"[^\n]*\r[^\n]*\n?", "", output.text.replace("\r\n", "\n"))
        if output.output_type == "execute_result":
            output.execution_count = None
    return [output for output in kept if output.get("text") != ""]


def clean(notebook: NotebookNode) -> NotebookNode:
    """A copy to commit: outputs and cell ids stay, what differs from run to run or machine to machine goes."""
    cleaned = copy.deepcopy(notebook)
    cleaned.cells = authored(cleaned)
    for name in ("widgets", "papermill"):
        cleaned.metadata.pop(name, None)
    cleaned.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cleaned.metadata.language_info = {"name": "python"}
    for cell in cleaned.cells:
        cell.metadata = {name: cell.metadata[name] for name in KEPT if cell.metadata.get(name)}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = settled(cell.outputs)
    return cleaned


def main(source: Path, target: Path, work_dir: Path) -> None:
    path = re.escape(str(work_dir.resolve()))  # as the pipeline passed it to the notebook
    text = re.sub(rf"{path}(?![\w-])", "work_dir", nbformat.writes(clean(read(source))))
    files.write_text(target, text + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
