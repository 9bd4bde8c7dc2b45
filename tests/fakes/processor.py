"""Tiny random multimodal Gemmas, and their processor where a GPU's `FastModel` gives one: a CPU's gives a tokenizer.

    folder = processor.gemma_3(tmp_path / "gemma-3")            # or gemma_4
    kernels.start_up(patch, tmp_path, processor.START_UP)       # kernels start with it

Gemma 3 comes as on a T4: a real `Gemma3Processor` around the real tokenizer of 262,144 tokens, which llama.cpp's
converter wants, and a vision tower. Gemma 4 has its own class of model, with layers of two shapes and a vision tower,
and its class of tokenizer, with the turn tokens at their places, 105 and 106, and only bytes and letters otherwise.
What cannot be built here: `Gemma4Processor`, whose module imports torchvision (`Gemma3Processor` stands in, of the
same base class), Gemma 4's own vocabulary, and 4-bit weights.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

IMAGE = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
TEXT = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, head_dim=32)
TEXT |= dict(
    num_key_value_heads=1,
    sliding_window=64,
    initializer_range=0.1,
    layer_types=["sliding_attention", "full_attention"],
)
VISION = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, patch_size=14)
# Not at once: a kernel has a minute to start, and Unsloth takes its time to import.
START_UP = """from tests.fakes import processor
get_ipython().events.register("pre_run_cell", lambda cell: processor.as_on_a_gpu())
"""
ENDS = [1, 106]  # <eos> and the end of a turn
GEMMA_4_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<unused{n}>" for n in range(100))]
GEMMA_4_TOKENS += [
    "<|turn>",
    "<turn|>",
    "\n",
    *(f"<0x{n:02X}>" for n in range(256)),
    "▁",
    *map(chr, range(33, 127)),
]


def around(tokenizer):
    """The processor of a multimodal Gemma, with the template of its `tokenizer`, which knows the image tokens."""
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    from transformers.models.gemma3.processing_gemma3 import Gemma3Processor

    template = tokenizer.chat_template
    return Gemma3Processor(Gemma3ImageProcessorPil(), tokenizer, chat_template=template, image_seq_length=4)


def gemma_3(
    folder: Path,
    tokenizer: Path | None = None,
    vocab_size: int = 262_208,
    text: dict = TEXT,
    vision: dict = VISION,
) -> Path:
    """A folder with a `Gemma3ForConditionalGeneration` and its processor, around the real tokenizer or another."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    from helpers.train import local_gemma

    text = text | dict(vocab_size=vocab_size)
    vision = VISION | vision | dict(image_size=56, vision_use_head=False)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, eos_token_id=ENDS)
    return _save(Gemma3ForConditionalGeneration, config, tokenizer or local_gemma.path(), folder)


def gemma_4(folder: Path) -> Path:
    """A folder with a `Gemma4ForConditionalGeneration`, whose heads are 32 wide in one layer and 64 in the other."""
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration, GemmaTokenizer

    vocab = {token: at for at, token in enumerate(GEMMA_4_TOKENS)}
    tokenizer = GemmaTokenizer(vocab=vocab, merges=[], add_bos_token=True)
    tokenizer.add_tokens(["<|turn>", "<turn|>"], special_tokens=True)
    tokenizer.add_tokens(["\n"])
    tokenizer.save_pretrained(folder)
    text = TEXT | dict(vocab_size=512, global_head_dim=64, hidden_size_per_layer_input=0)
    vision = VISION | dict(num_key_value_heads=2, head_dim=16, position_embedding_size=64)
    config = Gemma4Config(text_config=text, vision_config=vision, eos_token_id=ENDS)
    return _save(Gemma4ForConditionalGeneration, config, folder, folder)


def _save(kind, config, tokenizer: Path, folder: Path) -> Path:
    import torch
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        kind(config).to(torch.bfloat16).save_pretrained(folder)
    around(AutoTokenizer.from_pretrained(tokenizer, extra_special_tokens=IMAGE)).save_pretrained(folder)
    return folder


@cache
def as_on_a_gpu() -> None:
    """From now on `FastModel.from_pretrained` of this process gives a processor, where it gave a tokenizer."""
    from unsloth import FastModel

    on_a_cpu = FastModel.from_pretrained

    def from_pretrained(*args, **options):
        model, tokenizer = on_a_cpu(*args, **options)
        return model, around(tokenizer)

    FastModel.from_pretrained = staticmethod(from_pretrained)
