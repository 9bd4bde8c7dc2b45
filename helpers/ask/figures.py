"""Numbers that a text states and its source does not: digits as they are meant, percentages, words; facts it names."""

import re
from functools import lru_cache

from helpers.clean import texts

# Up to three digits and groups of three, or digits; then decimals.
NUMBER = re.compile(r"(?<!\d)\d{1,3}(?:[.,'’ \u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?(?!\d)|\d+(?:[.,]\d+)?")
PERCENT = re.compile(r"\s?-?(%|％|per ?cent|prozent|pour ?cent|por ciento|procent)")
LONG_WORD = re.compile(r"[^\W\d]{4,}")
VALUES = [*map(str, range(2, 21)), "30", "50", "100", "1000"]
CLAIMS = set(VALUES[1:19])  # three to twenty: "two", "a hundred" and the like often mean no number
WORDS = {
    "en": "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty fifty hundred thousand",
    "de": "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn zwanzig dreißig fünfzig hundert tausend",
    "fr": "deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
    "dix-neuf vingt trente cinquante cent mille",
    "es": "dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte treinta cincuenta cien mil",
    "it": "due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici "
    "diciassette diciotto diciannove venti trenta cinquanta cento mille",
    "nl": "twee drie vier vijf zes zeven acht negen tien elf twaalf dertien veertien vijftien zestien zeventien "
    "achttien negentien twintig dertig vijftig honderd duizend",
}
WORDS = {language: dict(zip(words.split(), VALUES, strict=True)) for language, words in WORDS.items()}
ANY_WORD = {word: number for words in WORDS.values() for word, number in words.items()}


def invented(text: str, source: str, language: str | None = "en") -> list[str]:
    """The numbers of `text` that `source` lacks, also the words in `language` (ISO 639-1) from 3 to 20."""
    stated = {word: number for word, number in WORDS.get(language or "en", {}).items() if number in CLAIMS}
    stated = {word: stated[word] for word in stated.keys() - {"neuf", "sei"}}  # new, and you are
    allowed = _values(f"{source} | {source.replace(' ', '  ')}")  # "5 100" is one number or two
    return [number for number, values in _numbers(text, stated).items() if not values & allowed]


def named(fact: str, text: str) -> bool:
    """Whether `text` names a fact: each of its numbers, and its words of four letters or more in any form."""
    words, stated = ({*map(texts.stem, LONG_WORD.findall(part.lower()))} for part in (fact, text))
    return words <= stated and set().union(*_numbers(fact, {}).values()) <= _values(text)


@lru_cache(1024)  # many pairs have the same source
def _values(text: str) -> frozenset[str]:
    return frozenset().union(*_numbers(text, ANY_WORD).values())


def _numbers(text: str, words: dict[str, str]) -> dict[str, set[str]]:
    """Each number as it is written, with its possible values: 1.499 may be 1499 or, in English, 1.499.

    A percentage is a value of its own, so that "30 days" do not cover "30 %"; 6 pm is also 18.
    """
    numbers, text = {}, re.sub(r"(?<=\d):00\b", "", text.lower())
    for match in NUMBER.finditer(text):
        number, unit = match.group(), "%" if PERCENT.match(text, match.end()) else ""
        whole, decimals = re.fullmatch(r"(.+?)(?:[.,](\d{1,2}|\d{4,}))?", number).groups()
        values = {float(f"{re.sub(r'[^0-9]', '', whole)}.{decimals or 0}")}
        if re.fullmatch(r"\d{1,3}[.,]\d{3}", number):
            values.add(float(number.replace(",", ".")))
        if re.match(r"\s?p\.?m\b", text[match.end() :]):
            values |= {value + 12 for value in values}
        numbers[number + unit] = {f"{value:.12g}{unit}" for value in values}
    for word in re.findall(r"[^\W\d]+(?:-[^\W\d]+)*", text):
        parts = [word] if word in words else word.split("-")  # dix-sept, but ten-hour
        numbers |= {part: {words[part]} for part in parts if part in words}
    return numbers
