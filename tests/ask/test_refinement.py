"""refinement: a rewrite counts only if headings, length and numbers stay; the other chunks stay as they were."""

from __future__ import annotations

import json

import pytest

from helpers.ask import refinement
from helpers.clean import chunks
from tests.fakes.openai_api import FakeOpenAI

HEAD = "### Review by [NAME] (GB)\n- **Rating**: 2 of 5\n- **Title**: late\n\n"
BODY = (
    "teh bike was late by 3 weeks, the shop recieved 1,200 euros and two mails. Nobody at velomarsh answered. "
    "I would not buy it again, however the brakes were good"
)
ORIGINAL = HEAD + BODY


def rewritten(old: str, new: str) -> str:
    assert old in BODY
    return HEAD + BODY.replace(old, new)


@pytest.mark.parametrize(
    "rewrite, reason",
    [
        (rewritten("teh", "The").replace("recieved", "received"), None),
        (rewritten("3 weeks", "three weeks").replace("1,200", "1 200").replace("two", "2"), None),
        (rewritten("would not", "wouldn't"), None),
        (rewritten("3 weeks", "4 weeks"), "adds the number 4"),
        (rewritten("3 weeks", "four weeks"), "adds the number four"),
        (rewritten("1,200", "1,300"), "adds the number 1,300"),
        (HEAD + "The bike was late.", "characters instead of"),
        (ORIGINAL + " and" * 80, "characters instead of"),
        (ORIGINAL.replace("[NAME]", "him"), "changes a heading"),
        (ORIGINAL.replace("2 of 5", "5 of 5"), "changes a heading"),
        (ORIGINAL + "\n# Title", "changes a heading"),
        (ORIGINAL + "\n\n---", "changes a heading"),
        (rewritten("late", "late, write to [EMAIL],"), "changes a heading"),
        (None, "not the JSON"),
    ],
)
def test_a_rewrite_counts_only_if_it_keeps_form_length_and_numbers(rewrite, reason, tmp_path, monkeypatch):
    """By the real client, from a server on the loopback."""
    other = "### Review by [NAME]\n\n" + "the and however, it rides well." * 12
    pieces = [*chunks.with_ids([(["r1"], "A", ORIGINAL), (["r2"], "A", other)])]
    refined, refused = refine(pieces, tmp_path, monkeypatch, {ORIGINAL: rewrite})
    assert [chunk["text"] for chunk in refined] == [ORIGINAL if reason else rewrite, other]
    assert refined[1] == pieces[1] and (refined[0] == pieces[0]) == bool(reason)
    assert [(row["id"], row["rewrite"]) for row in refused] == (
        [(pieces[0]["id"], rewrite or "")] if reason else []
    )
    assert all(reason in row["reason"] for row in refused)


def refine(
    pieces: list[dict], folder, monkeypatch, answers: dict[str, str | None]
) -> tuple[list[dict], list[dict]]:
    def reply(body: dict) -> str:
        text = body["messages"][-1]["content"]
        rewrite = answers.get(text, text)
        return json.dumps({"text": rewrite}) if rewrite else "Sure! Here it is."

    with FakeOpenAI(reply=reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        return refinement.refine(pieces, folder / "journal.jsonl", teacher_model="gpt-4o", max_cost_usd=1.0)
