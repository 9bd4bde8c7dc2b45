"""Reviews: cleaning and Markdown (stages 01 and 02). What is removed comes back with its reason."""

import re
from collections import defaultdict, namedtuple
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
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
IN_LINKS = "%:/?#@!$&'*+,;=~"  # as it is
COMPANY_TEXTS = ("company_name", "company_about", "company_location", "company_category")
NEAR_WORDS = 10  # below, only equal texts are the same: "very good bike" and "very bad bike" differ little
Said = namedtuple("Said", "date id name words content grams")  # what reviews are compared by, and ordered
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
    date, then by id): its words, or, from NEAR_WORDS words on, nearly so. A kept row has FIELDS.
    """
    pairs = [clean_one(review, redact_pii) for review in reviews]
    reasons = removals([said for _, said in pairs], min_words)
    kept = [row for index, (row, _) in enumerate(pairs) if index not in reasons]
    return kept, [removed(pairs[index][0], reason) for index, reason in sorted(reasons.items())]


def clean_one(review: dict, redact_pii=True) -> tuple[dict, Said]:
    """A review's row as it may be shown, and what others are compared with."""
    title, content = texts.plain(review["review_title"]), texts.plain(review["review_content"])
    row = {**review, "review_title": title, "review_content": content}
    row |= {field: _plain(review[field]) or None for field in COMPANY_TEXTS}
    row["language"] = texts.language(f"{title}\n{content}")
    row = redaction.redact(row) if redact_pii else {**row, "redacted": None}
    # Compared before redaction, so that placeholders make no two reviews alike.
    words = texts.words(f"{title}\n{content}")
    grams = texts.hashed(texts.ngrams(words, 2) if len(words) >= NEAR_WORDS else ())
    said = review["review_date"] or "9999", review["review_id"], review["reviewer_name"], len(words)
    return {field: row[field] for field in FIELDS}, Said(*said, files.content_id(words), grams)


_plain = lru_cache(texts.plain)  # for what is the same in each review of a company


def removed(row: dict, reason: str) -> dict:
    text = f"{row['review_title']} {row['review_content']}".strip()
    return {"review_id": row["review_id"], "reason": reason, "text": text}


def removals(said: Sequence[Said], min_words: int) -> dict[int, str]:
    """Why reviews are removed, by index."""
    too_few = f"fewer than {min_words} words"
    reasons = {index: too_few for index, own in enumerate(said) if own.words < min_words}
    order = sorted(set(range(len(said))) - reasons.keys(), key=lambda index: (said[index][:2], index))
    firsts = {said[index].content: index for index in reversed(order)}
    unique = [index for index in order if firsts[said[index].content] == index]
    twins = texts.near_duplicates([said[index].grams for index in unique], SIMILAR, chains=False)
    near = {unique[later]: (unique[earlier], similarity) for earlier, later, similarity in reversed([*twins])}
    for index in order:
        own, first = said[index], firsts[said[index].content]
        if first in near:
            twin, similarity = near[first]
            reasons[index] = f"near-duplicate of {said[twin].id} ({similarity:.0%} of word pairs shared)"
        elif first != index:  # a short one of another name is an opinion, but as a text only a copy
            phrase = own.words < NEAR_WORDS and own.name != said[first].name
            reasons[index] = f"{'common phrase, copy' if phrase else 'exact duplicate'} of {said[first].id}"
    return reasons


# A line that Markdown takes for structure could end or forge a section. "#1", "- late", "<3" are none.
MARKUP = re.compile(
    r"(?im)^([^\S\n]*)(?=\\|#+(?:\s|$)|=+[^\S\n]*$|[-*+](?![^\S\n]*\w)|_(?![^\W_])|```|~~~|<[a-z/!?]"
    r"|\[[^\]]{0,999}\]:)"
)
MAYBE_MARKUP = re.compile(r"(?m)^[^\S\n]*[\\#=*+_`~<\[-]")  # every line that MARKUP could match


def escaped(text: str) -> str:
    """The text with a backslash before each line that Markdown would take for structure."""
    return MARKUP.sub(r"\1\\", text)


def markdown(reviews: Iterable[dict]) -> str:
    """One Markdown document: a header a company, then a section a review, rules between them."""
    return "".join(markdown_parts(reviews))


def markdown_parts(reviews: Iterable[dict]) -> Iterator[str]:
    """The document of `markdown` in pieces, to be written one by one: of many reviews, it is long."""
    rule, companies = "", defaultdict(list)
    for row in reviews:
        companies[row["company_name"] or ""].append(row)
    for _, own in sorted(companies.items()):
        for section in (company_markdown(own), *map(review_markdown, own)):
            yield rule + section
            rule = RULE
    yield "\n"


def company_markdown(rows: list[dict]) -> str:
    """The header of a company: what its page says about it, from the first of its reviews that has it."""
    fields = [field for field in FIELDS if field.startswith("company_")]
    said = {name: next((_line(row[name]) for row in rows if row[name] is not None), "") for name in fields}
    facts = {"Overall Rating": said["company_overall_rating"], "Total Reviews": said["company_total_reviews"]}
    facts |= {"Location": said["company_location"], "Industry": said["company_category"]}
    parts = [
        f"# {said['company_name'] or 'Unknown company'} Review Summary",
        _link("Visit Website", said["company_website"]),
        _facts(facts),
        f"> {said['company_about']}" if said["company_about"] else "",
    ]
    return "\n\n".join(filter(None, parts))


def review_markdown(row: dict) -> str:
    """The section of a review: heading, facts, text, and the link to its page unless that was redacted."""
    text, link = escaped(row["review_content"] or ""), _link("View Full Review", row["review_url"])
    return "\n\n".join(filter(None, [review_header(row), text, link]))


def review_header(row: dict) -> str:
    """Heading and facts of a review, without its text."""
    place = f" ({_line(row['reviewer_location'])[:80]})" if row["reviewer_location"] else ""
    posted, bought = ((row[field] or "")[:10] for field in ("review_date", "review_date_of_experience"))
    rating = f"{row['review_rating']} of 5" if row["review_rating"] else None
    facts = {"Posted on": posted, "Experience Date": bought, "Rating": rating, "Title": row["review_title"]}
    heading = f"### Review by {_line(row['reviewer_name'] or 'an unnamed customer')[:80]}{place}"
    return f"{heading}\n{_facts(facts)}".strip()


def _facts(facts: dict[str, str | None]) -> str:
    return "\n".join(f"- **{name}**: {line}" for name, value in facts.items() if (line := _line(value or "")))


def _line(value: object) -> str:
    """A record's value on one line, so that it cannot begin another."""
    return " ".join(str(value).split())


def _link(label: str, url: str | None) -> str:
    return f"[{label}]({quote(url, safe=IN_LINKS)})" if url else ""
