"""Fact sheets: what all reviews say together, counted by code (stage 04).

    rows = sheets.topics_from(answers, chunks)  # one row per review and topic, as the teacher labelled it
    pages = sheets.fact_sheets(rows, chunks)    # the whole, each large topic, and parts of the reviews

A sheet is {"id", "kind", "name", "company", "reviews", "text"}. Its kind is "whole", "topic", or "part": a country, a
quarter or a random half, or a large topic in random two thirds of the reviews, so that training sees many sheets of
either form and the whole itself can be held out. Every number is a count of reviews; no language model adds anything.
"""

import hashlib
import re
from collections import Counter, defaultdict
from functools import partial

import pydantic

from helpers.ask import injection
from helpers.ask.answers import Answer, all_items
from helpers.clean import reviews, texts
from helpers.core import files

TOPICS = 15  # sheets of topics at most, the largest
PARTS = 24  # sheets of the whole's form about parts, at most
DRAWS = 3  # sheets of a large topic in parts of the reviews, at most
LEAST_NAMED = 8  # reviews that name a topic before it has a sheet
LEAST_PART = 20  # reviews of a part before it has one, and of any sheet before it gives percentages
FILLERS = set("a an the of and with very is was".split())  # words of a label that tell it from no other
HEADING = re.compile(r"### Review by .*?(?: \(([^()]+)\))?$", re.MULTILINE)
POSTED = re.compile(r"^- \*\*Posted on\*\*: (\d{4})-(\d\d)", re.MULTILINE)
RATING = re.compile(r"^- \*\*Rating\*\*: (\d) of 5$", re.MULTILINE)


class Topic(pydantic.BaseModel, json_schema_extra={"additionalProperties": False}):
    """What one review says about one topic; `review` is its place in the chunk, from 1."""

    review: int
    topic: str
    sentiment: str
    detail: str


def topics_from(answers: dict[str, Answer], chunks: list[dict]) -> list[dict]:
    """{"review_id", "topic", "sentiment", "detail"} of the teacher's labels; what is malformed is left out."""
    rows, by_id = [], {chunk["id"]: chunk["review_ids"] for chunk in chunks}
    for key, answer in answers.items():
        ids = dict(enumerate(by_id[key.split("/")[0]], 1))
        for label in all_items(answer.text, Topic, "topics"):
            said = (" ".join(text.lower().split()) for text in (label.topic, label.detail))
            topic, detail = map(injection.neutralised, said)
            if label.review in ids and topic and detail and not injection.planted(f"{topic} {detail}"):
                moods = [mood for mood in ("negative", "positive") if mood[:5] in label.sentiment.lower()]
                row = {"review_id": ids[label.review], "topic": topic, "detail": detail}
                rows.append(row | {"sentiment": moods[0] if len(moods) == 1 else "neutral"})
    return rows


def joined(labels: list[str]) -> dict[str, str]:
    """Each label → the most frequent one with the same words, in any form and order ("delivery", "the deliveries").

    Stems are English, as labels are; FILLERS do not count. Other words of the same meaning stay apart: those that only
    look alike, heating and seating, are no more one topic than "room too hot" and "room too cold" are one complaint.
    """
    counts, first = Counter(labels), {}
    names = sorted(counts, key=lambda name: (-counts[name], name))
    words = (frozenset(map(texts.stem, {*texts.words(name)} - FILLERS)) or name for name in names)
    return {name: first.setdefault(own, name) for name, own in zip(names, words)}


def review_facts(chunks: list[dict]) -> dict[str, dict]:
    """Review id → company, stars (1 to 5), month ("2026-05") and country, as far as the chunks' headers say."""
    facts = {}
    for chunk in chunks:
        for review_id, section in zip(chunk["review_ids"], chunk["text"].split(reviews.RULE)):
            heading, posted, rating = (form.search(section) for form in (HEADING, POSTED, RATING))
            facts[review_id] = {
                "company": chunk["company"],
                "country": heading and heading[1],
                "month": posted and f"{posted[1]}-{posted[2]}",
                "stars": rating and int(rating[1]),
            }
    return facts


def fact_sheets(rows: list[dict], chunks: list[dict]) -> list[dict]:
    """The sheets of each company's reviews: the whole, its topics, its parts; none where nothing is labelled."""
    facts, sheets = review_facts(chunks), []
    rows = _joined([row for row in rows if row["review_id"] in facts], "topic")
    rows = _joined(rows, "detail", "topic", "sentiment")
    for company in sorted({fact["company"] for fact in facts.values()}, key=str):
        own = {name: fact for name, fact in facts.items() if fact["company"] == company}
        if labelled := [row for row in rows if row["review_id"] in own]:
            sheets += _of_company(company or "the company", labelled, own)
    return sheets


def _joined(rows: list[dict], field: str, *within: str) -> list[dict]:
    """The rows, a `field` as `joined` says, separately for those that agree in the fields `within`."""
    labels, group = defaultdict(list), lambda row: tuple(row[name] for name in within)
    for row in rows:
        labels[group(row)].append(row[field])
    names = {key: joined(own) for key, own in labels.items()}
    return [row | {field: names[group(row)][row[field]]} for row in rows]


def _of_company(company: str, rows: list[dict], facts: dict[str, dict]) -> list[dict]:
    sheet = partial(_sheet, company, rows)
    sheets = [sheet("whole", "all reviews", facts)]
    for topic, count in _count(rows, "topic").most_common(TOPICS):
        if count >= LEAST_NAMED:
            sheets.append(whole := sheet("topic", topic, facts, topic))
            for number in range(1, DRAWS + 1):
                names = {name for name in facts if _byte(f"{topic}/{number}/{name}") < 171}  # of 256
                part = {name: fact for name, fact in facts.items() if name in names}
                drawn = sheet("part", f"{topic}, random part {number}", part, topic)
                if drawn["reviews"] >= LEAST_PART:
                    sheets.append(drawn | {"id": f"{whole['id']}-{drawn['id']}"})
    return sheets + [sheet("part", f"reviews {name}", own) for name, own in _parts(facts)]


def _byte(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0]


def _parts(facts: dict[str, dict]) -> list[tuple[str, dict]]:
    """Name and facts: countries and quarters of LEAST_PART reviews or more, then random halves, PARTS in all."""
    parts = defaultdict(dict)
    for name, fact in facts.items():
        if fact["country"]:
            parts[f"from {fact['country']}"][name] = fact
        if fact["month"]:
            year, month = fact["month"].split("-")
            parts[f"of {year} Q{(int(month) + 2) // 3}"][name] = fact
    for number in range(PARTS):
        half = {name: fact for name, fact in facts.items() if _byte(f"{number}/{name}") % 2}
        parts[f"in random half {number + 1}"] = half
    return [(name, own) for name, own in parts.items() if LEAST_PART <= len(own) < len(facts)][:PARTS]


def _sheet(company: str, rows: list[dict], kind: str, name: str, facts: dict, topic: str = "") -> dict:
    """A sheet of the reviews in `facts`, or of those that name a topic, by their labels in `rows`."""
    rows = [row for row in rows if row["review_id"] in facts and topic in ("", row["topic"])]
    own = {row["review_id"]: facts[row["review_id"]] for row in rows} if topic else facts
    lines = _topic(rows, own, len(facts)) if topic else _whole(rows, facts)
    lines["Note"] = f"{len(own)} reviews are too few for percentages" if len(own) < LEAST_PART else ""
    listed = [f"- **{label}**: {line}" for label, line in lines.items() if line]
    text = "\n".join([f"### Fact sheet of {company}: {name}", *listed])
    sheet = {"kind": kind, "name": name, "company": company, "reviews": len(own), "text": text}
    return {"id": f"{kind}-{files.content_id(sheet)}", **sheet}


def _whole(rows: list[dict], facts: dict) -> dict[str, str]:
    """The lines of a sheet of reviews, from their labels `rows` and their `facts`."""
    months = sorted(fact["month"] for fact in facts.values() if fact["month"])
    return {
        "Reviews": f"{len(facts)}" + (f", posted from {months[0]} to {months[-1]}" if months else ""),
        "Stars": _stars(facts),
        "Topics": _listed(rows, "topic", 5),
        "Complaints": _listed(rows, "topic", 3, "negative"),
        "Typical complaints": _listed(rows, "detail", 3, "negative"),
        "Praise": _listed(rows, "topic", 3, "positive"),
        "Typical praise": _listed(rows, "detail", 3, "positive"),
        "Change": _change(facts),
    }


def _topic(rows: list[dict], facts: dict, of: int) -> dict[str, str]:
    """The lines of a topic's sheet; `facts` are those of the reviews that name it, out of `of`."""
    moods, order = _count(rows, "sentiment"), ("negative", "positive", "neutral")
    return {
        "Reviews": f"{len(facts)} of {of} name it",
        "Sentiment": ", ".join(_part(moods[mood], mood, len(facts)) for mood in order if moods[mood]),
        "Complaints": _listed(rows, "detail", 3, "negative"),
        "Praise": _listed(rows, "detail", 3, "positive"),
        "Stars": _stars(facts),
        "Change": _change(facts),
    }


def _count(rows: list[dict], field: str) -> Counter:
    """Reviews by the value of a field: a review counts once for each value."""
    return Counter(value for value, _ in sorted({(row[field], row["review_id"]) for row in rows}))


def _listed(rows: list[dict], field: str, most: int, sentiment: str = "") -> str:
    """The values that most reviews have, as "delivery (62), battery (40)"; ties are in alphabetical order."""
    rows = [row for row in rows if sentiment in ("", row["sentiment"])]
    return ", ".join(f"{value} ({count})" for value, count in _count(rows, field).most_common(most)) or "none"


def _part(count: int, name: str, of: int) -> str:
    digits = 2 * (0 < min(count, of - count) < of / 200)  # one of 400 is not 0 %
    return f"{count} {name}" + (f" ({100 * count / of:.{digits}f} %)" if of >= LEAST_PART else "")


def _stars(facts: dict) -> str:
    stars = [fact["stars"] for fact in facts.values() if fact["stars"]]
    groups = {"with 1 or 2": (1, 2), "with 3": (3,), "with 4 or 5": (4, 5)}
    counts = ((name, sum(star in group for star in stars)) for name, group in groups.items())
    return ", ".join(_part(count, name, len(stars)) for name, count in counts) if stars else ""


def _change(facts: dict) -> str:
    """The share of bad stars by half, older and newer; "" under LEAST_PART reviews each, or most of one month."""
    dated = sorted((f["month"], name, f["stars"]) for name, f in facts.items() if f["month"] and f["stars"])
    half, months = len(dated) // 2, Counter(month for month, *_ in dated)
    if half < LEAST_PART or max(months.values()) > half:
        return ""
    shares = (100 * sum(star <= 2 for *_, star in part) / len(part) for part in (dated[:half], dated[half:]))
    return "1 or 2 stars in {:.0f} % of the older half and {:.0f} % of the newer half".format(*shares)
