"""Chunks: Markdown pieces for the teacher, never with parts of two reviews (stage 03).

Short reviews of one company in one language are packed whole; a long one is split alone, its header repeated.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

from helpers.clean import reviews
from helpers.core import files

# A long text is cut after a line or sentence (one level, so that pieces overlap), clause, word, or anywhere.
SEPARATORS = [r"\n|[.!?…][\"'”’»)]* |[。！？]", r"[,;:] |[，、；：]", r"\s", ""]


def split(rows: Iterable[dict], chunk_size: int = 1024, chunk_overlap: int = 256) -> list[dict]:
    """Clean reviews as chunks `{"id", "review_ids", "company", "text"}` of at most `chunk_size` characters.

    Sorted by company and language. Pieces of a long review share at most `chunk_overlap` characters; a title that
    leaves no room begins the text. Raises ValueError for a chunk_size without room for a text below a header.
    """
    if not 0 <= chunk_overlap < chunk_size:
        raise ValueError(f"chunk_overlap={chunk_overlap} must lie between 0 and chunk_size={chunk_size}")
    parts = (part(row, chunk_size, chunk_overlap) for row in sorted(rows, key=group))
    return list(with_ids(pack(parts, chunk_size)))


def group(row: dict) -> tuple[str, str]:
    """What the reviews of a chunk have in common, and what they are sorted by: company and language."""
    return row["company_name"] or "", row.get("language") or ""


def part(row: dict, chunk_size: int, chunk_overlap: int) -> tuple[tuple[str, str], str, bool, list[str]]:
    """A review on its way into a chunk: group, id, whether its section is short enough; that, or its pieces."""
    section = reviews.review_markdown(row)
    fits = len(section) <= chunk_size
    pieces = [section] if fits else list(_pieces(row, chunk_size, chunk_overlap))
    return group(row), row["review_id"], fits, pieces


def pack(parts: Iterable[tuple], chunk_size: int) -> Iterator[tuple[list[str], str | None, str]]:
    """Review ids, company and text of each chunk, of parts that are sorted by group."""
    ids, company, packed, last = [], None, "", None
    for own, review_id, fits, pieces in parts:
        for piece in pieces:
            joined = packed + reviews.RULE + piece
            if fits and own == last and len(joined) <= chunk_size:
                ids, packed = [*ids, review_id], joined
                continue
            if packed:
                yield ids, company, packed
            ids, company, packed, last = [review_id], own[0] or None, piece, own if fits else None
    if packed:
        yield ids, company, packed


def _pieces(row: dict, chunk_size: int, chunk_overlap: int) -> Iterator[str]:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    title, text, header = row["review_title"] or "", row["review_content"] or "", reviews.review_header(row)
    if len(header) + chunk_overlap + 4 > chunk_size:  # the title is a text, and often the text again
        header = reviews.review_header(row | {"review_title": None})
        text = text if text.startswith(title.rstrip(".… ")) else f"{title}\n{text}"
    room = chunk_size - len(header) - 2
    if room < chunk_overlap + 2:
        raise ValueError(
            f"chunk_size={chunk_size} with chunk_overlap={chunk_overlap} leaves no room for a text below the header "
            f"of review {row['review_id']} ({header[:80]!r}…); set it to {len(header) + chunk_overlap + 4} or more"
        )
    how = {"separators": SEPARATORS, "is_separator_regex": True, "keep_separator": "end"}
    # Each piece is escaped by itself, for a cut can put a "#" first; so each such place counts twice.
    how["length_function"] = lambda text: len(text) + len(reviews.MAYBE_MARKUP.findall(text))
    splitter = RecursiveCharacterTextSplitter(chunk_size=room, chunk_overlap=chunk_overlap, **how)
    for piece in splitter.split_text(text) or [""]:
        yield f"{header}\n\n{reviews.escaped(piece)}".strip()


def with_ids(contents: Iterable[tuple[list[str], str | None, str]]) -> Iterator[dict]:
    """Chunks with their ids; where a review says the same twice at length, the second has another id."""
    seen = Counter()
    for review_ids, company, text in contents:
        content = {"review_ids": review_ids, "company": company, "text": text}
        first = files.content_id(content)
        yield {"id": files.content_id([first, seen[first]]) if seen[first] else first, **content}
        seen[first] += 1


@cache
def sample() -> list[dict]:
    """The bundled sample after notebook 03 with its default parameters."""
    return split(reviews.clean_sample())
