"""One page, DIR/report.html, of what a run came to: scores in words, answers, data, loss, cost and limits.

`helpers.pipeline.run` writes it at the end of a run; report.html.jinja has its words and looks. It needs nothing but
itself, without scripts. A part whose files are missing is absent; each executed notebook is behind one fold.
"""

import re
from datetime import datetime
from functools import partial
from pathlib import Path

import jinja2
from markdown_it import MarkdownIt

from helpers.core import files, plots, workdir
from helpers.pipeline import notebooks

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SCORES = {  # name, better direction, format
    "stopped": ("ends by itself", "higher", "{:.0%}"),
    "facts": ("facts named", "higher", "{:.0%}"),
    "invented_number": ("invented numbers", "lower", "{:.0%}"),
    "answer_loss": ("held-out answer loss", "lower", "{:.2f}"),
    "rouge_l": ("ROUGE-L", "higher", "{:.2f}"),
    "chrf": ("chrF", "higher", "{:.1f}"),
}
MARKDOWN = MarkdownIt("commonmark").enable("table")
# What a page without scripts and without a network has no use for, and pandas' own style sheet.
DROPPED = re.compile(r"<(script|iframe|style scoped)\b.*?</(script|iframe|style)>|<link\b[^>]*>", re.S | re.I)
plain = partial(re.compile(r"\x1b\[[0-9;?]*[A-Za-z]").sub, "")  # a text without the terminal's colours


def duration(seconds: float) -> str:
    """Such as `45 s` and `12 min 05 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def headline(work_dir: Path) -> list[dict]:
    """The scores of DIR/evaluation.json, base against tuned, as the page shows them; [] without, or where stale."""
    record, scores = work_dir / "evaluation.json", []
    evaluation = {} if workdir.stale(record, work_dir / "adapter") else files.read_json(record, {})
    for key in [key for key in SCORES if key in evaluation.get("tuned", {})]:
        name, better, form = SCORES[key]
        means = {side: evaluation[side][key] for side in ("base", "prompted", "tuned") if side in evaluation}
        ratio = means["tuned"] / means["base"] if key == "answer_loss" else 1
        change = f"{100 * abs(ratio - 1):.0f} % {'lower' if ratio < 1 else 'higher'}" if ratio != 1 else ""
        shown = {side: form.format(mean).replace("%", " %") for side, mean in means.items()}
        scores.append({"key": key, "name": name, "better": better, "means": means, "change": change, **shown})
    return scores


def prose(source: str) -> str:
    """A Markdown cell below the notebook's title: headings one level down, no title, badge, fold or link to code."""
    html = re.sub(r"<h1>.*</h1>|<p>(<a .*)?<img .*</p>|</?(details|summary)>", "", MARKDOWN.render(source))
    html = re.sub(r'<p>Code: .*</p>|<a href="(?!http)[^"]*">(.*?)</a>', r"\1", html)
    return re.sub(r"(</?h)(\d)>", lambda tag: f"{tag[1]}{int(tag[2]) + 1}>", html)


def write(work_dir: Path) -> Path:
    """Write DIR/report.html from the files of DIR and all executed copies, in order, and return its path."""
    executed = sorted((work_dir / "executed").glob("[0-9][0-9]_*.ipynb"))
    stages, adapter = sorted((work_dir / "manifests").glob("0[1-4]_*.json")), work_dir / "adapter"
    stale = {name: workdir.stale(work_dir / f"{name}.json", adapter) for name in ("evaluation", "training")}
    page = {name: files.read_json(work_dir / f"{name}.json", {}) for name, why in stale.items() if not why}
    page["notebooks"] = {path.stem: notebooks.read(path) for path in executed}
    page["changed"] = [path.stem for path in stages if not workdir.is_finished(work_dir, path.stem)]
    page["rows"] = {path.name: path.read_bytes().count(b"\n") for path in work_dir.glob("*.json*")}
    if (work_dir / "qa_dataset" / "dataset_dict.json").exists():
        from datasets import load_from_disk

        page["rows"] |= load_from_disk(str(work_dir / "qa_dataset")).num_rows
    page["calls"] = [row for path in work_dir.glob("*_journal.jsonl") for row in files.read_jsonl(path)]
    page["scores"], page["stale"], page["now"] = headline(work_dir), stale["evaluation"], datetime.now()
    jinja = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    own = (prose, duration, plots.verdict, notebooks.title, notebooks.settled)
    jinja.filters |= {"markdown": MARKDOWN.render, "plain": plain} | {each.__name__: each for each in own}
    html = jinja.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page)
    files.write_text(work_dir / "report.html", DROPPED.sub("", html))
    return work_dir / "report.html"
