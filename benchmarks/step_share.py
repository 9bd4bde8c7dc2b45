"""A training step of notebook 05 without a GPU, as a share of what this machine's matrix products alone would take.

    python -m benchmarks.step_share          # about five minutes on two cores; writes step_share.json

Behind each step the products that it cannot do without are run alone, in the same process, with its own weights, sizes
and numbers: forward and for the gradient of the input, each linear layer on all tokens, the head on the supervised
ones. Not counted in them: attention, norms, activations, the adapter's own products, the optimizer.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

RESULT = Path(__file__).with_suffix(".json")
STEPS = 16  # the first two warm up


def products(model, tokens: int, supervised: int) -> float:
    """Seconds for the matrix products of a step with so many tokens."""
    import torch

    from helpers.train import cpu_loss

    head = model.get_output_embeddings().weight
    layers = [m.base_layer.weight for m in model.modules() if hasattr(m, "lora_A")]
    sizes = {size for weight in layers for size in weight.shape}
    inputs = {size: torch.randn(tokens, size, dtype=head.dtype) for size in sizes}
    hidden = torch.randn(supervised, head.shape[1], dtype=head.dtype)
    with torch.inference_mode():
        started = time.perf_counter()
        for weight in layers:
            inputs[weight.shape[1]] @ weight.T
            inputs[weight.shape[0]] @ weight
        for tile in head.split(cpu_loss.TILE):
            (hidden @ tile.T) @ tile
        return time.perf_counter() - started


def main() -> None:
    from benchmarks import machine

    from unsloth import FastModel  # isort: skip
    from unsloth.chat_templates import train_on_responses_only  # isort: skip
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from helpers.train import cpu_loss, data, local_gemma, models

    model, tokenizer = FastModel.from_pretrained(
        str(local_gemma.path()), max_seq_length=2048, load_in_4bit=False
    )
    tokenizer = models.with_chat_template(tokenizer, model)
    pairs, _ = data.load_qa_dataset("sample", Path("/nonexistent"))
    dataset, _ = data.tokenize(pairs["train"], tokenizer, 2048)
    lora = dict(r=8, lora_alpha=8, lora_dropout=0, target_modules=models.LANGUAGE_LAYERS)
    model = FastModel.get_peft_model(model, **lora, use_gradient_checkpointing=False, random_state=3407)
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        learning_rate=1.5e-3,
        optim="adamw_8bit",
        gradient_checkpointing=False,  # TRL's default is True, notebook 05 plans without where the memory allows
        **machine.TRAINER,
    )
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=dataset, args=config)
    turns = models.turns(tokenizer)
    trainer = train_on_responses_only(trainer, instruction_part=turns.user, response_part=turns.model)
    cpu_loss.train_without_logits(trainer)
    batches, steps, alone, step = [], [], [], trainer.training_step

    def seen(model, inputs, *rest):
        batches.append((inputs["input_ids"].numel(), int((inputs["labels"] != -100).sum())))
        return step(model, inputs, *rest)

    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.started = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            steps.append(time.perf_counter() - self.started)
            alone.append(products(trainer.model, *batches[-1]))

    trainer.training_step = seen
    trainer.add_callback(Turns())
    trainer.train()
    shares = [least / whole for least, whole in list(zip(alone, steps))[2:]]
    result = {
        **machine.describe(),
        "dtype": str(model.dtype),
        "steps in turns": len(shares),
        "tokens per step, median": statistics.median(tokens for tokens, _ in batches[2:]),
        "seconds per step, median": round(statistics.median(steps[2:]), 2),
        "seconds of its matrix products alone, median": round(statistics.median(alone[2:]), 2),
        "share, median": round(statistics.median(shares), 2),
        "shares": [round(share, 2) for share in shares],
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
