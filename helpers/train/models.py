"""Models: which one and why, loading, batched generation, and the one prompt function, `chat_text`."""

import os
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.ask import injection
from helpers.core import files, hub, runtime, workdir
from helpers.train import local_gemma

SAMPLE_ADAPTER = runtime.SAMPLES / "adapter"
# Models that suit this project. "free GiB" is the free GPU memory to start from; "peak" names its source.
KNOWN = files.read_json(Path(__file__).with_name("models.json"))
# Where LoRA goes: language layers, since no image is read. Unsloth's finetune_vision_layers=False needs a GPU.
LANGUAGE_LAYERS = r"(?!.*(vision|audio)).*_proj"
AUTO = [row for row in reversed(KNOWN) if row["free GiB"] and "Gemma 3" in row["model"]]  # the largest first
# The name of a model is for people and files, its source is what from_pretrained takes.
Choice = namedtuple("Choice", ["name", "source", "load_in_4bit", "why"])
# What opens the turn of each, and the token that ends one, in Gemma 3 and in Gemma 4.
Turns = namedtuple("Turns", ["user", "model", "end"])
MARKERS = ("<start_of_turn>", "<end_of_turn>"), ("<|turn>", "<turn|>")
TURNS = [Turns(f"{start}user\n", f"{start}model\n", end) for start, end in MARKERS]


def choose(model_name: str, device: runtime.Device, load_in_4bit: bool = True) -> Choice:
    """The model for `model_name`: `auto`, `local-gemma-3-270m`, a folder or a Hub id, for which the key is set."""
    on_gpu, why = device.kind == "cuda", "as the parameter model_name asks"
    if model_name == "auto" and on_gpu:
        fitting = [row["model_name"] for row in AUTO if device.memory_gib >= row["free GiB"]]
        if not fitting:
            free = (
                f"{device.name} has {device.memory_gib:.1f} GiB free, and 'auto' needs {AUTO[-1]['free GiB']}"
            )
            raise MemoryError(f"{free}. Restart the session, or set model_name={local_gemma.NAME!r}.")
        model_name, why = fitting[0], f"the largest that fits {device.memory_gib:.1f} GiB on {device.name}"
    elif model_name == "auto":
        model_name, why = local_gemma.NAME, f"the one that trains without a GPU ({device.why})"
    local = model_name == local_gemma.NAME
    four_bit = load_in_4bit and on_gpu and not local
    if load_in_4bit and not four_bit:
        why += "; its weights are not quantized" + ("" if on_gpu else ", 4 bits need a GPU")
    if not local:
        hub.log_in()
    return Choice(model_name, str(local_gemma.path()) if local else model_name, four_bit, why)


# What generate() takes. Programs that sample, Ollama and `transformers serve`, get SAMPLING with the model; notebook 07
# and its page begin at temperature 0. Without top_k=None and top_p=None, a greedy call warns that it ignores them.
GREEDY = {"do_sample": False, "top_k": None, "top_p": None}
SAMPLING = {"temperature": 0.7, "top_p": 0.95, "top_k": 64}


def pick_dtype(device: runtime.Device) -> tuple[str, str]:
    """The numbers to compute Gemma 3 with on this device, as Unsloth does with dtype=None, and why; never float16."""
    on_cpu = device.kind == "cpu" and os.environ["UNSLOTH_CPU_BF16"] == "1"
    if on_cpu or device.capability >= (8, 0):
        return "bfloat16", f"{device.name} has fast instructions for it"
    return "float32", f"{device.name} has no fast bfloat16, and Gemma 3 overflows in float16"


def text_tokenizer(tokenizer):
    """The tokenizer itself, also where a multimodal model came with a processor around it."""
    from transformers import ProcessorMixin

    return tokenizer.tokenizer if isinstance(tokenizer, ProcessorMixin) else tokenizer


def prompt(question: str, context: str = "") -> str:
    """The user's turn: what the model is to read, between markers that it cannot hold itself, and the question."""
    return f"<context>\n{injection.neutralised(context)}\n</context>\n\n{question}" if context else question


def chat_text(tokenizer, question: str, answer: str | None = None, examples=()) -> str:
    """The exact text of a turn, `<bos>` included, from the model's own chat template; `examples` stand before it.

    It ends where the model begins to speak, or, behind an `answer`, with the token that ends the turn.
    """
    turns = [text for both in (*examples, (question, answer)) for text in both if text is not None]
    messages = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)
    return text if answer is None else text.rstrip("\n")


def chat_ids(tokenizer, question: str, answer: str | None = None, examples=()) -> list[int]:
    """Token ids of `chat_text`; no token is added, since the template already has the `<bos>`."""
    text = chat_text(tokenizer, question, answer, examples)
    return text_tokenizer(tokenizer)(text, add_special_tokens=False).input_ids


def find_adapter(adapter_dir: str, work_dir: Path) -> tuple[Path, str]:
    """The adapter's folder and whence: as asked, or FileNotFoundError; else from notebook 05, or the bundled one."""
    given, trained = Path(adapter_dir).expanduser(), work_dir / "adapter"
    if not adapter_dir and trained.exists():
        return trained, "adapter/ in work_dir, trained by notebook 05"
    if not adapter_dir:
        return SAMPLE_ADAPTER, workdir.sample_instead(work_dir, f"{trained} does not exist", "'s")
    if not (given / "adapter_config.json").exists():
        raise FileNotFoundError(f"adapter_dir = {given} holds no adapter_config.json; run notebook 05 first")
    return given, f"{given}, as the parameter adapter_dir asks"


def load_tuned(adapter_dir: Path, device: runtime.Device, model_name: str = "auto"):
    """The base ("auto": the config's; in 4 bits unless trained without) with the adapter on it, and its tokenizer."""
    from unsloth import FastModel  # first, since it patches peft and transformers
    from peft import PeftModel  # isort: skip

    base = files.read_json(adapter_dir / "adapter_config.json")["base_model_name_or_path"]
    settings = files.read_json(adapter_dir.parent / "training.json", {}).get("settings", {})
    choice = choose(base if model_name == "auto" else model_name, device, settings.get("load_in_4bit", True))
    model, tokenizer = FastModel.from_pretrained(choice.source, load_in_4bit=choice.load_in_4bit)
    tuned = PeftModel.from_pretrained(model, adapter_dir)
    return FastModel.for_inference(tuned), with_chat_template(tokenizer, model)


def with_chat_template(tokenizer, model):
    """The tokenizer with the chat template of the model's family; the base models have none of their own."""
    from unsloth.chat_templates import get_chat_template

    family = "gemma-4" if model.config.model_type.startswith("gemma4") else "gemma-3"
    return get_chat_template(tokenizer, chat_template=family)


def turns(tokenizer) -> Turns:
    """The turn markers, Gemma 3's or Gemma 4's, as the chat template has them; else ValueError."""
    for known in TURNS:
        if known.end in (tokenizer.chat_template or ""):
            return known
    name = text_tokenizer(tokenizer).name_or_path
    raise ValueError(f"{name} has no chat template with a Gemma's turns: use with_chat_template()")


def stop_ids(tokenizer) -> list[int]:
    """Both tokens that end an answer: `<eos>` and the end of the turn."""
    plain = text_tokenizer(tokenizer)
    return [plain.eos_token_id, plain.convert_tokens_to_ids(turns(tokenizer).end)]


def ends(tokenizer) -> dict:
    """What generate() needs to know of the tokenizer: the `stop_ids`, what fills up an answer, what is in none."""
    plain = text_tokenizer(tokenizer)
    # To the local base model the marker that opens a turn is like a line break, from which its row began.
    never = plain.convert_tokens_to_ids(turns(tokenizer).user.removesuffix("user\n"))
    ends = {"eos_token_id": stop_ids(tokenizer), "pad_token_id": plain.pad_token_id}
    return ends | {"bad_words_ids": [[never]]}


def texts(tokenizer, answers: list[list[int]]) -> list[str]:
    """The answers' ids as text, without special tokens."""
    return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def grouped_attention(module, query, key, value, attention_mask, **more):
    """Transformers' SDPA for CPUs: for a single token, the query heads that share a head of keys go in one product."""
    from torch.nn.functional import scaled_dot_product_attention as attend
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    batch, heads, tokens, size = query.shape
    if tokens > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    query = query.reshape(batch, key.shape[1], -1, size)  # 2 ms, not 13: benchmarks/one_token.json
    return attend(query, key, value, attention_mask, scale=more["scaling"]).view(batch, 1, heads, size), None


@contextmanager
def inference(model) -> Iterator[None]:
    """torch.inference_mode, with a head that copies its input; on a CPU it registers `grouped_attention` for good."""
    import torch
    from transformers import AttentionInterface

    # For a slice torch 2.13 copies a frozen head's weights, once a row: a second per prompt of the 270M in bfloat16.
    head, whole = model.get_output_embeddings(), torch.contiguous_format
    copied = head.register_forward_pre_hook(lambda _, inputs: inputs[0].clone(memory_format=whole))
    if model.device.type == "cpu":  # what a GPU runs stays as it was
        AttentionInterface.register("sdpa", grouped_attention)
    with torch.inference_mode(), copied:
        yield


def batch_of(model, tokenizer, rows: list[list[int]], examples=()) -> dict:
    """The rows padded on the left, without a GPU with the keys and values of the `examples` that all begin with.

    Each row's stand right before its question, as if it was read whole: the sliding window counts what lies between.
    """
    import torch
    from transformers import DynamicCache

    batch = text_tokenizer(tokenizer).pad({"input_ids": rows}, padding_side="left", return_tensors="pt")
    if not examples or model.device.type != "cpu":  # on a GPU Unsloth's generate() has a cache of its own
        return {**batch.to(model.device)}
    shared, once = os.path.commonprefix([chat_ids(tokenizer, "", examples=examples), *rows]), DynamicCache()
    model(torch.tensor([shared]), past_key_values=once, logits_to_keep=1)
    at = (batch["attention_mask"].cumsum(1) - 1).clamp(0)[:, : len(shared)]
    cache = DynamicCache(config=model.config.get_text_config())
    for number, layer in enumerate(once.layers):
        cache.update(*(kept[0][:, at].transpose(0, 1) for kept in (layer.keys, layer.values)), number)
    return {**batch, "past_key_values": cache}


def generate(model, tokenizer, questions: list[str], *options, **more) -> list[str]:
    """The texts of `generate_ids`, which takes the same, without special tokens."""
    return texts(tokenizer, generate_ids(model, tokenizer, questions, *options, **more))


def generate_ids(model, tokenizer, questions, max_new_tokens=256, batch_size=32, examples=(), **sampling):
    """A list of token ids for each question, greedy without `sampling`, `batch_size` at a time or as many as fit.

    An answer that stopped by itself ends with one of `stop_ids`; one without was cut off at `max_new_tokens`.
    """
    import torch
    from tqdm import tqdm

    options = ends(tokenizer) | {"max_new_tokens": max_new_tokens, **(sampling or GREEDY)}
    answers = []  # each starts right after its own prompt, since the padding is on the left
    with tqdm(total=len(questions), mininterval=5) as bar:
        while asked := questions[len(answers) :][:batch_size]:
            rows = [chat_ids(tokenizer, question, examples=examples) for question in asked]
            try:
                with inference(model):
                    output = model.generate(**batch_of(model, tokenizer, rows, examples), **options)
            except torch.OutOfMemoryError:  # a T4 may not hold so many long prompts
                if (batch_size := batch_size // 2) == 0:
                    raise
                continue
            for row in output[:, max(map(len, rows)) :].tolist():
                end = next((at for at, token in enumerate(row) if token in options["eos_token_id"]), len(row))
                answers.append(row[: end + 1])
            bar.update(len(asked))
    return answers
