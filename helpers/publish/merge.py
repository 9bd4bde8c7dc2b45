"""Adapter and base model as one model, with plain PEFT (09): for servers that take no adapters.

print(merge.room(parameters, folder))
merge.merge(choice, work_dir / "text_to_sql" / "adapter", folder)
merge.answers(folder, questions)             # loaded again, through transformers' pipeline
"""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

from helpers.core import files
from helpers.train import models

BYTES = {"bfloat16": 2, "float32": 4}  # a weight
SHARE = 1.2  # times the weights is what a merge takes: a matrix and its sum, and what is being written


def free_memory() -> None:
    """Give back what deleted models held, so that there is room for the next."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def room(parameters: int, folder: Path, dtype: str = "bfloat16") -> str:
    """What merging so many weights takes and what is free, for people.

    Raises MemoryError or OSError that names both, where it does not fit.
    """
    import psutil

    needs, free = SHARE * BYTES[dtype] * parameters / 1e9, psutil.virtual_memory().available / 1e9
    saves, disk = BYTES[dtype] * parameters / 1e9, shutil.disk_usage(folder).free / 1e9
    if needs > free:
        raise MemoryError(
            f"Merging {parameters:,} weights takes {needs:.1f} GB of memory, and {free:.1f} GB are free. Restart the "
            "session and run the notebook again, which trains nothing twice; or stay with the adapter, which needs "
            "no merge."
        )
    if saves > disk:
        raise OSError(
            f"The merged model takes {saves:.1f} GB of disk, and {disk:.1f} GB are free in {folder}. Free some, "
            "or move work_dir."
        )
    return f"It takes {needs:.1f} of {free:.1f} GB of memory and {saves:.1f} of {disk:.1f} GB of disk"


def merge(choice: models.Choice, adapter_dir: Path, folder: Path, dtype: str = "bfloat16") -> list[str]:
    """Add the adapter to the base model's weights and save them in shards of 2 GB; the files it wrote.

    Merged into 4-bit weights, their rounding would stay: the base is loaded anew, in `dtype`, on the CPU.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(choice.source, dtype=getattr(torch, dtype))
    model = PeftModel.from_pretrained(base, adapter_dir).merge_and_unload(safe_merge=True)
    tokenizer = AutoTokenizer.from_pretrained(adapter_dir)
    model.generation_config.eos_token_id = models.stop_ids(tokenizer)  # <eos> and <end_of_turn>
    with files.whole_folder(folder) as scratch:
        model.save_pretrained(scratch, max_shard_size="2GB")
        tokenizer.save_pretrained(scratch)
    return sorted(file.name for file in folder.iterdir())


def adapter_answers(
    choice: models.Choice,
    adapter_dir: Path,
    questions: list[str],
    max_new_tokens: int = 256,
    dtype: str = "bfloat16",
) -> list[str]:
    """Greedy answers of base and adapter side by side, in the numbers of the merged model, to compare with it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(choice.source, dtype=getattr(torch, dtype))
    model = PeftModel.from_pretrained(base, adapter_dir).eval()
    return models.generate(model, AutoTokenizer.from_pretrained(adapter_dir), questions, max_new_tokens)


def answers(folder: Path, questions: list[str], max_new_tokens: int = 256, batch_size: int = 8) -> list[str]:
    """Greedy answers of the model in `folder` through transformers' pipeline, loaded as any user would.

    The questions go in as chats. As a text from the chat template, each would get a second `<bos>`.
    """
    from transformers import pipeline

    generate = pipeline("text-generation", model=str(folder), dtype="auto", device_map="auto")
    generate.tokenizer.padding_side = "left"  # an answer starts right after its own prompt
    greedy = {"do_sample": False, "top_k": None, "top_p": None, "max_length": None}
    generate.generation_config.update(max_new_tokens=max_new_tokens, **greedy)
    chats = [[{"role": "user", "content": question}] for question in questions]
    found = generate(chats, batch_size=batch_size, return_full_text=False)
    return [answer["generated_text"].strip() for (answer,) in found]
