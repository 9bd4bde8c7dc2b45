"""What the benchmarks share: the machine in words, and random models in the shape of real ones."""

from __future__ import annotations

import platform
from datetime import date
from pathlib import Path

import torch

# What the benchmarks' trainers have in common: nothing is saved, and no bar is drawn.
TRAINER = dict(save_strategy="no", report_to="none", disable_tqdm=True, max_length=2048, seed=3407)


def describe() -> dict[str, str]:
    """Date, processor or card with what matters for speed, and the versions of Python and torch."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    special = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    machine = ", ".join([name, f"{torch.get_num_threads()} threads", *special])
    if torch.cuda.is_available():
        machine = f"{torch.cuda.get_device_name(0)}; {machine}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return {"date": date.today().isoformat(), "machine": machine, "versions": versions}


def random_gemma(folder: str, **shape: int) -> str:
    """A random Gemma 3 of the given shape, saved in bf16 with Gemma's tokenizer; returns the folder.

    Memory and speed do not depend on the weights.
    """
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    from helpers.train import local_gemma

    ids = {"bos_token_id": 2, "eos_token_id": [1, 106], "pad_token_id": 0}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    Gemma3ForCausalLM(Gemma3TextConfig(head_dim=256, **shape, **ids)).save_pretrained(folder)
    torch.set_default_dtype(before)
    AutoTokenizer.from_pretrained(local_gemma.path()).save_pretrained(folder)
    return folder


SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]


def tiny_tokenizer():
    """A byte-level BPE tokenizer of 512 tokens with Gemma's special tokens and template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from helpers.train import local_gemma

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=SPECIAL, initial_alphabet=alphabet)
    made.train_from_iterator(["what do customers of this company say about their bikes?"] * 3, trainer)
    made.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.chat_template = local_gemma.CHAT_TEMPLATE
    return tokenizer
