"""Talk to the tuned model, and to the base beside it (stage 07).

Answers are streamed word by word; the same seed gives the same answer. It keeps no history: every
question is asked on its own, as in training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Thread

from helpers import models

# The questions that people ask first about any company's reviews.
QUESTIONS = [
    "What are common issues or complaints mentioned in the reviews?",
    "What do customers like most about the product or service?",
    "How is the customer support perceived?",
    "Are there any recurring themes regarding pricing or value?",
]


def stream(
    model,
    tokenizer,
    question: str,
    max_new_tokens: int = 256,
    temperature: float = 0.7,
    top_p: float = 0.95,
    top_k: int = 64,
    seed: int = 3407,
) -> Iterator[str]:
    """Yield the answer in pieces as they are generated; temperature 0 is greedy.

    Raises ValueError for an empty question. The defaults are those that Gemma 3's makers give for
    top_p and top_k, with a calmer temperature for answers about facts.
    """
    import torch
    from transformers import TextIteratorStreamer, set_seed

    if not question.strip():
        raise ValueError("question is empty; ask something")
    plain = models.text_tokenizer(tokenizer)
    ids = torch.tensor([models.chat_ids(tokenizer, question)], device=model.device)
    streamer = TextIteratorStreamer(plain, skip_prompt=True, skip_special_tokens=True)
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": top_k}
    options = sampling if temperature else {"do_sample": False, "top_p": None, "top_k": None}
    failure: list[BaseException] = []

    def run() -> None:
        try:
            set_seed(seed)
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                eos_token_id=models.stop_ids(tokenizer),
                pad_token_id=plain.pad_token_id,
                streamer=streamer,
                **options,
            )
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that reads
            failure.append(error)
            streamer.end()

    thread = Thread(target=run)
    thread.start()
    yield from streamer
    thread.join()
    if failure:
        raise failure[0]


def print_stream(title: str, pieces: Iterator[str]) -> dict:
    """Print the pieces as they come; return the whole `answer` and its `seconds`."""
    started = time.perf_counter()
    print(f"{title}: ", end="")
    answer = ""
    for piece in pieces:
        print(piece, end="", flush=True)
        answer += piece
    print("\n")
    return {"answer": answer.strip(), "seconds": round(time.perf_counter() - started, 1)}


def side_by_side(model, tokenizer, question: str, **settings) -> dict:
    """Stream the base model's and the tuned model's answer; return both as one row."""
    print(f"❯ {question}\n")
    with model.disable_adapter():
        base = print_stream("  base", stream(model, tokenizer, question, **settings))
    tuned = print_stream(" tuned", stream(model, tokenizer, question, **settings))
    return {
        "question": question,
        "base": base["answer"],
        "tuned": tuned["answer"],
        "base_seconds": base["seconds"],
        "tuned_seconds": tuned["seconds"],
    }


def open_web_chat(model, tokenizer, **settings):
    """Open a page on this machine (127.0.0.1) with both models side by side; needs `gradio`.

    Returns the running page; close it with `.close()`. It is shared with nobody.
    """
    import gradio

    def answer(question: str) -> Iterator[tuple[str, str]]:
        base = tuned = ""
        with model.disable_adapter():
            for piece in stream(model, tokenizer, question, **settings):
                base += piece
                yield base, tuned
        for piece in stream(model, tokenizer, question, **settings):
            tuned += piece
            yield base, tuned

    with gradio.Blocks(title="Base and tuned, side by side") as page:
        question = gradio.Textbox(label="Your question", value=QUESTIONS[0])
        with gradio.Row():
            columns = [gradio.Textbox(label=name, lines=12) for name in ("base", "tuned")]
        question.submit(answer, question, columns)
        gradio.Button("Ask", variant="primary").click(answer, question, columns)
    page.launch(server_name="127.0.0.1", share=False, prevent_thread_lock=True)
    return page
