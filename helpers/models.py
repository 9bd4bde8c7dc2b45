"""Models: which one and why, the one prompt function, loading, and batched generation.

Every text that a model sees in training, evaluation and chat comes from `chat_text`, which is the
model's own chat template and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import local_gemma, runtime

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Free GPU memory in GiB from which "auto" takes a model, largest first. A T4 shows 14.56 GiB; Gemma 3
# 4B in 4 bits peaked at 13.6 GB in Unsloth's published T4 run (length 2048, batch 2).
SAMPLE_ADAPTER = Path(__file__).parent / "samples" / "adapter"
AUTO = [
    (40, "unsloth/gemma-3-27b-it-unsloth-bnb-4bit"),
    (22, "unsloth/gemma-3-12b-it-unsloth-bnb-4bit"),
    (13.8, "unsloth/gemma-3-4b-it-unsloth-bnb-4bit"),
    (6, "unsloth/gemma-3-1b-it-unsloth-bnb-4bit"),
]


@dataclass(frozen=True)
class Choice:
    """A model to load: `name` is for people and files, `source` is what from_pretrained takes."""

    name: str
    source: str
    load_in_4bit: bool
    why: str


def choose(model_name: str, device: runtime.Device, load_in_4bit: bool = True) -> Choice:
    """The model for `model_name` (`auto`, `local-gemma-3-270m`, a folder or a Hub id) on this device.

    4-bit weights need a GPU; without one the weights stay in 16 bits.
    """
    on_gpu = device.kind == "cuda"
    if model_name != "auto":
        why = "as the parameter model_name asks"
    elif on_gpu:
        fitting = [name for memory, name in AUTO if device.memory_gib >= memory]
        if not fitting:
            raise MemoryError(
                f"{device.name} has {device.memory_gib:.1f} GiB free, model_name='auto' needs {AUTO[-1][0]}. "
                f"Restart the session to free the memory, or set model_name={local_gemma.NAME!r}."
            )
        model_name, why = fitting[0], f"the largest that fits {device.memory_gib:.1f} GiB on {device.name}"
    else:
        model_name, why = local_gemma.NAME, f"the one that trains without a GPU ({device.why})"
    four_bit = load_in_4bit and on_gpu and model_name != local_gemma.NAME
    if load_in_4bit and not four_bit:
        why += "; its weights stay in 16 bits" + ("" if on_gpu else ", 4 bits need a GPU")
    return Choice(model_name, source(model_name), four_bit, why)


def source(name: str) -> str:
    """What from_pretrained takes for a model's name: the local Gemma's folder, or the name itself."""
    return str(local_gemma.path()) if name == local_gemma.NAME else name


def text_tokenizer(tokenizer) -> PreTrainedTokenizerBase:
    """The tokenizer itself, also where a multimodal model came with a processor around it."""
    from transformers import ProcessorMixin

    return tokenizer.tokenizer if isinstance(tokenizer, ProcessorMixin) else tokenizer


def chat_text(tokenizer, question: str, answer: str | None = None) -> str:
    """The exact text of a turn, `<bos>` included, from the model's own chat template.

    Without `answer` it ends where the model begins to speak. With it, it ends with the token that
    ends the turn, so that this token is the last thing the model learns to say.
    """
    messages = [{"role": "user", "content": question}]
    if answer is None:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    messages.append({"role": "assistant", "content": answer})
    return tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")


def chat_ids(tokenizer, question: str, answer: str | None = None) -> list[int]:
    """Token ids of `chat_text`; no token is added, since the template already has the `<bos>`."""
    return text_tokenizer(tokenizer)(
        chat_text(tokenizer, question, answer), add_special_tokens=False
    ).input_ids


def find_adapter(adapter_dir: str, work_dir: Path) -> tuple[Path, str]:
    """The adapter's folder and where it comes from: as asked, from notebook 05, or the bundled one.

    Raises FileNotFoundError that names the folder when the one asked for holds no adapter.
    """
    asked, trained = Path(adapter_dir).expanduser(), work_dir / "adapter"
    if adapter_dir and not (asked / "adapter_config.json").exists():
        raise FileNotFoundError(
            f"adapter_dir = {adapter_dir!r} holds no adapter_config.json; run notebook 05 first"
        )
    if adapter_dir:
        return asked, f"{asked}, as the parameter adapter_dir asks"
    if trained.exists():
        return trained, "adapter/ in work_dir, trained by notebook 05"
    return SAMPLE_ADAPTER, f"the bundled sample's, because {trained} does not exist"


def load_tuned(adapter_dir: Path, device: runtime.Device, model_name: str = "auto"):
    """The base model with the adapter on it, ready to generate, and its tokenizer.

    `with model.disable_adapter():` is the base model. With "auto" the adapter's config names the base.
    """
    from unsloth import FastModel  # first, since it patches peft and transformers
    from peft import PeftModel  # isort: skip

    config = json.loads((adapter_dir / "adapter_config.json").read_text())
    choice = choose(config["base_model_name_or_path"] if model_name == "auto" else model_name, device)
    model, tokenizer = FastModel.from_pretrained(choice.source, load_in_4bit=choice.load_in_4bit)
    tokenizer = with_chat_template(tokenizer)
    model = PeftModel.from_pretrained(model, adapter_dir)
    return FastModel.for_inference(model), tokenizer


def with_chat_template(tokenizer):
    """The tokenizer with Gemma 3's chat template; the base models have none of their own."""
    from unsloth.chat_templates import get_chat_template

    return get_chat_template(tokenizer, chat_template="gemma-3")


def stop_ids(tokenizer) -> list[int]:
    """Both tokens that end an answer: `<eos>` and the end of the turn."""
    tokenizer = text_tokenizer(tokenizer)
    return [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]


def generate(
    model, tokenizer, questions: list[str], max_new_tokens: int = 256, batch_size: int = 8, **sampling
) -> list[str]:
    """One answer a question, greedy unless `sampling` says otherwise, `batch_size` at a time.

    Prompts are padded on the left, so that every answer starts right after its own prompt.
    """
    import torch
    from tqdm import tqdm

    plain = text_tokenizer(tokenizer)
    options = sampling or {"do_sample": False, "top_k": None, "top_p": None}
    answers = []
    with tqdm(total=len(questions), unit="answer", mininterval=5) as bar:
        for start in range(0, len(questions), batch_size):
            texts = [chat_text(tokenizer, question) for question in questions[start : start + batch_size]]
            batch = plain(
                texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
            )
            batch = batch.to(model.device)
            with torch.inference_mode():
                output = model.generate(
                    **batch,
                    max_new_tokens=max_new_tokens,
                    eos_token_id=stop_ids(tokenizer),
                    pad_token_id=plain.pad_token_id,
                    **options,
                )
            new_tokens = output[:, batch["input_ids"].shape[1] :]
            answers += [text.strip() for text in plain.batch_decode(new_tokens, skip_special_tokens=True)]
            bar.update(len(texts))
    return answers
