"""Tokens a second of notebook 07's answers without a GPU: chat.stream and Transformers' generate in turns.

    python -m benchmarks.chat          # some minutes; writes chat.json

Gemma 3 270M with the bundled adapter, tuned and base, greedy and sampled, on a question that a fact sheet answers and
on one that a chunk of reviews answers. "tokens a look" depends on no clock: how many tokens each run of the model gave.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from benchmarks import machine
from helpers.core import runtime
from helpers.prove import chat, search
from helpers.train import data, models

RESULT = Path(__file__).with_suffix(".json")
ROUNDS, TOKENS = 2, 64


def questions(folder: Path) -> dict[str, str]:
    """The prompts of a question about a fact sheet and of a held-out one about reviews."""
    held_out = data.held_out("auto", models.SAMPLE_ADAPTER, folder)[0]
    review = next(pair["question"] for pair in held_out if data.kind(pair) == "review")
    asked = {"fact sheet": chat.QUESTIONS[0], "reviews": review}
    return dict(zip(asked, search.prompts(models.SAMPLE_ADAPTER, [*asked.values()])))


def plain(model, tokenizer, prompt: str, tuned: bool, temperature: float) -> tuple[int, float]:
    """Tokens and seconds of Transformers' own generate, one token a look."""
    ids = torch.tensor([models.chat_ids(tokenizer, prompt)])
    how = {"do_sample": True, **models.SAMPLING} if temperature else models.GREEDY
    options = models.ends(tokenizer) | how | {"max_new_tokens": TOKENS}
    with nullcontext() if tuned else model.disable_adapter():
        torch.manual_seed(3407)
        started = time.perf_counter()
        output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    return output.shape[1] - ids.shape[1], time.perf_counter() - started


def here(model, tokenizer, prompt: str, tuned: bool, temperature: float) -> tuple[int, float]:
    *_, last = chat.stream(
        model, tokenizer, prompt, tuned=tuned, temperature=temperature, max_new_tokens=TOKENS
    )
    return last.tokens, last.seconds


def main() -> None:
    import tempfile

    folder = Path(tempfile.mkdtemp())
    model, tokenizer = models.load_tuned(models.SAMPLE_ADAPTER, runtime.device(folder))
    looks, rows = [], []
    model.register_forward_pre_hook(lambda *_: looks.append(1))
    for about, prompt in questions(folder).items():
        for tuned in (True, False):
            for temperature in (0, models.SAMPLING["temperature"]):
                rates = {"generate": [], "here": []}
                for _ in range(ROUNDS):
                    for name, way in (("generate", plain), ("here", here)):
                        looks.clear()
                        tokens, seconds = way(model, tokenizer, prompt, tuned, temperature)
                        rates[name].append(tokens / seconds)
                per_look = tokens / len(looks)
                row = {"about": about, "model": "tuned" if tuned else "base", "temperature": temperature}
                row |= {
                    f"{name}: tokens a second": round(statistics.median(r), 1) for name, r in rates.items()
                }
                rows.append(row | {"tokens": tokens, "tokens a look": round(per_look, 2)})
                print(rows[-1], flush=True)
    numbers = str(model.get_input_embeddings().weight.dtype)
    result = machine.describe() | {"numbers": numbers, "rounds in turns": ROUNDS, "answers": rows}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
