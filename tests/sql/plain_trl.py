"""QLoRA with plain TRL: the options' meaning today, several processes, resuming, merging.

Run by test_sql_training.py in a process of its own, since Unsloth, once imported, changes TRL for the rest of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.core import files, runtime
from helpers.publish import export
from helpers.sql import data, qlora
from helpers.train import memory, models, progress, training
from tests.conftest import REPOSITORY

CPU = runtime.Device("cpu", "a CPU", 8.0, 10.0, "test")
T4 = runtime.Device("cuda", "Tesla T4", 14.0, 50.0, "test", (7, 5))
L4 = runtime.Device("cuda", "L4", 22.0, 50.0, "test", (8, 9))
PLAN = memory.Plan(4, 1, False, {}, "test")
SMALL = {"max_seq_length": 2048, "lora_r": 1, "lora_dropout": 0.0, "learning_rate": 1e-2, "max_steps": 6}
SMALL |= {"lr_scheduler_type": "constant_with_warmup", "gradient_accumulation_steps": 4}
SMALL |= {"per_device_train_batch_size": 1}


def prepare(model_folder: Path, work_dir: Path, four_bit: bool = False, **options):
    """A trainer on rows of the sample, with what belongs to it: (trainer, tokenizer, options, choice, rows)."""
    options = qlora.Options(work_dir=str(work_dir), model_name=str(model_folder), **(SMALL | options))
    choice = models.Choice("tiny", str(model_folder), four_bit, "test")
    model, tokenizer = qlora.load(choice, "float32", CPU)
    rows = data.load("sample")[0][:60]
    train, _ = data.tokenize(rows[:40], tokenizer, options.max_seq_length)
    validation, _ = data.tokenize(rows[40:44], tokenizer, options.max_seq_length)
    plan = qlora.plan(options, model, 1100)
    run = qlora.run_folder(options, choice, train)
    config = qlora.config(options, plan, run, "float32", CPU)
    trainer = qlora.make_trainer(options, model, tokenizer, train, validation, config)
    return trainer, tokenizer, options, choice, rows


def launch(*command: str, work_dir: Path, model: Path, **options) -> tuple[list[float], str]:
    """Run the command as a user would; the losses of its run and the name of its folder."""
    flags = {"work_dir": work_dir, "model_name": model, "train_size": 80, "test_size": 20, **SMALL, **options}
    done = subprocess.run(
        [
            *command,
            "-m",
            "helpers.sql.qlora",
            *(str(part) for f, v in flags.items() for part in (f"--{f}", v)),
        ],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (finished,) = (work_dir / qlora.FOLDER).glob("checkpoints/*/finished.json")
    log = json.loads(finished.read_text())["log_history"]
    return [line["loss"] for line in log if "loss" in line], finished.parent.name


def test_two_processes_give_the_loss_curve_of_one(tmp_path, tiny_gemma):
    """The same rows in the same updates, in the same folder, so that a notebook goes on from either."""
    one = launch(sys.executable, work_dir=tmp_path / "one", model=tiny_gemma)
    accelerate = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
    two = launch(*accelerate, work_dir=tmp_path / "two", model=tiny_gemma)
    assert one[1] == two[1] and len(one[0]) == 6
    assert two[0] == pytest.approx(one[0], rel=0.01)
    assert one[0][-1] < 0.97 * one[0][0]
    for name in ("one", "two"):
        adapter = tmp_path / name / qlora.FOLDER / "adapter"
        assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
            tiny_gemma
        )
        assert (adapter / "adapter_model.safetensors").exists()
    (newest,) = (tmp_path / "two" / qlora.FOLDER).glob("checkpoints/*/checkpoint-6")
    sealed = json.loads((newest / "complete.json").read_text())
    assert {"rng_state_0.pth", "rng_state_1.pth", "adapter_model.safetensors"} <= sealed.keys()


def test_the_command_and_the_notebook_name_the_same_run_alike(tmp_path):
    """The command reads --num_train_epochs 3 as 3.0, and two GPUs take half of the batches each."""
    from datasets import Dataset

    choice, rows = models.Choice("tiny", "tiny", False, "test"), Dataset.from_list([{"input_ids": [1]}])
    one = {"num_train_epochs": 3, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    two = {"num_train_epochs": 3.0, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    other = {"num_train_epochs": 3, "lora_r": 8}
    folders = [qlora.run_folder(qlora.Options(**given), choice, rows) for given in (one, two, other)]
    assert folders[0] == folders[1] != folders[2]


def test_an_update_that_cannot_be_shared_out_is_refused(monkeypatch):
    four = qlora.Options(per_device_train_batch_size=1, gradient_accumulation_steps=4)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(
        ValueError, match="= 4 rows per update cannot be shared out among 3 processes.*multiple of 3"
    ):
        qlora.plan(four, None, 100)
    monkeypatch.setenv("WORLD_SIZE", "2")
    plan = qlora.plan(four, None, 100)
    assert (plan.rows, plan.accumulation, plan.checkpointing) == (1, 2, True)


def test_the_adapter_of_a_4_bit_model_is_float32_where_nothing_computes_in_bfloat16(tmp_path, tiny_gemma):
    import torch

    trainer, *_ = prepare(tiny_gemma, tmp_path, four_bit=True)
    assert {w.dtype for w in trainer.model.parameters() if w.requires_grad} == {torch.float32}
    assert trainer.model.get_base_model().config.quantization_config.bnb_4bit_use_double_quant


def test_the_loss_without_logits_is_trls_own(tmp_path, tiny_gemma, monkeypatch):
    ours, *_ = prepare(tiny_gemma, tmp_path / "ours", max_steps=3)
    monkeypatch.setattr(qlora.cpu_loss, "train_without_logits", lambda trainer: None)
    theirs, *_ = prepare(tiny_gemma, tmp_path / "theirs", max_steps=3)
    losses, tokens, evaluated = [], [], []
    for trainer in (ours, theirs):
        trainer.train()
        losses.append([row["loss"] for row in progress.losses(trainer)])
        tokens.append(progress.tokens_seen(trainer))
        evaluated.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert evaluated[0] == pytest.approx(evaluated[1], rel=1e-4)
    assert tokens[0] == tokens[1] > 0


@pytest.mark.parametrize("bf16", [True, False])
def test_the_adapter_gets_no_float32_copies_in_bfloat16_and_only_while_it_trains(
    tmp_path, tiny_gemma, monkeypatch, bf16
):
    from peft.tuners.lora import LoraLayer

    trainer, *_ = prepare(tiny_gemma, tmp_path)
    trainer.args.bf16 = bf16
    layers, seen = [layer for layer in trainer.model.modules() if isinstance(layer, LoraLayer)], []
    monkeypatch.setattr(
        training, "train", lambda *_: seen.extend(layer.cast_input_dtype_enabled for layer in layers)
    )
    qlora.train(trainer, tmp_path, None, None)
    assert layers and seen == [not bf16] * len(layers)
    assert all(layer.cast_input_dtype_enabled for layer in layers)


def test_trained_again_nothing_is_trained_and_the_evidence_holds(tmp_path, tiny_gemma):
    trainer, tokenizer, options, choice, rows = prepare(tiny_gemma, tmp_path)
    run = Path(trainer.args.output_dir)
    training.checkpoints.keep(trainer, run)
    training.train(trainer, run, None, PLAN)
    adapter = tmp_path / "adapter"
    losses = [row["loss"] for row in progress.losses(trainer)]
    canary = tuple(data.pair(rows[0]).values())
    proof = training.save_adapter(trainer.model, tokenizer, adapter, choice.name, losses, canary)
    assert proof["loss of a training answer, tuned"] < proof["loss of a training answer, base"]
    again, *_ = prepare(tiny_gemma, tmp_path)
    training.train(again, run, training.checkpoints.newest(run), PLAN)
    assert [row["loss"] for row in progress.losses(again)] == losses
    training.save_adapter(again.model, tokenizer, tmp_path / "again", choice.name, losses, canary)
    name = "adapter_model.safetensors"
    assert files.fingerprint(tmp_path / "again" / name) == files.fingerprint(adapter / name)


@pytest.fixture
def untrained(tmp_path, tiny_gemma) -> Path:
    """The tiny model with the fault of a base model: the row of the turn's end lies among those of other tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_gemma)
    config = AutoConfig.from_pretrained(tiny_gemma, tie_word_embeddings=True)  # as Gemma does
    model = AutoModelForCausalLM.from_config(config)
    rows, end = model.get_input_embeddings().weight.data, models.stop_ids(tokenizer)[-1]
    rows[-20:] = rows[end] + 0.05 * rows[end].norm() * torch.nn.functional.normalize(
        torch.randn(20, rows.shape[1])
    )
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "untrained")
    return tmp_path / "untrained"


def test_markers_that_a_base_model_never_trained_are_trained_and_travel_with_the_adapter(tmp_path, untrained):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    trainer, tokenizer, _, choice, rows = prepare(untrained, tmp_path, max_steps=12)
    stops = models.stop_ids(tokenizer)
    assert training.lookalikes(AutoModelForCausalLM.from_pretrained(untrained), stops) == 20
    assert training.check_end_of_turn(trainer.model, tokenizer) == {"look-alikes of <end_of_turn>": 0}
    trainer.train()
    losses = [row["loss"] for row in progress.losses(trainer)]
    canary = tuple(data.pair(rows[0]).values())
    training.save_adapter(trainer.model, tokenizer, tmp_path / "adapter", choice.name, losses, canary)
    questions = [data.pair(row)["question"] for row in rows[:8]]
    tuned = models.generate_ids(trainer.model, tokenizer, questions, 8)
    stock = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(untrained), tmp_path / "adapter")
    assert models.generate_ids(stock, tokenizer, questions, 8) == tuned
    export.merge(stock, tokenizer, tmp_path / "merged", "float32")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert models.generate_ids(merged, tokenizer, questions, 8) == tuned


def test_the_collators_rows_pass_the_check_of_stage_05(tmp_path, tiny_gemma, capsys):
    trainer, tokenizer, _, _, rows = prepare(tiny_gemma, tmp_path)
    dataset, _ = data.tokenize(rows, tokenizer, 2048)
    report = training.check_training_examples(qlora.as_trained(trainer, dataset), tokenizer, rows=60)
    assert f"⟦{rows[0]['sql']}<end_of_turn>⟧" in capsys.readouterr().out
    assert report["supervised tokens"] == sum(map(sum, dataset["completion_mask"]))


def test_the_merged_model_writes_what_the_adapter_writes(tmp_path, tiny_gemma):
    from transformers import pipeline

    copy = shutil.copytree(tiny_gemma, tmp_path / "model")
    files.write_json(copy / "generation_config.json", {"eos_token_id": 1})  # as a base model has it
    trainer, tokenizer, _, _, rows = prepare(copy, tmp_path, max_steps=12)
    trainer.train()
    questions = [data.pair(row)["question"] for row in rows[:20]]
    tuned = models.generate(trainer.model, tokenizer, questions, 8)
    with trainer.model.disable_adapter():
        base = models.generate(trainer.model, tokenizer, questions, 8)
    export.merge(trainer.model, tokenizer, tmp_path / "merged", "float32")
    written = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "generation_config.json", "chat_template.jinja"} <= written
    ends = json.loads((tmp_path / "merged" / "generation_config.json").read_text())["eos_token_id"]
    assert ends == models.stop_ids(tokenizer) and len(set(ends)) == 2
    generate = pipeline("text-generation", model=str(tmp_path / "merged"), dtype="auto")  # as in notebook 09
    generate.tokenizer.padding_side = "left"
    generate.generation_config.update(max_new_tokens=8, max_length=None, **models.GREEDY)
    chats = [[{"role": "user", "content": question}] for question in questions]
    replies = generate(chats, batch_size=8, return_full_text=False)
    assert [reply["generated_text"].strip() for (reply,) in replies] == tuned != base


def test_matrices_that_were_trained_whole_are_merged_as_trained(tmp_path, tiny_gemma):
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_gemma)
    model = get_peft_model(
        model, qlora.lora(qlora.Options(train_embeddings=True, lora_r=1, lora_dropout=0.0))
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".modules_to_save." in name:
                weight.add_(1)
    export.merge(model, AutoTokenizer.from_pretrained(tiny_gemma), tmp_path / "merged", "float32")
    merged, ids = AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), torch.tensor([[2, 7, 9]])
    assert torch.allclose(merged(ids).logits, model(ids).logits, atol=1e-4)


# The table of options in docs/text-to-sql.md, row by row.


def sft_config(tmp_path, **options):
    from trl import SFTConfig

    return SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **options)


@pytest.mark.parametrize("option", [{"max_seq_length": 512}, {"warmup_ratio": 0.03}])
def test_two_options_of_the_guide_are_no_longer_taken(tmp_path, option):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(option))}'"):
        sft_config(tmp_path, **option)


def test_warm_up_is_a_share_of_the_steps_and_constant_ignores_it(tmp_path):
    import torch
    from transformers import get_scheduler

    config = sft_config(tmp_path, warmup_steps=0.03)
    assert config.get_warmup_steps(600) == 18
    for name, first in (("constant", 1.0), ("constant_with_warmup", 0.0)):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        get_scheduler(name, optimizer, num_warmup_steps=18, num_training_steps=600)
        assert optimizer.param_groups[0]["lr"] == first
    assert sft_config(tmp_path, fp16=True).fp16  # accepted in silence


def stock_trainer(tiny_gemma, tmp_path, rows, **options):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTTrainer

    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_gemma),
        processing_class=AutoTokenizer.from_pretrained(tiny_gemma),
        args=sft_config(tmp_path, max_length=64, **options),
        train_dataset=Dataset.from_list(rows),
    )


def test_trl_cuts_long_rows_learns_questions_and_ignores_dataset_kwargs(tmp_path, tiny_gemma):
    messages = [{"role": "user", "content": "word " * 60}, {"role": "assistant", "content": "SELECT 1;"}]
    kwargs = {"add_special_tokens": False, "append_concat_token": True}
    trainer = stock_trainer(tiny_gemma, tmp_path, [{"messages": messages}], dataset_kwargs=kwargs)
    ids = trainer.train_dataset[0]["input_ids"]
    batch = trainer.data_collator([trainer.train_dataset[0]])
    assert len(ids) == 64 and "SELECT" not in trainer.processing_class.decode(
        ids
    )  # the SQL is what is cut off
    assert (batch["labels"] != -100).all()
    assert ids[:2].count(trainer.processing_class.bos_token_id) == 1 and ids[-1] != 1


def test_packing_without_flash_attention_lets_rows_see_each_other(tmp_path, tiny_gemma, caplog, monkeypatch):
    import logging

    monkeypatch.setattr(logging.getLogger("trl"), "propagate", True)
    trainer = stock_trainer(tiny_gemma, tmp_path, [{"text": "a b"}, {"text": "c d"}], packing=True)
    assert len(trainer.train_dataset) == 1 and "cross-contamination" in caplog.text
    options, _ = qlora.for_device(qlora.Options(), CPU)
    assert not qlora.config(options, PLAN, tmp_path, "float32", CPU).packing


def test_never_float16():
    assert models.pick_dtype(T4)[0] == "float32" and models.pick_dtype(L4)[0] == "bfloat16"
    assert models.pick_dtype(CPU)[0] in ("float32", "bfloat16")


def test_a_templated_text_gets_a_second_bos_from_the_pipeline_and_a_chat_does_not(tiny_gemma):
    from transformers import pipeline
    from transformers.utils.chat_template_utils import Chat

    generate = pipeline("text-generation", model=str(tiny_gemma))
    tokenizer = generate.tokenizer
    texts = (models.chat_text(tokenizer, "Why?"), Chat([{"role": "user", "content": "Why?"}]))
    counts = [
        generate.preprocess(text)["input_ids"][0].tolist().count(tokenizer.bos_token_id) for text in texts
    ]
    assert counts == [2, 1]


def test_what_is_left_to_the_device_is_the_guides_on_a_gpu_and_less_without():
    gpu, why = qlora.for_device(qlora.Options(max_examples=9), T4)
    guide = {"context": "all", "learning_rate": 2e-4, "max_steps": -1, "save_steps": 0, "max_examples": 9}
    guide |= {"lr_scheduler_type": "constant_with_warmup", "model_name": "unsloth/gemma-3-1b-pt"}
    guide |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "lora_dropout": 0.05}
    assert guide.items() <= dataclasses.asdict(gpu).items()
    assert why.startswith("context = all, model_name = unsloth/gemma-3-1b-pt, lora_dropout = 0.05, learning")
    assert why.endswith(": for a CUDA device") and "save_steps" not in why
    assert qlora.for_device(qlora.Options(lora_dropout=0), T4)[0].lora_dropout == 0
    cpu, why = qlora.for_device(qlora.Options(context="all"), CPU)
    assert "lora_dropout = 0.0" in why and "model_name" not in why
    assert (cpu.lr_scheduler_type, cpu.context, cpu.model_name) == ("linear", "all", "auto")
    assert cpu.max_steps > 0 and cpu.save_steps > 0 and qlora.rows_per_update(cpu) == 2
    assert "nothing was left to it" in qlora.for_device(cpu, CPU)[1]


def test_pairs_are_trained_with_notebook_05s_optimizer_and_stopping(tmp_path):
    """Its cell: linear, five steps of warm-up, decay 0.01, 8 bits on a GPU; the best checkpoint is kept."""
    for device, optimizer in ((T4, "adamw_8bit"), (CPU, "adamw_torch_fused")):
        options, _ = qlora.for_device(qlora.Options(**qlora.PAIRS, save_steps=10), device)
        made = qlora.config(options, PLAN, tmp_path, "float32", device)
        found = (made.optim, made.lr_scheduler_type, made.warmup_steps, made.weight_decay, made.max_grad_norm)
        assert found == (optimizer, "linear", 5, 0.01, 1.0)
        assert made.load_best_model_at_end and made.restore_callback_states_from_checkpoint


def test_the_images_layers_of_a_large_gemma_get_no_adapter(tmp_path):
    """Gemma 3 from 4B on also sees. Its image layers get no text, so their matrices would stay at zero."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

    text = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    model = get_peft_model(model, qlora.lora(qlora.Options(lora_dropout=0.0)))
    adapted = [name for name, weight in model.named_parameters() if ".lora_B." in name]
    assert len(adapted) == 14 and not any("vision" in name or "projector" in name for name in adapted)
    model.train()
    ids = torch.arange(8)[None]
    model(input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids)).loss.backward()
    assert all(weight.grad.any() for name, weight in model.named_parameters() if ".lora_B." in name)


def test_trained_embeddings_make_the_adapter_as_large_as_the_model(tiny_gemma):
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_gemma)
    embeddings = 2 * model.get_input_embeddings().weight.numel()
    model = get_peft_model(
        model, qlora.lora(qlora.Options(train_embeddings=True, lora_r=1, lora_dropout=0.0))
    )
    assert model.get_nb_trainable_parameters()[0] > embeddings


def test_the_sharding_config_is_read_by_accelerate_and_every_option_known():
    import yaml
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    path = REPOSITORY / "helpers" / "sql" / "fsdp_qlora.yaml"
    config = load_config_from_file(str(path))
    assert config.distributed_type == "FSDP" and config.mixed_precision == "bf16"
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(yaml.safe_load(path.read_text())["fsdp_config"]) <= known
