"""Reviews: cleaning and Markdown (stages 01 and 02).

    records = reviews.read_records("my_reviews.csv")
    parsed, rejected = reviews.parse(records)
    kept, removed = reviews.clean(parsed, min_words=3)

Files are read by `review_files`, records parsed by `records`, personal data found by `redaction`. What is
removed comes back with its reason. This module calls no service and no language model.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import cache
from pathlib import Path

from helpers import redaction
from helpers.records import Review as Review
from helpers.records import parse as parse
from helpers.review_files import OTHER_NAMES as OTHER_NAMES
from helpers.review_files import read_records as read_records

SAMPLE = Path(__file__).parent / "samples" / "trustpilot_reviews.json"


@cache
def sample() -> list[dict]:
    """The bundled sample's parsed reviews: a fictional company, fictional people."""
    return parse(read_records(SAMPLE))[0]


@cache
def clean_sample() -> list[dict]:
    """The bundled sample after notebook 02 with its default parameters."""
    return clean(sample())[0]


def plain_text(text: str | None) -> str:
    """Text without HTML, control or zero-width characters, in Unicode NFC, spaces folded."""
    text = html.unescape(html.unescape(text or ""))
    text = re.sub(r"<br\s*/?>|</p>", "\n", text, flags=re.IGNORECASE)
    text = re.sub(r"</?[a-z][^<>]*>", "", text, flags=re.IGNORECASE)
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    # U+200D, the zero-width joiner, holds emoji together.
    text = "".join(c for c in text if c in "\n\u200d" or unicodedata.category(c) not in ("Cc", "Cf"))
    text = re.sub(r"[^\S\n]+", " ", text)
    return re.sub(r" ?\n[ \n]*", "\n", text).strip()


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def clean(reviews: list[dict], min_words: int = 3, redact_pii: bool = True) -> tuple[list[dict], list[dict]]:
    """Reviews with plain, redacted texts, and the removed ones with `review_id`, `reason` and `text`.

    Removed: fewer than `min_words` words in title and text together, the same text again, and
    near-duplicates: Jaccard similarity of word pairs above 0.7, found with MinHash.
    Each kept row gains `redacted`, the number of placeholders by type.
    """
    kept, removed = [], []
    near = _NearDuplicates()
    for review in reviews:
        row = {**review}
        for field in ("review_title", "review_content", "company_about"):
            row[field] = plain_text(review[field])
        # Counted and compared before redaction, so that placeholders make no two reviews alike.
        tokens = words(f"{row['review_title']} {row['review_content']}")
        twin = near.find_or_add(row["review_id"], tokens) if len(tokens) >= min_words else None
        if len(tokens) < min_words:
            removed.append(_removed(row, f"fewer than {min_words} words"))
        elif twin:
            removed.append(_removed(row, f"near-duplicate of {twin}"))
        else:
            kept.append(redaction.redact(row) if redact_pii else {**row, "redacted": {}})
    return kept, removed


def _removed(row: dict, reason: str) -> dict:
    text = f"{row['review_title']} {row['review_content']}".strip()
    return {"review_id": row["review_id"], "reason": reason, "text": redaction.redact_text(text)[0]}


class _NearDuplicates:
    """Finds the first earlier text whose word pairs are at least 70 % the same."""

    def __init__(self) -> None:
        from datasketch import MinHashLSH

        self.index = MinHashLSH(threshold=0.7, num_perm=128)

    def find_or_add(self, key: str, tokens: list[str]) -> str | None:
        from datasketch import MinHash

        pairs = {f"{a} {b}".encode() for a, b in zip(tokens, tokens[1:])} or {tokens[0].encode()}
        signature = MinHash(num_perm=128)
        signature.update_batch(pairs)
        twins = sorted(self.index.query(signature))
        if not twins:
            self.index.insert(key, signature)
        return twins[0] if twins else None


def markdown(reviews: list[dict]) -> str:
    """One Markdown document: a header a company, then a section a review, rules between them."""
    parts, company = [], None
    for row in sorted(reviews, key=lambda row: row["company_name"] or ""):
        if row["company_name"] != company or not parts:
            company = row["company_name"]
            parts.append(company_markdown(row))
        parts.append(review_markdown(row))
    return "\n\n---\n\n".join(parts) + "\n"


def company_markdown(row: dict) -> str:
    """The header of a company: what its page says about it."""
    lines = [f"# {row['company_name'] or 'Unknown company'}: customer reviews", ""]
    facts = {
        "Website": row["company_website"],
        "Overall rating": row["company_overall_rating"],
        "Total reviews": row["company_total_reviews"],
        "Location": row["company_location"],
        "Industry": row["company_category"],
    }
    lines += [f"- **{name}**: {value}" for name, value in facts.items() if value is not None]
    return "\n".join(lines + (["", f"> {row['company_about']}"] if row["company_about"] else []))


def review_markdown(row: dict) -> str:
    """The section of a review: heading, facts, text."""
    return f"{review_header(row)}\n\n{row['review_content'] or ''}".strip()


def review_header(row: dict) -> str:
    """Heading and facts of a review, without its text."""
    place = f" ({row['reviewer_location']})" if row["reviewer_location"] else ""
    facts = {
        "Rating": f"{row['review_rating']} of 5" if row["review_rating"] else None,
        "Posted on": (row["review_date"] or "")[:10] or None,
        "Title": row["review_title"] or None,
    }
    lines = [f"- **{name}**: {value}" for name, value in facts.items() if value]
    return "\n".join([f"### Review by {row['reviewer_name'] or 'an unnamed customer'}{place}", *lines])
