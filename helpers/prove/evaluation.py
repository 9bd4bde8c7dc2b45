"""Base versus tuned, in numbers: one loaded model, its adapter off and on (stage 06).

    print(use_float32(model))
    with model.disable_adapter():
        base = measure(model, tokenizer, pairs, train_answers)
    tuned = measure(model, tokenizer, pairs, train_answers)
    result = compare(base, tuned)

One row per question, and a paired bootstrap interval for each difference. It does not judge style or truth:
read the answers too, or ask `helpers.prove.judge`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from helpers.clean import texts
from helpers.core import files, runtime
from helpers.train import models

METRICS = {  # name: what it says, better direction, format
    "answer_loss": ("answer loss (nats a token)", "lower", "{:.3f}"),
    "perplexity": ("perplexity of the answers", "lower", "{:.1f}"),
    "rouge_l": ("ROUGE-L (F1)", "higher", "{:.3f}"),
    "chrf": ("chrF (0 to 100)", "higher", "{:.1f}"),
    "end": ("probability of the end where the reference ends", "higher", "{:.2f}"),
    "stopped": ("stops by itself (share of answers)", "higher", "{:.2f}"),
    "words": ("words an answer", "", "{:.0f}"),
    "distinct_2": ("distinct-2 (share of word pairs)", "", "{:.2f}"),
    "copied": ("copied from training (share of words)", "", "{:.2f}"),
}
KNOWLEDGE_METRICS = {
    "right": ("right answer preferred (share)", "higher", "{:.2f}"),
    "answer_loss": ("loss of the right answer (nats a token)", "lower", "{:.3f}"),
}
DERIVED = {"perplexity": ("answer_loss", math.exp)}  # shown as a function of another metric's mean
RUN = 8  # words in a row that count as copied; PaLM's authors looked for runs of 8 too (arXiv 2204.02311)
KNOWLEDGE = runtime.SAMPLES / "general_knowledge.jsonl"


def use_float32(model) -> str:
    """Let a model without a GPU compute in float32, so that a batch changes no answer; says what was done.

    In bfloat16 the padding beside a short prompt rounds its numbers differently, and where two tokens are almost tied,
    greedy decoding may then take the other one. On a GPU the model stays as loaded.
    """
    if model.device.type != "cpu":
        return f"on {model.device}, as loaded; in 16 bits a batch may turn an answer where two tokens are almost tied"
    model.float()
    return "float32, in which a batch gives the answers that each question gets alone"


def answer_nats(model, tokenizer, pairs: list[dict], batch_size: int = 4) -> list[list[float]]:
    """The negative log-likelihood, in nats, of each token of each pair's answer and of its end of turn."""
    import torch
    from tqdm import trange

    plain, nats = models.text_tokenizer(tokenizer), []
    for start in trange(0, len(pairs), batch_size, unit="batch", mininterval=5):
        batch = pairs[start : start + batch_size]
        rows = [models.chat_ids(tokenizer, pair["question"], pair["answer"]) for pair in batch]
        prompts = [len(models.chat_ids(tokenizer, pair["question"])) for pair in batch]
        padded = plain.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")
        with torch.inference_mode():
            logits = model(**padded.to(model.device)).logits
        for number, (row, prompt) in enumerate(zip(rows, prompts)):
            # The logits at position i predict token i + 1.
            predicted = logits[number, prompt - 1 : len(row) - 1].float()
            answer = torch.tensor(row[prompt:], device=predicted.device)
            nats.append(torch.nn.functional.cross_entropy(predicted, answer, reduction="none").tolist())
    return nats


def measure(model, tokenizer, pairs: list[dict], train_answers=(), max_new_tokens: int = 160) -> list[dict]:
    """One row per pair: `question`, `reference`, `answer` (greedy) and the metrics of METRICS."""
    from sacrebleu.metrics import CHRF

    rouge, chrf, stops = _rouge(), CHRF(), models.stop_ids(tokenizer)
    nats = answer_nats(model, tokenizer, pairs)
    ids = models.generate_ids(model, tokenizer, [pair["question"] for pair in pairs], max_new_tokens)
    answers, rows = models.texts(tokenizer, ids), []
    for pair, answer, tokens, losses in zip(pairs, answers, ids, nats):
        row = {"question": pair["question"], "reference": pair["answer"], "answer": answer}
        row["answer_loss"] = sum(losses) / len(losses)
        row["end"] = math.exp(-losses[-1])
        row["rouge_l"] = rouge.score(pair["answer"], answer)["rougeL"].fmeasure
        row["chrf"] = chrf.sentence_score(answer, [pair["answer"]]).score
        rows.append(row | {"stopped": float(tokens[-1] in stops)})
    return [row | of_text for row, of_text in zip(rows, describe(answers, train_answers))]


def _rouge():
    """ROUGE-L over the words of any script: rouge-score's own tokenizer drops all but a to z and digits."""
    from types import SimpleNamespace

    from nltk.stem.porter import PorterStemmer
    from rouge_score.rouge_scorer import RougeScorer

    stem = PorterStemmer().stem
    tokenizer = SimpleNamespace(tokenize=lambda text: [stem(word) for word in texts.words(text)])
    return RougeScorer(["rougeL"], tokenizer=tokenizer)


def describe(answers: list[str], train_answers: Iterable[str] = ()) -> list[dict]:
    """What needs no reference, one row per answer: `words`, `distinct_2` and `copied`.

    distinct-2 is the share of word pairs that are not a repetition (Li et al. 2016, arXiv 1510.03055), within
    the answer; a text that runs in circles comes near 0. `copied` is the share of words that stand in a run
    of RUN words or more which is word for word in a training answer.
    """
    learned = {run for answer in train_answers for run in texts.ngrams(texts.words(answer), RUN)}
    rows = []
    for words in map(texts.words, answers):
        starts = [at for at in range(len(words) - RUN + 1) if tuple(words[at : at + RUN]) in learned]
        copied = {start + offset for start in starts for offset in range(RUN)}
        distinct = len(texts.ngrams(words, 2)) / (len(words) - 1) if len(words) > 1 else 1.0
        share = len(copied) / max(1, len(words))
        rows.append({"words": len(words), "distinct_2": distinct, "copied": share})
    return rows


def general_knowledge(model, tokenizer, path: Path = KNOWLEDGE) -> list[dict]:
    """One row per question of common knowledge: `answer_loss` of the right answer, and whether it is `right`.

    It is right (1.0, else 0.0) when the model gives the right sentence a higher probability than each of
    the wrong ones. Nothing is generated, so it does not matter in which form the model likes to answer.
    """
    facts, rows = files.read_jsonl(path), []
    choices = [[fact["right"], *fact["wrong"]] for fact in facts]
    sentences = [fact["sentence"].format(choice) for fact, those in zip(facts, choices) for choice in those]
    questions = [fact["question"] for fact, those in zip(facts, choices) for _ in those]
    pairs = [{"question": question, "answer": answer} for question, answer in zip(questions, sentences)]
    nats = iter(answer_nats(model, tokenizer, pairs, batch_size=8))
    for fact, those in zip(facts, choices):
        losses = [next(nats) for _ in those]
        sums = [sum(tokens) for tokens in losses]
        chosen, loss = those[sums.index(min(sums))], sums[0] / len(losses[0])
        row = {"question": fact["question"], "chosen": chosen, "answer_loss": loss}
        rows.append(row | {"right": float(chosen == fact["right"])})
    return rows


def compare(base: list[dict], tuned: list[dict], metrics: dict = METRICS, reference: list[dict] = ()) -> dict:
    """Means of both, and of a `reference` described; tuned − base with its 95 % interval; how many rows got worse."""
    result: dict = {"count": len(base), "base": {}, "tuned": {}, "difference": {}, "worse": {}}
    for metric, (_, better, _) in metrics.items():
        column, of = DERIVED.get(metric, (metric, float))
        before, after = [row[column] for row in base], [row[column] for row in tuned]
        result["base"][metric] = of(sum(before) / len(before))
        result["tuned"][metric] = of(sum(after) / len(after))
        result["difference"][metric] = paired_interval(before, after, of)
        if better and column == metric:
            result["worse"][metric] = sum(_is_worse(better, *pair) for pair in zip(before, after))
    if reference:
        result["reference"] = {m: sum(row[m] for row in reference) / len(reference) for m in reference[0]}
    return result


def _is_worse(better: str, before: float, after: float) -> bool:
    return after > before if better == "lower" else after < before


def paired_interval(before, after, of=float, samples: int = 10_000, seed: int = 3407, groups=None) -> dict:
    """of(mean of after) − of(mean of before), and its 95 % percentile bootstrap interval.

    Paired: each draw takes the same examples for both, because the same question is hard or easy for both
    models. With `groups`, one an example, whole groups are drawn, since their examples are not independent.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
    """
    import numpy as np

    names = range(len(before)) if groups is None else groups
    _, member = np.unique(np.asarray(names), return_inverse=True)
    sums, sizes = [np.bincount(member, weights=side) for side in (before, after)], np.bincount(member)
    draws = np.random.default_rng(seed).integers(0, len(sizes), (samples, len(sizes)))
    count = sizes[draws].sum(axis=1)
    first, second = (np.vectorize(of)(side[draws].sum(axis=1) / count) for side in sums)
    low, high = np.percentile(second - first, [2.5, 97.5])
    mean = of(np.mean(after)) - of(np.mean(before))
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def table(result: dict, metrics: dict = METRICS) -> list[dict]:
    """The comparison as rows for people, with a plain verdict, and where there are any the references' means."""
    rows = []
    for metric, (label, better, form) in metrics.items():
        change = result["difference"][metric]
        mean, low, high = (form.format(change[key]) for key in ("mean", "low", "high"))
        if change["low"] <= 0 <= change["high"]:
            verdict = "no difference shown"
        else:
            verdict = ("worse" if _is_worse(better, 0, change["mean"]) else "better") if better else "differs"
        means = {side: result[side].get(metric) for side in ("base", "tuned", "reference") if side in result}
        row = {"measure": label} | {side: "" if x is None else form.format(x) for side, x in means.items()}
        rows.append(row | {"difference": mean, "95 % interval": f"{low} … {high}", "verdict": verdict})
    return rows


def got_worse(base: list[dict], tuned: list[dict]) -> list[dict]:
    """The examples whose answer loss, ROUGE-L or chrF got worse, the largest rise of the loss first."""
    rows = []
    pairs = sorted(zip(base, tuned), key=lambda pair: pair[0]["answer_loss"] - pair[1]["answer_loss"])
    for before, after in pairs:
        changes = {}
        for metric in ("answer_loss", "rouge_l", "chrf"):
            label, better, form = METRICS[metric]
            worse = _is_worse(better, before[metric], after[metric])
            changes[label] = f"{form.format(before[metric])} → {form.format(after[metric])}" if worse else ""
        if any(changes.values()):
            rows.append({"question": after["question"], **changes})
    return rows
