"""Numbers that a text states and its source does not: digits as they are meant, percentages, words; facts it names."""

import csv
import re
from functools import lru_cache
from pathlib import Path

from helpers.clean import texts

# Up to three digits and groups of three, or digits; then decimals.
NUMBER = re.compile(r"(?<!\d)\d{1,3}(?:[.,'’ \u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?(?!\d)|\d+(?:[.,]\d+)?")
PERCENT = re.compile(r"\s?-?(%|％|per ?cent|prozent|pour ?cent|por (?:ciento|cento)|procent|процент|pct\b)")
LONG_WORD = re.compile(r"[^\W\d]{4,}")
WORD = re.compile(r"[^\W\d]+(?:-[^\W\d]+)*(?: (?:hundred|thousand)\b)?")
CLAIMS = {*map(str, range(3, 21))}  # alone, "two", "fifty" and the like often mean no number
with Path(__file__).with_name("number_words.csv").open(encoding="utf-8") as table:
    ROWS = [*csv.DictReader(table)]
WORDS = {language: {row[language]: row["number"] for row in ROWS} for language in [*ROWS[0]][1:]}
ANY_WORD = {word: number for words in WORDS.values() for word, number in words.items()} | {"dozen": "12"}


def invented(text: str, source: str, language: str | None = "en") -> list[str]:
    """The numbers of `text` that `source` lacks, also words in `language` (ISO 639-1): 3 to 20, and compounds."""
    words = WORDS.get(language or "en", {})
    often = {word for word in words if words[word] not in CLAIMS} | {"neuf", "sei"}  # new, and you are
    clock = re.sub(r"\b([01]?\d|2[0-3])[.:]([0-5]\d)\b", r"\1:\2 \1.\2", source)  # as 9.30 or as 9:30
    allowed = _values(f"{source} | {source.replace(' ', '  ')} | {clock}")  # "5 100" is one number or two
    return [name for name, v in _numbers(text, words).items() if name not in often and not v & allowed]


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
        if re.match(r"(?::\d\d)?\s?p\.?m\b", text[match.end() :]):
            values |= {value + 12 for value in values}
        values |= {1000 * value for value in values if re.match(r"k\b", text[match.end() :])}
        numbers.setdefault(number + unit, set()).update(f"{value:.12g}{unit}" for value in values)
    for match in WORD.finditer(text):
        word, unit = match.group(), "%" if PERCENT.match(text, match.end()) else ""
        first, _, times = word.partition(" ")
        whole = ([first], *map(first.split, ("-", "und", "en")))  # dix-sept, vierundzwanzig, vierentwintig
        if parts := next((parts for parts in whole if {*parts} <= words.keys()), None):
            value = sum(int(words[part]) for part in parts) * int(words.get(times, 1))
            numbers[word + unit] = {f"{value}{unit}"}
        else:  # ten-hour
            numbers |= {part: {words[part]} for part in [*first.split("-"), times] if part in words}
    return numbers
