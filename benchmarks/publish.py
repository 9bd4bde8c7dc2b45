"""How far rounding moves the log-probabilities, how far another adapter does, and what the converter holds.

    python -m benchmarks.publish          # writes benchmarks/publish.json; some minutes on two cores

For parity.TOLERANCE and what export.check_room says of the converter. The bundled adapter on Gemma 3 270M; two
questions, 24 tokens each.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import machine
from helpers.core import files, runtime
from helpers.prove import chat, search
from helpers.publish import export, parity
from helpers.train import models

# In a small process of its own: a child's peak begins with that of the process that started it.
CONVERT = """
import resource, sys
from pathlib import Path
from helpers.publish import export
export.convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9)
"""
QUESTIONS = [*search.prompts(models.SAMPLE_ADAPTER, chat.QUESTIONS[:1]), parity.DIFFICULT]


def largest(adapter: list[parity.Answer], other: list[parity.Answer]) -> float:
    return max(row["largest difference"] for row in parity.compare("", adapter, other, 2, 106))


def main() -> None:
    parity.TOKENS = 24
    rows, peaks = {}, {}
    model, tokenizer = models.load_tuned(models.SAMPLE_ADAPTER, runtime.device())
    whole = parity.to_the_end(model, tokenizer, QUESTIONS[0])
    adapter = parity.from_model(model, tokenizer, models.stop_ids(tokenizer), whole, QUESTIONS)
    along = [answer.tokens for answer in adapter]
    with tempfile.TemporaryDirectory() as scratch:
        merged = Path(scratch) / "merged"
        export.merge(model, tokenizer, merged)
        rows["merged, bfloat16"] = largest(
            adapter, parity.from_merged(model, merged, whole, QUESTIONS, along)[0]
        )
        for kind in export.CONVERTED:
            path = Path(scratch) / f"{kind}.gguf"
            command = [sys.executable, "-c", CONVERT, merged, path, kind]
            peaks[kind] = float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            rows[f"GGUF, {kind}"] = largest(adapter, parity.from_gguf(path, "<bos>", whole, QUESTIONS))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.mul_(0.5)
        export.merge(model, tokenizer, merged)
        half, _ = parity.from_merged(model, merged, whole, QUESTIONS, along)
        rows["merged, the adapter at half its strength"] = largest(adapter, half)
    matrix = 4 * max(shape.numel() for _, shape, _ in export.weights(model)) / 1e9
    converter = {"peak GB": peaks, "largest matrix in float32, GB": matrix}
    result = {**machine.describe(), "largest difference, nats": rows, "converter": converter}
    files.write_json(Path(__file__).with_suffix(".json"), result)


if __name__ == "__main__":
    main()
