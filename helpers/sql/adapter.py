"""The model and its adapter with plain Transformers, bitsandbytes and PEFT (09); the training is `qlora`'s."""

import os
from importlib.util import find_spec

from helpers.core import hub, runtime
from helpers.train import local_gemma, models


def pick_attention(device: runtime.Device) -> tuple[str, str]:
    """The attention, which decides whether rows can be packed: only FlashAttention keeps packed rows apart."""
    if device.kind == "cuda" and device.capability >= (8, 0) and find_spec("flash_attn"):
        return "flash_attention_2", "rows can be packed"
    why = "needs a GPU from Ampere on" if device.capability < (8, 0) else "is not installed"
    return "sdpa", f"rows are not packed: FlashAttention {why}"


def load(choice: models.Choice, dtype: str, device: runtime.Device):
    """Model and tokenizer; the weights as NF4 with double quantization where the choice has 4 bits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    hub.log_in()
    options = {"dtype": getattr(torch, dtype), "attn_implementation": pick_attention(device)[0]}
    if choice.load_in_4bit:
        # Stored and computed alike, since FSDP shards only what has one dtype.
        kinds = {f"bnb_4bit_{name}": options["dtype"] for name in ("compute_dtype", "quant_storage")}
        nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        options["quantization_config"] = BitsAndBytesConfig(**nf4, **kinds)
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
