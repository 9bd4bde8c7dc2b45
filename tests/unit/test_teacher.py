"""teacher.ask_all against a loopback server, with the real openai client."""

from __future__ import annotations

import asyncio
import json
import traceback

import pydantic
import pytest

from helpers import files, runtime, teacher
from tests.fakes.openai_api import FakeOpenAI

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
    assert not (tmp_path / "new" / "journal.jsonl").exists()


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
        paid = {row["key"] for row in rows(tmp_path)}
        assert len(paid) == len(server.billed) >= 7, "an answer that was paid for is not in the journal"
        server.refuse_after = None
        server.asked.clear()
        assert len(ask(server, some(20), max_concurrency=4)) == 20
    asked_again = {body["messages"][1]["content"].replace("text ", "k") for body in server.asked}
    assert asked_again == {f"k{n}" for n in range(20)} - paid and len(server.asked) == 20 - len(paid)


def test_a_torn_last_line_of_the_journal_is_asked_again(ask, tmp_path):
    journal = tmp_path / "new" / "journal.jsonl"
    with FakeOpenAI() as server:
        ask(server, some(3), max_concurrency=1)
        journal.write_bytes(journal.read_bytes()[:-20])
        assert len(ask(server, some(3))) == 3
    assert len(server.asked) == 4 and len(rows(tmp_path)) == 3


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
        assert len(teacher.answered(tmp_path / "new" / "journal.jsonl")) == server.answered
        assert len(ask(server, some(40, max_tokens=1000), max_cost_usd=1.0)) == 40
        assert server.answered == 40, "something was paid for twice"


def test_the_budget_counts_what_earlier_runs_of_the_journal_cost(ask):
    with FakeOpenAI(tokens=(40, 1000)) as server:
        ask(server, some(5, max_tokens=1000), max_cost_usd=0.1)
        with pytest.raises(teacher.BudgetReached):
            ask(server, some(40, max_tokens=1000), max_cost_usd=0.1)
    assert server.usd(2.5, 10.0) <= 0.1


def test_the_reserved_cost_covers_a_text_of_one_token_a_byte(ask):
    """Four characters a token would reserve 400 tokens for these 1600; Chinese text needs more."""
    with FakeOpenAI(tokens=(4800, 1)) as server:
        with pytest.raises(teacher.BudgetReached):
            ask(server, [teacher.Request("k", "", "评" * 1600, 1)], max_cost_usd=4800 * 2.5e-6)
    assert not server.asked


def test_a_server_without_schemas_is_asked_in_plain_text(ask):
    with FakeOpenAI(plain_only=True) as server:
        assert len(ask(server, some(9), max_concurrency=3)) == 9
    assert sum("response_format" in body for body in server.asked) <= 3, "it must be learnt once for all"


def test_a_400_for_another_reason_names_the_request(ask, tmp_path):
    with FakeOpenAI(refuse_text="text 4") as server:
        with pytest.raises(teacher.TeacherError, match="'k4'.*too long for the model"):
            ask(server, some(5), max_concurrency=1)
    assert all("response_format" in body for body in server.asked), "schemas had worked"
    assert len(rows(tmp_path)) == 4


@pytest.mark.parametrize(
    "fault, says", [(404, "teacher_model"), (403, "may not use"), ("quota", "credit"), ("not_json", "/v1")]
)
def test_permanent_failures_are_not_retried(ask, fault, says):
    with FakeOpenAI(faults=[fault]) as server:
        with pytest.raises(teacher.TeacherError, match=f"'gpt-4o' at 127.0.0.1 failed on 'k0'.*{says}"):
            ask(server, some(1))
    assert len(server.asked) == 1


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
    assert len(rows(tmp_path)) == len(server.billed) <= 2


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
    ("https://127.0.0.1.example.com/v1", False),
])  # fmt: skip
def test_which_servers_are_ones_own(url, own):
    assert teacher._is_own(url) is own


def test_estimate(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    requests = [teacher.Request("a", "s" * 400, "u" * 3600, 500)] * 10
    found = teacher.estimate(requests, "gpt-4o")
    assert (found["calls"], found["prompt_tokens"], found["completion_tokens"]) == (10, 10_000, 5_000)
    assert found["usd"] == pytest.approx(0.075)
    with pytest.raises(ValueError, match="'gpt-9'.*PRICES"):
        teacher.estimate(requests, "gpt-9")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert teacher.estimate(requests, "gpt-9")["usd"] == 0


def test_a_journal_row_is_an_answer(ask, tmp_path):
    with FakeOpenAI(reply=lambda body: json.dumps({"question": "Q?", "answer": "Ünïcode 答"})) as server:
        answers = ask(server, some(1))
    assert teacher.Answer(**rows(tmp_path)[0]) == answers["k0"]
