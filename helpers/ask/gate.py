"""The quality gate (stage 04): which pairs are worth training on, and why the others are not.

    kept, rejected = gate.quality_gate(pairs, chunks)
    plots.table(gate.summary(rejected))

Plain rules with the limits below, no model: the gate sees form, language, copies, invented numbers,
personal data, repetitions, and the traces of orders that somebody planted in a review. It does not know
whether an answer is true. Words and sentences are counted as languages with spaces have them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from helpers.ask import figures, injection, qa
from helpers.ask.splits import NEAR_DUPLICATE, near_duplicates
from helpers.clean import redaction, reviews, texts

QUESTION_WORDS, ANSWER_WORDS, ANSWER_SENTENCES = (5, 40), (20, 200), (2, 8)
COPIED_WORDS = 12  # so many words in a row as the review has them
COPIED_SHARE = 0.4  # of the answer's runs of five words
PROMPT_WORDS = 8  # in a row as the system prompt has them
QUOTED_WORDS = 4  # in a row as a planted order has them
STEM = 6  # letters by which two forms of a word are taken for the same
LANGUAGE_WORDS = 8  # from which on a text's language is judged
LEAST_PAIRS = 10  # fewer make neither a training set nor a held-out one

SENTENCES = f"answer not {ANSWER_SENTENCES[0]} to {ANSWER_SENTENCES[1]} sentences"

RULES = {
    "unknown chunk": "its chunk is in chunks.jsonl",
    "empty question": "at least one word",
    "empty answer": "at least one word",
    "question too short": f"at least {QUESTION_WORDS[0]} words",
    "question too long": f"at most {QUESTION_WORDS[1]} words",
    "answer too short": f"at least {ANSWER_WORDS[0]} words",
    "answer too long": f"at most {ANSWER_WORDS[1]} words",
    SENTENCES: "ends of sentences, counted",
    "refusal": "no “I'm sorry, I can't”, no “As an AI”",
    "control token": "no tag, marker or token of a chat template",
    "leaked placeholder": "no [NAME], [EMAIL] and the like",
    "personal data": "nothing that stage 02 would redact",
    "mentions its source": "no “this review”, no “the reviewer”",
    "speaks of its instructions": f"no order to a model; under {PROMPT_WORDS} words in a row of the prompt",
    "follows a planted order": f"under {QUOTED_WORDS} words in a row of it, and no word that only it has",
    "another language": f"the review's, judged from {LANGUAGE_WORDS} words on",
    "copies a long run": f"under {COPIED_WORDS} words in a row of the review",
    "copies too much": f"at most {COPIED_SHARE:.0%} of its runs of five words",
    "number not in the review": "digits, percentages, and words from three to twenty",
    "duplicate question": "other words or another order",
    "duplicate answer": "other words or another order",
    "near-duplicate question": f"at most {NEAR_DUPLICATE['question']:.0%} of its word 3-grams in common",
    "near-duplicate answer": f"at most {NEAR_DUPLICATE['answer']:.0%} of its word 3-grams in common",
}

PLACEHOLDER = re.compile(r"\[[A-Z][A-Z0-9_ -]+\]")
SOURCE = re.compile(r"\b((this|these|that|those) reviews?|(the|this|that|one) reviewers?)\b", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?]+[\"')\]”’]*(?=\s+[^\sa-z]|\s*$)|[。！？]")
REFUSAL = re.compile(
    r"^\W*(i['’ ]?a?m sorry|sorry, |i (can['’ ]?no?t|am unable)|es tut mir leid|ich kann (leider )?nicht|désolé|"
    r"je (suis désolé|ne peux pas)|lo siento|no puedo|mi dispiace|non posso|het spijt me|ik kan (helaas )?niet)"
    r"|\b(as an? (ai|(large )?language model)|als ki\b|als sprachmodell|en tant qu['’](ia|intelligence)|"
    r"como (una )?(ia\b|inteligencia)|come (una )?(ia\b|intelligenza)|als (een )?(ai|taalmodel)\b)",
    re.IGNORECASE,
)
# What a chunk says about its reviews, but for their titles.
HEADER = re.compile(
    r"^(#.*|---|- \*\*(?!Title)[\w ]+\*\*: .*|\[View Full Review\].*)$|^- \*\*Title\*\*: ", re.MULTILINE
)


def quality_gate(pairs: list[dict], chunks: list[dict]) -> tuple[list[dict], list[dict]]:
    """Pairs worth training on, and the others with "reason", whose part before " (" is one of RULES.

    A pair's source is every chunk of its reviews: a long review has several.
    """
    known, by_review = {chunk["id"] for chunk in chunks}, defaultdict(list)
    for chunk in chunks:
        for review_id in chunk["review_ids"]:
            by_review[review_id].append(chunk)
    # The beginnings of words that are in nobody's order, from the chunks without one and our own prompt.
    harmless = [chunk["text"] for chunk in chunks if not injection.planted(chunk["text"])]
    ordinary = {word[:STEM] for text in [*harmless, qa.SYSTEM_PROMPT] for word in texts.words(text)}
    sound, rejected = [], []
    for pair in pairs:
        sources = {chunk["id"]: chunk for name in pair["review_ids"] for chunk in by_review[name]}
        reason = (
            _flaw(pair, list(sources.values()), ordinary) if pair["chunk_id"] in known else "unknown chunk"
        )
        if reason:
            rejected.append(pair | {"reason": reason})
        else:
            sound.append(pair)
    repeated = _repeated(sound)
    rejected += [pair | {"reason": repeated[at]} for at, pair in enumerate(sound) if at in repeated]
    return [pair for at, pair in enumerate(sound) if at not in repeated], rejected


def _repeated(pairs: list[dict]) -> dict[int, str]:
    """Index → reason of every pair that says again what an earlier pair that stays has said."""
    repeated: dict[int, str] = {}
    for field in NEAR_DUPLICATE:
        words = [texts.words(pair[field]) for pair in pairs]
        for first, second in sorted(near_duplicates(pairs, field), key=lambda two: (two[1], two[0])):
            if first not in repeated and second not in repeated:
                how = "duplicate" if words[first] == words[second] else "near-duplicate"
                repeated[second] = f"{how} {field} (of {pairs[first]['id']})"
    return repeated


def _flaw(pair: dict, sources: list[dict], ordinary: set[str]) -> str | None:
    """Why the pair is rejected, by the first rule that it breaks; None when it breaks none."""
    question, answer = pair["question"], pair["answer"]
    asks, says, both = texts.words(question), texts.words(answer), f"{question}\n{answer}"
    text = reviews.RULE.join(chunk["text"] for chunk in sources)
    if not asks or not says:
        return "empty question" if not asks else "empty answer"
    for name, words, (least, most) in (("question", asks, QUESTION_WORDS), ("answer", says, ANSWER_WORDS)):
        if not least <= len(words) <= most:
            return f"{name} too {'short' if len(words) < least else 'long'} ({len(words)} words)"
    sentences = len(SENTENCE_END.findall(answer))
    if not ANSWER_SENTENCES[0] <= sentences <= ANSWER_SENTENCES[1]:
        return f"{SENTENCES} ({sentences})"
    if refusal := REFUSAL.search(answer):
        return f"refusal ({refusal.group().strip()})"
    if injection.neutralised(both) != both:
        return "control token"
    if leaked := PLACEHOLDER.search(both):
        return f"leaked placeholder ({leaked.group()})"
    if personal := redaction.redact_text(both)[1]:
        return f"personal data ({', '.join(sorted(personal))})"
    if mention := SOURCE.search(both):
        return f"mentions its source ({mention.group()})"
    runs = texts.ngrams(texts.words(qa.SYSTEM_PROMPT), PROMPT_WORDS)
    if injection.planted(both) or runs & (
        texts.ngrams(asks, PROMPT_WORDS) | texts.ngrams(says, PROMPT_WORDS)
    ):
        return "speaks of its instructions"
    if trace := _trace(asks, says, text, ordinary):
        return f"follows a planted order ({trace})"
    if wrong := _wrong_language(pair, text):
        return f"another language ({wrong})"
    source = texts.words(text)
    for words in (asks, says):
        if copied := texts.ngrams(source, COPIED_WORDS) & texts.ngrams(words, COPIED_WORDS):
            return f"copies a long run ({' '.join(min(copied))})"
    fives = texts.ngrams(says, 5)
    share = len(fives & texts.ngrams(source, 5)) / len(fives)
    if share > COPIED_SHARE:
        return f"copies too much ({share:.0%})"
    known = " ".join([text, *(str(chunk["company"]) for chunk in sources)])
    invented = figures.invented(both, known, _language(both))
    return f"number not in the review ({', '.join(invented)})" if invented else None


def _trace(asks: list[str], says: list[str], text: str, ordinary: set[str]) -> str | None:
    """What a pair has of an order that stands in its source, if anything."""
    for section in text.split(reviews.RULE):
        order = texts.words(injection.planted(section))
        if not order:
            continue
        runs = texts.ngrams(order, QUOTED_WORDS)
        if quoted := runs & (texts.ngrams(asks, QUOTED_WORDS) | texts.ngrams(says, QUOTED_WORDS)):
            return " ".join(min(quoted))
        rare = {word[:STEM] for word in order if len(word) >= STEM - 1} - ordinary
        if obeyed := [word for word in asks + says if word[:STEM] in rare]:
            return obeyed[0]
    return None


def _language(text: str) -> str | None:
    """The ISO code of the text's language, or None where there is too little of it to be sure."""
    return texts.language(text) if len(texts.words(text)) >= LANGUAGE_WORDS else None


def _wrong_language(pair: dict, text: str) -> str | None:
    """The language that it should not be in; the bundled pairs are in English, whatever their reviews are.

    Nothing is judged where the language of a review is not clear: it is too short, or holds a planted order.
    """
    sections = [HEADER.sub("", section) for section in text.split(reviews.RULE)]
    wanted = {None if injection.planted(section) else _language(section) for section in sections}
    wanted = {"en"} if pair["teacher"] == "sample" else wanted
    wrong = {_language(pair["question"]), _language(pair["answer"])} - {None} - wanted
    return ", ".join(sorted(wrong)) if None not in wanted else None


def summary(rejected: list[dict]) -> list[dict]:
    """A row a reason: the rule, how many broke it, and one of them; what no rule of ours is, comes last."""
    kinds = [row["reason"].split(" (")[0] for row in rejected]
    rows = []
    for reason in [*RULES, *sorted(set(kinds) - set(RULES))]:
        first = rejected[kinds.index(reason)] if reason in kinds else {}
        said = (first.get("question") or first.get("text") or "")[:100]
        detail = first.get("reason", "").partition(" (")[2].removesuffix(")")[:60]
        example = f"{said} ({detail})" if detail else said
        rows.append({"reason": reason, "rule": RULES.get(reason, ""), "rejected": kinds.count(reason)})
        rows[-1]["example"] = example
    return rows


def rating(pair: dict, chunks: dict[str, dict]) -> str:
    """The stars of the reviews behind a pair: "1 ★" … "5 ★", "several" or "none"."""
    stars = set(re.findall(r"\*\*Rating\*\*: (\d) of 5", chunks[pair["chunk_id"]]["text"]))
    return f"{stars.pop()} ★" if len(stars) == 1 else "several" if stars else "none"


def check_enough(kept: list[dict], rejected: list[dict]) -> None:
    """Raises ValueError that says what most pairs were rejected for when too few are left to train on."""
    if len(kept) >= LEAST_PAIRS:
        return
    most = Counter(row["reason"].split(" (")[0] for row in rejected).most_common(3)
    why = "; ".join(f"{count} × {reason}" for reason, count in most) or "the teacher gave no others"
    raise ValueError(
        f"{len(kept)} pairs are left and training needs {LEAST_PAIRS}. Rejected: {why}. Look into "
        "qa_rejected.jsonl; then collect more reviews, raise pairs_per_chunk, choose a stronger teacher_model, "
        "or loosen the limits at the top of helpers/ask/gate.py. What was answered stays in the journal, paid once."
    )


def languages(pairs: list[dict]) -> set[str]:
    """The languages that answers are in, as far as they can be told."""
    return {_language(pair["answer"]) for pair in pairs} - {None}
