"""Seconds a LoRA step without a GPU: stock TRL, Unsloth as shipped, and notebook 05.

    python -m benchmarks.training_speed          # about 20 minutes on two cores; writes training_speed.json

Three processes train Gemma 3 270M on the same rows of the bundled sample, from the same LoRA matrices, with the
same updates of 8 rows (r=8, learning rate 2e-4), and take turns step by step. Stock TRL runs in float32 with
gradient checkpointing, 2 rows × 4; Unsloth as shipped in bf16 likewise; notebook 05 as its memory plan decides.
After SHIPPED_STEPS the second stops, since its loss curve is not in question.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).with_suffix(".json")
STEPS, SHIPPED_STEPS = 32, 12
NAMES = {"stock": "stock TRL, fp32", "shipped": "Unsloth as shipped", "ours": "notebook 05"}


def variant(kind: str, start: Path) -> None:
    """Train in turns with the other processes: one step for every line that arrives on stdin."""
    if kind != "stock":
        from unsloth import FastModel
        from unsloth.chat_templates import train_on_responses_only
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from benchmarks import machine
    from helpers.sql import data as sql_data
    from helpers.train import cpu_loss, data, local_gemma, memory, models

    folder = str(local_gemma.path())
    rows, accumulation, checkpointing = 2, 4, True
    if kind == "stock":
        from peft import LoraConfig, get_peft_model

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        lora = LoraConfig(r=8, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
    else:
        model, tokenizer = FastModel.from_pretrained(folder, max_seq_length=2048, load_in_4bit=False)
        tokenizer = models.with_chat_template(tokenizer, model)
    pairs, _ = data.load_qa_dataset("auto", Path("/nonexistent"))
    if kind == "stock":  # stock TRL's own way to hide the questions
        dataset, _ = sql_data.masked(list(pairs["train"]), tokenizer, 2048)
    else:
        dataset, _ = data.tokenize(pairs["train"], tokenizer, 2048)
        if kind == "ours":
            plan = memory.plan(model, max(map(len, dataset["input_ids"])), rows, accumulation, 8)
            rows, accumulation, checkpointing = plan.rows, plan.accumulation, plan.checkpointing
        model = FastModel.get_peft_model(
            model,
            r=8,
            lora_alpha=8,
            lora_dropout=0,
            target_modules=models.LANGUAGE_LAYERS,
            use_gradient_checkpointing="unsloth" if checkpointing else False,
            random_state=3407,
        )
    matrices = {name: weight for name, weight in model.named_parameters() if ".lora_" in name}
    if kind == "ours":
        torch.save({name: weight.detach().float() for name, weight in matrices.items()}, start)
    else:
        for name, weight in torch.load(start).items():
            matrices[name].data.copy_(weight)

    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            input()
            self.started = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            self.seconds = time.perf_counter() - self.started

        def on_log(self, args, state, control, logs, **kwargs):
            if "loss" in logs:
                tokens = logs.get("num_tokens", logs.get("num_input_tokens_seen"))
                report = {"seconds": self.seconds, "loss": logs["loss"], "tokens": tokens}
                report["peak_gb"] = memory.peak_gb()
                print("STEP", json.dumps(report), flush=True)

    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=STEPS,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=accumulation,
        gradient_checkpointing=checkpointing,
        bf16=False if kind == "stock" else None,
        completion_only_loss=True if kind == "stock" else None,
        learning_rate=2e-4,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        logging_steps=1,
        **machine.TRAINER,
    )
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=dataset, args=config)
    if kind != "stock":
        turns = models.turns(tokenizer)
        trainer = train_on_responses_only(trainer, instruction_part=turns.user, response_part=turns.model)
    if kind == "ours":
        cpu_loss.train_without_logits(trainer)
    trainer.add_callback(Turns())
    print("READY", flush=True)
    trainer.train()


def start_process(kind: str, matrices: Path) -> subprocess.Popen:
    """Start a variant and wait until it is about to train."""
    command = [sys.executable, "-m", "benchmarks.training_speed", kind, str(matrices)]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    next(line for line in run.stdout if line.startswith("READY"))
    return run


def main() -> None:
    from benchmarks import machine

    matrices = Path(tempfile.mkdtemp()) / "matrices.pt"
    runs = {kind: start_process(kind, matrices) for kind in ("ours", "stock", "shipped")}
    steps: dict[str, list[dict]] = {kind: [] for kind in runs}
    for number in range(STEPS):
        for kind, run in runs.items():
            if kind == "shipped" and number >= SHIPPED_STEPS:
                continue
            run.stdin.write("\n")
            run.stdin.flush()
            line = next(line for line in run.stdout if line.startswith("STEP"))
            steps[kind].append(json.loads(line.removeprefix("STEP ")))
            print(f"step {number + 1} {kind}: {steps[kind][-1]}", flush=True)
    for run in runs.values():
        run.kill()
    seconds = {kind: [row["seconds"] for row in rows] for kind, rows in steps.items()}

    def ratio(kind: str) -> float:
        """Median over the turns, the first left out."""
        return round(statistics.median(a / b for a, b in list(zip(seconds[kind], seconds["ours"]))[1:]), 2)

    apart = [abs(a["loss"] / b["loss"] - 1) for a, b in zip(steps["ours"], steps["stock"])]
    tokens = {kind: rows[-1]["tokens"] / sum(seconds[kind]) for kind, rows in steps.items()}
    result = {
        **machine.describe(),
        "steps in turns": {NAMES[kind]: len(rows) for kind, rows in steps.items()},
        "notebook 05 is faster than stock TRL by": ratio("stock"),
        "notebook 05 is faster than Unsloth as shipped by": ratio("shipped"),
        "seconds a step, median": {NAMES[k]: round(statistics.median(v[1:]), 2) for k, v in seconds.items()},
        "tokens per second": {NAMES[kind]: round(value) for kind, value in tokens.items()},
        "peak memory, GB": {NAMES[kind]: round(rows[-1]["peak_gb"], 2) for kind, rows in steps.items()},
        "largest distance of the loss from stock TRL's, percent": round(100 * max(apart), 2),
        "losses": {NAMES[kind]: [round(row["loss"], 4) for row in rows] for kind, rows in steps.items()},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(RESULT.read_text())


if __name__ == "__main__":
    variant(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 1 else main()
