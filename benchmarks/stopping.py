"""Does the tuned Gemma 3 270M stop where it should, sampled as people sample it?

    python -m benchmarks.stopping            # the bundled adapter; some minutes on two cores

40 answers to the four questions, ten of each, with what is found for them, at models.SAMPLING; and 32 held-out
pairs: how likely the end is where the reference ends, and the loss of the answers. `stopping.json` keeps the runs with
a closed book, before and after the turn markers had rows of their own (their commits are named), beside this one.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from benchmarks import machine
from helpers.core import files, runtime
from helpers.prove import chat, evaluation, search
from helpers.train import data, models

SEEDS, MOST = 10, 256
RESULT = Path(__file__).with_suffix(".json")


def scripts(text: str) -> set[str]:
    """The scripts of a text's letters, as Unicode names them: LATIN, CYRILLIC, HANGUL …"""
    return {unicodedata.name(letter, "UNKNOWN").split()[0] for letter in text if letter.isalpha()}


def sampled(model, tokenizer, questions: list[str], seeds: int = SEEDS) -> tuple[int, list[str]]:
    """How many of seeds × questions sampled answers stop by themselves, and the answers."""
    from transformers import set_seed

    stops, stopped, answers = models.stop_ids(tokenizer), 0, []
    for seed in range(seeds):
        set_seed(seed)
        ids = models.generate_ids(model, tokenizer, questions, MOST, do_sample=True, **models.SAMPLING)
        stopped += sum(answer[-1] in stops for answer in ids)
        answers += models.texts(tokenizer, ids)
    return stopped, answers


def main() -> None:
    import numpy as np

    pairs, _ = data.load_qa_dataset("auto", Path("nowhere"))
    model, tokenizer = models.load_tuned(models.SAMPLE_ADAPTER, runtime.device())
    model.float()
    test = [pair for pair in pairs["test"] if pair["kind"] == "review"][:32]
    test = [pair | {"question": asked} for pair, asked in zip(test, data.prompts(test, open_book=True))]
    stopped, answers = sampled(model, tokenizer, search.prompts(models.SAMPLE_ADAPTER, chat.QUESTIONS))
    known = scripts(" ".join([*chat.QUESTIONS, *pairs["train"]["answer"]]))
    nats = evaluation.answer_nats(model, tokenizer, test)
    end = np.exp([-losses[-1] for losses in nats])
    figures = {
        "sampled answers": len(answers),
        "stopped by themselves": stopped,
        "with a letter of a foreign script": sum(not scripts(answer) <= known for answer in answers),
        "probability of the end: lowest, quartiles, highest": np.quantile(end, [0, 0.25, 0.5, 0.75, 1])
        .round(2)
        .tolist(),
        "answer loss": round(float(np.mean([np.mean(losses) for losses in nats])), 3),
    }
    result = files.read_json(RESULT) if RESULT.exists() else {}
    files.write_json(RESULT, {**result, "rows begun anew, open book": {**machine.describe(), **figures}})
    print(figures, *answers[:8], sep="\n")


if __name__ == "__main__":
    main()
