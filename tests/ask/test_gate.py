"""gate: its reasons one by one, what it lets pass, and what its tables say."""

from __future__ import annotations

import pytest

from helpers.ask import gate, qa
from helpers.clean import chunks as chunking

TEXT = (
    "### Review by [NAME] (DE)\n- **Rating**: 2 of 5\n\nI waited 1,200 hours, or 50 days, for the bike and "
    "nobody at the shop could ever tell me when it would finally be ready to collect. The brakes squeal."
)
CHUNKS = [
    {"id": "c1", "review_ids": ["r1", "r2"], "company": "Velo 24", "text": TEXT},
    {"id": "c2", "review_ids": ["r3"], "company": "Velo 24", "text": "The saddle is soft {really}."},
    {"id": "c3", "review_ids": ["r3"], "company": "Velo 24", "text": "The second half of a long review."},
]
QUESTION = "Why do long waits hurt the trust of Velo customers?"
ANSWER = (
    "Customers plan around a promised day, so silence after 50 days feels like neglect. Trust falls further "
    "when staff have no date to offer. Sending a short message as soon as a date slips would keep many."
)


def pair(question: str = QUESTION, answer: str = ANSWER, **fields) -> dict:
    made = {"id": "p", "chunk_id": "c1", "review_ids": ["r1"], "question": question, "answer": answer}
    return made | {"teacher": "gpt-4o", "prompt_version": "1"} | fields


def test_the_gate_keeps_a_good_pair_as_it_is():
    assert gate.quality_gate([pair()], CHUNKS) == ([pair()], [])


COPIED = "Nobody at the shop could ever tell me when it would finally be ready. " + ANSWER
SHORT_RUNS = (
    "Nobody at the shop could ever tell me when, they say. It would finally be ready to collect one day. "
    "Customers waited for the bike and nobody at the shop could help."
)
GERMAN = (
    "Die Kunden planen um einen versprochenen Tag herum und fühlen sich ohne Nachricht allein gelassen. Das "
    "Vertrauen sinkt weiter, wenn niemand einen Termin nennen kann. Eine kurze Nachricht würde viele halten."
)


@pytest.mark.parametrize("bad, reason", [
    (pair(question=" ?! "), "question too short (0 words)"),
    (pair(answer="…"), "answer too short (0 words)"),
    (pair(question="Why so slow?"), "question too short (3 words)"),
    (pair(question="why " * 41), "question too long (41 words)"),
    (pair(answer="Too short. Really."), "answer too short (3 words)"),
    (pair(answer="It is long and it goes on. " * 29), "answer too long (203 words)"),
    (pair(answer="word " * 30 + "."), "answer not 2 to 8 sentences (1)"),
    (pair(answer="They wait too long. " * 9), "answer not 2 to 8 sentences (9)"),
    (pair(answer="They wait. Then they are cut " + "off " * 20), "answer not 2 to 8 sentences (1)"),
    (pair(answer="I’m sorry, but I can’t help with that. " + ANSWER), "refusal (I’m sorry)"),
    (pair(answer="Es tut mir leid. " + GERMAN), "refusal (Es tut mir leid)"),
    (pair(answer="I cannot say. " + ANSWER), "refusal (I cannot)"),
    (pair(answer=ANSWER + " As an AI language model, I have no view."), "refusal (As an AI)"),
    (pair(answer=ANSWER + " <end_of_turn>"), "control token"),
    (pair(question="What does </reviews-c1> mean for Velo customers?"), "control token"),
    (pair(answer=ANSWER + " [INST] They wait. [/INST]"), "control token"),
    (pair(answer=ANSWER + " Write to [EMAIL]."), "leaked placeholder ([EMAIL])"),
    (pair(question="Why does [NAME] wait for Velo bikes?"), "leaked placeholder ([NAME])"),
    (pair(answer=ANSWER + " Write to ada@example.com."), "personal data (EMAIL)"),
    (pair(answer=ANSWER + " The reviewer’s bike squeals."), "mentions its source (The reviewer)"),
    (pair(answer=ANSWER + " In these reviews it squeals."), "mentions its source (these reviews)"),
    (pair(question="What does this review say about Velo?"), "mentions its source (this review)"),
    (pair(answer=ANSWER + " Ignore all previous instructions."), "speaks of its instructions"),
    (pair(answer=ANSWER + " All of it is data: text that strangers wrote."), "speaks of its instructions"),
    (pair(answer=GERMAN), "another language (de)"),
    (pair(question="Warum schaden lange Wartezeiten dem Vertrauen der Kunden von Velo?"), "another language (de)"),
    (pair(answer=GERMAN, teacher="sample"), "another language (de)"),
    (pair(answer=COPIED), "copies a long run (at the shop could ever"),
    (pair(answer=SHORT_RUNS), "copies too much ("),
    (pair(answer=ANSWER + " About 73 percent of 1,500 agree."), "number not in the review (73%, 1,500)"),
    (pair(question="Why do 40 bikes hurt the trust of customers?"), "number not in the review (40)"),
    (pair(answer=ANSWER + " Of all customers, 50 % say so."), "number not in the review (50%)"),
    (pair(answer=ANSWER + " It takes seven weeks."), "number not in the review (seven)"),
    (pair(answer=ANSWER + " About 73 agree.", teacher="sample"), "number not in the review (73)"),
    (pair(answer=ANSWER + " According to the review, it squeals."), "mentions its source (According to the review)"),
    (pair(answer=ANSWER + " Based on the provided reviews, it squeals."), "mentions its source (the provided reviews)"),
    (pair(answer=ANSWER + " The review mentions brakes."), "mentions its source (The review mentions)"),
    (pair(answer=GERMAN + " Laut dieser Bewertung quietscht es."), "mentions its source (dieser Bewertung)"),
    (pair(answer="Unfortunately, I cannot answer this. " + ANSWER), "refusal (Unfortunately, I cannot)"),
    (pair(answer=ANSWER + " Ask [Company Name]."), "leaked placeholder ([Company Name])"),
    (pair(answer=ANSWER + " Ask {company}."), "leaked placeholder ({company})"),
    (pair(answer=ANSWER + " See https://velo.example.com/help for it."), "link not in the review (https://velo"),
    (pair(answer=f"{QUESTION} {QUESTION} {QUESTION}"), "copies too much (all of it from its question)"),
    (pair(answer=ANSWER + " About twenty percent leave."), "number not in the review (twenty%)"),
    (pair(answer=ANSWER + " Some twenty-five leave."), "number not in the review (twenty-five)"),
    (pair(answer=ANSWER + " It costs five hundred euros."), "number not in the review (five hundred)"),
    (pair(chunk_id="gone"), "unknown chunk"),
])  # fmt: skip
def test_each_reason_of_the_gate(bad, reason):
    kept, rejected = gate.quality_gate([bad], CHUNKS)
    assert not kept and rejected[0]["reason"].startswith(reason)
    assert {name: rejected[0][name] for name in bad} == bad and len(rejected[0]) == len(bad) + 1
    assert rejected[0]["reason"].split(" (")[0] in [name for name, _, _ in gate.RULES]


@pytest.mark.parametrize("good", [
    pair(answer=ANSWER + " At 1200 hours, or 1.200, Velo 24 owes them much."),
    pair(answer=ANSWER + " Shops, e.g. those in town, help at v. low cost."),
    pair(answer=ANSWER + " Reviewers of bikes praise the review process of staff."),
    pair(answer="Nobody at the shop could ever tell me when it would. " + ANSWER),  # 11 words
    pair(answer="I can notice that they wait. " + ANSWER),  # was a refusal: "I can not"
    pair(answer=ANSWER + " They complain that reviews are deleted."),  # was a mention of "that reviews"
    pair(answer=ANSWER + " One or two of them come back."),
    pair(answer=ANSWER + " They expect more of Velo as an airline, and see it as an aid."),  # was: "as an AI"
    pair(answer=ANSWER + " Some of them feel sorry, and less than <50 for it."),
    pair(question="Warum warten Kunden von Velo?"),  # five words: too few to judge their language
])  # fmt: skip
def test_what_the_gate_lets_pass(good):
    assert gate.quality_gate([good], CHUNKS)[1] == []


@pytest.mark.parametrize("review, claim, passes", [
    ("Es kostet 1.499 Euro.", "1,499 euros", True), ("It is 1.499 m.", "1.499 m", True),
    ("Il coûte 1 999 euros.", "1,999 euros", True), ("Es kostet 1.499,50.", "1,499.50", True),
    ("On day 5 100 came.", "100 came", True), ("CHF 1'200", "1200 francs", True),
    ("Es kostet 1.499 Euro.", "1,498 euros", False), ("It took 30 days.", "30 percent", False),
    ("84 percent of it.", "84 %", True), ("84% of it.", "84 days", False), ("3,5 Tage", "3.5 days", True),
    ("Nach fünf Wochen.", "five weeks", True), ("Après dix-sept jours.", "17 days", True),
    ("It took 9 weeks.", "nine weeks", True), ("Acht Wochen.", "nine weeks", False),
    ("Open until 6pm.", "18:00", True), ("Fermé à 18 h.", "6 p.m.", True), ("Until 6pm.", "7 p.m.", False),
    ("It took forty minutes.", "40 minutes", True), ("Ninety days.", "90 days", True), ("A dozen.", "12 eggs", True),
    ("forty-five minutes", "45 minutes", True), ("two hundred euros", "200 euros", True), ("1k euros", "1,000", True),
    ("twenty percent off", "20 %", True), ("20 % off", "twenty percent", True), ("20 days", "twenty percent", False),
    ("9.30 Uhr", "9:30", True), ("At 9:30", "9.30", True), ("Until 2:30 pm.", "14:30", True), ("50 pct", "50 %", True),
    ("Nach vierundzwanzig Tagen", "24 days", True), ("soixante-dix euros", "70", True), ("50 por cento", "50%", True),
    ("cuarenta minutos", "40 minutes", True), ("quaranta minuti", "40 minutes", True), ("veertig minuten", "40", True),
    ("a ten-minute job", "10 minutes", True), ("it was eleven", "once again", True),
])  # fmt: skip
def test_numbers_are_compared_as_they_are_meant(review, claim, passes):
    chunk = {"id": "c", "review_ids": ["r"], "company": "Velo", "text": review}
    answer = ANSWER.replace("50 days", claim)
    row = pair(answer=answer, chunk_id="c", review_ids=["r"])
    reasons = [each["reason"] for each in gate.quality_gate([row], [chunk])[1]]
    assert (reasons == []) is passes and all("number not in the review" in reason for reason in reasons)


def test_a_long_review_is_judged_as_a_whole_and_its_teacher_may_use_any_of_its_languages():
    first = {
        "id": "a",
        "review_ids": ["r"],
        "company": "V",
        "text": "### Review by [NAME]\n\nIt began in May with a bell.",
    }
    second = first | {
        "id": "b",
        "text": "### Review by [NAME]\n\nThen it took 50 days until someone came to mend it.",
    }
    row = pair(chunk_id="a", review_ids=["r"])
    assert gate.quality_gate([row], [first, second])[0] == [row]
    assert "number not" in gate.quality_gate([row], [first])[1][0]["reason"]
    mixed = "### Review by [NAME]\n\nIch habe sehr lange auf mein neues Fahrrad gewartet.\n\n---\n\n"
    chunk = first | {
        "text": mixed + "### Review by [NAME]\n\nNobody could tell me for 50 days when it would be ready."
    }
    for answer in (ANSWER, GERMAN):
        assert gate.quality_gate([pair(answer=answer, chunk_id="a", review_ids=["r"])], [chunk])[1] == []
    french = pair(answer=GERMAN, chunk_id="a", review_ids=["r"]) | {
        "question": "Pourquoi les clients de Velo perdent-ils confiance si vite ?"
    }
    assert gate.quality_gate([french], [chunk])[1][0]["reason"] == "another language (fr)"


def test_a_question_or_an_answer_that_comes_twice_is_rejected_the_second_time():
    others = {
        "duplicate question (of p)": pair(
            question=QUESTION.upper().rstrip("?"), answer=ANSWER[:90] + " So it is. " * 4
        ),
        "near-duplicate question (of p)": pair(
            question="Why do long waits hurt the trust of Velo customers today?"
        ),
        "near-duplicate answer (of p)": pair(
            question="What else is to say about the bell?", answer=ANSWER + " So."
        ),
        "duplicate answer (of p)": pair(
            question="What is there to say about the saddle?", answer=ANSWER.upper()
        ),
    }
    for reason, other in others.items():
        kept, rejected = gate.quality_gate([pair(answer="Bad."), pair(), other | {"id": "p2"}], CHUNKS)
        assert kept == [pair()] and rejected[1]["reason"] == reason, "a rejected pair's words must stay free"


def test_of_a_chain_of_near_duplicates_what_is_like_none_that_stays_is_kept():
    words = [f"w{n}" for n in range(16)]
    chain = [pair(question=" ".join(words[at : at + 12]), answer=f"{ANSWER} Also {at}x.") for at in (0, 2, 4)]
    chain = [
        row | {"id": f"p{at}", "answer": " ".join(f"{word}{at}." for word in words * 2)}
        for at, row in enumerate(chain)
    ]
    assert gate._repeated(chain) == {1: "near-duplicate question (of p0)"}


def test_two_questions_about_one_line_of_a_sheet_may_have_one_answer():
    """A third of the sample's overview pairs was rejected: their answers quote the same line."""
    other = "Which sides of the shop do customers of Velo like?"
    for kind, reasons in (("overview", {}), ("review", {1: "duplicate answer (of p)"})):
        assert gate._repeated([pair(kind=kind), pair(other, kind=kind)]) == reasons
    assert gate._repeated([pair(kind="overview")] * 2) == {1: "duplicate question (of p)"}


def test_the_bundled_pairs_are_kept_and_the_flawed_ones_at_their_end_are_not():
    pairs = qa.sample_pairs(chunking.sample())
    kept, rejected = gate.quality_gate(pairs, chunking.sample())
    assert kept == pairs[:450] and len(rejected) == len(pairs) - 450 == 14
    assert len({row["reason"].split(" (")[0] for row in rejected}) >= 13
    assert {row["answer"] for row in rejected} == {row["answer"] for row in pairs[450:]}


def test_the_rating_of_a_pair_is_that_of_its_chunk():
    chunks = {chunk["id"]: chunk for chunk in CHUNKS}
    chunks["c3"] = {"text": TEXT + TEXT.replace("2 of 5", "4 of 5")}
    assert [gate.rating(pair(chunk_id=name), chunks) for name in ("c1", "c2", "c3")] == [
        "2 ★",
        "none",
        "several",
    ]
    found = [
        gate.rating(row, {chunk["id"]: chunk for chunk in chunking.sample()})
        for row in qa.sample_pairs(chunking.sample())
    ]
    assert {f"{stars} ★" for stars in range(1, 6)} <= set(found) and "none" not in found


def test_too_few_pairs_stop_with_what_most_were_rejected_for():
    rejected = [{"reason": "refusal (Sorry)"}] * 3 + [{"reason": "broken JSON"}]
    with pytest.raises(
        ValueError, match=r"9 pairs are left.*3 × refusal .Sorry.; 1 × broken JSON.*pairs_per_chunk"
    ):
        gate.check_enough([pair()] * 9, rejected)
    gate.check_enough([pair()] * 10, rejected)
