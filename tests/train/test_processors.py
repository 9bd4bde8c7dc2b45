"""A processor, which a T4 gets for Gemma 3 4B and every Gemma 4, is asked as its own tokenizer is.

It has no name_or_path, eos_token_id or pad_token_id, so that every notebook stopped on a T4.
"""

from __future__ import annotations

import copy
import re

import pytest
from datasets import Dataset

from helpers.prove import chat, evaluation
from helpers.publish import export, parity
from helpers.train import data, memory, models, training
from tests.fakes import processor

PAIRS = [{"question": "Why?", "answer": "Because."}, {"question": "How come, then?", "answer": "So it goes."}]
QUESTIONS = [pair["question"] for pair in PAIRS]


@pytest.fixture(scope="module", params=["gemma_3", "gemma_4"])
def multimodal(request, tiny_gemma, tmp_path_factory):
    """A tiny multimodal Gemma with an adapter on its language model, and its processor with Unsloth's template.

    As it is made, without the ids of special tokens, which `with_chat_template` lends it.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "gemma_3":
        processor.gemma_3(folder, tiny_gemma, vocab_size=512)
    else:
        processor.gemma_4(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    lora = LoraConfig(r=4, target_modules=models.LANGUAGE_LAYERS, init_lora_weights=False)
    tokenizer = models.with_chat_template(AutoTokenizer.from_pretrained(folder), model)
    return get_peft_model(model, lora).eval(), processor.around(tokenizer)


def supervised(tokenizer) -> Dataset:
    ids, prompt = models.chat_ids(tokenizer, "Why?", "Because."), len(models.chat_ids(tokenizer, "Why?"))
    return Dataset.from_list([{"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]}])


def merged_config(model, tokenizer, folder) -> list[str]:
    export.save_config(model.get_base_model(), tokenizer, folder)
    return [path.read_text() for path in sorted(folder.glob("*config.json"))]


ASKED = {
    "template": lambda model, tokenizer, folder: (
        models.with_chat_template(copy.deepcopy(tokenizer), model).chat_template
    ),
    "turns": lambda model, tokenizer, folder: models.turns(tokenizer),
    "stop ids": lambda model, tokenizer, folder: models.stop_ids(tokenizer),
    "ends": lambda model, tokenizer, folder: models.ends(tokenizer),
    "text": lambda model, tokenizer, folder: models.chat_text(tokenizer, "Why?", "Because."),
    "ids": lambda model, tokenizer, folder: models.chat_ids(tokenizer, "Why?", "Because."),
    "answers": lambda model, tokenizer, folder: models.generate(model, tokenizer, QUESTIONS, 8),
    "tokens": lambda model, tokenizer, folder: data.tokenize(PAIRS, tokenizer, 99)[0].to_list(),
    "checks": lambda model, tokenizer, folder: training.check_training_examples(
        supervised(tokenizer), tokenizer, 1
    ),
    "losses": lambda model, tokenizer, folder: evaluation.answer_nats(model, tokenizer, PAIRS),
    "measures": lambda model, tokenizer, folder: evaluation.measure(
        model, tokenizer, PAIRS, max_new_tokens=8
    ),
    "stream": lambda model, tokenizer, folder: [
        answer.text for answer in chat.stream(model, tokenizer, "Why?", max_new_tokens=8)
    ],
    "configuration": merged_config,
    "Modelfile": lambda model, tokenizer, folder: export.modelfile(tokenizer, "model.gguf"),
    "parity": lambda model, tokenizer, folder: parity.check(
        model, tokenizer, folder, ["adapter"], chat.QUESTIONS
    ),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
def test_it_answers_as_its_tokenizer_does(multimodal, asked, tmp_path, monkeypatch):
    model, processor = multimodal
    monkeypatch.setattr(parity, "to_the_end", lambda model, tokenizer, question: [2, 7, 8])  # it never stops
    monkeypatch.setattr(parity, "gate", lambda rows: None)
    monkeypatch.setattr(parity, "TOKENS", 4)
    monkeypatch.setattr(parity.workdir, "finish_stage", lambda *names: None)
    answer = asked(model, processor, tmp_path)
    assert answer and answer == asked(model, processor.tokenizer, tmp_path)


def test_the_markers_are_gemma_3s_and_gemma_4s(multimodal):
    model, processor = multimodal
    opens, end = (
        ("<|turn>", "<turn|>")
        if "gemma4" in model.config.model_type
        else ("<start_of_turn>", "<end_of_turn>")
    )
    assert models.turns(processor) == models.Turns(f"{opens}user\n", f"{opens}model\n", end)


def test_it_is_the_same_when_it_was_saved_beside_an_adapter(multimodal, tmp_path):
    _, processor = multimodal
    processor.save_pretrained(tmp_path)
    again = type(processor).from_pretrained(tmp_path)
    assert models.turns(again) == models.turns(processor) and models.stop_ids(again) == models.stop_ids(
        processor
    )


def test_without_a_template_it_is_refused_with_its_name(multimodal):
    processor = copy.copy(multimodal[1])
    processor.chat_template = None
    name = re.escape(processor.tokenizer.name_or_path)
    with pytest.raises(ValueError, match=f"{name} has no chat template"):
        models.turns(processor)


def test_the_adapter_is_on_the_language_model_alone(multimodal):
    model, _ = multimodal
    names = [name for name, _ in model.named_modules() if name.endswith("lora_B.default")]
    assert len(names) == 14 and all("language_model" in name for name in names)
    layers = [module for name, module in model.named_modules() if name + ".lora_B.default" in names]
    planned = memory.estimate(model.get_base_model(), 1, 100, 1000, False)["adapter, gradients, optimizer"]
    assert planned == pytest.approx(
        18e-6 * sum(layer.in_features + layer.out_features for layer in layers), abs=1e-3
    )
