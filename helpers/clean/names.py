"""Where a review names its writer, or anyone by title, closing formula or introduction (for `redaction`).

Wherever they stand: the reviewer's full name, in any case, with or without accents, and initials and surname. A part of
that name alone can be an ordinary word (Will, Rose): it counts in a signature, after a greeting, as the first word
before a comma, and inside a sentence with a capital letter and no article before it, unless it also stands in small
letters. Scripts without spaces between words are not looked at.
"""

import html
import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from helpers.collect.records import NOBODY
from helpers.core import files

UPPER = "".join(filter(str.isupper, map(chr, range(0x41, 0x250))))
CAPITAL = rf"(?:[{UPPER}]\.(?:-?[{UPPER}]\.)*|[{UPPER}][^\W\d_]*(?:['’-][^\W\d_]+)*)"
WORDS = files.read_json(Path(__file__).with_name("name_words.json"))
PARTICLES = WORDS["particles"]
PARTICLE = rf"(?:(?:{'|'.join(PARTICLES)}) ){{0,2}}"
RUN = rf"{CAPITAL}(?: {PARTICLE}{CAPITAL}){{0,3}}"
# SHORT ones stand with or without a full stop.
SHORT, DOTTED, LONG = ("|".join(WORDS[kind]) for kind in ("titles", "titles with a full stop", "long titles"))
TITLE = rf"(?:(?:{SHORT})\.?|(?:{DOTTED})\.|(?:{LONG})) "
# Brands with a title in front.
BRANDS = "Asam|Beckmann|Bronner|Clean|Coffee|Hauschka|Jart|Kipling|Martens|Meyer['’]s|Oetker|Pepper|Scholl"
TITLED = re.compile(rf"(?<!\w)(?:{TITLE}){{1,3}}(?!(?:{BRANDS})\b){CAPITAL}(?: {PARTICLE}{CAPITAL}){{0,2}}")
INTRODUCED = re.compile(
    r"(?i:\b(?:my name(?: is|['’]s)|ich hei(?:ß|ss)e|mein name ist|je m['’]appelle|mon nom est|me llamo"
    rf"|mi nombre es|mi chiamo|il mio nome è|mijn naam is|ik heet)) ({RUN})"
)
FORMULA = (
    r"regards|(?:best|kind|warm) wishes|yours|(?:yours )?(?:sincerely|faithfully|truly)|signed|gr(?:ü|ue)(?:ß"
    r"|ss)en?|gru(?:ß|ss)|[lv]g|mfg|hochachtungsvoll|gezeichnet|gez\.|cordialement|salutations|bien à vous"
    r"|amicalement|sincèrement|saludos?|atentamente|atte\.?|cordialmente|saluti|groet(?:en|jes)?|mvg|hoogachtend"
)
# At most 40 characters may follow: a town, an age.
END = r"(?=\W*\Z|\s*[,(\n][^.!?\n]{0,40}\W*\Z)"
CLOSED = re.compile(rf"(?i:\b(?:{FORMULA}))[\s,.!:–-]{{1,4}}({RUN}){END}")

SURNAMES = re.compile(rf"(?: {PARTICLE}{CAPITAL}){{1,3}}")
AT_END = re.compile(END)
ONLY_SYMBOLS = re.compile(r"\W*\Z")
THANKS = r"cheers|thanks|thank you|ta|danke|merci|gracias|grazie|bedankt"
OWN_LINE = re.compile(rf"(?:\A|\n|[^\w\s(\"“„«‘'’]|\b(?i:{FORMULA}|{THANKS}))\s*\Z")
GREETING = re.compile(
    r"\b(?i:dear|hello|hi|hey|hallo|liebe[rs]?|geehrte[rs]?|guten tag|bonjour|bonsoir|ch[eè]re?|salut|hola"
    r"|estimad[oa]|querid[oa]|buen[oa]s (?:días|tardes)|ciao|gentile|car[oa]|buongiorno|salve|beste|geachte"
    rf"|hoi|dag|i am|i['’]m|this is|ich bin|hier ist|je suis|c['’]est|yo soy|soy|sono|ik ben|dit is|dank|{THANKS}),? \Z"
)
ARTICLES = {*WORDS["articles"]}
STEMS, ENDINGS = "ein kein mein dein sein ihr unser dies jed".split(), " e em en er es".split(" ")
ARTICLES |= {stem + ending for stem in STEMS for ending in ENDINGS}
MONTHS = {*WORDS["months and days"]}
IN_NAMES = {*PARTICLES, *WORDS["in names"]}  # in a reviewer's name, but no part of it
WORD = re.compile(r"\w+")
GAP = re.compile(r"[ .\-'’&,]{1,3}")
# Letters without their accents, one for one, so that places stay.
LETTERS = filter(str.isalpha, map(chr, range(0x41, 0x530)))
FOLD = {ord(letter): unicodedata.normalize("NFD", letter)[0].lower() for letter in LETTERS}
FOLD |= dict(zip(map(ord, "ßøØłŁđĐıæÆœŒ"), "soollddiaaoo"))


@lru_cache(100_000)  # the same words come again and again
def canonical(text: str) -> str:
    """Small letters without accents; ä, ae and a are the same, and so are ß, ss and s."""
    return text.translate(FOLD).replace("ae", "a").replace("oe", "o").replace("ue", "u").replace("ss", "s")


@lru_cache(maxsize=1024)
def parts(name: str | None) -> tuple[str, ...]:
    """The words of a name in canonical form, without titles and particles; initials are single letters."""
    words = () if NOBODY.fullmatch(name or "") else WORD.findall(html.unescape(name or ""))
    return tuple(canonical(word) for word in words if word.lower() not in IN_NAMES)


def find(text: str, name: str | None) -> list[tuple[int, int]]:
    """Start and end of every name in the text, in order, none over another."""
    spans = [match.span() for match in TITLED.finditer(text)]
    spans += [match.span(1) for match in INTRODUCED.finditer(text)]
    spans += [match.span(1) for match in CLOSED.finditer(text, max(0, len(text) - 200))]
    spans += _own(text, own) if (own := parts(name)) else []
    kept = []
    for start, end in sorted(spans):
        first, last = kept.pop() if kept and start < kept[-1][1] else (start, end)
        kept.append((first, max(end, last)))
    return kept


def _own(text: str, own: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where the reviewer's own name stands."""
    words = list(WORD.finditer(text))
    plain = [canonical(word.group()) for word in words]
    if not set(own) & set(plain):
        return []
    small = {each for each, word in zip(plain, words) if word.group().islower()}
    joined = [bool(GAP.fullmatch(text, a.end(), b.start())) for a, b in zip(words, words[1:])]
    spans, done = [], -1
    for place, part in enumerate(plain):
        if place <= done or len(part) < 2 or part not in own:
            continue
        first = done = place
        while first > 0 and joined[first - 1] and _belongs(words[first - 1], plain[first - 1], own):
            first -= 1
        while done + 1 < len(words) and joined[done] and _belongs(words[done + 1], plain[done + 1], own):
            done += 1
        run = [each for each in range(first, done + 1) if plain[each] not in PARTICLES]
        start, end = words[run[0]].start(), words[run[-1]].end()
        capitals = all(words[each].group()[0].isupper() for each in run)
        sure = len(own) > 1 and [plain[each] for each in run] == list(own)
        sure = sure or (len(run) > 1 and capitals) or not part.isalpha()
        if sure or _is_alone(text, start, end, part in small):
            # Amparo, Jürgen T.: the surname may follow.
            more = SURNAMES.match(text, end) if len(own) == 1 or len(own[-1]) == 1 else None
            spans.append((start, more.end() if more else end))
    return spans


def _belongs(word: re.Match, plain: str, own: tuple[str, ...]) -> bool:
    """Whether a word beside a part of the name is of it too: a part, a particle, or by its first letter."""
    if plain in own or plain in PARTICLES:
        return True
    initials = {part[0] for part in own} if len(plain) == 1 else {part for part in own if len(part) == 1}
    return plain[0] in initials and word.group()[0].isupper()


def _is_alone(text: str, start: int, end: int, in_small: bool) -> bool:
    """Whether a single part of the name stands where only a name can. `in_small`: so it stands elsewhere."""
    before = text[max(0, start - 40) : start]
    if not text[start].isupper():
        return bool(OWN_LINE.search(before) and ONLY_SYMBOLS.match(text, end))
    surnames = SURNAMES.match(text, end)
    signed = OWN_LINE.search(before) and AT_END.match(text, surnames.end() if surnames else end)
    if signed or GREETING.search(before) or (start == 0 and text.startswith(",", end)):
        return True
    inside = re.search(r"(\w+),? \Z", before)
    ordinary = in_small or text[start:end].lower() in MONTHS
    return bool(inside and inside[1].islower() and inside[1] not in ARTICLES and not ordinary)
