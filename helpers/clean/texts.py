"""What stages share about texts in any language: their plain form, words, language, and near-duplicates.

    texts.words("Ça va, 自転車!")          # ["ça", "va", "自", "転", "車"]
    texts.language("Der Akku hält lange.")  # "de"

All of it runs on this machine. Words are a matter of form: none is stemmed or looked up.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cache

import regex

# Scripts written without spaces: each of their characters, with its marks, counts as a word.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = regex.compile(rf"[{UNSPACED}]\p{{M}}*|[\w--[{UNSPACED}]]+(?:['’][\w--[{UNSPACED}]]+)*", regex.V1)

TAG = re.compile(
    r"</?(?:a|b|blockquote|br|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|s|small|span|strong|sub|sup|table"
    r"|tbody|td|th|thead|tr|u|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
BREAK = re.compile(r"<br\s*/?>|</p>|</div>|</li>|</tr>", re.IGNORECASE)
# Characters that nobody sees. Hidden orders travel in the tags (U+E00xx) and in runs of variation selectors.
# A joiner stays where it is spelling: within Arabic and Indic scripts, and between the parts of an emoji.
JOINING = "\u0600-\u0dff\u1780-\u18af"
INVISIBLE = re.compile(
    "(\U0001f3f4[\U000e0061-\U000e007a]{3,6}\U000e007f)"  # the flags of England, Scotland and Wales stay
    f"|(?<![{JOINING}])\u200c|\u200c(?![{JOINING}])"
    f"|(?<![{JOINING}\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d"
    f"|\u200d(?![{JOINING}\u2190-\u2bff\U0001f000-\U0001faff])"
    "|(?<=[\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
    "|[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def plain(text: str | None) -> str:
    """Text without HTML, control or invisible characters, in Unicode NFC, its spaces and empty lines folded.

    Entities are decoded twice, because many exports encode them twice.
    """
    before = text or ""
    text = TAG.sub("", BREAK.sub("\n", html.unescape(html.unescape(before))))
    text = "\n".join(" ".join(line.split()) for line in text.splitlines())
    text = unicodedata.normalize("NFC", INVISIBLE.sub(r"\1", text))
    text = "\n".join(line for line in map(str.strip, re.sub("  +", " ", text).split("\n")) if line)
    return before if text == before else text  # of 100,000 reviews, one copy in memory instead of two


def words(text: str) -> list[str]:
    """The words in lower case, without punctuation; each character of a script without spaces is one."""
    return WORD.findall(text.lower())


CONFIDENT = 0.4  # py3langid's probability; of the sample's texts cut to 2 to 12 words, 98 % so sure are right
READ = 200  # characters that are looked at: more take longer
MACRO = {"yue": "zh", "wuu": "zh", "ary": "ar", "arz": "ar"}  # spoken languages, written much like these


@cache
def _identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(text: str) -> str | None:
    """The ISO 639-1 code of the text's language; None where the text is too short to tell, or has no code."""
    code, probability = _identifier().classify(text[:READ])
    code = MACRO.get(code, code)
    return code if probability >= CONFIDENT and len(code) == 2 else None


SIMILAR = 0.7  # Jaccard similarity of the word pairs from which two texts are near-duplicates
BANDS, ROWS = 16, 4  # of a similarity of 0.7, 98.8 % share a band: 1 - (1 - 0.7**4)**16; of 0.8, 99.98 %


def pair_hashes(words: list[str]):
    """The set of word pairs as a sorted array of 32-bit hashes: 4 bytes a pair, where strings take 70."""
    import numpy as np
    from datasketch.hashfunc import sha1_hash32

    pairs = {sha1_hash32(f"{one} {other}".encode()) for one, other in zip(words, words[1:])}
    return np.array(sorted(pairs), dtype=np.uint32)


def near_duplicates(pairs: list, order: Iterable[int]) -> dict[int, tuple[int, float]]:
    """For each near-duplicate, by index: the text that it repeats, and how similar they are.

    `pairs` has the `pair_hashes` of every text. In `order`, a text is kept unless it is SIMILAR to one kept
    before it. Candidates share a band of their MinHash signatures; then their true similarity decides,
    so no text is removed below SIMILAR, and hardly one above it is missed.
    """
    import numpy as np
    from datasketch import MinHash

    empty = MinHash(num_perm=BANDS * ROWS, hashfunc=int)
    signatures = np.empty((len(pairs), BANDS * ROWS), dtype=np.uint32)
    for index, own in enumerate(pairs):
        signature = MinHash(num_perm=BANDS * ROWS, hashfunc=int, permutations=empty.permutations)
        signature.update_batch(own.tolist())
        signatures[index] = signature.hashvalues
    buckets = np.empty((len(pairs), BANDS), dtype=np.int32)
    for band in range(BANDS):
        part = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        keys = part.view(np.dtype((np.void, part.itemsize * ROWS))).ravel()
        _, bucket, size = np.unique(keys, return_inverse=True, return_counts=True)
        buckets[:, band] = np.where(size[bucket] > 1, bucket, -1)  # alone in its bucket: nobody's candidate
    holders, found = defaultdict(list), {}
    for index in order:
        own = [(band, bucket) for band, bucket in enumerate(buckets[index].tolist()) if bucket >= 0]
        for other in dict.fromkeys(other for place in own for other in holders[place]):
            shared = len(np.intersect1d(pairs[index], pairs[other], assume_unique=True))
            similarity = shared / max(1, len(pairs[index]) + len(pairs[other]) - shared)
            if similarity >= SIMILAR:
                found[index] = other, similarity
                break
        else:
            for place in own:
                holders[place].append(index)
    return found
