"""The chat page in a real browser, and notebook 07 with web_chat=True, which must not wait for visitors."""

from __future__ import annotations

import os
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
    for name in chat_page.PANES:
        expect(tab.locator(f"#{name}").get_by_test_id("user").last).to_have_text(question.strip())


def reply(tab, name: str, turn: int = -1):
    """One model's answer and, below it, its note: by default the newest."""
    return tab.locator(f"#{name} .bot.message").nth(turn)


def answer(tab, name: str, turn: int = -1) -> str:
    return reply(tab, name, turn).get_by_test_id("bot").first.inner_text()


def answered(tab, turns: int = 1) -> None:
    for name in chat_page.PANES:
        expect(tab.locator(f"#{name} .bot.message")).to_have_count(turns)
        expect(reply(tab, name)).to_contain_text("stopped")


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
            for (const pane of ['tuned', 'base'])
                window.seen.add(pane + document.querySelector(`#${pane} .bot.message`)?.textContent);
        }).observe(document.body, {subtree: true, childList: true, characterData: true}); }"""
    )
    ask(tab, "Why?")
    answered(tab)
    for name in chat_page.PANES:
        states = [state for state in tab.evaluate("[...window.seen]") if state.startswith(name)]
        assert len([state for state in states if "per second" in state and "stopped" not in state]) > 1, (
            states
        )
        expect(reply(tab, name)).to_contain_text("24 tokens")
        expect(reply(tab, name)).to_contain_text("stopped at max_new_tokens")
    first = {name: answer(tab, name) for name in chat_page.PANES}
    assert first["tuned"] != first["base"] and all(first.values())

    ask(tab, "How come?")
    tab.get_by_label("Your question").fill("typed meanwhile")
    answered(tab, turns=2)
    expect(tab.get_by_label("Your question")).to_have_value("typed meanwhile")
    for name in chat_page.PANES:
        assert tab.locator(f"#{name}").get_by_test_id("user").all_inner_texts() == ["Why?", "How come?"]
        assert answer(tab, name, 0) == first[name] != answer(tab, name)

    ask(tab, "Why?")
    answered(tab, turns=3)
    assert {name: answer(tab, name) for name in chat_page.PANES} == first, "same seed"
    tab.get_by_role("button", name="Clear").first.click()
    for name in chat_page.PANES:
        expect(tab.locator(f"#{name} .message")).to_have_count(0)


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


@pytest.mark.parametrize("button, turns", [("Stop", 2), ("Clear", 1)])
def test_stop_and_clear_end_the_answer_and_the_next_question_is_answered(tab, tuned, button, turns):
    model, _ = tuned
    setting(tab, "Longest answer", 1000)
    slow = model.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    try:
        ask(tab, "Why?")
        expect(reply(tab, "tuned")).to_contain_text("per second")
        tab.get_by_role("button", name=button, exact=True).first.click()
        assert chat.TURN.acquire(timeout=10), (
            "the model is busy still"
        )  # 1,000 tokens would take 20 s or more
        chat.TURN.release()
    finally:
        slow.remove()
    tab.wait_for_timeout(500)
    assert tab.locator("#tuned .bot.message").count() == turns - 1
    assert tab.locator("#base .bot.message").count() == 0
    setting(tab, "Longest answer", 12)
    ask(tab, "How come?")
    expect(reply(tab, "base")).to_contain_text("12 tokens")
    expect(tab.locator("#tuned .bot.message")).to_have_count(turns)


def test_a_visitor_who_leaves_does_not_keep_the_model(tab, browser, served, tuned):
    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(served.local_url)
    expect(other.get_by_label("Your question")).to_be_visible()
    setting(other, "Longest answer", 200)
    ask(other, "Why?")
    expect(reply(other, "tuned")).to_contain_text("per second")
    other.close()
    ask(tab, "Why?")
    answered(tab)
    assert answer(tab, "tuned") != answer(tab, "base"), "one of them was asked of the wrong model"


def test_settings_reach_the_model_and_an_empty_question_asks_nothing(tab, tuned):
    tab.get_by_role("button", name="Ask", exact=True).click()
    expect(tab.get_by_text("Type a question first.")).to_be_visible()
    setting(tab, "Longest answer", 9)
    setting(tab, "Temperature", 0.35)
    ask(tab, "  Why?  ")
    answered(tab)
    expect(reply(tab, "tuned")).to_contain_text("9 tokens")
    *_, direct = chat.stream(*tuned, "  Why?  ", max_new_tokens=9, seed=7, temperature=0.35)
    letters = re.compile(r"[^\W_]+")
    assert letters.findall(answer(tab, "tuned")) == letters.findall(direct.text)


def test_an_example_fills_the_box(tab):
    tab.get_by_text(chat.QUESTIONS[2]).click()
    expect(tab.get_by_label("Your question")).to_have_value(chat.QUESTIONS[2])


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror='document.title=1'> ${1 + 1} {{value}} & <b>bold</b>",
        "\\<img src='http://a.example/y.png'> $$x^2$$ <script>document.title=1</script>",
        "![x](http://a.example/x.png) !\\[y](http://a.example/y.png) \\![z](http://a.example/z.png)",
    ],
)
def test_what_people_and_models_write_is_shown_and_never_loaded_or_run(tab, text):
    ask(tab, text)
    answered(tab)
    assert tab.locator("#tuned img, #tuned b, #tuned script").count() == 0
    assert tab.title() == "Talk to your model"
    assert not [url for url in tab.asked_for if "a.example" in url]


def test_the_markdown_of_an_answer_is_rendered_and_a_link_shows_where_it_leads(tab, monkeypatch):
    text = "**bold**\n\n- [NAME] [here](http://a.example/b)"
    ended = chat.Answer(text, 3, 1.0, "by itself")
    monkeypatch.setattr(chat, "both", lambda *_, **__: iter([("tuned", ended), ("base", ended)]))
    ask(tab, "Why?")
    answered(tab)
    assert reply(tab, "tuned").locator("strong").inner_text() == "bold"
    assert reply(tab, "tuned").locator("li").inner_text() == "[NAME] [here](http://a.example/b)"
    expect(reply(tab, "tuned")).to_contain_text("3 tokens, 3.0 per second, stopped by itself")


@pytest.mark.parametrize("width, columns", [(390, 1), (1280, 2)])
def test_the_answers_stand_side_by_side_or_one_below_the_other_on_a_phone(tab, width, columns):
    tab.set_viewport_size({"width": width, "height": 844})
    ask(tab, "Why?")
    answered(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") == width, "nothing sticks out sideways"
    left, right = (tab.locator(f"#{name}").bounding_box() for name in chat_page.PANES)
    assert (left["y"] == right["y"]) == (columns == 2) and (left["x"] == right["x"]) == (columns == 1)


def test_behind_a_companys_proxy_the_page_opens_past_it(tuned, monkeypatch):
    """Gradio asks its own page whether it is there, by httpx, which sent that to the proxy; the launch failed."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    page = chat_page.open_page(*tuned)
    try:
        assert page.local_url.startswith("http://127.0.0.1:")
        assert os.environ["no_proxy"] == "127.0.0.1,intranet.example"
    finally:
        page.close()


def test_only_share_makes_a_public_link(tuned, monkeypatch):
    launched = []
    monkeypatch.setattr(chat_page.gradio.Blocks, "launch", lambda self, **options: launched.append(options))
    monkeypatch.setattr(chat_page, "where_it_is", lambda page, share: "")
    for web_chat in (True, "share"):
        chat_page.open_page(*tuned, web_chat)
    assert [options["share"] for options in launched] == [False, True]
    assert {options["server_name"] for options in launched} == {"127.0.0.1"}


def test_the_sliders_reach_to_where_they_begin(tuned, monkeypatch):
    """Below a slider's end Gradio refuses the value with each question: top_k = 0, or answers of 4 tokens."""
    monkeypatch.setattr(chat_page.gradio.Blocks, "launch", lambda self, **options: None)
    monkeypatch.setattr(chat_page, "where_it_is", lambda page, share: "")
    for settings in (dict(temperature=3, top_k=999), dict(top_k=0, top_p=0, max_new_tokens=4)):
        page = chat_page.open_page(*tuned, **settings)
        sliders = [part for part in page.blocks.values() if isinstance(part, chat_page.gradio.Slider)]
        assert {*settings.values()} <= {slider.preprocess(slider.value) for slider in sliders}


def test_notebook_07_opens_the_page_and_goes_on(tuned, tiny_gemma, tmp_path):
    """Headless, nobody visits: the notebook ends, and the page with it."""
    model, _ = tuned
    work_dir = tmp_path / "work"
    model.peft_config["default"].base_model_name_or_path = str(tiny_gemma)
    model.save_pretrained(work_dir / "adapter")
    parameters = {
        "questions": ["Why?"] * 2,
        "max_new_tokens": 4,
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
    assert "tokens per second" in said and "at max_new_tokens" in said
