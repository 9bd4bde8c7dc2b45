"""How long a thread shall wait awake for the next small step: alone, and beside one and two busy processes.

    python -m benchmarks.waiting          # about seven minutes on two cores; writes waiting.json

Forward and backward of three rows of the bundled sample through the real Gemma 3 270M with an adapter, as notebook 05
computes them, in a new process for each way to wait, one after the other. GOMP_SPINCOUNT is libgomp's, which torch
brings: so many looks before a thread sleeps.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULT = Path(__file__).with_suffix(".json")
LOOKS = (0, 1000, 10000)
BUSY = (0, 1, 2)
LENGTHS = (256, 320, 400)  # tokens
ROUNDS = 2


def measure() -> None:
    """Print the seconds of each pass over the three rows as JSON; the first, which compiles, is left out."""
    from unsloth import FastModel  # isort: skip
    import torch

    from helpers.train import cpu_loss, data, local_gemma, models

    model, tokenizer = FastModel.from_pretrained(str(local_gemma.path()), load_in_4bit=False)
    tokenizer = models.with_chat_template(tokenizer, model)
    lora = dict(r=8, lora_alpha=8, lora_dropout=0, target_modules=models.LANGUAGE_LAYERS)
    model = FastModel.get_peft_model(model, **lora, use_gradient_checkpointing=False, random_state=3407)
    pairs, _ = data.load_qa_dataset("sample", Path("/nonexistent"))
    dataset, _ = data.tokenize(pairs["train"], tokenizer, 2048)
    rows = [next(row for row in dataset["input_ids"] if len(row) >= size)[:size] for size in LENGTHS]
    causal, seconds = model.get_base_model(), []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        for row in rows:
            ids = torch.tensor([row])
            labels = torch.where(torch.arange(len(row)) < len(row) - 70, -100, ids)
            with torch.autocast("cpu", enabled=model.dtype == torch.bfloat16):
                hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state
                cpu_loss.frozen_head_loss(hidden, causal.lm_head.weight, labels).backward()
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"dtype": str(model.dtype), "seconds": seconds[1:]}))


def main() -> None:
    from benchmarks import machine

    runs = [{"looks": looks} for looks in LOOKS]
    for busy in BUSY:
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            for run in runs:
                command = [sys.executable, "-m", "benchmarks.waiting", "measure"]
                way = os.environ | {"GOMP_SPINCOUNT": str(run["looks"])}
                done = subprocess.run(command, env=way, check=True, capture_output=True, text=True)
                last = json.loads(done.stdout.splitlines()[-1])
                run[f"seconds beside {busy} busy processes"] = round(statistics.median(last["seconds"]), 2)
        finally:
            for other in others:
                other.kill()
    result = {
        **machine.describe(),
        "dtype": last["dtype"],
        "tokens": sum(LENGTHS),
        "median of": ROUNDS,
        "runs": runs,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(RESULT.read_text())


if __name__ == "__main__":
    import helpers.core.runtime  # noqa: F401  sets what the environment does not

    measure() if sys.argv[1:] else main()
