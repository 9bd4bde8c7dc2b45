"""Numbers that belong to one person: bank accounts, cards, orders, customers, telephones (for `redaction`).

A checksum decides where there is one (IBAN, card; where it fails, it is an account), else a word before the number
(order no.), its form (VM-204881), or the numbering plan. Dates, prices, measures, norms and barcodes are left.
"""

import re

import phonenumbers
from stdnum import iban, luhn

from helpers.clean.texts import one_of

Span = tuple[int, int, str | None]  # start, end and kind; without a kind, the end is where to look on

IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}[ .-]?[0-9]{2}(?:[ .-]?[A-Za-z0-9]){11,30}")
IBAN_SHAPE = re.compile(r"[A-Z]{2} ?\d\d(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?![^\W_])")
LONG_NUMBER = re.compile(r"(?<![\w.,+])(?!00)(?<!\d[ -])\d(?:[ -]?\d){12,18}(?![ .,-]?\d|\w)")
BARE_NUMBER = re.compile(r"(?<![\w.,#])\d{8,}(?<!00000)(?![.,]\d|\w)")
BARCODE = re.compile(
    r"(?i)\b(?:EAN|GTIN|ISBN|UPC|SKU|(?:bar|strich)[ -]?code|(?:art(?:ikel|icle)?|part|model|item|product)\W{0,2}"
    r"(?:no|nr|number|nummer))\W{0,3}$"
)
LABEL = r"(?:numbers?|nummer|num[eé]ro|número|num|nr|no|id|code|codice|código|ref)\b\.?|n[.°º]|#(?=\s)|№"
# A word, "number" before it (numéro de commande) or after (Bestell-Nr.), perhaps "is", then the value.
NUMBERED = re.compile(
    rf"(?i)(?<!\w)(?P<before>(?:{LABEL})\s?(?:(?:de|du|di|del|della|van)\s|d['’])?)?"
    rf"(?:(?P<ORDER>{one_of('orders')})|(?P<ACCOUNT>{one_of('accounts')}))(?![^\W\d_](?!r\b|ummer))"
    rf"[\s.-]{{0,2}}(?P<after>(?:{LABEL})\s?(?:{LABEL})?)?[\s:=(\"'–-]{{0,3}}"
    r"(?:(?:is|was|reads|lautet|ist|war|est|es|è|è il)\s)?(?P<value>#?(?=[a-z/._-]{0,5}\d)"
    r"[a-z0-9](?:[a-z0-9/._-]*[a-z0-9])?(?: \d{3,8}(?![\w.,]))*)"
)
# Of orders, and the security number of the USA; norms are none.
FORM = re.compile(
    r"(?<![\w-])(?!(?:EN|ISO|DIN|IEC|UN|UL)(?:\b|\d)|(?:BS|NF|NEN|UNI|UNE|ASTM|SAE|CR|LR|ER)\b)"
    r"(?:#(?!(?:19|20)\d\d\b)\d{4,}|[A-Za-z]{2,4}[-#]\d{5,10}|[A-Z]{2,4}\d{5,10}|[A-Z]{1,4}[-/]?20\d\d[-/]\d{3,}"
    r"|\d{3}-\d{7}-\d{7}|(?P<ACCOUNT>(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}))(?![\w-])"
)

DAY, MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
DATE = (
    rf"(?:(?:19|20)\d\d[./-]{MONTH}[./-]{DAY}|{DAY}[./-]{MONTH}(?:[./-](?:19|20)?\d\d| (?:19|20)\d\d)"
    rf"|{MONTH}[./-]{DAY}[./-](?:19|20)?\d\d|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))"
)
_MOMENT = rf"(?:{DATE}|{DAY}\.{MONTH}\.|(?:[01]?\d|2[0-4])[.h][0-5]\d|(?:19|20)\d\d)"
MOMENT = re.compile(rf"{_MOMENT}(?:[ –/-]{{1,3}}{_MOMENT})*(?: \d\d?)?")  # and ranges: 9.00 - 18.30
AMOUNT = re.compile(r"[1-9]\d{0,2}(?:[.,' ]\d{3})*[.,' ]\d?00|[1-9]\d{0,2}(?:[.,']\d{3})+|[1-9]\d*[.,]\d+")
DATED = re.compile(rf"(?<![\d./-]){DATE}(?![./-]?\d)")
CURRENCY = re.compile(r"(?:[€£$¥]|EUR|CHF|USD|GBP) ?$")
UNIT = re.compile(rf"(?i) ?(?:[€£$¥%°]|,-|(?:{one_of('units')})\b)")
PHONE = re.compile(
    r"(?<![\w€£$#@+])(?<!\d[.,:/-])(?!0\.|(?:\d ){7})(?:\+|\(\+?)?\d(?:[ ./()–-]{0,3}\d){6,16}(?!\w|[.,:]\d)"
)
PHONE_CUE = re.compile(rf"(?i)\b(?:bel\b|{one_of('beginnings of words about telephones')})\D{{0,30}}$")
LARGE = ("US", "IN", "BR", "MX", "ES", "CN", "PL", "RU")  # where national numbers begin with no 0


def _ends(match: re.Match) -> list[int]:
    """Where its groups of letters and digits end, the farthest first."""
    return [match.start() + group.end() for group in re.finditer(r"[^\W_]+(?!\w)", match.group())][::-1]


def _iban(match: re.Match, region: str | None) -> Span:
    text, start = match.string, match.start()
    # Without its national rules, which know only some banks.
    valid = (end for end in _ends(match) if iban.is_valid(text[start:end], check_country=False))
    if end := next(valid, None):
        return start, end, "IBAN"
    shape = IBAN_SHAPE.match(text, start)
    if shape and sum(map(str.isdigit, shape.group())) >= 10:
        return *shape.span(), "ACCOUNT"
    return start, start + 1, None


def _long_number(match: re.Match, region: str | None) -> Span:
    number, groups = re.sub(r"\D", "", match.group()), re.split("[ -]", match.group())
    if number[0] in "23456" and len(groups) <= 6 and luhn.is_valid(number):
        return *match.span(), "CARD"
    regular = {len(group) for group in groups[:-1]} <= {4}
    return _bare_number(match, region) if regular else (*match.span(), None)


def _numbered(match: re.Match, region: str | None) -> Span:
    """A number that a word announces: order no. 40213, Kundennummer 4711."""
    value, (start, end) = match["value"], match.span("value")
    labelled = bool(match["before"] or match["after"] or value[0] == "#")
    least = 3 if labelled else 4 if any(map(str.isalpha, value)) else 5
    known = MOMENT.fullmatch(value) and re.search("[./-]", value)
    if not labelled and not known:
        known = AMOUNT.fullmatch(value) or _is_measure(match.string, start, end)
    kind = "ORDER" if match["ORDER"] else "ACCOUNT"
    return start, end, kind if sum(map(str.isdigit, value)) >= least and not known else None


def _bare_number(match: re.Match, region: str | None) -> Span:
    """Eight digits or more in a row that nothing explains."""
    known = MOMENT.fullmatch(match.group()) or _is_measure(match.string, *match.span())
    return *match.span(), None if known else "ACCOUNT"


def _phone(match: re.Match, region: str | None) -> Span:
    text, start = match.string, match.start()
    end = next((end for end in _ends(match) if _is_phone(text, start, end, region)), None)
    return (start, end, "PHONE") if end else (start, start + 1, None)


def _is_phone(text: str, start: int, end: int, region: str | None) -> bool:
    groups = re.findall(r"\d+", raw := text[start:end])
    digits = "".join(groups)
    if not 7 <= len(digits) <= 15 or len(groups) > 7 or raw.count("(") != raw.count(")"):
        return False
    abroad = raw.lstrip("(").startswith(("+", "00"))
    unit = BARCODE.search(text, start - 20, start) if digits[0] == "0" else _is_measure(text, start, end)
    if (unit and not abroad) or MOMENT.fullmatch(raw.strip("()")):
        return False
    if PHONE_CUE.search(text, start - 45, start):
        return True
    date = DATED.search(text, start, end + 6)
    if not abroad and (AMOUNT.fullmatch(raw) or len(digits) < 8 or (date and date.start() < end)):
        return False
    try:
        number = phonenumbers.parse("+" + digits.removeprefix("00") if abroad else raw, region)
    except phonenumbers.NumberParseException:  # no country code, and no country to look it up in
        if digits[0] == "0":
            return len(digits) >= 9
        exact = phonenumbers.Leniency.EXACT_GROUPING  # the groups of digits in which it is written there
        found = (match for each in LARGE for match in phonenumbers.PhoneNumberMatcher(raw, each, exact))
        return len(groups) > 1 and any(match.raw_string == raw for match in found)
    loose = abroad or digits[0] == "0"
    return phonenumbers.is_possible_number(number) if loose else phonenumbers.is_valid_number(number)


def _is_measure(text: str, start: int, end: int) -> bool:
    """Whether a currency, a unit or a barcode's name says what the number is."""
    before = text[max(0, start - 20) : start]
    return bool(UNIT.match(text, end) or CURRENCY.search(before) or BARCODE.search(before))


RULES = (  # the surest first; each a pattern, and what says of its match which span is of which kind
    (IBAN, _iban),
    (LONG_NUMBER, _long_number),
    (NUMBERED, _numbered),
    (FORM, lambda match, region: (*match.span(), match.lastgroup or "ORDER")),
    (PHONE, _phone),
    (BARE_NUMBER, _bare_number),
)
