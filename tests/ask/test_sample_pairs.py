"""The bundled question-answer pairs keep what their README promises."""

from __future__ import annotations

import re

from helpers.ask import qa
from helpers.clean import reviews, texts
from helpers.core import files

SOUND_PAIRS = 450  # those after them are flawed on purpose: test_gate.py


def test_no_sample_pair_repeats_another():
    pairs = files.read_jsonl(qa.SAMPLE)[:SOUND_PAIRS]
    assert len(pairs) >= 400
    for field in ("question", "answer"):
        said = [" ".join(texts.words(pair[field])) for pair in pairs]
        assert len(set(said)) == len(said)
    ids = {row["review_id"] for row in reviews.clean_sample()}
    assert {pair["review_id"] for pair in pairs} <= ids


def test_every_sample_answer_has_three_to_five_sentences():
    for pair in files.read_jsonl(qa.SAMPLE)[:SOUND_PAIRS]:
        sentences = re.findall(r"[.!?](?=\s|$)", pair["answer"])
        assert 3 <= len(sentences) <= 5, pair["answer"]
