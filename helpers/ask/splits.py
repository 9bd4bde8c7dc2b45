"""A split without leaks: what shares a review, a chunk, a schema, or nearly its words, stays on one side.

Similarity is of words, not of meaning: two questions that say the same in other words may part.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import dropwhile

from helpers.clean import texts

# The Jaccard similarity of word 3-grams above which two count as the same; a short answer may be everybody's.
NEAR_DUPLICATE = {"question": 0.6, "answer": 0.8}
LEAST_WORDS = {"question": 1, "answer": 20}
VALIDATION_ROWS = 24


def split(rows: Sequence, keys: Callable, sizes: dict[str, int], seed: int | None = 3407) -> dict[str, list]:
    """{side: rows, in their order}: at most sizes[side] rows on each of these sides, and all others on "train".

    Rows that share a key, also through other rows, form a group, which stays together. Groups are dealt out in the
    order of a hash of seed and name (the least of its rows' first keys), or of `rows` where seed is None. The largest
    is in train; a side that no group fits gets the smallest. ValueError where there are fewer groups than sides.
    """
    groups, sides = _groups([keys(row) for row in rows]), [*sizes, "train"]
    size_of, side_of, filled = Counter(groups), {}, Counter()
    if len(size_of) < len(sides):
        raise ValueError(
            f"The {len(rows)} rows form {len(size_of)} group(s) that share something, and {', '.join(sides)} need "
            "one each. Bring more rows that share nothing with these (for notebook 04's pairs: a smaller chunk_size)."
        )
    hashed = {name: hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in size_of}
    order = list(size_of) if seed is None else sorted(size_of, key=hashed.get)
    largest = max(reversed(order), key=size_of.get)
    for name in order:
        fits = (side for side, size in sizes.items() if filled[side] + size_of[name] <= size)
        side_of[name] = "train" if name == largest else next(fits, "train")
        filled[side_of[name]] += size_of[name]
    for side in [side for side in sizes if not filled[side]]:
        held = Counter(side_of.values())
        spare = [name for name in order if name != largest and held[side_of[name]] > 1]
        side_of[min(spare, key=size_of.get)] = side
    return {side: [row for row, name in zip(rows, groups) if side_of[name] == side] for side in sides}


def example(rows: list[dict], seed: int = 3407) -> dict:
    """What all notebooks follow: of reviews, chunks or pairs, the first about the review that `split` draws first."""

    def place(row: dict) -> tuple:
        names = row.get("review_ids") or [row.get("review_id", "")]
        drawn = min(hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names)
        return row.get("kind") == "overview", drawn, row.get("question", "")

    return min(rows, key=place)


def _groups(keys: list[Sequence]) -> list:
    """The name of each row's group, its least first key."""
    import networkx

    graph, firsts, names = networkx.Graph(), {row[0] for row in keys}, {}
    for row in keys:
        networkx.add_path(graph, row)
    for component in networkx.connected_components(graph):
        names |= dict.fromkeys(component, min(firsts & component))
    return [names[row[0]] for row in keys]


def split_pairs(pairs: list[dict], test_share=0.15, seed: int = 3407, validation: float = 0) -> tuple:
    """(train, test), each sorted by id: test has about `test_share` of the pairs, by review and not by teacher.

    With `validation` there is a third part, of that share of what test leaves, at most VALIDATION_ROWS. Of the overview
    pairs, the whole's and about `test_share` of the topics' are for the test.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share} must lie between 0 and 1, for example 0.15")
    pairs = sorted(pairs, key=lambda pair: (pair["id"], pair["question"]))
    sheets = [pair for pair in pairs if pair.get("kind") == "overview"]
    pairs = [pair for pair in pairs if pair.get("kind") != "overview"]
    keys = [[*sorted(pair["review_ids"]), ("chunk", pair["chunk_id"])] for pair in pairs]
    for field in NEAR_DUPLICATE:
        for one, other in near_duplicates(pairs, field):
            keys[other].append(keys[one][0])
    sizes = {"test": math.ceil(test_share * len(pairs) - 0.5)}
    if validation:
        sizes["validation"] = math.ceil(min(VALIDATION_ROWS, validation * (len(pairs) - sizes["test"])) - 0.5)
    sides = split(range(len(pairs)), keys.__getitem__, sizes, seed)
    topics = {topic(pair) for pair in sheets if pair["chunk_id"].startswith("topic-")}
    topics = sorted(topics, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    held = ["test"] * math.ceil(test_share * len(topics))
    held += ["validation"] * math.ceil(validation * len(topics))
    side_of = dict(zip(topics, held))  # the others are for the training
    parts = {side: [pairs[at] for at in sides[side]] for side in ("train", *sizes)}
    for pair in sheets:
        whole = "test" if pair["chunk_id"].startswith("whole-") else "train"
        parts[side_of.get(topic(pair), whole)].append(pair)
    return tuple(parts.values())


def topic(pair: dict) -> str:
    """The sheet that an overview pair is about; for a topic in a part of the reviews, the sheet of that topic."""
    return pair["chunk_id"].partition("-part-")[0]


def near_duplicates(pairs: list[dict], field: str) -> list[tuple[int, int]]:
    """Index pairs with word 3-grams of a Jaccard similarity above NEAR_DUPLICATE, of at least LEAST_WORDS.

    What is asked of another sheet is another question, whatever its words. Not compared are first paragraphs that more
    than 2 % of the texts share, and more than two: a system prompt or a task, where few share the last paragraph.
    """
    least = NEAR_DUPLICATE[field]
    parts, few = [re.split(r"\n\s*\n", pair[field].strip()) for pair in pairs], max(2, len(pairs) / 50)
    count = Counter(part for own in parts for part in set(own))  # fewer are about the same passage, as a rule
    said = [dropwhile(lambda part, last=own[-1]: count[part] > max(few, count[last]), own) for own in parts]
    grams = [texts.ngrams(texts.words("\n".join(own)), 3) for own in said]
    often = Counter(gram for own in grams for gram in own)  # an instruction that most share tells nothing
    grams = [{gram for gram in own if often[gram] <= max(20, len(pairs) / 2)} or own for own in grams]
    compared = [texts.hashed(own if len(own) >= LEAST_WORDS[field] - 2 else ()) for own in grams]
    sheet = [pair["chunk_id"] if pair.get("kind") == "overview" else "" for pair in pairs]
    twins = texts.near_duplicates(compared, least)
    return [(one, other) for one, other, shared in twins if shared > least and sheet[one] == sheet[other]]


def leaks(train: list[dict], test: list[dict]) -> list[str]:
    """What both sides share: chunks, reviews, near-duplicate questions and answers. Empty as it should be."""
    ids = [{f"review {name}" for pair in side for name in pair["review_ids"]}
           | {f"chunk {pair['chunk_id']}" for pair in side} for side in (train, test)]  # fmt: skip
    shared, pairs = sorted(ids[0] & ids[1]), train + test
    for field in NEAR_DUPLICATE:
        twins = near_duplicates(pairs, field)
        shared += [f"{field} {pairs[two][field]}" for one, two in twins if one < len(train) <= two]
    return shared
