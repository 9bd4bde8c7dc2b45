"""A language model that compares base's and tuned's answers in pairs, and is examined first (stage 06).

Each pair is shown in both orders, because judges prefer what stands first (Zheng et al. 2023, arXiv 2306.05685, section
3.3); a verdict that changes with the order is a tie. Any server with OpenAI's chat-completions API works.
"""

import random
from collections import namedtuple
from pathlib import Path
from typing import Literal

import pydantic

from helpers.ask import answers, injection, teacher
from helpers.clean import texts
from helpers.core import files
from helpers.prove import evaluation

LEAST_AGREEMENT = 0.7  # with the known winners: where the interval's lower end is less, the judge is refused
SIDES = {"b": "tuned", "a": "base", "tie": "tie", "unusable": "unusable"}
EXAMINED = 8  # questions, each with a planted pair per kind of loser
Pair = namedtuple("Pair", "question reference a b")  # of two answers; in a planted pair a is the better
SYSTEM_PROMPT = Path(__file__).with_name("judge_system.md").read_text(encoding="utf-8").strip()


class Verdict(pydantic.BaseModel, json_schema_extra={"additionalProperties": False}):
    winner: Literal["first", "second", "tie"]


def requests(pairs: list[Pair], model: str) -> list[teacher.Request]:
    """Two for each pair: with a in the first place, then with b."""
    made = []
    for question, reference, a, b in pairs:
        for first, second in ((a, b), (b, a)):
            shown = {"question": question, "reference": reference, "first": first, "second": second}
            text = "\n\n".join(f"<{n}>\n{injection.neutralised(part)}\n</{n}>" for n, part in shown.items())
            key = f"judge/{model}/{files.content_id([SYSTEM_PROMPT, text])}"
            made.append(teacher.Request(key, SYSTEM_PROMPT, text, 50))
    return made


def pairs(base: list[dict], tuned: list[dict]) -> list[Pair]:
    """`evaluation.measure`'s rows as pairs: the base model's answer is a, the tuned one's is b."""
    return [Pair(a["question"], a["reference"], a["answer"], b["answer"]) for a, b in zip(base, tuned)]


def planted(rows: list[dict], seed: int = 3407) -> list[Pair]:
    """Pairs with a known winner for the first EXAMINED of `rows`, which must be two or more: one per kind of loser.

    The good answer is the reference without its last sentence; a loser with the same words is left out.
    """
    planted_pairs, draw = [], random.Random(seed)
    for number, row in enumerate(rows[:EXAMINED]):
        question, reference = row["question"], row["reference"]
        good = reference[: reference.rstrip(".").rfind(". ") + 1] or reference
        words, other = texts.words(good), rows[(number + len(rows) // 2) % len(rows)]["reference"]
        shuffled = " ".join(draw.sample(words, len(words)))
        losers = ["", good[: len(good) // 4], other, shuffled, " ".join([question] * 5)]
        planted_pairs += [Pair(question, reference, good, bad) for bad in losers if texts.words(bad) != words]
    return planted_pairs


def winners(pairs: list[Pair], model: str, journal: Path, max_cost_usd: float) -> list[str]:
    """For each pair "a" or "b", where it wins in both orders, "tie" or "unusable"; raises as `teacher.ask_all` does."""
    asked = requests(pairs, model)
    replies = teacher.ask_all(asked, journal, model=model, response_model=Verdict, max_cost_usd=max_cost_usd)
    read = [next(answers.all_items(replies[request.key].text, Verdict), None) for request in asked]
    places = [verdict and verdict.winner for verdict in read]
    won = {("first", "second"): "a", ("second", "first"): "b"}
    orders = zip(places[::2], places[1::2])
    return ["unusable" if None in both else won.get(both, "tie") for both in orders]


def examine(planted_pairs: list[Pair], model: str, journal: Path, max_cost_usd: float = 1.0) -> dict:
    """How often the judge names the known winner in both orders, and why it is `refused`: "" for a fit one."""
    from scipy.stats import binomtest

    verdicts = winners(planted_pairs, model, journal, max_cost_usd)
    agreed, pairs = verdicts.count("a"), len(verdicts)
    # Wilson's interval holds for few pairs, and where all or none agree, too.
    low, high = map(float, binomtest(agreed, pairs).proportion_ci(method="wilson"))
    missed = f"it names the known winner of {agreed} of {pairs} planted pairs in both orders (95 % interval {low:.2f}"
    missed += f" to {high:.2f}, whose lower end must reach {LEAST_AGREEMENT})"
    result = {"pairs": pairs, "agreed": agreed, "refused": missed if low < LEAST_AGREEMENT else ""}
    return result | {"agreement": {"mean": agreed / pairs, "low": low, "high": high}}


def count(pairs: list[Pair], model: str, journal: Path, check: dict, max_cost_usd: float = 1.0) -> dict:
    """How often the judge, unless it was refused, prefers the tuned answer, the base's or neither.

    `difference` is the mean of +1 (tuned), −1 (base) and 0 (neither, or unusable) with its 95 % bootstrap interval.
    """
    if check["refused"]:
        return {"model": model, "check": check}
    verdicts = winners(pairs, model, journal, max_cost_usd)
    counts = {side: verdicts.count(key) for key, side in SIDES.items()}
    change = evaluation.paired_interval([v == "a" for v in verdicts], [v == "b" for v in verdicts])
    return {"model": model, **counts, "difference": change, "check": check}


def report(verdicts: dict) -> str:
    """The verdict for people, with the judge's own agreement beside it."""
    check, model = verdicts["check"], verdicts["model"]
    if check["refused"]:
        return f"{model} is refused as a judge: {check['refused']}. It is asked nothing else."
    counts = ", ".join(f"{side} {verdicts[side]}" for side in SIDES.values())
    change = "tuned minus base: {mean:+.2f} a question (95 % interval {low:+.2f} … {high:+.2f})"
    share = "{mean:.0%} (95 % interval {low:.0%} to {high:.0%})".format(**check["agreement"])
    examined = f"examined on {check['pairs']} planted pairs: right in {share}"
    return "\n".join([f"{model} prefers: {counts}", change.format(**verdicts["difference"]), examined])
