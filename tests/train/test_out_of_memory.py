"""Out of memory: the next smaller way is taken, and the losses are those of a run that had begun with it.

The allocator is a fake: it stands in front of the real model's forward and raises above a number of tokens.
"""

from __future__ import annotations

import dataclasses

import pytest

from helpers.train import checkpoints, memory, models, progress, training


def way(rows: int, checkpointing: bool, **more) -> memory.Plan:
    return memory.Plan(rows, 8 // rows, checkpointing, {}, f"{rows} rows, {checkpointing}", **more)


@pytest.fixture(scope="module")
def make(tiny_gemma, tokenizer):
    """make(folder, plan): a trainer of one epoch of 80 rows that saves and looks every 4 steps."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, set_seed
    from trl import SFTConfig, SFTTrainer

    rows = [models.chat_ids(tokenizer, "Why?", f"Because of {n}." + " so" * (n % 7)) for n in range(88)]
    rows = Dataset.from_dict({"input_ids": rows})

    def make(folder, plan: memory.Plan):
        set_seed(0)
        model = AutoModelForCausalLM.from_pretrained(tiny_gemma)
        lora = LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear", task_type="CAUSAL_LM")
        config = SFTConfig(
            output_dir=str(folder),
            num_train_epochs=1,
            per_device_train_batch_size=plan.rows,
            gradient_accumulation_steps=plan.accumulation,
            gradient_checkpointing=plan.checkpointing,
            learning_rate=1e-2,
            logging_steps=1,
            save_steps=4,
            eval_strategy="steps",
            eval_steps=4,
            load_best_model_at_end=True,
            metric_for_best_model="eval_loss",
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
        )
        sides = {"train_dataset": rows.select(range(80)), "eval_dataset": rows.select(range(80, 88))}
        trainer = SFTTrainer(model=model, processing_class=tokenizer, args=config, peft_config=lora, **sides)
        checkpoints.keep(trainer, folder)
        return trainer

    return make


def limit(trainer, tokens: int, calls: int = 0) -> list[tuple[int, bool]]:
    """Let a forward of more than `tokens` run out of memory, after so many calls; (rows, checkpointing) of each."""
    import torch

    causal, seen = trainer.model.get_base_model(), []
    forward = causal.forward

    def limited(*args, input_ids=None, **more):
        if causal.training:
            seen.append((len(input_ids), causal.is_gradient_checkpointing))
            if input_ids.numel() > tokens and len(seen) > calls:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(*args, input_ids=input_ids, **more)

    causal.forward = limited
    return seen


def losses(trainer) -> list[float]:
    return [row["loss"] for row in progress.losses(trainer)]


@pytest.mark.parametrize("tokens, ended", [(10_000, 0), (250, 1), (120, 2), (60, 3)])
def test_at_most_four_ways_and_the_losses_of_the_one_that_fits(make, tmp_path, capsys, tokens, ended):
    ways = [way(8, False), way(4, False), way(2, False), way(1, True)]
    plan = dataclasses.replace(ways[0], smaller=tuple(ways[1:]))
    trainer = make(tmp_path / "one", plan)
    seen = limit(trainer, tokens)
    assert training.train(trainer, tmp_path / "one", None, plan) in (plan, ways[ended])
    assert {rows for rows, _ in seen} == {w.rows for w in ways[: ended + 1]}
    said = capsys.readouterr().out
    assert [f"CUDA ran out of memory with {w.why}" in said for w in ways] == [n < ended for n in range(4)]
    other = make(tmp_path / "other", ways[ended])
    training.train(other, tmp_path / "other", None, ways[ended])
    assert losses(trainer) == losses(other) and len(losses(other)) == 10
    assert trainer.model.get_base_model().is_gradient_checkpointing == ways[ended].checkpointing


def test_in_the_middle_it_goes_on_from_the_last_checkpoint(make, tmp_path, capsys):
    plan = way(8, False, smaller=(way(2, False),))
    trainer = make(tmp_path / "one", plan)
    seen = limit(trainer, 120, calls=6)
    training.train(trainer, tmp_path / "one", None, plan)
    assert [rows for rows, _ in seen] == [8] * 7 + [2] * 4 * 6
    assert "Going on from checkpoint-4" in capsys.readouterr().out
    whole = make(tmp_path / "whole", plan)
    training.train(whole, tmp_path / "whole", None, plan)
    assert losses(trainer)[:4] == losses(whole)[:4] and len(losses(trainer)) == 10


def test_where_nothing_fits_it_says_what_to_change(make, tmp_path):
    plan = way(8, False, smaller=(way(1, True),))
    trainer = make(tmp_path, plan)
    limit(trainer, 1)
    with pytest.raises(MemoryError, match="No way fits this GPU. Lower max_seq_length"):
        training.train(trainer, tmp_path, None, plan)


def test_as_many_answers_at_once_as_fit_and_the_same_ones(tuned, monkeypatch):
    """Three examples in each prompt: notebook 06 asked 32 at a time, whatever the card held."""
    import torch

    model, tokenizer = tuned
    questions = [f"Why {n}?" + " so" * n for n in range(11)]
    alone = models.generate_ids(model, tokenizer, questions, 4, batch_size=1)
    generate, tried = model.generate, []

    def limited(input_ids, **more):
        tried.append(len(input_ids))
        if tried[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return generate(input_ids=input_ids, **more)

    monkeypatch.setattr(model, "generate", limited)
    most = 4
    assert models.generate_ids(model, tokenizer, questions, 4, batch_size=8) == alone
    assert tried == [8, 4, 4, 3]
    most = 0
    with pytest.raises(torch.OutOfMemoryError):
        models.generate_ids(model, tokenizer, questions, 4, batch_size=8)
    assert tried[4:] == [8, 4, 2, 1]
