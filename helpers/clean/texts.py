"""What stages share about texts in any language: their plain form, words, language, and near-duplicates."""

import html
import re
import unicodedata
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

import regex

from helpers.core import files

WORDS = files.read_json(Path(__file__).with_name("words.json"))  # of six languages, by what they are for


def one_of(kind: str) -> str:
    """A pattern of the words of one kind in WORDS, the longest first."""
    longest_first = sorted(WORDS[kind], key=len, reverse=True)
    return "|".join(re.escape(word).replace("'", "['’]") for word in longest_first)


# Scripts written without spaces: each of their characters, with its marks, counts as a word.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = regex.compile(rf"[{UNSPACED}]\p{{M}}*|[\w--[{UNSPACED}]]+(?:['’][\w--[{UNSPACED}]]+)*", regex.V1)

TAG = re.compile(rf"(?i)</?(?:{one_of('tags')})(?:\s[^<>]*)?/?>")
# What no reader of a page sees; one that never ends hides the rest, as it does in a browser.
HIDDEN = re.compile(r"(?is)<!--.*?(?:-->|\Z)|<(style|script)\b[^<>]*>.*?(?:</\1\s*>|\Z)")
BREAK = re.compile(r"(?i)<br\s*/?>|</(?:p|div|li|tr)>")
# Characters that nobody sees. Hidden orders travel in the tags (U+E00xx) and in runs of variation selectors.
# A joiner stays where it is spelling: within Arabic and Indic scripts, and between the parts of an emoji.
JOINED = "\u0600-\u0dff\u1780-\u18af\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
INVISIBLE = re.compile(
    "(\U0001f3f4[\U000e0061-\U000e007a]{3,6}\U000e007f)"  # the flags of England, Scotland and Wales stay
    f"|(?<![{JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{JOINED}])"
    "|(?<=[\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
    "|[\x00-\x08\x0b-\x1e\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def plain(text: str | None) -> str:
    """Text in Unicode NFC without HTML, what that hides, and invisible characters; spaces are folded."""
    before = text or ""  # entities are decoded twice, because many exports encode them twice
    text = HIDDEN.sub(" ", html.unescape(html.unescape(before)))
    text = "\n".join(TAG.sub("", BREAK.sub("\n", text)).splitlines())
    text = unicodedata.normalize("NFC", INVISIBLE.sub(r"\1", text))
    text = "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))
    return before if text == before else text  # of 100,000 reviews, one copy in memory instead of two


def words(text: str) -> list[str]:
    """The words in lower case, without punctuation; each character of a script without spaces is one."""
    return WORD.findall(text.lower())


CONFIDENT = 0.4  # py3langid's probability; of the sample's texts cut to 2 to 12 words, 98 % so sure are right


@cache
def _identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@lru_cache(1024)  # many pairs have the same source
def language(text: str) -> str | None:
    """The ISO 639-1 code of the text's language; None where the text is too short to tell, or has no code."""
    code, probability = _identifier().classify(text[:200])  # more takes longer
    return code if probability >= CONFIDENT and len(code) == 2 else None


@lru_cache(100_000)  # the same words come again and again
def stem(word: str) -> str:
    """The word's English stem, by Porter's rules."""
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer().stem(word)


def ngrams(words: list[str], length: int) -> set[tuple[str, ...]]:
    """All runs of `length` words; the whole text where it is shorter."""
    return {tuple(words[at : at + length]) for at in range(max(1, len(words) - length + 1))}


def hashed(grams: Iterable[tuple[str, ...]]):
    """The n-grams as an array of unsigned 32-bit numbers: 4 bytes each, where strings take 70."""
    import numpy as np

    return np.fromiter({zlib.crc32(" ".join(gram).encode()) for gram in grams}, dtype=np.uint32)


BUCKETS = 2**24  # of n-grams, for counting about how many texts hold each
BLOCK = 100  # texts that are compared with all others at a time


def near_duplicates(grams: Sequence, least: float, chains: bool = True) -> Iterator[tuple[int, int, float]]:
    """(earlier, later, similarity) of every two texts whose `hashed` n-grams are at least so similar (Jaccard).

    Ordered by `later`, then `earlier`. Without `chains`, a text that repeats an earlier one is not compared with later
    ones. Exact but for equal hashes; texts are compared whose rarest n-grams leave it possible (Xiao and others,
    Efficient Similarity Joins for Near-Duplicate Detection, WWW 2008).
    """
    import numpy as np
    from scipy.sparse import csr_array

    holders = np.zeros(BUCKETS, dtype=np.uint32)
    for own in grams:
        holders[own % BUCKETS] += 1
    sizes = np.array([len(own) for own in grams], dtype=int)
    # Of two texts so similar, each has n-grams of the other before its rest, where the commonest are.
    rest = np.ceil(least * sizes).astype(int) - 1
    rarest, ends = array("i"), array("i", [0])
    for own, left in zip(grams, rest):
        buckets = (own % BUCKETS).astype(np.int32)
        first = buckets[np.lexsort((own, holders[buckets]))[: len(own) - left]]
        rarest.frombytes(first[holders[first] > 1].tobytes())  # where a text is alone, it meets nobody
        ends.append(len(rarest))
    ones, columns = np.ones(len(rarest), dtype=np.uint16), np.asarray(rarest)
    holds = csr_array((ones, columns, np.asarray(ends)), shape=(len(grams), BUCKETS))
    held, repeats = holds.T.tocsr(), np.zeros(len(grams), dtype=bool)
    for start in range(0, len(grams), BLOCK):
        shared = (holds[start : start + BLOCK] @ held).tocoo()
        later, earlier = shared.row + start, shared.col
        # What they share besides is in the rest of one of them.
        most = shared.data + np.maximum(rest[earlier], rest[later])
        most = np.minimum(most, np.minimum(sizes[earlier], sizes[later]))
        likely = most >= least / (1 + least) * (sizes[earlier] + sizes[later]) - 1e-9
        likely &= (earlier < later) & (chains | ~repeats[earlier])
        for text, other in sorted(zip(later[likely].tolist(), earlier[likely].tolist())):
            common = len(np.intersect1d(grams[text], grams[other], assume_unique=True))
            similarity = common / (sizes[text] + sizes[other] - common)
            if similarity >= least and (chains or not repeats[other]):
                repeats[text] = True
                yield other, text, float(similarity)
