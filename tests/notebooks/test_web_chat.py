"""The chat page in a real browser, and notebook 07 with web_chat=True, which must not wait for visitors."""

from __future__ import annotations

import re
import time

import papermill
import psutil
import pytest
from playwright.sync_api import expect

from helpers.core import files
from helpers.prove import chat, chat_page
from tests.notebooks.test_runs import REPOSITORY, text

PATIENCE = 120_000  # milliseconds; the tests wait for what they expect to see, this is when they give up


@pytest.fixture(scope="module")
def served(tuned):
    page = chat_page.open_page(*tuned, max_new_tokens=24, seed=7)
    yield page
    page.close()


@pytest.fixture
def tab(browser, served):
    tab = browser.new_page()
    tab.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    tab.asked_for = []
    tab.on("request", lambda request: tab.asked_for.append(request.url))
    tab.goto(served.local_url)
    expect(tab.get_by_label("Your question")).to_be_visible()
    yield tab
    tab.close()


def ask(tab, question: str) -> None:
    tab.get_by_label("Your question").fill(question)
    tab.get_by_role("button", name="Ask", exact=True).click()
    expect(tab.locator(".question").first).to_have_text(question.strip())


def card(tab, name: str, turn: int = 0):
    """The newest turn is number 0."""
    return tab.locator(".turn").nth(turn).locator(f".answer.{name}")


def answered(tab) -> None:
    for name in chat_page.NAMES:
        expect(card(tab, name)).to_contain_text("stopped")
    expect(tab.get_by_role("button", name="Ask", exact=True)).to_be_enabled()


def setting(tab, label: str, value: float) -> None:
    number = tab.get_by_label(f"number input for {label}")
    if not number.is_visible():
        tab.locator("#settings button").first.click()
        expect(number).to_be_visible()
        tab.wait_for_timeout(500)  # just after it has opened them, Gradio writes the first values once more
    number.fill(str(value))
    number.press("Tab")
    tab.wait_for_timeout(100)
    expect(number).to_have_value(str(value))


def test_both_answers_stream_in_and_a_second_question_keeps_the_first(tab, tuned):
    tab.evaluate(
        """() => { window.seen = new Set(); new MutationObserver(() => {
            for (const note of document.querySelectorAll('.answer .note'))
                window.seen.add(note.parentElement.className + ': ' + note.textContent);
        }).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""
    )
    ask(tab, "Why?")
    answered(tab)
    for name in chat_page.NAMES:
        states = [state for state in tab.evaluate("[...window.seen]") if f" {name}: " in state]
        assert len([state for state in states if "a second" in state and "stopped" not in state]) > 1, states
        expect(card(tab, name)).to_contain_text("24 tokens")
        expect(card(tab, name)).to_contain_text("stopped at max_new_tokens")
    first = {name: card(tab, name).locator(".text").inner_text() for name in chat_page.NAMES}
    assert first["tuned"] != first["base"] and all(first.values())

    ask(tab, "How come?")
    answered(tab)
    assert tab.locator(".question").all_inner_texts() == ["How come?", "Why?"]
    assert {name: card(tab, name, 1).locator(".text").inner_text() for name in chat_page.NAMES} == first

    ask(tab, "Why?")
    answered(tab)
    assert {name: card(tab, name).locator(".text").inner_text() for name in chat_page.NAMES} == first, (
        "same seed"
    )
    tab.get_by_role("button", name="Clear").click()
    expect(tab.locator(".turn")).to_have_count(0)


def test_the_page_speaks_to_nobody_but_this_machine(tab, served):
    ask(tab, "Why?")
    answered(tab)
    hosts = {
        re.match(r"\w+://([^/:]+)", url)[1] for url in tab.asked_for if not url.startswith(("data:", "blob:"))
    }
    assert hosts == {"127.0.0.1"}
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == "LISTEN" and connection.laddr.port == served.server_port
    }
    assert listening == {"127.0.0.1"} and served.share_url is None


def test_stop_ends_the_answer_and_the_next_question_is_answered(tab, tuned):
    model, _ = tuned
    setting(tab, "Longest answer", 1000)
    slow = model.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    try:
        ask(tab, "Why?")
        expect(card(tab, "tuned")).to_contain_text("a second")
        expect(tab.get_by_role("button", name="Ask", exact=True)).to_be_disabled()
        tab.get_by_role("button", name="Stop", exact=True).click()
        answered(tab)
    finally:
        slow.remove()
    expect(card(tab, "tuned")).to_contain_text("stopped by you")
    expect(card(tab, "base")).to_contain_text("stopped by you before it began")
    assert int(re.search(r"(\d+) tokens", card(tab, "tuned").inner_text())[1]) < 1000
    setting(tab, "Longest answer", 12)
    ask(tab, "How come?")
    answered(tab)
    expect(card(tab, "base")).to_contain_text("12 tokens")


def test_a_visitor_who_leaves_does_not_keep_the_model(tab, browser, served, tuned):
    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(served.local_url)
    expect(other.get_by_label("Your question")).to_be_visible()
    setting(other, "Longest answer", 200)
    ask(other, "Why?")
    expect(card(other, "tuned")).to_contain_text("a second")
    other.close()
    ask(tab, "Why?")
    answered(tab)
    shown = {name: card(tab, name).locator(".text").inner_text() for name in chat_page.NAMES}
    assert shown["tuned"] != shown["base"], "one of them was asked of the wrong model"


def test_settings_reach_the_model_and_an_empty_question_asks_nothing(tab, tuned):
    tab.get_by_role("button", name="Ask", exact=True).click()
    expect(tab.get_by_text("Type a question first.")).to_be_visible()
    setting(tab, "Longest answer", 9)
    ask(tab, "  Why?  ")
    answered(tab)
    expect(card(tab, "tuned")).to_contain_text("9 tokens")
    *_, direct = chat.stream(*tuned, "Why?", max_new_tokens=9, seed=7)
    shown = card(tab, "tuned").locator(".text").inner_html().strip()
    assert chat_page.MARKDOWN.render(direct.text).strip()[:20] in shown


def test_an_example_fills_the_box(tab):
    tab.get_by_text(chat.QUESTIONS[2]).click()
    expect(tab.get_by_label("Your question")).to_have_value(chat.QUESTIONS[2])


def test_what_is_typed_is_shown_and_never_run(tab):
    nasty = "<img src=x onerror='document.title=1'> ${1 + 1} {{value}} & <b>bold</b>"
    ask(tab, nasty)
    answered(tab)
    assert tab.locator("#log img, #log b").count() == 0 and tab.title() == "Talk to your model"


def test_what_a_model_writes_loads_and_links_nothing():
    said = "<script>alert(1)</script> ![x](http://a.example/x.png) [y](http://a.example) **bold**\n- item"
    html = chat_page.log_html([{"question": "Why?", "tuned": chat.Answer(said, 3, 1.0, "by itself")}])
    assert "<strong>bold</strong>" in html and "<li>item" in html
    assert not re.search(r"<(script|img|a)\b", html)
    assert "3 tokens, 3.0 a second, stopped by itself" in html and "waits for its turn" in html


@pytest.mark.parametrize("width, columns", [(390, 1), (1280, 2)])
def test_the_answers_stand_side_by_side_or_one_below_the_other_on_a_phone(tab, width, columns):
    tab.set_viewport_size({"width": width, "height": 844})
    ask(tab, "Why?")
    answered(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") == width, "nothing sticks out sideways"
    left, right = (card(tab, name).bounding_box() for name in chat_page.NAMES)
    assert (left["y"] == right["y"]) == (columns == 2) and (left["x"] == right["x"]) == (columns == 1)


def test_only_share_makes_a_public_link(tuned, monkeypatch):
    launched = []
    monkeypatch.setattr(chat_page.gradio.Blocks, "launch", lambda self, **options: launched.append(options))
    monkeypatch.setattr(chat_page, "where_it_is", lambda page, share: "")
    for web_chat in (True, "share"):
        chat_page.open_page(*tuned, web_chat)
    assert [options["share"] for options in launched] == [False, True]
    assert {options["server_name"] for options in launched} == {"127.0.0.1"}
    with pytest.raises(ValueError, match="web_chat = 'Share'"):
        chat_page.open_page(*tuned, "Share")


def test_notebook_07_opens_the_page_and_goes_on(tuned, tiny_gemma, tmp_path):
    """Headless, nobody visits: the notebook ends, and the page with it."""
    model, _ = tuned
    work_dir = tmp_path / "work"
    model.peft_config["default"].base_model_name_or_path = str(tiny_gemma)
    model.save_pretrained(work_dir / "adapter")
    parameters = {
        "questions": ["Why?", "How?"],
        "max_new_tokens": 8,
        "web_chat": True,
        "work_dir": str(work_dir),
    }
    done = papermill.execute_notebook(
        str(REPOSITORY / "notebooks" / "07_chat.ipynb"),
        str(tmp_path / "out.ipynb"),
        parameters=parameters,
        cwd=str(REPOSITORY),
        progress_bar=False,
        execution_timeout=300,
    )
    said = text(done)
    assert re.search(r"Open http://127\.0\.0\.1:\d+/: the page is on this machine only\.", said)
    row, _ = files.read_jsonl(work_dir / "answers.jsonl")
    assert row["question"] == "Why?" and row["tuned"] != row["base"]
    assert "### ⚠️ 2 of 2 answers of the tuned model did not stop by themselves" in said
    assert "tokens a second" in said and "at max_new_tokens" in said
