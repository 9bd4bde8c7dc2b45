"""Where a review names its writer, or anyone by title, closing formula or introduction (for `redaction`).

The rule. These are names wherever they stand: the reviewer's full name, in any case, with or without accents;
initials and surname; a name after a title (Mrs Okonkwo, Herr Koch), after "my name is" and its like, and after
a closing formula (Regards, …). A part of the reviewer's name alone can be an ordinary word (Will, Rose, Koch).
It counts as the name in a signature, after a greeting, and inside a sentence where it has a capital letter,
no article before it, and does not stand elsewhere in the text in small letters.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache

UPPER = "".join(filter(str.isupper, map(chr, range(0x41, 0x250))))
CAPITAL = rf"(?:[{UPPER}]\.(?:-?[{UPPER}]\.)*|[{UPPER}][^\W\d_]*(?:['’-][^\W\d_]+)*)"
PARTICLES = "de del della di da dos du la le van der den von zu zum zur el al ten ter".split()
PARTICLE = rf"(?:(?:{'|'.join(PARTICLES)}) ){{0,2}}"
RUN = rf"{CAPITAL}(?: {PARTICLE}{CAPITAL}){{0,3}}"
SHORT_TITLES = "Mr Mrs Ms Mx Dr Prof Mag Ing Hr Fr Mme Mlle Sr Sra Srta Sig Dott Dhr Mevr Mw Fam".split()
LONG_TITLES = (
    "Miss Herr Herrn Frau Familie Monsieur Madame Mademoiselle Señor Señora Señorita Signor Signora Signore "
    "Dottor Dottoressa Meneer Mevrouw Doña Don"
).split()
TITLE = rf"(?:(?:{'|'.join(SHORT_TITLES)})\.?|(?:{'|'.join(LONG_TITLES)})) "
TITLED = re.compile(rf"(?<!\w)(?:{TITLE}){{1,3}}{CAPITAL}(?: {PARTICLE}{CAPITAL}){{0,2}}")
INTRODUCED = re.compile(
    r"(?i:\b(?:my name(?: is|['’]s)|ich hei(?:ß|ss)e|mein name ist|je m['’]appelle|mon nom est|me llamo|mi nombre es"
    r"|mi chiamo|il mio nome è|mijn naam is|ik heet)) "
    rf"({RUN})"
)
FORMULA = (
    r"regards|(?:best|kind|warm) wishes|yours|(?:yours )?(?:sincerely|faithfully|truly)|signed"
    r"|gr(?:ü|ue)(?:ß|ss)en?|gru(?:ß|ss)|[lv]g|mfg|hochachtungsvoll|gezeichnet|gez\."
    r"|cordialement|salutations|bien à vous|amicalement|sincèrement"
    r"|saludos?|atentamente|atte\.?|cordialmente|saluti|groet(?:en|jes)?|mvg|hoogachtend"
)
# At most 40 characters may follow: a town, an age.
END = r"(?=\W*\Z|\s*[,(\n][^.!?\n]{0,40}\W*\Z)"
CLOSED = re.compile(rf"(?i:\b(?:{FORMULA}))[\s,.!:–-]{{1,4}}({RUN}){END}")

AT_END = re.compile(END)
ONLY_SYMBOLS = re.compile(r"\W*\Z")
THANKS = r"cheers|thanks|thank you|ta|danke|merci|gracias|grazie|bedankt"
OWN_LINE = re.compile(rf"(?:\A|\n|[^\w\s(\"“„«‘'’]|\b(?i:{FORMULA}|{THANKS}))\s*\Z")
GREETING = re.compile(
    r"\b(?i:dear|hello|hi|hey|hallo|liebe[rs]?|geehrte[rs]?|guten tag|bonjour|bonsoir|ch[eè]re?|salut|hola"
    r"|estimad[oa]|querid[oa]|buen[oa]s (?:días|tardes)|ciao|gentile|car[oa]|buongiorno|salve|beste|geachte|hoi|dag"
    r"|i am|i['’]m|im|this is|ich bin|hier ist|je suis|c['’]est|yo soy|soy|sono|ik ben|dit is|dank[eu]?"
    r"|thanks|thank you|merci|gracias|grazie|bedankt|cheers),? \Z"
)
ARTICLES = set(
    "the a an this that my your our every no der die das den dem des ein eine einen einem einer kein keine mein meine "
    "dieser diese dieses jeder im am zum zur vom beim ins ans le la les un une du des ce cet cette mon ma el los las "
    "una uno unos del al este esta mi il lo gli i uno del della dello nel nella al alla de het een deze dit mijn".split()
)
MONTHS = set(
    "january february march april may june july august september october november december januar februar marz mai "
    "juni juli oktober dezember monday tuesday wednesday thursday friday saturday sunday sommer winter".split()
)
IN_NAMES = {*PARTICLES, *(title.lower() for title in SHORT_TITLES + LONG_TITLES)} | set(
    "the at in from and of for und uit aus im et les des with team fam mr mrs client customer user kunde".split()
)
WORD = re.compile(r"\w+")
GAP = re.compile(r"[ .\-'’&,]{1,3}")
# Letters without their accents, one for one, so that places stay.
FOLD = {ord(a): b for a, b in zip("ßøłđıæœðþ", "soldiaodt")} | {
    code: unicodedata.normalize("NFD", chr(code))[0].lower() for code in range(0x41, 0x530) if chr(code).isalpha()
}
FOLD |= {ord(a): b for a, b in zip("ßøØłŁđĐıæÆœŒ", "soollddiaaoo")}


def canonical(text: str) -> str:
    """Small letters without accents; ä, ae and a are the same, and so are ß, ss and s."""
    text = text.translate(FOLD)
    return text.replace("ae", "a").replace("oe", "o").replace("ue", "u").replace("ss", "s")


@lru_cache(maxsize=1024)
def parts(name: str | None) -> tuple[str, ...]:
    """The words of a name in canonical form, without titles and particles; initials are single letters."""
    words = WORD.findall(html.unescape(name or ""))
    return tuple(canonical(word) for word in words if word.lower() not in IN_NAMES)


def find(text: str, name: str | None) -> list[tuple[int, int]]:
    """Start and end of every name in the text, in order, none over another."""
    spans = [match.span() for match in TITLED.finditer(text)]
    spans += [match.span(1) for pattern in (INTRODUCED, CLOSED) for match in pattern.finditer(text)]
    own = parts(name)
    plain = canonical(text) if own else ""
    if any(len(part) > 1 and part in plain for part in own):
        spans += _own(text, own)
    kept: list[tuple[int, int]] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if kept and start < kept[-1][1]:
            kept[-1] = (kept[-1][0], max(end, kept[-1][1]))
        else:
            kept.append((start, end))
    return kept


def _own(text: str, own: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where the reviewer's own name stands."""
    words = list(WORD.finditer(text))
    plain = [canonical(word.group()) for word in words]
    small = {each for each, word in zip(plain, words) if word.group().islower()}
    spans, done = [], -1
    for place, word in enumerate(words):
        if place <= done or len(plain[place]) < 2 or plain[place] not in own:
            continue
        first = last = place
        while first > done + 1 and _joined(text, words, first - 1) and _is_part(words, plain, first - 1, own):
            first -= 1
        while last + 1 < len(words) and _joined(text, words, last) and _is_part(words, plain, last + 1, own):
            last += 1
        while plain[first] in PARTICLES:
            first += 1
        while plain[last] in PARTICLES:
            last -= 1
        run = [each for each in range(first, last + 1) if plain[each] not in PARTICLES]
        start, capitals = words[first].start(), all(words[each].group()[0].isupper() for each in run)
        whole = [plain[each] for each in run] == list(own) and len(own) > 1
        sure = whole or (len(run) > 1 and capitals) or not plain[place].isalpha()
        end = words[last].end()
        if sure or _is_alone(text, start, end, plain[place], small):
            unknown = len(own) == 1 or len(own[-1]) == 1  # Amparo, Jürgen T.: the surname may follow
            more = re.compile(rf"(?: {PARTICLE}{CAPITAL}){{1,3}}").match(text, end) if unknown else None
            end = more.end() if more else end
            spans.append((start, end))
            done = last
    return spans


def _joined(text: str, words: list[re.Match], place: int) -> bool:
    return bool(GAP.fullmatch(text, words[place].end(), words[place + 1].start()))


def _is_part(words: list[re.Match], plain: list[str], place: int, own: tuple[str, ...]) -> bool:
    """Whether a word beside a part of the name belongs to it: a part, a particle, or an initial's word."""
    word = plain[place]
    if word in own or word in PARTICLES:
        return True
    initials = {part[0] for part in own} if len(word) == 1 else {part for part in own if len(part) == 1}
    return word[0] in initials and words[place].group()[0].isupper()


def _is_alone(text: str, start: int, end: int, plain: str, small: set[str]) -> bool:
    """Whether a single part of the name stands where only a name can."""
    capital = text[start].isupper()
    before = text[max(0, start - 40) : start]
    more = re.compile(rf"(?: {PARTICLE}{CAPITAL}){{0,3}}").match(text, end).end() if capital else end
    if OWN_LINE.search(before) and (AT_END if capital else ONLY_SYMBOLS).match(text, more):
        return True
    if not capital:
        return False
    if GREETING.search(before):
        return True
    inside = re.search(r"(\w+),? \Z", before)
    ordinary = plain in small or plain in MONTHS
    return bool(inside and inside[1].islower() and inside[1] not in ARTICLES and not ordinary)
