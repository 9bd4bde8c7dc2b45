"""export: what is merged is base + adapter, whole or not there, and nothing is built twice or without room."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest

from helpers.core import files, runtime
from helpers.publish import export
from helpers.train import models
from tests.conftest import REPOSITORY

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DEVICE = runtime.Device("cpu", "a CPU", 8, 8, "")


def tuned(folder, seed: int = 1, tied: bool = False, **options):
    """The tiny Gemma with a random adapter on it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.config.eos_token_id = 1  # like a base model's, which knows no turns
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=32, target_modules=LINEAR, init_lora_weights=False, task_type="CAUSAL_LM", **options
    )
    return get_peft_model(model, config).eval()


@pytest.fixture(scope="module")
def model(tiny_gemma):
    return tuned(tiny_gemma)


@pytest.fixture(scope="module")
def merged(model, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("publish") / "merged"
    export.merge(model, tokenizer, folder)
    return folder


def logits(model, tokenizer):
    import torch

    ids = torch.tensor([models.chat_ids(tokenizer, "what do customers say?", "they say bikes")])
    with torch.inference_mode():
        return model(ids).logits[0].float()


def test_the_merged_folder_alone_gives_the_logits_of_base_and_adapter(model, tokenizer, merged):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    alone = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    ours, theirs = (logits(each, tokenizer) for each in (model, alone))
    with model.disable_adapter():
        base = logits(model, tokenizer)
    assert (ours - theirs).abs().max() < 0.02 * (ours - base).abs().max()
    assert {p.dtype for p in AutoModelForCausalLM.from_pretrained(merged, dtype="auto").parameters()} == {
        torch.bfloat16
    }
    assert AutoTokenizer.from_pretrained(merged).chat_template == tokenizer.chat_template
    said = json.loads((merged / "generation_config.json").read_text())
    assert said["eos_token_id"] == models.stop_ids(tokenizer) and {**said, **models.SAMPLING} == said
    config = json.loads((merged / "config.json").read_text())  # where the converter looks for them
    assert config["eos_token_id"] == models.stop_ids(tokenizer) and str(merged.parent) not in str(config)
    assert not any(name.startswith(".") for name in (path.name for path in merged.parent.iterdir()))


def test_shards_are_as_large_as_asked_and_read_back_as_one(model, tokenizer, merged, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    export.merge(model, tokenizer, tmp_path / "merged", shard=100_000)
    shards = sorted((tmp_path / "merged").glob("*.safetensors"))
    assert len(shards) > 5 and max(path.stat().st_size for path in shards) < 110_000
    one, many = (AutoModelForCausalLM.from_pretrained(folder) for folder in (merged, tmp_path / "merged"))
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), many.state_dict().values(), strict=True)
    )
    assert export.unlike(model, many) == ""


def test_a_tied_matrix_is_written_once_and_one_that_was_trained_apart_stays_apart(
    tiny_gemma, tokenizer, tmp_path
):
    """train_embeddings of notebook 09 trains embeddings and head in full, which the configuration of the base ties."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    export.merge(tuned(tiny_gemma, tied=True), tokenizer, tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    apart = tuned(tiny_gemma, tied=True, modules_to_save=["lm_head", "embed_tokens"])
    with torch.no_grad():
        for name, weight in apart.named_parameters():
            if "modules_to_save" in name:
                weight += torch.randn_like(weight) * weight.std()
    export.merge(apart, tokenizer, tmp_path / "apart", dtype="float32")
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "apart")
    assert (logits(apart, tokenizer) - logits(alone, tokenizer)).abs().max() < 1e-4
    ties = {name: files.read_json(tmp_path / name / "config.json") for name in ("tied", "apart")}
    assert ties["tied"]["tie_word_embeddings"] and not ties["apart"]["tie_word_embeddings"]


def test_weights_of_another_adapter_are_named(model, tiny_gemma, merged):
    from transformers import AutoModelForCausalLM

    alone = AutoModelForCausalLM.from_pretrained(merged, dtype="auto")
    assert export.unlike(model, alone) == ""
    unlike = export.unlike(tuned(tiny_gemma, seed=2), alone)
    assert unlike.startswith(f"{2 * len(LINEAR)} of its weights") and "model.layers.0.self_attn" in unlike


def test_a_base_that_is_a_folder_is_published_without_its_path(tokenizer, tmp_path):
    """adapter_config.json went out as it was, with the folder in which somebody keeps her models."""
    base = tmp_path / "private" / "my-gemma-3"
    files.write_json(
        tmp_path / "adapter" / "adapter_config.json", {"base_model_name_or_path": str(base), "r": 8}
    )
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    export.save_adapter(tmp_path / "adapter", tokenizer, tmp_path / "out")
    assert files.read_json(tmp_path / "out" / "adapter_config.json") == {
        "base_model_name_or_path": "my-gemma-3",
        "r": 8,
    }
    texts = [path.read_text() for path in (tmp_path / "out").glob("*.json")]
    assert not any(str(tmp_path) in text for text in texts)


def test_a_merge_that_breaks_off_leaves_nothing(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "save_config", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export.merge(model, tokenizer, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


# ---- room

Disk = namedtuple("Disk", "free")


def torch_size(count: int):
    import torch

    return torch.Size([count])


ALL = ["adapter", "merged", "gguf", "parity"]


@pytest.mark.parametrize("forms, gigabytes", [(ALL, 17.2), (["merged"], 8.6), (ALL[:1], 0.0)])
def test_the_disk_is_looked_at_before(model, tmp_path, monkeypatch, forms, gigabytes):
    """For Gemma 3 4B: its merged weights, and as much again for a GGUF file."""
    monkeypatch.setattr(export, "weights", lambda _: [("w", torch_size(4_300_000_000), None)])
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=99e9))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk((gigabytes - 0.1) * 1e9))
    needed = rf"needs {gigabytes} of {gigabytes - 0.1:.1f} GB free disk, and .* Free some.*merge=False"
    with pytest.raises(MemoryError, match=needed):
        export.check_room(model, tmp_path, forms)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk((gigabytes + 0.1) * 1e9))
    assert f"{gigabytes} of {gigabytes + 0.1:.1f} GB free disk" in export.check_room(model, tmp_path, forms)


@pytest.mark.parametrize("dtype, gigabytes", [("bfloat16", 8.6), ("float32", 17.2)])
def test_the_memory_for_the_copy_that_is_checked_is_looked_at_before(
    model, tmp_path, monkeypatch, dtype, gigabytes
):
    """Gemma 3 4B does not fit into what Colab's 12.7 GB leave beside the model that was tuned."""
    monkeypatch.setattr(export, "weights", lambda _: [("w", torch_size(4_300_000_000), None)])
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8.2e9))
    with pytest.raises(
        MemoryError, match=f"needs .* {gigabytes} of 8.2 GB free memory. Free some.*merge=False"
    ):
        export.check_room(model, tmp_path, ALL, dtype)
    assert "0.0 of 8.2 GB free memory" in export.check_room(model, tmp_path, ["adapter", "parity"], dtype)


def test_on_a_gpu_the_copy_goes_into_its_memory(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(export, "weights", lambda _: [("w", torch_size(4_300_000_000), None)])
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1e9))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (11.8e9, 15e9))
    on_a_t4 = SimpleNamespace(device=torch.device("cuda"))
    assert "8.6 of 11.8 GB free memory" in export.check_room(on_a_t4, tmp_path, ALL)


# ---- what is there is not built again


def build(work_dir, forms):
    made = []
    for form in export.to_do(work_dir, forms, "q8_0"):
        made.append(form)
        if form == "parity":
            continue
        files.write_text(
            work_dir / "publish" / form / "file", form + (work_dir / "adapter" / "a").read_text()
        )
        export.finish(work_dir, form, "q8_0")
    return made


def test_a_gguf_needs_the_merged_weights():
    assert export.forms(False, False) == ["adapter", "parity"]
    with pytest.raises(ValueError, match="gguf=True needs merge=True"):
        export.forms(False, True)


def test_only_what_is_missing_changed_or_made_from_it_is_built(tmp_path):
    forms = ["adapter", "merged", "gguf"]
    files.write_text(tmp_path / "adapter" / "a", "one")
    assert build(tmp_path, forms) == forms
    assert build(tmp_path, forms) == []
    (tmp_path / "publish" / "gguf" / "file").write_text("damaged")
    assert build(tmp_path, forms) == ["gguf"]
    assert export.to_do(tmp_path, forms, "q4_k_m") == ["gguf"]
    files.write_text(tmp_path / "adapter" / "a", "another adapter")
    assert build(tmp_path, forms) == forms
    assert build(tmp_path, ["adapter", "merged"]) == [] and not (tmp_path / "publish" / "gguf").exists()


def test_what_an_export_left_that_was_killed_is_removed(tmp_path):
    """Gigabytes that no listing shows: on Kaggle's 19.5 GB the next export did not fit beside them."""
    files.write_text(tmp_path / "adapter" / "a", "one")
    program = "import os, sys; from pathlib import Path; from helpers.core import files\n"
    program += "with files.whole_folder(Path(sys.argv[1])) as folder: (folder / 'x').touch(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program, tmp_path / "publish" / "merged"], cwd=REPOSITORY)
    assert [path.name[:8] for path in (tmp_path / "publish").iterdir()] == [".merged-"]
    export.to_do(tmp_path, ["adapter", "merged"], "q8_0")
    assert not [*(tmp_path / "publish").iterdir()]


# ---- GGUF and Ollama


def test_a_quantization_that_needs_a_missing_program_falls_back_and_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert export.available("bf16")[0] == export.available("BF16")[0] == "bf16"
    assert "needs" not in export.available("Q8_0")[1], "Ollama writes it so, and the converter makes it"
    kind, why = export.available("q4_k_m")
    assert kind == "q8_0" and "q4_k_m needs llama.cpp's program llama-quantize" in why
    with pytest.raises(ValueError, match="quantization = 'q4_km': llama.cpp has q8_0, q4_k_m"):
        export.available("q4_km")


def test_llama_quantize_is_used_where_it_is_installed(tokenizer, monkeypatch, tmp_path):
    """A stand-in on the PATH, since the program itself comes with llama.cpp and not with a wheel."""
    program = tmp_path / "bin" / "llama-quantize"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\n[ "$3" = q4_k_m ] || { echo "no such type" >&2; exit 1; }\n{ cat "$1"; echo "$3"; } > "$2"'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(
        export, "convert", lambda merged, target, kind: target.write_text(f"{merged.name} {kind} ")
    )
    assert export.available("q4_k_m")[0] == "q4_k_m"
    export.to_gguf(tmp_path / "merged", tmp_path / "gguf", "q4_k_m", tokenizer)
    assert {path.name for path in (tmp_path / "gguf").iterdir()} == {
        "model-q4_k_m.gguf", "Modelfile",
    }  # fmt: skip
    assert (tmp_path / "gguf" / "model-q4_k_m.gguf").read_text() == "merged bf16 q4_k_m\n"
    assert (tmp_path / "gguf" / "Modelfile").read_text().startswith("FROM ./model-q4_k_m.gguf\n")
    with pytest.raises(RuntimeError, match="model-q6_k.gguf could not be made: no such type"):
        export.to_gguf(tmp_path / "merged", tmp_path / "gguf", "q6_k", tokenizer)


def test_a_conversion_that_fails_says_why_and_leaves_no_folder(tokenizer, tmp_path):
    (tmp_path / "merged").mkdir()
    with pytest.raises(RuntimeError, match="(?s)model-q8_0.gguf could not be made: .*config.json"):
        export.to_gguf(tmp_path / "merged", tmp_path / "gguf", "q8_0", tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def rendered(template: str, prompt: str, system: str = "") -> str:
    """What Ollama makes of a template up to the place of the answer, for the few forms that ours has."""
    shown = template.partition("{{ .Response }}")[0]
    shown = re.sub(
        r"\{\{ if \.System \}\}(.*?)\{\{ end \}\}", r"\1" if system else "", shown, flags=re.DOTALL
    )
    return shown.replace("{{ .System }}", system).replace("{{ .Prompt }}", prompt)


def test_ollamas_template_makes_the_prompt_that_the_model_was_trained_on(tokenizer):
    written = export.modelfile(tokenizer, "model-q8_0.gguf")
    template = re.search(r'TEMPLATE """(.*)"""', written, re.DOTALL)[1]
    assert "<bos>" + rendered(template, "A question") == models.chat_text(tokenizer, "A question")
    roles = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A question"}]
    with_system = tokenizer.apply_chat_template(roles, tokenize=False, add_generation_prompt=True)
    assert "<bos>" + rendered(template, "A question", "Be brief.") == with_system
    assert written.startswith("FROM ./model-q8_0.gguf\n") and written.count("PARAMETER stop") == 2
    for line in ('stop "<end_of_turn>"', 'stop "<eos>"', "temperature 0.7", "top_p 0.95", "top_k 64"):
        assert f"PARAMETER {line}\n" in written
