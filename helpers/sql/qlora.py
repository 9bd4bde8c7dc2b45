"""QLoRA with plain Transformers, TRL, PEFT and bitsandbytes: the training of notebook 09.

    accelerate launch -m helpers.sql.qlora --dataset sample --num_train_epochs 3      # one process per GPU
    accelerate launch --config_file helpers/sql/fsdp_qlora.yaml -m helpers.sql.qlora …    # one model over all GPUs
    accelerate launch -m helpers.sql.qlora --work_dir work --dataset work/qa_dataset      # the pairs of notebook 04

The notebooks 09 and, for pairs, 05 take the same steps one by one, and go on from the checkpoints of such a run. For
SQL the defaults are those of Google's guide (ai.google.dev/gemma/docs/core/huggingface_text_finetune_qlora).
"""

import dataclasses
import os
from pathlib import Path

from helpers.core import hub, runtime, workdir
from helpers.sql import data
from helpers.train import checkpoints, cpu_loss, local_gemma, memory, models, progress, training
from helpers.train import data as qa_data

FOLDER = "text_to_sql"  # in work_dir
# Values for options that are 0, "auto" or None: (on a GPU: the guide's, without one: what two cores do in a quarter
# of an hour in bfloat16, docs/evidence.md). There dropout would take an eighth of a step, the tables' rows two thirds
# of a prompt; at a constant rate so short a training depends on its last step: 14 of 60 right at step 240, 9 at 300.
DEFAULTS = {
    "context": ("all", "schema"),
    "model_name": ("unsloth/gemma-3-1b-pt", "auto"),  # google/gemma-3-1b-pt without its gate; the local Gemma
    "max_examples": (500, 100),
    "save_steps": (0, 375),  # 0: once an epoch
    "lora_dropout": (0.05, 0.0),
    "learning_rate": (2e-4, 1.4e-3),
    "lr_scheduler_type": ("constant_with_warmup", "linear"),
    "max_steps": (-1, 750),  # -1: num_train_epochs decides
    "per_device_train_batch_size": (1, 2),
    "gradient_accumulation_steps": (4, 1),
}
# The same for pairs, as notebook 05 has them, and its other values where they are not those of SQL.
PAIR_DEFAULTS = {"learning_rate": (2e-4, 1e-3), "max_steps": (-1, 320)}
PAIR_DEFAULTS |= {"per_device_train_batch_size": (2, 1), "gradient_accumulation_steps": (4, 1)}
PAIRS = dict(dataset="auto", open_book=True, max_seq_length=2048, lora_r=8, lora_alpha=8, lora_dropout=0.0)
PAIRS |= dict(lr_scheduler_type="linear", warmup_ratio=5, max_grad_norm=1.0)  # 5 steps
PAIR_SETTINGS = "max_seq_length lora_r lora_alpha learning_rate num_train_epochs max_steps open_book seed"
# Options that do not change what is learned of SQL, or that do so only as their product.
ASIDE = "work_dir resume checkpoint_repo max_examples per_device_train_batch_size gradient_accumulation_steps".split()


@dataclasses.dataclass(frozen=True)
class Options:
    """The guide's choices, the flags of the command and of the notebook. 0, "auto" and None: see DEFAULTS."""

    work_dir: str = ""
    dataset: str = "sample"
    context: str = "auto"
    model_name: str = "auto"
    train_size: int = 10_000
    test_size: int = 2_500
    group_by: str = "schema"
    max_seq_length: int = 512
    load_in_4bit: bool = True
    lora_r: int = 16
    lora_alpha: int = 16
    lora_dropout: float | None = None
    train_embeddings: bool = False
    learning_rate: float = 0.0
    lr_scheduler_type: str = "auto"
    warmup_ratio: float = 0.03
    max_grad_norm: float = 0.3
    num_train_epochs: float = 3
    max_steps: int = 0
    per_device_train_batch_size: int = 0
    gradient_accumulation_steps: int = 0
    gradient_checkpointing: bool = True
    save_steps: int = 0
    max_examples: int = 0
    seed: int = 3407
    resume: bool = True
    checkpoint_repo: str = ""
    open_book: bool | None = None  # None for SQL, of pairs whether their context is shown

    @property
    def pairs(self) -> bool:
        """Whether these are for notebook 05's question–answer pairs; then what is SQL's is not used."""
        return self.open_book is not None


def for_device(options: Options, device: runtime.Device) -> tuple[Options, str]:
    """The options with the device's value in place of each 0, "auto" and None, and what was put there."""
    defaults = PAIR_DEFAULTS if options.pairs else DEFAULTS
    left = [name for name in defaults if getattr(options, name) == getattr(Options, name)]
    filled = {name: defaults[name][device.kind == "cpu"] for name in left}
    listed = ", ".join(f"{name} = {filled[name]}" for name in left if filled[name] != getattr(options, name))
    why = f"{listed or 'nothing was left to it'}: for a {device.kind.upper()} device"
    return dataclasses.replace(options, **filled), why


def load(choice: models.Choice, dtype: str, device: runtime.Device):
    """Model and tokenizer; the weights as NF4 with double quantization where the choice has 4 bits."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import ModelConfig, get_quantization_config

    hub.log_in()
    # Stored and computed alike, since FSDP shards only what has one dtype.
    nf4 = dict(use_bnb_nested_quant=True, dtype=dtype, bnb_4bit_quant_storage=dtype)
    quantized = get_quantization_config(ModelConfig(load_in_4bit=choice.load_in_4bit, **nf4))
    options = dict(dtype=dtype, attn_implementation="sdpa", quantization_config=quantized)
    if device.kind == "cuda" and os.environ.get("ACCELERATE_USE_FSDP") != "true":
        options["device_map"] = {"": int(os.environ.get("LOCAL_RANK", 0))}  # a whole model on each GPU
    model = AutoModelForCausalLM.from_pretrained(choice.source, **options)
    tokenizer = AutoTokenizer.from_pretrained(choice.source)
    tokenizer.chat_template = tokenizer.chat_template or local_gemma.CHAT_TEMPLATE  # base models have none
    return model, tokenizer


def lora(options, tokens: list[int] = ()):
    """A LoraConfig for every linear layer of the language model, not of images; `tokens` get rows of their own."""
    from peft import LoraConfig

    sizes = dict(r=options.lora_r, lora_alpha=options.lora_alpha, lora_dropout=options.lora_dropout)
    whole = ["lm_head", "embed_tokens"] if options.train_embeddings else None
    where = dict(target_modules=models.LANGUAGE_LAYERS, modules_to_save=whole, task_type="CAUSAL_LM")
    rows = {"embed_tokens": [*tokens]} if tokens else None
    return LoraConfig(**sizes, **where, trainable_token_indices=rows)


def plan(options: Options, model, longest: int) -> memory.Plan:
    """Rows at once and batches per update in each process, together the update that was asked for, or ValueError."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    share, rest = divmod(rows_per_update(options), processes)
    rows = min(options.per_device_train_batch_size, share)
    if rest or share % rows:
        raise ValueError(
            f"per_device_train_batch_size × gradient_accumulation_steps = {rows_per_update(options)} rows per update "
            f"cannot be shared out among {processes} processes: use a multiple of {processes * rows}."
        )
    if processes == 1 and not options.train_embeddings:
        return memory.plan(model, longest, rows, share // rows, options.lora_r)
    why = f"{processes} × {rows} rows at once × {share // rows}, as asked"
    return memory.Plan(rows, share // rows, options.gradient_checkpointing, {}, why)


def rows_per_update(options: Options) -> int:
    return options.per_device_train_batch_size * options.gradient_accumulation_steps


def run_folder(options: Options, choice: models.Choice, train_dataset) -> Path:
    """The checkpoints of this training: the same for one process and for several, for the notebook and the command."""
    given = dataclasses.asdict(options) | {
        "packing": True
    }  # which was an option once, and named the runs of SQL
    names = PAIR_SETTINGS.split() if options.pairs else given.keys() - {*ASIDE, "open_book"}
    settings = {name: given[name] for name in names}
    settings |= {"model_name": choice.name, "load_in_4bit": choice.load_in_4bit}
    settings |= {"rows_per_update": rows_per_update(options)}
    place = Path(options.work_dir, "" if options.pairs else FOLDER)
    return checkpoints.folder(place, settings, train_dataset)


def config(options: Options, plan: memory.Plan, run: Path, dtype: str, device: runtime.Device):
    """TRL's SFTConfig: the guide's hyper-parameters under today's names, for pairs those of notebook 05."""
    from trl import SFTConfig

    cpu, steps = device.kind == "cpu", options.save_steps
    when, every = "steps" if steps else "epoch", steps or 500
    same = ("num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "max_grad_norm", "seed")
    given = {name: getattr(options, name) for name in same} | {"optim": "adamw_torch_fused"}
    given |= dict(warmup_steps=options.warmup_ratio)  # below 1 it is a share of all steps
    given |= dict(per_device_train_batch_size=plan.rows, per_device_eval_batch_size=plan.rows)
    given |= dict(gradient_accumulation_steps=plan.accumulation, gradient_checkpointing=plan.checkpointing)
    given |= dict(max_length=options.max_seq_length, packing=False)  # packed rows would see each other
    given |= dict(pad_to_multiple_of=cpu_loss.PAD_TO_MULTIPLE_OF if cpu else None, completion_only_loss=True)
    given |= dict(use_cpu=cpu, bf16=dtype == "bfloat16", ddp_find_unused_parameters=False)
    given |= dict(output_dir=str(run), save_strategy=when, save_steps=every, save_total_limit=2)
    given |= dict(eval_strategy=when, eval_steps=every, include_num_input_tokens_seen="non_padding")
    given |= dict(logging_steps=1, logging_nan_inf_filter=False, report_to="tensorboard", disable_tqdm=True)
    if options.pairs:
        given |= dict(weight_decay=0.01, optim=given["optim"] if cpu else "adamw_8bit")
        given |= dict(load_best_model_at_end=True, metric_for_best_model="eval_loss")
        given |= dict(restore_callback_states_from_checkpoint=True)  # early stopping's patience, too
    return SFTConfig(**given)


def make_trainer(options: Options, model, tokenizer, train_dataset, validation, config):
    """TRL's trainer with the adapter, which trains and carries the rows of turn markers that a base never trained."""
    from transformers import set_seed
    from trl import SFTTrainer

    set_seed(options.seed)  # the adapter's first values
    tokens, stops = [], models.stop_ids(tokenizer)
    if not options.train_embeddings and training.lookalikes(model, stops) > training.MANY:
        user = models.turns(tokenizer).user
        start, newline = (tokenizer(text, add_special_tokens=False).input_ids[0] for text in (user, "\n"))
        tokens = [start, stops[-1]]
        local_gemma.begin_anew(model, {stops[-1]: stops[0], start: newline})
    rows = {"train_dataset": train_dataset, "eval_dataset": validation}
    trainer = SFTTrainer(model, config, **rows, processing_class=tokenizer, peft_config=lora(options, tokens))
    if not config.bf16:  # TRL makes the adapter of a 4-bit model bfloat16, also where there is none
        for weight in [weight for weight in trainer.model.parameters() if weight.requires_grad]:
            weight.data = weight.data.float()
    if not (options.train_embeddings or tokens):  # a loss without logits, where there is no GPU
        cpu_loss.train_without_logits(trainer)
    return trainer


def train(trainer, folder: Path, last: Path | None, plan: memory.Plan) -> memory.Plan:
    """`training.train`; in bfloat16 without PEFT's float32 copies of the adapter's inputs, which would fill memory."""
    from peft.helpers import disable_input_dtype_casting

    with disable_input_dtype_casting(trainer.model, active=trainer.args.bf16):
        return training.train(trainer, folder, last, plan)


def as_trained(trainer, rows) -> list[dict]:
    """`input_ids` and `labels` of each row as the trainer's own collator makes them, for the check; no padding."""
    batches, padding = (trainer.data_collator([row]) for row in rows), trainer.processing_class.pad_token_id
    names = ("input_ids", "labels")
    return [
        {name: batch[name][batch["input_ids"] != padding].tolist() for name in names} for batch in batches
    ]


def sides(options: Options, work_dir: Path) -> list[list[dict]]:
    """What to train on and what to watch, as pairs of a question and an answer."""
    if options.pairs:
        both, _ = qa_data.load_qa_dataset(options.dataset, work_dir)
        return [[*both["train"]], [*both["validation"]]]
    rows, _ = data.load(options.dataset, options.context)
    parts = data.split(rows, options.train_size, options.test_size, options.group_by, options.seed)
    return [[data.pair(row) for row in part] for part in parts[:2]]


def run(options: Options) -> None:
    """Notebook 09 up to the adapter, in one process of several; of pairs the checkpoints, from which 05 goes on."""
    from transformers import EarlyStoppingCallback

    work_dir = workdir.open_work_dir(options.work_dir)
    device = runtime.device(work_dir)
    options, _ = for_device(dataclasses.replace(options, work_dir=str(work_dir)), device)
    choice = models.choose(options.model_name, device, options.load_in_4bit)
    dtype, _ = models.pick_dtype(device)
    model, tokenizer = load(choice, dtype, device)
    how = tokenizer, options.max_seq_length, options.open_book
    (rows, too_long), (validation, _) = (data.masked(side, *how) for side in sides(options, work_dir))
    if options.pairs:
        training.check_end_of_turn(model, tokenizer)
        how_long = options.num_train_epochs, options.max_steps
        steps = training.planned_steps(len(rows), rows_per_update(options), *how_long)
        every = min(80, max(10, steps // 3)) if device.kind == "cpu" else min(50, max(10, steps // 6))
        options = dataclasses.replace(options, save_steps=every)
    batches = plan(options, model, max(map(len, rows["input_ids"])))
    folder = run_folder(options, choice, rows)
    settings = config(options, batches, folder, dtype, device)
    trainer = make_trainer(options, model, tokenizer, rows, validation, settings)
    if trainer.is_world_process_zero():
        print(f"{len(rows)} rows fit, {len(too_long)} are too long and left out")
        training.check_training_examples(as_trained(trainer, rows), tokenizer, rows=len(rows))
        progress.show(trainer)
        if options.checkpoint_repo:
            checkpoints.fetch(folder, options.checkpoint_repo)
    trainer.accelerator.wait_for_everyone()
    if options.pairs:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=3))
    checkpoints.keep(trainer, folder, options.checkpoint_repo)
    train(trainer, folder, checkpoints.newest(folder) if options.resume else None, batches)
    if options.pairs:
        trainer.accelerator.print("Run notebook 05 with the same parameters: it goes on from here")
        return
    trainer.model.peft_config["default"].base_model_name_or_path = choice.name
    trainer.save_model(str(work_dir / FOLDER / "adapter"))  # by all processes, where the model is sharded


if __name__ == "__main__":
    from transformers import HfArgumentParser

    parser = HfArgumentParser(Options, prog="python -m helpers.sql.qlora")
    if data.has_pairs(parser.parse_known_args()[0].dataset):
        parser.set_defaults(**PAIRS)
    run(*parser.parse_args_into_dataclasses())
