"""Milliseconds of a token's attention in Gemma 3 270M without a GPU: a product per head, and one for all heads.

    python -m benchmarks.one_token          # some seconds and the imports; writes one_token.json

The shape is that of a layer in the middle of an answer: four heads of queries over one head of keys and values, 450
tokens of 256 numbers, one of which is new; for one row, and for the 32 of a batch in notebook 06. Transformers' own
function and `models.inference`'s take turns. The model has 18 such layers.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from helpers.core import runtime  # noqa: F401  (how threads wait, before torch)

RESULT = Path(__file__).with_suffix(".json")
HEADS, LENGTH, WIDTH, ROUNDS = 4, 450, 256, 30


def main() -> None:
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from benchmarks import machine
    from helpers.train import models

    ways = {"per head": sdpa_attention_forward, "for all heads": models.grouped_attention}
    layer, medians = SimpleNamespace(num_key_value_groups=HEADS), {}
    for dtype in (torch.bfloat16, torch.float32):
        for rows in (1, 32):
            query = torch.randn(rows, HEADS, 1, WIDTH, dtype=dtype)
            key, value = (torch.randn(rows, 1, LENGTH, WIDTH, dtype=dtype) for _ in range(2))
            seen = torch.ones(rows, 1, 1, LENGTH, dtype=torch.bool)
            seconds = {name: [] for name in ways}
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    started = time.perf_counter()
                    way(layer, query, key, value, seen, scaling=WIDTH**-0.5)
                    seconds[name].append(time.perf_counter() - started)
            medians[f"{rows} rows, {dtype}".replace("torch.", "")] = {
                name: round(1000 * statistics.median(times), 2) for name, times in seconds.items()
            }
    result = machine.describe() | {"rounds in turns": ROUNDS, "milliseconds a layer, median": medians}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    sys.exit(main())
