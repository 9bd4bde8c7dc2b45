"""Notebook 05's own cells as a T4 would run them, on any CUDA GPU: memory capped at 14.5 GiB, no internet.

    python -m benchmarks.t4_path                        # at most 8 minutes on a large card; writes t4_path.json
    python -m benchmarks.t4_path --parts notebook       # one part alone; each is kept as soon as it is there
    python -m benchmarks.t4_path --dry-run              # the same code on a tiny model, without a GPU

A random multimodal model in the shape of Gemma 3 4B, with its processor as `FastModel` gives one, loaded in 4 bits:
neither memory nor speed depends on the weights. Its tokenizer is a small one that needs no download and makes about
four tokens of one of Gemma's, so the rows are as long as those with a review in the prompt. `notebook` is notebook 05
at its defaults, `published` the settings of Unsloth's Gemma 3 notebook (r 8, 2 × 4, checkpointing, length 2048) on the
same rows, in turns with it; `generation` answers as notebooks 06 and 07 do. A capped large card shows memory as a T4
would; its speed is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine
from helpers.core import files, runtime
from tests.fakes import processor

RESULT = Path(__file__).with_suffix(".json")
REPOSITORY = Path(__file__).parents[1]
CAP_GIB, STEPS, PAIRS = 14.5, 20, 200
TEXT = dict(hidden_size=2560, intermediate_size=10_240, num_hidden_layers=34, num_attention_heads=8)
TEXT |= dict(
    num_key_value_heads=4, head_dim=256, sliding_window=1024, initializer_range=0.02, layer_types=None
)
VISION = dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16)
CAP = "from benchmarks.t4_path import cap_memory\ncap_memory()\n"


def cap_memory() -> None:
    """Let this process have no more GPU memory than a T4 shows; nothing without a GPU."""
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, CAP_GIB * 2**30 / total))


def notebook(model: Path, work_dir: Path, steps: int) -> dict:
    """Run notebook 05 under the cap, by an IPython start-up file in its kernel; its own figures."""
    import papermill

    parameters = {"work_dir": str(work_dir), "model_name": str(model), "max_steps": steps, "resume": False}
    source = REPOSITORY / "notebooks" / "05_finetune_gemma.ipynb"
    output = str(work_dir / "executed.ipynb")
    papermill.execute_notebook(str(source), output, parameters, progress_bar=False, cwd=str(REPOSITORY))
    record = files.read_json(work_dir / "training.json")
    return {
        "tokens per second": round(record["tokens"] / record["seconds"]),
        "peak_gb": record["memory_gb"]["measured"],
        "estimated_gb": record["memory_gb"]["estimated"],
        "rows at once": record["settings"]["per_device_train_batch_size"],
        "checkpointing": record["settings"]["gradient_checkpointing"],
        "last loss": record["losses"][-1]["loss"],
    }


def published(model: Path, work_dir: Path, steps: int) -> dict:
    """Unsloth's published settings on the same rows, in this process."""
    cap_memory()
    from unsloth import FastModel  # isort: skip
    from datasets import Dataset, load_from_disk
    from trl import SFTConfig, SFTTrainer
    from unsloth.chat_templates import train_on_responses_only

    from helpers.train import memory, models, progress

    loaded, tokenizer = FastModel.from_pretrained(str(model), max_seq_length=2048, load_in_4bit=on_gpu())
    tokenizer = models.with_chat_template(tokenizer, loaded)
    lora = dict(r=8, lora_alpha=8, lora_dropout=0, bias="none", random_state=3407)
    loaded = FastModel.get_peft_model(loaded, target_modules=models.LANGUAGE_LAYERS, **lora)
    pairs = load_from_disk(str(work_dir / "qa_dataset"))["train"]
    texts = [models.chat_text(tokenizer, pair["question"], pair["answer"]) for pair in pairs]
    rows = Dataset.from_dict({"text": [text.removeprefix("<bos>") for text in texts]})
    updates = dict(
        per_device_train_batch_size=2, gradient_accumulation_steps=4, max_steps=steps, warmup_steps=5
    )
    updates |= dict(
        learning_rate=2e-4, optim="adamw_8bit", weight_decay=0.01, lr_scheduler_type="linear", seed=3407
    )
    aside = dict(dataset_text_field="text", logging_steps=1, report_to="none", save_strategy="no")
    config = SFTConfig(output_dir=tempfile.mkdtemp(), max_length=2048, **updates, **aside)
    plain = models.text_tokenizer(tokenizer)
    trainer = SFTTrainer(model=loaded, processing_class=plain, train_dataset=rows, args=config)
    turns = models.turns(tokenizer)
    trainer = train_on_responses_only(trainer, instruction_part=turns.user, response_part=turns.model)
    seconds = trainer.train().metrics["train_runtime"]
    speed = round(progress.tokens_seen(trainer) / seconds)
    last = progress.losses(trainer)[-1]["loss"]
    return {"tokens per second": speed, "peak_gb": round(memory.peak_gb(), 2), "last loss": last}


def generation(model: Path, work_dir: Path, steps: int) -> dict:
    """Tokens a second of notebook 06, greedy in batches, and of notebook 07, one answer that streams."""
    cap_memory()
    from helpers.prove import chat
    from helpers.train import memory, models

    tuned, tokenizer = models.load_tuned(work_dir / "adapter", runtime.device())
    questions, most = chat.QUESTIONS * (8 if on_gpu() else 1), 8 * steps
    started = time.perf_counter()
    answers = models.generate_ids(tuned, tokenizer, questions, most)
    batched = sum(map(len, answers)) / (time.perf_counter() - started)
    *_, last = chat.stream(tuned, tokenizer, questions[0], max_new_tokens=most)
    speeds = {
        "06, tokens per second": round(batched),
        "07, tokens per second": round(last.tokens_per_second, 1),
    }
    return speeds | {"peak_gb": round(memory.peak_gb(), 2)}


PARTS = {part.__name__: part for part in (notebook, published, generation)}


def on_gpu() -> bool:
    return runtime.device().kind == "cuda"


def prepare(folder: Path, dry: bool) -> Path:
    """The model's folder, and in folder/work the pairs, PAIRS of the sample's, split as notebook 04 splits."""
    import datasets

    from helpers.train import data

    machine.tiny_tokenizer().save_pretrained(folder / "tokenizer")
    shape = {"vocab_size": 600} if dry else {"text": TEXT, "vision": VISION}
    model = processor.gemma_3(folder / "model", folder / "tokenizer", **shape)
    pairs, _ = data.load_qa_dataset("sample", folder)
    few = {side: rows.select(range(min(len(rows), 24 if dry else PAIRS))) for side, rows in pairs.items()}
    datasets.DatasetDict(few).save_to_disk(str(folder / "work" / "qa_dataset"))
    (folder / "ipython" / "profile_default" / "startup").mkdir(parents=True)
    start_up = processor.START_UP if dry else CAP
    (folder / "ipython" / "profile_default" / "startup" / "start.py").write_text(start_up)
    return model


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description="Notebook 05 under a T4's memory.")
    parser.add_argument("--parts", default="", help="in this order; by default the first two in turns, twice")
    parser.add_argument("--dry-run", action="store_true", help="a tiny model, a CPU, nothing kept")
    parser.add_argument("--one", nargs=2, metavar=("PART", "FOLDER"), help="(used by the script itself)")
    asked = parser.parse_args(arguments)
    steps = 10 if asked.dry_run else STEPS
    if asked.one:
        part, folder = asked.one
        if asked.dry_run:
            processor.as_on_a_gpu()
        print("RUN", json.dumps(PARTS[part](Path(folder) / "model", Path(folder) / "work", steps)))
        return {}
    folder = Path(tempfile.mkdtemp())
    prepare(folder, asked.dry_run)
    environment = os.environ | {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(REPOSITORY)}
    result: dict = {**machine.describe(), "memory cap, GiB": CAP_GIB, "steps": steps, "runs": []}
    twice = list(PARTS)[:2] * (1 if asked.dry_run else 2) + list(PARTS)[2:]
    for part in asked.parts.split(",") if asked.parts else twice:
        command = [sys.executable, "-m", "benchmarks.t4_path", "--one", part, str(folder)]
        command += ["--dry-run"] * asked.dry_run
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
        line = next((line for line in done.stdout.splitlines() if line.startswith("RUN ")), "")
        figures = json.loads(line.removeprefix("RUN ")) if line else {"failed": done.stderr[-2000:]}
        result["runs"].append({"part": part, **figures})
        print(result["runs"][-1], flush=True)
        if not asked.dry_run:
            files.write_json(RESULT, result)
    if failed := [run["part"] for run in result["runs"] if "failed" in run]:
        sys.exit(f"failed: {', '.join(failed)}")
    return result


if __name__ == "__main__":
    main()
