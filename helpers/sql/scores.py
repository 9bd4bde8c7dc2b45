"""Base versus tuned by running their SQL: the numbers, tables and examples of notebook 09.

    test, counts = scores.check(test)                        # before the training
    result = scores.compare(test, base_answers, tuned_answers)

Execution accuracy, the share of questions whose SQL gives the rows of the gold SQL, does not say how the SQL reads, nor
what it would do on other rows.
"""

from collections import Counter

from helpers.core import plots
from helpers.prove import evaluation
from helpers.sql import data, judge

SIDES = ("base", "tuned")
COLOURS = [plots.BLUE, plots.ORANGE, plots.GREY, "#D55E00", "#CC79A7", "#56B4E9", "#F0E442"]


def check(rows: list[dict], least: int = 10) -> tuple[list[dict], dict]:
    """(the rows that can judge a model, how many there are of each kind), by running every gold query twice.

    A row cannot judge where its context does not build, its gold does not run, gives no rows, or gives others the
    second time. Raises ValueError, with the first cause, when fewer than `least` and less than half are left.
    """
    outcomes = judge.judge_all((row["sql_context"], row["sql"], row["sql"]) for row in rows)
    judged, kinds = list(zip(rows, outcomes)), Counter(outcome.kind for outcome in outcomes)
    left = [row for row, outcome in judged if outcome.kind == judge.RIGHT]
    causes = [f"{o.kind}: {o.detail} ({row['sql_prompt']})" for row, o in judged if o.kind != judge.RIGHT]
    if len(left) < min(least, len(rows) / 2):
        raise ValueError(
            f"Only {len(left)} of {len(rows)} questions can judge a model. The first that cannot is {causes[0]}. "
            "Each sql_context needs CREATE statements and rows (INSERT) on which its sql gives rows."
        )
    runs, builds = len(rows) - kinds[judge.GOLD_BROKEN], sum(bool(o.gold.context_dialect) for o in outcomes)
    counts = {"questions": len(rows), "context builds": builds, "gold runs": runs}
    counts |= {"gives rows": runs - kinds[judge.NO_ROWS], "can judge": len(left)}
    return left, counts | {"first cause": "".join(causes[:1])}


def compare(rows: list[dict], base: list[str], tuned: list[str], group_by: str = "schema") -> dict:
    """Both models' outcomes, their accuracies, and the difference with its 95 % interval, which resamples whole groups.

    Rows whose gold SQL does not run or gives no rows are left out and counted. Raises ValueError when no row is left.
    """
    examples = [dict(row) for row in rows]
    for side, texts in zip(SIDES, (base, tuned)):
        jobs = [(row["sql_context"], row["sql"], text) for row, text in zip(rows, texts, strict=True)]
        for example, text, outcome in zip(examples, texts, judge.judge_all(jobs)):
            example |= {side: text, f"{side}_outcome": outcome.kind, f"{side}_detail": outcome.detail}
            example["translated"] = outcome.translated
    kinds = Counter(example["base_outcome"] for example in examples)
    sound = [row for row in examples if row["base_outcome"] not in (judge.GOLD_BROKEN, judge.NO_ROWS)]
    if not sound:
        first = f"the first: {examples[0]['base_detail']}"
        raise ValueError(f"None of {len(rows)} gold queries can judge, {first}. Check the contexts.")
    base, tuned = ([float(row[f"{side}_outcome"] == judge.RIGHT) for row in sound] for side in SIDES)
    groups = [data.group(row, group_by) for row in sound]
    counts = {"count": len(sound), "gold_broken": kinds[judge.GOLD_BROKEN], "no_rows": kinds[judge.NO_ROWS]}
    counts |= {"groups": len(set(groups)), "translated": sum(bool(row["translated"]) for row in sound)}
    outcomes = {side: dict(Counter(row[f"{side}_outcome"] for row in sound)) for side in SIDES}
    means = {"base": sum(base) / len(sound), "tuned": sum(tuned) / len(sound)}
    difference = evaluation.paired_interval(base, tuned, groups=groups)
    return counts | means | {"difference": difference, "outcomes": outcomes, "examples": sound}


def picture(result: dict):
    """One stacked bar per model: how many of its queries were right, and what became of the others."""
    from pandas import DataFrame

    figure, (axis,) = plots.new_figure("What became of the SQL, before and after", height=2.4)
    counts = DataFrame(result["outcomes"], index=judge.KINDS).dropna(how="all").fillna(0).T
    counts.plot.barh(stacked=True, ax=axis, color=COLOURS, width=0.8, xlabel="held-out questions")
    for drawn in axis.containers:
        axis.bar_label(drawn, fmt=lambda n: f"{n:.0f}" if n else "", label_type="center", color="white")
    axis.invert_yaxis()
    axis.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    return figure


def sentence(result: dict) -> str:
    """The result in a sentence, in points of execution accuracy."""
    mean, low, high = (100 * result["difference"][name] for name in ("mean", "low", "high"))
    return (
        f"Right: {result['base']:.1%} before, {result['tuned']:.1%} after, over {result['count']} questions and "
        f"{result['groups']} groups held out: {mean:+.1f} points, 95 % interval {low:+.1f} … {high:+.1f}"
    )
