"""Prompt injection: orders to a language model inside a review (stage 04).

    safe = neutralised(text)          # no tag or control token of a chat template is left
    order = planted(text)             # the part of the text that gives orders, or ""

`planted` knows the common forms in eight languages, forged markers and base64. It is a net, not a proof:
an order in new words passes. What keeps orders from being obeyed is the form of the request
(`qa.requests_for`), and what keeps their effects out of the data is the gate (`gate.quality_gate`).
"""

from __future__ import annotations

import base64
import re
import unicodedata

ORDERS = re.compile(
    "|".join(
        (
            r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:instruction|prompt|rule|guideline|direction)",
            r"\b(?:ignorier|vergiss|vergessen sie|missacht)\w*.{0,40}(?:anweisung|vorgabe|befehl|regel|prompt)",
            r"(?:anweisungen|vorgaben|regeln)\b.{0,25}(?:aufgehoben|ungültig|außer kraft)",
            r"\b(?:ignor|oubli|néglig)\w*.{0,40}\b(?:instruction|consigne|directive)",
            r"\b(?:ignor|olvid|omit)\w*.{0,40}\b(?:instrucci|indicaci|prompt)",
            r"\b(?:ignor|dimentic|trascur)\w*.{0,40}\b(?:istruzion|direttiv|prompt)",
            r"\b(?:negeer|vergeet)\b.{0,40}\b(?:instructie|opdracht|prompt)",
            r"\b(?:ignor|esque)\w*.{0,40}\b(?:instruç|prompt)",
            r"(?:忽略|无视|忘记|忽視).{0,12}(?:指令|指示|提示|规则|說明)|系统提示|你现在是",
            r"\bsystem[ -]?(?:prompt|message|nachricht|instruction|override)|prompt (?:système|del sistema|di sistema)",
            r"systeemprompt|\byou are now an? |\bdu bist (?:jetzt|nun|ab jetzt) |\btu es (?:maintenant|désormais) ",
            r"\bahora eres |\bora sei |\badesso sei |\bje bent (?:nu|vanaf nu) ",
            r"\b(?:ai|llm|chatgpt|language model|sprachmodell|modèle de langage|modelo de lenguaje|taalmodel)s?\b"
            r".{0,30}\b(?:must|should now|muss|doit|debe|deve|moet)\b",
            r"[<‹]\s*/?\s*(?:reviews?-|system|assistant|user|instructions?\b|\|?im_(?:start|end)|\w+_of_turn)",
            r"[<‹]\|\w+\|[>›]|\[/?INST\]|#+\s*(?:system|instructions?|anweisung)\s*:",
            r"(?:^|\n)\s*(?:system|assistant|developer)\s*:|[\"'](?:role|pairs|messages)[\"']\s*:",
        )
    ),
    re.IGNORECASE,
)
BASE64 = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")
# Chat servers that build their prompt as text take these for their own, wherever they stand.
TAG = re.compile(r"<(?=[^\s\d<=.,;)-])")
INST = re.compile(r"\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_|AVAILABLE_TOOLS|MODEL_SETTINGS)[\w ]*\])")


def neutralised(text: str) -> str:
    """The text with typographic brackets where it could be read as a tag or a control token."""
    return INST.sub("〔", TAG.sub("‹", text))


def planted(text: str) -> str:
    """From the sentence with the first order to the end of the text; "" where there is none."""
    text = BASE64.sub(_decoded, unicodedata.normalize("NFKC", text))
    found = ORDERS.search(text)
    if not found:
        return ""
    starts = [end.end() for end in re.finditer(r"[.!?。！？]\s+|\n+", text[: found.start() + 1])]
    return text[max(starts, default=0) :]


def _decoded(found: re.Match) -> str:
    """Base64 followed by what it says, if it says anything."""
    try:
        return f"{found[0]} {base64.b64decode(found[0] + '==').decode('utf-8')}"
    except ValueError:
        return found[0]
