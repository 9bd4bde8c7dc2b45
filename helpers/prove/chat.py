"""Talk to the tuned model, and to the base beside it (stage 07).

    for answer in stream(model, tokenizer, "Why?"):  # answers that grow; the last one says why it ended
    row = side_by_side(model, tokenizer, "Why?")     # prints both as they come
    python -m helpers.prove.chat answers.jsonl       # ends with 1 where the tuned answers do not stop

The same seed gives the same answer; every question is asked on its own, as in training.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile
from operator import eq
from pathlib import Path
from threading import Lock

from helpers.core import files
from helpers.train import data, models

# The questions that people ask first about any company's reviews.
QUESTIONS = [
    "What are common issues or complaints mentioned in the reviews?",
    "What do customers like most about the product or service?",
    "How is the customer support perceived?",
    "Are there any recurring themes regarding pricing or value?",
]

TURN = Lock()  # one look at a time, since the adapter is switched on and off for the whole model
GUESSED = 5  # tokens at most: more are seldom all right, and each costs a tenth of a look


def first_questions(adapter: Path) -> list[str]:
    """QUESTIONS, or four held-out ones where the adapter was trained on pairs that are not known to be of reviews."""
    pairs = {} if adapter == models.SAMPLE_ADAPTER else data.kept(adapter)
    foreign = pairs and not data.from_reviews(pairs["train"])
    return [pair["question"] for pair in pairs["test"][:4]] if foreign else QUESTIONS


@dataclass(frozen=True)
class Answer:
    """An answer so far; `seconds` run from the first look at the question, the end token counts as a token."""

    text: str
    tokens: int
    seconds: float
    ended: str = ""  # "by itself" or "at max_new_tokens"; empty while it goes on

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    def __str__(self) -> str:
        speed = f"{self.tokens} tokens, {self.tokens_per_second:.1f} a second"
        return f"{speed}, stopped {self.ended}" if self.ended else speed


def stream(
    model, tokenizer, question: str, *, tuned=True, max_new_tokens=256, seed=3407, **sampling
) -> Iterator[Answer]:
    """Yield the answer as it grows, a few tokens at a time; whoever stops reading ends it.

    `tuned=False` asks the base model, with the adapter off. `sampling` is temperature, where 0 is greedy, top_p and
    top_k, by default models.SAMPLING: calmer than Gemma 3's makers advise (temperature 1.0), for answers about facts.
    Raises ValueError for an empty question and for a temperature below 0.

    Each look at the model also checks a `guess` of what comes next, and keeps of it what the model would have said:
    the same answers, at the same odds, in fewer looks (prompt lookup: github.com/apoorvumang/prompt-lookup-decoding).
    """
    import torch
    from transformers import DynamicCache

    sampling = {**models.SAMPLING, **sampling}
    if not question.strip():
        raise ValueError("question is empty; ask something")
    if sampling["temperature"] < 0:
        raise ValueError(f"temperature = {sampling['temperature']}: 0 takes the likeliest word, 1 is daring")
    cache, dice = DynamicCache(config=model.config), torch.Generator(model.device).manual_seed(seed)
    cache.activate_past_recording()  # so that a sliding window, too, gives back what was guessed wrong
    started, ended, ends = time.perf_counter(), "", models.stop_ids(tokenizer)
    ids = models.chat_ids(tokenizer, question)
    asked, seen = len(ids), 0
    while not ended:
        guessed = guess(ids, ends, min(GUESSED, asked + max_new_tokens - len(ids) - 1))
        step = torch.tensor([ids[seen:] + guessed], device=model.device)
        with TURN, torch.inference_mode(), nullcontext() if tuned else model.disable_adapter():
            logits = model(step, past_key_values=cache, logits_to_keep=len(guessed) + 1).logits[0]
            chosen = choose(logits.float(), dice, **sampling)
            right = sum(takewhile(bool, map(eq, guessed, chosen)))
            cache.crop(right - len(guessed))
        ids += chosen[: right + 1]
        seen, tokens, text = len(ids) - 1, len(ids) - asked, models.texts(tokenizer, [ids[asked:]])[0]
        ended = "by itself" if ids[-1] in ends else "at max_new_tokens" if tokens == max_new_tokens else ""
        text = text if ended else text.rstrip("\ufffd")  # half a character, until its other half comes
        yield Answer(text, tokens, time.perf_counter() - started, ended)


def guess(ids: list[int], ends: list[int], most: int) -> list[int]:
    """Up to `most` ids, without `ends`, that followed where `ids` read as now before: right where an answer quotes."""
    for length in (3, 2):
        for start in range(len(ids) - length):
            if ids[start : start + length] == ids[-length:]:
                return [*takewhile(lambda token: token not in ends, ids[start + length :][:most])]
    return []


def choose(logits, dice, temperature: float, top_p: float, top_k: int) -> list[int]:
    """A token id for each row of `logits` ([rows, vocabulary]): the likeliest, or drawn by `dice`, a torch.Generator.

    As Transformers' warpers do, but they sort and draw among all 262,144 where no more than top_k have a chance.
    """
    if not temperature:
        return logits.argmax(-1).tolist()
    scores, ids = (logits / temperature).topk(min(top_k, logits.shape[-1]))
    shares = scores.softmax(-1)
    shares[shares.cumsum(-1) - shares >= top_p] = 0  # whoever comes after the top_p share
    return ids.gather(-1, shares.multinomial(1, generator=dice))[:, 0].tolist()


def both(model, tokenizer, question: str, **settings) -> Iterator[tuple[str, Answer]]:
    """Stream the tuned model's answer, then the base model's: ("tuned" or "base", the answer so far)."""
    for name in ("tuned", "base"):
        growing = stream(model, tokenizer, question, tuned=name == "tuned", **settings)
        yield from ((name, answer) for answer in growing)


def side_by_side(model, tokenizer, question: str, found: dict | None = None, **settings) -> dict:
    """Print both answers as they come; return them, their tokens per second and what ended them as one row.

    `found` is what both read before the question, as `search` gives it.
    """
    row: dict = {"question": question, **(found or {"source": "", "context": ""})}
    print(f"❯ {question}" + (f"\n  reads the {row['source']}" if found else ""))
    for name, answer in both(model, tokenizer, models.prompt(question, row["context"]), **settings):
        if name not in row:
            print(f"\n{name:>6}: ", end="")
        print(answer.text[len(row.get(name, "")) :], end="", flush=True)
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
    return (
        f"{cut} of {len(answers)} answers of the tuned model did not stop by themselves: it has not learned to end its "
        "turn. If its adapter is of an earlier version, run notebook 05 again; after a short training, raise "
        "num_train_epochs; if the answers are good and only longer than that, raise max_new_tokens."
    )


if __name__ == "__main__":
    sys.exit(running_on(files.read_jsonl(Path(sys.argv[1]))) or 0)
