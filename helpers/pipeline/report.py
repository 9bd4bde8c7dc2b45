"""One page, DIR/report.html, of what the executed notebooks in DIR/executed showed.

`helpers.pipeline.run` writes it at the end of a run. The page needs nothing but itself: pictures are inside,
scripts are not. It shows tables, pictures, texts and the first words of the prose, with the code folded
away; it is no replacement for the notebooks.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from nbformat import NotebookNode

from helpers.core import files
from helpers.pipeline import notebooks

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SCORES = {
    "answer_loss": ("held-out answer loss", "lower is better", "{:.2f}"),
    "rouge_l": ("ROUGE-L", "higher is better", "{:.2f}"),
    "chrf": ("chrF", "higher is better, 0 to 100", "{:.1f}"),
}
# what a page without scripts and without a network has no use for, and pandas' own style sheet
DROPPED = re.compile(r"<(script|iframe|style scoped)\b.*?</(script|iframe|style)>|<link\b[^>]*>", re.S | re.I)


def plain(text: str) -> str:
    """`text` without the terminal's colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def headline(work_dir: Path) -> list[dict]:
    """The scores of DIR/evaluation.json, base against tuned; nothing where there is no such file."""
    evaluation, scores = files.read_json(work_dir / "evaluation.json", {}), []
    for key, (name, hint, form) in SCORES.items() if evaluation else ():
        sides = {side: evaluation[side][key] for side in ("base", "tuned")}
        base, tuned = sides.values()
        share = f"{abs(tuned / base - 1):.0%}".replace("%", " %") if base and key == "answer_loss" else ""
        score = {"name": name, "hint": hint, "worse": tuned > base}
        score["change"] = share and f"{share} {'lower' if tuned < base else 'higher'}"
        score["bars"] = {side: 100 * value / max(base, tuned, 1e-9) for side, value in sides.items()}
        scores.append(score | {side: form.format(value) for side, value in sides.items()})
    return scores


def story(notebook: NotebookNode) -> list[dict[str, str]]:
    """What to show of a notebook, in order: items with a `kind` (prose, code, html, image, text)."""
    items: list[dict[str, str]] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            shown = [{"kind": "prose", "content": _prose(cell.source)}]
        else:
            shown = [{"kind": "code", "content": cell.source}] if cell.cell_type == "code" else []
            shown += [_output(output) for output in notebooks.settled(cell.get("outputs", []))]
        for item in shown:
            if item["kind"] in ("code", "text") and items and items[-1]["kind"] == item["kind"]:
                items[-1]["content"] += "\n\n" * (item["kind"] == "code") + item["content"]
            elif item["content"].strip():
                items.append(item)
    return items


def _output(output: NotebookNode) -> dict[str, str]:
    """One output as an item; of the forms that it offers the most telling one."""
    if output.output_type == "stream":
        return {"kind": "text", "content": plain(output.text)}
    if output.output_type == "error":
        return {"kind": "text", "content": f"{output.ename}: {output.evalue}\n"}
    if picture := output.data.get("image/png"):
        return {"kind": "image", "content": f"data:image/png;base64,{''.join(picture.split())}"}
    if html := output.data.get("text/html"):
        return {"kind": "html", "content": DROPPED.sub("", html)}
    if markdown := output.data.get("text/markdown"):
        return {"kind": "html", "content": _markdown(markdown)}
    return {"kind": "text", "content": plain(output.data.get("text/plain", "")) + "\n"}


def _markdown(source: str) -> str:
    from markdown_it import MarkdownIt

    return DROPPED.sub("", MarkdownIt("commonmark").enable("table").render(source))


def _prose(source: str) -> str:
    """The headings of a Markdown text, one level down, and the first paragraph under each, as HTML.

    Left out: the title, lists, tables, badges, raw HTML, and links to files beside the notebook.
    """
    kept, wants_paragraph = [], True
    for block in source.split("\n\n"):
        if block.startswith("##"):
            kept.append(f"#{block}")
            wants_paragraph = True
        elif wants_paragraph and re.match(r"[\w*“\"(]|\[[^!]|`[^`]", block):
            kept.append(block)
            wants_paragraph = False
    return _markdown(re.sub(r"\[([^]]+)\]\((?!http)[^)]*\)", r"\1", "\n\n".join(kept)))


def write(work_dir: Path) -> Path:
    """Write DIR/report.html from all executed copies, in order, and return its path."""
    import jinja2

    sections = []
    for path in sorted((work_dir / "executed").glob("[0-9][0-9]_*.ipynb")):
        if path.name.endswith(".unfinished.ipynb"):
            continue
        notebook = notebooks.read(path)
        ran = notebook.metadata.get("papermill", {})
        section = {"name": path.stem, "title": notebooks.title(notebook, path.stem), "items": story(notebook)}
        section["given"] = {k: v for k, v in ran.get("parameters", {}).items() if k != "work_dir"}
        sections.append(section | {"took": duration(ran["duration"]) if ran.get("duration") else ""})
    training = files.read_json(work_dir / "training.json", {})
    pages = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = pages.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        sections=sections,
        scores=headline(work_dir),
        questions=files.read_json(work_dir / "evaluation.json", {}).get("count"),
        training=training,
        training_time=duration(training["seconds"]) if training.get("seconds") else "",
        date=f"{datetime.now():%d %B %Y, %H:%M}",
    )
    files.write_text(work_dir / "report.html", html)
    return work_dir / "report.html"
