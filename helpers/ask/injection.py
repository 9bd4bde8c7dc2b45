"""Prompt injection: orders to a language model inside a review (stage 04).

`planted` knows the common forms in eight languages and forged markers. It is a net, not a proof: an order in
new words passes, and nothing is decoded. The form of the request (`qa.requests_for`) keeps orders from being
obeyed, and the gate keeps their effects out of the data.
"""

import re
import unicodedata
from functools import lru_cache

# English, German, French, Spanish, Italian, Dutch, Portuguese; in the imperative, not in the past tense.
FORGET = (
    r"\b(?:ignor(?!ed|é|ier(?:t|en)\b|a[dt])|disregard(?!ed)|forget|override|bypass|vergiss|vergessen sie|missachte"
    r"|oublie[zr]?\b|olvid(?!aron|ado|ó)|omit(?!ted)|dimentic(?!at)|trascur(?!at)|negeer|vergeet|esqueça)\w*"
)
INSTRUCTIONS = (
    r"(?:(?<!assembly )(?<!mounting )(?<!washing )(?<!care )(?<!delivery )instru[ckç]|directions\b|rules?\b|guideline"
    r"|prompts?\b(?! (?:delivery|service|repl|answer))|anweisung|vorgabe|befehl|consigne|directive|indicaci|istruzion"
    r"|direttiv|opdracht)"
)
# Riders ignore the assembly instructions, and couriers their own rules; a model is told to forget what came before.
BEFORE = (
    r"\b(?:previous|prior|preceding|earlier|above|bisherige|vorherige|vorige|obige|précédent|antérieur|anterior|previa"
    r"|precedent|eerder|bovenstaand)(?! (?:step|page|figure)\b)"
)
START = r"(?:(?<=[.!?]\s)|(?<=\n)|(?<![\s\S]))"  # of a sentence
ORDERS = [
    f"{FORGET}.{{0,40}}(?:{BEFORE}.{{0,20}}{INSTRUCTIONS}|{INSTRUCTIONS}.{{0,20}}{BEFORE})",
    rf"{FORGET}.{{0,20}}\bprompt\b(?! (?:delivery|service|repl|answer))",
    rf"{START}(?:please |bitte )?{FORGET} (?:everything|alles|all|the)\b.{{0,9}}\b(?:above|oben)\b",
    rf"{START}(?:please |bitte )?{FORGET} (?:all|any|every|your|deine|tou[st]|tes|tod[ao]s|tus|tutt[ei]|je)\b"
    rf".{{0,20}}{INSTRUCTIONS}",
    r"(?:anweisungen|vorgaben|regeln)\b.{0,25}(?:aufgehoben|ungültig|außer kraft)",
    r"(?:忽略|无视|忘记|忽視).{0,12}(?:指令|指示|提示|规则|說明)|系统提示|你现在是",
    r"\bsystem[ -]?prompt(?!s (?:\w+ ){1,3}to\b)|systeemprompt|\bprompt (?:système|del sistema|di sistema)",
    r"\byou are now an? (?!(?:\w+ )?(?:shop|store|company|brand|airline|hour|minute|day|customer|client|member)\b)",
    r"\bdu bist (?:jetzt|nun|ab jetzt) |\btu es (?:maintenant|désormais) ",
    r"\bahora eres |\bora sei |\badesso sei |\bje bent (?:nu|vanaf nu) ",
    r"\b(?:ai|llm|(?:language|sprach|taal) ?model|mod[eè]l[eo] d[ei] (?:langage|lenguaje))\w{0,2}\b"
    r"(?=.{0,40}\b(?:this|these|das|dies\w*|ceci|cela|est[aeo]s?|quest[aoe]|dit|deze)\b).{0,30}"
    r"\b(?:reads?|reading|liest|lit|lee|legge|leest)\b.{0,30}\b(?:must|should|muss|doit|debe|deve|moet)\b",
    r"[<‹]\s*/?\s*(?:reviews?-|system|assistant|user|instructions?\b|\|?im_(?:start|end)|\w+_of_turn)",
    r"[<‹]\|\w+\|[>›]|[\[〔]/?INST\]|#+\s*(?:system|instructions?|anweisung)\s*:",
    START + r"(?:system|assistant|developer)(?: message\s*:|\s*:(?:[^\w.?]+[^\W\d]+){5})",
    r"[\"'](?:role|pairs|messages)[\"']\s*:",
]
ORDERS = re.compile("|".join(ORDERS), re.IGNORECASE)
# Chat servers that build their prompt as text take these for their own, wherever they stand.
TAG = re.compile(r"<(?=[^\s\d=.,;)-])")
INST = re.compile(r"\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_|AVAILABLE_TOOLS|MODEL_SETTINGS)[\w ]*\])")


def neutralised(text: str) -> str:
    """The text with typographic brackets where it could be read as a tag or a control token."""
    return INST.sub("〔", TAG.sub("‹", text))


@lru_cache(1024)  # many pairs have the same source
def planted(text: str) -> str:
    """From the sentence with the first order to the end of the text; "" where there is none."""
    text = unicodedata.normalize("NFKC", text)
    order = ORDERS.search(text) or ORDERS.search(re.sub(r"(?<=\w)\n(?=\w)", " ", text))
    if not order:
        return ""
    starts = [end.end() for end in re.finditer(r"[.!?。！？]\s+|\n+", text[: order.start() + 1])]
    return text[max(starts, default=0) :]
