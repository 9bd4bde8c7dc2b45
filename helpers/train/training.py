"""What surrounds a training: checks before, checkpoints during, evidence after (00, 05, 09)."""

import itertools
import math
import time
from pathlib import Path

from helpers.core import files
from helpers.train import checkpoints, memory, models

NEAR, MANY = 0.9, 10  # the cosine of a look-alike of the turn's end, and how many of them are too many
GREEN, PLAIN = "\x1b[42m", "\x1b[0m"  # notebooks and terminals show these as colour


def planned_steps(rows: int, rows_per_update: int, epochs: float, max_steps: int) -> int:
    """Updates that the trainer will make. Raises ValueError under 10: from fewer nothing follows."""
    steps = max_steps if max_steps > 0 else math.ceil(math.ceil(rows / rows_per_update) * epochs)
    if steps < 10:
        few = f"{rows} rows make {steps} steps of {rows_per_update} rows, fewer than 10, which prove nothing"
        raise ValueError(f"{few}. Raise num_train_epochs or max_steps, or add rows.")
    return steps


def check_training_examples(train_dataset, tokenizer, rows: int) -> dict:
    """Show the first row that the trainer will see, its supervised part in ⟦ ⟧, and count tokens.

    Each has one `<bos>`, some but not all tokens supervised, the end of the turn last, or ValueError names the cause.
    """
    plain, end = models.text_tokenizer(tokenizer), models.stop_ids(tokenizer)[-1]
    if vanished := rows - len(train_dataset):
        raise ValueError(f"{vanished} of {rows} rows vanished: their answers were masked or cut")
    tokens, learned = [], 0
    for number, row in enumerate(train_dataset):
        ids, supervised = row["input_ids"], [label for label in row["labels"] if label != -100]
        tokens.append(len(ids))
        learned += len(supervised)
        starts, last = ids.count(plain.bos_token_id), plain.decode(supervised[-1:])
        for wrong, problem in (
            (starts != 1, f"{starts} <bos> tokens instead of one: the text was templated twice"),
            (not supervised, "no supervised token: response_part does not occur in the text"),
            (len(supervised) == len(ids), "every token is supervised: the question would be learned as well"),
            (supervised[-1:] != [end], f"the last supervised token is {last!r}, not {plain.decode([end])}"),
        ):
            if wrong:
                raise ValueError(f"Training example {number}: {problem}, in {plain.decode(ids)[:300]!r}")
    labelled = zip(train_dataset[0]["input_ids"], train_dataset[0]["labels"])
    for supervised, part in itertools.groupby(labelled, key=lambda token: token[1] != -100):
        text = plain.decode([token for token, _ in part])
        print(f"{GREEN}⟦{text}⟧{PLAIN}" if supervised else text, end="")
    print()
    counts = {"rows": rows, "tokens": sum(tokens), "supervised tokens": learned}
    return counts | {"supervised share": round(learned / sum(tokens), 3), "longest row": max(tokens)}


def lookalikes(model, stops: list[int]) -> int:
    """How many rows of the head, `stops` apart, have a cosine over NEAR with that of the last of `stops`."""
    import torch

    rows = model.get_output_embeddings().weight.detach()
    end, cosine = rows[stops[-1]].float()[None], torch.nn.functional.cosine_similarity
    near = torch.cat([cosine(part.float(), end) > NEAR for part in rows.split(2**15)])
    near[stops] = False
    return int(near.sum())


def check_end_of_turn(model, tokenizer) -> dict:
    """How many tokens look like the end of a turn in the head, and so are lifted with it; ValueError where too many."""
    stops, plain = models.stop_ids(tokenizer), models.text_tokenizer(tokenizer)
    end = plain.decode(stops[-1:])
    if (near := lookalikes(model, stops)) > MANY:
        fault = f"{near:,} tokens look like {end} in the head of {plain.name_or_path}, which never trained it"
        raise ValueError(f"{fault}. Choose a model_name that was tuned for chats, as those with -it.")
    return {f"look-alikes of {end}": near}


def train(trainer, folder: Path, last: Path | None, plan: memory.Plan) -> memory.Plan:
    """Train from the start, or go on from the checkpoint `last`; ends with the best weights in the model.

    Returns the way it went: the plan, or where CUDA ran out of memory a smaller one, from the newest checkpoint on, or
    MemoryError. A run that had ended is only loaded: transformers 5.15 would train one more step.
    """
    import torch
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import TrainerState

    finished, model = folder / checkpoints.FINISHED, trainer.model
    state = finished if last and finished.exists() else last and last / "trainer_state.json"
    state = state and TrainerState.load_from_json(str(state))
    if state and (finished.exists() or state.global_step >= state.max_steps):
        trainer.state = state
        best = folder / Path(state.best_model_checkpoint or last).name  # the work_dir may have moved
        set_peft_model_state_dict(model, load_file(best / "adapter_model.safetensors"))
        return plan
    finished.unlink(missing_ok=True)  # of a run that resume=False starts anew
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    before, started = [weight.detach().cpu().clone() for weight in weights], time.time()
    for way in (plan, *plan.smaller):
        trainer.args.per_device_train_batch_size = trainer._train_batch_size = way.rows
        trainer.args.gradient_accumulation_steps = way.accumulation
        trainer.args.gradient_checkpointing = way.checkpointing
        if not way.checkpointing:  # train() would only turn it on
            model.gradient_checkpointing_disable()
        trainer.optimizer = None  # that of another try
        for weight, value in zip(weights, before):
            weight.data.copy_(value)
            weight.grad = None
        try:
            with torch.random.fork_rng():
                trainer.train(resume_from_checkpoint=str(last) if last else None)
            return way
        except torch.OutOfMemoryError:
            print(f"CUDA ran out of memory with {way.why}")
        newest = checkpoints.newest(folder)
        if newest and newest.stat().st_mtime > started:  # resume=False leaves older ones
            last = newest
        print(f"Going on from {last.name if last else 'the start'} in the next smaller way, if there is one")
    raise MemoryError("No way fits this GPU. Lower max_seq_length or lora_r, or choose a smaller model_name.")


def save_adapter(model, tokenizer, folder: Path, model_name: str, losses: list, canary: tuple) -> dict:
    """Save the adapter, its base by name and not by path, and the tokenizer; nothing where its `evidence` fails."""
    model.peft_config["default"].base_model_name_or_path = model_name
    with files.whole_folder(folder) as scratch:
        model.save_pretrained(scratch, save_embedding_layers=False)
        tokenizer.save_pretrained(scratch)
        return evidence(model, tokenizer, scratch, losses, canary)


def evidence(model, tokenizer, adapter_dir: Path, losses: list[float], canary: tuple[str, str]) -> dict:
    """Proof that the training changed the model and that the saved adapter is that change, or ValueError.

    LoRA B begins at zero; the answer of the `canary`, a (question, answer) that was trained on, must become likelier.
    """
    import torch

    weights = {name: weight for name, weight in model.named_parameters() if ".lora_B." in name}
    zero = [name for name, weight in weights.items() if not weight.detach().any()]
    trainable, total = model.get_nb_trainable_parameters()  # which counts 4-bit weights one by one
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
    loss = torch.nn.functional.cross_entropy
    before, after = (loss(logits[prompt - 1 : -1], ids[0, prompt:]).item() for logits in (base, tuned))
    for holds, problem in (
        (weights and not zero, f"These LoRA B matrices are still zero, so nothing was learned: {zero}"),
        (all(map(math.isfinite, losses)), f"A loss is not finite: {losses}"),
        (moved > 0, "The adapter does not change a single logit"),
        (off <= 1e-3 * moved, f"The adapter read back from the disk differs by {off} in its logits"),
        (after < before, f"A training answer became less likely: its loss went from {before} to {after}"),
    ):
        if not holds:
            raise ValueError(problem)
    return {
        "LoRA B matrices, all non-zero": len(weights),
        "trainable parameters": trainable,
        "trainable share": round(trainable / total, 4),
        "largest change of a logit": round(moved, 3),
        "largest difference after reading back": off,
        "loss of a training answer, base": round(before, 3),
        "loss of a training answer, tuned": round(after, 3),
    }
