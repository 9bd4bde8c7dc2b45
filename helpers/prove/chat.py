"""Talk to the tuned model, and to the base beside it (stage 07).

The same seed gives the same answer; every question is asked on its own, as in training.
`python -m helpers.prove.chat answers.jsonl` ends with 1 where the tuned answers do not stop.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Event, Lock
from typing import NamedTuple

from helpers.core import files
from helpers.train import data, models

# The questions that people ask first about any company's reviews.
QUESTIONS = [
    "What are common issues or complaints mentioned in the reviews?",
    "What do customers like most about the product or service?",
    "How is the customer support perceived?",
    "Are there any recurring themes regarding pricing or value?",
]

# One answer at a time: the adapter is switched on and off for the whole model, and the seed is torch's only one.
TURN = Lock()


def first_questions(adapter: Path) -> list[str]:
    """QUESTIONS, or four held-out ones where the adapter was trained on pairs that are not known to be of reviews."""
    pairs = {} if adapter == models.SAMPLE_ADAPTER else data.kept(adapter)
    foreign = pairs and not data.from_reviews(pairs["train"])
    return [pair["question"] for pair in pairs["test"][:4]] if foreign else QUESTIONS


class Answer(NamedTuple):
    """An answer so far; `seconds` run from the first look at the question, the end token counts as a token."""

    text: str
    tokens: int
    seconds: float
    ended: str = ""  # "by itself" or "at max_new_tokens"; empty while it goes on

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    def __str__(self) -> str:
        speed = f"{self.tokens} tokens, {self.tokens_per_second:.1f} per second"
        return f"{speed}, stopped {self.ended}" if self.ended else speed


def stream(
    model, tokenizer, question: str, *, tuned=True, max_new_tokens=256, seed=3407, **sampling
) -> Iterator[Answer]:
    """Yield the answer as it grows, word by word; whoever stops reading ends it.

    `tuned=False` asks the base model, with the adapter off. `sampling` is temperature, where 0 is greedy, top_p and
    top_k, by default models.SAMPLING: calmer than Gemma 3's makers advise (temperature 1.0), for answers about facts.
    """
    import torch
    from transformers import StoppingCriteriaList, TextIteratorStreamer, set_seed

    ids = torch.tensor([models.chat_ids(tokenizer, question)], device=model.device)
    ends, sampling = models.ends(tokenizer), {"do_sample": True, **models.SAMPLING, **sampling}
    sampling["temperature"] *= 1.0  # transformers takes no whole number, and a slider at its end gives one
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": max_new_tokens}
    options |= ends | (sampling if sampling["temperature"] else models.GREEDY)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    text, tokens, started, unread = "", 0, time.perf_counter(), Event()

    def watch(all_ids: torch.Tensor, scores: object) -> torch.Tensor:
        nonlocal tokens
        tokens = all_ids.shape[1] - ids.shape[1]
        return torch.tensor([unread.is_set()], device=ids.device)

    def run() -> torch.Tensor:
        nonlocal started
        watching = {"streamer": streamer, "stopping_criteria": StoppingCriteriaList([watch])}
        try:
            with TURN, nullcontext() if tuned else model.disable_adapter(), models.inference(model):
                started = time.perf_counter()
                set_seed(seed)
                return model.generate(**options, **watching)
        finally:
            streamer.end()  # also after an error, or the reader would wait for ever

    with ThreadPoolExecutor(1) as pool:
        generation = pool.submit(run)
        try:
            for piece in streamer:
                text += piece
                yield Answer(text, tokens, time.perf_counter() - started)
        finally:
            unread.set()
        last = generation.result()[0, -1].item()  # raises what was raised in the thread
    ended = "by itself" if last in ends["eos_token_id"] else "at max_new_tokens"
    yield Answer(text.strip(), tokens, time.perf_counter() - started, ended)


def both(model, tokenizer, question: str, **settings) -> Iterator[tuple[str, Answer]]:
    """Stream the tuned model's answer, then the base model's: ("tuned" or "base", the answer so far)."""
    for name in ("tuned", "base"):
        for answer in stream(model, tokenizer, question, tuned=name == "tuned", **settings):
            yield name, answer


def side_by_side(model, tokenizer, question: str, found: dict | None = None, **settings) -> dict:
    """Print both answers as they come, to what `search` found and the question; return them as one row."""
    row: dict = {"question": question, **(found or {"source": "", "context": ""})}
    print(f"❯ {question}" + (f"\n  reads the {row['source']}" if found else ""))
    for name, answer in both(model, tokenizer, models.prompt(question, row["context"]), **settings):
        begin = "" if name in row else f"\n{name:>6}: "
        print(begin + answer.text[len(row.get(name, "")) :], end="", flush=True)
        row[name] = answer.text
        if answer.ended:
            print(f"\n        [{answer}]")
            row |= {f"{name}_tokens": answer.tokens, f"{name}_stopped": answer.ended}
            row[f"{name}_tokens_per_second"] = round(answer.tokens_per_second, 1)
    print()
    return row


def running_on(answers: list[dict]) -> str:
    """What is wrong and what to do where more than one tuned answer in four was cut off; empty where all is well."""
    cut = sum(row["tuned_stopped"] == "at max_new_tokens" for row in answers)
    if cut <= max(1, len(answers) / 4):
        return ""
    what = f"{cut} of {len(answers)} answers of the tuned model did not stop by themselves: it has not learned to"
    fix = "If its adapter is of an older version, run notebook 05 again; after a short training, raise num_train_epochs"
    return f"{what} end its turn. {fix}; if the answers are good and only longer, raise max_new_tokens."


if __name__ == "__main__":
    sys.exit(running_on(files.read_jsonl(Path(sys.argv[1]))) or 0)
