import json
import math
import shutil
import types

import pytest

from helpers.train import checkpoints, cpu_loss, data, memory, models, progress, training

CANARY = ("Why?", "Because.")
PLAN = memory.Plan(4, 2, False, {}, "4 × 2")


def example(tokenizer, question="Why?", answer="Because.") -> dict:
    ids, prompt = models.chat_ids(tokenizer, question, answer), models.chat_ids(tokenizer, question)
    return {"input_ids": ids, "labels": [-100] * len(prompt) + ids[len(prompt) :]}


def dataset(*rows: dict):
    from datasets import Dataset

    return Dataset.from_list(list(rows))


def test_a_good_example_passes_and_is_shown(tokenizer, capsys):
    report = training.check_training_examples(dataset(example(tokenizer)), tokenizer, rows=1)
    assert report["rows"] == 1 and 0 < report["supervised share"] < 1
    assert (
        capsys.readouterr()
        .out.rstrip()
        .endswith(f"<start_of_turn>model\n{training.GREEN}⟦Because.<end_of_turn>⟧{training.PLAIN}")
    )


def test_a_doubled_bos_is_caught(tokenizer):
    row = example(tokenizer)
    row = {"input_ids": [tokenizer.bos_token_id, *row["input_ids"]], "labels": [-100, *row["labels"]]}
    with pytest.raises(ValueError, match="example 1: 2 <bos> tokens instead of one"):
        training.check_training_examples(dataset(example(tokenizer), row), tokenizer, rows=2)


def test_a_mask_that_hides_everything_is_caught(tokenizer):
    row = example(tokenizer)
    row["labels"] = [-100] * len(row["labels"])
    with pytest.raises(ValueError, match="example 0: no supervised token"):
        training.check_training_examples(dataset(row), tokenizer, rows=1)


def test_a_mask_that_hides_nothing_is_caught(tokenizer):
    row = example(tokenizer)
    row["labels"] = row["input_ids"]
    with pytest.raises(ValueError, match="every token is supervised"):
        training.check_training_examples(dataset(row), tokenizer, rows=1)


def test_an_answer_without_its_end_is_caught(tokenizer):
    row = {name: values[:-1] for name, values in example(tokenizer).items()}
    with pytest.raises(ValueError, match="the last supervised token is .*, not <end_of_turn>"):
        training.check_training_examples(dataset(row), tokenizer, rows=1)


def test_a_row_that_vanished_is_caught(tokenizer):
    with pytest.raises(ValueError, match="1 of 2 rows vanished"):
        training.check_training_examples(dataset(example(tokenizer)), tokenizer, rows=2)


def test_a_few_steps_are_refused_before_they_are_made():
    assert training.planned_steps(rows=359, rows_per_update=8, epochs=3, max_steps=-1) == 135
    assert training.planned_steps(rows=359, rows_per_update=8, epochs=3, max_steps=12) == 12
    with pytest.raises(ValueError, match="20 rows make 9 steps of 8 rows.*Raise num_train_epochs"):
        training.planned_steps(rows=20, rows_per_update=8, epochs=3, max_steps=-1)


@pytest.fixture(scope="module")
def trained(tiny_gemma, tmp_path_factory):
    """A LoRA adapter on the tiny model, trained for 12 steps through Unsloth and TRL."""
    from unsloth import FastModel
    from unsloth.chat_templates import train_on_responses_only  # isort: skip
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = FastModel.from_pretrained(str(tiny_gemma), max_seq_length=128, load_in_4bit=False)
    tokenizer = models.with_chat_template(tokenizer, model)
    model = FastModel.get_peft_model(model, r=1, lora_alpha=1, random_state=0)
    rows, _ = data.tokenize(dataset({"question": "Why?", "answer": "Because."}), tokenizer, 128)
    folder = tmp_path_factory.mktemp("trained")
    config = SFTConfig(
        output_dir=str(folder / "checkpoints"),
        max_steps=12,
        learning_rate=1e-2,
        per_device_train_batch_size=1,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=rows, args=config)
    turns = models.turns(tokenizer)
    trainer = train_on_responses_only(trainer, instruction_part=turns.user, response_part=turns.model)
    training.check_training_examples(trainer.train_dataset, tokenizer, rows=1)
    progress.show(trainer)
    cpu_loss.train_without_logits(trainer)
    trainer.train()
    losses = [row["loss"] for row in progress.losses(trainer)]
    proof = training.save_adapter(model, tokenizer, folder / "adapter", "tiny", losses, CANARY)
    return trainer, model, tokenizer, folder / "adapter", proof


def test_evidence_holds_for_a_trained_adapter(trained):
    trainer, model, _, _, proof = trained
    losses = [row["loss"] for row in progress.losses(trainer)]
    assert len(losses) == 12 and losses[-1] < losses[0]
    assert proof["largest difference after reading back"] <= 1e-3 * proof["largest change of a logit"]
    assert model.active_adapter == "default" and list(model.peft_config) == ["default"]


def test_the_saved_adapter_names_its_base_and_no_path(trained):
    config = json.loads((trained[3] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"


def test_a_loss_that_is_not_finite_is_caught(trained):
    _, model, tokenizer, adapter, _ = trained
    with pytest.raises(ValueError, match="not finite"):
        training.evidence(model, tokenizer, adapter, [1.0, math.nan], CANARY)


def test_an_adapter_that_is_not_the_trained_one_is_caught(trained, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    _, model, tokenizer, adapter, _ = trained
    for file in adapter.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file(
        {name: torch.zeros_like(w) for name, w in weights.items()}, tmp_path / "adapter_model.safetensors"
    )
    with pytest.raises(ValueError, match="read back from the disk differs"):
        training.evidence(model, tokenizer, tmp_path, [1.0], CANARY)


def test_an_untrained_adapter_is_caught(trained):
    import torch

    _, model, tokenizer, adapter, _ = trained
    weight = next(weight for name, weight in model.named_parameters() if ".lora_B." in name)
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.zero_()
        with pytest.raises(ValueError, match="still zero"):
            training.evidence(model, tokenizer, adapter, [1.0], CANARY)
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_an_adapter_that_makes_the_trained_answer_less_likely_is_caught(trained, tmp_path):
    import torch

    _, model, tokenizer, *_ = trained
    matrices = [weight for name, weight in model.named_parameters() if ".lora_B." in name]

    def turn_round():
        with torch.no_grad():
            for weight in matrices:
                weight.neg_()

    turn_round()
    try:
        with pytest.raises(ValueError, match="A training answer became less likely"):
            training.save_adapter(model, tokenizer, tmp_path / "adapter", "tiny", [1.0], CANARY)
    finally:
        turn_round()
    assert not list(tmp_path.iterdir())  # it is not left for notebook 06 to find


def test_a_run_that_was_stopped_early_is_loaded_and_not_continued(trained, tmp_path):
    from peft import get_peft_model_state_dict
    from transformers import TrainerState

    _, model, _, adapter, _ = trained
    best, last = tmp_path / "checkpoint-4", tmp_path / "checkpoint-8"
    shutil.copytree(adapter, best)
    state = TrainerState(global_step=8, max_steps=12, best_model_checkpoint=f"/elsewhere/{best.name}")
    state.save_to_json(str(tmp_path / checkpoints.FINISHED))
    weights = {name: weight.clone() for name, weight in get_peft_model_state_dict(model).items()}
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            weight.data.zero_()
    trainer = types.SimpleNamespace(model=model)  # without a train()
    training.train(trainer, tmp_path, last, PLAN)
    assert trainer.state.global_step == 8
    assert all(weight.equal(weights[name]) for name, weight in get_peft_model_state_dict(model).items())


def test_markers_that_do_not_occur_are_caught_before_the_first_step(trained, tiny_gemma):
    """Wrong strings mask every token. Nothing would be learned, and the loss would be zero or NaN."""
    from trl import SFTConfig, SFTTrainer
    from unsloth.chat_templates import train_on_responses_only

    _, model, tokenizer, adapter, _ = trained
    rows, _ = data.tokenize(dataset({"question": "Why?", "answer": "Because."}), tokenizer, 128)
    config = SFTConfig(output_dir=str(adapter / "out"), max_length=128, report_to="none")
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=rows, args=config)
    wrong = {"instruction_part": "<|im_start|>user\n", "response_part": "<|im_start|>assistant\n"}
    with pytest.raises((ValueError, ZeroDivisionError)):
        trainer = train_on_responses_only(trainer, **wrong)
        training.check_training_examples(trainer.train_dataset, tokenizer, rows=1)
