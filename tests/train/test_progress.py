import math
import types

import pytest

from helpers.core import plots
from helpers.train import progress

HISTORY = [
    {"step": 1, "loss": 3.0, "num_tokens": 100.0},
    {"step": 2, "loss": 2.0, "num_tokens": 250.0},
    {"step": 2, "eval_loss": 2.5},
]


@pytest.fixture
def trainer():
    """The state and the callbacks of a trainer; the real one runs in the notebooks' tests."""
    state = types.SimpleNamespace(log_history=HISTORY, max_steps=10, global_step=2)
    made = types.SimpleNamespace(state=state, callbacks=[])
    made.remove_callback = lambda kind: None
    made.add_callback = made.callbacks.append
    return made


def test_the_history_is_told_apart(trainer):
    assert progress.losses(trainer) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]
    assert progress.losses(trainer, "eval_loss") == [{"step": 2, "loss": 2.5}]
    assert progress.tokens_seen(trainer) == 250


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["loss", "eval_loss"])
def test_a_loss_that_is_not_finite_stops_with_its_cause(trainer, loss, name):
    progress.show(trainer)
    callback = trainer.callbacks[0]
    callback.on_train_begin(None, trainer.state, None)
    with pytest.raises(FloatingPointError, match="at step 2.*learning_rate that is too high.*float16"):
        callback.on_log(None, trainer.state, None, {name: loss})


def test_the_bar_says_the_loss(trainer, capsys):
    progress.show(trainer)
    callback = trainer.callbacks[0]
    callback.on_train_begin(None, trainer.state, None)
    callback.on_log(None, trainer.state, None, {"loss": 2.0})
    callback.on_train_end(None, trainer.state, None)
    assert "loss 2.000" in capsys.readouterr().err


def test_the_picture_shows_steps_and_validation():
    figure = plots.loss(progress_rows := [{"step": 1, "loss": 3.0}], [{"step": 1, "loss": 3.1}])
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert progress_rows and labels[-1] == "validation rows, not trained on"
