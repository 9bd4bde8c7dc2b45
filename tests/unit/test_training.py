import json
import math

import pytest

from helpers import models, runtime, training


def example(tokenizer, question="Why?", answer="Because.") -> dict:
    ids, prompt = models.chat_ids(tokenizer, question, answer), models.chat_ids(tokenizer, question)
    return {"input_ids": ids, "labels": [-100] * len(prompt) + ids[len(prompt) :]}


def dataset(*rows: dict):
    from datasets import Dataset

    return Dataset.from_list(list(rows))


def test_a_good_example_passes_and_is_shown(tokenizer, capsys):
    report = training.check_training_examples(dataset(example(tokenizer)), tokenizer, rows=1)
    assert report["rows"] == 1 and 0 < report["supervised share"] < 1
    assert capsys.readouterr().out.rstrip().endswith("<start_of_turn>model\n⟦Because.<end_of_turn>⟧")


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


def test_rows_that_are_too_long_are_listed_and_left_out_whole(tokenizer, capsys):
    pairs = dataset(
        {"question": "Why?", "answer": "Because."}, {"question": "Long?", "answer": "word " * 200}
    )
    fitting, too_long = training.tokenize(pairs, tokenizer, max_seq_length=64)
    assert len(fitting) == 1 and [row["row"] for row in too_long] == [1]
    assert "row 1 has" in capsys.readouterr().out
    with pytest.raises(ValueError, match="No row fits max_seq_length=4"):
        training.tokenize(pairs, tokenizer, max_seq_length=4)


def test_a_half_written_checkpoint_is_passed_over(tmp_path, capsys):
    for step, state in (
        (5, '{"global_step": 5}'),
        (10, '{"global_step": 10}'),
        (15, '{"global_'),
        (20, None),
    ):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert training.last_complete_checkpoint(tmp_path).name == "checkpoint-10"
    assert "checkpoint-20 is half written" in capsys.readouterr().out
    assert training.last_complete_checkpoint(tmp_path / "nowhere") is None


def test_another_setting_or_other_data_is_another_run(tmp_path, tokenizer):
    one, two = dataset(example(tokenizer)), dataset(example(tokenizer, "How?"))
    assert training.checkpoint_dir(tmp_path, {"r": 8}, one) == training.checkpoint_dir(
        tmp_path, {"r": 8}, one
    )
    others = [training.checkpoint_dir(tmp_path, {"r": r}, rows) for r in (8, 16) for rows in (one, two)]
    assert len(set(others)) == 4


def test_the_dataset_falls_back_to_the_sample_and_says_so(tmp_path):
    pairs, why = training.load_qa_dataset("auto", tmp_path)
    assert len(pairs["train"]) > 300 and len(pairs["test"]) > 50 and "bundled sample" in why
    trained = {review_id for row in pairs["train"] for review_id in row["review_ids"]}
    assert not trained & {review_id for row in pairs["test"] for review_id in row["review_ids"]}


def test_a_file_of_your_own_is_split(tmp_path):
    rows = [{"id": str(n), "question": f"Question number {n}?", "answer": "Yes."} for n in range(20)]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    pairs, _ = training.load_qa_dataset(str(tmp_path / "mine.json"), tmp_path)
    assert (len(pairs["train"]), len(pairs["test"])) == (17, 3)


def test_a_dataset_without_the_columns_is_refused(tmp_path):
    from datasets import DatasetDict

    rows = dataset({"prompt": "a"}, {"prompt": "b"})
    DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "other")
    with pytest.raises(ValueError, match=r"no column answer and question; it has \['prompt'\]"):
        training.load_qa_dataset(str(tmp_path / "other"), tmp_path)


@pytest.fixture(scope="module")
def trained(tiny_gemma, tmp_path_factory):
    """A LoRA adapter on the tiny model, trained for 12 steps through Unsloth and TRL."""
    from unsloth import FastModel
    from unsloth.chat_templates import train_on_responses_only

    training.train_chunked_on_cpu(runtime.device())
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = FastModel.from_pretrained(str(tiny_gemma), max_seq_length=128, load_in_4bit=False)
    tokenizer = models.with_chat_template(tokenizer)
    model = FastModel.get_peft_model(model, r=4, lora_alpha=4, random_state=0)
    rows, _ = training.tokenize(dataset({"question": "Why?", "answer": "Because."}), tokenizer, 128)
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
    trainer = train_on_responses_only(trainer, **training.MARKERS)
    training.check_training_examples(trainer.train_dataset, tokenizer, rows=1)
    training.show_progress(trainer)
    trainer.train()
    training.save_adapter(model, tokenizer, folder / "adapter", "tiny")
    return trainer, model, tokenizer, folder / "adapter"


def test_evidence_holds_for_a_trained_adapter(trained):
    trainer, model, tokenizer, adapter = trained
    losses = [row["loss"] for row in training.losses(trainer)]
    assert len(losses) == 12 and losses[-1] < losses[0]
    proof = training.evidence(model, tokenizer, adapter, losses)
    assert proof["largest difference after reading back"] <= 1e-3 * proof["largest change of a logit"]
    assert model.active_adapter == "default" and list(model.peft_config) == ["default"]


def test_the_saved_adapter_names_its_base_and_no_path(trained):
    config = json.loads((trained[3] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"


def test_a_loss_that_is_not_finite_is_caught(trained):
    _, model, tokenizer, adapter = trained
    with pytest.raises(AssertionError, match="not finite"):
        training.evidence(model, tokenizer, adapter, [1.0, math.nan])


def test_an_adapter_that_is_not_the_trained_one_is_caught(trained, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    _, model, tokenizer, adapter = trained
    for file in adapter.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file(
        {name: torch.zeros_like(w) for name, w in weights.items()}, tmp_path / "adapter_model.safetensors"
    )
    with pytest.raises(AssertionError, match="read back from .* differs"):
        training.evidence(model, tokenizer, tmp_path, [1.0])


def test_an_untrained_adapter_is_caught(trained):
    import torch

    _, model, tokenizer, adapter = trained
    weight = next(weight for name, weight in model.named_parameters() if ".lora_B." in name)
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.zero_()
        with pytest.raises(AssertionError, match="still zero"):
            training.evidence(model, tokenizer, adapter, [1.0])
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_a_non_finite_loss_stops_the_run_with_its_cause(trained):
    trainer = trained[0]
    progress = trainer.callback_handler.callbacks[-1]
    with pytest.raises(FloatingPointError, match="The loss is nan at step 12.*float16"):
        progress.on_log(trainer.args, trainer.state, trainer.control, {"loss": math.nan})


def test_the_chunked_loss_is_the_stock_loss(tiny_gemma):
    """Same loss and same gradient as the model's own forward, in float32."""
    import torch
    from transformers import AutoModelForCausalLM
    from unsloth_zoo.cpu import ops

    model = AutoModelForCausalLM.from_pretrained(tiny_gemma, dtype=torch.float32)
    ids = torch.randint(6, 300, (3, 40), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :15] = -100
    hidden = model.model(ids).last_hidden_state.detach()
    stock, chunked = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    logits = model.lm_head(stock)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    weight = model.lm_head.weight.detach()
    other = ops.chunked_linear_cross_entropy(chunked, weight, labels, chunk_rows=7)
    loss.backward()
    other.backward()
    assert abs(loss.item() - other.item()) < 1e-5
    assert torch.allclose(stock.grad, chunked.grad, atol=1e-7)
