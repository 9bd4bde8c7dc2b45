"""Which way notebook 05 plans for each of its models on three cards: rows at once, checkpointing, estimated peak.

    python -m benchmarks.plans          # writes the table into docs/evidence.md; no download, no GPU

Nothing here was measured on a GPU: the shapes are those of `plans.json`, with the source of each, the weights are on
torch's meta device, and what a card holds after loading is arithmetic. Linear layers in 4 bits with double
quantization have 0.516 bytes a weight (QLoRA, arXiv 2305.14314, section 3), all others two.
"""

from __future__ import annotations

from pathlib import Path

from helpers.core import files
from helpers.train import memory, models

SHAPES = Path(__file__).with_suffix(".json")
EVIDENCE = Path(__file__).resolve().parents[1] / "docs" / "evidence.md"
CARDS = {
    "T4": (14.5, "float16"),
    "L4": (22.0, "bfloat16"),
    "A100, 40 GB": (39.4, "bfloat16"),
}  # GiB that torch sees
CUDA = 1.0e9  # bytes of CUDA's context and libraries
NF4 = 0.516
LENGTHS, RANK, ASKED = (
    (132, 470),
    8,
    (2, 4),
)  # notebook 05's defaults; rows without and with the review in the prompt
BEGIN, END = "<!-- plans -->\n", "<!-- /plans -->\n"


def meta_model(entry: dict, dtype: str):
    """The language model in its real shape, without memory for a single weight."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape, every = dict(entry["config"]), entry.get("full_every")
    if every:
        kinds = ["sliding_attention"] * (every - 1) + ["full_attention"]
        shape["layer_types"] = (kinds * shape["num_hidden_layers"])[: shape["num_hidden_layers"]]
    with torch.device("meta"):
        config = AutoConfig.for_model(entry["model_type"], **shape)
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


def loaded(model, vision: int, four_bit: bool) -> float:
    """Bytes on the card after loading."""
    import torch

    head = model.get_output_embeddings()
    linear = sum(
        m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head
    )
    others = model.num_parameters() - linear + vision
    return CUDA + 2 * others + (NF4 if four_bit else 2) * linear


def rows() -> list[list[str]]:
    """A row for each model and length, with a cell for each card."""
    table, shapes, measured = [], files.read_json(SHAPES), memory.now
    names = {row["model_name"]: row["model"] for row in models.KNOWN}
    for name, entry in shapes.items():
        for length in LENGTHS:
            cells = []
            for size, dtype in CARDS.values():
                model = meta_model(entry, dtype)
                held = loaded(model, entry["vision"], four_bit=name != models.local_gemma.NAME)
                memory.now = lambda _, held=held, free=size * 2**30 - held: (held, free)
                try:
                    plan = memory.plan(model, length, *ASKED, RANK)
                except MemoryError:
                    cells.append("does not fit")
                    continue
                finally:
                    memory.now = measured
                way = f"{plan.rows} × {plan.accumulation}{', checkpointing' * plan.checkpointing}"
                cells.append(f"{way}: {plan.peak_gb:.1f} GB")
            table.append([names[name], str(length), *cells])
    return table


def markdown() -> str:
    lines = [["model", "longest row", *CARDS], ["---"] * (2 + len(CARDS)), *rows()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    before, rest = EVIDENCE.read_text("utf-8").split(BEGIN)
    _, after = rest.split(END)
    files.write_text(EVIDENCE, before + BEGIN + markdown() + END + after)
    print(markdown())


if __name__ == "__main__":
    main()
