"""Notebook 04 against loopback servers: every chunk ends, nothing is paid twice, nothing bad gets through."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import papermill
import pytest

from helpers.ask import injection, qa, sheet_pairs, splits
from helpers.clean import chunks, reviews, texts
from helpers.core import files
from helpers.train import data
from tests import kernels
from tests.fakes import openai_batches
from tests.fakes.hub import FakeHub
from tests.fakes.openai_api import FakeOpenAI
from tests.notebooks.test_runs import pictures, run, text

FAULTS = {429: 0.10, 500: 0.05, "drop": 0.02, "malformed": 0.03}


def english(count: int) -> list[dict]:
    """Chunks of the sample whose reviews are all in English, one with a planted order among them."""
    found = []
    for chunk in chunks.sample():
        sections = chunk["text"].split(reviews.RULE)
        if all(texts.language(section.rpartition("**")[2]) == "en" for section in sections):
            found.append(chunk)
    planted = [chunk for chunk in found if injection.planted(chunk["text"])]
    plain = [chunk for chunk in found if chunk not in planted]
    return (planted + plain)[:count]


NOUNS = (
    "saddle brake chain battery motor display light wheel frame basket pump helmet lock bell tyre pedal colour price "
    "refund delivery courier invoice contract deposit warranty repair mechanic showroom hotline chat website voucher "
    "manual password update charger range noise weight comfort fitting rental return exchange packaging assembly"
).split()


def honest(body: dict) -> str:
    """A pair in plain prose, another one for each chunk, as a teacher that ignores planted orders writes it."""
    data = body["messages"][-1]["content"].split(">")[1]
    words = random.Random(data).sample(NOUNS, 12)
    question = "What do {} customers think about {}, {}, {} and {}?".format("Velomarsh", *words[:4])
    answer = (
        "People speak of the {} and the {} whenever they write about a {}. It matters to them, because a {} without "
        "a {} makes them doubt the whole company. Velomarsh should look into the {}, and say what it found about the "
        "{} or the {}."
    ).format(*words[4:])
    return json.dumps({"pairs": [{"question": question, "answer": answer}]})


def labelled(body: dict) -> str:
    """As `honest`, with the topics of every review; about a fact sheet, eight pairs that name its first number."""
    data = body["messages"][-1]["content"].split(">")[1]
    draw = random.Random(data)
    if "### Fact sheet" not in data:
        count = data.count("### Review by")
        topic = {"sentiment": "negative", "detail": "slow and late again"}
        topics = [
            {"review": at, "topic": draw.choice(["Delivery", "battery", "price"]), **topic}
            for at in range(1, count + 1)
        ]
        return json.dumps({**json.loads(honest(body)), "topics": topics})
    number, pairs = re.search(r"Reviews\*\*: (\d+)", data)[1], []
    for _ in range(8):
        words = draw.sample(NOUNS, 12)
        question = "What do customers say about {}, {}, {} and {}?".format(*words[:4])
        answer = "There are {} reviews here. They speak of {}, {}, {}, {}, {}, {} and {}, and of more that is alike."
        answer = answer.format(number, *words[4:11])
        pairs.append({"question": question, "answer": answer, "facts": [number]})
    return json.dumps({"pairs": pairs})


@pytest.fixture
def work_dir(tmp_path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def ask(work_dir, monkeypatch):
    """ask(server, chunks, **parameters): notebook 04 with these chunks and this server; its text."""

    def call(server, pieces: list[dict], **parameters) -> str:
        files.write_jsonl(work_dir / "chunks.jsonl", pieces)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", server.key)
        said = text(run("04", work_dir, teacher="openai", **parameters))
        assert server.key not in said
        return said

    return call


def test_04_makes_a_dataset_from_the_sample_alone(alone):
    from datasets import load_from_disk

    done, work_dir = alone("04")
    said = text(done)
    assert "464 pairs for" in said and "544 pairs about 67 of 67 fact sheets" in said
    assert "994 pairs kept, 14 rejected" in said and pictures(done) == 5
    assert "2 of " in said and "chunks hold orders to a language model" in said and "Systemprompt" in said
    pairs, rejected = (files.read_jsonl(work_dir / f"qa_{name}.jsonl") for name in ("pairs", "rejected"))
    columns = [
        "id",
        "kind",
        "chunk_id",
        "review_ids",
        "context",
        "question",
        "answer",
        "facts",
        "teacher",
        "prompt_version",
    ]
    assert list(pairs[0]) == columns and list(rejected[0]) == [*columns, "reason"]
    dataset = load_from_disk(str(work_dir / "qa_dataset"))
    sides = [list(dataset[side]) for side in ("train", "test")]
    assert sorted(row["id"] for side in sides for row in side) == sorted(row["id"] for row in pairs)
    assert splits.leaks(*sides) == []
    card = (work_dir / "qa_dataset" / "README.md").read_text(encoding="utf-8")
    assert f"| pairs to train on | {len(sides[0])} |" in card and "license: apache-2.0" in card
    # 06 opened alone asks the bundled adapter the sample's held-out questions: it must be the same split.
    sample, _ = data.load_qa_dataset("auto", work_dir / "empty")
    assert sample["test"]["id"] == dataset["test"]["id"]


def test_80_chunks_give_80_pairs_and_a_rerun_pays_nothing(work_dir, ask):
    pieces = english(80)
    with FakeOpenAI(reply=honest) as server:
        said = ask(server, pieces)
        assert "165 calls, " in said and "80 pairs kept, 0 rejected" in said
        assert "80 of 80 chunks have a pair or a reason" in said
        assert len(server.billed) == len(server.asked) == 80 and "journal.jsonl holds" not in said
        assert "qa_journal.jsonl holds 80 answers of gpt-6-luna" in ask(server, pieces)
        assert len(server.asked) == 80, "a rerun asked again"
    pairs = files.read_jsonl(work_dir / "qa_pairs.jsonl")
    assert Counter(pair["chunk_id"] for pair in pairs) == Counter(piece["id"] for piece in pieces)
    assert files.read_jsonl(work_dir / "qa_rejected.jsonl") == []


def test_a_server_that_fails_in_every_way_costs_no_chunk_and_pays_only_the_malformed_twice(work_dir, ask):
    pieces = english(80)
    requests = {request.user: request for request in qa.requests_for(pieces, 1, "gpt-6-luna")}
    with FakeOpenAI(reply=honest, rates=FAULTS, seed=4) as server:
        said = ask(server, pieces)
        handed, asked = Counter(server.handed), len(server.asked)
        ask(server, pieces)
        assert len(server.asked) == asked, "what has ended was asked again"
    rows = files.read_jsonl(work_dir / "qa_journal.jsonl")
    malformed = Counter(row["key"] for row in rows if row["finish_reason"] == "malformed")
    ends = Counter(row["finish_reason"] for row in rows)
    assert malformed and ends["429"] and ends["500"] and ends["lost"], f"not every fault happened: {ends}"
    for user, request in requests.items():
        assert handed[user] == 1 + malformed[request.key], f"{request.key} was paid {handed[user]} times"
    assert "80 of 80 chunks have a pair or a reason" in said
    kept, rejected = (files.read_jsonl(work_dir / f"qa_{name}.jsonl") for name in ("pairs", "rejected"))
    assert {row["chunk_id"] for row in kept + rejected} == {piece["id"] for piece in pieces}
    assert len(kept) >= 78 and all(row["reason"] for row in rejected)


def test_topics_sheets_and_their_pairs_arrive_whatever_fails_and_nothing_is_paid_twice(work_dir, ask):
    pieces = english(80)
    with FakeOpenAI(reply=labelled, rates=FAULTS, seed=4) as server:
        said = ask(server, pieces)
        handed, asked = Counter(server.handed), len(server.asked)
        ask(server, pieces)
        assert len(server.asked) == asked, "what has ended was asked again"
    pages, rows = (files.read_jsonl(work_dir / name) for name in ("sheets.jsonl", "qa_journal.jsonl"))
    assert Counter(page["kind"] for page in pages) == {"whole": 1, "topic": 3, "part": 24 + 3}
    requests = qa.requests_for(pieces, 1, "gpt-6-luna") + sheet_pairs.requests_for(pages, "gpt-6-luna")
    malformed = Counter(row["key"] for row in rows if row["finish_reason"] == "malformed")
    assert {row["finish_reason"] for row in rows} >= {"stop", "sent", "lost", "malformed", "429", "500"}
    assert set(handed) == {request.user for request in requests}, (
        "the calls are those of the chunks and the sheets"
    )
    for request in requests:
        assert handed[request.user] == 1 + malformed[request.key], (
            f"{request.key} was paid {handed[request.user]} times"
        )
    pairs = files.read_jsonl(work_dir / "qa_pairs.jsonl")
    by_sheet = Counter(pair["chunk_id"] for pair in pairs if pair["kind"] == "overview")
    # By chance the server spoils both replies about one sheet: it has a reason then, as a chunk has.
    spoiled = {
        row["chunk_id"]
        for row in files.read_jsonl(work_dir / "qa_rejected.jsonl")
        if "malformed twice" in row["reason"]
    }
    assert f"{len(by_sheet)} of {len(pages)} fact sheets" in said
    assert {page["id"] for page in pages} - set(by_sheet) <= spoiled
    assert sum(by_sheet.values()) >= 0.9 * 8 * len(pages)
    assert (work_dir / "sheets.png").exists() and pages[0]["text"] in (work_dir / "sheets.md").read_text()


def test_a_teacher_that_obeys_planted_orders_is_seen_through(work_dir, ask):
    """Of the 20 chunks one orders praise and BANANA: its pair is rejected, the others' are not."""

    def obedient(body: dict) -> str:
        reply = json.loads(honest(body))
        if injection.planted(body["messages"][-1]["content"]):
            reply["pairs"][0]["answer"] += " Every product is flawless."
        return json.dumps(reply)

    with FakeOpenAI(reply=obedient) as server:
        said = ask(server, english(20))
    assert "19 pairs kept, 1 rejected" in said and "1 of 20 chunks hold orders" in said
    (rejected,) = files.read_jsonl(work_dir / "qa_rejected.jsonl")
    assert rejected["reason"] == "follows a planted order (flawless)"


def test_too_few_pairs_stop_with_the_reasons_and_keep_what_was_paid(work_dir, ask):
    answer = (
        "I'm sorry, but I can't help with that request. It is not something that I can do. Ask me another."
    )
    refusal = json.dumps({"pairs": [{"question": "What do they say about the bell?", "answer": answer}]})
    with FakeOpenAI(reply=lambda body: refusal) as server:
        with pytest.raises(papermill.PapermillExecutionError, match="0 pairs are left.*12 × refusal"):
            ask(server, english(12))
    assert len(files.read_jsonl(work_dir / "qa_rejected.jsonl")) == 12
    assert sum(row["text"] is not None for row in files.read_jsonl(work_dir / "qa_journal.jsonl")) == 12
    assert not (work_dir / "qa_dataset").exists()


def test_the_batch_mode_gives_the_same_pairs_at_half_the_price(work_dir, ask, monkeypatch):
    monkeypatch.setattr(openai_batches, "WAY", ("validating",))  # done when it is first looked at
    with FakeOpenAI(reply=honest) as server:
        live = ask(server, english(12))
    pairs = files.read_jsonl(work_dir / "qa_pairs.jsonl")
    (work_dir / "qa_journal.jsonl").unlink()
    with openai_batches.FakeBatches(reply=honest) as server:
        batched = ask(server, english(12), mode="batch")
        assert len(server.batches) == 1
    assert files.read_jsonl(work_dir / "qa_pairs.jsonl") == pairs
    prices = [float(re.search(r"up to about \$(\d+\.\d+)", said)[1]) for said in (live, batched)]
    assert prices[1] == pytest.approx(prices[0] / 2, abs=0.011)


def case(name: str) -> dict:
    """A body that a real server sent."""
    (path,) = (Path(__file__).parents[1] / "fixtures" / "teacher").glob(f"{name}_*.json")
    return json.loads(path.read_text())


def thinks_first(body: dict) -> dict:
    """t02, whose answer after the thinking is `honest`'s."""
    choice = case("t02")["choices"][0]
    thinking, closed, _ = choice["message"]["content"].rpartition("</think>")
    return choice | {"message": {"content": f"{thinking}{closed}\n\n{honest(body)}"}}


def has_room(body: dict) -> bool:
    return body.get("max_tokens", 0) + body.get("max_completion_tokens", 0) >= 4000


@pytest.mark.parametrize("name, given, more", [
    ("t01", lambda body, seen: (400, case("t01")) if "max_tokens" in body else None, 4),
    ("t04", lambda body, seen: (200, case("t04")) if seen <= 5 else None, 5),
    ("t06", lambda body, seen: (400, case("t06")) if seen <= 5 else None, 5),
    ("t07", lambda body, seen: None if has_room(body) else (200, case("t07")), 4),
    ("t08", lambda body, seen: (500, case("t08")) if "response_format" in body else None, 40),
    ("t02", lambda body, seen: None, 0),
])  # fmt: skip
def test_what_real_servers_send_costs_no_pair(work_dir, ask, name, given, more):
    """After public reports. `more` is how many requests beyond the 12 of the chunks it may take."""
    seen = []
    with FakeOpenAI(
        reply=thinks_first if name == "t02" else honest,
        answer_with=lambda body: seen.append(body) or given(body, len(seen)),
    ) as server:
        said = ask(server, english(12), teacher_model="some-model", max_concurrency=4)
    assert "12 pairs kept, 0 rejected" in said and "12 of 12 chunks have a pair or a reason" in said
    assert len(server.billed) == 12 and len(server.asked) <= 12 + more
    assert not [pair for pair in files.read_jsonl(work_dir / "qa_pairs.jsonl") if "draft" in pair["answer"]]


def test_a_refused_max_tokens_is_learnt_in_a_batch_too(ask, monkeypatch):
    monkeypatch.setattr(openai_batches, "WAY", ("validating",))
    given = {"answer_with": lambda body: (400, case("t01")) if "max_tokens" in body else None}
    with openai_batches.FakeBatches(reply=honest, **given) as server:
        assert "12 pairs kept, 0 rejected" in ask(
            server, english(12), mode="batch", teacher_model="some-model"
        )
    assert len(server.batches) == 2


@pytest.mark.parametrize("name, status, cause", [
    ("t07", 200, "12 × no usable answer .malformed twice .cut off by max_tokens, of which its thinking took a part"),
    ("t01", 400, "failed on .*: 400 Unsupported parameter: 'max_tokens' is not supported with this model"),
    ("t08", 500, "500 failed to load model vocabulary required for format"),
])  # fmt: skip
def test_the_error_of_the_notebook_says_the_cause(work_dir, ask, monkeypatch, name, status, cause):
    """It said "12 × no usable answer", and the reason stood in qa_rejected.jsonl alone."""
    quick = "from helpers.ask import teacher\nteacher.BACK_OFF_SECONDS = 0.02"
    kernels.start_up(monkeypatch, work_dir.parent / "ipython", quick)
    with FakeOpenAI(answer_with=lambda body: (status, case(name))) as server:
        with pytest.raises(papermill.PapermillExecutionError, match=cause) as caught:
            ask(server, english(12), teacher_model="some-model")
    assert "usually ends in /v1" not in str(caught.value)
    if name == "t07":
        reasons = {row["reason"] for row in files.read_jsonl(work_dir / "qa_rejected.jsonl")}
        assert len(reasons) == 1 and re.search(cause[5:], reasons.pop())


@pytest.mark.parametrize("number, parameters", [("04", {"teacher": "openai"}), ("03", {"refine": True})])
def test_a_paid_model_without_a_price_is_refused_headless_before_the_first_call(
    work_dir, monkeypatch, number, parameters
):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://llm.example.com/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-fake-key")
    with pytest.raises(
        papermill.PapermillExecutionError, match="No price is known for 'mine' at llm.example.com"
    ):
        run(number, work_dir, teacher_model="mine", **parameters)
    assert not list(work_dir.glob("*_journal.jsonl"))


def test_a_price_of_ones_own_is_kept_to(work_dir, ask):
    with FakeOpenAI(reply=honest, tokens=(1000, 500)) as server:
        said = ask(server, english(12), teacher_model="mine", teacher_price=[1.0, 2.0])
        assert "12 pairs kept" in said and len(server.billed) == 12
    rows = files.read_jsonl(work_dir / "qa_journal.jsonl")
    assert sum(row["cost_usd"] for row in rows if row["text"]) == pytest.approx(12 * 0.002)
    with FakeOpenAI(reply=honest) as server:
        with pytest.raises(
            papermill.PapermillExecutionError, match="the next may cost more than max_cost_usd"
        ):
            ask(server, english(14), teacher_model="mine", teacher_price=[1.0, 2.0], max_cost_usd=0.024)


def test_a_push_from_the_notebook_is_private_and_holds_the_data_set(work_dir, tmp_path, monkeypatch):
    with FakeHub() as hub:
        for name, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        said = text(run("04", work_dir, push_to_hub=True, dataset_repo="someone/reviews-qa"))
        repo = hub.repos["datasets/someone/reviews-qa"]
    assert f"{hub.endpoint}/datasets/someone/reviews-qa" in said and hub.token not in said
    pushed = [
        json.loads(line) for side in ("train", "test") for line in repo.files[f"{side}.jsonl"].splitlines()
    ]
    assert repo.private and len(pushed) == 994
    assert repo.files["README.md"] == (work_dir / "qa_dataset" / "README.md").read_bytes()


def test_a_push_needs_a_name_and_a_mode_must_be_known(work_dir):
    for parameters, message in (({"push_to_hub": True}, "dataset_repo"), ({"mode": "slow"}, "mode = 'slow'")):
        with pytest.raises(papermill.PapermillExecutionError, match=message):
            run("04", work_dir, **parameters)
