"""Training that proves itself: data, checks before, checkpoints during, evidence after (00 and 05).

The notebooks hold the training itself (Unsloth's FastModel and TRL's SFTTrainer); this module holds
what surrounds it. It does not choose hyper-parameters.
"""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.ask import gate, pairs, qa, splits
from helpers.clean import chunks
from helpers.core import files
from helpers.train import checkpoints, models

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

VALIDATION_ROWS = 24  # at most a tenth of the training rows
LEAST_STEPS = 10
GREEN, PLAIN = "\x1b[42m", "\x1b[0m"  # notebooks and terminals show these as colour


def load_qa_dataset(dataset: str, work_dir: Path) -> tuple[DatasetDict, str]:
    """Question–answer pairs as `train`, `validation` and `test`, and where they came from.

    `dataset` is `auto` (work_dir/qa_dataset, else the bundled sample), a folder that `save_to_disk`
    wrote, a JSON, JSONL or CSV file, or a Hub id; its rows have one of the forms of `pairs`. What has no
    test split gets one; validation comes out of train, so that early stopping never sees the test.
    Raises ValueError that names the row and the field.
    """
    import datasets

    if dataset == "auto" and (work_dir / "qa_dataset").exists():
        found, why = (
            datasets.load_from_disk(str(work_dir / "qa_dataset")),
            "work_dir/qa_dataset, from notebook 04",
        )
    elif dataset == "auto":
        rows, _ = gate.quality_gate(qa.sample_pairs(chunks.sample()), chunks.sample())
        found, why = {"train": rows}, "the bundled sample, because work_dir has no qa_dataset"
    elif Path(dataset).is_dir():
        found, why = datasets.load_from_disk(dataset), "the folder that the parameter names"
    elif Path(dataset).suffix.lower() in (".json", ".jsonl", ".csv"):
        found, why = {"train": pairs.read(Path(dataset))}, "the file that the parameter names"
    else:
        found, why = datasets.load_dataset(dataset), "the Hub data set that the parameter names"
    if isinstance(found, datasets.Dataset):
        found = {"train": found}
    sides = {
        side: [pairs.from_row(row, f"{dataset}, {side} row {n}") for n, row in enumerate(rows, 1)]
        for side, rows in found.items()
    }
    if "test" not in sides:
        sides["train"], sides["test"] = splits.split_pairs(sides["train"])
    if "validation" not in sides:
        share = min(0.1, VALIDATION_ROWS / len(sides["train"]))
        sides["train"], sides["validation"] = splits.split_pairs(sides["train"], share)
    order = ("train", "validation", "test")
    return datasets.DatasetDict({side: datasets.Dataset.from_list(sides[side]) for side in order}), why


def tokenize(rows: Dataset, tokenizer, max_seq_length: int) -> tuple[Dataset, list[dict]]:
    """`input_ids` of every pair that fits, and a list of those that do not, with row and length.

    A row that is too long is set aside whole and listed: cut off, it would teach the model to stop
    in the middle, or lose its answer altogether. Raises ValueError when no row fits.
    """
    from datasets import Dataset

    ids = [models.chat_ids(tokenizer, row["question"], row["answer"]) for row in rows]
    too_long = [
        {"row": number, "tokens": len(row), "question": rows[number]["question"]}
        for number, row in enumerate(ids)
        if len(row) > max_seq_length
    ]
    fitting = [{"input_ids": row} for row in ids if len(row) <= max_seq_length]
    if not fitting:
        raise ValueError(
            f"None of these {len(ids)} rows fits max_seq_length={max_seq_length}, from "
            f"{rows[0]['question'][:80]!r} on; the shortest has {min(map(len, ids))} tokens. Raise max_seq_length, or "
            "shorten the answers."
        )
    return Dataset.from_list(fitting), too_long


def length_advice(train_dataset: Dataset, too_long: list[dict], max_seq_length: int) -> str:
    """What the lengths say about max_seq_length: rows left out, and the value that would hold them all."""
    longest = max(len(ids) for ids in train_dataset["input_ids"])
    if too_long:
        needed = max(row["tokens"] for row in too_long)
        return (
            f"{len(too_long)} of {len(train_dataset) + len(too_long)} rows are over max_seq_length = "
            f"{max_seq_length} and are left out; max_seq_length = {needed} would hold them all."
        )
    return (
        f"All {len(train_dataset)} rows fit; the longest has {longest} tokens. Batches are padded to their own "
        f"longest row, so the rest of max_seq_length = {max_seq_length} costs nothing."
    )


def planned_steps(rows: int, rows_per_update: int, epochs: float, max_steps: int) -> int:
    """Updates that the trainer will make. Raises ValueError under 10: from fewer nothing follows."""
    steps = max_steps if max_steps > 0 else math.ceil(math.ceil(rows / rows_per_update) * epochs)
    if steps < LEAST_STEPS:
        raise ValueError(
            f"{rows} rows make {steps} steps of {rows_per_update} rows, and from fewer than {LEAST_STEPS} nothing "
            "can be concluded. Raise num_train_epochs or max_steps, or add rows."
        )
    return steps


def interval(steps: int) -> int:
    """Steps between two checkpoints, each with a look at the validation rows: six a run, every 10 to 50."""
    return min(50, max(10, steps // 6))


def check_training_examples(train_dataset: Dataset, tokenizer, rows: int) -> dict:
    """Decode what the trainer will see, assert that it teaches the answers, and show one example.

    Asserts for every row: exactly one `<bos>`, some but not all tokens supervised, the end of the
    turn is the last supervised token; and that none of the `rows` vanished.
    Raises ValueError that names the row and the cause. Returns counts of rows and tokens.
    """
    plain = models.text_tokenizer(tokenizer)
    turn_end = models.turns(tokenizer).end
    end = plain.convert_tokens_to_ids(turn_end)
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
            problem = f"the last supervised token is {plain.decode(supervised[-1:])!r}, not {turn_end}"
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
    """The text the model sees, special tokens included, with its supervised part in ⟦ ⟧ and on green."""
    labelled = zip(row["input_ids"], row["labels"])
    text = ""
    for supervised, tokens in itertools.groupby(labelled, key=lambda token: token[1] != -100):
        part = tokenizer.decode([token for token, _ in tokens])
        text += f"{GREEN}⟦{part}⟧{PLAIN}" if supervised else part
    return text


def train(trainer, folder: Path, last: Path | None) -> None:
    """Train from the start, or go on from the checkpoint `last`; ends with the best weights in the model.

    Optimizer, schedule, order of the data and random state come back with a checkpoint. A run that had
    ended is loaded and not continued: transformers 5.15 would add a step to it.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import TrainerState

    ended = folder / checkpoints.FINISHED if (folder / checkpoints.FINISHED).exists() and last else None
    if last and not ended:
        state = TrainerState.load_from_json(str(last / "trainer_state.json"))
        ended = last / "trainer_state.json" if state.global_step >= state.max_steps else None
    if not ended:
        (folder / checkpoints.FINISHED).unlink(missing_ok=True)  # of a run that resume=False starts anew
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        if trainer.is_world_process_zero():
            trainer.state.save_to_json(str(folder / checkpoints.FINISHED))
        return
    trainer.state = TrainerState.load_from_json(str(ended))
    best = folder / Path(trainer.state.best_model_checkpoint or last).name  # the work_dir may have moved
    set_peft_model_state_dict(trainer.model, load_file(best / "adapter_model.safetensors"))


def save_adapter(model, tokenizer, folder: Path, model_name: str) -> None:
    """Save adapter and tokenizer, whole or not at all. The base is recorded by name, not by path."""
    model.peft_config["default"].base_model_name_or_path = model_name
    with files.whole_folder(folder) as scratch:
        model.save_pretrained(scratch, save_embedding_layers=False)
        tokenizer.save_pretrained(scratch)


def evidence(
    model, tokenizer, adapter_dir: Path, losses: list[float], canary: tuple[str, str], largest: float = 0.02
) -> dict[str, float]:
    """Proof that the training changed the model and that the saved adapter is that change.

    Asserts: every LoRA B matrix is non-zero (they start at zero), every loss is finite, the adapter is
    under `largest` of the model, the answer of the `canary`, a (question, answer) that was trained on, became
    likelier, and the adapter read back from disk gives the same logits, which differ from the base model's.
    """
    import torch

    weights = {name: weight for name, weight in model.named_parameters() if ".lora_B." in name}
    zero = [name for name, weight in weights.items() if not weight.detach().any()]
    assert weights and not zero, f"These LoRA B matrices are still zero, so nothing was learned: {zero}"
    assert all(map(math.isfinite, losses)), f"A loss is not finite: {losses}"
    trainable, total = model.get_nb_trainable_parameters()  # which counts 4-bit weights one by one
    share = trainable / total
    assert share < largest, f"The adapter has {share:.1%} of the weights, nearly a second model: lower lora_r"

    prompt = len(models.chat_ids(tokenizer, canary[0]))
    ids = torch.tensor([models.chat_ids(tokenizer, *canary)], device=model.device)
    model.eval()
    with torch.inference_mode():
        tuned = model(ids).logits[0].float()
        with model.disable_adapter():
            base = model(ids).logits[0].float()
        model.load_adapter(adapter_dir, "read_back")
        model.set_adapter("read_back")
        again = model(ids).logits[0].float()
    model.set_adapter("default")
    model.delete_adapter("read_back")
    moved, off = (tuned - base).abs().max().item(), (tuned - again).abs().max().item()
    assert moved > 0, "The adapter does not change a single logit"
    assert off <= 1e-3 * moved, f"The adapter read back from {adapter_dir} differs by {off} in its logits"
    before, after = (
        torch.nn.functional.cross_entropy(logits[prompt - 1 : -1], ids[0, prompt:]).item()
        for logits in (base, tuned)
    )
    assert after < before, f"A trained answer became less likely: its loss went from {before} to {after}"
    return {
        "LoRA B matrices, all non-zero": len(weights),
        "trainable parameters": trainable,
        "trainable share": round(share, 4),
        "largest change of a logit": round(moved, 3),
        "largest difference after reading back": off,
        "loss of a trained answer, base": round(before, 3),
        "loss of a trained answer, tuned": round(after, 3),
        "first loss": round(losses[0], 3),
        "last loss": round(losses[-1], 3),
    }


class Stopwatch:
    """`with Stopwatch() as watch: …` and then `watch.seconds`."""

    def __enter__(self) -> Stopwatch:
        self.started = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = round(time.perf_counter() - self.started, 1)
