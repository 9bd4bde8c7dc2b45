"""Base versus tuned by running their SQL: the numbers, tables and examples of notebook 09.

    result = scores.compare(test, base_answers, tuned_answers)

Execution accuracy is the share of questions whose SQL gives the rows of the gold SQL. It does not
judge how the SQL reads, nor what it would do on other rows.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from helpers.prove import evaluation
from helpers.sql import data, judge
from helpers.train import models


def answers(model, tokenizer, rows: list[dict], max_new_tokens: int = 256, batch_size: int = 16) -> list[str]:
    """The model's greedy answer to each row's question."""
    questions = [data.pair(row)["question"] for row in rows]
    return models.generate(model, tokenizer, questions, max_new_tokens, batch_size)


def compare(rows: list[dict], base: list[str], tuned: list[str], group_by: str = "schema") -> dict:
    """Both models' outcomes, their accuracies, and the difference with its 95 % interval.

    Rows whose gold SQL does not run are left out and counted. The interval resamples whole groups, since
    questions over one schema are easy or hard together. Raises ValueError when no gold runs.
    """
    judged = [judge.judge_all(_jobs(rows, answers)) for answers in (base, tuned)]
    sound = [at for at in range(len(rows)) if judged[0][at].kind != judge.GOLD_BROKEN]
    if not sound:
        raise ValueError(
            f"None of {len(rows)} gold queries runs, the first: {judged[0][0].detail}. Check the contexts."
        )
    examples = [
        {
            **rows[at],
            "base": base[at],
            "tuned": tuned[at],
            "base_outcome": judged[0][at].kind,
            "tuned_outcome": judged[1][at].kind,
            "tuned_detail": judged[1][at].detail,
            "translated": judged[1][at].translated,
        }
        for at in sound
    ]
    right = {
        side: [float(row[f"{side}_outcome"] == judge.RIGHT) for row in examples] for side in ("base", "tuned")
    }
    groups = [data.group(row, group_by) for row in examples]
    return {
        "count": len(sound),
        "gold_broken": len(rows) - len(sound),
        "groups": len(set(groups)),
        "translated": sum(bool(row["translated"]) for row in examples),
        "base": sum(right["base"]) / len(sound),
        "tuned": sum(right["tuned"]) / len(sound),
        "difference": evaluation.paired_interval(right["base"], right["tuned"], groups=groups),
        "outcomes": {side: dict(Counter(row[f"{side}_outcome"] for row in examples)) for side in right},
        "examples": examples,
    }


def _jobs(rows: list[dict], answers: list[str]) -> list[tuple[str, str, str]]:
    return [(row["sql_context"], row["sql"], answer) for row, answer in zip(rows, answers, strict=True)]


def by(result: dict, column: str = "sql_complexity") -> list[dict]:
    """Accuracy by the values of a column, the most frequent first; rows without the column count as one."""
    found: dict[str, list[dict]] = {}
    for row in result["examples"]:
        found.setdefault(str(row.get(column) or "not said"), []).append(row)
    table = []
    for value, rows in sorted(found.items(), key=lambda item: -len(item[1])):
        line: dict[str, object] = {column: value, "questions": len(rows)}
        for side in ("base", "tuned"):
            line[f"{side} right"] = sum(row[f"{side}_outcome"] == judge.RIGHT for row in rows)
        table.append(line | {"tuned accuracy": f"{line['tuned right'] / len(rows):.0%}"})
    return table


def outcomes(result: dict) -> list[dict]:
    """How often each outcome occurred, of both models; those that never did are left out."""
    kinds = {
        kind: [result["outcomes"][side].get(kind, 0) for side in ("base", "tuned")] for kind in judge.KINDS
    }
    return [
        {"outcome": kind, "base": base, "tuned": tuned}
        for kind, (base, tuned) in kinds.items()
        if base or tuned
    ]


def failures(result: dict, side: str = "tuned", each: int = 1) -> list[dict]:
    """The first `each` examples of every kind of failure."""
    table, seen = [], Counter()
    for row in result["examples"]:
        kind = row[f"{side}_outcome"]
        seen[kind] += 1
        if kind != judge.RIGHT and seen[kind] <= each:
            line = {
                "outcome": kind,
                "question": row["sql_prompt"],
                "gold": row["sql"],
                side: judge.extract(row[side]),
            }
            table.append(line | ({"why": row["tuned_detail"]} if side == "tuned" else {}))
    return table


def sentence(result: dict) -> str:
    """The result in a sentence, in points of execution accuracy."""
    change = {name: 100 * value for name, value in result["difference"].items()}
    return (
        f"Right: {result['base']:.1%} before, {result['tuned']:.1%} after, over {result['count']} questions and "
        f"{result['groups']} groups held out: {change['mean']:+.1f} points, 95 % interval {change['low']:+.1f} … "
        f"{change['high']:+.1f}"
    )


def answers_of_folder(folder: Path, questions: list[str], max_new_tokens: int = 256) -> list[str]:
    """Greedy answers of the model in `folder` through transformers' pipeline, loaded as any user would.

    The questions go in as chats. As a text from the chat template, each would get a second `<bos>`.
    """
    from transformers import pipeline

    generate = pipeline("text-generation", model=str(folder), dtype="auto", device_map="auto")
    generate.tokenizer.padding_side = "left"  # an answer starts right after its own prompt
    generate.generation_config.update(max_new_tokens=max_new_tokens, max_length=None, **models.GREEDY)
    chats = [[{"role": "user", "content": question}] for question in questions]
    replies = generate(chats, batch_size=8, return_full_text=False)
    return [reply["generated_text"].strip() for (reply,) in replies]
