"""Question-answer pairs from a teacher (stage 04): the prompt, the schema, and what came back.

A pair is {"id", "kind", "chunk_id", "review_ids", "context", "question", "answer", "facts", "teacher",
"prompt_version"}. Its kind is "review", and its context the chunk that it was written from; or "overview", and its
context is a fact sheet (`sheets`), its chunk_id the sheet's id, and `facts` what of it an answer must name.
"""

import hashlib
import re
from pathlib import Path

import pydantic

from helpers.ask import injection, sheets
from helpers.ask.answers import Answer, Request, all_json
from helpers.core import files, runtime

SAMPLE = runtime.SAMPLES / "qa_pairs.jsonl"
NOTHING_TO_ASK = "the teacher found nothing to ask"
TOKENS_PER_PAIR = 400  # an answer of 200 words, a question, and their JSON
TOKENS_PER_REVIEW = 150  # three topics and their JSON

SYSTEM_PROMPT, USER_PROMPT = (
    Path(__file__).with_name(name).read_text("utf-8") for name in ("qa_system.md", "qa_user.md")
)
# From the texts, so that an edited prompt is a new version and its answers are asked for anew.
PROMPT_VERSION = "qa-" + files.content_id([SYSTEM_PROMPT, USER_PROMPT])[:8]

_LINE = r"^[\s*#>-]*(?:\d+[.)]\s*)?\**{}\s*\d*\**\s*[:：]"  # "Q:", "**Q1:**", "2. Question:"
_Q, _A = _LINE.format("Q(?:uestion)?"), _LINE.format("A(?:nswer)?")
LABELLED = re.compile(rf"{_Q}(.+?){_A}(.+?)(?={_Q}|\Z)", re.DOTALL | re.MULTILINE | re.IGNORECASE)


class QAPair(pydantic.BaseModel, json_schema_extra={"additionalProperties": False}):
    """Strict as a schema, which OpenAI demands; lenient when parsed, which small teachers need."""

    question: str
    answer: str


class QAPairs(pydantic.BaseModel, json_schema_extra={"additionalProperties": False}):
    pairs: list[QAPair]
    topics: list[sheets.Topic]


def make_pair(
    chunk_id, review_ids: list[str], texts: tuple, teacher, version, context="", facts=None
) -> dict:
    """A pair as qa_pairs.jsonl holds it, from question and answer, its `texts`; an overview pair has `facts`."""
    question, answer = texts
    pair_id = hashlib.sha256(f"{chunk_id}\n{question}\n{answer}".encode()).hexdigest()[:16]
    pair = {"id": pair_id, "kind": "review" if facts is None else "overview", "chunk_id": chunk_id}
    pair |= {"review_ids": review_ids, "context": context, "question": question, "answer": answer}
    return pair | {"facts": facts or [], "teacher": teacher, "prompt_version": version}


def context(chunk: dict) -> str:
    """What a model is given to read with a question about this chunk: as the teacher read it."""
    company = " ".join((chunk["company"] or "not named").split())
    return f"Company: {company}\n\n{chunk['text']}"


def requests_for(chunks: list[dict], pairs_per_chunk: int, model: str) -> list[Request]:
    """One request per chunk."""
    requests, end = [], f"{PROMPT_VERSION}/{model}/{pairs_per_chunk}"
    for chunk in chunks:
        room = 200 + TOKENS_PER_PAIR * pairs_per_chunk + TOKENS_PER_REVIEW * len(chunk["review_ids"])
        user = enclosed(USER_PROMPT, context(chunk), pairs_per_chunk)
        requests.append(Request(f"{chunk['id']}/{end}", SYSTEM_PROMPT, user, room))
    return requests


def enclosed(prompt: str, text: str, count: int) -> str:
    """A text as data, between markers that hold a hash of what they enclose, which that cannot contain."""
    text = injection.neutralised(text)
    return prompt.format(count=count, mark=files.content_id(text), text=text)


def pairs_from(answers: dict[str, Answer], chunks: list[dict], model: str) -> tuple[list[dict], list[dict]]:
    """The pairs in `model`'s answers to `requests_for` these chunks, and what was not usable, with "reason"."""
    pairs, rejected, by_id = [], [], {chunk["id"]: chunk for chunk in chunks}
    for key, answer in answers.items():
        chunk_id, count = key.split("/")[0], int(key.split("/")[-1])
        ids, text = by_id[chunk_id]["review_ids"], context(by_id[chunk_id])
        parsed, problems = _parse(answer.text)
        if answer.reason and not parsed:
            problems = [f"no usable answer ({answer.reason})"]
        elif answer.finish_reason == "length":
            problems = ["cut off by max_tokens"]
        if len(parsed) > count:
            problems = [*problems, f"more pairs than asked for ({len(parsed)} instead of {count})"]
        pairs += [make_pair(chunk_id, ids, texts, model, PROMPT_VERSION, text) for texts in parsed[:count]]
        row = {"chunk_id": chunk_id, "review_ids": ids, "teacher": model, "text": answer.text}
        rejected += [row | {"reason": problem} for problem in problems]
    return pairs, rejected


def readable(text: str) -> bool:
    """Whether a reply can be used: it has a pair, or says that there is none. Others are asked for again."""
    parsed, problems = _parse(text)
    return bool(parsed) or problems == [NOTHING_TO_ASK]


def _parse(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """(question, answer) tuples from JSON, also where it was cut off, else from Q:/A: lines; and problems."""
    parsed, problems = [], []
    for value in all_json(text):
        if value is None:
            problems.append("broken JSON")
            continue
        # Topics may come alone, also where a reply was cut off.
        topics = {"topic", "topics"} & value.keys() and "question" not in value
        items = value["pairs"] if isinstance(value.get("pairs"), list) else [] if topics else [value]
        problems += [] if items else [NOTHING_TO_ASK]
        for item in items:
            try:
                pair = QAPair.model_validate(item)
                parsed.append((pair.question.strip(), pair.answer.strip()))
            except pydantic.ValidationError as error:
                wrong = error.errors()[0]
                problems.append(f"malformed pair ({'.'.join(map(str, wrong['loc']))}: {wrong['msg']})")
    if not parsed and (labelled := LABELLED.findall(text)):
        return [tuple(" ".join(part.split()).strip("* ") for part in pair) for pair in labelled], []
    return parsed, list(dict.fromkeys(problems)) or ([] if parsed else ["neither JSON nor Q: and A: lines"])


def sample_pairs(chunks: list[dict], path: Path = SAMPLE) -> list[dict]:
    """The bundled pairs, the last ones flawed as a teacher's; ValueError where no chunk has their reviews."""
    first = {name: chunk for chunk in reversed(chunks) for name in chunk["review_ids"]}
    pairs, rows = [], files.read_jsonl(path)
    for row in rows:
        if chunk := first.get(row["review_id"]):
            ids, texts = [row["review_id"]], (row["question"], row["answer"])
            pairs.append(make_pair(chunk["id"], ids, texts, "sample", "sample", context(chunk)))
    if not pairs:
        raise ValueError(
            f"None of the {len(rows)} pairs in {path.name} belongs to these {len(chunks)} chunks: they are "
            "about the bundled sample. For reviews of your own, set the parameter teacher to 'openai'."
        )
    if len(pairs) < len(rows):
        print(f"{len(rows) - len(pairs)} of {len(rows)} sample pairs are left out: no chunk has their review")
    return pairs
