"""Question–answer pairs from the forms that people have them in: ours, the article's, messages, a table.

    pairs = pairs.read(Path("mine.jsonl"))       # a JSON array, JSON Lines or CSV

A row is one of
    {"question": …, "answer": …}                              with or without id, chunk_id, review_ids
    {"prompt": …, "completion": …}
    {"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}
where a system message may come first. A row that is none of these stops with its number: nothing is
guessed, and nothing is left out.
"""

from __future__ import annotations

from pathlib import Path

from helpers.ask.qa import make_pair
from helpers.core import files, tables

FORM = "question and answer, prompt and completion, or messages"


def read(path: Path) -> list[dict]:
    """The pairs of a JSON array, JSON Lines or CSV file; ValueError names file, row and field."""
    rows = tables.read_records(path)
    if not rows:
        raise ValueError(f"{path} holds no row; it needs rows with {FORM}")
    return [from_row(row, f"{path}, row {number}") for number, row in enumerate(rows, 1)]


def from_row(row: dict, where: str) -> dict:
    """One pair from a row of any form; ValueError begins with `where` and names the field and the fix."""
    if not isinstance(row, dict):
        raise ValueError(f"{where} is not an object with {FORM}: {row!r}")
    if row.get("messages"):
        question, answer = _turns(row["messages"], where)
    elif "prompt" in row and "completion" in row:
        question, answer = row["prompt"], row["completion"]
    else:
        question, answer = row.get("question"), row.get("answer")
    for name, text in (("question", question), ("answer", answer)):
        if not isinstance(text, str) or not text.strip():
            columns = ", ".join(map(str, row))
            raise ValueError(
                f"{where}: the {name} is missing, empty or not text (it has the fields {columns}). Fill it in or "
                f"delete the row; a row needs {FORM}."
            )
    if "chunk_id" in row:
        if not isinstance(row.get("review_ids"), list) or not row["review_ids"]:
            raise ValueError(f"{where}: the field 'review_ids' is missing or not a list of ids")
        wanted = make_pair("", [], (question, answer), "", "")
        return wanted | {name: row[name] for name in wanted if name in row}
    source = str(row.get("id") or files.content_id([question, answer]))
    return make_pair(source, [source], (question, answer), "unknown", "unknown")


def _turns(messages: list[dict], where: str) -> tuple[str, str]:
    roles = [message["role"] for message in messages]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        raise ValueError(
            f"{where}: messages has the roles {', '.join(roles)}; it must be one user and one assistant message, "
            "with at most a system message before them. Split a longer conversation into rows."
        )
    *before, answer = (message["content"] for message in messages)
    return "\n\n".join(
        before
    ), answer  # Gemma has no system turn: its template, too, puts it before the question
