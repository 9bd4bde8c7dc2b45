"""The loss of a frozen LM head without its logits: what makes training without a GPU bearable (00, 05, 09).

Gemma 3 270M's head is 62 % of a step's arithmetic. With LoRA it is frozen, so only the loss and its gradient for the
hidden states are wanted: one walk over the vocabulary in tiles that stay in the processor's cache.
"""

from functools import partial

import torch

PAD_TO_MULTIPLE_OF = 32  # tokens: each length is compiled anew; 44 steps in bfloat16 took 58 s instead of 71
TILE = 2048  # vocabulary entries at a time, 2.6 MB of bf16 weights for the 270M: benchmarks/head_loss.json


class _FrozenHeadLoss(torch.autograd.Function):
    """Sum over rows of −log softmax(hidden · weightᵀ)[target]; for `hidden` the gradient E_p[weight] − weight[target].

    The online softmax is arXiv 1805.02867; to skip the logits is the idea of "Cut Your Losses" (arXiv 2411.09009).
    """

    @staticmethod
    def forward(ctx, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        rows, width = hidden.shape
        exact = torch.promote_types(hidden.dtype, torch.float32)
        highest = hidden.new_full((rows, 1), -torch.inf, dtype=exact)
        total, expected = (hidden.new_zeros((rows, size), dtype=exact) for size in (1, width))
        picked = hidden.new_zeros(rows, dtype=exact)
        for start, tile in zip(range(0, len(weight), TILE), weight.split(TILE)):
            scores = (hidden @ tile.T).to(exact)
            # The target's score as rounded as the others: an exact one could make a loss negative.
            (here,) = ((targets >= start) & (targets < start + TILE)).nonzero(as_tuple=True)
            picked[here] = scores[here, targets[here] - start]
            new_highest = torch.maximum(highest, scores.amax(-1, keepdim=True))
            shrink = (highest - new_highest).exp_()
            shares = scores.sub_(new_highest).exp_()
            total.mul_(shrink).add_(shares.sum(-1, keepdim=True))
            expected.mul_(shrink).add_(shares.to(hidden.dtype) @ tile)
            highest = new_highest
        ctx.save_for_backward((expected / total - weight[targets]).to(hidden.dtype))
        return (highest + total.log()).sum() - picked.sum()

    @staticmethod
    def backward(ctx, upstream: torch.Tensor):
        (gradient,) = ctx.saved_tensors
        return upstream.to(gradient.dtype) * gradient, None, None


def frozen_head_loss(hidden, weight, labels, num_items_in_batch=None) -> torch.Tensor:
    """Causal cross-entropy in nats per supervised token, as transformers' ForCausalLMLoss computes it.

    `hidden` (batch, length, width), `weight` (vocabulary, width), `labels` (batch, length), −100 where not supervised,
    and `num_items_in_batch` to divide by, if not these. ValueError for a trained head.
    """
    if weight.requires_grad:
        raise ValueError("The LM head is trained here, and this loss gives it no gradient; freeze the head")
    targets = torch.nn.functional.pad(labels, (0, 1), value=-100)[..., 1:]  # position i predicts token i + 1
    supervised = targets != -100
    total = _FrozenHeadLoss.apply(hidden[supervised], weight, targets[supervised])
    return total / (supervised.sum() if num_items_in_batch is None else num_items_in_batch)


def train_without_logits(trainer) -> None:
    """Let the trainer train and evaluate Gemma 3 with `frozen_head_loss` on a CPU; elsewhere nothing changes.

    TRL's own compute_loss would want all logits, for an entropy and an accuracy. Other models may cap their logits.
    """
    causal = trainer.model.get_base_model()
    if trainer.args.device.type != "cpu" or causal.config.model_type != "gemma3_text":
        return
    from transformers import Trainer
    from transformers.modeling_outputs import CausalLMOutputWithPast

    with_logits = causal.forward

    def forward(*args, labels=None, num_items_in_batch=None, **inputs):
        if labels is None:
            return with_logits(*args, **inputs)
        hidden = causal.model(*args, **inputs | {"use_cache": False}).last_hidden_state
        loss = frozen_head_loss(hidden, causal.lm_head.weight, labels, num_items_in_batch)
        return CausalLMOutputWithPast(loss=loss)

    causal.forward = forward
    trainer.data_collator.pad_to_multiple_of = PAD_TO_MULTIPLE_OF
    trainer.args.include_num_input_tokens_seen = "non_padding"  # which TRL's compute_loss counts as well
    trainer.compute_loss = partial(Trainer.compute_loss, trainer)
    trainer.prediction_step = partial(Trainer.prediction_step, trainer)
