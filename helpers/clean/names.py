"""Where a review names its writer, or anyone by title, closing formula or introduction (for `redaction`).

Wherever they stand: the reviewer's full name, in any case, with or without accents, and initials and surname. A part of
it alone can be an ordinary word (Will, Rose): it counts in a signature, after a greeting, before a comma at the start,
and in a sentence with a capital letter, if no article is before it and it does not stand in small letters elsewhere.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from helpers.clean.texts import WORDS, one_of
from helpers.collect.records import NOBODY

UPPER = "".join(filter(str.isupper, map(chr, range(0x41, 0x250))))
CAPITAL = rf"(?:[{UPPER}]\.(?:-?[{UPPER}]\.)*|[{UPPER}][^\W\d_]*(?:['’-][^\W\d_]+)*)"
PARTICLES = {*WORDS["particles"]}
PARTICLE = rf"(?:(?:{one_of('particles')}) ){{0,2}}"
SURNAMES = re.compile(rf"(?: {PARTICLE}{CAPITAL}){{0,3}}")
RUN = CAPITAL + SURNAMES.pattern
BRAND = rf"(?:{one_of('brands behind a title')})\b"
TITLED = re.compile(rf"(?<!\w)((?:(?:{one_of('titles')}) ){{1,3}}(?!{BRAND}){RUN})")
INTRODUCED = re.compile(rf"(?i:\b(?:{one_of('introductions')})) ({RUN})")
# At most 40 characters may follow: a town, an age.
AT_END = re.compile(r"(?=\W*\Z|\s*[,(\n][^.!?\n]{0,40}\W*\Z)")
FORMULA, THANKS = one_of("closing formulas"), one_of("thanks")
CLOSED = re.compile(rf"(?i:\b(?:{FORMULA}))[\s,.!:–-]{{1,4}}({RUN}){AT_END.pattern}")

OWN_LINE = re.compile(rf"(?:\A|\n|[^\w\s(\"“„«‘'’]|\b(?i:{FORMULA}|{THANKS}))\s*\Z")
GREETING = re.compile(rf"\b(?i:{one_of('before a name')}|{THANKS}),? \Z")
ARTICLES, MONTHS = {*WORDS["articles"]}, {*WORDS["months and days"]}
IN_NAMES = {*PARTICLES, *WORDS["in names"]}  # in a reviewer's name, but no part of it
WORD = re.compile(r"\w+")
GAP = re.compile(r"[ .\-'’&,]{1,3}")
UNDECOMPOSED = str.maketrans("øłđıæœ", "oldiao")


@lru_cache(100_000)  # the same words come again and again
def canonical(text: str) -> str:
    """Small letters without accents; ä, ae and a are the same, and so are ß, ss and s."""
    letters = unicodedata.normalize("NFD", text.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter)).translate(UNDECOMPOSED)
    plain = plain.replace("ae", "a").replace("oe", "o").replace("ue", "u").replace("ss", "s")
    return unicodedata.normalize("NFC", plain)


@lru_cache(maxsize=1024)
def parts(name: str | None) -> tuple[str, ...]:
    """The words of a name in canonical form, without titles and particles; initials are single letters."""
    words = () if NOBODY.fullmatch(name or "") else WORD.findall(html.unescape(name or ""))
    return tuple(canonical(word) for word in words if not {word.lower(), canonical(word)} & IN_NAMES)


def find(text: str, name: str | None) -> list[tuple[int, int]]:
    """Start and end of every name in the text, in order, none over another."""
    spans = [match.span(1) for pattern in (TITLED, INTRODUCED) for match in pattern.finditer(text)]
    spans += [match.span(1) for match in CLOSED.finditer(text, max(0, len(text) - 200))]
    spans += _own(text, own) if (own := parts(name)) else []
    kept = []
    for start, end in sorted(spans):
        first, last = kept.pop() if kept and start < kept[-1][1] else (start, end)
        kept.append((first, max(end, last)))
    return kept


def _own(text: str, own: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where the reviewer's own name stands: words of it in a row, one of them more than an initial."""
    if set(own).isdisjoint(map(canonical, WORD.findall(text))):
        return
    small = {canonical(word) for word in WORD.findall(text) if word.islower()}
    runs: list[list[re.Match]] = []
    for word in WORD.finditer(text):
        if _belongs(word.group(), own):
            if not runs or not GAP.fullmatch(text, runs[-1][-1].end(), word.start()):
                runs.append([])
            runs[-1].append(word)
    for run in runs:
        run = [word for word in run if canonical(word.group()) not in PARTICLES]
        plain = [canonical(word.group()) for word in run]
        part = next((word for word in plain if len(word) > 1 and word in own), None)
        if part is None:
            continue
        start, end = run[0].start(), run[-1].end()
        sure = not part.isalpha() or (len(own) > 1 and plain == list(own))
        sure = sure or (len(run) > 1 and all(word.group()[0].isupper() for word in run))
        if sure or _is_alone(text, start, end, part in small):
            # Amparo, Jürgen T.: the surname may follow.
            yield start, SURNAMES.match(text, end).end() if len(own) == 1 or len(own[-1]) == 1 else end


def _belongs(word: str, own: tuple[str, ...]) -> bool:
    """Whether a word can be of the name: a part, a particle, or by its first letter."""
    plain = canonical(word)
    initials = {part[0] for part in own if len(plain) == 1 or len(part) == 1}
    return plain in own or plain in PARTICLES or (plain[:1] in initials and word[0].isupper())


def _is_alone(text: str, start: int, end: int, in_small: bool) -> bool:
    """Whether a single part of the name stands where only a name can. `in_small`: so it stands elsewhere."""
    before = text[max(0, start - 40) : start]
    signed = OWN_LINE.search(before) and AT_END.match(text, SURNAMES.match(text, end).end())
    if not text[start].isupper():
        return bool(signed)
    if signed or GREETING.search(before) or (start == 0 and text.startswith(",", end)):
        return True
    inside = re.search(r"(\w+),? \Z", before)
    ordinary = in_small or text[start:end].lower() in MONTHS
    return bool(inside and inside[1].islower() and inside[1] not in ARTICLES and not ordinary)
