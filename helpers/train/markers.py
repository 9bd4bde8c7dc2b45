"""Turn markers: tokens that a pretrained model has never trained, and rows for them that mean something.

In a pretrained Gemma 3 the rows of `<start_of_turn>` and `<end_of_turn>` lie among those of all other tokens that
never occurred. LoRA moves no row, so whatever makes the end of a turn likelier lifts its look-alikes with it: greedy
answers stop, sampled ones run on behind a foreign token. Instruct models have trained the rows.
"""

NEAR, MANY = 0.9, 10  # the cosine of a look-alike, and how many of them are too many
KEPT, RANDOM, SEED = 0.9, 0.3, 3407


def lookalikes(model, stops: list[int]) -> int:
    """How many rows of the head have a cosine over NEAR with that of the last of `stops`; these are not counted."""
    import torch

    rows = model.get_output_embeddings().weight.detach()
    end, cosine = rows[stops[-1]].float()[None], torch.nn.functional.cosine_similarity
    near = torch.cat([cosine(part.float(), end) > NEAR for part in rows.split(2**15)])
    near[stops] = False
    return int(near.sum())


def begin_anew(model, trained: dict[int, int]) -> None:
    """Begin the row of each token (a key) from that of a trained one (its value), as new tokens usually do.

    KEPT and RANDOM weigh the trained row and a random direction, by which the two can be told apart; the norm stays.
    """
    import torch

    for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):  # Gemma 3 ties them
        rows, generator = embedding.weight.data, torch.Generator().manual_seed(SEED)
        for token, source in trained.items():
            row, noise = rows[source].float().cpu(), torch.randn(rows.shape[1], generator=generator)
            mixed = KEPT * row / row.norm() + RANDOM * noise / noise.norm()
            rows[token] = (mixed * row.norm() / mixed.norm()).to(rows)
