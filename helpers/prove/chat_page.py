"""A page in the browser with the tuned and the base model side by side (stage 07, web_chat=True).

    page = open_page(model, tokenizer, web_chat=True)   # on 127.0.0.1, for this machine only
    page = open_page(model, tokenizer, web_chat="share")  # and a public link, while the notebook runs
    page.close()

The conversation is kept on the page: a reload begins a new one.
"""

from __future__ import annotations

import re

import gradio

from helpers.core import runtime
from helpers.prove import chat
from helpers.train import models

INTRODUCTION = """# Talk to your model
Each question goes to the model you trained, then to the same model without your training. A question is answered
on its own: neither model sees the ones before it."""
PANES = {"tuned": "Tuned: your model", "base": "Base: before training"}
SLIDERS = {  # lowest, highest, step, label, what it means
    "temperature": (0, 2, 0.05, "Temperature", "0 always takes the likeliest word, 1 is daring"),
    "top_p": (0.05, 1, 0.05, "Top-p", "choose among the words that make up this share"),
    "top_k": (1, 256, 1, "Top-k", "and among no more than so many words"),
    "max_new_tokens": (8, 1024, 1, "Longest answer", "in tokens; a word is one or two"),
}


def message(role: str, text: str, *notes: str) -> dict:
    """A chat message whose text is not trusted: Markdown without HTML and pictures; a link is its bare address."""
    return {"role": role, "content": [re.sub(r"[\\<\[]", r"\\\g<0>", text), *notes]}


def open_page(
    model, tokenizer, web_chat: bool | str = True, questions: list[str] = chat.QUESTIONS, **settings: float
) -> gradio.Blocks:
    """Open the page and go on: it lives until `.close()` or until this Python ends.

    It listens on 127.0.0.1; only web_chat="share" makes a public link, through Gradio's servers. The sliders begin
    at `settings`, which are those of `chat.stream`. Raises ValueError for another web_chat.
    """
    if web_chat not in (True, "share"):
        what = "True is a page on this machine, 'share' also a public link"
        raise ValueError(f"web_chat = {web_chat!r}: {what}")
    settings = {"max_new_tokens": 256, "seed": 3407, **models.SAMPLING, **settings}

    def answer(question, *values):
        if not question.strip():
            raise gradio.Error("Type a question first.", print_exception=False)
        options = dict(zip([*PANES, *SLIDERS, "seed"], values))
        talks = {name: [*options.pop(name), message("user", question.strip())] for name in PANES}
        yield {box: "", panes["tuned"]: talks["tuned"], panes["base"]: talks["base"]}
        for name, growing in chat.both(model, tokenizer, question, **options):
            yield {panes[name]: [*talks[name], message("assistant", growing.text, f"*{growing}*")]}

    with gradio.Blocks(title="Talk to your model", analytics_enabled=False) as page:
        gradio.Markdown(INTRODUCTION)
        with gradio.Row():
            looks = dict(min_width=320, latex_delimiters=[], buttons=[])
            panes = {
                name: gradio.Chatbot(label=label, elem_id=name, **looks) for name, label in PANES.items()
            }
        looks = dict(placeholder="Ask about the reviews", max_lines=6, submit_btn="Ask", stop_btn="Stop")
        box = gradio.Textbox(label="Your question", autofocus=True, **looks)
        gradio.Examples([[question] for question in questions], box, label="Examples")
        with gradio.Accordion("Settings", open=False, elem_id="settings"), gradio.Row():
            controls = []
            for name, (low, high, step, label, info) in SLIDERS.items():
                bounds = low, max(high, settings[name]), settings[name]
                controls.append(gradio.Slider(*bounds, step=step, label=label, info=info))
            seed = gradio.Number(settings["seed"], precision=0, label="Seed", info="same seed, same answer")
        both, once = [*panes.values()], dict(trigger_mode="once", concurrency_limit=1, show_progress="hidden")
        asked = box.submit(answer, [box, *both, *controls, seed], [box, *both], **once)
        box.stop(None, cancels=asked)
        gradio.on([pane.clear for pane in both], None, cancels=asked).then(lambda: ([], []), None, both)
    share = web_chat == "share"
    options = dict(prevent_thread_lock=True, quiet=True, ssr_mode=False, footer_links=[], height=700)
    page.launch(server_name="127.0.0.1", share=share, **options)
    print(where_it_is(page, share))
    return page


def where_it_is(page: gradio.Blocks, share: bool) -> str:
    """One line that says how to reach the page from here, and who else can."""
    reach = {
        "local": f"Open {page.local_url}: the page is on this machine only",
        "colab": "The page is in this cell, for you only; web_chat = 'share' makes a link for others",
        "kaggle": "Kaggle shows no page from its machines: set web_chat = 'share' for a link",
    }
    link = f"Open {page.share_url}: whoever has this link can talk to your model"
    return f"{link if share else reach[runtime.platform()]}. It is open while this notebook runs."
