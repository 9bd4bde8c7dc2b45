"""Notebook 05 as a T4 would run it, on any CUDA GPU: memory capped at 14.5 GiB, no internet.

    pip install -r requirements.txt && pip install --no-deps -r requirements-unsloth.txt
    python -m benchmarks.t4_path                 # writes t4_path.json with the card's name

Without internet, carry the wheels: on a machine that has it, `pip download --no-deps -d wheels -r requirements.txt -r
requirements-unsloth.txt`, then add `--no-index --find-links wheels` to both commands above.

Each model is trained by notebook 05 at its defaults and, in turns with it, by the settings of Unsloth's published
Gemma 3 notebook (r=8, batch 2, accumulation 4, length 2048) on the same rows: the real Gemma 3 270M, and a random
model in the shape of Gemma 3 4B, loaded in 4 bits, since neither memory nor speed depends on the weights. A capped
large card shows memory as a T4 would; its speed is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RESULT = Path(__file__).with_suffix(".json")
REPOSITORY = Path(__file__).parents[1]
CAP_GIB, STEPS, TURNS = 14.5, 30, 2
GEMMA_3_4B = {
    "vocab_size": 262_208,
    "hidden_size": 2560,
    "intermediate_size": 10_240,
    "num_hidden_layers": 34,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "sliding_window": 1024,
}
START_UP = "from benchmarks.t4_path import cap_memory\ncap_memory()\n"


def cap_memory() -> None:
    """Let this process have no more GPU memory than a T4 shows; nothing without a GPU."""
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, CAP_GIB * 2**30 / total))


def notebook(source: str) -> dict:
    """Run notebook 05 under the cap, by an IPython start-up file in its kernel; its own figures."""
    import papermill

    profile, work_dir = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    (profile / "profile_default" / "startup").mkdir(parents=True)
    (profile / "profile_default" / "startup" / "cap.py").write_text(START_UP)
    os.environ["IPYTHONDIR"], os.environ["PYTHONPATH"] = str(profile), str(REPOSITORY)
    path = REPOSITORY / "notebooks" / "05_finetune_gemma.ipynb"
    parameters = {"work_dir": str(work_dir), "model_name": source, "max_steps": STEPS}
    papermill.execute_notebook(str(path), None, parameters=parameters, progress_bar=False)
    record = json.loads((work_dir / "training.json").read_text())
    return {
        "tokens_a_second": round(record["tokens"] / record["seconds"]),
        "peak_gb": record["memory_gb"]["measured"],
        "estimated_gb": record["memory_gb"]["estimated"],
        "last_loss": record["losses"][-1]["loss"],
    }


def published(source: str) -> None:
    """Unsloth's published settings on the same rows, in this process; prints its figures as JSON."""
    cap_memory()
    from unsloth import FastModel  # isort: skip
    from trl import SFTConfig, SFTTrainer
    from unsloth.chat_templates import get_chat_template, train_on_responses_only

    from helpers.train import data, memory, models, progress

    model, tokenizer = FastModel.from_pretrained(source, max_seq_length=2048, load_in_4bit=True)
    tokenizer = get_chat_template(tokenizer, chat_template="gemma-3")
    model = FastModel.get_peft_model(
        model,
        r=8,
        lora_alpha=8,
        lora_dropout=0,
        bias="none",
        finetune_vision_layers=False,
        random_state=3407,
    )
    pairs, _ = data.load_qa_dataset("auto", Path("/nonexistent"))
    texts = [models.chat_text(tokenizer, pair["question"], pair["answer"]) for pair in pairs["train"]]
    from datasets import Dataset

    rows = Dataset.from_dict({"text": [text.removeprefix("<bos>") for text in texts]})
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        dataset_text_field="text",
        max_steps=STEPS,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        warmup_steps=5,
        learning_rate=2e-4,
        logging_steps=1,
        optim="adamw_8bit",
        weight_decay=0.01,
        lr_scheduler_type="linear",
        seed=3407,
        report_to="none",
        save_strategy="no",
    )
    trainer = SFTTrainer(model=model, tokenizer=tokenizer, train_dataset=rows, args=config)
    turns = models.turns(tokenizer)
    trainer = train_on_responses_only(trainer, instruction_part=turns.user, response_part=turns.model)
    seconds = trainer.train().metrics["train_runtime"]
    found = {"tokens_a_second": round(progress.tokens_seen(trainer) / seconds)}
    found |= {"peak_gb": round(memory.peak_gb(), 2), "last_loss": progress.losses(trainer)[-1]["loss"]}
    print("RUN", json.dumps(found))


def main() -> None:
    from benchmarks import machine
    from helpers.train import local_gemma

    parser = argparse.ArgumentParser(description="Notebook 05 under a T4's memory.")
    parser.add_argument("--published", help="(used by the script itself)")
    parser.add_argument("--only", choices=["270M", "4B"], help="one of the two models")
    asked = parser.parse_args()
    if asked.published:
        return published(asked.published)
    sources = {"270M": local_gemma.path, "4B": lambda: machine.random_gemma(tempfile.mkdtemp(), **GEMMA_3_4B)}
    result = {**machine.describe(), "memory cap, GiB": CAP_GIB, "steps": STEPS}
    for shape in [asked.only] if asked.only else sources:
        source = str(sources[shape]())
        turns = []
        for _ in range(TURNS):
            ours = notebook(source)
            command = [sys.executable, "-m", "benchmarks.t4_path", "--published", source]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            line = next(line for line in said.stdout.splitlines() if line.startswith("RUN"))
            theirs = json.loads(line.removeprefix("RUN "))
            ratio = round(ours["tokens_a_second"] / theirs["tokens_a_second"], 2)
            turns.append({"notebook 05": ours, "published recipe": theirs, "ratio": ratio})
            print(shape, turns[-1], flush=True)
        result[shape] = turns
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
