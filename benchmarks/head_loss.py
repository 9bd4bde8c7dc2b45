"""Milliseconds a token for the loss of a frozen head without a GPU, forward and backward.

    python -m benchmarks.head_loss          # about two minutes; writes head_loss.json

The shape is Gemma 3 270M's: 262,144 × 640 in bf16, 1,024 supervised tokens, about eight rows of the sample. Full
logits, the chunked loss that Unsloth brings, and ours with tiles of 512 to 8192 vocabulary entries take turns.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch

from benchmarks import machine
from helpers.train import cpu_loss

RESULT = Path(__file__).with_suffix(".json")
VOCABULARY, WIDTH, TOKENS, ROUNDS = 262_144, 640, 1024, 15
TILES = (512, 2048, 8192)


def full_logits(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    shifted = torch.nn.functional.pad(labels, (0, 1), value=-100)[..., 1:]
    return torch.nn.functional.cross_entropy((hidden @ weight.T)[0].float(), shifted[0])


def main() -> None:
    import unsloth  # noqa: F401  (unsloth_zoo wants to be imported by it)
    from unsloth_zoo.cpu import ops

    def ours(tile: int):
        def loss(hidden, weight, labels):
            cpu_loss.TILE = tile
            return cpu_loss.frozen_head_loss(hidden, weight, labels)

        return loss

    ways = {"full logits": full_logits, "Unsloth's chunked loss": ops.chunked_linear_cross_entropy}
    ways |= {f"frozen_head_loss, tiles of {tile}": ours(tile) for tile in TILES}
    generator = torch.Generator().manual_seed(3407)
    weight = (torch.randn(VOCABULARY, WIDTH, generator=generator) * 0.02).bfloat16()
    hidden = torch.randn(1, TOKENS, WIDTH, generator=generator).bfloat16().requires_grad_()
    labels = torch.randint(0, VOCABULARY, (1, TOKENS), generator=generator)
    seconds = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way(hidden, weight, labels).backward()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - started)
            hidden.grad = None
    each = {name: round(1000 * statistics.median(times) / TOKENS, 2) for name, times in seconds.items()}
    result = machine.describe() | {"rounds in turns": ROUNDS, "milliseconds a token, median": each}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    sys.exit(main())
