import json
import sys
import types

import pytest

from helpers.core import files, runtime
from helpers.train import data, local_gemma, models

CPU = runtime.Device("cpu", "a CPU", 8.0, 50.0, "torch sees no GPU")


def gpu(memory: float) -> runtime.Device:
    return runtime.Device("cuda", "Tesla T4", memory, 50.0, "torch sees a CUDA GPU")


@pytest.fixture(autouse=True)
def no_build(monkeypatch, tmp_path):
    monkeypatch.setattr(local_gemma, "path", lambda: tmp_path)


@pytest.mark.parametrize("memory, size", [(79, "27b"), (23, "12b"), (14.5, "4b"), (8, "1b")])
def test_auto_takes_the_largest_that_fits_and_says_why(memory, size):
    choice = models.choose("auto", gpu(memory))
    assert size in choice.name and choice.load_in_4bit
    assert f"fits {memory:.1f} GiB on Tesla T4" in choice.why


def test_auto_without_a_gpu_is_the_local_gemma_in_16_bits():
    choice = models.choose("auto", CPU)
    assert choice.name == local_gemma.NAME and not choice.load_in_4bit
    assert "torch sees no GPU" in choice.why and "4 bits need a GPU" in choice.why


def test_auto_on_a_full_gpu_names_the_fix():
    with pytest.raises(MemoryError, match="2.0 GiB free.*Restart the session"):
        models.choose("auto", gpu(2.0))


def test_the_adapter_asked_for_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no adapter_config.json; run notebook 05"):
        models.find_adapter(str(tmp_path / "nowhere"), tmp_path)


def test_the_bundled_adapter_stands_in_and_says_so(tmp_path):
    folder, origin = models.find_adapter("", tmp_path)
    assert folder == models.SAMPLE_ADAPTER and "the bundled sample's" in origin
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == local_gemma.NAME
    (tmp_path / "adapter").mkdir()
    assert models.find_adapter("", tmp_path)[0] == tmp_path / "adapter"


def test_a_model_of_the_hub_is_fetched_with_the_key_in_dotenv(tmp_path, monkeypatch):
    """huggingface_hub reads neither .env nor Kaggle's page, so a gated model was refused."""
    from huggingface_hub import get_token

    monkeypatch.setenv("HF_TOKEN", "")  # and put back at the end, whatever is set here
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("HF_TOKEN=hf_from_dotenv\n")
    assert models.choose("someone/gated", CPU).source == "someone/gated" and get_token() == "hf_from_dotenv"


def test_the_bundled_adapter_is_asked_what_it_was_not_trained_on(tmp_path):
    """Whatever changes the split of the sample must bring an adapter that was trained on the new one."""
    pairs, _ = data.load_qa_dataset("auto", tmp_path)
    asked = {review_id for row in pairs["test"] for review_id in row["review_ids"]}
    assert asked == set(json.loads((models.SAMPLE_ADAPTER / "held_out.json").read_text()))


def test_a_training_text_has_one_bos_and_ends_with_the_turn(tokenizer):
    ids = models.chat_ids(tokenizer, "Why?", "Because.")
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<end_of_turn>")


def test_the_prompt_is_the_beginning_of_the_training_text(tokenizer):
    prompt = models.chat_ids(tokenizer, "Why?")
    assert models.chat_ids(tokenizer, "Why?", "Because.")[: len(prompt)] == prompt


def test_batched_answers_equal_single_ones(tiny_gemma):
    """Left padding: with padding on the right, short prompts in a batch get other answers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny_gemma),
        AutoTokenizer.from_pretrained(tiny_gemma),
    )
    questions = ["Why?", "What do customers of this company say about their bikes?", "How come, then?"]
    batched = models.generate(model, tokenizer, questions, max_new_tokens=12, batch_size=3)
    single = [models.generate(model, tokenizer, [q], max_new_tokens=12)[0] for q in questions]
    assert batched == single and len(set(single)) > 1


GEMMA_4 = """{{ bos_token }}{% for m in messages %}<|turn>{{ 'model' if m.role == 'assistant' else m.role }}
{{ m.content }}<turn|>
{% endfor %}{% if add_generation_prompt %}<|turn>model
{% endif %}"""


def with_template(tokenizer, template):
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


def test_turn_markers_are_read_from_the_template(tokenizer):
    gemma_3 = models.turns(tokenizer)
    assert gemma_3 == models.Turns("<start_of_turn>user\n", "<start_of_turn>model\n", "<end_of_turn>")
    assert models.turns(with_template(tokenizer, GEMMA_4)) == models.Turns(
        "<|turn>user\n", "<|turn>model\n", "<turn|>"
    )


@pytest.mark.parametrize(
    "template", [None, "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.content }}\n{% endfor %}"]
)
def test_a_template_without_a_gemmas_turns_is_refused(tokenizer, template):
    with pytest.raises(ValueError, match="has no chat template with a Gemma's turns: use with_chat_template"):
        models.turns(with_template(tokenizer, template))


@pytest.mark.parametrize(
    "capability, dtype, why",
    [((7, 5), "float32", "overflows in float16"), ((8, 9), "bfloat16", "L4 has fast instructions for it")],
)
def test_the_dtype_on_a_gpu_has_its_reason(capability, dtype, why):
    name = "L4" if capability > (8, 0) else "Tesla T4"
    device = runtime.Device("cuda", name, 15.0, 50.0, "test", capability)
    assert models.pick_dtype(device)[0] == dtype and why in models.pick_dtype(device)[1]


@pytest.mark.parametrize(
    "vendor, flags, pays",
    [
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx2 fma", False),
        ("GenuineIntel", "avx512f avx512_bf16", False),  # as many products a second as in float32, or fewer
        ("GenuineIntel", "avx512_bf16 amx_tile amx_bf16", True),
        ("0x41", "asimd bf16", True),
    ],
)
def test_bfloat16_is_taken_where_the_processor_is_faster_with_it(vendor, flags, pays, monkeypatch):
    known = f"vendor_id : {vendor}\nflags : {flags}\n"
    monkeypatch.setattr(runtime.Path, "read_text", lambda path, *_: known)
    assert runtime.bfloat16_pays() is pays


@pytest.mark.parametrize("said, dtype", [("1", "bfloat16"), ("0", "float32")])
def test_unsloth_and_the_notebooks_agree_on_the_dtype_of_a_cpu(said, dtype, monkeypatch):
    device = runtime.Device("cpu", "a CPU", 12, 80, "test")
    monkeypatch.setenv("UNSLOTH_CPU_BF16", said)
    assert models.pick_dtype(device)[0] == dtype


@pytest.mark.parametrize("trained", [True, False, None])
def test_a_base_that_was_trained_on_without_4_bits_comes_back_without_them(tmp_path, monkeypatch, trained):
    """06 to 08 took it in 4 bits on every GPU, and so judged and merged what the adapter was not trained on."""
    loaded, fakes = [], {name: types.ModuleType(name) for name in ("unsloth", "peft")}
    fakes["unsloth"].FastModel = types.SimpleNamespace(
        from_pretrained=lambda source, load_in_4bit: loaded.append((source, load_in_4bit)) or (None, None),
        for_inference=lambda model: model,
    )
    fakes["peft"].PeftModel = types.SimpleNamespace(from_pretrained=lambda model, folder: model)
    for name, module in fakes.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(models, "with_chat_template", lambda tokenizer, model: tokenizer)
    adapter, name = tmp_path / "adapter", "google/gemma-3-4b-it"
    files.write_json(adapter / "adapter_config.json", {"base_model_name_or_path": name})
    if trained is not None:
        files.write_json(tmp_path / "training.json", {"settings": {"load_in_4bit": trained}})
    models.load_tuned(adapter, gpu(14.5))
    assert loaded == [(name, trained is not False)]


def test_a_slice_for_the_head_does_not_copy_its_weights(tiny_gemma):
    """Each prompt of the 270M in bfloat16 waited a second for it: torch took the slice of a batch for a batch."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_gemma, dtype=torch.bfloat16).requires_grad_(False)
    ids, vocabulary, copies, logits = torch.arange(40).view(2, 20), model.config.vocab_size, [], []
    for inference in (torch.inference_mode(), models.inference(model)):
        with inference, profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
            logits.append(model(ids, logits_to_keep=1).logits)
        shapes = [str(event.input_shapes) for event in seen.events() if event.name == "aten::bmm"]
        copies.append(sum(str(vocabulary) in shape for shape in shapes))
    assert copies == [1, 0]  # the first is torch's: where it copies no more, `inference` can go
    torch.testing.assert_close(*logits)
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_the_heads_of_one_token_share_their_keys_and_give_what_each_gives_alone(tiny_gemma, monkeypatch):
    """A step of 32 rows in bfloat16 took 0.33 s with a product per head, and 0.17 s so."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    generator, module = torch.Generator().manual_seed(0), types.SimpleNamespace(num_key_value_groups=4)
    query, key, value = (torch.randn(3, heads, 9, 16, generator=generator) for heads in (8, 2, 2))
    mask = torch.rand(3, 1, 1, 9, generator=generator) > 0.3
    for tokens, seen in ((1, mask), (1, None), (9, None)):
        given = module, query[:, :, :tokens], key, value, seen
        ours, alone = (f(*given, scaling=0.5)[0] for f in (models.grouped_attention, sdpa_attention_forward))
        torch.testing.assert_close(ours, alone)

    shapes, attend = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda query, *more, **named: shapes.append(tuple(query.shape[:3])) or attend(query, *more, **named),
    )
    model = AutoModelForCausalLM.from_pretrained(tiny_gemma)
    tokenizer = AutoTokenizer.from_pretrained(tiny_gemma)
    models.generate_ids(model, tokenizer, ["Why?", "What do customers say?"], max_new_tokens=3)
    assert shapes[0][:2] == (2, 2) and set(shapes[2:]) == {(2, 1, 2)}  # rows, heads, tokens; two layers
