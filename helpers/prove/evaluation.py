"""Base versus tuned, in numbers: `measure` each, then `compare` (stage 06).

Of truth it sees numbers and names that the context lacks, and facts that are named; a wrong claim in known words
passes: read the answers too, or ask `helpers.prove.judge`.
"""

import math
import re
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace

from helpers.ask import figures
from helpers.clean import texts
from helpers.core import files, plots, runtime
from helpers.train import data, models

# Each metric's name with what it says, its better direction and its format.
METRICS, KNOWLEDGE_METRICS = files.read_json(Path(__file__).with_name("metrics.json")).values()
TRUTH = {name: METRICS[name] for name in "answer_loss invented_number invented_name facts stopped".split()}
SIDES = {"base": "base", "base with examples": "prompted", "tuned": "tuned", "reference": "reference"}
OVER = {"base": ("difference", "tuned − base"), "prompted": ("over_prompted", "tuned − with examples")}
DERIVED = {"perplexity": ("answer_loss", math.exp)}  # shown as a function of another metric's mean
NAME = re.compile(r"(?<=[\w,;:)] )[A-Z][^\W\d_][\w'’-]*")  # a capitalised word inside of a sentence
RUN = 8  # words in a row that count as copied; PaLM's authors looked for runs of 8 too (arXiv 2204.02311)
KNOWLEDGE = runtime.SAMPLES / "general_knowledge.jsonl"


def answer_nats(model, tokenizer, pairs: list[dict], batch_size: int = 4, examples=()) -> list[list[float]]:
    """The negative log-likelihood, in nats, of each token of each pair's answer and of its end of turn."""
    import torch
    from tqdm import trange

    rows = [models.chat_ids(tokenizer, pair["question"], pair["answer"], examples) for pair in pairs]
    asked = [models.chat_ids(tokenizer, pair["question"], examples=examples) for pair in pairs]
    sizes, nats = [len(row) - len(prompt) for row, prompt in zip(rows, asked)], [[]] * len(pairs)
    in_order = sorted(range(len(rows)), key=lambda at: len(rows[at]))  # so that little is padded
    for start in trange(0, len(rows), batch_size, unit="batch", mininterval=5):
        batch = in_order[start : start + batch_size]
        # All answers end together: logits of the prompts would fill the memory, 262,144 numbers per token.
        most = max(sizes[at] for at in batch)
        with models.inference(model):
            padded = models.batch_of(model, tokenizer, [rows[at] for at in batch], examples)
            if cache := padded.get("past_key_values"):
                new, positions = slice(cache.get_seq_length(), None), padded["attention_mask"].cumsum(1) - 1
                padded |= {"input_ids": padded["input_ids"][:, new], "position_ids": positions[:, new]}
            logits = model(**padded, logits_to_keep=most + 1).logits
        for at, scores in zip(batch, logits):
            answer = torch.tensor(rows[at][-sizes[at] :], device=scores.device)
            predicted = scores[-sizes[at] - 1 : -1].float()  # each position predicts the next
            nats[at] = torch.nn.functional.cross_entropy(predicted, answer, reduction="none").tolist()
    return nats


def examples(pairs: list[dict], open_book: bool, count: int = 3) -> list[tuple[str, str]]:
    """(prompt, answer) of `count` pairs to stand in a prompt: the shortest of each kind in turn."""
    kinds = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: len(pair["context"]) + len(pair["answer"])):
        kinds[data.kind(pair)].append(pair)
    shown = [pair for turn in zip_longest(*kinds.values()) for pair in turn if pair][:count]
    return list(zip(data.prompts(shown, open_book), (pair["answer"] for pair in shown)))


def measure(
    model, tokenizer, pairs: list[dict], train_answers=(), open_book=True, examples=(), max_new_tokens=0
) -> list[dict]:
    """One row per pair: `question`, `reference`, `answer` (greedy) and the metrics of METRICS.

    `examples`, (prompt, answer) each, come first. An answer may have 1.5 times the tokens of the longest reference.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import CHRF

    chrf, stops = CHRF(), models.stop_ids(tokenizer)
    # rouge-score's own tokenizer drops all but a to z and digits.
    any_script = SimpleNamespace(tokenize=lambda text: [texts.stem(word) for word in texts.words(text)])
    rouge, asked = RougeScorer(["rougeL"], tokenizer=any_script), data.prompts(pairs, open_book)
    prompted = [pair | {"question": prompt} for prompt, pair in zip(asked, pairs)]
    nats = answer_nats(model, tokenizer, prompted, examples=examples)
    most = max_new_tokens or round(1.5 * max(map(len, nats)))
    ids = models.generate_ids(model, tokenizer, asked, most, examples=examples)
    answers, rows = models.texts(tokenizer, ids), []
    for pair, answer, tokens, losses in zip(pairs, answers, ids, nats):
        row = {"question": pair["question"], "reference": pair["answer"], "answer": answer}
        row |= {"kind": data.kind(pair), "context": pair.get("context", ""), **truth(pair, answer)}
        row |= {"answer_loss": sum(losses) / len(losses), "end": math.exp(-losses[-1])}
        row["rouge_l"] = rouge.score(pair["answer"], answer)["rougeL"].fmeasure
        row["chrf"] = chrf.sentence_score(answer, [pair["answer"]]).score
        rows.append(row | {"stopped": float(tokens[-1] in stops)})
    return [row | of_text for row, of_text in zip(rows, describe(answers, train_answers))]


def truth(pair: dict, answer: str) -> dict:
    """Against the pair's context: 1.0 for an invented number or name, and the share of `facts` named; {} without one.

    Facts count in the first words alone, a quarter more than the reference has: who recites a sheet names all of it.
    """
    if not pair.get("context"):
        return {}
    known = f"{pair['context']} {pair['question']}"
    words = {word.casefold() for word in re.findall(r"[\w'’-]+", known)}
    row = {"invented_number": float(bool(figures.invented(answer, known, texts.language(answer))))}
    row["invented_name"] = float(any(name.casefold() not in words for name in NAME.findall(answer)))
    if pair.get("facts"):
        said = " ".join(answer.split()[: int(1.25 * len(pair["answer"].split()))])
        row["facts"] = sum(figures.named(fact, said) for fact in pair["facts"]) / len(pair["facts"])
    return row


def describe(answers: list[str], train_answers=()) -> list[dict]:
    """What needs no reference, one row per answer: `words`, `distinct_2` and `copied`.

    distinct-2 is the share of word pairs that are no repetition within the answer (Li et al. 2016, arXiv 1510.03055);
    `copied` that of the words in a run of RUN or more which is word for word in a training answer.
    """
    learned = {run for answer in train_answers for run in texts.ngrams(texts.words(answer), RUN)}
    rows = []
    for words in map(texts.words, answers):
        starts = [at for at in range(len(words) - RUN + 1) if tuple(words[at : at + RUN]) in learned]
        copied = {start + offset for start in starts for offset in range(RUN)}
        distinct = len(texts.ngrams(words, 2)) / (len(words) - 1) if len(words) > 1 else 1.0
        rows.append({"words": len(words), "distinct_2": distinct, "copied": len(copied) / max(1, len(words))})
    return rows


def general_knowledge(model, tokenizer, path: Path = KNOWLEDGE) -> list[dict]:
    """One row per question of common knowledge: `right`, `answer_loss` of the right answer, and which was `chosen`.

    It is right (1.0) where the right sentence is more probable than each wrong one, whatever would be generated.
    """
    facts, rows = files.read_jsonl(path), []
    choices = [(fact, choice) for fact in facts for choice in (fact["right"], *fact["wrong"])]
    pairs = [{"question": fact["question"], "answer": fact["sentence"].format(it)} for fact, it in choices]
    nats = iter(answer_nats(model, tokenizer, pairs, batch_size=8))
    for fact in facts:
        losses = {choice: next(nats) for choice in (fact["right"], *fact["wrong"])}
        chosen, right = min(losses, key=lambda choice: sum(losses[choice])), losses[fact["right"]]
        row = {"question": fact["question"], "chosen": chosen, "answer_loss": sum(right) / len(right)}
        rows.append(row | {"right": float(chosen == fact["right"])})
    return rows


def compare(base: list[dict], tuned: list[dict], metrics: dict = METRICS, reference=(), prompted=()) -> dict:
    """The means of each side, tuned − base and tuned − prompted with 95 % intervals, and how many rows got worse.

    `prompted` are the base's rows with examples in its prompt, `reference` the references described. A metric is taken
    over the rows that have it, and left out where none has.
    """
    sides = {"base": base, "tuned": tuned, "prompted": prompted, "reference": reference}
    result: dict = {"count": len(base), "worse": {}, **{side: {} for side, rows in sides.items() if rows}}
    result |= {name: {} for side, (name, _) in OVER.items() if sides[side]}
    for metric, (_, better, _) in metrics.items():
        column, of = DERIVED.get(metric, (metric, float))
        values = {side: [row[column] for row in rows if column in row] for side, rows in sides.items()}
        if not values["base"]:
            continue
        for side in filter(values.get, values):
            result[side][metric] = of(sum(values[side]) / len(values[side]))
            if side in OVER:
                result[OVER[side][0]][metric] = paired_interval(values[side], values["tuned"], of)
        if better and column == metric:
            less, more = ("base", "tuned") if better == "lower" else ("tuned", "base")
            result["worse"][metric] = sum(a < b for a, b in zip(values[less], values[more]))
    return result


def by_kind(base: list[dict], tuned: list[dict], reference: list[dict], prompted: list[dict]) -> dict:
    """`compare` for each kind of pair: review, topic (a topic's sheet) and whole (the sheet of all reviews)."""
    sides, every, kinds = (base, tuned, reference, prompted), [row["kind"] for row in base], {}
    for kind in dict.fromkeys(every):
        first, second, *others = ([row for row, of in zip(rows, every) if of == kind] for rows in sides)
        kinds[kind] = compare(first, second, METRICS, *others)
    return kinds


def paired_interval(before, after, of=float, samples: int = 10_000, seed: int = 3407, groups=None) -> dict:
    """of(mean of after) − of(mean of before), with its 95 % percentile bootstrap interval; under six it holds 0.

    Paired: each draw takes the same examples for both, since a question is hard or easy for both models. With `groups`,
    a name for each example, it takes whole groups (Efron and Tibshirani 1993, chapters 8 and 13).
    """
    import numpy as np

    _, member = np.unique(range(len(before)) if groups is None else groups, return_inverse=True)
    sums, sizes = [np.bincount(member, weights=side) for side in (before, after)], np.bincount(member)
    draws = np.random.default_rng(seed).integers(0, len(sizes), (samples, len(sizes)))
    count = sizes[draws].sum(axis=1)
    first, second = (np.vectorize(of)(side[draws].sum(axis=1) / count) for side in sums)
    low, high = np.percentile(second - first, [2.5, 97.5])
    low, high = (low, high) if len(sizes) > 5 else (min(low, 0), max(high, 0))  # five agree: luck, in 6 %
    return {"mean": float(of(np.mean(after)) - of(np.mean(before))), "low": float(low), "high": float(high)}


def table(result: dict, metrics: dict = METRICS) -> list[dict]:
    """The comparison as rows for people, with a plain verdict, and where there are any the references' means."""
    rows = []
    for metric in filter(result["difference"].get, metrics):
        label, better, form = metrics[metric]
        sides = {name: result[side].get(metric) for name, side in SIDES.items() if side in result}
        row = {"measure": label} | {side: "" if m is None else form.format(m) for side, m in sides.items()}
        for change, name in [(result[key][metric], name) for key, name in OVER.values() if key in result]:
            mean, low, high = (form.format(change[key]) for key in ("mean", "low", "high"))
            row[name] = f"{mean} ({low} … {high}): {plots.verdict(change, better)}"
        rows.append(row)
    return rows
