"""Numbers that belong to one person: bank accounts, cards, orders, customers, telephones (for `redaction`).

A checksum decides where there is one (IBAN, card; where it fails, it is an account), else a word before the number
(order no.), its form (VM-204881), or the numbering plan. Dates, prices, measures, norms and barcodes are left.
"""

import re
from collections.abc import Iterator

Span = tuple[int, int, str]  # start, end, kind

IBAN = re.compile(r"(?<![^\W_])(?=([A-Za-z]{2}[ .-]?[0-9]{2}(?:[ .-]?[A-Za-z0-9]){11,30}))")
IBAN_SHAPE = re.compile(r"[A-Z]{2} ?\d\d(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?![^\W_])")
LONG_NUMBER = re.compile(r"(?<![\w.,+])(?!00)(?<!\d[ -])\d(?:[ -]?\d){12,18}(?![ .,-]?\d|\w)")
BARE_NUMBER = re.compile(r"(?<![\w.,#])\d{8,}(?![.,]\d|\w)")
BARCODE = re.compile(
    r"\b(?:EAN|GTIN|ISBN|UPC|SKU|(?:bar|strich)[ -]?code|(?:art(?:ikel|icle)?|part|model|item|product)\W{0,2}"
    r"(?:no|nr|number|nummer))\W{0,3}$",
    re.IGNORECASE,
)

LABEL = r"(?:numbers?|nummer|num[eé]ro|número|num|nr|no|id|code|codice|código|ref)\b\.?|n[.°º]|#(?=\s)|№"
ORDER_WORDS = (
    r"orders?|tickets?|case|claim|ref(?:erence)?|booking|reservation|confirmation|invoice|receipt|tracking|parcel"
    r"|shipment|return|rma|bestell(?:ung)?|auftrags?|rechnungs?|vorgangs?|sendungs?|paket|buchungs?|beleg|referenz|aktenzeichen"
    r"|retoure?|commande|facture|dossiers?|suivi|colis|réservation|référence|pedido|factura|expediente"
    r"|seguimiento|envío|reserva|referencia|devolución|ordine|fattura|pratica|spedizione|prenotazione"
    r"|riferimento|reso|bestel(?:ling)?|factuur|zendings?|pakket|boekings?|referentie"
)
ACCOUNT_WORDS = (
    r"accounts?|acct|customer|member(?:ship)?|policy|contract|user|konto|kunden?|kd|vertrags?|mitglieds?|iban"
    r"|compte|clients?|contrat|adhérent|abonné|cuenta|clientes?|contrato|socio|póliza|conto|contratto|tessera"
    r"|polizza|rekening|klant(?:en)?|lidmaatschap|polis"
)
# A word, "number" before it (numéro de commande) or after (Bestell-Nr.), perhaps "is", then the value.
NUMBERED = re.compile(
    rf"(?<!\w)(?P<before>(?:{LABEL})\s?(?:(?:de|du|di|del|della|van)\s|d['’])?)?"
    rf"(?:(?P<ORDER>{ORDER_WORDS})|(?P<ACCOUNT>{ACCOUNT_WORDS}))(?![^\W\d_](?!r\b|ummer))"
    rf"[\s.-]{{0,2}}(?P<after>(?:{LABEL})\s?(?:{LABEL})?)?[\s:=(\"'–-]{{0,3}}"
    r"(?:(?:is|was|reads|lautet|ist|war|est|es|è|è il)\s)?(?P<value>#?(?=[a-z/._-]{0,5}\d)"
    r"[a-z0-9](?:[a-z0-9/._-]*[a-z0-9])?(?: \d{3,8}(?![\w.,]))*)"
)
NORMS = r"(?:EN|ISO|DIN|IEC|BS|NF|NEN|UNI|UNE|ASTM|SAE|UL|UN|CR|LR|ER)\b|(?:EN|ISO|DIN|IEC|UN|UL)\d"
ORDER_FORM = re.compile(
    rf"(?<![\w-])(?!{NORMS})(?:#(?!(?:19|20)\d\d\b)\d{{4,}}|[A-Za-z]{{2,4}}[-#]\d{{5,10}}"
    r"|[A-Z]{2,4}\d{5,10}|[A-Z]{1,4}[-/]?20\d\d[-/]\d{3,}|\d{3}-\d{7}-\d{7})(?![\w-])"
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
VERSION = re.compile(r"\d+(?:\.\d+)+")
CURRENCY = re.compile(r"(?:[€£$¥]|EUR|CHF|USD|GBP) ?$")
UNIT = re.compile(
    r" ?(?:[€£$¥%°]|,-|(?:EUR|CHF|USD|GBP|euros?|pounds?|dollars?|francs?|franken|kms?|miles?|m|mm|cm|kg|lbs?"
    r"|g|W|Wh|mAh|V|Nm|rpm|days?|tagen?|jours|días|giorni|dagen|people|customers|kunden|clients?)\b)",
    re.IGNORECASE,
)
PHONE = re.compile(
    r"(?<![\w€£$#@+])(?<!\d[.,:/-])(?!0\.|(?:\d ){7})(?:\+|\(\+?)?\d(?:[ ./()–-]{0,3}\d){6,16}(?!\w|[.,:]\d)",
    re.IGNORECASE,
)
LARGE = ("US", "IN", "BR", "MX", "ES", "CN", "PL", "RU")  # where national numbers begin with no 0
SOCIAL = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])")  # security number, US
NEXT_GROUP = re.compile(r"\D*\d+")
PHONE_CUE = re.compile(
    r"(?:\b(?:tel|phon|mobil|cell|call|ring|rang|rung|text|sms|whats|fax|landline|number|reach|contact|handy"
    r"|natel|rufnummer|anruf|rückruf|erreich|festnetz|nummer|portable|appel|rappel|joign|joindre|fixe|gsm"
    r"|num[eé]ro|número|m[óo]vil|ll[aá]m|fijo|marqu|cellulare|chiam|fisso|bel\b|bellen|bereik"
    r"|vast)|télé|teléf|fono)\D{0,30}$",
    re.IGNORECASE,
)


def _ends(text: str, start: int, end: int) -> list[int]:
    """Where a group of letters and digits ends between `start` and `end`, the farthest first."""
    return [start + match.end() for match in re.finditer(r"[^\W_]+(?!\w)", text[start:end])][::-1]


def _ibans(text: str, region: str | None) -> Iterator[Span]:
    from stdnum import iban

    done = 0
    while match := IBAN.search(text, done):
        start, done = match.start(), match.start() + 1
        ends = _ends(text, start, start + len(match[1]))
        # Without its national rules, which know only some banks.
        valid = [end for end in ends if iban.is_valid(text[start:end], check_country=False)]
        shape = IBAN_SHAPE.match(text, start)
        if valid or (shape and sum(map(str.isdigit, shape.group())) >= 10):
            done = valid[0] if valid else shape.end()
            yield start, done, "IBAN" if valid else "ACCOUNT"


def _long_numbers(text: str, region: str | None) -> Iterator[Span]:
    from stdnum import luhn

    for match in LONG_NUMBER.finditer(text):
        number, groups = re.sub(r"\D", "", match.group()), re.split("[ -]", match.group())
        regular = len(groups) == 1 or {len(group) for group in groups[:-1]} == {4}
        if number[0] in "23456" and len(groups) <= 6 and luhn.is_valid(number):
            yield *match.span(), "CARD"
        elif regular and not MOMENT.fullmatch(match.group()) and not _is_measure(text, *match.span()):
            yield *match.span(), "ACCOUNT"


def _numbered(text: str, region: str | None) -> Iterator[Span]:
    """Numbers that a word announces: order no. 40213, Kundennummer 4711."""
    # In small letters, as a pattern that ignores case is slow. Of all letters only İ would become two.
    for match in NUMBERED.finditer(text.replace("İ", "I").lower()):
        value, (start, end) = match["value"], match.span("value")
        labelled = bool(match["before"] or match["after"] or value[0] == "#")
        least = 3 if labelled else 4 if re.search("[a-z]", value) else 5
        known = MOMENT.fullmatch(value) and re.search("[./-]", value)
        if not labelled and not known:
            known = AMOUNT.fullmatch(value) or VERSION.fullmatch(value) or _is_measure(text, start, end)
        if sum(map(str.isdigit, value)) >= least and not known:
            yield start, end, "ORDER" if match["ORDER"] else "ACCOUNT"


def _forms(text: str, region: str | None) -> Iterator[Span]:
    yield from ((*match.span(), "ORDER") for match in ORDER_FORM.finditer(text))
    yield from ((*match.span(), "ACCOUNT") for match in SOCIAL.finditer(text))


def _bare_numbers(text: str, region: str | None) -> Iterator[Span]:
    """Eight digits or more in a row that nothing explains."""
    for match in BARE_NUMBER.finditer(text):
        known = MOMENT.fullmatch(match.group()) or match.group().endswith("00000")
        if not known and not _is_measure(text, *match.span()):
            yield *match.span(), "ACCOUNT"


def _phones(text: str, region: str | None) -> Iterator[Span]:
    place = 0
    while match := PHONE.search(text, place):
        start = match.start()
        ends = [end for end in _ends(text, start, match.end()) if _is_phone(text, start, end, region)]
        if ends:
            yield start, ends[0], "PHONE"
        place = ends[0] if ends else NEXT_GROUP.match(text, start).end()


def _is_phone(text: str, start: int, end: int, region: str | None) -> bool:
    import phonenumbers

    groups = re.findall(r"\d+", raw := text[start:end])
    digits = "".join(groups)
    if not 7 <= len(digits) <= 15 or len(groups) > 7 or raw.count("(") != raw.count(")"):
        return False
    abroad = raw.lstrip("(").startswith(("+", "00"))
    barcode = BARCODE.search(text, max(0, start - 20), start)
    measured = not abroad and (digits[0] != "0" or barcode) and _is_measure(text, start, end)
    if measured or MOMENT.fullmatch(raw.strip("()")):
        return False
    if PHONE_CUE.search(text, max(0, start - 45), start):
        return True
    date = DATED.search(text, start, end + 6)
    if not abroad and (AMOUNT.fullmatch(raw) or len(digits) < 8 or (date and date.start() < end)):
        return False
    try:
        number = phonenumbers.parse("+" + digits.removeprefix("00") if abroad else raw, region)
    except phonenumbers.NumberParseException:  # no country code, and no country to look it up in
        return (digits[0] == "0" and len(digits) >= 9) or any(_is_written(raw, each) for each in LARGE)
    loose = abroad or digits[0] == "0"
    return phonenumbers.is_possible_number(number) if loose else phonenumbers.is_valid_number(number)


def _is_written(raw: str, region: str) -> bool:
    """Whether a number is one of the region's, in the groups of digits in which it is written there."""
    import phonenumbers

    try:
        number = phonenumbers.parse(raw, region)
    except phonenumbers.NumberParseException:  # +0800, or 011 and hardly more
        return False
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    groups = re.findall(r"(?!1\b)\d+", raw)  # without the 1 that may stand before a US number
    return phonenumbers.is_valid_number(number) and groups == re.findall(r"\d+", written)[1:]


def _is_measure(text: str, start: int, end: int) -> bool:
    """Whether a currency, a unit or a barcode's name says what the number is."""
    before = text[max(0, start - 20) : start]
    return bool(UNIT.match(text, end) or CURRENCY.search(before) or BARCODE.search(before))


RULES = (_ibans, _long_numbers, _numbered, _forms, _phones, _bare_numbers)  # the surest first
