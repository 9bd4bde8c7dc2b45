"""Seconds a LoRA step on this machine: Unsloth as shipped, and with its chunked loss for Gemma 3.

    make bench          # about five minutes on two cores; writes benchmarks/training_step.json

Both variants are trained in one process, step by step in turns, on the same rows of the bundled sample, with the
notebook's settings (r=8, 2 rows × 4, gradient checkpointing). It does not compare with other libraries.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

RESULT = Path(__file__).with_suffix(".json")
STEPS = 8


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "")
    return name + "".join(f", {flag}" for flag in ("avx512_bf16", "amx_bf16") if flag in flags)


def variant(chunked: bool) -> None:
    """Train in turns with the other process: one step for every line that arrives on stdin."""
    from unsloth import FastModel
    from unsloth.chat_templates import train_on_responses_only

    from helpers import local_gemma, models, runtime, training

    if chunked:
        training.train_chunked_on_cpu(runtime.device())
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = FastModel.from_pretrained(
        str(local_gemma.path()), max_seq_length=2048, load_in_4bit=False
    )
    tokenizer = models.with_chat_template(tokenizer)
    model = FastModel.get_peft_model(
        model, r=8, lora_alpha=8, lora_dropout=0, use_gradient_checkpointing="unsloth", random_state=3407
    )
    pairs, _ = training.load_qa_dataset("auto", Path("/nonexistent"))
    rows, _ = training.tokenize(pairs["train"], tokenizer, 2048)

    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            input()
            self.started = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            self.seconds = time.perf_counter() - self.started

        def on_log(self, args, state, control, logs, **kwargs):
            if "loss" in logs:
                report = {"seconds": round(self.seconds, 2), "loss": logs["loss"]}
                report["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
                print("STEP", json.dumps(report), flush=True)

    config = SFTConfig(
        output_dir="/tmp/benchmark",
        max_steps=STEPS,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        learning_rate=2e-4,
        optim="adamw_8bit",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        max_length=2048,
        seed=3407,
    )
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=rows, args=config)
    trainer = train_on_responses_only(trainer, **training.MARKERS)
    trainer.add_callback(Turns())
    trainer.train()


def main() -> None:
    names = {"as shipped": "stock", "chunked loss": "chunked"}
    runs = {
        name: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training_step", argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, argument in names.items()
    }
    steps: dict[str, list[dict]] = {name: [] for name in runs}
    for number in range(STEPS):
        for name, run in runs.items():
            run.stdin.write("\n")
            run.stdin.flush()
            line = next(line for line in run.stdout if line.startswith("STEP"))
            steps[name].append(json.loads(line.removeprefix("STEP ")))
            print(f"step {number + 1} {name}: {steps[name][-1]}")
    for run in runs.values():
        run.communicate()
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(steps["as shipped"], steps["chunked loss"])][1:]
    result = {
        "date": date.today().isoformat(),
        "machine": f"{cpu_name()}, Python {platform.python_version()}",
        "steps": STEPS,
        "seconds a step, median, first left out": {
            name: round(statistics.median(row["seconds"] for row in rows[1:]), 2)
            for name, rows in steps.items()
        },
        "ratio, median of the pairs": round(statistics.median(ratios), 2),
        "peak memory, GB": {name: rows[-1]["peak_gb"] for name, rows in steps.items()},
        "losses": {name: [round(row["loss"], 4) for row in rows] for name, rows in steps.items()},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    variant(sys.argv[1] == "chunked") if len(sys.argv) > 1 else main()
