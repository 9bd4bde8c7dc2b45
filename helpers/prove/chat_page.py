"""A page in the browser with the tuned and the base model side by side (stage 07, web_chat=True).

    page = open_page(model, tokenizer, web_chat=True)   # on 127.0.0.1, for this machine only
    page = open_page(model, tokenizer, web_chat="share")  # and a public link, while the notebook runs
    page.close()

It needs gradio, 5.50 or newer. The conversation is kept on the page: a reload begins a new one.
"""

from __future__ import annotations

from html import escape
from threading import Event

import gradio
from markdown_it import MarkdownIt

from helpers.core import runtime
from helpers.prove import chat
from helpers.train import models

# Models write Markdown. What they write is not trusted: no HTML, no links, no pictures from elsewhere.
MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True}).disable(["image", "link", "autolink"])

STYLE = """<style>
.gradio-container { max-width: 1080px !important; margin: auto; --button-primary-background-fill: #0072B2;
  --button-primary-background-fill-hover: #005a8e; --slider-color: #0072B2; --button-primary-text-color: #fff }
footer { display: none !important }
#buttons > button { min-width: 80px }
#log { min-height: 1px }
#log .turn { margin-bottom: 28px }
#log .question { font-size: 1.1rem; font-weight: 600; margin: 0 0 10px; overflow-wrap: anywhere }
#log .answers { display: grid; grid-template-columns: 1fr 1fr; gap: 14px }
#log .answer { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 12px 16px;
               background: var(--block-background-fill); min-width: 0; overflow-wrap: anywhere }
#log .answer.tuned { border-top: 3px solid #0072B2 }
#log .answer.base { border-top: 3px solid #E69F00 }
#log h4 { margin: 0 0 6px; font-size: .95rem }
#log .answer p { margin: 0 0 .6em; line-height: 1.55 }
#log .note { opacity: .75; font-size: .85rem; margin-top: 8px }
@media (max-width: 640px) { #log .answers { grid-template-columns: 1fr } }
</style>"""

INTRODUCTION = """<h1>Talk to your model</h1>
<p>Each question goes to the model you trained, then to the same model without your training. A question is
answered on its own: neither model sees the ones before it.</p>"""

NAMES = {"tuned": "Tuned: your model", "base": "Base: before training"}


def answer_html(name: str, answer: chat.Answer | None) -> str:
    """One model's card; None is an answer that has not begun."""
    text, note = (MARKDOWN.render(answer.text), str(answer)) if answer else ("", "waits for its turn")
    return (
        f'<section class="answer {name}"><h4>{NAMES[name]}</h4>'
        f'<div class="text">{text}</div><div class="note">{note}</div></section>'
    )


def log_html(turns: list[dict]) -> str:
    """The conversation, the newest question first, so that its answers stand under the box."""
    return "".join(
        f'<article class="turn"><h3 class="question">{escape(turn["question"])}</h3><div class="answers">'
        + "".join(answer_html(name, turn.get(name)) for name in NAMES)
        + "</div></article>"
        for turn in reversed(turns)
    )


def settings_controls(temperature, top_p, top_k, max_new_tokens, seed) -> list:
    """The settings as sliders, in the order in which `answer` takes them."""

    def slider(low, high, value, step, label, info):
        return gradio.Slider(low, high, value, step=step, label=label, info=info, min_width=280)

    longest = max(1024, max_new_tokens)
    return [
        slider(0, 2, temperature, 0.05, "Temperature", "0 always takes the likeliest word, 1 is daring"),
        slider(0.05, 1, top_p, 0.05, "Top-p", "choose among the words that make up this share"),
        slider(1, 256, top_k, 1, "Top-k", "and among no more than so many words"),
        slider(8, longest, max_new_tokens, 1, "Longest answer", "in tokens; a word is one or two"),
        gradio.Number(seed, precision=0, label="Seed", info="same seed, same answer", min_width=280),
    ]


def open_page(
    model, tokenizer, web_chat: bool | str = True, questions: list[str] = chat.QUESTIONS, **settings: float
) -> gradio.Blocks:
    """Open the page and go on: it lives until `.close()` or until this Python ends.

    It listens on 127.0.0.1; only web_chat="share" makes a public link, through Gradio's servers. The sliders begin
    at `settings`, which are those of `chat.stream`. Raises ValueError for another web_chat.
    """
    if web_chat not in (True, "share"):
        raise ValueError(
            f"web_chat = {web_chat!r}: True is a page on this machine, 'share' also a public link"
        )
    settings = {"max_new_tokens": 256, "seed": 3407, **models.SAMPLING, **settings}
    stops: dict[str, Event] = {}  # by visitor

    def answer(question, turns, temperature, top_p, top_k, max_new_tokens, seed, request: gradio.Request):
        turn = {"question": question.strip()}
        if not turn["question"]:
            gradio.Info("Type a question first.")
            yield {box: ""}  # Gradio empties every output of a generator that ends without a word
            return
        stop = stops[request.session_hash] = Event()
        yield {log: log_html([*turns, turn]), box: "", **{button: free(button is halt) for button in buttons}}
        sampling = dict(temperature=temperature, top_p=top_p, top_k=int(top_k), seed=int(seed))
        settings = dict(max_new_tokens=int(max_new_tokens), stop=stop, **sampling)
        for name, growing in chat.both(model, tokenizer, turn["question"], **settings):
            turn = turn | {name: growing}
            yield {log: log_html([*turns, turn]), history: [*turns, turn]}

    def halt_answer(request: gradio.Request):
        stops.get(request.session_hash, Event()).set()

    def free(interactive: bool):
        return gradio.Button(interactive=interactive)

    with gradio.Blocks(title="Talk to your model", analytics_enabled=False) as page:
        gradio.HTML(STYLE + INTRODUCTION, padding=False)
        box = gradio.Textbox(
            label="Your question", placeholder="Ask about the reviews", max_lines=6, autofocus=True
        )
        with gradio.Row(elem_id="buttons"):
            ask = gradio.Button("Ask", variant="primary", scale=2, min_width=80)
            halt = gradio.Button("Stop", interactive=False, min_width=80)
            clear = gradio.Button("Clear", min_width=80)
            buttons = [ask, halt, clear]
        with gradio.Accordion("Settings", open=False, elem_id="settings"), gradio.Row():
            controls = settings_controls(**settings)
        log, history = gradio.HTML(elem_id="log", padding=False), gradio.State([])
        gradio.Examples([[question] for question in questions], box, label="Examples")
        once = dict(trigger_mode="once", concurrency_limit=1, show_progress="hidden")
        answered = gradio.on(
            [box.submit, ask.click], answer, [box, history, *controls], [log, history, box, *buttons], **once
        )
        answered.then(lambda: [free(button is not halt) for button in buttons], None, buttons)
        halt.click(halt_answer, queue=False)
        clear.click(lambda: ("", []), None, [log, history])
    share = web_chat == "share"
    page.launch(
        server_name="127.0.0.1", share=share, prevent_thread_lock=True, quiet=True, ssr_mode=False, height=700
    )
    print(where_it_is(page, share))
    return page


def where_it_is(page: gradio.Blocks, share: bool) -> str:
    """One line that says how to reach the page from here, and who else can."""
    if share:
        return (
            f"Open {page.share_url}: whoever has this link can talk to your model while this notebook runs."
        )
    reach = {
        "local": f"Open {page.local_url}: the page is on this machine only",
        "colab": "The page is in this cell, for you only; web_chat = 'share' makes a link for others",
        "kaggle": "Kaggle shows no page from its machines: set web_chat = 'share' for a link",
    }
    return reach[runtime.platform()] + ". It is open while this notebook runs."
