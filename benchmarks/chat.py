"""Tokens a second of the chat without a GPU: base and tuned one after the other, and both as rows of one batch.

    python -m benchmarks.chat          # a minute; writes chat.json

The bundled adapter on Gemma 3 270M answers a question behind a prompt of some 280 tokens, 48 tokens each, greedy;
the ways take turns. Both answers together count, reading the prompt included.
"""

import json
import statistics
import sys
import time
from pathlib import Path

from helpers.core import runtime

RESULT = Path(__file__).with_suffix(".json")
TOKENS, ROUNDS = 48, 5


def main() -> None:
    import torch

    from benchmarks import machine
    from helpers.prove import chat, search
    from helpers.train import models

    model, tokenizer = models.load_tuned(models.SAMPLE_ADAPTER, runtime.device())
    found = search.of_adapter(models.SAMPLE_ADAPTER).find(chat.QUESTIONS[0])[0]
    ids = models.chat_ids(tokenizer, models.prompt(chat.QUESTIONS[0], found["context"]))
    options = models.ends(tokenizer) | models.GREEDY | {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS}

    def ask(*adapters: str) -> None:
        rows = torch.tensor([ids] * len(adapters))
        with models.inference(model):
            model.generate(rows, attention_mask=torch.ones_like(rows), adapter_names=[*adapters], **options)

    both = [*chat.ROWS.values()]
    ways = {"one after the other": lambda: [*map(ask, both)], "both in one batch": lambda: ask(*both)}
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    result = machine.describe() | {"computes in": str(model.dtype), "tokens of the prompt": len(ids)}
    speeds = {
        name: round(len(both) * TOKENS / statistics.median(times), 1) for name, times in seconds.items()
    }
    result |= {"rounds in turns": ROUNDS, "tokens a second, median": speeds}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    sys.exit(main())
