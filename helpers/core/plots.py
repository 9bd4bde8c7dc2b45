"""The tables and pictures, matplotlib figures, of the notebooks, in one plain style."""

import re
from collections import Counter
from collections.abc import Iterable

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#999999"  # Okabe and Ito: the colour-blind tell them apart


def table(rows: list[dict]):
    """Rows as a table for a notebook, one column per key, texts in full and escaped; endless words may break."""
    from IPython.display import HTML
    from pandas import DataFrame, option_context

    breaks = r"\S{60}", "\\g<0>\u200b"  # or one column would squeeze the others
    frame = DataFrame(rows or [{"": "no rows"}], dtype=object)
    frame = frame.map(lambda v: re.sub(*breaks, " ".join(v.split())) if type(v) is str else v)
    with option_context("display.max_colwidth", None):
        html = frame.to_html(index=False, border=0, justify="left", na_rep="")
    return HTML(html.replace("<td>", '<td style="text-align: left">'))  # Jupyter would align it to the right


def verdict(change: dict, better: str) -> str:
    """By the 95 % interval of a difference: `better` is the direction, "lower", "higher" or "" for neither."""
    if change["low"] <= 0 <= change["high"]:
        return "no difference shown"
    good = (change["mean"] < 0) == (better == "lower")
    return ("better" if good else "worse") if better else "differs"


def new_figure(title: str, width: float = 7, height: float = 2.6, columns: int = 1, sharey: bool = False):
    from matplotlib import pyplot

    size = {"figsize": (width, height), "dpi": 110, "layout": "constrained"}
    with pyplot.rc_context({"axes.spines.top": False, "axes.spines.right": False}):  # this figure's alone
        figure, axes = pyplot.subplots(1, columns, squeeze=False, sharey=sharey, **size)
    pyplot.close(figure)  # a notebook shows the returned figure; open, it would show twice
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure, axes[0]


def bars(values: Iterable[str | None] | dict[str, int], title: str, unit: str, limit: int | None = None):
    """One bar a name, as given, or the most common first of a list; beyond `limit`, one grey bar for all."""
    counts = values if isinstance(values, dict) else dict(Counter(filter(None, values)).most_common())
    names = [name if len(name) <= 48 else f"{name[:47]}…" for name in counts][:limit]
    numbers, colours = list(counts.values())[:limit], [BLUE] * len(names) + [GREY]
    if others := len(counts) - len(names):
        names, numbers = [*names, f"{others} more"], [*numbers, sum(counts.values()) - sum(numbers)]
    figure, (axis,) = new_figure(title, height=0.9 + 0.28 * len(names))
    axis.bar_label(axis.barh(range(len(names)), numbers, color=colours[: len(names)]), padding=3)
    axis.set_yticks(range(len(names)), names, parse_math=False)  # a name may hold a dollar sign
    axis.invert_yaxis()
    axis.set_xlabel(unit)
    axis.locator_params(axis="x", integer=True)
    return figure


def histogram(lengths: dict[str, list[int]], title: str, unit: str, limit: int | None = None):
    """How long the rows of each name are, side by side on one scale, with the limit drawn in where it is near."""
    figure, axes = new_figure(title, columns=len(lengths), sharey=True)
    low, high = min(map(min, lengths.values())), max(map(max, lengths.values()))
    for axis, (name, values), color in zip(axes, lengths.items(), [BLUE, ORANGE, GREY]):
        axis.hist(values, bins=min(30, high - low + 1), range=(low, high), color=color)
        axis.set(xlabel=unit, title=name)
        axis.locator_params(axis="y", integer=True)
        if limit and limit <= 2 * high:
            axis.axvline(limit, color=ORANGE, linewidth=2, label=f"limit {limit:,}")
            axis.legend(frameon=False)
    return figure


def loss(losses: list[dict], held_out: list[dict] = (), title: str = "Training loss"):
    """The loss of every logged step, its running mean over a tenth of them, and the loss on the validation rows."""
    from pandas import DataFrame

    figure, (axis,) = new_figure(title, height=3)
    each, last = DataFrame(losses).set_index("step")["loss"], max(5, len(losses) // 10)
    axis.plot(each, color=GREY, linewidth=1, alpha=0.5, label="each step")
    axis.plot(each.rolling(last, 1).mean(), color=BLUE, linewidth=2, label=f"mean of the last {last}")
    if held_out:
        looks = DataFrame(held_out).set_index("step")["loss"]
        axis.plot(looks, color=ORANGE, marker="o", label="validation rows, not trained on")
    axis.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, None))
    axis.legend(frameon=False)
    return figure
