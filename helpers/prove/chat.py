"""Talk to the tuned model, and to the base beside it (stage 07).

The same seed gives the same answer; every question is asked on its own, as in training.
`python -m helpers.prove.chat answers.jsonl` ends with 1 where the tuned answers do not stop.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
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

# The rows of a batch, by what PEFT calls the adapter of each.
ROWS = {"tuned": "default", "base": "__base__"}
# One question at a time: the seed is torch's only one.
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
    model, tokenizer, question: str, *, max_new_tokens=256, seed=3407, **sampling
) -> Iterator[dict[str, Answer]]:
    """Yield both models' answers, by the names of ROWS, at each token; whoever stops reading ends them.

    They are rows of one batch: a token of both takes hardly longer than one, since most of its time goes into reading
    the weights. `sampling` is temperature, where 0 is greedy, top_p and top_k, by default models.SAMPLING: calmer than
    Gemma 3's makers advise (temperature 1.0), for answers about facts.
    """
    import torch
    from transformers import StoppingCriteriaList, set_seed

    ids = torch.tensor([models.chat_ids(tokenizer, question)] * len(ROWS), device=model.device)
    ends, sampling = models.ends(tokenizer), {"do_sample": True, **models.SAMPLING, **sampling}
    sampling["temperature"] *= 1.0  # transformers takes no whole number, and a slider at its end gives one
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": max_new_tokens}
    options |= ends | (sampling if sampling["temperature"] else models.GREEDY)
    grown, unread, started = Queue(), Event(), time.perf_counter()

    def watch(all_ids: torch.Tensor, scores: object) -> torch.Tensor:
        grown.put((all_ids[:, ids.shape[1] :].tolist(), time.perf_counter() - started))
        return torch.full([len(ROWS)], unread.is_set(), device=ids.device)

    def run() -> None:
        nonlocal started
        watching = {"stopping_criteria": StoppingCriteriaList([watch]), "adapter_names": [*ROWS.values()]}
        try:
            with TURN, models.inference(model):
                started = time.perf_counter()
                set_seed(seed)
                model.generate(**options, **watching)
        finally:
            grown.put(None)  # also after an error, or the reader would wait for ever

    answers: dict[str, Answer] = {}
    with ThreadPoolExecutor(1) as pool:
        generation = pool.submit(run)
        try:
            for rows, seconds in iter(grown.get, None):
                for name, row in zip(ROWS, rows):
                    # Behind its end a row is padded, and before that it may end with half a letter.
                    if name not in answers or not answers[name].ended:
                        text = tokenizer.decode(row, skip_special_tokens=True).strip().rstrip("\ufffd")
                        ended = "by itself" if row[-1] in ends["eos_token_id"] else ""
                        answers[name] = Answer(text, len(row), seconds, ended)
                yield {**answers}
        finally:
            unread.set()
        generation.result()  # raises what was raised in the thread
    yield {name: one._replace(ended=one.ended or "at max_new_tokens") for name, one in answers.items()}


def side_by_side(model, tokenizer, question: str, found: dict | None = None, **settings) -> dict:
    """Print both answers as they come, to what `search` found and the question; return them as one row."""
    row: dict = {"question": question, **(found or {"source": "", "context": ""})}
    print(f"❯ {question}" + (f"\n  reads the {row['source']}" if found else ""))
    growing = stream(model, tokenizer, models.prompt(question, row["context"]), **settings)
    answers = next(growing)
    for name in ROWS:  # the second goes on while the first is read
        print(f"\n{name:>6}: {answers[name].text}", end="", flush=True)
        while not answers[name].ended:
            printed, answers = len(answers[name].text), next(growing)
            print(answers[name].text[printed:], end="", flush=True)
        print(f"\n        [{answers[name]}]")
        row |= {name: answers[name].text, f"{name}_tokens": answers[name].tokens}
        row |= {f"{name}_stopped": answers[name].ended}
        row[f"{name}_tokens_per_second"] = round(answers[name].tokens_per_second, 1)
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
