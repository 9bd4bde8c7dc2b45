import math
import types

import pytest
import torch

from helpers.train import cpu_loss


@pytest.fixture
def case(monkeypatch):
    """Hidden states, a head of several tiles and labels with hidden parts, in float64."""
    monkeypatch.setattr(cpu_loss, "TILE", 7)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 9, 5, generator=generator, dtype=torch.float64) * 3
    weight = torch.randn(23, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 23, (2, 9), generator=generator)
    labels[0, :4] = -100
    labels[1, 7:] = -100
    return hidden, weight, labels


def stock(hidden, weight, labels, num_items=None):
    """The same through transformers, logits and all."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    # ForCausalLMLoss casts to float32; its arithmetic is repeated here in the given precision.
    logits = hidden @ weight.T
    shifted = torch.nn.functional.pad(labels, (0, 1), value=-100)[..., 1:]
    reduction = "mean" if num_items is None else "sum"
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), shifted.flatten(), reduction=reduction)
    loss = loss if num_items is None else loss / num_items
    same = ForCausalLMLoss(logits, labels, weight.shape[0], num_items_in_batch=num_items)
    assert math.isclose(loss.item(), same.item(), rel_tol=1e-5)
    return loss


@pytest.mark.parametrize("num_items", [None, 40])
def test_loss_and_gradient_are_autograds_in_float64(case, num_items):
    hidden, weight, labels = case
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    loss = cpu_loss.frozen_head_loss(ours, weight, labels, num_items_in_batch=num_items)
    expected = stock(theirs, weight, labels, num_items)
    (3 * loss).backward()
    (3 * expected).backward()
    assert torch.allclose(loss, expected, rtol=1e-12)
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_the_gradient_holds_against_finite_differences(case):
    hidden, weight, labels = case
    hidden.requires_grad_()
    assert torch.autograd.gradcheck(lambda h: cpu_loss.frozen_head_loss(h, weight, labels), hidden)


def test_large_scores_do_not_overflow(case):
    hidden, weight, labels = case
    loss = cpu_loss.frozen_head_loss(hidden * 1e4, weight, labels)
    assert torch.allclose(loss, stock(hidden * 1e4, weight, labels))


def test_bfloat16_keeps_the_precision_of_full_logits():
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(1, 64, 32, generator=generator).bfloat16()
    weight = torch.randn(5000, 32, generator=generator).bfloat16()
    labels = torch.randint(0, 5000, (1, 64), generator=generator)
    exact = stock(hidden.double(), weight.double(), labels)
    assert abs(cpu_loss.frozen_head_loss(hidden, weight, labels) - exact) < 2e-3 * exact


def test_a_sure_model_has_no_negative_loss_in_bfloat16():
    """With the target's score exact and the others rounded, a learned sentence had a loss of -0.013."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(5000, 64, generator=generator).bfloat16()
    labels = torch.randint(0, 5000, (1, 200), generator=generator)
    hidden = (weight[labels].roll(-1, dims=1) * 0.7).contiguous()
    for row in range(199):
        loss = cpu_loss.frozen_head_loss(hidden[:, row : row + 2], weight, labels[:, row : row + 2])
        assert 0 <= loss < 0.01


def test_a_trained_head_is_refused(case):
    hidden, weight, labels = case
    with pytest.raises(ValueError, match="freeze the head"):
        cpu_loss.frozen_head_loss(hidden, weight.requires_grad_(), labels)


def unsloth_trainer(folder, output_dir):
    from unsloth import FastModel
    from datasets import Dataset  # isort: skip
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = FastModel.from_pretrained(str(folder), max_seq_length=64, load_in_4bit=False)
    model = FastModel.get_peft_model(
        model, r=4, lora_alpha=4, random_state=0, use_gradient_checkpointing=False
    )
    ids = [list(range(6, size)) for size in (20, 30, 25, 50)]
    rows = Dataset.from_list([{"input_ids": row, "labels": [-100] * 5 + row[5:]} for row in ids])
    config = SFTConfig(
        output_dir=str(output_dir),
        max_steps=4,
        learning_rate=1e-2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
    )
    return SFTTrainer(
        model=model, processing_class=tokenizer, train_dataset=rows, eval_dataset=rows, args=config
    )


def test_unsloth_trains_and_evaluates_with_it_as_with_all_logits(tiny_gemma, tmp_path, monkeypatch):
    """Losses, their gradients and the count of tokens are those of the loss that TRL takes from the logits."""
    histories, calls = [], []
    loss = cpu_loss.frozen_head_loss
    monkeypatch.setattr(
        cpu_loss, "frozen_head_loss", lambda *given: calls.append(given[0].shape[1]) or loss(*given)
    )
    for without_logits in (False, True):
        trainer = unsloth_trainer(tiny_gemma, tmp_path)
        if without_logits:
            cpu_loss.train_without_logits(trainer)
        trainer.train()
        logs = trainer.state.log_history
        names = ("loss", "eval_loss", "grad_norm")
        histories.append([log[name] for log in logs for name in names if name in log])
        tokens = [log.get("num_tokens", log.get("num_input_tokens_seen")) for log in logs if "loss" in log]
        histories[-1] += tokens
    assert len(histories[0]) == len(histories[1]) == 14
    assert histories[0] == pytest.approx(histories[1], rel=5e-3)
    assert len(calls) == 4 * 2 + 2  # micro-batches, and batches of the two looks at the validation rows
    assert not any(length % cpu_loss.PAD_TO_MULTIPLE_OF for length in calls)  # or each is compiled anew


@pytest.mark.parametrize("device, kind", [("cuda", "gemma3_text"), ("cpu", "gemma4_text")])
def test_nothing_changes_on_a_gpu_and_for_models_that_may_cap_their_logits(device, kind):
    causal = types.SimpleNamespace(config=types.SimpleNamespace(model_type=kind))
    trainer = types.SimpleNamespace(
        model=types.SimpleNamespace(get_base_model=lambda: causal),
        args=types.SimpleNamespace(device=torch.device(device)),
    )
    cpu_loss.train_without_logits(trainer)
    assert vars(causal).keys() == {"config"} and vars(trainer).keys() == {"model", "args"}
