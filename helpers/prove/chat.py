"""Talk to the tuned model, and to the base beside it (stage 07).

    for answer in stream(model, tokenizer, "Why?"):  # answers that grow; the last one says why it ended
    row = side_by_side(model, tokenizer, "Why?")     # prints both as they come

The same seed gives the same answer. There is no memory: every question is asked on its own, as in training.
chat_page.py is the same in a browser.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Event, Lock, Thread

from helpers.train import models

# The questions that people ask first about any company's reviews.
QUESTIONS = [
    "What are common issues or complaints mentioned in the reviews?",
    "What do customers like most about the product or service?",
    "How is the customer support perceived?",
    "Are there any recurring themes regarding pricing or value?",
]

# One answer at a time: the adapter is switched on and off for the whole model, and the seed is torch's only one.
TURN = Lock()


@dataclass(frozen=True)
class Answer:
    """An answer so far; `seconds` run from the first look at the question, the end token counts as a token."""

    text: str
    tokens: int
    seconds: float
    ended: str = ""  # "by itself", "at max_new_tokens" or "by you"; empty while it goes on

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        if not self.tokens and self.ended:
            return f"stopped {self.ended} before it began"
        speed = f"{self.tokens} tokens, {self.tokens_per_second:.1f} a second"
        return f"{speed}, stopped {self.ended}" if self.ended else speed


def stream(
    model,
    tokenizer,
    question: str,
    *,
    tuned: bool = True,
    max_new_tokens: int = 256,
    temperature: float = 0.7,
    top_p: float = 0.95,
    top_k: int = 64,
    seed: int = 3407,
    stop: Event | None = None,
) -> Iterator[Answer]:
    """Yield the answer as it grows, word by word; temperature 0 is greedy, `stop` ends it early.

    `tuned=False` asks the base model, with the adapter off. top_p and top_k are those that Gemma 3's makers
    give, the temperature is calmer than theirs (1.0), for answers about facts. Whoever stops reading stops the
    generation. Raises ValueError for an empty question and for a temperature below 0.
    """
    import torch
    from transformers import StoppingCriteriaList, TextIteratorStreamer, set_seed

    if not question.strip():
        raise ValueError("question is empty; ask something")
    plain, stop_ids = models.text_tokenizer(tokenizer), models.stop_ids(tokenizer)
    ids = torch.tensor([models.chat_ids(tokenizer, question)], device=model.device)
    streamer = TextIteratorStreamer(plain, skip_prompt=True, skip_special_tokens=True)
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    options = sampling if temperature else {"do_sample": False, "top_p": None, "top_k": None}
    stop, unread = stop or Event(), Event()
    if stop.is_set():
        yield Answer("", 0, 0.0, "by you")
        return
    text, ended, tokens, started = "", "", 0, time.perf_counter()
    failure: list[BaseException] = []

    def watch(ids_so_far: torch.Tensor, scores: object) -> torch.Tensor:
        nonlocal tokens
        tokens = ids_so_far.shape[1] - ids.shape[1]
        return torch.tensor([stop.is_set() or unread.is_set()], device=ids.device)

    def run() -> None:
        nonlocal started, ended
        try:
            with TURN, nullcontext() if tuned else model.disable_adapter():
                started = time.perf_counter()
                set_seed(seed)
                output = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=max_new_tokens,
                    eos_token_id=stop_ids,
                    pad_token_id=plain.pad_token_id,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([watch]),
                    **options,
                )
            by_itself = output[0, -1].item() in stop_ids
            ended = "by itself" if by_itself else "by you" if stop.is_set() else "at max_new_tokens"
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that reads
            failure.append(error)
            streamer.end()

    thread = Thread(target=run)
    thread.start()
    try:
        for piece in streamer:
            text += piece
            yield Answer(text, tokens, time.perf_counter() - started)
    finally:
        unread.set()
        thread.join()
    if failure:
        raise failure[0]
    yield Answer(text.strip(), tokens, time.perf_counter() - started, ended)


def both(model, tokenizer, question: str, **settings) -> Iterator[tuple[str, Answer]]:
    """Stream the tuned model's answer, then the base model's: ("tuned" or "base", the answer so far)."""
    for name in ("tuned", "base"):
        for answer in stream(model, tokenizer, question, tuned=name == "tuned", **settings):
            yield name, answer


def side_by_side(model, tokenizer, question: str, **settings) -> dict:
    """Print both answers as they come; return them, their tokens a second and what ended them as one row."""
    print(f"❯ {question}")
    row: dict = {"question": question}
    for name, answer in both(model, tokenizer, question, **settings):
        if name not in row:
            print(f"\n{name:>6}: ", end="")
        print(answer.text[len(row.get(name, "")) :], end="", flush=True)
        row[name] = answer.text
        if answer.ended:
            print(f"\n        [{answer}]")
            row[f"{name}_tokens"] = answer.tokens
            row[f"{name}_tokens_per_second"] = round(answer.tokens_per_second, 1)
            row[f"{name}_stopped"] = answer.ended
    print()
    return row
