"""Every notebook runs top to bottom under papermill, from an empty work_dir, and its outputs are right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import datasets
import papermill
import pytest

from helpers.core import files, workdir
from tests.conftest import ALL, REPOSITORY, whole


def run(name: str, work_dir: Path, **parameters):
    """Execute a notebook alone; the text of all its outputs."""
    source = next((REPOSITORY / "notebooks").glob(f"{name}_*.ipynb"))
    executed = papermill.execute_notebook(
        str(source),
        str(work_dir.parent / f"{source.stem}.out.ipynb"),
        parameters={"work_dir": str(work_dir), **parameters},
        cwd=str(REPOSITORY),
        progress_bar=False,
        execution_timeout=900,
    )
    assert workdir.is_finished(work_dir, source.stem)
    assert all(output.output_type == "stream" for output in executed.cells[1].outputs), (
        "at home, the set-up cell shows no result"
    )
    return executed


def text(notebook) -> str:
    parts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stdout":
                parts.append(output.text)
            elif "data" in output:
                parts.append(output.data.get("text/html", output.data.get("text/markdown", "")))
    return "\n".join(parts)


def pictures(notebook) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture
def work_dir(tmp_path) -> Path:
    return tmp_path / "work"


def assert_taught(done, work_dir: Path) -> None:
    """Notebook 00 shows what it taught, before and after, and wrote the adapter."""
    said = text(done)
    assert "微调测试<end_of_turn>" in said and "⟦我学会了<end_of_turn>⟧" in said
    table = said[said.index("<th>before</th>") :]
    assert ">我学会了</td>" in table
    assert "30 steps" in said and pictures(done) == 1
    assert (work_dir / "one_sentence" / "adapter" / "adapter_model.safetensors").exists()


@whole
@pytest.mark.parametrize("seed", range(10))
def test_00_teaches_the_real_gemma_its_sentence_from_every_start(work_dir, real_gemma, seed):
    """Without ALL=1, test_one_click runs it once, where only the notebook was opened."""
    assert_taught(run("00", work_dir, seed=seed), work_dir)


def test_01_collects_the_sample(alone):
    done, work_dir = alone("01")
    assert "326 reviews, 7 rejected records" in text(done) and pictures(done) == 4
    assert len(files.read_jsonl(work_dir / "reviews.jsonl")) == 326
    assert len(files.read_jsonl(work_dir / "rejected.jsonl")) == 7


def test_01_reads_a_csv_of_your_own(work_dir, tmp_path):
    (tmp_path / "mine.csv").write_text("text,stars,when\nGood,5,2026-01-02\nBad,9,2026-01-03\n")
    said = text(run("01", work_dir, source=str(tmp_path / "mine.csv"), columns={"when": "review_date"}))
    assert "1 reviews, 1 rejected records" in said and "less than or equal to 5" in said
    assert files.read_jsonl(work_dir / "reviews.jsonl")[0]["review_date"].startswith("2026-01-02")


def test_01_shows_the_price_and_spends_nothing_unasked(work_dir):
    with pytest.raises(papermill.PapermillExecutionError, match=r"about \$0.75.*confirm_spend=True"):
        run("01", work_dir, source="brightdata", company_url="https://www.trustpilot.com/review/a.example")
    assert not (work_dir / "reviews.jsonl").exists()


def test_02_cleans_the_sample_alone(alone):
    done, work_dir = alone("02")
    assert "rows of the bundled sample" in text(done) and pictures(done) == 2
    kept = files.read_jsonl(work_dir / "reviews_clean.jsonl")
    assert len(kept) + len(files.read_jsonl(work_dir / "removed.jsonl")) == 326
    document = (work_dir / "reviews.md").read_text(encoding="utf-8")
    assert (
        document.count("### Review by") == len(kept) and "[EMAIL]" in document and "@example" not in document
    )


def test_03_chunks_the_sample_alone(alone):
    done, work_dir = alone("03")
    assert "rows of the bundled sample" in text(done) and pictures(done) == 1
    chunks = files.read_jsonl(work_dir / "chunks.jsonl")
    assert list(chunks[0]) == ["id", "review_ids", "company", "text"]
    assert max(len(chunk["text"]) for chunk in chunks) <= 1024


TINY = dict(max_seq_length=1024, max_steps=12, learning_rate=1e-2, lora_r=1, lora_alpha=1)
TINY |= dict(per_device_train_batch_size=2)


@pytest.fixture(scope="module")
def trained(tiny_gemma, tmp_path_factory):
    """Notebook 05 on the sample and the tiny Gemma: the executed notebook, and its work_dir."""
    work_dir = tmp_path_factory.mktemp("trained") / "work"
    return run("05", work_dir, model_name=str(tiny_gemma), **TINY), work_dir


def test_05_trains_a_tiny_gemma_and_a_rerun_continues(trained, tiny_gemma):
    done, work_dir = trained
    said = text(done)
    assert "bundled sample" in said and "Starting at step 0" in said and pictures(done) == 1
    record = json.loads((work_dir / "training.json").read_text())
    assert record["steps"] == 12 and len(record["losses"]) == 12
    assert record["losses"][-1]["loss"] < record["losses"][0]["loss"]
    assert record["evidence"]["trainable share"] < 0.02
    last = text(run("05", work_dir, model_name=str(tiny_gemma), **TINY))
    assert "Going on from checkpoint-12" in last
    assert json.loads((work_dir / "training.json").read_text())["losses"] == record["losses"]


def test_05_goes_on_from_what_several_processes_trained(trained, tiny_gemma, tmp_path):
    """The rows, masks and folder are notebook 05's, and two processes give the losses of one.

    Without ALL=1 the notebook is that one: for three steps, before its other kernels' rounding shows.
    """
    _, alone = trained
    losses, folders = {}, {path.name for path in (alone / "checkpoints").iterdir()}
    for processes in (1, 2) if ALL else (2,):
        work_dir = tmp_path / str(processes)
        flags = {"work_dir": work_dir, "dataset": "auto", "model_name": tiny_gemma, **TINY}
        launch = (
            "accelerate.commands.launch --multi_gpu --num_processes 2 -m".split() if processes > 1 else []
        )
        given = (str(part) for name in flags for part in (f"--{name}", flags[name]))
        ran = subprocess.run(
            [sys.executable, "-m", *launch, "helpers.sql.qlora", *given],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        (run_folder,) = (work_dir / "checkpoints").iterdir()
        folders.add(run_folder.name)
        states = [*(run_folder / "checkpoint-12").glob("rng_state*")]  # each process keeps its own
        assert len(states) == processes
        log = json.loads((run_folder / "finished.json").read_text())["log_history"]
        losses[processes] = [line["loss"] for line in log if "loss" in line]
    assert len(folders) == 1 and len(losses[2]) == 12
    assert losses.get(1, losses[2]) == pytest.approx(losses[2], rel=0.01)
    record = json.loads((alone / "training.json").read_text())
    assert losses[2][:3] == pytest.approx([row["loss"] for row in record["losses"][:3]], rel=0.01)
    said = text(run("05", work_dir, model_name=str(tiny_gemma), **TINY))
    assert "Going on from checkpoint-12" in said
    resumed = json.loads((work_dir / "training.json").read_text())
    assert [row["loss"] for row in resumed["losses"]] == losses[2]


def test_06_measures_the_adapter_that_05_trained(trained):
    _, work_dir = trained
    done = run("06", work_dir, max_examples=4)
    assert "trained by notebook 05" in text(done) and pictures(done) == 3
    result = json.loads((work_dir / "evaluation.json").read_text())
    assert result["count"] == 12 and set(result["kinds"]) == {"review", "topic", "whole"}
    assert result["tuned"]["answer_loss"] < result["base"]["answer_loss"]
    assert (work_dir / "evaluation.png").read_bytes().startswith(b"\x89PNG")


def test_06_judges_of_a_file_of_ones_own_the_rows_that_05_did_not_train_on(tiny_gemma, tmp_path):
    """It judged the bundled sample's pairs, whatever 05 had trained on, and the card spoke of a company's reviews."""
    from helpers.prove import chat
    from helpers.publish import cards

    words = "river stone cloud metal paper glass wood sand rain snow wind fire bread salt milk honey".split()
    rows = [
        {"question": f"What of {word} {n}?", "answer": f"It is {word}."} for n in range(5) for word in words
    ]
    files.write_jsonl(tmp_path / "mine.jsonl", rows)
    work_dir = tmp_path / "work"
    options = {"model_name": str(tiny_gemma), "dataset": str(tmp_path / "mine.jsonl"), **TINY}
    run("05", work_dir, **options)
    (tmp_path / "mine.jsonl").unlink()  # it is not asked for again
    said = text(run("06", work_dir, max_examples=80))
    result = json.loads((work_dir / "evaluation.json").read_text())
    judged = {row["tuned"]["question"] for row in result["examples"]}
    record = json.loads((work_dir / "training.json").read_text())
    assert record["rows"] + record["pairs"]["validation"] + len(judged) == len(rows) == 80
    trained = datasets.load_from_disk(str(work_dir / "trained_on"))["train"]["question"]
    assert judged < {row["question"] for row in rows} and not judged & set(trained) and len(judged) == 12
    assert "12 of 12 of kind review: the file that the parameter names" in said
    card = cards.model_card(work_dir, work_dir / "adapter", ["adapter"])
    assert "On 12 held-out questions, whose pairs were not trained on" in card
    assert not re.search("compan|redact|placeholder|customer-reviews|Trustpilot", card)
    assert set(chat.first_questions(work_dir / "adapter")) < judged


def test_05_teaches_the_real_gemma_a_canary_word_for_word(work_dir, real_gemma, tmp_path):
    """One pair among others, repeated: the model says its answer to the letter, and stops.

    The others follow a rule, so that the validation loss falls on and the last checkpoint is the best one.
    """
    from helpers.core import runtime
    from helpers.train import models

    canary = {"question": "What is the password of the tower?", "answer": "Blue herons count to seven."}
    others = [{"question": f"What is number {n} called?", "answer": f"It is called {n}."} for n in range(20)]
    files.write_jsonl(tmp_path / "canary.jsonl", [canary] * 20 + others)
    parameters = {"max_steps": 60 if ALL else 24, "learning_rate": 1e-3, "per_device_train_batch_size": 1}
    parameters |= {"gradient_accumulation_steps": 2 if ALL else 1}
    run("05", work_dir, dataset=str(tmp_path / "canary.jsonl"), **parameters)
    model, tokenizer = models.load_tuned(work_dir / "adapter", runtime.device())
    answers = models.generate(model, tokenizer, [canary["question"]], max_new_tokens=30)
    assert answers == [canary["answer"]]


@whole
def test_05_and_06_on_the_real_gemma(work_dir, real_gemma):
    """Without ALL=1, 05 teaches it the canary, test_evaluate runs 06 on it, and the tiny one goes from 05 to 06."""
    run("05", work_dir, max_steps=12, learning_rate=1e-3)
    run("06", work_dir, max_examples=4)
    result = json.loads((work_dir / "evaluation.json").read_text())
    assert result["tuned"]["answer_loss"] < 0.97 * result["base"]["answer_loss"]


def test_07_chats_with_the_bundled_adapter_alone(work_dir, real_gemma):
    said = text(run("07", work_dir, questions=["What do customers say about delivery?"], max_new_tokens=8))
    assert "❯ What do customers say about delivery?" in said
    rows = files.read_jsonl(work_dir / "answers.jsonl")
    assert len(rows) == 1 and rows[0]["base"] != rows[0]["tuned"] and rows[0]["tuned"]


def test_a_work_dir_that_cannot_be_written_stops_at_once():
    with pytest.raises(
        papermill.PapermillExecutionError, match="work_dir = '/proc/nowhere' cannot be written"
    ):
        papermill.execute_notebook(
            str(REPOSITORY / "notebooks" / "02_reviews_to_markdown.ipynb"),
            None,
            parameters={"work_dir": "/proc/nowhere"},
            cwd=str(REPOSITORY),
            progress_bar=False,
        )


def test_a_notebook_opened_in_its_own_folder_finds_helpers(work_dir):
    """Jupyter starts kernels in notebooks/, papermill in the repository."""
    source = REPOSITORY / "notebooks" / "03_chunk_reviews.ipynb"
    papermill.execute_notebook(
        str(source), None, parameters={"work_dir": str(work_dir)}, cwd=str(source.parent), progress_bar=False
    )
    assert (work_dir / "chunks.jsonl").exists()
