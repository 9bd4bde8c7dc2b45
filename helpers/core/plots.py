"""The tables and pictures, matplotlib figures, of the notebooks, in one plain style."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date
from math import nan

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"  # Okabe and Ito: the colour-blind tell them apart


def table(rows: list[dict]):
    """Rows as a table for a notebook, one column per key, texts in full and escaped; None without rows."""
    from IPython.display import HTML
    from pandas import DataFrame, option_context

    if not rows:
        return None
    one_line = [{k: " ".join(v.split()) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    with option_context("display.max_colwidth", None):
        html = DataFrame(one_line, dtype=object).to_html(index=False, border=0, justify="left", na_rep="")
    return HTML(html.replace("<td>", '<td style="text-align: left">'))  # Jupyter would align it to the right


def new_figure(title: str, width: float = 7, height: float = 2.6, columns: int = 1, sharey: bool = False):
    from matplotlib import pyplot

    size = {"figsize": (width, height), "dpi": 110, "layout": "constrained"}
    figure, axes = pyplot.subplots(1, columns, squeeze=False, sharey=sharey, **size)
    pyplot.close(figure)  # a notebook shows the returned figure; open, it would show twice
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[0]


def bars(values: Iterable[str | None] | dict[str, int], title: str, unit: str, limit: int | None = None):
    """One bar a name, as given, or the most common first of a list; beyond `limit`, one grey bar for all."""
    counts = values if isinstance(values, dict) else dict(Counter(filter(None, values)).most_common())
    if not any(counts.values()):
        figure, (axis,) = new_figure(title, height=1.1)
        axis.axis("off")
        axis.text(0, 0.5, f"There is nothing to draw: no {unit} to count.", color=GREY, va="center")
        return figure
    names = [name if len(name) <= 48 else f"{name[:47]}…" for name in counts][:limit]
    numbers, colours = list(counts.values())[:limit], [BLUE] * len(names) + [GREY]
    if others := len(counts) - len(names):
        names, numbers = [*names, f"{others} others"], [*numbers, sum(counts.values()) - sum(numbers)]
    figure, (axis,) = new_figure(title, height=0.9 + 0.28 * len(names))
    drawn = axis.barh(range(len(names)), numbers, color=colours[: len(names)])
    axis.bar_label(drawn, padding=3)
    axis.set_yticks(range(len(names)), names, parse_math=False)  # a name may hold a dollar sign
    axis.invert_yaxis()
    axis.set_xlabel(unit)
    axis.locator_params(axis="x", integer=True)
    return figure


def months(values: list[str]):
    """How many reviews fall into each month, `YYYY-MM`, on an axis of time."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if not values:
        return bars({}, "Reviews by month", "reviews")
    counts = Counter(values)
    figure, (axis,) = new_figure("Reviews by month")
    axis.bar([date.fromisoformat(f"{month}-01") for month in counts], counts.values(), width=25, color=BLUE)
    axis.set_ylabel("reviews")
    axis.locator_params(axis="y", integer=True)
    axis.xaxis.set_major_locator(ticks := AutoDateLocator(maxticks=6))
    axis.xaxis.set_major_formatter(ConciseDateFormatter(ticks))
    return figure


def histogram(lengths: dict[str, list[int]], title: str, unit: str, limit: int | None = None):
    """How long the rows of each name are, side by side on one scale, with the limit drawn in, or named if far off."""
    figure, axes = new_figure(title, columns=len(lengths), sharey=True)
    low, high = min(map(min, lengths.values())), max(map(max, lengths.values()))
    for axis, (name, values), color in zip(axes, lengths.items(), [BLUE, ORANGE, GREY]):
        axis.hist(values, bins=min(30, high - low + 1), range=(low, high), color=color)
        axis.set(xlabel=unit, ylabel=name)
        axis.locator_params(axis="y", integer=True)
        if limit and limit <= 2 * high:
            axis.axvline(limit, color=ORANGE, linewidth=2)
            at = {"transform": axis.get_xaxis_transform(), "ha": "right", "color": ORANGE}
            axis.text(limit, 0.9, f"limit {limit:,} ", **at)
        elif limit:
            axis.set_xlabel(f"{unit} (the limit of {limit:,} is far to the right)")
    return figure


def loss(losses: list[dict], held_out: list[dict] = (), title: str = "Training loss"):
    """The loss of every logged step, its running mean over five, and the loss on the validation rows."""
    figure, (axis,) = new_figure(title, height=3)
    steps, values = [row["step"] for row in losses], [row["loss"] for row in losses]
    windows = [values[max(0, i - 4) : i + 1] for i in range(len(values))]
    axis.plot(steps, values, color=GREY, linewidth=1, label="each step")
    means = [sum(window) / len(window) for window in windows]
    axis.plot(steps, means, color=BLUE, linewidth=2, label="mean of the last five")
    if held_out:
        points = [row["step"] for row in held_out], [row["loss"] for row in held_out]
        axis.plot(*points, color=ORANGE, marker="o", label="validation rows, not trained on")
    axis.set(xlabel="step", ylabel="loss (nats a token)", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def base_and_tuned(result: dict, labels: dict[str, str]):
    """One pair of bars per metric, with the 95 % interval of the paired difference on the tuned bar."""
    title = f"Base and tuned on {result['count']} held-out questions"
    figure, axes = new_figure(title, width=8, height=3, columns=len(labels))
    for axis, (metric, label) in zip(axes, labels.items()):
        change = result["difference"][metric]
        error = [[nan, change["mean"] - change["low"]], [nan, change["high"] - change["mean"]]]
        values = [result[side][metric] for side in ("base", "tuned")]
        drawn = axis.bar(["base", "tuned"], values, color=[GREY, BLUE], yerr=error, capsize=5)
        axis.bar_label(drawn, fmt="%.2f", label_type="center", color="white", fontweight="bold")
        axis.set_title(label, fontsize=9)
    return figure
