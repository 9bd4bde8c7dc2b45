"""Reviews: cleaning and Markdown (stages 01 and 02). What is removed comes back with its reason."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import groupby
from urllib.parse import quote

from helpers.clean import redaction, texts
from helpers.collect import records, review_files
from helpers.core import files, runtime

SAMPLE = runtime.SAMPLES / "trustpilot_reviews.json"
RULE = "\n\n---\n\n"  # between two sections
# What a cleaned review has. The other fields, such as replies, which name customers, stay in reviews.jsonl.
FIELDS = (
    "review_id review_date review_date_of_experience review_rating review_title review_content review_url "
    "reviewer_name reviewer_location company_name company_website company_overall_rating company_total_reviews "
    "company_location company_category company_about language redacted"
).split()
COMPANY_TEXTS = ("company_name", "company_about", "company_location", "company_category")
NEAR_WORDS = 10  # below, only equal texts are the same: "very good bike" and "very bad bike" differ little
SAID = ("id", "date", "words", "content", "name", "grams")  # of a review, what others are compared with
SIMILAR = 0.7  # Jaccard similarity of the word pairs from which two reviews are near-duplicates


@cache
def sample() -> list[dict]:
    """The bundled sample's parsed reviews: a fictional company, fictional people."""
    return records.parse(review_files.read_records(SAMPLE))[0]


@cache
def clean_sample() -> list[dict]:
    """The bundled sample after notebook 02 with its default parameters."""
    return clean(sample())[0]


def clean(reviews: Iterable[dict], min_words: int = 3, redact_pii=True) -> tuple[list[dict], list[dict]]:
    """Reviews with plain, redacted texts, and the removed ones with `review_id`, `reason` and `text`.

    Removed are reviews with fewer than `min_words` words in title and text, and those that repeat an earlier one (by
    date, then by id): its words, or, from NEAR_WORDS words on, nearly so. A kept row has FIELDS, `redacted` with
    `redaction.redact`'s counts.
    """
    rows, said = [], []
    for review in reviews:
        row, own = clean_one(review, redact_pii)
        rows.append(row)
        said.append(own)
    reasons = removals({name: [own[name] for own in said] for name in SAID}, min_words)
    kept = [row for index, row in enumerate(rows) if index not in reasons]
    return kept, [removed(rows[index], reason) for index, reason in sorted(reasons.items())]


def clean_one(review: dict, redact_pii=True) -> tuple[dict, dict]:
    """A review's row as it may be shown; and its SAID, with texts and names as numbers."""
    title, content = texts.plain(review["review_title"]), texts.plain(review["review_content"])
    row = {**review, "review_title": title, "review_content": content}
    row |= {field: _plain(review[field]) or None for field in COMPANY_TEXTS}
    row["language"] = texts.language(f"{title}\n{content}")
    row = redaction.redact(row) if redact_pii else {**row, "redacted": None}
    # Compared before redaction, so that placeholders make no two reviews alike.
    words = texts.words(f"{title}\n{content}")
    said = {"id": review["review_id"], "date": review["review_date"] or "9999", "words": len(words)}
    said |= {"content": _number(words), "name": _number(review["reviewer_name"])}
    said["grams"] = texts.hashed(texts.ngrams(words, 2) if len(words) >= NEAR_WORDS else ())
    return {field: row[field] for field in FIELDS}, said


_plain = lru_cache(texts.plain)  # for what is the same in each review of a company


def _number(value: object) -> int:
    return int(files.content_id(value)[:15], 16)  # as many digits as a signed 64-bit number has room for


def removed(row: dict, reason: str) -> dict:
    text = f"{row['review_title']} {row['review_content']}".strip()
    return {"review_id": row["review_id"], "reason": reason, "text": text}


def removals(said: dict[str, Sequence], min_words: int) -> dict[int, str]:
    """Why reviews are removed, by index. `said` has a column for each of SAID."""
    import numpy as np

    ids, names, words = said["id"], said["name"], np.asarray(said["words"])
    order = np.lexsort((np.asarray(ids), np.asarray(said["date"])))
    reasons = dict.fromkeys(np.flatnonzero(words < min_words).tolist(), f"fewer than {min_words} words")
    order = order[words[order] >= min_words]
    content = np.asarray(said["content"], dtype=int)[order]
    _, first, same = np.unique(content, return_index=True, return_inverse=True)
    unique = order[np.sort(first)].tolist()
    twins = texts.near_duplicates([said["grams"][index] for index in unique], SIMILAR, chains=False)
    near = {unique[later]: (unique[earlier], similarity) for earlier, later, similarity in reversed([*twins])}
    for index, earlier in zip(order.tolist(), order[first[same]].tolist()):
        if earlier in near:
            twin, similarity = near[earlier]
            reasons[index] = f"near-duplicate of {ids[twin]} ({similarity:.0%} of word pairs shared)"
        elif earlier != index:  # a short one of another name is an opinion, but as a text only a copy
            phrase = words[index] < NEAR_WORDS and names[index] != names[earlier]
            reasons[index] = f"{'common phrase, copy' if phrase else 'exact duplicate'} of {ids[earlier]}"
    return reasons


# A line that Markdown takes for structure could end or forge a section. "#1", "- late", "<3" are none.
MARKUP = re.compile(
    r"^([^\S\n]*)(?=\\|#+(?:\s|$)|=+[^\S\n]*$|[-*+](?![^\S\n]*\w)|_(?![^\W_])|```|~~~|<[a-z/!?]"
    r"|\[[^\]]{0,999}\]:)",
    re.MULTILINE | re.IGNORECASE,
)
MAYBE_MARKUP = re.compile(r"^[^\S\n]*[\\#=*+_`~<\[-]", re.MULTILINE)  # every line that MARKUP could match


def escaped(text: str) -> str:
    """The text with a backslash before each line that Markdown would take for structure."""
    return MARKUP.sub(r"\1\\", text)


def markdown(reviews: Iterable[dict]) -> str:
    """One Markdown document: a header a company, then a section a review, rules between them."""
    return "".join(markdown_parts(reviews))


def markdown_parts(reviews: Iterable[dict]) -> Iterator[str]:
    """The document of `markdown` in pieces, to be written one by one: of many reviews, it is long."""
    rule = ""
    for _, rows in groupby(sorted(reviews, key=_company), key=_company):
        for section in (company_markdown(own := list(rows)), *map(review_markdown, own)):
            yield rule + section
            rule = RULE
    yield "\n"


def _company(row: dict) -> str:
    return row["company_name"] or ""


def company_markdown(rows: list[dict]) -> str:
    """The header of a company: what its page says about it, from the first of its reviews that has it."""
    fields = [field for field in FIELDS if field.startswith("company_")]
    said = {name: next((_line(row[name]) for row in rows if row[name] is not None), "") for name in fields}
    facts = {"Overall Rating": said["company_overall_rating"], "Total Reviews": said["company_total_reviews"]}
    facts |= {"Location": said["company_location"], "Industry": said["company_category"]}
    website, about = said["company_website"], said["company_about"]
    parts = [
        f"# {said['company_name'] or 'Unknown company'} Review Summary",
        f"[Visit Website]({_link(website)})" if website else "",
        _facts(facts),
        f"> {about}" if about else "",
    ]
    return "\n\n".join(filter(None, parts))


def review_markdown(row: dict) -> str:
    """The section of a review: heading, facts, text, and the link to its page unless that was redacted."""
    url = row["review_url"]
    link = f"[View Full Review]({_link(url)})" if url else ""
    return "\n\n".join(filter(None, [review_header(row), escaped(row["review_content"] or ""), link]))


def review_header(row: dict) -> str:
    """Heading and facts of a review, without its text."""
    place = f" ({_line(row['reviewer_location'])[:80]})" if row["reviewer_location"] else ""
    posted, bought = ((row[field] or "")[:10] for field in ("review_date", "review_date_of_experience"))
    rating = f"{row['review_rating']} of 5" if row["review_rating"] else None
    facts = {"Posted on": posted, "Experience Date": bought, "Rating": rating}
    facts["Title"] = _line(row["review_title"] or "")
    heading = f"### Review by {_line(row['reviewer_name'] or 'an unnamed customer')[:80]}{place}"
    return f"{heading}\n{_facts(facts)}".strip()


def _facts(facts: dict[str, str | None]) -> str:
    return "\n".join(f"- **{name}**: {value}" for name, value in facts.items() if value)


def _line(value: object) -> str:
    """A record's value on one line, so that it cannot begin another."""
    return " ".join(str(value).split())


def _link(url: str) -> str:
    return quote(url, safe="%:/?#@!$&'*+,;=~")
