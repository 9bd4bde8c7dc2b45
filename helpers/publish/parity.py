"""The parity gate: adapter, merged weights and GGUF are the same model, or nothing is published (stage 08).

    rows = parity.check(model, tokenizer, work_dir, ["adapter", "merged", "gguf"])

It raises Differs, which names what differs and why. Each form is asked the same questions. The bytes and the token
ids of the prompt must be the same, with exactly one <bos>; then the greedy answers are walked token by token, and
each form must stop where the adapter's answer ends. It does not judge whether the answers are good.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import files, workdir
from helpers.prove import chat
from helpers.publish import export
from helpers.train import models

if TYPE_CHECKING:
    import torch

# The questions of the chat, and a prompt in which a wrong tokenizer or template shows.
QUESTIONS = [*chat.QUESTIONS, "  What do  they say about “Größe” 尺寸 🚲?\n\n\t<b>42,5 %</b> — d'accord?  "]
TOKENS = 32  # of each answer that are compared
TO_THE_END = 256  # tokens within which the adapter's answer to the first question must end by itself
TOP = 20  # likeliest tokens that are kept at each step
# Nats between the log-probabilities of the adapter's token in two forms. With the demo's Gemma 3 270M, rounding to
# bfloat16 moved them by up to 0.13 and Q8_0 by up to 0.29; half of the adapter's strength is 0.5 away
# (benchmarks/publish.json), so `export.unlike` compares merged weights one by one as well.
TOLERANCE = 0.5


class Differs(ValueError):
    """A form that would be published is not the model that was tuned; the message says where and why."""


@dataclass(frozen=True)
class Answer:
    """What a form of the model was shown for a question, and what it said, greedily.

    `likeliest` has the log-probability, in nats, of the TOP tokens at each step. Of the text that was shown,
    `prompt` is what the template made, and `ids` what the model read. `tokens` has the stop token, where it came.
    `stops`: at the end of the adapter's first answer this form says the stop token, and generates no more.
    """

    prompt: str
    ids: list[int]
    tokens: list[int]
    likeliest: list[dict[int, float]]
    stops: bool


def from_model(
    model, tokenizer, stops: list[int], whole: list[int], questions: list[str] = QUESTIONS
) -> list[Answer]:
    """The answers of a model in this process, one question at a time: padding would change the last digits.

    `whole` is the first question's prompt and the adapter's answer to it, without the stop token (`to_the_end`).
    """
    import torch

    answers, end = [], _generate(model, tokenizer, stops, whole, limit=2).sequences[0, len(whole) :].tolist()
    for question in questions:
        ids = models.chat_ids(tokenizer, question)
        output = _generate(model, tokenizer, stops, ids, TOKENS, output_logits=True)
        best = [torch.log_softmax(step[0].float(), -1).topk(TOP) for step in output.logits]
        likeliest = [dict(zip(top.indices.tolist(), top.values.tolist())) for top in best]
        tokens, prompt = output.sequences[0, len(ids) :].tolist(), models.chat_text(tokenizer, question)
        answers.append(Answer(prompt, ids, tokens, likeliest, stops=len(end) == 1 and end[0] in stops))
    return answers


def to_the_end(model, tokenizer, question: str) -> list[int]:
    """The prompt and the greedy answer as token ids, up to but without the stop token.

    Raises Differs when the answer does not stop by itself within TO_THE_END tokens.
    """
    ids, stops = models.chat_ids(tokenizer, question), models.stop_ids(tokenizer)
    whole = _generate(model, tokenizer, stops, ids, TO_THE_END).sequences[0].tolist()
    if whole[-1] not in stops:
        raise Differs(
            f"Nothing may be published: the adapter's answer to {question!r} does not stop by itself within "
            f"{TO_THE_END} tokens. It has not learned to end its turn; train it longer, in notebook 05."
        )
    return whole[:-1]


def _generate(model, tokenizer, stops: list[int], ids: list[int], limit: int, **options):
    """Continue `ids` greedily by at most `limit` tokens; unlike `models.generate_ids`, with its logits."""
    import torch

    inputs = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        return model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=limit,
            eos_token_id=stops,
            pad_token_id=models.text_tokenizer(tokenizer).pad_token_id,
            return_dict_in_generate=True,
            **models.GREEDY,
            **options,
        )


def from_merged(
    folder: Path, device: torch.device, whole: list[int], questions: list[str] = QUESTIONS
) -> list[Answer]:
    """The answers of the merged weights, with what is in their folder and nothing else."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").to(device).eval()
    return from_model(model, tokenizer, model.generation_config.eos_token_id, whole, questions)


@contextmanager
def serve(gguf: Path, context: int = 2048) -> Iterator[str]:
    """Load `gguf` into llama.cpp's server in this process, which speaks OpenAI's API, and yield its address.

    It listens on 127.0.0.1 and asks for no key. `context` is in tokens. Raises ModuleNotFoundError that names the
    package, and RuntimeError when llama.cpp cannot load the file.
    """
    try:
        import xllamacpp
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "llama.cpp's server comes with a package: pip install xllamacpp==2026.10.11549"
        ) from None
    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.n_ctx = str(gguf), 0, context
    params.use_jinja, params.warmup = True, False
    params.verbosity = 1  # errors; at its default of 3 it prints six lines for every answer
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


def from_gguf(path: Path, bos: str, whole: list[int], questions: list[str] = QUESTIONS) -> list[Answer]:
    """The answers of a GGUF file from llama.cpp's chat, which has the template out of the file."""
    import httpx
    import openai

    answers = []
    with serve(path) as address, httpx.Client(base_url=address, timeout=600) as http:

        def ask(route: str, **body) -> dict:
            return http.post(route, json=body).raise_for_status().json()

        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=600)
        end = ask("/completion", prompt=whole, n_predict=2, temperature=0)
        stops = end["stop_type"] == "eos" and not end["content"]
        for question in questions:
            messages = [{"role": "user", "content": question}]
            text = ask("/apply-template", messages=messages)["prompt"]
            ids = ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
            options = dict(max_tokens=TOKENS, temperature=0, logprobs=True, top_logprobs=TOP)
            reply = client.chat.completions.create(model="gguf", messages=messages, **options)
            steps = [step.model_dump() for step in reply.choices[0].logprobs.content]
            tokens = [step["id"] for step in steps]
            likeliest = [{top["id"]: top["logprob"] for top in step["top_logprobs"]} for step in steps]
            prompt = ("" if text.startswith(bos) else bos) + text
            answers.append(Answer(prompt, ids, tokens, likeliest, stops))
    return answers


def compare(form: str, adapter: list[Answer], other: list[Answer], bos: int, end: int) -> Iterator[dict]:
    """One row per question: how far the answers go together, by how much they differ, and what is wrong, if anything.

    `bos` and `end` are the tokens that begin a prompt and end a turn.
    """
    for number, (ours, theirs) in enumerate(zip(adapter, other, strict=True), 1):
        together, gap = walk(ours, theirs)
        row = {"form": form, "question": number, "prompt tokens": len(theirs.ids), "same tokens": together}
        row |= {"of": len(ours.tokens), "largest difference": round(gap, 3), "stops": theirs.stops}
        yield row | {"wrong": wrong(ours, theirs, together, gap, bos, end)}


def walk(ours: Answer, theirs: Answer) -> tuple[int, float]:
    """How many tokens both answers share from the start, and the largest difference up to the next one, in nats.

    Differences are of the log-probability of our token. Where the answers part, a form that finds our token nearly as
    likely as its own has only rounded another way; so the difference there is how far ours lies behind.
    """
    gap = 0.0
    for at, (mine, other) in enumerate(zip(ours.tokens, theirs.tokens)):
        here, there = ours.likeliest[at], theirs.likeliest[at]
        # A token outside the TOP is less likely than the last of them.
        ours_there, theirs_here = there.get(mine, min(there.values())), here.get(other, min(here.values()))
        if mine != other:
            return at, max(gap, there[other] - ours_there, here[mine] - theirs_here)
        gap = max(gap, abs(here[mine] - ours_there))
    return min(len(ours.tokens), len(theirs.tokens)), gap


def wrong(ours: Answer, theirs: Answer, together: int, gap: float, bos: int, end: int) -> str:
    """The first thing that keeps `theirs` from being the same model, in words; "" when nothing does."""
    if (count := theirs.ids.count(bos)) != 1:
        return f"its prompt begins with {count} <bos> tokens instead of one: the template and the tokenizer both add it"
    if ours.prompt != theirs.prompt:
        at = len(os.path.commonprefix([ours.prompt, theirs.prompt]))
        shown, trained = (prompt[max(0, at - 20) : at + 20] for prompt in (theirs.prompt, ours.prompt))
        return f"its chat template makes another prompt: {shown!r} where the model was trained on {trained!r}"
    if end in ours.ids and end not in theirs.ids:
        return f"it does not know the stop token, {end}, which ends a turn: it would not stop by itself"
    if ours.ids != theirs.ids:
        return (
            f"its tokenizer splits the same prompt into other tokens: {theirs.ids[:8]}…, not {ours.ids[:8]}…"
        )
    if gap > TOLERANCE:
        return (
            f"its weights are others: at token {together} of the answer the log-probabilities are {gap:.2f} nats "
            f"apart, and rounding to 8 bits or more explains {TOLERANCE}"
        )
    return "" if theirs.stops else "it does not stop by itself where the adapter's answer ends"


def check(model, tokenizer, work_dir: Path, forms: list[str]) -> list[dict]:
    """Ask the adapter on its base, the merged weights and the GGUF file, as far as they are in `forms`.

    Writes parity.json into work_dir/publish when all are the same model, and raises Differs when not.
    """
    publish, plain, stops = work_dir / "publish", models.text_tokenizer(tokenizer), models.stop_ids(tokenizer)
    marks = plain.bos_token_id, stops[-1]
    whole = to_the_end(model, tokenizer, QUESTIONS[0])
    adapter = from_model(model, tokenizer, stops, whole)
    rows = list(compare("adapter", adapter, adapter, *marks))
    if "merged" in forms:
        merged = from_merged(publish / "merged", model.device, whole)
        rows += compare("merged", adapter, merged, *marks)
        if others := export.unlike(model, publish / "merged"):
            cause = f"{len(others)} of its weights are not base + this adapter, such as {others[0]}: it was merged "
            rows[len(adapter)]["wrong"] = (
                f"{cause}from another adapter or base. {rows[len(adapter)]['wrong']}".strip()
            )
    if "gguf" in forms:
        (path,) = (publish / "gguf").glob("*.gguf")
        rows += compare("gguf", adapter, from_gguf(path, plain.bos_token, whole), *marks)
    gate(rows)
    files.write_json(publish / "parity.json", {"tolerance": TOLERANCE, "rows": rows})
    compared = [f"publish/{form}" for form in forms if form != "parity"]
    workdir.finish_stage(work_dir, export.manifest("parity"), compared, ["publish/parity.json"])
    return rows


def gate(rows: list[dict]) -> None:
    """Raise Differs when a form is another model, naming each and its cause."""
    causes = dict.fromkeys(f"{row['form']}: {row['wrong']}" for row in rows if row["wrong"])
    if causes:
        raise Differs(
            "Nothing may be published, because what would go out is not the model that was tuned.\n  "
            + "\n  ".join(causes)
            + "\nDelete work_dir/publish and run the notebook again. If it says the same, keep the adapter alone: "
            "merge=False, gguf=False."
        )
