"""Personal data in reviews, replaced by typed placeholders before anything leaves the machine (stage 02).

    text, counts = redact_text("Write to ada@example.com", name="Ada", country="GB")

Rules find what has a form: addresses, links, numbers and their checksums, and the reviewer's own name. They do
not find a stranger's name without a title, a nickname in the middle of a sentence, or a street. Names have
their rules in `names`. Whatever the text, nothing is raised, and redacting twice changes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from helpers import names

KINDS = ("URL", "EMAIL", "IBAN", "CARD", "ORDER", "ACCOUNT", "PHONE", "NAME", "PLACE")
PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(KINDS)})\]")
FILL = "\0"  # hides what is found from the later rules, at the same length
Span = tuple[int, int, str]  # start, end, kind

LINK = re.compile(
    r"(?<![\w@.-])(?:https?://|www\.|[\w-]+(?:\.[\w-]+)+/)\S*[^\s.,;:!?'\"()\[\]{}<>»”]", re.IGNORECASE
)
QUERY_KEYS = (
    r"e?-?mail|correo|user|user_?name|usuario|utente|utilisateur|benutzer|uid|login|token|key|auth|session|sessionid"
    r"|sid|sessie|account|konto|compte|cuenta|conto|customer|client|cliente|kunde|klant|member|name|naam|nom|nombre"
    r"|nome|phone|tel|mobile|order|bestellung|commande|pedido|ordine|invoice|iban"
)
PERSON_PATHS = (
    r"u|users?|usuarios?|utent[ei]|utilisateurs?|nutzer|benutzer|gebruikers?|members?|membres?|mitglied(?:er)?"
    r"|miembros?|membri|leden|people|person|authors?|profiles?|profiel|profil|profils|perfil|profilo|in"
)
USER_PART = re.compile(
    rf"//[^/]*@|[?&;#](?:\w+[-_.])?(?:{QUERY_KEYS})(?:[-_.]\w+)?=|/(?:{PERSON_PATHS})/\w|/[@~]\w"
    r"|\b(?:facebook|instagram|twitter|tiktok|x)\.com/\w|\b(?:wa|t)\.me/\w",
    re.IGNORECASE,
)
AT = r" ?(?:@|[\[({] ?(?:at|ät|a|arroba|arobase|chiocciola) ?[\])}]) ?"
DOT = r"(?:\.| ?[\[({] ?(?:dot|punkt|point|punto|punt) ?[\])}] ?)"
EMAIL = re.compile(rf"(?<![\w.+%-])[\w.+%-]+{AT}[\w-]+(?:{DOT}[\w-]+)+", re.IGNORECASE)

SOME_DIGITS = re.compile(r"\d(?:\D{0,3}\d){2}")
IBAN = re.compile(r"(?<![^\W_])(?=([A-Za-z]{2}[ .-]?[0-9]{2}(?:[ .-]?[A-Za-z0-9]){11,30}))")
IBAN_SHAPE = re.compile(r"[A-Z]{2} ?\d\d(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?![^\W_])")
LONG_NUMBER = re.compile(r"(?<![\w.,])(?<!\d[ -])\d(?:[ -]?\d){12,18}(?![ .,-]?\d|\w)")
BARE_NUMBER = re.compile(r"(?<![\w.,#])\d{8,}(?![.,]\d|\w)")
BARCODE = re.compile(r"\b(?:EAN|GTIN|ISBN|UPC|(?:bar|strich)[ -]?code)\W{0,3}$", re.IGNORECASE)

LABEL = r"(?:numbers?|nummer|num[eé]ro|número|num|nr|no|id|code|codice|código|ref)\b\.?|n[.°º]|#(?=\s)|№"
ORDER_WORDS = (
    r"orders?|tickets?|case|claim|ref(?:erence)?|booking|invoice|receipt|tracking|parcel|shipment|return|rma"
    r"|bestell(?:ung)?|auftrags?|rechnungs?|vorgangs?|sendungs?|paket|buchungs?|beleg|referenz|aktenzeichen|retoure?"
    r"|commande|facture|dossiers?|suivi|colis|réservation|référence"
    r"|pedido|factura|expediente|seguimiento|envío|reserva|referencia|devolución"
    r"|ordine|fattura|pratica|spedizione|prenotazione|riferimento|reso"
    r"|bestel(?:ling)?|factuur|zendings?|pakket|boekings?|referentie"
)
ACCOUNT_WORDS = (
    r"accounts?|acct|customer|member(?:ship)?|policy|contract|user"
    r"|konto|kunden?|kd|vertrags?|mitglieds?|iban"
    r"|compte|clients?|contrat|adhérent|abonné|cuenta|clientes?|contrato|socio|póliza"
    r"|conto|contratto|tessera|polizza|rekening|klant(?:en)?|lidmaatschap|polis"
)
NUMBERED = re.compile(
    rf"(?<!\w)(?P<before>(?:{LABEL})\s?(?:(?:de|du|di|del|della|van)\s|d['’])?)?"
    rf"(?:(?P<ORDER>{ORDER_WORDS})|(?P<ACCOUNT>{ACCOUNT_WORDS}))(?![^\W\d_](?!r\b|ummer))"
    rf"[\s.-]{{0,2}}(?P<after>(?:{LABEL})\s?(?:{LABEL})?)?[\s:=(\"'–-]{{0,3}}"
    r"(?:(?:is|was|reads|lautet|ist|war|est|es|è|è il)\s)?(?P<value>#?(?=[A-Za-z/._-]*\d)"
    r"[A-Za-z0-9](?:[A-Za-z0-9/._-]*[A-Za-z0-9])?(?: \d{3,8}(?![\w.,]))*)",
    re.IGNORECASE,
)
NORMS = r"(?:EN|ISO|DIN|IEC|BS|NF|NEN|UNI|UNE|ASTM|SAE|UL|UN|CR|LR|ER)\b|(?:EN|ISO|DIN|IEC|UN|UL)\d"
ORDER_FORM = re.compile(
    rf"(?<![\w-])(?!{NORMS})(?:#(?!(?:19|20)\d\d\b)\d{{4,}}|[A-Za-z]{{2,4}}[-#]\d{{5,10}}|[A-Z]{{2,4}}\d{{5,10}}"
    r"|[A-Z]{1,4}[-/]?20\d\d[-/]\d{3,}|\d{3}-\d{7}-\d{7})(?![\w-])"
)

DAY, MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
DATE = (
    rf"(?:(?:19|20)\d\d[./-]{MONTH}[./-]{DAY}|{DAY}[./-]{MONTH}[./ -](?:19|20)?\d\d"
    rf"|{MONTH}[./-]{DAY}[./-](?:19|20)?\d\d|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))"
)
TIME = r"(?:[01]?\d|2[0-4])[.h][0-5]\d"
MOMENT = re.compile(rf"(?:(?:{DATE}|{TIME}|(?:19|20)\d\d)(?:[ –/-]{{1,3}}|$))+(?:\d\d?)?")
AMOUNT = re.compile(r"[1-9]\d{0,2}(?:[.,' ]\d{3})*[.,' ]\d?00|[1-9]\d{0,2}(?:[.,']\d{3})+|[1-9]\d*[.,]\d+")
CURRENCY = re.compile(r"(?:[€£$¥]|EUR|CHF|USD|GBP) ?$")
UNIT = re.compile(
    r" ?(?:[€£$¥%°]|,-|(?:EUR|CHF|USD|GBP|euros?|pounds?|dollars?|francs?|franken|km|miles?|kms?|m|mm|cm|kg|lbs?|g|W|Wh"
    r"|mAh|V|Nm|rpm|days?|tagen?|jours|días|giorni|dagen|people|customers|kunden|clients?)\b)",
    re.IGNORECASE,
)
PHONE = re.compile(
    r"(?<![\w€£$#@+])(?<!\d[.,:/-])(?:\+|\(\+?)?\d(?:[ ./()–-]{0,3}\d){6,16}(?!\w|[.,:]\d)", re.IGNORECASE
)
PHONE_CUE = re.compile(
    r"(?:\b(?:tel|phon|mobil|cell|call|ring|rang|rung|text|sms|whats|fax|landline|number|reach|contact|handy|natel"
    r"|rufnummer|anruf|rückruf|erreich|festnetz|nummer|portable|appel|rappel|joign|joindre|fixe|gsm|num[eé]ro|número"
    r"|m[óo]vil|ll[aá]m|fijo|marqu|cellulare|chiam|fisso|bel\b|bellen|bereik|vast)|télé|teléf|fono)\D{0,30}$",
    re.IGNORECASE,
)


def redact(row: dict) -> dict:
    """The row with personal data replaced by placeholders, and their counts in `redacted`.

    Counted are the placeholders in the review's own title, text and replies; the company's description is
    redacted too, uncounted, as every row repeats it. A location finer than a country becomes [PLACE].
    """
    counts: Counter[str] = Counter()
    name, place = row["reviewer_name"], row["reviewer_location"]
    region = country_code(place) or country_code(row["company_country"])

    def hide(value: object) -> object:
        if isinstance(value, dict):
            return {key: hide(each) for key, each in value.items()}
        if isinstance(value, list):
            return [hide(each) for each in value]
        if not isinstance(value, str):
            return value
        text, found = redact_text(value, name, region)
        counts.update(found)
        return text

    redacted = {**row, **{key: hide(row[key]) for key in ("review_title", "review_content", "review_replies")}}
    redacted["company_about"] = redact_text(row["company_about"] or "", country=region)[0]
    redacted["reviewer_name"] = "[NAME]" if name else None
    redacted["reviewer_location"] = "[PLACE]" if place and not country_code(place) else place
    redacted["redacted"] = dict(counts)
    return redacted


def redact_text(text: str, name: str | None = None, country: str | None = None) -> tuple[str, Counter[str]]:
    """The text with a placeholder for each piece of personal data, and the number of placeholders by kind.

    `name` is the reviewer's; `country`, as a code or a name, is where a phone number is looked up that has no
    country code. A number of 13 to 19 digits whose checksum fails is no card, but private all the same: [ACCOUNT].
    """
    counts: Counter[str] = Counter()
    # A placeholder can show a name for what it is, so look again until nothing is found. It ends: every round
    # turns some of the remaining characters into placeholders.
    while found := spans(text, name, country):
        counts.update(kind for _, _, kind in found)
        text = _replace(text, found, lambda span: f"[{span[2]}]")
    return text, counts


@cache
def country_code(place: str | None) -> str | None:
    """ISO 3166's two letters for a code or for a country's name in any language; None for other places.

    The names are those of Unicode's CLDR, which come with phonenumbers.
    """
    from phonenumbers.geodata.locale import LOCALE_DATA

    place = (place or "").strip()
    if place.upper() in LOCALE_DATA:
        return place.upper()
    return _country_names().get(place.casefold())


@cache
def _country_names() -> dict[str, str]:
    from phonenumbers.geodata.locale import LOCALE_DATA

    known = {name.casefold(): code for code, each in LOCALE_DATA.items() for name in each.values()}
    british = dict.fromkeys(("uk", "great britain", "england", "scotland", "wales", "northern ireland"), "GB")
    return known | british | dict.fromkeys(("usa", "united states of america"), "US")


def spans(text: str, name: str | None = None, country: str | None = None) -> list[Span]:
    """What the rules find at the first look, in order of place. An earlier rule hides its find from the later."""
    region = country_code(country)
    found = [(match.start(), match.end(), "") for match in PLACEHOLDER.finditer(text)]
    text = _hide(text, found)
    everything: list[Span] = []
    rules = [_links, _emails]
    if SOME_DIGITS.search(text):
        rules += [_ibans, _long_numbers, _numbered, _order_forms, _phones, _bare_numbers]
    for rule in rules:
        found = list(rule(text, region))
        text = _hide(text, found)
        everything += found
    return sorted(everything + [(start, end, "NAME") for start, end in names.find(text, name)])


def _replace(text: str, spans: list[Span], by) -> str:
    pieces, end = [], 0
    for span in spans:
        pieces += [text[end : span[0]], by(span)]
        end = span[1]
    return "".join(pieces) + text[end:]


def _hide(text: str, spans: list[Span]) -> str:
    return _replace(text, spans, lambda span: FILL * (span[1] - span[0])) if spans else text


def _links(text: str, region: str | None) -> Iterator[Span]:
    for match in LINK.finditer(text):
        if USER_PART.search(match.group()):
            yield *match.span(), "URL"


def _emails(text: str, region: str | None) -> Iterator[Span]:
    if "@" in text or "(" in text or "[" in text or "{" in text:
        for match in EMAIL.finditer(text):
            yield *match.span(), "EMAIL"


def _ends(text: str, start: int, end: int) -> list[int]:
    """Where a group of letters and digits ends between `start` and `end`, the farthest first."""
    return [start + match.end() for match in re.finditer(r"[^\W_]+(?!\w)", text[start:end])][::-1]


def _ibans(text: str, region: str | None) -> Iterator[Span]:
    from stdnum import iban

    done = 0
    for match in IBAN.finditer(text):
        start = match.start()
        if start < done:
            continue
        ends = _ends(text, start, start + len(match[1]))
        # Without its national rules, which know only some banks.
        valid = [end for end in ends if iban.is_valid(text[start:end], check_country=False)]
        shape = IBAN_SHAPE.match(text, start)
        if valid or (shape and _digits(shape.group()) >= 10):
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
    for match in NUMBERED.finditer(text):
        value, (start, end) = match["value"], match.span("value")
        labelled = bool(match["before"] or match["after"] or value[0] == "#")
        least = 3 if labelled else 4 if re.search("[A-Za-z]", value) else 5
        amount = not labelled and (AMOUNT.fullmatch(value) or MOMENT.fullmatch(value))
        date = MOMENT.fullmatch(value) and re.search("[./-]", value)
        if _digits(value) >= least and not amount and not date and not _is_measure(text, start, end):
                yield start, end, "ORDER" if match["ORDER"] else "ACCOUNT"


def _order_forms(text: str, region: str | None) -> Iterator[Span]:
    for match in ORDER_FORM.finditer(text):
        yield *match.span(), "ORDER"


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
        place = ends[0] if ends else re.compile(r"\D*\d+").match(text, start).end()


def _is_phone(text: str, start: int, end: int, region: str | None) -> bool:
    import phonenumbers

    raw = text[start:end]
    digits = re.sub(r"\D", "", raw)
    groups = re.findall(r"\d+", raw)
    if not 7 <= len(digits) <= 15 or len(groups) > 7 or _is_measure(text, start, end) or MOMENT.fullmatch(raw):
        return False
    abroad = raw.lstrip("(").startswith(("+", "00"))
    cue = PHONE_CUE.search(text, max(0, start - 45), start)
    if not abroad and not cue and (AMOUNT.fullmatch(raw) or len(digits) < 8):
        return False
    try:
        number = phonenumbers.parse("+" + digits.removeprefix("00") if abroad else raw, region)
    except phonenumbers.NumberParseException:  # no country code, and no country to look it up in
        return bool(cue) or (digits[0] == "0" and len(digits) >= 9)
    if abroad or digits[0] == "0" or cue:
        return bool(cue) or phonenumbers.is_possible_number(number)
    return phonenumbers.is_valid_number(number)


def _digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def _is_measure(text: str, start: int, end: int) -> bool:
    """Whether a currency, a unit or a barcode's name says what the number is."""
    before = text[max(0, start - 20) : start]
    return bool(UNIT.match(text, end) or CURRENCY.search(before) or BARCODE.search(before))
