from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import plans
from helpers.train import memory

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


def free(monkeypatch, gb: float) -> None:
    monkeypatch.setattr(memory, "now", lambda model: (int(1e9), int(gb * 1e9)))


def on_a_gpu(monkeypatch, model, gb: float) -> None:
    import torch

    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(gb * 1e9), int(15e9)))


def test_without_a_gpu_the_rows_go_as_asked_without_checkpointing(model, monkeypatch):
    """All eight at once took 34 s an update of 330-token rows on two cores, two at once 27 s, not in turns."""
    free(monkeypatch, 100)
    plan = memory.plan(model, 100, 2, 4, 8)
    assert (plan.rows, plan.accumulation, plan.checkpointing) == (2, 4, False)
    assert plan.peak_gb == pytest.approx(sum(plan.parts.values()), abs=0.01)


def test_a_gpu_with_room_does_all_rows_at_once_without_checkpointing(model, monkeypatch):
    """It kept the rows as asked and recomputed every layer, on a card of any size."""
    on_a_gpu(monkeypatch, model, gb=10)
    plan = memory.plan(model, 100, 2, 4, 8)
    assert (plan.rows, plan.accumulation, plan.checkpointing) == (8, 1, False)
    assert plan.parts["weights and libraries"] == 5


def test_a_gpu_without_that_room_has_smaller_ways(monkeypatch):
    """Gemma 3 4B's shape: checkpointing pays only where there are many layers."""
    four_b = plans.meta_model(
        json.loads(plans.SHAPES.read_text())["unsloth/gemma-3-4b-it-unsloth-bnb-4bit"], "float16"
    )
    tried = set()
    for gb in (2.5, 5, 10, 15, 30, 60):
        monkeypatch.setattr(memory, "now", lambda _, free=gb * 1e9: (4e9, free))
        plan = memory.plan(four_b, 470, 2, 4, 8)
        ways = [plan, *plan.smaller]
        assert all(way.rows * way.accumulation == 8 and not way.smaller for way in ways[1:])
        assert [way.peak_gb for way in ways] == sorted((way.peak_gb for way in ways), reverse=True)
        assert len(ways) <= 4
        assert (ways[-1].rows, ways[-1].checkpointing) == (1, True)
        tried.add((plan.rows, plan.checkpointing))
    assert len(tried) >= 4


def test_what_the_loaded_model_takes_is_no_room(model, monkeypatch):
    """What was free before it was loaded was planned for, so that the model's own size was planned twice."""
    on_a_gpu(monkeypatch, model, gb=0.01)  # of 15
    with pytest.raises(MemoryError, match=r"needs about 15\.\d GB at the peak, .* and 0.0 GB are to spare"):
        memory.plan(model, 2048, 2, 4, 8)


def test_layers_that_differ_are_counted_one_by_one():
    """Gemma 4's configuration raised AmbiguousGlobalPerLayerAttributeError for its head_dim."""
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig

    sizes = dict(vocab_size=64, vocab_size_per_layer_input=64, hidden_size=64, intermediate_size=128)
    sizes |= dict(num_attention_heads=2, num_key_value_heads=1, head_dim=32, hidden_size_per_layer_input=0)

    def activations(*layers: str) -> float:
        config = Gemma4TextConfig(
            **sizes, num_hidden_layers=len(layers), layer_types=[*layers], global_head_dim=64
        )
        return memory.estimate(Gemma4ForCausalLM(config), 100, 10_000, 1, False)["activations"]

    one, other = 26 * 64 + 8 * 128 + (10 * 2 + 16) * 32, 26 * 64 + 8 * 128 + (10 * 2 + 16) * 64
    assert activations("full_attention") == pytest.approx(1e-3 * memory.HOLES * other, rel=1e-3)
    mixed = activations("sliding_attention", "full_attention")
    assert mixed == pytest.approx(1e-3 * memory.HOLES * (one + other), rel=1e-3)


def test_fewer_rows_at_once_where_memory_is_short(model, monkeypatch):
    """Each plan fits its machine, makes the same update, and gives up speed before it gives up."""
    seen = []
    for gb in (1.07, 0.64, 0.56, 0.5, 0.47):
        free(monkeypatch, gb)
        plan = memory.plan(model, 500, 8, 1, 1)
        assert plan.rows * plan.accumulation == 8
        seen.append((plan.checkpointing, -plan.rows))
    assert seen == sorted(seen) and len(set(seen)) > 2


def test_what_cannot_fit_is_refused_with_what_to_change(model, monkeypatch):
    free(monkeypatch, 0.001)
    with pytest.raises(
        MemoryError, match="One row of 9000 tokens needs about .* Lower max_seq_length or lora_r"
    ):
        memory.plan(model, 9000, 2, 4, 8)


def test_the_estimate_of_unsloths_published_run():
    """Gemma 3 4B in 4 bits, 2 rows of 2,048 tokens: 13.6 GB on a T4, in the output of Unsloth's notebook."""
    layer = 26 * 2560 + 8 * 10240 + 10 * 2048 + 16 * 1024
    activations = 2 * 2 * 2048 * memory.LAYERS_AT_WORK[0] * layer / 1e9
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
