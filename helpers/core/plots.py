"""The pictures of the notebooks, all in one plain style. Every function returns the figure.

matplotlib is imported when a picture is drawn. Colours are from Okabe and Ito's palette, which
people with colour-blindness can tell apart.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"


def _figure(title: str, width: float = 7, height: float = 3, columns: int = 1):
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(width, height), dpi=110, layout="constrained")
    pyplot.close(figure)  # a notebook shows the returned figure; open, it would show twice
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _nothing(title: str, why: str) -> Figure:
    """A picture that says why there is none."""
    figure, (axis,) = _figure(title, height=1.1)
    axis.axis("off")
    axis.text(0, 0.5, why, color=GREY, va="center")
    return figure


def table(rows: list[dict]):
    """Rows as a table for a notebook, a column a key, texts in full and escaped; None without rows."""
    from IPython.display import HTML
    from pandas import DataFrame, option_context

    if not rows:
        return None
    one_line = [{k: " ".join(v.split()) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    with option_context("display.max_colwidth", None):
        html = DataFrame(one_line, dtype=object).to_html(index=False, border=0, justify="left", na_rep="")
    return HTML(html.replace("<td>", '<td style="text-align: left">'))  # Jupyter would align it to the right


def ratings(reviews: list[dict]) -> Figure:
    """How many reviews gave one to five stars."""
    counts = Counter(review["review_rating"] for review in reviews)
    if counts[None] == len(reviews):
        return _nothing("Reviews by rating", "No review has a rating.")
    figure, (axis,) = _figure("Reviews by rating", height=2.6)
    stars = [1, 2, 3, 4, 5]
    bars = axis.bar([f"{n} ★" for n in stars], [counts[n] for n in stars], color=BLUE)
    axis.bar_label(bars, padding=2)
    axis.set_ylabel("reviews")
    axis.yaxis.get_major_locator().set_params(integer=True)
    return figure


def lengths(values: list[int], unit: str, title: str, limit: int | None = None) -> Figure:
    """A histogram of lengths, with the limit drawn in; one that is far off is named beside the unit."""
    figure, (axis,) = _figure(title, height=2.6)
    axis.hist(values, bins=min(30, max(values) - min(values) + 1), color=BLUE)
    axis.set(xlabel=unit, ylabel="rows")
    axis.yaxis.get_major_locator().set_params(integer=True)
    if limit and limit <= 2 * max(values):
        axis.axvline(limit, color=ORANGE, linewidth=2)
        place = {"xycoords": ("data", "axes fraction"), "ha": "right", "color": ORANGE}
        axis.annotate(f"limit {limit:,} ", (limit, 0.9), **place)
    elif limit:
        axis.set_xlabel(f"{unit} (the limit of {limit:,} is far to the right)")
    return figure


def months(values: list[str]) -> Figure:
    """How many rows fall into each month; `values` are `YYYY-MM`, months without a row included.

    Over more than ten years, the bars are years.
    """
    from pandas import period_range

    if not values:
        return _nothing("Reviews by month", "No review has a date.")
    first, last = min(values), max(values)
    unit, length, freq = ("month", 7, "M") if int(last[:4]) - int(first[:4]) <= 10 else ("year", 4, "Y")
    found = Counter(value[:length] for value in values)
    every = [str(period) for period in period_range(first[:length], last[:length], freq=freq)]
    figure, (axis,) = _figure(f"Reviews by {unit}", height=2.6)
    axis.bar(range(len(every)), [found[period] for period in every], color=BLUE)
    ticks = range(0, len(every), max(1, len(every) // 5))
    axis.set(ylabel="reviews", xticks=ticks, xticklabels=[every[tick] for tick in ticks])
    axis.yaxis.get_major_locator().set_params(integer=True)
    return figure


def counts(values: dict[str, int], title: str, unit: str) -> Figure:
    """A bar a name, the longest on top."""
    figure, (axis,) = _figure(title, height=0.8 + 0.32 * max(len(values), 1))
    names = sorted(values, key=lambda name: values[name])
    bars = axis.barh(names, [values[name] for name in names], color=BLUE)
    axis.bar_label(bars, padding=3)
    axis.set_xlabel(unit)
    return figure


def most_common(values: list[str | None], title: str, unit: str, limit: int = 10) -> Figure:
    """A bar for each of the `limit` most common values, and one in grey for all others together."""
    found = Counter(value for value in values if value)
    if not found:
        return _nothing(title, f"There is nothing to draw: none of the {len(values)} {unit} says.")
    top = found.most_common(limit)
    rest = found.total() - sum(count for _, count in top)
    names = [name if len(name) <= 48 else f"{name[:47]}…" for name, _ in top]
    bars = [count for _, count in top]
    if rest:
        names, bars = [*names, f"{len(found) - limit} others"], [*bars, rest]
    figure, (axis,) = _figure(title, height=0.9 + 0.28 * len(bars))
    drawn = axis.barh(range(len(bars)), bars, color=[BLUE] * len(top) + [GREY])
    axis.bar_label(drawn, padding=3)
    axis.set_yticks(range(len(bars)), names, parse_math=False)  # a name may hold a dollar sign
    axis.invert_yaxis()
    axis.set_xlabel(unit)
    axis.xaxis.get_major_locator().set_params(integer=True)
    return figure


def loss(losses: list[dict], held_out: list[dict] = (), title: str = "Training loss") -> Figure:
    """The loss of every logged step, its running mean over five, and the loss on the validation rows."""
    figure, (axis,) = _figure(title)
    steps, values = [row["step"] for row in losses], [row["loss"] for row in losses]
    means = [
        sum(values[max(0, i - 4) : i + 1]) / len(values[max(0, i - 4) : i + 1]) for i in range(len(values))
    ]
    axis.plot(steps, values, color=GREY, linewidth=1, label="each step")
    axis.plot(steps, means, color=BLUE, linewidth=2, label="mean of the last five")
    if held_out:
        points = [row["step"] for row in held_out], [row["loss"] for row in held_out]
        axis.plot(*points, color=ORANGE, marker="o", label="validation rows, not trained on")
    axis.set(xlabel="step", ylabel="loss (nats a token)", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def base_and_tuned(result: dict, labels: dict[str, str]) -> Figure:
    """A pair of bars a metric, with the 95 % interval of the paired difference on the tuned bar."""
    figure, axes = _figure(
        f"Base and tuned on {result['count']} held-out questions", width=8, columns=len(labels)
    )
    for axis, (metric, label) in zip(axes, labels.items()):
        base, tuned = result["base"][metric], result["tuned"][metric]
        change = result["difference"][metric]
        error = [[change["mean"] - change["low"]], [change["high"] - change["mean"]]]
        axis.bar(["base"], [base], color=GREY)
        axis.bar(["tuned"], [tuned], color=BLUE, yerr=error, capsize=5)
        axis.set_title(label, fontsize=9)
        for x, value in enumerate((base, tuned)):
            axis.annotate(f"{value:.2f}", (x, value / 2), ha="center", color="white", fontweight="bold")
    return figure


def outcomes(rows: list[dict], title: str) -> Figure:
    """A stacked bar a model: how many of its queries were right, and what the others were."""
    figure, (axis,) = _figure(title, height=2.4)
    colours = [BLUE, ORANGE, GREY, "#D55E00", "#CC79A7", "#56B4E9", "#F0E442"]
    start = {"base": 0, "tuned": 0}
    for row, colour in zip(rows, colours):
        values = [row[side] for side in start]
        bars = axis.barh(list(start), values, left=list(start.values()), color=colour, label=row["outcome"])
        axis.bar_label(bars, [value or "" for value in values], label_type="center", color="white")
        start = {side: start[side] + row[side] for side in start}
    axis.invert_yaxis()
    axis.set_xlabel("held-out questions")
    axis.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    return figure


def each_example(base: list[dict], tuned: list[dict]) -> Figure:
    """A point an example: its answer loss under the base and under the tuned model."""
    figure, (axis,) = _figure(
        "Answer loss, a point an example: below the line is better", width=4.6, height=4
    )
    before, after = ([row["answer_loss"] for row in rows] for rows in (base, tuned))
    top = 1.05 * max(before + after)
    axis.plot([0, top], [0, top], color=GREY, linewidth=1)
    axis.scatter(before, after, color=BLUE, s=18, alpha=0.7)
    axis.set(xlabel="base", ylabel="tuned", xlim=(0, top), ylim=(0, top), aspect="equal")
    return figure


def answer_lengths(base: list[dict], tuned: list[dict], reference: list[dict]) -> Figure:
    """How many words the answers of the base, of the tuned model and of the reference have, side by side."""
    figure, axes = _figure("Words an answer", width=8, height=2.6, columns=3)
    sides = {"base": (base, GREY), "tuned": (tuned, BLUE), "reference": (reference, ORANGE)}
    top = max(row["words"] for rows, _ in sides.values() for row in rows) + 1
    for axis, (name, (rows, color)) in zip(axes, sides.items()):
        axis.hist([row["words"] for row in rows], bins=20, range=(0, top), color=color)
        axis.set_title(name, fontsize=9)
        if axis is not axes[0]:
            axis.sharey(axes[0])
        axis.set_xlabel("words")
        axis.yaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("answers")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG."""
    figure.savefig(path, format="png")
