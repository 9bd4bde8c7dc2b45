"""One page, DIR/report.html, of what the executed notebooks in DIR/executed showed.

`helpers.pipeline.run` writes it at the end of a run. The page needs nothing but itself: pictures are inside,
scripts are not. It shows prose, tables, pictures and texts, with the code folded away; how, report.html.jinja says.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import jinja2
from markdown_it import MarkdownIt

from helpers.core import files, workdir
from helpers.pipeline import notebooks

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SCORES = {
    "answer_loss": ("held-out answer loss", "lower is better", "{:.2f}"),
    "rouge_l": ("ROUGE-L", "higher is better", "{:.2f}"),
    "chrf": ("chrF", "higher is better, 0 to 100", "{:.1f}"),
}
MARKDOWN = MarkdownIt("commonmark").enable("table")
# What a page without scripts and without a network has no use for, and pandas' own style sheet.
DROPPED = re.compile(r"<(script|iframe|style scoped)\b.*?</(script|iframe|style)>|<link\b[^>]*>", re.S | re.I)


def plain(text: str) -> str:
    """`text` without the terminal's colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def duration(seconds: float) -> str:
    """Such as `45 s` and `12 min 05 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def stale(work_dir: Path) -> str:
    """Why the scores of DIR/evaluation.json are not those of DIR/adapter; "" where they are, or there is none."""
    adapter = work_dir / "adapter"
    return workdir.stale(work_dir / "evaluation.json", adapter) if adapter.exists() else ""


def headline(work_dir: Path) -> list[dict]:
    """The scores of DIR/evaluation.json, base against tuned, as the page shows them; [] without, or where `stale`."""
    evaluation = files.read_json(work_dir / "evaluation.json", None)
    if evaluation is None or stale(work_dir):
        return []
    scores = []
    for key, (name, hint, form) in SCORES.items():
        base, tuned = evaluation["base"][key], evaluation["tuned"][key]
        score = {"name": name, "hint": hint, "worse": tuned > base, "change": ""}
        if key == "answer_loss":
            score["change"] = f"{100 * abs(tuned / base - 1):.0f} % {'lower' if tuned < base else 'higher'}"
        longest = max(base, tuned) or 1
        score["bars"] = {"base": 100 * base / longest, "tuned": 100 * tuned / longest}
        scores.append(score | {"base": form.format(base), "tuned": form.format(tuned)})
    return scores


def prose(source: str) -> str:
    """A Markdown cell as HTML below the section's heading, which is the notebook's title: headings one level down.

    Left out: the title itself, badges, and links to files beside the notebook.
    """
    html = re.sub(r"<h1>.*</h1>|<p><a [^>]*><img .*</p>", "", MARKDOWN.render(source))
    html = re.sub(r'<a href="(?!http)[^"]*">(.*?)</a>', r"\1", html)
    return re.sub(r"(</?h)(\d)>", lambda tag: f"{tag[1]}{int(tag[2]) + 1}>", html)


def write(work_dir: Path) -> Path:
    """Write DIR/report.html from all executed copies, in order, and return its path."""
    executed = sorted((work_dir / "executed").glob("[0-9][0-9]_*.ipynb"))
    pages = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters.update(prose=prose, markdown=MARKDOWN.render, plain=plain, duration=duration)
    pages.filters.update(heading=notebooks.title, settled=notebooks.settled)
    scores = headline(work_dir)
    html = pages.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        notebooks={path.stem: notebooks.read(path) for path in executed},
        scores=scores,
        stale=stale(work_dir),
        questions=scores and files.read_json(work_dir / "evaluation.json")["count"],
        training=files.read_json(work_dir / "training.json", {}),
        date=f"{datetime.now():%d %B %Y, %H:%M}",
    )
    files.write_text(work_dir / "report.html", DROPPED.sub("", html))
    return work_dir / "report.html"
