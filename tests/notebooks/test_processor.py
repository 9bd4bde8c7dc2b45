"""Notebooks 00 and 05 to 08 with a processor from `FastModel`, as on a GPU for Gemma 3 from 4B on and every Gemma 4.

The models are tiny and random (tests/fakes/processor.py says what of them cannot be built here), so they learn one
answer by heart. Gemma 4 is published without a GGUF file: llama.cpp's converter asks its configuration for
`global_head_dim`, where transformers 5.15 writes `per_layer_config`.
"""

from __future__ import annotations

import json

import datasets
import pytest

from helpers.core import files
from tests import kernels
from tests.fakes import processor
from tests.notebooks.test_runs import run, text

ANSWER = "Yes."
WORDS = ["river", "stone", "cloud", "metal", "paper", "glass", "wood", "sand"]
TRAINING = dict(max_steps=30, learning_rate=2e-2, max_seq_length=64)
TRAINING |= dict(per_device_train_batch_size=1, gradient_accumulation_steps=1)


def rows(question: str, words: list[str]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{"question": question.format(word), "answer": ANSWER} for word in words]
    )


@pytest.fixture(scope="module", autouse=True)
def on_a_gpu(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        kernels.start_up(patch, tmp_path_factory.mktemp("ipython"), processor.START_UP)
        yield


@pytest.fixture(scope="module", params=["gemma_3", "gemma_4"])
def gemma(request, tmp_path_factory):
    return getattr(processor, request.param)(tmp_path_factory.mktemp(request.param) / "model")


@pytest.fixture(scope="module")
def work_dir(gemma):
    """What notebook 05 wrote."""
    work_dir = gemma.parent / "work"
    sides = {"train": rows("What of the {}?", WORDS), "test": rows("What of {}?", WORDS[:2])}
    sides["validation"] = rows("How is the {}?", WORDS[:2])
    datasets.DatasetDict(sides).save_to_disk(str(work_dir / "qa_dataset"))
    run("05", work_dir, model_name=str(gemma), **TRAINING)
    return work_dir


def test_00_teaches_its_sentence(gemma, tmp_path):
    said = text(run("00", tmp_path / "work", model_name=str(gemma), max_steps=40, learning_rate=2e-2))
    assert ">我学会了</td>" in said[said.index("<th>before</th>") :]


def test_05_trains_the_language_model_and_no_layer_for_images(work_dir, gemma):
    """LoRA on the vision tower stayed zero, and the evidence failed after the whole training."""
    record = json.loads((work_dir / "training.json").read_text())
    assert record["losses"][-1]["loss"] < record["losses"][0]["loss"]
    assert record["evidence"]["LoRA B matrices, all non-zero"] == 14  # of two layers


def test_06_measures_it(work_dir):
    run("06", work_dir, max_examples=2)
    result = json.loads((work_dir / "evaluation.json").read_text())
    assert result["tuned"]["rouge_l"] == result["tuned"]["stopped"] == 1 > result["base"]["rouge_l"]


def test_07_streams_its_answers(work_dir):
    done = run("07", work_dir, questions=["What of the sand?"], max_new_tokens=16, temperature=0)
    assert "1 of 1 answers of the tuned model stopped by themselves" in text(done)
    (row,) = files.read_jsonl(work_dir / "answers.jsonl")
    assert row["tuned"] == ANSWER != row["base"] and row["tuned_stopped"] == "by itself"


def test_08_publishes_it(work_dir, gemma):
    gguf = "gemma_3" in gemma.parent.name
    run("08", work_dir, gguf=gguf)
    report = json.loads((work_dir / "publish" / "parity.json").read_text())
    assert not any(row["wrong"] for row in report["rows"])
    assert {row["form"] for row in report["rows"]} == {"adapter", "merged", *["gguf"] * gguf}
    assert (work_dir / "publish" / "merged" / "processor_config.json").exists()
