"""The committed table of models and cards is what the estimate gives today."""

from benchmarks import plans
from helpers.core import files
from helpers.train import models


def test_every_model_of_the_table_is_planned_and_the_table_is_todays():
    assert list(files.read_json(plans.SHAPES)) == [row["model_name"] for row in models.KNOWN]
    table = plans.EVIDENCE.read_text("utf-8").split(plans.BEGIN)[1].split(plans.END)[0]
    assert table == plans.markdown()


def test_what_each_model_needs_free_is_less_than_the_card_that_it_is_named_for():
    """`auto` takes a model for its card only where the plan finds a way on that card."""
    fits = {row[0]: row[2:] for row in plans.rows() if row[1] == str(plans.LENGTHS[1])}
    for name in ("Gemma 3 270M", "Gemma 3 1B", "Gemma 3 4B"):
        assert "does not fit" not in fits[name]
