import math

import pytest
import torch

from helpers.core import runtime
from helpers.train import cpu_loss

CPU = runtime.Device("cpu", "a CPU", 8.0, 10.0, "test")


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


def test_unsloth_still_has_the_place_for_it(tiny_gemma):
    """The switch sets two names of the pinned Unsloth; a newer one may have moved them."""
    import inspect

    from unsloth import FastModel

    cpu_loss.use_on_cpu(CPU)
    from unsloth_zoo.cpu import ops

    names = inspect.getsource(ops.patch_chunked_causal_lm_loss)
    assert (
        "chunked_linear_cross_entropy(" in names
        and ops.chunked_linear_cross_entropy is cpu_loss.frozen_head_loss
    )
    model, _ = FastModel.from_pretrained(str(tiny_gemma), max_seq_length=64, load_in_4bit=False)
    assert model._unsloth_cpu_chunked_ce


def test_nothing_changes_on_a_gpu(monkeypatch):
    import unsloth  # noqa: F401
    from unsloth_zoo.cpu import ops

    before = ops.chunked_linear_cross_entropy
    monkeypatch.setattr(ops, "_CHUNKED_CE_MODEL_TYPES", frozenset())
    cpu_loss.use_on_cpu(runtime.Device("cuda", "T4", 14.5, 10.0, "test"))
    assert not ops._CHUNKED_CE_MODEL_TYPES and ops.chunked_linear_cross_entropy is before
