"""Every notebook keeps the form that makes it pleasant to read."""

from __future__ import annotations

import ast
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers.pipeline import notebooks

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]

# The public interface: names, and the parameters besides work_dir.
PARAMETERS = {
    "00_teach_one_sentence": "model_name question answer max_steps learning_rate lora_r seed",
    "01_collect_reviews": "source company_url company_name max_reviews confirm_spend columns dataset_id "
    "poll_timeout_minutes",
    "02_reviews_to_markdown": "redact_pii min_words",
    "03_chunk_reviews": "chunk_size chunk_overlap refine teacher_model teacher_price max_cost_usd",
    "04_generate_qa_pairs": "teacher teacher_model teacher_price mode pairs_per_chunk overview max_cost_usd "
    "max_concurrency test_share push_to_hub dataset_repo",
    "05_finetune_gemma": "model_name dataset max_seq_length load_in_4bit lora_r lora_alpha learning_rate "
    "num_train_epochs max_steps per_device_train_batch_size gradient_accumulation_steps open_book seed resume "
    "checkpoint_repo",
    "06_evaluate": "model_name adapter_dir dataset max_examples judge_model judge_price max_cost_usd",
    "07_chat": "questions max_new_tokens temperature top_p top_k web_chat",
    "08_publish": "push_to_hub hub_repo private merge gguf quantization",
    "09_text_to_sql": "dataset context model_name train_size test_size group_by max_seq_length load_in_4bit "
    "lora_r lora_alpha lora_dropout learning_rate num_train_epochs max_steps "
    "per_device_train_batch_size gradient_accumulation_steps seed max_examples more_options",
}


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "code"]


def test_all_notebooks_are_here():
    assert sorted(PARAMETERS) == NAMES


def test_every_name_that_a_notebook_uses_is_its_own():
    """09 used `os`, which it did not import, in lines that run on Kaggle and with two GPUs alone."""
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", *PATHS]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_parameters_are_the_public_interface(path):
    assert list(notebooks.parameters(path)) == ["work_dir", *PARAMETERS[path.stem].split()]


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_every_parameter_is_explained_beside_it(path):
    cells = read(path).cells
    at = next(at for at, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    explained = re.findall(r"^\| `(\w+)` \| \S.+ \|$", cells[at - 1].source, re.MULTILINE)
    assert explained == list(notebooks.parameters(path))


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_no_code_cell_is_over_20_lines(path):
    assert max(source.count("\n") + 1 for source in code(path)) <= 20


def test_code_cells_are_short():
    lengths = sorted(source.count("\n") + 1 for path in PATHS for source in code(path))
    assert statistics.median(lengths) <= 5
    assert lengths[int(0.9 * len(lengths))] <= 12


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_the_opening_and_the_close(path):
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    assert re.match(r"# .+\n\n\*\*.+\*\*\n\n\[!\[Open in .+\n\n!\[Road map: .+\n\nYou will\n\n- ", cells[0])
    assert re.search(r"\| .*time.* \|.* cost", cells[0]), "a table of time, hardware and cost"
    assert "## What you did" in cells[-1] and "<details><summary>Answer</summary>" in cells[-1]
    assert read(path).cells[0].cell_type == "markdown" and read(path).cells[-1].cell_type == "markdown"


def test_each_notebook_links_to_the_next():
    for path, following in zip(PATHS, PATHS[1:]):
        assert f"({following.name})" in read(path).cells[-1].source


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_links_to_files_resolve(path):
    for cell in read(path).cells:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", cell.source):
            assert (FOLDER / target).exists(), target


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_outputs_are_committed_clean(path):
    """Outputs of the CPU run stay; counts, widgets, machine paths, progress bars and errors do not."""
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info", "accelerator", "colab", "kaggle"}
    folded = {"cellView", "jupyter"}  # the set-up cell
    assert all(set(cell["metadata"]) in (set(), {"tags"}, folded) for cell in notebook["cells"])
    assert not re.search(r"/(root|home|tmp|Users)/|site-packages|it/s\]", text)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] is None for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs, "the notebook has never been run"
    assert all(output["output_type"] != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)
    assert all(output.get("execution_count") is None for output in outputs)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_no_cell_asks_whether_it_is_being_tested(path):
    assert not re.search(r"\bCI\b|PYTEST|papermill", "\n".join(code(path)).replace("papermill starts in", ""))


def helpers_called(path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The file of each helper that a notebook imports, and the first cell that calls it, by its name there."""
    files, first = {}, {}
    for at, cell in enumerate(read(path).cells):
        for node in ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ():
            if isinstance(node, ast.ImportFrom) and node.module.startswith("helpers."):
                folder = node.module.replace(".", "/")
                files |= {alias.asname or alias.name: f"{folder}/{alias.name}.py" for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                first.setdefault(node.value.id, at)
    return files, {name: at for name, at in first.items() if name in files}


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_every_helper_is_linked_above_its_first_use(path):
    """In the last text before the cell that first calls it, so that who wonders what it does is a click away."""
    cells = read(path).cells
    files, first = helpers_called(path)
    for name, at in first.items():
        above = next(cell.source for cell in cells[at::-1] if cell.cell_type == "markdown")
        linked = re.findall(r"\[(\w+)\]\((?:\.\./|https://\S+?)(helpers/\w+/\w+\.py)\)", above)
        assert (name, files[name]) in linked, f"{name}, {files[name]}: {above}"


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_words_of_the_field_lead_to_the_glossary_where_they_are_first_met(path):
    glossary = (REPOSITORY / "docs" / "glossary.md").read_text("utf-8")
    met = [row for row in glossary.splitlines() if row.startswith("| ") and f"notebooks/{path.name}" in row]
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert len(re.findall(r"\]\([^)]*docs/glossary\.md\)", prose)) >= len(met), [row[:30] for row in met]


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_the_exercise_is_a_cell_that_a_person_can_change(path):
    cells = read(path).cells
    at = next(at for at, cell in enumerate(cells) if cell.source.startswith("## Now you\n\n"))
    assert {cell.cell_type for cell in cells[at + 1 : -1]} == {"code"}, "the exercise stands before the close"
    assert "most likely" not in "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_the_prose_has_500_to_1600_words_and_no_sentence_twice(path):
    """Without tables, code, badges and pictures, and the folded answers."""
    prose = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    prose = re.sub(r"(?s)```.*?```|<details>.*?</details>", "", prose)
    prose = re.sub(r"(?m)^(\||!\[|\[!\[|Code: ).*", "", prose)
    assert 500 <= len(prose.split()) <= 1600, len(prose.split())
    sentences = [one for one in re.split(r"(?<=[.:?])\s+", prose) if len(one.split()) > 5]
    assert len(set(sentences)) == len(sentences)
