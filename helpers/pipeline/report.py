"""One page, DIR/report.html, of what the executed notebooks in DIR/executed showed.

`helpers.pipeline.run` writes it at the end of a run. The page needs nothing but itself: pictures are inside,
scripts are not. It shows tables, pictures, texts and the first words of the prose, with the code folded
away; it is no replacement for the notebooks.
"""

from __future__ import annotations

import base64
import json
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
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
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
    evaluation = _json(work_dir / "evaluation.json")
    scores = []
    for key, (name, hint, form) in SCORES.items() if evaluation else ():
        base, tuned = evaluation["base"][key], evaluation["tuned"][key]
        longest = max(base, tuned, 1e-9)
        share = f"{abs(tuned / base - 1) * 100:.0f} %" if base and key == "answer_loss" else ""
        scores.append(
            {
                "name": name,
                "hint": hint,
                "bars": {"base": 100 * base / longest, "tuned": 100 * tuned / longest},
                "base": form.format(base),
                "tuned": form.format(tuned),
                "change": share and f"{share} {'lower' if tuned < base else 'higher'}",
                "worse": tuned > base,
            }
        )
    return scores


def summary(work_dir: Path) -> list[str]:
    """The headline scores as lines for the terminal."""
    return [
        f"{score['name']}  base {score['base']}  tuned {score['tuned']}"
        + (f"  ({score['change']})" if score["change"] else "")
        for score in headline(work_dir)
    ]


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
            if not item["content"].strip():
                continue
            if item["kind"] in ("code", "text") and items and items[-1]["kind"] == item["kind"]:
                items[-1]["content"] += "\n\n" * (item["kind"] == "code") + item["content"]
            else:
                items.append(item)
    return items


def _output(output: NotebookNode) -> dict[str, str]:
    """One output as an item; of the forms that it offers the most telling one."""
    if output.output_type == "stream":
        return {"kind": "text", "content": plain(output.text)}
    if output.output_type == "error":
        return {"kind": "text", "content": f"{output.ename}: {output.evalue}\n"}
    for form in PICTURES:
        if form in output.data:
            data = output.data[form]
            if form == "image/svg+xml":
                data = base64.b64encode(data.encode()).decode()
            return {"kind": "image", "content": f"data:{form};base64,{''.join(data.split())}"}
    if "text/html" in output.data:
        return {"kind": "html", "content": DROPPED.sub("", output.data["text/html"])}
    if "text/markdown" in output.data:
        return {"kind": "html", "content": _prose(output.data["text/markdown"], whole=True)}
    return {"kind": "text", "content": plain(output.data.get("text/plain", "")) + "\n"}


def _prose(source: str, whole: bool = False) -> str:
    """The headings of a Markdown text, one level down, and the first paragraph under each, as HTML.

    Left out: the title, badges and other pictures, raw HTML, and links to places outside the page that
    are not on the web.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(source)
    if whole:
        return parser.renderer.render(tokens, parser.options, {})
    kept, wants_paragraph = [], True
    for opening, inline, closing in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if opening.level or opening.type not in ("heading_open", "paragraph_open"):
            continue
        kinds = {child.type for child in inline.children}
        if opening.type == "heading_open" and opening.tag != "h1":
            opening.tag = closing.tag = f"h{min(int(opening.tag[1]) + 1, 6)}"
            wants_paragraph = True
        elif opening.tag == "h1" or not wants_paragraph or kinds & {"image", "html_inline"}:
            continue
        else:
            wants_paragraph = False
        inside_web_link, children = False, []
        for child in inline.children:
            if child.type == "link_open":
                inside_web_link = str(child.attrs["href"]).startswith("http")
            if inside_web_link or child.type not in ("link_open", "link_close"):
                children.append(child)
        inline.children = children
        kept += [opening, inline, closing]
    return parser.renderer.render(kept, parser.options, {})


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(work_dir: Path) -> Path:
    """Write DIR/report.html from all executed copies, in order, and return its path."""
    import jinja2

    sections = []
    for path in sorted((work_dir / "executed").glob("[0-9][0-9]_*.ipynb")):
        if path.name.endswith(".failed.ipynb"):
            continue
        notebook = notebooks.read(path)
        ran = notebook.metadata.get("papermill", {})
        given = {name: value for name, value in ran.get("parameters", {}).items() if name != "work_dir"}
        sections.append(
            {
                "name": path.stem,
                "title": notebooks.title(notebook, path.stem),
                "took": duration(ran["duration"]) if ran.get("duration") else "",
                "given": given,
                "items": story(notebook),
            }
        )
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    training = _json(work_dir / "training.json")
    target = work_dir / "report.html"
    html = page.render(
        sections=sections,
        scores=headline(work_dir),
        questions=_json(work_dir / "evaluation.json").get("count"),
        training=training,
        training_time=duration(training["seconds"]) if training.get("seconds") else "",
        date=f"{datetime.now():%d %B %Y, %H:%M}",
    )
    files.write_text(target, html)
    return target
