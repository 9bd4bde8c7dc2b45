"""What a person sees while it trains: one bar, and a loss curve that grows, also headless (00, 05, 09)."""

import math
import time

from helpers.core import plots


def losses(trainer, name: str = "loss") -> list[dict]:
    """One `{"step", "loss"}` for every logged step; with "eval_loss", for every look at the validation rows."""
    return [{"step": log["step"], "loss": log[name]} for log in trainer.state.log_history if name in log]


def tokens_seen(trainer) -> int:
    """Tokens that the trainer has read, without padding, as TRL counts them or transformers does."""
    counts = (log.get("num_tokens", log.get("num_input_tokens_seen", 0)) for log in trainer.state.log_history)
    return int(max(counts, default=0))


def show(trainer, title: str = "Training loss") -> None:
    """A bar with loss and time left, and a live plot; FloatingPointError if a loss is not finite."""
    from IPython import get_ipython
    from IPython.display import display
    from tqdm import tqdm
    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", mininterval=1)
            self.shown, self.drawn = False, time.monotonic()

        def on_log(self, args, state, control, logs, **kwargs):
            loss = logs.get("loss", logs.get("eval_loss", 0.0))
            if not math.isfinite(loss):
                causes = "a learning_rate that is too high, or float16 (leave the dtype to Unsloth)"
                raise FloatingPointError(f"The loss is {loss} at step {state.global_step}. Likely {causes}.")
            self.bar.update(state.global_step - self.bar.n)
            if "loss" in logs:
                self.bar.set_postfix_str(f"loss {loss:.3f}")
            if time.monotonic() - self.drawn > 15:  # seconds
                self.draw()

        def on_train_end(self, args, state, control, **kwargs):
            self.bar.close()
            self.draw()

        def draw(self):
            self.drawn = time.monotonic()
            if get_ipython():  # outside a notebook there is no place for a picture
                figure = plots.loss(losses(trainer), losses(trainer, "eval_loss"), title)
                display(figure, display_id=f"losses-{id(self)}", update=self.shown)
                self.shown = True

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress())
