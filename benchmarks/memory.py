"""The memory estimate of notebook 05 against the measured peak, over rows, lengths, ranks and checkpointing.

    python -m benchmarks.memory          # about ten minutes on two cores; writes memory.json

Every run trains 20 steps in a process of its own, on random tokens in rows of up to the given length, with two
looks at validation rows, as the notebook does. Without a GPU the model is the real Gemma 3 270M, and once a random
model in the shape of Gemma 3 1B, cut to eight layers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

RESULT = Path(__file__).with_suffix(".json")
RUNS = [
    # shape, rows, longest row, rank, checkpointing
    ("270M", 8, 132, 8, False),  # notebook 05 on the bundled sample
    ("270M", 2, 132, 8, False),
    ("270M", 2, 132, 64, False),
    ("270M", 8, 128, 8, True),
    ("270M", 2, 512, 8, True),
    ("1B, 8 layers", 4, 128, 8, False),
]
STEPS = 20
CUT_1B = {  # Gemma 3 1B with 8 of its 26 layers
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
}


def train(source: str, rows: int, length: int, rank: int, checkpointing: bool) -> None:
    """Estimate, train, and print both figures and the parts as JSON."""
    from unsloth import FastModel  # isort: skip
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from helpers.train import checkpoints, cpu_loss, memory, progress

    model, tokenizer = FastModel.from_pretrained(source, max_seq_length=4096, load_in_4bit=False)
    parts = memory.estimate(model, rows, length, rank, checkpointing)
    model = FastModel.get_peft_model(
        model,
        r=rank,
        lora_alpha=rank,
        lora_dropout=0,
        use_gradient_checkpointing="unsloth" if checkpointing else False,
        random_state=3407,
    )
    dice = torch.Generator().manual_seed(3407)

    def row(longest: int) -> dict:
        size = int(torch.randint(longest // 2, longest + 1, (1,), generator=dice))
        ids = torch.randint(1000, 200_000, (size,), generator=dice).tolist()
        return {"input_ids": ids, "labels": [-100] * (size // 3) + ids[size // 3 :]}

    train_rows = [row(length) for _ in range(STEPS * rows)]
    folder = Path(tempfile.mkdtemp())
    config = SFTConfig(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=rows,
        per_device_eval_batch_size=1,
        gradient_checkpointing=checkpointing,
        eval_strategy="steps",
        eval_steps=10,
        save_steps=10,
        optim="adamw_8bit",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        max_length=None,
    )
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(train_rows),
        eval_dataset=Dataset.from_list([row(length) for _ in range(12)]),
        args=config,
    )
    progress.show(trainer)
    checkpoints.keep(trainer, folder)
    cpu_loss.train_without_logits(trainer)
    trainer.train()
    print("RUN", json.dumps({"parts": parts, "measured_gb": round(memory.peak_gb(), 2)}))


def main() -> None:
    from benchmarks import machine
    from helpers.train import local_gemma

    sources = {
        "270M": str(local_gemma.path()),
        "1B, 8 layers": machine.random_gemma(tempfile.mkdtemp(), **CUT_1B),
    }
    found = []
    for shape, rows, length, rank, checkpointing in RUNS:
        numbers = [sources[shape], *map(str, (rows, length, rank, int(checkpointing)))]
        command = [sys.executable, "-m", "benchmarks.memory", *numbers]
        said = subprocess.run(command, capture_output=True, text=True)
        line = next((line for line in said.stdout.splitlines() if line.startswith("RUN")), None)
        if line is None:
            raise RuntimeError(f"{command} failed:\n{said.stderr[-2000:]}")
        run = json.loads(line.removeprefix("RUN "))
        estimated = round(sum(run["parts"].values()), 2)
        error = round(100 * (estimated / run["measured_gb"] - 1), 1)
        asked = {
            "shape": shape,
            "rows": rows,
            "longest row": length,
            "r": rank,
            "checkpointing": checkpointing,
        }
        found.append({**asked, "estimated_gb": estimated, **run, "error_percent": error})
        print(found[-1], flush=True)
    RESULT.write_text(json.dumps({**machine.describe(), "runs": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        source, *numbers = sys.argv[1:]
        rows, length, rank, checkpointing = map(int, numbers)
        train(source, rows, length, rank, bool(checkpointing))
    else:
        main()
