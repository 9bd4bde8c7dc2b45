"""Chunks: Markdown pieces for the teacher, never with parts of two reviews (stage 03).

Short reviews of one company in one language are packed whole; a long one is split alone, its header repeated.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby

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
    chunks = []
    for (company, _), group in groupby(sorted(rows, key=_group), key=_group):
        packed = _pack(group, chunk_size, chunk_overlap)
        chunks += with_ids((ids, company or None, text) for ids, text in packed)
    return chunks


def _group(row: dict) -> tuple[str, str]:
    return row["company_name"] or "", row.get("language") or ""


def _pack(rows: Iterable[dict], chunk_size: int, chunk_overlap: int) -> Iterator[tuple[list[str], str]]:
    """The review ids and the text of each chunk."""
    ids, packed = [], ""
    for row in rows:
        section = reviews.review_markdown(row)
        joined = packed + reviews.RULE + section if packed else section
        if len(joined) <= chunk_size:
            ids, packed = [*ids, row["review_id"]], joined
            continue
        if packed:
            yield ids, packed
        ids, packed = ([row["review_id"]], section) if len(section) <= chunk_size else ([], "")
        if not packed:
            yield from (([row["review_id"]], piece) for piece in _pieces(row, chunk_size, chunk_overlap))
    if packed:
        yield ids, packed


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


def with_ids(contents: Iterable[tuple[list[str], str | None, str]]) -> list[dict]:
    """Chunks with their ids; where a review says the same twice at length, the second has another id."""
    chunks, seen = [], Counter()
    for review_ids, company, text in contents:
        content = {"review_ids": review_ids, "company": company, "text": text}
        first = files.content_id(content)
        chunks.append({"id": files.content_id([first, seen[first]]) if seen[first] else first, **content})
        seen[first] += 1
    return chunks


@cache
def sample() -> list[dict]:
    """The bundled sample after notebook 03 with its default parameters."""
    return split(reviews.clean_sample())
