"""Training that proves itself: data, checks before, checkpoints during, evidence after (00 and 05).

The notebooks hold the training itself (Unsloth's FastModel and TRL's SFTTrainer); this module holds
what surrounds it. It does not choose hyper-parameters.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import chunks, files, models, qa, runtime, splits

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

TURN_END = "<end_of_turn>"
MARKERS = {"instruction_part": "<start_of_turn>user\n", "response_part": "<start_of_turn>model\n"}


def train_chunked_on_cpu(device: runtime.Device) -> None:
    """Let Unsloth's CPU backend compute Gemma 3's loss in chunks; nothing changes on a GPU.

    Unsloth 2026.10.9 forms the logits of all 262,144 tokens of the vocabulary at once for Gemma 3,
    because a Gemma may cap its logits; Gemma 3 does not (its config says None, which Unsloth checks
    again). In chunks a step is 1.8 times faster and takes three quarters of the memory, with the same loss:
    benchmarks/training_step.json.
    """
    if device.kind != "cpu":
        return
    from unsloth_zoo.cpu import ops

    ops._CHUNKED_CE_MODEL_TYPES = ops._CHUNKED_CE_MODEL_TYPES | {"gemma3_text"}


def load_qa_dataset(dataset: str, work_dir: Path) -> tuple[DatasetDict, str]:
    """Question–answer pairs as `train` and `test`, and where they came from.

    `dataset` is `auto` (work_dir/qa_dataset, else the bundled sample), a folder that `save_to_disk`
    wrote, a JSON, JSONL or CSV file with `question` and `answer`, or a Hub id.
    Raises ValueError that names the column that is missing.
    """
    import datasets

    if dataset == "auto" and (work_dir / "qa_dataset").exists():
        found, why = (
            datasets.load_from_disk(str(work_dir / "qa_dataset")),
            "work_dir/qa_dataset, from notebook 04",
        )
    elif dataset == "auto":
        pairs, _ = qa.quality_gate(qa.sample_pairs(chunks.sample()), chunks.sample())
        found, why = _split(pairs), "the bundled sample, because work_dir has no qa_dataset"
    elif Path(dataset).is_dir():
        found, why = datasets.load_from_disk(dataset), "the folder that the parameter names"
    elif Path(dataset).suffix in (".json", ".jsonl", ".csv"):
        found, why = _split(qa.read_pairs(Path(dataset))), "the file that the parameter names"
    else:
        found, why = datasets.load_dataset(dataset), "the Hub data set that the parameter names"
    if isinstance(found, datasets.Dataset):
        found = datasets.DatasetDict(train=found)
    if "test" not in found:
        found = _split(found["train"].to_list())
    missing = {"question", "answer"} - set(found["train"].column_names)
    if missing:
        raise ValueError(
            f"dataset = {dataset!r} has no column {' and '.join(sorted(missing))}; it has "
            f"{found['train'].column_names}. Rename them to question and answer."
        )
    return found, why


def _split(pairs: list[dict]) -> DatasetDict:
    from datasets import Dataset, DatasetDict

    train, test = splits.split(pairs)
    return DatasetDict(train=Dataset.from_list(train), test=Dataset.from_list(test))


def tokenize(pairs: Dataset, tokenizer, max_seq_length: int) -> tuple[Dataset, list[dict]]:
    """`input_ids` of every pair that fits, and a list of those that do not, with row and length.

    A row that is too long is set aside whole and listed: cut off, it would teach the model to stop
    in the middle, or lose its answer altogether.
    """
    from datasets import Dataset

    rows = [{"input_ids": models.chat_ids(tokenizer, pair["question"], pair["answer"])} for pair in pairs]
    too_long = [
        {"row": number, "tokens": len(row["input_ids"]), "question": pairs[number]["question"]}
        for number, row in enumerate(rows)
        if len(row["input_ids"]) > max_seq_length
    ]
    for row in too_long:
        print(
            f"row {row['row']} has {row['tokens']} tokens, over max_seq_length={max_seq_length}: {row['question']}"
        )
    fitting = [row for row in rows if len(row["input_ids"]) <= max_seq_length]
    if not fitting:
        raise ValueError(
            f"No row fits max_seq_length={max_seq_length}; the shortest has "
            f"{min(len(row['input_ids']) for row in rows)} tokens."
        )
    return Dataset.from_list(fitting), too_long


def check_training_examples(train_dataset: Dataset, tokenizer, rows: int) -> dict:
    """Decode what the trainer will see, assert that it teaches the answers, and show one example.

    Asserts for every row: exactly one `<bos>`, some but not all tokens supervised, the end of the
    turn is the last supervised token; and that none of the `rows` vanished.
    Raises ValueError that names the row and the cause. Returns counts of rows and tokens.
    """
    plain = models.text_tokenizer(tokenizer)
    end = plain.convert_tokens_to_ids(TURN_END)
    if len(train_dataset) != rows:
        raise ValueError(
            f"{rows - len(train_dataset)} of {rows} rows vanished: their answers were masked or cut"
        )
    supervised_total = 0
    for number, row in enumerate(train_dataset):
        ids, labels = row["input_ids"], row["labels"]
        supervised = [label for label in labels if label != -100]
        supervised_total += len(supervised)
        problem = None
        if ids.count(plain.bos_token_id) != 1:
            problem = (
                f"{ids.count(plain.bos_token_id)} <bos> tokens instead of one: the text was templated twice"
            )
        elif not supervised:
            problem = "no supervised token: response_part does not occur in the text"
        elif len(supervised) == len(ids):
            problem = "every token is supervised: the question would be learned as well"
        elif supervised[-1] != end:
            problem = f"the last supervised token is {plain.decode(supervised[-1:])!r}, not {TURN_END}"
        if problem:
            raise ValueError(f"Training example {number}: {problem}. It reads: {plain.decode(ids)[:300]!r}")
    print(marked(train_dataset[0], plain))
    lengths = [len(ids) for ids in train_dataset["input_ids"]]
    return {
        "rows": rows,
        "tokens": sum(lengths),
        "supervised tokens": supervised_total,
        "supervised share": round(supervised_total / sum(lengths), 3),
        "longest row": max(lengths),
    }


def marked(row: dict, tokenizer) -> str:
    """The text the model sees, special tokens included, with its supervised part in ⟦ ⟧."""
    parts, inside = [], False
    for token, label in zip(row["input_ids"], row["labels"]):
        if (label != -100) != inside:
            parts.append([])
            inside = not inside
        if not parts:
            parts.append([])
        parts[-1].append(token)
    first_supervised = row["labels"][0] != -100
    texts = [tokenizer.decode(part) for part in parts]
    return "".join(
        f"⟦{text}⟧" if (number % 2 == 0) == first_supervised else text for number, text in enumerate(texts)
    )


def checkpoint_dir(work_dir: Path, settings: dict, train_dataset: Dataset) -> Path:
    """The folder of this run's checkpoints: another setting or other data is another run."""
    run = files.content_id({"settings": settings, "data": train_dataset["input_ids"]})
    return work_dir / "checkpoints" / run


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end, or None; half-written ones are passed over.

    The trainer writes a checkpoint's `trainer_state.json` after its weights and optimizer.
    """
    found = sorted(
        folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True
    )
    for checkpoint in found:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            print(f"{checkpoint.name} is half written and is passed over")
        else:
            return checkpoint
    return None


def show_progress(trainer) -> None:
    """Replace the trainer's own progress output by one bar with loss, tokens a second and time left.

    The bar also stops the run at a loss that is not finite, with its probable cause.
    """
    from tqdm import tqdm
    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", mininterval=1)

        def on_step_end(self, args, state, control, **kwargs):
            self.bar.update(state.global_step - self.bar.n)

        def on_log(self, args, state, control, logs, **kwargs):
            loss = logs.get("loss", 0.0)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"The loss is {loss} at step {state.global_step}. Gemma 3 overflows in float16: leave "
                    "dtype=None so that Unsloth chooses; otherwise lower learning_rate."
                )
            self.bar.set_postfix(loss=f"{loss:.3f}")

        def on_train_end(self, args, state, control, **kwargs):
            self.bar.close()

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress())


def train(trainer, checkpoint: Path | None) -> None:
    """Train from the start, or go on from a checkpoint with optimizer, schedule and order of the data.

    A checkpoint of the last step is loaded and not continued: transformers 5.15 would add a step to it.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import TrainerState

    if checkpoint:
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step >= state.max_steps:
            set_peft_model_state_dict(trainer.model, load_file(checkpoint / "adapter_model.safetensors"))
            trainer.state = state
            return
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def save_adapter(model, tokenizer, folder: Path, model_name: str) -> None:
    """Save adapter and tokenizer, whole or not at all. The base is recorded by name, not by path."""
    model.peft_config["default"].base_model_name_or_path = model_name
    with files.whole_folder(folder) as scratch:
        model.save_pretrained(scratch, save_embedding_layers=False)
        tokenizer.save_pretrained(scratch)


def evidence(model, tokenizer, adapter_dir: Path, losses: list[float]) -> dict:
    """Proof that the training changed the model and that the saved adapter is that change.

    Asserts: every LoRA B matrix is non-zero (they start at zero), every loss is finite, and the
    adapter read back from disk gives the same logits, which differ from the base model's.
    """
    import torch

    weights = {name: weight for name, weight in model.named_parameters() if ".lora_B." in name}
    zero = [name for name, weight in weights.items() if not weight.detach().any()]
    assert weights and not zero, f"These LoRA B matrices are still zero, so nothing was learned: {zero}"
    assert all(map(math.isfinite, losses)), f"A loss is not finite: {losses}"

    ids = torch.tensor([models.chat_ids(tokenizer, "What do customers say?")], device=model.device)
    model.eval()
    with torch.inference_mode():
        tuned = model(ids).logits.float()
        with model.disable_adapter():
            base = model(ids).logits.float()
        model.load_adapter(adapter_dir, "read_back")
        model.set_adapter("read_back")
        again = model(ids).logits.float()
    model.set_adapter("default")
    model.delete_adapter("read_back")
    moved, off = (tuned - base).abs().max().item(), (tuned - again).abs().max().item()
    assert moved > 0, "The adapter does not change a single logit"
    assert off <= 1e-3 * moved, f"The adapter read back from {adapter_dir} differs by {off} in its logits"
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return {
        "LoRA B matrices, all non-zero": len(weights),
        "trainable parameters": trainable,
        "trainable share": round(trainable / total, 4),
        "largest change of a logit": round(moved, 3),
        "largest difference after reading back": off,
        "first loss": round(losses[0], 3),
        "last loss": round(losses[-1], 3),
    }


def losses(trainer) -> list[dict]:
    """One `{"step", "loss"}` for every logged step."""
    return [{"step": log["step"], "loss": log["loss"]} for log in trainer.state.log_history if "loss" in log]


class Stopwatch:
    """`with Stopwatch() as watch: …` and then `watch.seconds`."""

    def __enter__(self) -> Stopwatch:
        self.started = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = round(time.perf_counter() - self.started, 1)
