"""An optional step of notebook 03: a language model rewrites each chunk more clearly, and code checks the form.

A rewrite that drops a "not", adds a name or translates gets through.
"""

import re
from pathlib import Path

import pydantic

from helpers.ask import figures, teacher
from helpers.ask.answers import Request, all_items
from helpers.clean import chunks, texts
from helpers.core import files

REFINE_PROMPT = Path(__file__).with_suffix(".md").read_text("utf-8").rstrip()
STRUCTURE = re.compile(r"^#.*$|^- \*\*.*$|^---$|^\[View Full Review\].*$|\[[A-Z]+\]", re.MULTILINE)
LENGTHS = 0.6, 1.3  # the shortest and longest rewrite, as parts of the original's length


class Refined(pydantic.BaseModel):
    text: str


def refine(pieces: list[dict], journal: Path, *, teacher_model: str, max_cost_usd: float,
           chunk_size: int = 1024) -> tuple[list[dict], list[dict]]:  # fmt: skip
    """The chunks rewritten, and `id`, `reason`, `rewrite` of those left alone; raises as `ask_all` does."""
    name = f"refine-{files.content_id(REFINE_PROMPT)[:8]}/{teacher_model}"
    requests = [Request(f"{c['id']}/{name}", REFINE_PROMPT, c["text"], len(c["text"])) for c in pieces]
    options = {"model": teacher_model, "response_model": Refined, "max_cost_usd": max_cost_usd}
    answers, rewritten, refused = teacher.ask_all(requests, journal, **options), [], []
    for chunk, request in zip(pieces, requests):
        text, reason = _rewrite(answers[request.key].text, chunk["text"], chunk_size)
        rewritten.append((chunk["review_ids"], chunk["company"], chunk["text"] if reason else text))
        refused += [{"id": chunk["id"], "reason": reason, "rewrite": text}] if reason else []
    return list(chunks.with_ids(rewritten)), refused


def _rewrite(answer: str, original: str, chunk_size: int) -> tuple[str, str | None]:
    """The text of a teacher's answer, and why it must not replace the original, if so."""
    found = next(all_items(answer, Refined), None)
    if not found:
        return "", "the answer is not the JSON that was asked for"
    text = found.text.strip()
    if STRUCTURE.findall(text) != STRUCTURE.findall(original):
        return text, "it changes a heading, a fact, a rule, a link or a placeholder"
    if not LENGTHS[0] <= len(text) / len(original) <= LENGTHS[1] or len(text) > chunk_size:
        return text, f"it has {len(text)} characters instead of {len(original)}"
    if added := figures.invented(text, original, texts.language(STRUCTURE.sub("", original))):
        return text, f"it adds the number {', '.join(added)}"
    return text, None
