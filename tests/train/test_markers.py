"""The rows of the turn markers: look-alikes are counted, begun anew, and refused where nothing would part them."""

import pytest

from helpers.train import local_gemma, models, training


@pytest.fixture
def model(tiny_gemma):
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(tiny_gemma)


def crowd(model, stops: list[int], count: int) -> None:
    """Lay the head's last `count` rows beside that of the turn's end, as those of never trained tokens lie."""
    import torch

    rows = model.get_output_embeddings().weight.data
    rows[-count:] = (
        rows[stops[-1]] * 2 + 0.02 * rows[stops[-1]].norm() * torch.randn(count, rows.shape[1]).sign()
    )


def test_look_alikes_are_counted_whatever_their_length_and_other_stop_tokens_are_none(model, tokenizer):
    stops = models.stop_ids(tokenizer)
    assert training.lookalikes(model, stops) == 0
    crowd(model, stops, 12)
    rows = model.get_output_embeddings().weight.data
    rows[stops[0]] = rows[stops[1]]
    assert training.lookalikes(model, stops) == 12


def test_a_model_that_never_trained_the_end_of_a_turn_is_refused_before_the_training(model, tokenizer):
    stops = models.stop_ids(tokenizer)
    crowd(model, stops, training.MANY)
    assert training.check_end_of_turn(model, tokenizer) == {"look-alikes of <end_of_turn>": training.MANY}
    crowd(model, stops, training.MANY + 1)
    with pytest.raises(
        ValueError, match="11 tokens look like <end_of_turn> in the head of .*model_name.*-it"
    ):
        training.check_end_of_turn(model, tokenizer)


def test_a_row_begun_anew_is_near_its_source_and_no_other_row_moves(model):
    import torch

    before = [
        part.weight.detach().clone() for part in (model.get_input_embeddings(), model.get_output_embeddings())
    ]
    for _ in range(2):  # and a second time it gives the same
        local_gemma.begin_anew(model, {5: 1})
    for old, part in zip(before, (model.get_input_embeddings(), model.get_output_embeddings())):
        new, others = part.weight.detach(), [at for at in range(len(old)) if at != 5]
        cosine = torch.nn.functional.cosine_similarity(new[5], old[1], dim=0)
        assert 0.85 < cosine < 0.99 and new[5].norm() == pytest.approx(old[1].norm().item())
        assert torch.equal(new[others], old[others])
