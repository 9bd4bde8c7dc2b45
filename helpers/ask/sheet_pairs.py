"""Question-answer pairs about fact sheets, from a teacher (stage 04): one call per sheet.

What they have beside other pairs is `facts`: the words and numbers of the sheet that an answer must name.
"""

from pathlib import Path

import pydantic

from helpers.ask import qa, sheets
from helpers.ask.answers import Answer, Request, all_items
from helpers.core import files, runtime

SAMPLE_TOPICS, SAMPLE = runtime.SAMPLES / "topics.jsonl", runtime.SAMPLES / "overview_pairs.jsonl"
PAIRS = 8  # per sheet
TOKENS_PER_PAIR = 250  # an answer of 70 words, a question, facts and their JSON
SHEET_CHARACTERS = 1200  # of a long one
SYSTEM_PROMPT = Path(__file__).with_suffix(".md").read_text("utf-8").replace("{count}", str(PAIRS))
USER_PROMPT = (
    "Write {count} pairs.\n\n<sheet-{mark}>\n{text}\n</sheet-{mark}>\n\nThe sheet ends at the marker."
)
PROMPT_VERSION = "overview-" + files.content_id([SYSTEM_PROMPT, USER_PROMPT])[:8]


class SheetPair(qa.QAPair):
    facts: list[str]


class SheetPairs(pydantic.BaseModel, json_schema_extra={"additionalProperties": False}):
    pairs: list[SheetPair]


def requests_for(pages: list[dict], model: str) -> list[Request]:
    """One request per sheet."""
    end, room = f"{PROMPT_VERSION}/{model}/{PAIRS}", 200 + TOKENS_PER_PAIR * PAIRS
    users = [qa.enclosed(USER_PROMPT, sheet["text"], PAIRS) for sheet in pages]
    return [Request(f"{sheet['id']}/{end}", SYSTEM_PROMPT, user, room) for sheet, user in zip(pages, users)]


def largest_requests(model: str) -> list[Request]:
    """As many requests as one company's reviews can have sheets, for an estimate before there are any."""
    sheet = {"id": "", "text": " " * SHEET_CHARACTERS}
    return requests_for([sheet] * (1 + sheets.TOPICS * (1 + sheets.DRAWS) + sheets.PARTS), model)


def readable(text: str) -> bool:
    """Whether a reply has a pair that can be used; others are asked for again."""
    return any(all_items(text, SheetPair, "pairs"))


def pairs_from(answers: dict[str, Answer], pages: list[dict], model: str) -> tuple[list[dict], list[dict]]:
    """The pairs in `model`'s answers to `requests_for` these sheets, and the replies without one, with "reason"."""
    pairs, rejected, by_id = [], [], {sheet["id"]: sheet for sheet in pages}
    for key, answer in answers.items():
        sheet = by_id[key.split("/")[0]]
        parsed = [*all_items(answer.text, SheetPair, "pairs")][:PAIRS]
        pairs += [_pair(sheet, dict(one), model, PROMPT_VERSION) for one in parsed]
        if not parsed:
            reason = f"no usable answer ({answer.reason or 'no pair with question, answer and facts'})"
            row = {"chunk_id": sheet["id"], "teacher": model, "text": answer.text}
            rejected.append(row | {"reason": reason})
    return pairs, rejected


def _pair(sheet: dict, said: dict, teacher: str, version: str) -> dict:
    texts = said["question"].strip(), said["answer"].strip()
    return qa.make_pair(sheet["id"], [], texts, teacher, version, sheet["text"], said["facts"])


def sample_topics() -> list[dict]:
    """The bundled sample's topics, as `sheets.topics_from` gives them."""
    rows = files.read_jsonl(SAMPLE_TOPICS)
    return [{"review_id": row["review_id"], **topic} for row in rows for topic in row["topics"]]


def sample_pairs(pages: list[dict]) -> list[dict]:
    """The bundled pairs about those `pages` that are, to the letter, the bundled sample's."""
    by_id, rows = {sheet["id"]: sheet for sheet in pages}, files.read_jsonl(SAMPLE)
    known = [row for row in rows if row["sheet_id"] in by_id]
    pairs = [_pair(by_id[row["sheet_id"]], row, "sample", "sample") for row in known]
    if pages and (absent := len(rows) - len(pairs)):
        print(f"{absent} of {len(rows)} sample overview pairs are left out: no sheet has their counts")
    return pairs
