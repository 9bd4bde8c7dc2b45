"""The parity gate: adapter, merged weights and GGUF are the same model, or nothing is published (stage 08).

Each form is asked the same questions. The prompt must be the same to the byte and the token, with exactly one <bos>;
then greedy answers are walked up to the first token that differs, and each form must stop where the adapter's ends.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers.core import files, workdir
from helpers.publish import export
from helpers.train import models

# A prompt by which a wrong tokenizer or template shows.
DIFFICULT = "  What do  they say about “Größe” 尺寸 🚲?\n\n\t<b>42,5 %</b> — d'accord?  "
TOKENS = 32  # of each answer that are compared
TO_THE_END = 256  # tokens within which the adapter's answer to the first question must end by itself
TOP = 20  # likeliest tokens that are kept at each step
# Nats between the log-probabilities of the adapter's token in two forms. Rounding Gemma 3 270M to bfloat16 moved them
# by up to 0.13, Q8_0 by up to 0.29, half of the adapter's strength by 0.5 (benchmarks/publish.json): hence `unlike`.
TOLERANCE = 0.5


@dataclass(frozen=True)
class Answer:
    """What a form of the model was shown for a question, and its greedy answer."""

    prompt: str  # as the template makes it
    ids: list[int]  # as the model reads it
    tokens: list[int]  # of the answer, with the stop token where it came
    likeliest: list[dict[int, float]]  # at each step the TOP tokens and their log-probabilities, in nats
    stops: bool  # whether the form says the stop token where the adapter's first answer ends, and no more


def from_model(model, tokenizer, stops: list[int], whole: list[int], questions, along=()) -> list[Answer]:
    """A model's answers, one by one, as padding rounds, or its scores `along` others' tokens. `whole`: to_the_end's."""
    import torch

    def log_probabilities(ids: list[int], last: int) -> torch.Tensor:
        with models.inference(model):
            logits = model(torch.tensor([ids], device=model.device), logits_to_keep=last).logits
        return torch.log_softmax(logits[0].float(), dim=-1)

    ends, answers = log_probabilities(whole, 1).argmax().item() in stops, []
    generated = along or models.generate_ids(model, tokenizer, questions, TOKENS, batch_size=1)
    for question, tokens in zip(questions, generated):
        ids, prompt = models.chat_ids(tokenizer, question), models.chat_text(tokenizer, question)
        top = log_probabilities([*ids, *tokens[:-1]], len(tokens)).topk(TOP)
        likeliest = [dict(zip(*step)) for step in zip(top.indices.tolist(), top.values.tolist())]
        answers.append(Answer(prompt, ids, top.indices[:, 0].tolist() if along else tokens, likeliest, ends))
    return answers


def to_the_end(model, tokenizer, question: str) -> list[int]:
    """The ids of prompt and greedy answer without its stop token; ValueError where TO_THE_END tokens hold none."""
    (answer,) = models.generate_ids(model, tokenizer, [question], TO_THE_END)
    if answer[-1] not in models.stop_ids(tokenizer):
        raise ValueError(
            f"Nothing may be published: the adapter's answer to {question!r} does not stop by itself within "
            f"{TO_THE_END} tokens. It has not learned to end its turn; train it longer, in notebook 05."
        )
    return models.chat_ids(tokenizer, question) + answer[:-1]


def from_merged(model, folder: Path, whole: list[int], questions, along) -> tuple[list[Answer], str]:
    """The answers of the merged weights, with what is in their folder alone; and how they are `export.unlike` ours."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", device_map=model.device).eval()
    tokenizer, stops = AutoTokenizer.from_pretrained(folder), merged.generation_config.eos_token_id
    return from_model(merged, tokenizer, stops, whole, questions, along), export.unlike(model, merged)


@contextmanager
def serve(gguf: Path) -> Iterator[str]:
    """llama.cpp's server for `gguf`, with OpenAI's API: yields its address on 127.0.0.1."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.n_ctx = str(gguf), 0, 2048
    params.use_jinja, params.warmup, params.verbosity = True, False, 1  # errors only
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


def from_gguf(path: Path, bos: str, whole: list[int], questions: list[str]) -> list[Answer]:
    """The answers of a GGUF file from llama.cpp's chat, which has the template out of the file."""
    import httpx

    with serve(path) as address, httpx.Client(base_url=address, timeout=600) as http:

        def ask(route: str, **body) -> dict:
            return http.post(route, json=body | {"temperature": 0}).raise_for_status().json()

        end, answers = ask("/completion", prompt=whole, n_predict=2), []
        ends = end["stop_type"] == "eos" and not end["content"]
        for question in questions:
            chat = {"messages": [{"role": "user", "content": question}]}
            text = ask("/apply-template", **chat)["prompt"]
            ids = ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
            reply = ask("/v1/chat/completions", **chat, max_tokens=TOKENS, logprobs=True, top_logprobs=TOP)
            steps = reply["choices"][0]["logprobs"]["content"]
            likeliest = [{top["id"]: top["logprob"] for top in step["top_logprobs"]} for step in steps]
            tokens, prompt = [step["id"] for step in steps], bos + text.removeprefix(bos)
            answers.append(Answer(prompt, ids, tokens, likeliest, ends))
    return answers


def compare(form: str, adapter: list[Answer], other: list[Answer], bos: int, end: int, unlike="") -> Iterator:
    """A dict per question; `bos` and `end` are the tokens that begin a prompt and end a turn."""
    for number, (ours, theirs) in enumerate(zip(adapter, other, strict=True), 1):
        together, gap = walk(ours, theirs)
        row = {"form": form, "question": number, "prompt tokens": len(theirs.ids), "same tokens": together}
        row |= {"of": len(ours.tokens), "largest difference": round(gap, 3), "stops": theirs.stops}
        yield row | {"wrong": unlike or wrong(ours, theirs, together, gap, bos, end)}


def walk(ours: Answer, theirs: Answer) -> tuple[int, float]:
    """(tokens that both share from the start, largest difference in nats up to and with the first that differs).

    Differences are of our token's log-probability; where the answers part, of each side's lead of its own token.
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
        return f"its tokenizer splits the prompt into other tokens: {theirs.ids[:8]}…, not {ours.ids[:8]}…"
    if gap > TOLERANCE:
        apart = f"at token {together} of the answer the log-probabilities are {gap:.2f} nats apart"
        return f"its weights are others: {apart}, and rounding to 8 bits or more explains {TOLERANCE}"
    return "" if theirs.stops else "it does not stop by itself where the adapter's answer ends"


def check(model, tokenizer, work_dir: Path, forms: list[str], questions: list[str]) -> list[dict]:
    """Ask all of `forms`, and write publish/parity.json when they are the same model; else raises ValueError."""
    publish, plain, stops = work_dir / "publish", models.text_tokenizer(tokenizer), models.stop_ids(tokenizer)
    whole = to_the_end(model, tokenizer, questions[0])
    adapter, marks = from_model(model, tokenizer, stops, whole, questions), (plain.bos_token_id, stops[-1])
    rows = [*compare("adapter", adapter, adapter, *marks)]
    if "merged" in forms:
        merged, unlike = from_merged(model, publish / "merged", whole, questions, [a.tokens for a in adapter])
        rows += compare("merged", adapter, merged, *marks, unlike)
    if "gguf" in forms:
        (path,) = (publish / "gguf").glob("*.gguf")
        rows += compare("gguf", adapter, from_gguf(path, plain.bos_token, whole, questions), *marks)
    gate(rows)
    files.write_json(publish / "parity.json", {"tolerance": TOLERANCE, "rows": rows})
    compared = [f"publish/{form}" for form in forms if form != "parity"]
    workdir.finish_stage(work_dir, export.manifest("parity"), compared, ["publish/parity.json"])
    return rows


def gate(rows: list[dict]) -> None:
    """Raises ValueError for rows with something `wrong`, naming each form and its causes."""
    causes = dict.fromkeys(f"\n  {row['form']}: {row['wrong']}" for row in rows if row["wrong"])
    if causes:
        raise ValueError(
            f"Nothing may be published, because what would go out is not the model that was tuned.{''.join(causes)}\n"
            "Delete work_dir/publish and run the notebook again. If it says the same, keep the adapter alone: "
            "merge=False, gguf=False."
        )
