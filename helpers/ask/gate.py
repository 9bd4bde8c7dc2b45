"""The quality gate (stage 04): which pairs are worth training on, and why the others are not.

Plain rules with the limits below, no model: the gate does not know whether an answer is true. Words and
sentences are counted as languages with spaces have them.
"""

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

PLACEHOLDER = re.compile(r"\[[A-Z][A-Z0-9_ -]+\]|\[(?:Company|Customer|Product|Your)\b[\w ]*\]|\{[\w ]+\}")
SOURCE = re.compile(
    r"(?i)\b(th(is|at) review|th[eo]se reviews|(the|this|that|one) reviewers?|dieser (bewertung|rezension)"
    r"|(according to|based on) the (\w+ )?review|the provided reviews|the review (mention|say|state)s)\b"
)
URL = re.compile(r"(?:https?://|www\.)[^\s)]+")
SENTENCE_END = re.compile(r"[.!?]+[\"')\]”’]*(?=\s+[^\sa-z]|\s*$)|[。！？]")
OF_ITSELF = texts.one_of("words of a model about itself")
REFUSAL = re.compile(rf"(?i)(?:^\W*(?:{texts.one_of('beginnings of refusals')})|\b(?:{OF_ITSELF}))\b")
# What a chunk says about its reviews, but for their titles.
HEADER = r"^(#.*|---|- \*\*(?!Title)[\w ]+\*\*: .*|\[View Full Review\].*)$|^- \*\*Title\*\*: "


class Judged:
    """A pair as the rules see it. Its source is every chunk of its reviews: a long review has several."""

    def __init__(self, pair: dict, sources: list[dict], ordinary: set[str]):
        self.question, self.answer, self.teacher = pair["question"], pair["answer"], pair["teacher"]
        self.overview, self.facts = pair.get("kind") == "overview", pair.get("facts") or []
        self.both, self.ordinary = f"{self.question}\n{self.answer}", ordinary
        self.known = pair["chunk_id"] in {chunk["id"] for chunk in sources}
        self.companies = " ".join(str(chunk["company"]) for chunk in sources)
        self.source = reviews.RULE.join(chunk["text"] for chunk in sources)
        self.asks, self.says, self.source_words = map(texts.words, (self.question, self.answer, self.source))

    def runs_of(self, words: list[str], length: int) -> set[tuple[str, ...]]:
        """The runs of `length` words that the question or the answer has in common with `words`."""
        own = texts.ngrams(self.asks, length) | texts.ngrams(self.says, length)
        return texts.ngrams(words, length) & own


def _outside(found: list, least: int, most: float = float("inf"), unit: str = " words") -> str | None:
    return None if least <= len(found) <= most else f"{len(found)}{unit}"


def _match(pattern: re.Pattern, text: str) -> str | None:
    match = pattern.search(text)
    return match and match.group().strip()


def _obeyed(p: Judged) -> str | None:
    """How a pair follows an order planted in its source: words quoted from it, or a word that only it has."""
    for order in map(texts.words, map(injection.planted, p.source.split(reviews.RULE))):
        if order and (quoted := p.runs_of(order, QUOTED_WORDS)):
            return " ".join(min(quoted))
        rare = {word[:STEM] for word in order if len(word) >= STEM - 1} - p.ordinary
        if traces := [word for word in p.asks + p.says if word[:STEM] in rare]:
            return traces[0]
    return None


def _language(text: str) -> str | None:  # where there is enough of it to be sure
    return texts.language(text) if len(texts.words(text)) >= LANGUAGE_WORDS else None


def _foreign(p: Judged) -> str | None:
    """The language that it should not be in; unjudged where a review is too short or holds an order."""
    sections = [re.sub(HEADER, "", section, flags=re.M) for section in p.source.split(reviews.RULE)]
    wanted = {None if injection.planted(section) else _language(section) for section in sections}
    wanted = {"en"} if p.teacher == "sample" or p.overview else wanted  # so are sheets, whatever the reviews
    wrong = {_language(p.question), _language(p.answer)} - {None} - wanted
    return ", ".join(sorted(wrong)) or None if None not in wanted else None


def _copied(p: Judged) -> str | None:
    if {*p.says} <= {*p.asks}:
        return "all of it from its question"
    fives, source = texts.ngrams(p.says, 5), texts.ngrams(p.source_words, 5)
    share = len(fives & source) / len(fives)
    return f"{share:.0%}" if share > COPIED_SHARE and not p.overview else None


def _unnamed(p: Judged) -> str | None:
    """What an overview pair calls a fact, and its sheet or its answer lacks."""
    for fact in p.facts:
        if not (figures.named(fact, p.source) and figures.named(fact, p.answer)):
            return fact
    return "none given" if p.overview and not p.facts else None


# Name, limit, and a check: None, or the detail of what breaks the rule, which may be "". The first one counts.
RULES = [
    ("unknown chunk", "its chunk is in chunks.jsonl", lambda p: None if p.known else ""),
    ("question too short", f"at least {QUESTION_WORDS[0]} words", lambda p: _outside(p.asks, QUESTION_WORDS[0])),
    ("question too long", f"at most {QUESTION_WORDS[1]} words", lambda p: _outside(p.asks, *QUESTION_WORDS)),
    ("answer too short", f"at least {ANSWER_WORDS[0]} words", lambda p: _outside(p.says, ANSWER_WORDS[0])),
    ("answer too long", f"at most {ANSWER_WORDS[1]} words", lambda p: _outside(p.says, *ANSWER_WORDS)),
    ("answer not {} to {} sentences".format(*ANSWER_SENTENCES), "by its ends of sentences",
     lambda p: _outside(SENTENCE_END.findall(p.answer), *ANSWER_SENTENCES, unit="")),
    ("refusal", "no “I'm sorry, I can't”, no “As an AI”", lambda p: _match(REFUSAL, p.answer)),
    ("control token", "no tag, marker or token of a chat template",
     lambda p: None if injection.neutralised(p.both) == p.both else ""),
    ("leaked placeholder", "no [NAME], [EMAIL] and the like", lambda p: _match(PLACEHOLDER, p.both)),
    ("personal data", "nothing that stage 02 would redact",
     lambda p: ", ".join(sorted(redaction.redact_text(p.both)[1])) or None),
    ("mentions its source", "no “this review”, no “the reviewer”", lambda p: _match(SOURCE, p.both)),
    ("speaks of its instructions", f"no order to a model; under {PROMPT_WORDS} words in a row of the prompt",
     lambda p: "" if injection.planted(p.both) or p.runs_of(texts.words(qa.SYSTEM_PROMPT), PROMPT_WORDS) else None),
    ("follows a planted order", f"under {QUOTED_WORDS} words in a row of it, and no word that only it has", _obeyed),
    ("another language", f"that of the review, from {LANGUAGE_WORDS} words on", _foreign),
    ("copies a long run", f"under {COPIED_WORDS} words in a row of the review",
     lambda p: None if p.overview else " ".join(min(p.runs_of(p.source_words, COPIED_WORDS), default=[])) or None),
    ("copies too much", f"at most {COPIED_SHARE:.0%} of its runs of five words", _copied),
    ("number not in the review", "no digits, percentages, words from three to twenty but its own",
     lambda p: ", ".join(figures.invented(p.both, f"{p.source} {p.companies}", _language(p.both))) or None),
    ("link not in the review", "no address of the web but its own",
     lambda p: next((url for url in URL.findall(p.both) if url not in p.source), None)),
    ("fact not named", "each fact of an overview pair stands on its sheet and in its answer", _unnamed),
    *((f"duplicate {field}", "the same words in their order", lambda p: None) for field in NEAR_DUPLICATE),  # _repeated
    *((f"near-duplicate {field}", f"at most {most:.0%} of its word 3-grams in common", lambda p: None)
      for field, most in NEAR_DUPLICATE.items()),
]  # fmt: skip


def quality_gate(pairs: list[dict], chunks: list[dict], sheets=()) -> tuple[list[dict], list[dict]]:
    """Pairs worth training on, and the others with "reason", whose part before " (" is the name of a rule.

    The source of a pair is its reviews' chunks, that of an overview pair one of `sheets`.
    """
    by_sheet, by_review = {sheet["id"]: [sheet] for sheet in sheets}, defaultdict(list)
    for chunk in chunks:
        for review_id in chunk["review_ids"]:
            by_review[review_id].append(chunk)
    # The beginnings of all words outside of planted orders: of the chunks without one, our prompt, and companies.
    harmless = [chunk["text"] for chunk in chunks if not injection.planted(chunk["text"])]
    harmless += [qa.SYSTEM_PROMPT, *{str(chunk["company"]) for chunk in chunks}]
    ordinary = {word[:STEM] for text in harmless for word in texts.words(text)}
    sound, rejected = [], []
    for pair in pairs:
        sources = by_sheet.get(pair["chunk_id"]) or [c for id in pair["review_ids"] for c in by_review[id]]
        judged = Judged(pair, sources, ordinary)
        details = ((name, check(judged)) for name, _, check in RULES)
        reasons = (f"{name} ({detail})" if detail else name for name, detail in details if detail is not None)
        if reason := next(reasons, ""):
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
            # Answers about sheets quote their lines, and two questions may be about the same line.
            quoting = field == "answer" and pairs[second].get("kind") == "overview"
            if first not in repeated and second not in repeated and not quoting:
                how = "duplicate" if words[first] == words[second] else "near-duplicate"
                repeated[second] = f"{how} {field} (of {pairs[first]['id']})"
    return repeated


def rating(pair: dict, chunks: dict[str, dict]) -> str:
    """The stars of the reviews behind a pair: "1 ★" … "5 ★", "several" or "none"."""
    stars = set(re.findall(r"\*\*Rating\*\*: (\d) of 5", chunks[pair["chunk_id"]]["text"]))
    return f"{stars.pop()} ★" if len(stars) == 1 else "several" if stars else "none"


def check_enough(kept: list[dict], rejected: list[dict]) -> None:
    """Raises ValueError that says what most pairs were rejected for when too few are left to train on."""
    kinds = [row["reason"].split(" (")[0] for row in rejected]
    most = Counter(kinds).most_common(3)
    examples = (f"{count} × {rejected[kinds.index(kind)]['reason'][:300]}" for kind, count in most)
    if len(kept) < LEAST_PAIRS:
        why = f"{len(kept)} pairs are left and training needs {LEAST_PAIRS}. Rejected: {'; '.join(examples) or 'none'}"
        fix = "Look into qa_rejected.jsonl; collect more reviews, raise pairs_per_chunk, take a stronger teacher_model"
        raise ValueError(f"{why}. {fix}, or loosen the limits in helpers/ask/gate.py. No answer is lost.")
