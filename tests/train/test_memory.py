from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.core import runtime
from helpers.train import memory

ROOM = runtime.Device("cpu", "a CPU", 100.0, 50.0, "test")
RESULTS = Path(memory.__file__).parents[2] / "benchmarks" / "memory.json"


@pytest.fixture(scope="module")
def model(tiny_gemma):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_gemma)


def test_every_measured_peak_is_within_15_percent_of_the_estimate():
    runs = json.loads(RESULTS.read_text())["runs"]
    assert len(runs) >= 6 and all(abs(run["error_percent"]) <= 15 for run in runs)
    for run in runs:
        error = 100 * (run["estimated_gb"] / run["measured_gb"] - 1)
        assert run["error_percent"] == pytest.approx(error, abs=1)


def test_the_estimate_grows_with_rows_length_and_rank_and_shrinks_with_checkpointing(model):
    def activations(*numbers, checkpointing=False):
        return memory.estimate(model, *numbers, checkpointing)["activations"]

    assert activations(8, 512, 8) == pytest.approx(4 * activations(2, 512, 8), rel=0.03)
    assert activations(2, 2048, 8) == pytest.approx(4 * activations(2, 512, 8), rel=0.03)
    parts = [memory.estimate(model, 2, 512, r, False)["adapter, gradients, optimizer"] for r in (64, 640)]
    assert parts[1] == pytest.approx(10 * parts[0], rel=0.1)


def test_a_layer_keeps_what_the_formula_counts(model):
    """The estimate's coefficients against what autograd really keeps, in the model's own float32.

    The formula is for bf16 with float32 norms; in float32 everything has four bytes.
    """
    import torch

    config, kept = model.config, {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    ids, hold = torch.arange(6, 70)[None], []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hold.append(model.model(ids, use_cache=False).last_hidden_state)
    measured = sum(kept.values()) / 64 / config.num_hidden_layers
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    bf16 = 26 * config.hidden_size + 8 * config.intermediate_size + 10 * queries + 16 * keys
    assert bf16 < measured < 2.2 * bf16


def test_without_a_gpu_all_rows_go_at_once_without_checkpointing(model):
    plan = memory.plan(model, 100, 2, 4, 8, ROOM)
    assert (plan.rows, plan.accumulation, plan.checkpointing) == (8, 1, False)
    assert "the update is that of 2 × 4 as asked" in plan.why
    assert plan.peak_gb == pytest.approx(sum(plan.parts.values()), abs=0.01)


def test_a_gpu_keeps_the_rows_as_asked(model):
    plan = memory.plan(model, 100, 2, 4, 8, runtime.Device("cuda", "T4", 14.5, 50.0, "test"))
    assert (plan.rows, plan.accumulation, plan.checkpointing) == (2, 4, True)


def test_fewer_rows_at_once_where_memory_is_short(model):
    """Each plan fits its machine, makes the same update, and gives up speed before it gives up."""
    seen = []
    for gib in (1.0, 0.6, 0.52, 0.47, 0.44):
        plan = memory.plan(model, 500, 2, 4, 1, runtime.Device("cpu", "a CPU", gib, 50.0, "test"))
        assert plan.rows * plan.accumulation == 8
        seen.append((plan.checkpointing, -plan.rows))
    assert seen == sorted(seen) and len(set(seen)) > 2


def test_what_cannot_fit_is_refused_with_what_to_change(model):
    small = runtime.Device("cpu", "a CPU", 0.001, 50.0, "test")
    with pytest.raises(
        MemoryError, match="One row of 9000 tokens needs about .* Lower max_seq_length or lora_r"
    ):
        memory.plan(model, 9000, 2, 4, 8, small)


def test_the_estimate_of_unsloths_published_run():
    """Gemma 3 4B in 4 bits, 2 rows of 2,048 tokens: 13.6 GB on a T4, in the output of Unsloth's notebook."""
    layer = 26 * 2560 + 8 * 10240 + 10 * 2048 + 16 * 1024
    activations = 2 * 2 * 2048 * memory.LAYERS_AT_WORK["cuda"] * layer / 1e9
    assert 13.6 * 0.85 < activations + 5.5 < 13.6 * 1.15  # 4.5 GB of weights, 1 GB of CUDA and the loss


def test_the_peak_is_this_process_own():
    """getrusage's ru_maxrss begins with the parent's memory at the fork: every run looked as large as the first."""
    held = bytearray(3_000_000_000)
    code = "x = bytearray(300_000_000); del x; from helpers.train import memory; print(memory.peak_gb())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=RESULTS.parents[1]
    )
    del held
    assert 0.3 < float(done.stdout) < 2, done.stderr
