"""How much memory a training will take, on a GPU by arithmetic that nobody has measured, and what fits it (05, 09)."""

import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.train import models

SPARE = 0.9  # the share of the free memory that may be planned for
# What the peak has beside the tensors that are kept: temporaries, gradients, holes in the heap. Fitted on a CPU to
# benchmarks/memory.json; on a GPU to the 13.6 GB of Unsloth's T4 run (Gemma 3 4B in 4 bits, 2 × 2,048 tokens).
HOLES = 1.75  # times all layers, without checkpointing
CPU_KERNELS = 0.38e9  # bytes; the CPU library compiles one for each new shape, and keeps them
LAYERS_AT_WORK = (5, 8)  # times one layer, with checkpointing: on a GPU, and without one


@dataclass(frozen=True)
class Plan:
    """A way to make an update; `parts` is the estimated peak in GB by cause."""

    rows: int  # at once
    accumulation: int  # such batches per update
    checkpointing: bool
    parts: dict[str, float]
    why: str
    peak_gb: float = 0.0
    smaller: tuple = ()  # plans for a device whose memory ends before the estimate says


def estimate(model, rows: int, length: int, lora_r: int, checkpointing: bool) -> dict[str, float]:
    """GB (10⁹ bytes) at the peak of a LoRA step, by cause; `model` has no adapter yet.

    What a layer keeps in bytes per token was counted with torch.autograd.graph.saved_tensors_hooks. Checkpointing keeps
    its input only, which Unsloth moves to RAM on a GPU. Where the compute is float32, as on a T4, all doubles.
    """
    import torch

    from helpers.train.cpu_loss import TILE  # which defines a torch function

    config, cpu = model.config.get_text_config(), model.device.type == "cpu"
    width, tokens = config.hidden_size, rows * length
    each = config.per_layer_config  # in Gemma 4 they are not all alike
    heads = [one.head_dim * (10 * one.num_attention_heads + 16 * one.num_key_value_heads) for one in each]
    layers = [26 * width + 8 * one.intermediate_size + size for one, size in zip(each, heads)]
    kept = HOLES * sum(layers)
    if checkpointing:
        kept = min(kept, 2 * width * len(layers) * cpu + LAYERS_AT_WORK[cpu] * max(layers))
    modules = [m for name, m in model.named_modules() if re.fullmatch(models.LANGUAGE_LAYERS, name)]
    adapter = sum(lora_r * (m.in_features + m.out_features) for m in modules)
    wide = 2 if model.dtype == torch.float16 else 1  # Unsloth computes Gemma 3 in float32 there
    parts = {
        "weights and libraries": now(model)[0],
        "adapter, gradients, optimizer": 18 * adapter,  # float32, its gradient, two Adam moments, a copy
        "activations": wide * tokens * kept,
        "loss": wide * tokens * 12 * (width + TILE),
        "kernels": CPU_KERNELS * cpu,
    }
    return {name: round(size / 1e9, 3) for name, size in parts.items()}


def now(model) -> tuple[int, int]:
    """Bytes held and bytes free now: of the GPU where the model is on one, else this process's and the RAM's."""
    import psutil
    import torch

    if model.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        return total - free, free
    for weight in model.parameters():  # mapped from a file, they count once they were touched
        weight.detach().flatten()[:: 4096 // weight.element_size()].sum()
    mine = psutil.Process().memory_info()
    return mine.rss, psutil.virtual_memory().available - mine.shared  # a mapped file counts as available, too


def peak_gb() -> float:
    """The highest memory of this process so far in GB: of the GPU where there is one, else resident (Linux's VmHWM)."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 1e9
    status = Path("/proc/self/status").read_text()  # getrusage's would begin with that of the parent process
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024 / 1e9


def plan(model, length: int, rows: int, accumulation: int, lora_r: int) -> Plan:
    """A fast way that fits to make updates of `rows` × `accumulation` rows of up to `length` tokens.

    All make the same update; what recomputes nothing comes first, then what has more rows at once. `smaller` are up to
    three to fall back on, the last with the least memory. MemoryError names need and memory.
    """
    update, fitting, (held, free) = rows * accumulation, [], (size / 1e9 for size in now(model))
    # Without a GPU a few rows keep all cores busy; more would only add padding.
    most = rows if model.device.type == "cpu" else update
    sizes = [n for n in range(most, 0, -1) if update % n == 0]
    for checkpointing, at_once in itertools.product((False, True), sizes):
        parts = estimate(model, at_once, length, lora_r, checkpointing)
        way = f"{at_once} rows at once × {update // at_once}, gradient checkpointing {'on' if checkpointing else 'off'}"
        peak = sum(parts.values())
        if peak - held <= SPARE * free:
            way += f": about {peak:.1f} GB at the peak"
            fitting.append(Plan(at_once, update // at_once, checkpointing, parts, way, round(peak, 2)))
    if not fitting:
        need = f"One row of {length} tokens needs about {peak:.1f} GB at the peak, {peak - held:.1f} GB more than now"
        fix = "Lower max_seq_length or lora_r, choose a smaller model_name, or restart the session to free memory"
        raise MemoryError(f"{need}, and {SPARE * free:.1f} GB are to spare. {fix}.")
    less = sorted((way for way in fitting if way.peak_gb < fitting[0].peak_gb), key=lambda way: -way.peak_gb)
    return replace(fitting[0], smaller=(*less[:2], *less[2:][-1:]))
