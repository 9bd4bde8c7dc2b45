"""batch.ask_all against a loopback server with the files and batches endpoints, and the real openai client."""

from __future__ import annotations

import json
import traceback
from collections import Counter

import pydantic
import pytest

from helpers.ask import batch, teacher
from helpers.core import files, runtime
from tests.fakes.openai_api import FakeOpenAI
from tests.fakes.openai_batches import PAGE, FakeBatches

KEY = "sk-fake-key"
NEW_BATCH = {"completion_window": "24h", "endpoint": "/v1/chat/completions", "input_file_id": "file-0"}


class Pair(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(json_schema_extra={"additionalProperties": False})
    question: str
    answer: str


class Pairs(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(json_schema_extra={"additionalProperties": False})
    pairs: list[Pair]


def some(count: int, **fields) -> list[teacher.Request]:
    return [teacher.Request(f"k{n}", "You are a teacher.", f"text {n}", **fields) for n in range(count)]


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(batch, "LISTED_LATE", (0, 0.01))
    monkeypatch.setattr(batch, "RETRIES", 2)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "new" / "qa_journal.jsonl"


@pytest.fixture
def ask(monkeypatch, journal):
    """ask(server, requests, **options) with the journal in tmp_path."""

    def call(server, requests, **options):
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        fixed = {"model": "gpt-4o", "response_model": Pairs, "max_cost_usd": 5.0, "poll_seconds": 0.001}
        return batch.ask_all(requests, journal, **fixed | options)

    return call


def states(journal) -> list[str]:
    return [each["state"] for each in json.loads(journal.with_name("qa_batches.json").read_text())]


def test_every_request_is_answered_once_at_half_the_price(ask, journal, capfd):
    with FakeBatches(tokens=(1000, 100)) as server:
        answers = ask(server, some(40))
    assert list(answers) == [f"k{n}" for n in range(40)]
    for n in range(40):
        assert f"'text {n}'" in answers[f"k{n}"].text, "an answer landed under another request's key"
    rows = files.read_jsonl(journal)
    assert {row["key"] for row in rows} == set(answers) and len(rows) == 40
    assert rows[0]["cost_usd"] == pytest.approx((1000 * 2.5e-6 + 100 * 10e-6) / 2)
    assert set(server.billed.values()) == {1} and len(server.batches) == 1 and states(journal) == ["done"]
    sent = server.requests_of(server.batches["batch_0"])[0]
    assert sent["method"] == "POST" and sent["url"] == "/v1/chat/completions" and sent["custom_id"] == "k0"
    assert sent["body"]["response_format"]["json_schema"]["strict"] is True
    assert sent["body"]["max_tokens"] == 1024 and len(sent["body"]["messages"]) == 2
    printed, bar = capfd.readouterr()
    assert "batch_0: 40 requests for at most $0.2" in printed and "half the live price" in printed
    assert "40 of 40 requests are answered" in printed
    assert "batch_0 in_progress, 0/40" in bar


def test_the_body_is_the_one_of_a_live_request(ask, tmp_path, monkeypatch):
    with FakeBatches() as batches, FakeOpenAI() as live:
        ask(batches, some(1))
        monkeypatch.setenv("OPENAI_BASE_URL", live.base_url)
        options = {"model": "gpt-4o", "response_model": Pairs, "max_cost_usd": 5.0}
        teacher.ask_all(some(1), tmp_path / "live.jsonl", **options)
    assert batches.requests_of(batches.batches["batch_0"])[0]["body"] == live.asked[0]


def test_a_rerun_pays_nothing_and_needs_no_key(ask, monkeypatch):
    with FakeBatches() as server:
        first = ask(server, some(5))
        monkeypatch.setattr(runtime, "secret", lambda name: pytest.fail("asked for the key"))
        server.log.clear()
        assert ask(server, some(5), max_cost_usd=0.0) == first
    assert not server.log


def test_live_answers_of_the_same_journal_are_not_asked_again(ask, journal, monkeypatch):
    with FakeOpenAI() as live:
        monkeypatch.setenv("OPENAI_BASE_URL", live.base_url)
        options = {"model": "gpt-4o", "response_model": Pairs, "max_cost_usd": 5.0}
        teacher.ask_all(some(3), journal, **options)
        with FakeBatches() as server:
            assert len(ask(server, some(8))) == 8
        monkeypatch.setenv("OPENAI_BASE_URL", live.base_url)
        assert len(teacher.ask_all(some(8), journal, **options)) == 8
    assert set(server.billed) == {f"k{n}" for n in range(3, 8)} and len(live.asked) == 3


def test_a_file_has_a_limit_so_there_are_several_batches(ask, monkeypatch):
    monkeypatch.setattr(batch, "MAX_REQUESTS", 4)
    with FakeBatches(max_requests=4) as server:
        assert len(ask(server, some(10))) == 10
    assert len(server.batches) == 3 and set(server.billed.values()) == {1}
    assert server.log.index("GET /v1/files/{id}/content") > max(
        at for at, line in enumerate(server.log) if line == "POST /v1/batches"
    ), "they should be under way together"


def test_a_long_key_has_a_short_custom_id(ask):
    long = teacher.Request("k" * 200, "You are a teacher.", "text")
    with FakeBatches() as server:
        assert list(ask(server, [long, *some(1)])) == ["k" * 200, "k0"]


def test_a_queue_that_is_too_short_is_explained_and_what_fits_goes_on(ask, journal, monkeypatch):
    with FakeBatches(queue=10) as server:
        with pytest.raises(
            teacher.TeacherError,
            match="batch_0 was refused, unpaid.*Enqueued token limit.*lower MAX_REQUESTS",
        ):
            ask(server, some(4))
        assert not server.billed and states(journal) == ["failed"]
        monkeypatch.setattr(batch, "MAX_REQUESTS", 1)
        server.queue = 10**6
        assert len(ask(server, some(4))) == 4


def test_a_batch_that_is_refused_as_a_whole_says_why_and_blocks_nothing(ask, journal):
    with FakeBatches() as server:
        with pytest.raises(
            teacher.TeacherError, match="batch_0 was refused, unpaid: model_not_found: .*not supp"
        ):
            ask(server, some(3), model="no-such-model")
        assert states(journal) == ["failed"]
        assert len(ask(server, some(3))) == 3


def test_an_expired_batch_is_paid_for_what_it_did_and_the_next_call_asks_the_rest(ask):
    with FakeBatches(ends=["expired"]) as server:
        answers = ask(server, some(20))
        failed = [answer for answer in answers.values() if answer.reason]
        assert len(failed) == 10 and all("window expired" in answer.reason for answer in failed)
        assert not any(answer.reason for answer in ask(server, some(20)).values())
    assert [len(server.requests_of(each)) for each in server.batches.values()] == [20, 10]
    assert set(server.billed.values()) == {1}


def test_a_cancelled_batch_keeps_what_it_did_and_the_next_call_asks_the_rest(ask, journal):
    with FakeBatches(ends=["cancelled"], share=0.25) as server:
        reasons = Counter(answer.reason.split(" (")[0] for answer in ask(server, some(20)).values())
        assert reasons == {"": 5, "failed": 15} and len(server.batches) == 1
        assert len(ask(server, some(20))) == 20
    assert set(server.billed.values()) == {1}


def test_a_refused_max_tokens_is_learnt_and_sent_again_with_its_newer_name(ask, journal):
    """From a model whose name does not tell: each chunk was refused for good, and the next call asked none."""
    says = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
    with FakeBatches(answer_with=lambda body: (400, says) if "max_tokens" in body else None) as server:
        answers = ask(server, some(4))
        assert len(answers) == 4 and not any(answer.reason for answer in answers.values())
        assert len(server.batches) == 2 and set(server.billed.values()) == {1}
        assert len(ask(server, some(6))) == 6
        assert len(server.batches) == 3, "forgotten by the next call"
    with FakeBatches(answer_with=lambda body: (400, says)) as server:
        assert ask(server, [teacher.Request("new", "", "text")])["new"].reason.startswith(
            "refused (400 Unsupp"
        )
        assert len(server.batches) == 1, "asked again in the same words"


@pytest.mark.parametrize("keeps", [False, True])
def test_thinking_that_left_nothing_of_an_answer_gets_more_room_once(ask, journal, keeps):
    """The 1,024 tokens were paid for, and "" was the answer for good."""
    cut = {"message": {"content": "", "reasoning_content": "Hm"}, "finish_reason": "length", "index": 0}
    body = {"choices": [cut], "usage": {"prompt_tokens": 9, "completion_tokens": 1024}}
    with FakeBatches(
        answer_with=lambda asked: (200, body) if keeps or asked["max_tokens"] == 1024 else None
    ) as server:
        answers = ask(server, some(3))
        room = [server.requests_of(each)[0]["body"]["max_tokens"] for each in server.batches.values()]
        assert room == [1024, 12192] and set(server.billed.values()) == {2}
        reason = "malformed twice (cut off by max_tokens, of which its thinking took a part)" if keeps else ""
        assert [answer.reason for answer in answers.values()] == [reason] * 3
        assert ask(server, some(3), max_cost_usd=0.0) == answers
    rows = files.read_jsonl(journal)
    assert [row["finish_reason"] for row in rows[:3]] == ["malformed"] * 3 and rows[0]["cost_usd"] > 0


def edited(server, edit):
    """The server, the lines of whose first output file are changed by `edit`."""
    carry_out = server._carry_out

    def then(batch, *how):
        carry_out(batch, *how)
        if batch["id"] == "batch_0":
            name = batch["output_file_id"]
            server.files[name] = b"\n".join(edit(server.files[name].splitlines()))

    server._carry_out = then


def without_usage(lines):
    return [json.dumps(json.loads(line) | {"response": {"status_code": 200, "body": {
        "choices": json.loads(line)["response"]["body"]["choices"]}}}).encode() for line in lines]  # fmt: skip


@pytest.mark.parametrize("edit, lost", [
    (without_usage, 0), (lambda lines: [*lines[:-1], lines[-1][:40]], 1), (lambda lines: [b"null", *lines], 0),
    (lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]], 0),
    (lambda lines: [lines[0][:-2], b"\xff", *lines[1:]], 1),
    (lambda lines: [line.replace(b'"status_code": 200', b'"status_code": "200"') for line in lines], 0),
])  # fmt: skip
def test_an_odd_line_of_results_costs_itself_alone(ask, journal, edit, lost):
    """All results of the batch were beyond reach, or were paid for again."""
    with FakeBatches() as server:
        edited(server, edit)
        answers = ask(server, some(4))
        assert sum(bool(answer.reason) for answer in answers.values()) == lost
        assert not any(answer.reason for answer in ask(server, some(4)).values())
    assert server.billed.total() == 4 + lost
    most = files.read_jsonl(journal)[0]["completion_tokens"]
    assert (most == 1024) is (edit is without_usage), "what is unknown counts at the most"


def test_of_a_success_and_an_error_the_success_counts(ask):
    with FakeBatches() as server:
        carry_out = server._carry_out

        def then(batch, *how):
            carry_out(batch, *how)
            batch["error_file_id"] = "file-9"
            server.files["file-9"] = b'{"custom_id": "k1", "response": null, "error": {"message": "expired"}}'

        server._carry_out = then
        assert not any(answer.reason for answer in ask(server, some(3)).values())


def test_a_refused_schema_is_learnt_in_a_batch(ask):
    says = {
        "error": {"message": "Invalid parameter: 'response_format' of type 'json_schema' is not supported."}
    }
    with FakeBatches(answer_with=lambda body: (400, says) if "response_format" in body else None) as server:
        assert not any(answer.reason for answer in ask(server, some(3)).values())
        assert len(server.batches) == 2
        ask(server, some(5))
    assert len(server.batches) == 3 and set(server.billed.values()) == {1}, "forgotten by the next call"


@pytest.mark.parametrize("says, reason", [
    ("Billing hard limit has been reached", "failed"), ("Your input was flagged", "refused"),
])  # fmt: skip
def test_what_an_error_is_about_counts_in_a_batch_too(ask, says, reason):
    def answer(body):
        return (400, {"error": {"message": says}}) if "text 0" in body["messages"][1]["content"] else None

    with FakeBatches(answer_with=answer) as server:
        assert ask(server, some(3))["k0"].reason == f"{reason} (400 {says})"
        server.answer_with = lambda body: None
        assert bool(ask(server, some(3))["k0"].reason) is (reason == "refused")


def test_an_error_within_a_200_is_an_error_in_a_batch_too(ask):
    """Read by the function that reads a live reply."""
    bodies = [{"choices": None, "error": {"message": "Provider returned error", "code": 429}}]
    with FakeBatches(answer_with=lambda body: (200, bodies.pop()) if bodies else None) as server:
        reasons = [answer.reason for answer in ask(server, some(3)).values()]
        assert sorted(reasons) == ["", "", "failed (429 Provider returned error)"]
        assert not any(answer.reason for answer in ask(server, some(3)).values())


@pytest.mark.parametrize("status", [429, 500, 0, None])
def test_a_line_that_failed_gets_a_reason_for_now_and_is_asked_by_the_next_call(ask, status):
    with FakeBatches(line_errors={"text 3": status}) as server:
        answers = ask(server, some(6))
        assert [key for key in answers if answers[key].reason.startswith("failed (")] == ["k3"]
        server.line_errors.clear()
        assert not ask(server, some(6))["k3"].reason
    assert [len(server.requests_of(each)) for each in server.batches.values()] == [6, 1]
    assert set(server.billed.values()) == {1}


def test_a_completion_without_an_answer_in_it_is_asked_by_the_next_call(ask):
    with FakeBatches() as server:
        made, calls = server._answer, []
        server._answer = lambda body: made(body) | ({} if calls or calls.append(1) else {"choices": []})
        assert sum(bool(answer.reason) for answer in ask(server, some(2)).values()) == 1
        assert not any(answer.reason for answer in ask(server, some(2)).values())
    assert len(server.batches) == 2


def test_a_text_that_is_refused_gets_a_reason_and_is_not_asked_again(ask, journal):
    with FakeBatches(line_errors={"text 3": 400}) as server:
        answers = ask(server, some(6))
        refused = answers["k3"]
        assert refused.text == "" and refused.reason == "refused (400 refused with 400)"
        assert refused.cost_usd == 0 and len(server.batches) == 1
        assert ask(server, some(6)) == answers
    assert len(server.batches) == 1 and "k3" not in server.billed


def test_a_refusal_by_the_model_gets_a_reason(ask, journal):
    message = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
    with FakeBatches() as server:
        made = server._answer
        server._answer = lambda body: made(body) | {"choices": [{"index": 0, "message": message,
                                                                 "finish_reason": "stop"}]}  # fmt: skip
        answer = ask(server, some(1))["k0"]
    assert answer.reason == "refused (I can't help with that.)" and answer.text == "" and answer.cost_usd > 0


def test_a_model_that_refuses_every_request_has_reasons_for_now_and_all_are_asked_again(ask, journal):
    with FakeBatches(line_errors={"text": 400}) as server:
        reasons = {answer.reason for answer in ask(server, some(3)).values()}
        assert reasons == {"failed (400 refused with 400)"} and not journal.exists()
        server.line_errors.clear()
        assert not any(answer.reason for answer in ask(server, some(3)).values())


def test_results_that_are_gone_are_paid_for_again_only_when_the_user_says_so(ask, journal):
    with FakeBatches(faults={"GET /v1/files/{id}/content": [404, 404]}) as server:
        for _ in range(2):
            with pytest.raises(teacher.TeacherError, match="results of batch_0.*30 days.*qa_batches.json"):
                ask(server, some(3))
        state = journal.with_name("qa_batches.json")
        state.write_text(state.read_text().replace('"running"', '"failed"'))
        assert len(ask(server, some(3))) == 3 and len(server.batches) == 2


@pytest.mark.parametrize("budget", [0.0, 0.003, 0.02, 0.05])
def test_the_budget_is_never_exceeded_and_what_is_missing_is_named(ask, journal, budget):
    """The server bills all of max_tokens, and a token for each byte of the texts."""
    with FakeBatches(tokens=(26, 1000)) as server:
        with pytest.raises(
            teacher.BudgetReached, match=r"of 40 requests.*the next may cost more.*higher max"
        ):
            ask(server, some(40, max_tokens=1000), max_cost_usd=budget)
        assert server.usd(2.5, 10.0) <= budget
        assert len(server.billed) >= int(budget / 0.0062), "the budget was left lying"
        assert len(ask(server, some(40, max_tokens=1000), max_cost_usd=1.0)) == 40
    assert set(server.billed.values()) == {1}


def test_the_reserved_cost_covers_a_text_of_one_token_a_byte(ask):
    """Four characters per token would reserve 400 tokens for these 1600; Chinese text needs more."""
    with FakeBatches(tokens=(4800, 1)) as server:
        with pytest.raises(teacher.BudgetReached):
            ask(server, [teacher.Request("k", "", "评" * 1600, 1)], max_cost_usd=4800 * 1.25e-6)
    assert not server.batches


def test_what_is_left_of_the_budget_is_used_after_the_real_figures_are_known(ask):
    """For $0.10, 18 fit in the worst case; as each costs a hundredth of that, all do in the end."""
    with FakeBatches(tokens=(10, 10)) as server:
        assert len(ask(server, some(40, max_tokens=1000), max_cost_usd=0.1)) == 40
    assert 2 <= len(server.batches) <= 4


def test_the_budget_counts_live_answers_and_batches_under_way(ask, journal, monkeypatch):
    with FakeOpenAI(tokens=(1, 900)) as live:
        monkeypatch.setenv("OPENAI_BASE_URL", live.base_url)
        options = {"model": "gpt-4o", "response_model": Pairs, "max_cost_usd": 5.0}
        teacher.ask_all(some(3), journal, **options)  # $0.027
    with FakeBatches(tokens=(1, 1000)) as server:
        with pytest.raises(teacher.BudgetReached):
            ask(server, some(20, max_tokens=1000), max_cost_usd=0.05)
        assert 0.027 + server.usd(2.5, 10.0) <= 0.05 and server.billed
        server.faults["GET /v1/batches/{id}"] = [400]  # stops while it is under way
        with pytest.raises(teacher.TeacherError):
            ask(server, some(20, max_tokens=1000), max_cost_usd=0.1)
        assert states(journal)[-1] == "running"
        others = [teacher.Request(f"other{n}", "", "text", 1000) for n in range(20)]
        with pytest.raises(teacher.BudgetReached):
            ask(server, others, max_cost_usd=0.1)
        server.move(next(reversed(server.batches.values())))
    assert 0.027 + sum(b["usd_at_most"] for b in json.loads(journal.with_name("qa_batches.json").read_text())
                       if b["state"] == "running") + server.usd(2.5, 10.0) <= 0.1  # fmt: skip


def test_a_batch_whose_answers_are_in_the_journal_is_in_the_budget_once(ask, journal):
    """A kill came before it was noted as done: what it cost at most was held back on top of what it did cost."""
    with FakeBatches(tokens=(1, 10)) as server:
        ask(server, some(20, max_tokens=1000))
        state = journal.with_name("qa_batches.json")
        (noted,) = json.loads(state.read_text())
        state.write_text(json.dumps([noted | {"state": "running"}]))
        others = [teacher.Request(f"other{n}", "", "text", 1000) for n in range(20)]
        assert len(ask(server, others, max_cost_usd=noted["usd_at_most"])) == 20


def test_a_batch_with_requests_that_are_no_longer_asked_is_collected_for_the_others(ask, journal):
    """It ended each later call with a KeyError, and its paid answers were beyond reach."""
    with FakeBatches(faults={"GET /v1/batches/{id}": [400]}) as server:
        with pytest.raises(teacher.TeacherError):
            ask(server, some(6))
        assert len(ask(server, some(4))) == 4 and len(ask(server, some(6))) == 6
    assert len(server.batches) == 1 and set(server.billed.values()) == {1} and states(journal) == ["done"]


def test_what_a_batch_of_an_earlier_process_teaches_is_learnt(ask, journal):
    """What that process had sent is not known: compared with what would be sent now, nothing seemed to be taught."""
    says = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
    faults = {"GET /v1/batches/{id}": [400]}
    with FakeBatches(
        faults=faults, answer_with=lambda body: (400, says) if "max_tokens" in body else None
    ) as server:
        with pytest.raises(teacher.TeacherError):
            ask(server, some(4))
        for asked in (some(6)[4:], some(4)):
            ask(server, asked)
            ends = ask(server, asked).values()
            assert [end.reason for end in ends] == [""] * len(asked)


def test_a_server_without_batches_says_use_live(ask, journal):
    """So do Ollama, llama.cpp (see test_free_teacher.py), vLLM and transformers serve."""
    with FakeBatches(faults={"GET /v1/batches": [404]}) as server:
        with pytest.raises(teacher.TeacherError, match="127.0.0.1 failed at listing.*use mode='live'"):
            ask(server, some(2))
    assert not journal.parent.exists() and len(server.log) == 1


def test_what_costs_nothing_is_tried_again(ask):
    each = {name: ["drop", 500] for name in ("POST /v1/files", "GET /v1/batches", "GET /v1/batches/{id}")}
    with FakeBatches(faults={**each, "GET /v1/files/{id}/content": [503]}) as server:
        assert len(ask(server, some(3))) == 3
    assert len(server.batches) == 1


def test_the_start_of_a_batch_is_sent_once_and_found_when_its_answer_is_lost(ask):
    with FakeBatches(faults={"POST /v1/batches": ["lost"]}) as server:
        assert len(ask(server, some(5))) == 5
    assert server.log.count("POST /v1/batches") == 1 and set(server.billed.values()) == {1}


@pytest.mark.parametrize("fault", ["drop", 500])
def test_a_start_that_failed_is_not_repeated_at_once(ask, journal, fault):
    with FakeBatches(faults={"POST /v1/batches": [fault]}) as server:
        with pytest.raises(teacher.TeacherError, match="was lost.*no such batch is listed.*some minutes"):
            ask(server, some(5))
        assert states(journal) == ["asked"] and server.log.count("POST /v1/batches") == 1
        tag = json.loads(journal.with_name("qa_batches.json").read_text())[0]["tag"]
        server.create({**NEW_BATCH, "metadata": {batch.TAG: tag}})
        assert len(ask(server, some(5))) == 5, "it had arrived after all"
    assert server.log.count("POST /v1/batches") == 1 and states(journal) == ["done"]


def test_a_start_that_is_refused_starts_nothing_and_can_be_repeated(ask, journal):
    with FakeBatches(faults={"POST /v1/batches": [429]}) as server:
        with pytest.raises(teacher.TeacherError, match="starting the batch.*quota"):
            ask(server, some(5))
        assert states(journal) == ["failed"]
        assert len(ask(server, some(5))) == 5


def test_a_lost_work_dir_does_not_pay_twice(ask, journal):
    """The journal and the state vanish with the machine; the batch and its results are at OpenAI."""
    with FakeBatches() as server:
        first = ask(server, some(6))
        for _ in range(2 * PAGE):
            server.create({**NEW_BATCH, "metadata": {batch.TAG: "of other requests"}})
        for path in journal.parent.iterdir():
            path.unlink()
        server.log.clear()
        assert ask(server, some(6)) == first
    assert "POST /v1/batches" not in server.log and set(server.billed.values()) == {1}


def test_a_proxys_page_is_no_result(ask, journal):
    with FakeBatches(faults={"GET /v1/files/{id}/content": ["not_json"]}) as server:
        with pytest.raises(teacher.TeacherError, match="downloading the results of batch_0"):
            ask(server, some(3))
        assert states(journal) == ["running"]
        assert len(ask(server, some(3))) == 3 and len(server.batches) == 1


def test_the_key_is_in_no_message_no_file_and_no_output(ask, journal, monkeypatch, capfd):
    secret = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    with FakeBatches() as server, pytest.raises(teacher.TeacherError, match="OPENAI_API_KEY") as caught:
        ask(server, some(2))
    assert "Incorrect API key" in str(caught.value)
    everything = "".join(traceback.format_exception(caught.value)) + "".join(capfd.readouterr())
    assert secret not in everything and "sk-very" not in everything
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FakeBatches() as server:
        ask(server, some(2))
    assert not [path for path in journal.parent.iterdir() if KEY in path.read_text()]
