"""A page in the browser, the tuned and the base model side by side (stage 07, web_chat); a reload begins anew."""

import os
import re

import gradio

from helpers.core import runtime
from helpers.prove import chat
from helpers.train import models

FOUND, PANES = "found for the question", {"tuned": "Tuned: your model", "base": "Base: before training"}
SLIDERS = {  # lowest, highest, and how it looks
    "temperature": (0, 2, dict(step=0.05, label="Temperature", info="0: the likeliest word, 1: daring")),
    "top_p": (0.05, 1, dict(step=0.05, label="Top-p", info="choose among the words that make up this share")),
    "top_k": (1, 256, dict(step=1, label="Top-k", info="and among no more than so many words")),
    "max_new_tokens": (8, 1024, dict(step=1, label="Longest answer", info="in tokens; a word is one or two")),
}


def message(role: str, text: str, *notes: str) -> dict:
    """A chat message whose text is not trusted: Markdown without HTML and pictures; a link is its bare address."""
    return {"role": role, "content": [re.sub(r"[\\<\[]", r"\\\g<0>", text), *notes]}


def open_page(model, tokenizer, web_chat=True, questions=chat.QUESTIONS, index=None, **settings):
    """Open the page on 127.0.0.1, past any proxy, print where, and return the gradio.Blocks; .close() ends it.

    `index`, a search.Search, finds what is read with a question, unless the person chooses it. web_chat="share" makes
    a public link, through Gradio's servers. Sliders begin at `settings`, of chat.stream.
    """
    settings = {"max_new_tokens": 256, "seed": 3407, **models.SAMPLING, **settings}
    sources = {source["source"]: source for source in index.sources.values()} if index else {}

    def answer(question, chosen, *values):
        if not question.strip():
            raise gradio.Error("Type a question first.", print_exception=False)
        options = dict(zip([*PANES, *SLIDERS, "seed"], values))
        source = sources.get(chosen) or (index.find(question)[0] if index else {"source": "", "context": ""})
        talks = {name: [*options.pop(name), message("user", question.strip())] for name in PANES}
        yield {box: "", read: source["context"]} | {panes[name]: talk for name, talk in talks.items()}
        asked = models.prompt(question, source["context"])
        note = f", read the {source['source']}" if index else ""
        for name, growing in chat.both(model, tokenizer, asked, **options):
            yield {panes[name]: [*talks[name], message("assistant", growing.text, f"*{growing}{note}*")]}

    with gradio.Blocks(title="Talk to your model", analytics_enabled=False) as page:
        gradio.Markdown("# Talk to your model\nIt answers, then the base does. Each question stands alone.")
        with gradio.Row():
            looks = dict(min_width=320, latex_delimiters=[], buttons=[])
            panes = {name: gradio.Chatbot(label=PANES[name], elem_id=name, **looks) for name in PANES}
        box = gradio.Textbox(label="Your question", autofocus=True, submit_btn="Ask", stop_btn="Stop")
        gradio.Examples([[question] for question in questions], box, label="Examples")
        with gradio.Accordion("What the models read", open=False, visible=bool(index), elem_id="read"):
            choice = gradio.Dropdown([FOUND, *sources], value=FOUND, label="Found, or what you choose")
            read = gradio.Textbox(label="Read with the last question", interactive=False, lines=4)
        with gradio.Accordion("Settings", open=False, elem_id="settings"), gradio.Row():
            begin = zip((settings[name] for name in SLIDERS), SLIDERS.values())
            fields = [gradio.Slider(min(low, at), max(high, at), at, **how) for at, (low, high, how) in begin]
            fields += [gradio.Number(settings["seed"], precision=0, label="Seed", info="fixes the answer")]
        both, once = [*panes.values()], dict(trigger_mode="once", concurrency_limit=1, show_progress="hidden")
        asked = box.submit(answer, [box, choice, *both, *fields], [box, read, *both], **once)
        box.stop(None, cancels=asked)
        gradio.on([pane.clear for pane in both], None, cancels=asked).then(lambda: ([], []), None, both)
    os.environ["no_proxy"] = "127.0.0.1," + (os.environ.get("no_proxy") or os.environ.get("NO_PROXY", ""))
    share, how = web_chat == "share", dict(quiet=True, ssr_mode=False, footer_links=[], height=700)
    page.launch(server_name="127.0.0.1", prevent_thread_lock=True, share=share, **how)
    print(where_it_is(page, share))
    return page


def where_it_is(page: gradio.Blocks, share: bool) -> str:
    """How to reach the page from here, and who else can."""
    reach = runtime.PLATFORMS[runtime.platform()]["page"].format(url=page.local_url)
    reach = f"Open {page.share_url}: whoever has this link can talk to your model" if share else reach
    return f"{reach}. It is open while this notebook runs."
