"""teacher.ask_all against a loopback server, with the real openai client."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections import Counter

import pydantic
import pytest

from helpers.ask import prices, teacher
from helpers.ask.answers import Answer, Wants, all_json, answered, most, read_reply
from helpers.core import files, runtime
from tests.fakes.openai_api import FakeOpenAI, qa_reply

KEY = "sk-fake-key"


class Pairs(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(json_schema_extra={"additionalProperties": False})
    pairs: list[dict[str, str]]


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(teacher, "BACK_OFF_SECONDS", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """ask(server, requests, **options), with the journal in tmp_path."""

    def call(server, requests, **options):
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        options = {"model": "gpt-4o", "response_model": Pairs, "max_cost_usd": 5.0} | options
        return teacher.ask_all(requests, tmp_path / "new" / "journal.jsonl", **options)

    return call


def some(count: int, **fields) -> list[teacher.Request]:
    return [teacher.Request(f"k{n}", "You are a teacher.", f"text {n}", **fields) for n in range(count)]


def rows(tmp_path) -> list[dict]:
    """The journal's rows that say what became of an attempt."""
    return [row for row in journal(tmp_path) if row["finish_reason"] != "sent"]


def journal(tmp_path) -> list[dict]:
    return files.read_jsonl(tmp_path / "new" / "journal.jsonl")


def test_every_request_is_answered_once_and_the_journal_says_what_it_cost(ask, tmp_path):
    with FakeOpenAI(tokens=(1000, 100), delay=0.02) as server:
        answers = ask(server, some(12), max_concurrency=4)
    assert list(answers) == [f"k{n}" for n in range(12)]
    for n in range(12):
        assert f"'text {n}'" in answers[f"k{n}"].text, "an answer landed under another request's key"
    assert {row["key"] for row in rows(tmp_path)} == set(answers) and len(rows(tmp_path)) == 12
    assert rows(tmp_path)[0]["cost_usd"] == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    assert 1 < server.most_in_flight <= 4
    sent = server.asked[0]
    assert sent["response_format"]["json_schema"]["schema"]["additionalProperties"] is False
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert sent["max_tokens"] == 1024


def test_temporary_failures_are_retried_and_every_request_gets_one_answer(ask, tmp_path):
    with FakeOpenAI(faults=[429, 500, "drop", None, 503, "drop_billed", 429, "cut", "drop"]) as server:
        answers = ask(server, some(6))
    kept = [row["key"] for row in rows(tmp_path) if row["text"] is not None]
    assert sorted(kept) == sorted(answers) and len(answers) == 6
    assert len(server.asked) == 6 + 8


def test_retry_after_is_honoured(ask):
    with FakeOpenAI(faults=[429], retry_after="0.3") as server:
        ask(server, some(1))
    assert server.times[1] - server.times[0] >= 0.3


def test_a_very_long_retry_after_stops_instead_of_hanging(ask):
    with FakeOpenAI(faults=[429], retry_after="86400") as server:
        with pytest.raises(teacher.TeacherError, match="86400 s.*max_concurrency"):
            ask(server, some(1))


def test_a_server_that_keeps_failing_is_given_up(ask, monkeypatch):
    monkeypatch.setattr(teacher, "TRIES", 3)
    with FakeOpenAI(faults=[500] * 9) as server:
        with pytest.raises(teacher.TeacherError, match="after 3 tries.*OPENAI_BASE_URL"):
            ask(server, some(1))
    assert len(server.asked) == 3


def test_a_server_that_is_down_costs_nothing(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "TRIES", 2)
    with FakeOpenAI() as server:
        pass
    with pytest.raises(teacher.TeacherError, match="k0.*OPENAI_BASE_URL"):
        ask(server, some(1))
    assert {row["finish_reason"] for row in rows(tmp_path)} == {"unreachable"}
    assert teacher.summary(tmp_path / "new" / "journal.jsonl")["usd"] == 0


def test_a_rerun_pays_nothing_and_needs_no_key(ask, monkeypatch):
    with FakeOpenAI() as server:
        first = ask(server, some(5))
        monkeypatch.delenv("OPENAI_API_KEY")
        monkeypatch.setattr(runtime, "secret", lambda name: pytest.fail("asked for the key"))
        assert ask(server, some(5), max_cost_usd=0.0) == first
    assert len(server.asked) == 5


def test_after_a_stop_in_the_middle_only_the_missing_are_paid(ask, tmp_path):
    with FakeOpenAI(refuse_after=7, delay=0.02) as server:
        with pytest.raises(teacher.TeacherError, match="gpt-4o.*OPENAI_API_KEY"):
            ask(server, some(20), max_concurrency=4)
        paid = {row["key"] for row in rows(tmp_path) if row["text"]}
        assert len(paid) == len(server.billed) >= 7, "an answer that was paid for is not in the journal"
        server.refuse_after = None
        server.asked.clear()
        assert len(ask(server, some(20), max_concurrency=4)) == 20
    asked_again = {body["messages"][1]["content"].replace("text ", "k") for body in server.asked}
    assert asked_again == {f"k{n}" for n in range(20)} - paid and len(server.asked) == 20 - len(paid)


def test_a_torn_last_line_of_the_journal_is_asked_again(ask, tmp_path, capsys):
    """Its "sent" row stands, so that it counts as paid."""
    path = tmp_path / "new" / "journal.jsonl"
    with FakeOpenAI() as server:
        ask(server, some(3), max_concurrency=1)
        path.write_bytes(path.read_bytes()[:-20])
        assert len(ask(server, some(3))) == 3
    assert len(server.asked) == 4 and sum(row["text"] is not None for row in rows(tmp_path)) == 3
    assert (
        "in flight when the last run ended: 1." in capsys.readouterr().out
        and teacher.summary(path)["lost"] == 1
    )


def test_the_same_key_twice_is_asked_once(ask):
    with FakeOpenAI() as server:
        assert len(ask(server, some(2) + some(2))) == 2
    assert len(server.asked) == 2


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("faults", [(), ("drop_billed", None, "drop_billed", "drop")])
def test_the_budget_is_never_exceeded_and_is_used(ask, tmp_path, concurrency, faults):
    """The server bills all of max_tokens; a connection lost after the answer was made counts too."""
    with FakeOpenAI(tokens=(40, 1000), faults=faults, delay=0.01) as server:
        with pytest.raises(teacher.BudgetReached, match=r"of 40 requests.*higher max_cost_usd"):
            ask(server, some(40, max_tokens=1000), max_cost_usd=0.1, max_concurrency=concurrency)
        assert server.usd(2.5, 10.0) <= 0.1
        assert server.answered >= 5, "the budget was left lying"
        assert len(answered(tmp_path / "new" / "journal.jsonl")) == server.answered
        assert len(ask(server, some(40, max_tokens=1000), max_cost_usd=1.0)) == 40
        assert server.answered == 40, "something was paid for twice"


def test_the_budget_counts_what_earlier_runs_of_the_journal_cost(ask):
    with FakeOpenAI(tokens=(40, 1000)) as server:
        ask(server, some(5, max_tokens=1000), max_cost_usd=0.1)
        with pytest.raises(teacher.BudgetReached):
            ask(server, some(40, max_tokens=1000), max_cost_usd=0.1)
    assert server.usd(2.5, 10.0) <= 0.1


def test_the_reserved_cost_covers_a_text_of_one_token_a_byte(ask):
    """Four characters per token would reserve 400 tokens for these 1600; Chinese text needs more."""
    with FakeOpenAI(tokens=(4800, 1)) as server:
        with pytest.raises(teacher.BudgetReached):
            ask(server, [teacher.Request("k", "", "评" * 1600, 1)], max_cost_usd=4800 * 2.5e-6)
    assert not server.asked


def test_a_server_without_schemas_is_asked_in_plain_text(ask):
    with FakeOpenAI(plain_only=True) as server:
        assert len(ask(server, some(9), max_concurrency=3)) == 9
    assert sum("response_format" in body for body in server.asked) <= 3, "it must be learnt once for all"


def test_a_400_for_one_text_is_a_reason_and_not_asked_again(ask, tmp_path):
    with FakeOpenAI(always={"text 4": 400}) as server:
        answers = ask(server, some(6), max_concurrency=1)
        assert [key for key in answers if answers[key].reason] == ["k4"]
        assert answers["k4"].reason.startswith("refused (") and answers["k4"].cost_usd == 0
        assert all("response_format" in body for body in server.asked), "the schema was given up"
        server.asked.clear()
        assert ask(server, some(6), max_cost_usd=0.0) == answers and not server.asked
        assert len(ask(server, some(7))) == 7 and len(server.asked) == 1


def test_a_server_that_takes_nothing_is_an_error(ask, tmp_path):
    with FakeOpenAI(always={"text": 400}) as server:
        with pytest.raises(teacher.TeacherError, match="400.*No request has worked yet"):
            ask(server, some(40), max_concurrency=1)
    assert len(server.asked) == 2, "with the schema and without it"
    assert not answered(tmp_path / "new" / "journal.jsonl")


@pytest.mark.parametrize("fault, why", [
    ("malformed", "not in the form"), ("length", "cut off by max_tokens"),
])  # fmt: skip
def test_a_malformed_answer_is_asked_for_once_more_and_then_a_reason(ask, tmp_path, fault, why):
    with FakeOpenAI(faults=[fault], always={"text 2": fault}, tokens=(10, 10)) as server:
        answers = ask(server, some(4), max_concurrency=1)
        assert len(server.billed) == 4 + 2, "one for k0, one for k2"
        assert [key for key in answers if answers[key].reason] == ["k2"]
        assert answers["k2"].reason.startswith(f"malformed twice ({why}") and answers["k2"].text
        asked = [body["max_tokens"] for body in server.asked if body["messages"][1]["content"] == "text 2"]
        assert asked == [1024, 2048 if fault == "length" else 1024], "the same limit would cut it off again"
        assert ask(server, some(4), max_cost_usd=0.0) == answers
    assert teacher.summary(tmp_path / "new" / "journal.jsonl")["usd"] == pytest.approx(server.usd(2.5, 10))


def test_a_malformed_answer_is_remembered_by_the_next_run(ask, tmp_path):
    with FakeOpenAI(always={"text 1": "malformed"}, refuse_after=2) as server:
        with pytest.raises(teacher.TeacherError):
            ask(server, some(4), max_concurrency=1)
        server.refuse_after = None
        assert ask(server, some(4))["k1"].reason and len(server.billed) == 3 + 2


def test_a_longer_limit_is_remembered_by_the_next_run(ask):
    """The answer was cut off at 1024 tokens; the next run asked for as many and paid for the same cut once more."""
    with FakeOpenAI(faults=["length"], refuse_after=1) as server:
        with pytest.raises(teacher.TeacherError):
            ask(server, some(1))
        server.refuse_after = None
        assert not ask(server, some(1))["k0"].reason
    assert [body["max_tokens"] for body in server.asked] == [1024, 2048, 2048]


@pytest.mark.parametrize("text", ['{"pairs": [{"q": "\\ud83d Why?"}]}', '{"pairs": [{"q": "\ud83d Why?"}]}'])
def test_half_an_emoji_in_an_answer_is_a_question_mark(ask, tmp_path, text):
    """UTF-8 cannot hold it: written to a file, it ended the run, and every rerun of the paid journal."""
    with FakeOpenAI(reply=lambda body: text, tokens=(10, 10)) as server:
        answer = ask(server, some(1))["k0"]
    assert len(server.billed) == 1 and not answer.reason
    assert [*all_json(answer.text)] == [{"pairs": [{"q": "? Why?"}]}]


def test_the_caller_may_say_what_is_readable(ask):
    with FakeOpenAI(reply=lambda body: "Q: Why?\nA: Because.") as server:
        assert not ask(server, some(1), readable=lambda text: text.startswith("Q:"))["k0"].reason
    assert len(server.asked) == 1


def test_prose_or_a_fence_around_the_json_is_not_malformed(ask):
    with FakeOpenAI(reply=lambda body: 'Here:\n```json\n{"pairs": []}\n```') as server:
        assert not ask(server, some(1))["k0"].reason
    assert len(server.asked) == 1


@pytest.mark.parametrize("choice, says", [
    ({"message": {"content": None, "refusal": "I cannot help with that."}, "finish_reason": "stop"}, "cannot help"),
    ({"message": {"content": ""}, "finish_reason": "content_filter"}, "filtered"),
])  # fmt: skip
def test_a_refusal_is_a_reason_that_was_paid_for_once(ask, tmp_path, choice, says):
    with FakeOpenAI(reply=lambda body: choice, tokens=(100, 5)) as server:
        answer = ask(server, some(1))["k0"]
        assert answer.reason.startswith("refused (") and says in answer.reason and answer.text == ""
        assert ask(server, some(1), max_cost_usd=0.0)["k0"] == answer
    assert len(server.billed) == 1 and answer.cost_usd == pytest.approx(server.usd(2.5, 10))


def test_a_request_that_alone_keeps_failing_is_a_reason_and_the_next_run_asks_again(ask, monkeypatch):
    monkeypatch.setattr(teacher, "TRIES", 3)
    with FakeOpenAI(always={"text 2": 503}) as server:
        answers = ask(server, some(4), max_concurrency=1)
        assert [key for key in answers if answers[key].reason] == ["k2"] and answers["k3"].text
        assert answers["k2"].reason.startswith("failed (") and "after 3 tries" in answers["k2"].reason
        server.always = {}
        assert not ask(server, some(4))["k2"].reason and len(server.billed) == 4


def test_a_page_in_the_middle_passes(ask):
    """A gateway's HTML page with status 200, after the server has shown that it is the right one."""
    with FakeOpenAI(faults=[None, "not_json", None, "cut"]) as server:
        assert len(ask(server, some(4), max_concurrency=1)) == 4


FAULTS = {429: 0.10, 500: 0.05, "drop": 0.01, "drop_billed": 0.01, "malformed": 0.03}


@pytest.mark.parametrize("seed", range(3))
def test_every_request_ends_whatever_fails_and_none_is_paid_twice_but_the_malformed(ask, tmp_path, seed):
    with FakeOpenAI(rates=FAULTS, seed=seed, retry_after="0.01", delay=0.002) as server:
        answers = ask(server, some(300), max_concurrency=16)
    assert all(answer.text for answer in answers.values()) and len(answers) == 300
    malformed = Counter(row["key"] for row in rows(tmp_path) if row["finish_reason"] == "malformed")
    twice = [answer.reason for answer in answers.values() if answer.reason]
    for text, times in Counter(server.handed).items():
        key = text.replace("text ", "k")
        assert times == 1 + malformed[key], f"{key} was answered {times} times"
    assert malformed and all(reason.startswith("malformed twice") for reason in twice)
    assert {429, "drop", "malformed"} <= set(server.given), "the faults were not there"
    found = teacher.summary(tmp_path / "new" / "journal.jsonl")
    assert found["usd"] - found["usd_lost"] <= server.usd(2.5, 10) <= found["usd"]
    assert found["lost"] == server.given["drop"] + server.given["drop_billed"]


def test_a_429_pauses_all_senders(ask):
    """The others would have sent all the rest in this time."""
    with FakeOpenAI(faults=[None] * 6 + [429], retry_after="1.0", delay=0.01) as server:
        ask(server, some(40), max_concurrency=4)
    assert server.times[7 + 4] - server.times[6] >= 1.0, "up to three were on their way when it came"


def test_concurrency_shrinks_with_429_and_grows_again(ask):
    """Six of them take 16 to about 6; after that, two rounds of answers give one more.

    The barriers open only when that many are in flight together, however slow the machine is.
    """
    barriers = {20: threading.Barrier(12), 380: threading.Barrier(12)}

    def reply(body):
        for last, barrier in barriers.items():
            if last - 12 <= int(body["messages"][1]["content"].split()[1]) < last:
                barrier.wait(timeout=30)
        return qa_reply(body)

    faults = [None] * 48 + [429, *[None] * 16] * 6
    with FakeOpenAI(faults=faults, reply=reply, retry_after="0.05", delay=0.02) as server:
        assert len(ask(server, some(400), max_concurrency=16)) == 400
    assert max(server.flights[48 + 5 * 17 + 4 :][:8]) <= 9
    assert not any(barrier.broken for barrier in barriers.values())


def test_a_limit_of_requests_a_minute_costs_no_request(ask):
    """20 a second, of which the first 32 in flight take more than there are."""
    with FakeOpenAI(requests_per_minute=1200, delay=0.1) as server:
        answers = ask(server, some(80), max_concurrency=32)
    assert (
        server.limited and len(server.billed) == 80 and not any(answer.reason for answer in answers.values())
    )
    assert server.limited < 80, "it knocks and knocks instead of waiting"


@pytest.mark.parametrize("header", ["soon", "", "Thu, 01 Jan 1970 00:16:50 GMT"])
def test_a_retry_after_that_is_no_number_is_none(ask, header):
    with FakeOpenAI(faults=[429], retry_after=header) as server:
        assert ask(server, some(1))["k0"].text and len(server.asked) == 2


def test_a_killed_run_is_counted_and_reported(ask, tmp_path, capsys):
    """What was sent and never came back may have been billed: it counts as spent, and as lost."""
    path = tmp_path / "new" / "journal.jsonl"
    with FakeOpenAI(tokens=(40, 1000)) as server:
        ask(server, some(3, max_tokens=1000), max_concurrency=1)
        lines = path.read_text().splitlines()
        assert [json.loads(line)["finish_reason"] for line in lines] == ["sent", "stop"] * 3
        most = json.loads(lines[0])["cost_usd"]
        path.write_text("\n".join([*lines[:2], lines[2], lines[4]]) + "\n")  # killed with two in flight
        assert teacher.summary(path)["lost"] == 2
        real = json.loads(lines[1])["cost_usd"]
        assert teacher.summary(path)["usd"] == pytest.approx(real + 2 * most)
        with pytest.raises(teacher.BudgetReached):
            ask(server, some(3, max_tokens=1000), max_cost_usd=real + 2 * most + 0.001)
        said = capsys.readouterr().out
        assert "in flight when the last run ended: 2." in said and f"${2 * most:.4f}" in said
        ask(server, some(3, max_tokens=1000))
    found = teacher.summary(path)
    assert "in flight" not in capsys.readouterr().out, "reported twice"
    assert (found["requests"], found["answers"], found["lost"], found["calls"]) == (3, 3, 2, 5)
    assert found["usd"] == pytest.approx(3 * real + 2 * most) and found["usd_lost"] == pytest.approx(2 * most)
    assert server.usd(2.5, 10) <= found["usd"]


@pytest.mark.parametrize("seed", range(4))
def test_the_budget_holds_to_the_cent_among_faults(ask, tmp_path, seed):
    """What the server bills, connections lost after the bill included, never exceeds max_cost_usd."""
    rates = FAULTS | {"drop_billed": 0.05, "length": 0.03}
    with FakeOpenAI(tokens=(40, 1000), rates=rates, seed=seed, retry_after="0.01", delay=0.002) as server:
        for budget in (0.3, 0.5):
            with pytest.raises(teacher.BudgetReached):
                ask(server, some(300, max_tokens=1000), max_cost_usd=budget, max_concurrency=32)
            found = teacher.summary(tmp_path / "new" / "journal.jsonl")
            assert server.usd(2.5, 10) <= found["usd"] <= budget
            assert found["usd"] > budget - 0.03, "the budget was left lying"


@pytest.mark.parametrize(
    "fault, says", [(404, "/v1"), (403, "may not use"), ("quota", "credit"), ("not_json", "/v1")]
)
def test_permanent_failures_are_not_retried(ask, fault, says):
    with FakeOpenAI(faults=[fault] * 2) as server:
        with pytest.raises(teacher.TeacherError, match=f"'gpt-4o' at 127.0.0.1 failed on 'k0'.*{says}"):
            ask(server, some(1))
    # a 404 may mean that no provider takes the schema; a page, that a gateway is not awake yet
    assert len(server.asked) == 1 + (fault in (404, "not_json"))


def test_a_broken_body_in_the_first_round_ends_nothing(ask):
    with FakeOpenAI(faults=["cut", "not_json"], delay=0.2) as server:  # both arrive before any answer
        assert all(answer.text for answer in ask(server, some(8)).values())
    assert len(server.asked) == 8 + 2


@pytest.mark.parametrize("status, says, fix", [
    (404, "model 'gpt-4o' not found, try pulling it first", "Choose a teacher_model that the server has"),
    (404, "Not Found", "usually ends in /v1"), (402, "Insufficient credits", "Add credit"),
    (400, "Your organization must be verified", "No request has worked yet"),
])  # fmt: skip
def test_a_refusal_says_the_servers_sentence_and_what_follows_from_it(ask, status, says, fix):
    """Not a guess about /v1 under what is about the model."""
    with FakeOpenAI(answer_with=lambda body: (status, an_error(says))) as server:
        with pytest.raises(teacher.TeacherError, match=f"failed on 'k0': {status} {says}. .*{fix}") as caught:
            ask(server, some(1))
    assert ("/v1" in str(caught.value)) == ("/v1" in fix)


def test_it_works_inside_a_running_event_loop(ask):
    async def notebook(server):
        return ask(server, some(3))

    with FakeOpenAI() as server:
        assert len(asyncio.run(notebook(server))) == 3


def test_an_interrupt_keeps_what_is_in_flight_and_sends_no_more(ask, tmp_path, monkeypatch):
    class Interrupted(teacher.ThreadPoolExecutor):
        def submit(self, *call):
            future = super().submit(*call)

            def result():
                while not server.in_flight:
                    pass
                raise KeyboardInterrupt

            future.result = result
            return future

    monkeypatch.setattr(teacher, "ThreadPoolExecutor", Interrupted)
    with FakeOpenAI(delay=0.1) as server:
        with pytest.raises(KeyboardInterrupt):
            ask(server, some(20), max_concurrency=2)
    assert len(rows(tmp_path)) == len(server.billed) <= 2 and len(journal(tmp_path)) == 2 * len(
        rows(tmp_path)
    )


def test_the_key_is_in_no_message_no_journal_and_no_output(ask, tmp_path, monkeypatch, capfd):
    secret = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    with FakeOpenAI() as server, pytest.raises(teacher.TeacherError) as caught:
        ask(server, some(2))  # the server repeats the wrong key in its message
    assert "Incorrect API key" in str(caught.value)
    printed = "".join(capfd.readouterr())
    everything = "".join(traceback.format_exception(caught.value)) + printed
    assert secret not in everything and "sk-very" not in everything
    assert "gpt-4o" in printed, "the progress bar is missing"


def test_a_server_of_your_own_needs_no_key_and_no_proxy(ask, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with FakeOpenAI(key="not-needed") as server:
        answer = ask(server, some(1), model="gemma3:4b", max_cost_usd=0.0)["k0"]
    assert answer.cost_usd == 0 and answer.model == "gemma3:4b"


def test_openai_needs_a_key_and_says_where(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(runtime.MissingSecret, match="OPENAI_API_KEY"):
        teacher.ask_all(some(1), tmp_path / "j", model="gpt-4o", response_model=Pairs, max_cost_usd=1)


@pytest.mark.parametrize("url, own", [
    ("http://localhost:11434/v1", True), ("http://127.0.0.1:8000/v1", True), ("http://[::1]:8000/v1", True),
    ("http://host.docker.internal:1/v1", True), ("https://api.openai.com/v1", False),
    ("https://127.0.0.1.example.com/v1", False), ("http://192.168.1.5:11434/v1", True), ("http://gpubox:8000/v1", True),
    ("http://10.1.2.3/v1", True), ("http://nas.local/v1", True), ("http://8.8.8.8/v1", False), ("", False),
    ("http://localhost.:1/v1", True), ("http://box.lan/v1", True), ("http://box.home.arpa/v1", True),
    ("http://127.1:8/v1", True),
    ("http://172.32.0.1/v1", False), ("http://[2606:4700::1111]/v1", False), ("https://api.together.xyz/v1", False),
])  # fmt: skip
def test_which_servers_are_ones_own(url, own):
    assert prices.is_own(url) is own


def test_estimate(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    requests = [teacher.Request("a", "s" * 400, "u" * 3600, 500)] * 10
    found = teacher.estimate(requests, "gpt-4o")
    assert (found["calls"], found["prompt_tokens"], found["completion_tokens"]) == (10, 10_000, 5_000)
    assert found["usd"] == pytest.approx(0.075)
    assert teacher.estimate(requests, "gpt-6-luna")["completion_tokens"] == 45_000, "no room to think"


@pytest.mark.parametrize("url, model, price", [
    ("https://api.openai.com/v1", "gpt-4o", (2.5, 10)), ("https://api.openai.com/v1", "gpt-6-luna", (0.125, 0.5)),
    ("https://openrouter.ai/api/v1", "openai/gpt-4o", (2.5, 10)),
    ("https://api.groq.com/openai/v1", "llama-3.3-70b-versatile", (0.59, 0.79)),
    ("https://me.openai.azure.com/openai/v1", "gpt-4o", (2.5, 10)),
    ("https://api.mistral.ai/v1", "mistral-small-latest", (0.15, 0.6)),
    ("https://generativelanguage.googleapis.com/v1beta/openai/", "gemini-2.5-flash", (0.3, 2.5)),
    ("http://localhost:4000/v1", "gpt-4o", (2.5, 10)), ("http://gateway:4000/v1", "xai/grok-4", (3, 15)),
    ("http://localhost:4000/v1", "anthropic/claude-sonnet-4-5", (3.75, 15)),
    ("http://localhost:4000/v1", "gemini/gemini-2.5-flash", (0.3, 2.5)),
    ("https://openrouter.ai/api/v1", "google/gemini-2.5-flash", (0.3, 2.5)),
    ("https://api.deepseek.com", "deepseek-chat", (0.27, 1.1)),
    ("https://llm.example.com/v1", "gpt-4o", (2.5, 10)),
    ("http://localhost:8080/v1", "openai/gpt-oss-20b", (0, 0)),
    ("http://localhost:8080/v1", "gpt-oss-20b", (0, 0)), ("http://100.101.1.2/v1", "gemma3:4b", (0, 0)),
])  # fmt: skip
def test_prices_of_large_providers_and_none_at_home(monkeypatch, url, model, price):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    assert prices.price(model) == pytest.approx(price)


@pytest.mark.parametrize("url, model", [
    ("https://api.openai.com/v1", "gpt-99"), ("https://openrouter.ai/api/v1", "me/mine"),
    ("http://8.8.8.8/v1", "gemma3:4b"), ("https://llm.example.com/v1", "mine"),
])  # fmt: skip
def test_a_paid_model_without_a_price_is_refused_before_the_first_call(monkeypatch, tmp_path, url, model):
    """As soon as OPENAI_BASE_URL was set, gpt-5 cost "$0.00" at OpenAI itself, and max_cost_usd held nothing."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ValueError, match=f"No price is known for '{model}' at .*teacher_price = "):
        teacher.estimate(some(1), model)
    with pytest.raises(ValueError, match="No price is known"):
        teacher.ask_all(some(1), tmp_path / "j", model=model, response_model=Pairs, max_cost_usd=1)
    assert not (tmp_path / "j").exists(), "something was sent"
    monkeypatch.setattr(prices, "PRICES", {})
    prices.use(model, None)
    for price in ("0.25", "12", [-1, 2], [float("nan"), 1], "[0.25]"):
        with pytest.raises(ValueError, match="must be two numbers.*0.25, 2.0"):
            prices.use(model, price)
    prices.use(model, "[0.25, 2.0]")  # as papermill's -p gives it
    assert prices.price(model) == (0.25, 2.0)
    prices.use(model, [1, "2"])
    assert teacher.estimate(some(1, max_tokens=10**6), model)["usd"] == pytest.approx(2.0, abs=0.01)


PROVIDERS = {"message": "Provider returned error", "code": 429, "metadata": {"raw": "Too Many Requests"}}
UPSTREAM = {
    "message": {"content": ""},
    "finish_reason": "error",
    "error": {"message": "Upstream", "code": 502},
}


@pytest.mark.parametrize("status, body, says, code", [
    (404, {"error": {"message": "The model `x` is not", "code": "not_found"}}, "404 The model", "not_found"),
    (404, {"error": "model 'x' not found"}, "404 model 'x' not found", ""),
    (404, {"detail": "Not Found"}, "404 Not Found", ""),
    (400, [{"error": {"code": 400, "message": "API key not valid"}}], "400 API key not valid", "400"),
    (400, {"object": "error", "message": "too long", "code": 400}, "400 too long", ""),
    (422, {"detail": [{"msg": "extra fields"}]}, "422 [{'msg': 'extra fields'}]", ""),
    (502, "<html>Bad", "502 <html>Bad", ""), (502, "", "502 without", ""),
    (200, {"choices": None, "error": PROVIDERS}, "429 Provider returned error: Too Many Requests", "429"),
    (200, {"choices": [UPSTREAM]}, "502 Upstream", "502"), (200, {"choices": []}, "200 without a chat completion", ""),
    (200, {"message": {"content": "Ollama's own"}}, "200 without", ""), (200, None, "200 without", ""),
    (200, "<html>", "200 without a chat completion: '<html>'", ""), (200, [], "200 without", ""),
])  # fmt: skip
def test_an_error_keeps_the_words_of_its_server(status, body, says, code):
    for sent in (body, body if isinstance(body, str) else json.dumps(body)):
        reply = read_reply(status, sent)
        assert reply.problem.startswith(says) and reply.code == code and not reply.text


def test_a_journal_row_is_an_answer_and_so_is_one_of_an_older_journal(ask, tmp_path):
    with FakeOpenAI(reply=lambda body: '{"pairs": [{"question": "Ünïcode 答"}]}') as server:
        answers = ask(server, some(1))
    assert Answer(**rows(tmp_path)[0]) == answers["k0"]
    path = tmp_path / "new" / "journal.jsonl"
    files.write_jsonl(path, [{name: rows(tmp_path)[0][name] for name in list(rows(tmp_path)[0])[:-1]}])
    assert answered(path) == answers


def test_the_key_is_in_no_reason_and_in_no_journal(ask, tmp_path):
    """A careless server repeats the key in its messages."""
    with FakeOpenAI(faults=[None, 500], always={"text 3": 400}) as server:
        answers = ask(server, some(5), max_concurrency=1)
    assert "no, not even with the key [OPENAI_API_KEY]" in answers["k3"].reason
    assert KEY not in (tmp_path / "new" / "journal.jsonl").read_text()


# What servers of today send; each stands for a kind.


def an_error(message: str, code: str | int | None = None) -> dict:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def a_choice(content, why: str = "stop", **more) -> dict:
    return {"message": {"content": content, **more}, "finish_reason": why}


def test_a_model_that_wants_max_completion_tokens_gets_it_from_then_on(ask):
    says = an_error(
        "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    )
    with FakeOpenAI(answer_with=lambda body: (400, says) if "max_tokens" in body else None) as server:
        answers = ask(server, some(6), max_concurrency=2)
    assert len(answers) == 6 and not any(answer.reason for answer in answers.values())
    assert sum("max_tokens" in body for body in server.asked) <= 2 and len(server.billed) == 6


@pytest.mark.parametrize("model, name", [("gpt-5-mini", "max_completion_tokens"), ("o3", "max_completion_tokens"),
    ("openai/gpt-5", "max_completion_tokens"), ("gpt-4o", "max_tokens"), ("gemma3:4b", "max_tokens")])  # fmt: skip
def test_the_limit_has_the_name_that_the_model_knows(model, name):
    """Live and in a batch, whose every line would be refused."""
    assert most(Wants(model).body(some(1, max_tokens=7)[0], {}))[1] >= 7


@pytest.mark.parametrize(
    "content",
    [
        '<think>\nA draft: {"pairs": [{"question": "draft"}]}\n</think>\n\n{"pairs": [{"question": "real"}]}',
        'A draft: {"pairs": [{"question": "draft"}]}\n</think>{"pairs": [{"question": "real"}]}',
        [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": '{"pairs": [{"question": "real"}]}'},
        ],
        '[THINK]{"pairs": [{"question": "draft"}]}[/THINK]{"pairs": [{"question": "real"}]}',
        '<|channel|>analysis<|message|>{"a": 1}<|end|><|channel|>final<|message|>{"pairs": [{"question": "real"}]}',
        '<seed:think>{"a": 1}</seed:think>{"pairs": [{"question": "real"}]}',
    ],
    ids=["thinking", "its beginning is in the prompt", "parts", "Magistral", "gpt-oss", "Seed"],
)
def test_a_draft_in_the_thinking_is_not_the_answer(ask, content):
    with FakeOpenAI(reply=lambda body: a_choice(content), tokens=(9, 9)) as server:
        (answer,) = ask(server, some(1)).values()
    assert [*all_json(answer.text)] == [{"pairs": [{"question": "real"}]}] and not answer.reason


def test_thoughts_that_a_server_counts_apart_are_paid_for_and_named():
    """As Gemini and Grok do: the total is more than what was asked and answered."""
    usage = {"prompt_tokens": 900, "completion_tokens": 60, "total_tokens": 1896}
    reply = read_reply(200, {"choices": [a_choice("{", "length")], "usage": usage})
    assert reply.tokens == (900, 996) and "its thinking took a part" in reply.cut_off
    usage["total_tokens"] = 960
    assert read_reply(200, {"choices": [a_choice("{}")], "usage": usage}).tokens == (900, 60)


def test_an_error_in_a_200_is_that_error(ask):
    busy = {"id": None, "choices": None, "usage": None} | an_error("Provider returned error", 429)
    bodies = [busy, busy]
    with FakeOpenAI(answer_with=lambda body: (200, bodies.pop()) if bodies else None) as server:
        answers = ask(server, some(3))
    assert len(answers) == 3 == len(server.billed)
    with FakeOpenAI(answer_with=lambda body: (200, an_error("No credits left", 402))) as server:
        with pytest.raises(teacher.TeacherError, match="No credits left"):
            ask(server, [teacher.Request("other", "You are a teacher.", "text")])


def test_json_that_the_server_could_not_make_is_asked_again(ask):
    failed = [an_error("Failed to generate JSON. Please adjust your prompt.", "json_validate_failed")]
    with FakeOpenAI(answer_with=lambda body: (400, failed.pop()) if failed else None) as server:
        answers = ask(server, some(3))
    assert [answer.reason for answer in answers.values()] == ["", "", ""]


TURN = "<|channel|>final <|constrain|>json<|message|>"


@pytest.mark.parametrize("begin, end", [
    ("<|channel|>analysis<|message|>", TURN), ("<thought>", "</thought>"), ("<reasoning>", "</reasoning>"),
    ("◁think▷", "◁/think▷"), ("<THINK>", "</THINK>"),
])  # fmt: skip
def test_thoughts_in_other_marks_are_no_answer(begin, end):
    thought = read_reply(200, {"choices": [a_choice(f'{begin}{{"a": 1}}{end}{{"pairs": []}}')]})
    assert thought.text == '{"pairs": []}' and not read_reply(200, {"choices": [a_choice(begin + "{}")]}).text


@pytest.mark.parametrize("choice, said", [
    (a_choice("{", "MAX_TOKENS"), "cut off by max_tokens"),
    (a_choice(None, reasoning_content="{}"), "reasoning_content"),
])  # fmt: skip
def test_why_an_answer_is_not_whole_is_named(ask, choice, said):
    with FakeOpenAI(reply=lambda body: choice) as server:
        assert said in ask(server, some(1))["k0"].reason


TOKENS = {"prompt_tokens": 9, "completion_tokens": 5}


@pytest.mark.parametrize("choice, usage, tokens", [
    (a_choice(['{"pairs": []}']), TOKENS, (9, 5)), (a_choice([{"text": {"value": '{"pairs": []}'}}]), TOKENS, (9, 5)),
    (a_choice('{"pairs": []}'), {"prompt_tokens": "9", "completion_tokens": 5.0, "total_tokens": "14"}, (9, 5)),
    (a_choice('{"pairs": []}'), TOKENS | {"total_tokens": "many", "completion_tokens_details": [1]}, (9, 5)),
    (a_choice('{"pairs": []}'), [1], None),
    (a_choice('{"pairs": []}'), {"prompt_tokens": 0, "completion_tokens": 0}, None),
    (a_choice('{"pairs": []}'), {"prompt_tokens": -1, "completion_tokens": -1}, None),
])  # fmt: skip
@pytest.mark.parametrize("before", ["", "\ufeff", ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"])
def test_an_answer_in_an_odd_form_is_read(choice, usage, tokens, before):
    """Each was paid for, thrown away, and paid for again."""
    reply = read_reply(200, before + json.dumps({"choices": [choice], "usage": usage}))
    assert reply.text == '{"pairs": []}' and reply.tokens == tokens and not reply.problem


@pytest.mark.parametrize(
    "choice", [{"finish_reason": "content_filter"}, a_choice(None, "content_filter") | {"message": None}]
)
def test_a_filtered_answer_without_a_message_is_a_refusal(choice):
    assert "filtered" in read_reply(200, {"choices": [choice]}).refused


@pytest.mark.parametrize(
    "text", ['{"pairs": ' + "[" * 3000, '{"pairs": [{"n": ' + "9" * 5000, '{"a":' * 3000]
)
def test_a_looping_answer_is_malformed_and_never_an_error(ask, text):
    with FakeOpenAI(reply=lambda body: text) as server:
        assert ask(server, some(1))["k0"].reason.startswith("malformed twice")
    assert not any(all_json(text)) and read_reply(200, text).problem


def test_a_line_break_in_a_text_of_the_json_is_read():
    assert [*all_json('{"a": "b\n\tc"}')] == [{"a": "b\n\tc"}]


@pytest.mark.parametrize("status, says", [
    (400, an_error("Your credit balance is too low to access the Anthropic API.")),
    (400, an_error("Billing hard limit has been reached", "billing_hard_limit_reached")),
    (400, an_error("Budget has been exceeded! Current cost: 1.2", "400")), (400, [an_error("API key expired.", 400)]),
    (400, an_error("User location is not supported for the API use.")), (429, an_error("x", "billing_not_active")),
    (429, an_error("Rate limit exceeded: free-models-per-day", 429)),
])  # fmt: skip
def test_what_is_about_the_account_stops_and_the_rerun_asks_again(ask, status, says):
    """A 400 in the middle refused each remaining chunk for good; a daily limit was knocked at once a second."""
    poor = []
    with FakeOpenAI(answer_with=lambda body: (status, says) if poor else None) as server:
        ask(server, some(2))
        poor.append(True)
        with pytest.raises(teacher.TeacherError, match="dd credit"):
            ask(server, some(9), max_concurrency=1)
        assert len(server.asked) == 3
        poor.clear()
        assert not any(answer.reason for answer in ask(server, some(9)).values())
    assert len(server.billed) == 9


@pytest.mark.parametrize("status, says", [
    (403, an_error("gpt-4o requires moderation. Your input was flagged", 403)), (413, "<html>Request Entity Too Large"),
    (400, an_error("The prompt triggered the content management policy", "content_filter")),
    (400, an_error("This model's maximum context length is 8192 tokens.", "context_length_exceeded")),
])  # fmt: skip
def test_what_is_about_one_text_refuses_it_and_stops_nothing(ask, status, says):
    """Also when it is the first."""

    def refuse(body):
        return (status, says) if "text 0" in body["messages"][-1]["content"] else None

    with FakeOpenAI(answer_with=refuse) as server:
        answers = ask(server, some(4), max_concurrency=1)
        assert [key for key in answers if answers[key].reason.startswith(f"refused ({status}")] == ["k0"]
        assert len(server.asked) == 4 and ask(server, some(4), max_cost_usd=0.0) == answers


@pytest.mark.parametrize("status, says", [
    (400, [an_error("Developer instruction is not enabled for models/gemma-3-27b-it", 400)]),
    (400, an_error("System role not supported")), (500, an_error("System role not supported", 500)),
    (400, an_error("Unsupported value: 'messages[0].role' does not support 'system' with this model.")),
])  # fmt: skip
def test_a_model_without_a_system_role_gets_one_message(ask, status, says):
    def picky(body):
        return (status, says) if body["messages"][0]["role"] == "system" else None

    with FakeOpenAI(answer_with=picky) as server:
        assert not any(answer.reason for answer in ask(server, some(6), max_concurrency=2).values())
        assert len(server.asked) <= 6 + 4 and len(server.billed) == 6
        server.asked.clear()
        ask(server, some(8))
    assert [len(body["messages"]) for body in server.asked] == [1, 1], "forgotten by the next run"
    assert server.asked[0]["messages"][0]["content"].startswith("You are a teacher.\n\ntext ")


@pytest.mark.parametrize("fits, reason, asked", [
    (8192, "", [1024, 12192, 6096]),
    (1500, "malformed twice (cut off by max_tokens, of", [1024, 12192, 6096, 3048, 1524, 1024]),
])  # fmt: skip
def test_more_room_than_the_model_has_is_asked_for_no_more(ask, fits, reason, asked):
    """It was refused, with the words of the server, for good."""
    says = "'max_tokens' or 'max_completion_tokens' is too large: {}. This model's maximum context length is 8192"

    def small(body):
        room = body["max_tokens"]
        if room >= fits:
            return 400, an_error(says.format(room))
        usage = {"prompt_tokens": 9, "completion_tokens": 9}
        cut = {"choices": [a_choice("", "length", reasoning_content="Hm")], "usage": usage}
        return (200, cut) if room <= 3048 else None

    with FakeOpenAI(answer_with=small) as server:
        assert ask(server, some(1))["k0"].reason.startswith(reason)
    assert [body["max_tokens"] for body in server.asked] == asked


@pytest.mark.parametrize("broken", [a_choice(""), a_choice('{"pairs": [\n\n\n', "length")])
def test_a_schema_that_breaks_each_answer_is_given_up(ask, broken):
    def reply(body):
        return broken if "response_format" in body else qa_reply(body)

    with FakeOpenAI(reply=reply) as server:
        assert not any(answer.reason for answer in ask(server, some(9), max_concurrency=1).values())
    assert len(server.billed) == 9 + 2, "two chunks are paid for twice, and then it is known"


@pytest.mark.parametrize("status", [424, 498, 499])
def test_more_statuses_that_pass(ask, status):
    with FakeOpenAI(faults=[None, status]) as server:
        assert not any(answer.reason for answer in ask(server, some(3), max_concurrency=1).values())


@pytest.mark.parametrize("status, body, fix", [
    (404, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, "ends in /v1"),
    (404, an_error("The API deployment for this resource does not exist.", "DeploymentNotFound"),
     "Choose a teacher_model"),
])  # fmt: skip
def test_a_wrong_address_and_a_missing_deployment_are_told_apart(ask, status, body, fix):
    with FakeOpenAI(answer_with=lambda _: (status, body)) as server:
        with pytest.raises(teacher.TeacherError, match=fix):
            ask(server, some(1))


def test_the_address_is_looked_for_as_the_key_is(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert prices.base_url() == prices.OPENAI
    (tmp_path / ".env").write_text("OPENAI_BASE_URL=http://localhost:11434/v1 \n")
    assert prices.base_url() == "http://localhost:11434/v1"
    for wrong in ("localhost:11434/v1", "http:///v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", wrong)
        with pytest.raises(ValueError, match=f"OPENAI_BASE_URL is '{wrong}': it must begin as http://"):
            prices.base_url()


@pytest.mark.parametrize(
    "choice", [a_choice("", "length", reasoning_content="Hm"), a_choice("<think>Hm", "length")]
)
def test_thinking_that_uses_up_the_answer_gets_far_more_room_and_is_named(ask, choice):
    with FakeOpenAI(reply=lambda body: choice) as server:
        (answer,) = ask(server, some(1, max_tokens=600)).values()
    assert [body["max_tokens"] for body in server.asked] == [600, 8800]
    assert answer.reason == "malformed twice (cut off by max_tokens, of which its thinking took a part)"


@pytest.mark.parametrize("status", [500, 501, 503])
def test_a_schema_that_fails_whatever_the_status_ends_in_plain_text(ask, status):
    says = an_error("failed to load model vocabulary required for format")
    with FakeOpenAI(answer_with=lambda body: (status, says) if "response_format" in body else None) as server:
        answers = ask(server, some(20), max_concurrency=4)
    assert len(answers) == 20 == len(server.billed) and len(server.asked) <= 50


def test_usage_that_lacks_a_half_counts_as_the_most(ask):
    usage = {"prompt_tokens": 900}
    body = {"choices": [a_choice('{"pairs": []}') | {"index": 0}], "usage": usage}
    with FakeOpenAI(answer_with=lambda _: (200, body)) as server:
        (answer,) = ask(server, some(1)).values()
    assert answer.completion_tokens == 1024 and not answer.reason
