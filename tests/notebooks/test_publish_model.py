"""Stage 08 with the real 270M: the notebook's files are one model for Transformers and for llama.cpp, and a file
that was changed is refused with its cause. The whole push by the notebook itself runs with ALL=1."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from helpers.core import runtime
from helpers.prove import chat, search
from helpers.publish import dataset, export, parity
from helpers.train import models
from tests import kernels
from tests.conftest import ALL, whole
from tests.fakes.hub import FakeHub
from tests.notebooks.test_runs import run, text


@pytest.fixture(scope="module")
def executed(tmp_path_factory, real_gemma):
    """Notebook 08's work_dir and text; without ALL=1 the forms are compared in 8 tokens of each answer, not 32."""
    work_dir, shorter = tmp_path_factory.mktemp("publish") / "work", "parity.TOKENS = 8"
    with pytest.MonkeyPatch.context() as patch:
        if not ALL:
            start = f"from helpers.publish import parity\n{shorter}"
            kernels.start_up(patch, tmp_path_factory.mktemp("ipython"), start)
        return work_dir, text(run("08", work_dir))


@pytest.fixture(scope="module")
def work_dir(executed):
    return executed[0]


@pytest.fixture(scope="module")
def loaded(real_gemma):
    return models.load_tuned(models.SAMPLE_ADAPTER, runtime.device())


@pytest.fixture(scope="module")
def adapter(loaded) -> list[parity.Answer]:
    """Its short answer to the prompt in which a wrong template shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "TOKENS", 8)
        return parity.from_model(*loaded, models.stop_ids(loaded[1]), [2], [parity.DIFFICULT])


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(parity, "TOKENS", 8)


def test_the_gate_passes_for_adapter_merged_and_gguf(executed):
    work_dir, said = executed
    report = json.loads((work_dir / "publish" / "parity.json").read_text())
    assert [row["form"] for row in report["rows"]] == ["adapter"] * 5 + ["merged"] * 5 + ["gguf"] * 5
    assert not any(row["wrong"] for row in report["rows"])
    assert all(row["stops"] for row in report["rows"])
    assert (
        0 < max(row["largest difference"] for row in report["rows"]) < report["tolerance"] == parity.TOLERANCE
    )
    assert "To do: adapter, merged, gguf, parity" in said and "nothing left this machine" in said
    assert "FROM ./model-q8_0.gguf" in said and "What it should not be used for" in said
    assert (
        len(said.rpartition("What it should not be used for")[2].split()) > 100
    )  # the served answer is below it


def test_what_the_notebook_made_passes_the_scan(work_dir):
    assert list(dataset.scan(work_dir / "publish")) == []


def verdict(gguf: Path, adapter: list[parity.Answer]) -> str:
    theirs = parity.from_gguf(gguf, "<bos>", [2], [parity.DIFFICULT])
    return " ".join(row["wrong"] for row in parity.compare("gguf", adapter, theirs, 2, 106))


def changed(gguf: Path, target: Path, old: bytes, new: bytes) -> Path:
    """A copy with the first `old` replaced. The length of what follows may only change by 32, the alignment."""
    data = gguf.read_bytes()
    assert old in data and (len(new) - len(old)) % 32 == 0
    target.write_bytes(data.replace(old, new, 1))
    return target


def string(value: bytes) -> bytes:
    """As GGUF writes it: its length in 8 bytes, and then the bytes."""
    return struct.pack("<Q", len(value)) + value


def test_a_gguf_without_the_stop_token_is_refused_by_that_name(work_dir, adapter, tmp_path):
    (gguf,) = (work_dir / "publish" / "gguf").glob("*.gguf")
    other = changed(gguf, tmp_path / "x.gguf", string(b"<end_of_turn>"), string(b"<xxx_xx_xxxx>"))
    assert "it does not know the stop token, 106" in verdict(other, adapter)


def test_a_gguf_with_another_template_is_refused_by_that_name(work_dir, adapter, tmp_path):
    (gguf,) = (work_dir / "publish" / "gguf").glob("*.gguf")
    other = changed(gguf, tmp_path / "x.gguf", b"'<start_of_turn>model", b"'<start_of_turn>Model")
    assert "its chat template makes another prompt" in verdict(other, adapter)


def test_a_gguf_that_doubles_the_bos_is_refused_by_that_name(work_dir, adapter, tmp_path):
    """llama.cpp takes one <bos> off what the template makes and puts its own in front; of two, one is left."""
    (gguf,) = (work_dir / "publish" / "gguf").glob("*.gguf")
    template = (work_dir / "publish" / "merged" / "chat_template.jinja").read_bytes()
    bos = b"{{ bos_token }}"
    assert template.startswith(bos + b"\n{%-")
    doubled = bos + bos + b" " * 17 + template.removeprefix(bos)
    other = changed(gguf, tmp_path / "x.gguf", string(template), string(doubled))
    assert "its prompt begins with 2 <bos> tokens" in verdict(other, adapter)


@whole
def test_a_merged_model_from_another_adapter_is_refused_by_that_name(work_dir, loaded, tmp_path):
    """The other adapter is of zeros: its merged model is the base. Without ALL=1, tests/publish has a tiny one."""
    import torch

    model, tokenizer = loaded
    questions = search.prompts(models.SAMPLE_ADAPTER, chat.QUESTIONS[:1])
    trained = {name: weight.detach().clone() for name, weight in model.named_parameters() if "lora_B" in name}
    with torch.no_grad():
        for name in trained:
            model.get_parameter(name).zero_()
        export.merge(model, tokenizer, tmp_path / "publish" / "merged")
        for name, weight in trained.items():
            model.get_parameter(name).copy_(weight)
    with pytest.raises(ValueError, match=r"merged: \d+ of its weights are not base . this adapter"):
        parity.check(model, tokenizer, tmp_path, ["adapter", "merged"], questions)


def test_the_server_answers_the_real_openai_client_and_listens_on_this_machine_only(work_dir):
    import openai

    (gguf,) = (work_dir / "publish" / "gguf").glob("*.gguf")
    with parity.serve(gguf) as address:
        assert address.startswith("http://127.0.0.1:")
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none")
        messages = [{"role": "user", "content": "How is the customer support perceived?"}]
        said = client.chat.completions.create(model="mine", messages=messages, max_tokens=8, temperature=0)
    assert said.choices[0].message.content.strip() and said.usage.completion_tokens == 8


def test_a_second_run_has_nothing_to_build(work_dir):
    assert export.to_do(work_dir, export.forms(True, True), "q8_0") == []


@whole
def test_the_notebook_builds_nothing_again_and_goes_on_to_the_push(work_dir, tmp_path, monkeypatch):
    """Without ALL=1, tests/publish pushes small files in place of the weights' 0.9 GB."""
    with FakeHub() as hub:
        for name, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        said = text(run("08", work_dir, push_to_hub=True, hub_repo="someone/reviews-gemma"))
        repo = hub.repos["models/someone/reviews-gemma"]
    assert "To do: nothing" in said and f"{hub.endpoint}/someone/reviews-gemma" in said
    assert repo.private and {"README.md", "merged/model.safetensors", "gguf/model-q8_0.gguf"} <= set(
        repo.files
    )
