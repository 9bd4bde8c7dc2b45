"""How far rounding moves the log-probabilities, how far another adapter does, and what the converter holds.

    python -m benchmarks.publish          # writes benchmarks/publish.json; three minutes on two cores

For parity.TOLERANCE and export.CONVERTER_COPIES. The bundled adapter on Gemma 3 270M; two questions, 24 tokens each.
Where llama.cpp's llama-quantize is installed, its quantizations are measured as well.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import torch

from benchmarks import machine
from helpers import export, files, models, parity, runtime

QUESTIONS = [parity.QUESTIONS[0], parity.QUESTIONS[-1]]


def largest(adapter: list[parity.Answer], other: list[parity.Answer]) -> float:
    return max(row["largest difference"] for row in parity.compare("", adapter, other, 2, 106))


def main() -> None:
    parity.TO_THE_END = parity.TOKENS = 24
    rows, peaks = {}, {}
    model, tokenizer = models.load_tuned(models.SAMPLE_ADAPTER, runtime.device())
    with tempfile.TemporaryDirectory() as scratch:
        merged = Path(scratch) / "merged"
        export.merge(model, tokenizer, merged)
        adapter = parity.from_model(model, tokenizer, models.stop_ids(tokenizer), QUESTIONS)
        rows["merged, bfloat16"] = largest(adapter, parity.from_merged(merged, model.device, QUESTIONS))
        for kind in ("q8_0", "bf16", "q6_k", "q4_k_m"):
            made, _ = export.available(kind)
            if made == kind:
                export.to_gguf(merged, Path(scratch) / "gguf", kind, tokenizer)
                path = Path(scratch) / "gguf" / f"model-{kind}.gguf"
                rows[f"GGUF, {kind}"] = largest(adapter, parity.from_gguf(path, "<bos>", QUESTIONS))
                peaks[kind] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.mul_(0.5)
        export.merge(model, tokenizer, merged)
        rows["merged, the adapter at half its strength"] = largest(
            adapter, parity.from_merged(merged, model.device, QUESTIONS)
        )
    matrix = 4 * max(shape.numel() for _, shape, _ in export.weights(model)) / 1e9
    converter = {"peak GB": peaks, "largest matrix in float32, GB": matrix}
    result = {**machine.describe(), "largest difference, nats": rows, "converter": converter}
    files.write_json(Path(__file__).with_suffix(".json"), result)


if __name__ == "__main__":
    main()
