"""A split without leaks: what shares a review, a chunk, or nearly its words, stays on one side (stage 04).

    train, test = split(pairs, test_share=0.15)

Similarity is of words, not of meaning: two questions that say the same in other words may part.
The order in which groups are held out depends on their reviews alone: another prompt, teacher or chunk size
holds out the same reviews, as far as their numbers allow.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from helpers.clean import texts

# Word-3-gram Jaccard similarity above which two questions, or two answers, count as the same. Answers are
# longer, and share stock phrases without being the same; a short one, such as "Yes", may be everybody's.
NEAR_DUPLICATE = {"question": 0.6, "answer": 0.8}
LEAST_WORDS = {"question": 1, "answer": 20}


def near_duplicates(pairs: list[dict], field: str) -> list[tuple[int, int]]:
    """Index pairs whose `field` has word 3-grams with a Jaccard similarity from NEAR_DUPLICATE[field] on.

    Texts that have fewer 3-grams than LEAST_WORDS[field] words make are left out.
    """
    grams = [texts.ngrams(texts.words(pair[field]), 3) for pair in pairs]
    compared = [texts.hashed(own if len(own) >= LEAST_WORDS[field] - 2 else ()) for own in grams]
    return [link[:2] for link in texts.near_duplicates(compared, NEAR_DUPLICATE[field])]


def split(pairs: list[dict], test_share: float = 0.15, seed: int = 3407) -> tuple[list[dict], list[dict]]:
    """(train, test), each sorted by id. Pairs that share a review or a chunk, or nearly a question or an
    answer, stay together, also through chains of such pairs.

    Test has the number of pairs nearest to `test_share` that whole groups can make. The order of
    `pairs` doesn't matter. Raises ValueError when there are fewer than two groups.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share} must lie between 0 and 1, for example 0.15")
    pairs = sorted(pairs, key=lambda pair: (pair["id"], pair["question"]))
    links = [link for field in NEAR_DUPLICATE for link in near_duplicates(pairs, field)]
    first: dict[tuple, int] = {}
    for index, pair in enumerate(pairs):
        shared = [("chunk", pair["chunk_id"]), *(("review", name) for name in pair["review_ids"])]
        links += [(first.setdefault(what, index), index) for what in shared]
    group = list(range(len(pairs)))  # union-find: each points towards the lowest index of its group

    def root(index: int) -> int:
        while group[index] != index:
            group[index] = index = group[group[index]]
        return index

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        group[high] = low
    sizes = Counter(map(root, range(len(pairs))))
    if len(sizes) < 2:
        raise ValueError(
            f"The {len(pairs)} pairs form {len(sizes)} group(s) that share reviews or questions, so none can "
            "be held out. Collect more reviews, or make smaller chunks (chunk_size)."
        )
    names: dict[int, str] = {}
    for index, pair in enumerate(pairs):
        names[root(index)] = min([*pair["review_ids"], names.get(root(index), "\uffff")])
    order = sorted(sizes, key=lambda index: hashlib.sha256(f"{seed}/{names[index]}".encode()).digest())
    held_out = _subset([sizes[index] for index in order], test_share * len(pairs))
    test_roots = {order[at] for at in held_out}
    sides = [root(index) in test_roots for index in range(len(pairs))]
    assert all(sides[one] == sides[other] for one, other in links), "train and test share something"
    return tuple([pair for pair, side in zip(pairs, sides) if side is wanted] for wanted in (False, True))


def leaks(train: list[dict], test: list[dict]) -> list[str]:
    """What both sides share: reviews, chunks, and near-duplicate questions and answers. Empty as it should be."""
    found = []
    for what, names in (
        ("chunk", lambda pair: [pair["chunk_id"]]),
        ("review", lambda pair: pair["review_ids"]),
    ):
        sides = [{name for pair in side for name in names(pair)} for side in (train, test)]
        found += [f"{what} {name}" for name in sorted(sides[0] & sides[1])]
    for field in NEAR_DUPLICATE:
        twins = near_duplicates(train + test, field)
        found += [f"{field} {(train + test)[two][field]}" for one, two in twins if one < len(train) <= two]
    return found


def _subset(sizes: list[int], target: float) -> list[int]:
    """Indices of some, not all, sizes whose sum is nearest to `target`, with the first ones preferred."""
    reachable = [1]  # bit n of item i: the first i sizes can make the sum n
    for size in sizes:
        reachable.append(reachable[-1] | reachable[-1] << size)
    sums = [n for n in range(1, sum(sizes)) if reachable[-1] >> n & 1]
    left, chosen = min(sums, key=lambda n: abs(n - target)), []
    for at in reversed(range(len(sizes))):
        if not reachable[at] >> left & 1:
            chosen.append(at)
            left -= sizes[at]
    return chosen
