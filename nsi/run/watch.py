"""What happens beside a training's updates: a progress bar, curves, checkpoints, and signals."""

import numpy as np
from tqdm import tqdm

from nsi.run import tracking

CHECKPOINT_EVERY = 100


class Watch:
    """The one hook of the training loop; this one only says when to log, and nothing stops it."""

    def logs(self, update, last):
        """Whether the loss is logged, the only time that a fit waits for its device."""
        return update % tracking.EVERY == 0 or update == last

    def keeps(self, update, last):
        """Whether a checkpoint is due."""
        return False

    def stopping(self):
        """The signal that should end the fit, or 0."""
        return 0

    def log(self, update, model, scalars):
        """Show how far it is. scalars: loss, gradient_norm and lr."""

    def keep(self, model, training):
        """Write a checkpoint."""


class Stage(Watch):
    """The hook of what follows a run's training, to be used in a with statement: a bar, and no more.

    name: for the bar; count: of updates in all, None where it is unknown.
    """

    def __init__(self, name, count=None):
        form = None if count else "{desc} ..."
        self.bar = tqdm(total=count, desc=name, unit="update", disable=None, leave=False, bar_format=form)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def log(self, update, model, scalars):
        self.bar.update(update - self.bar.n)


class TrainingHook(Stage):
    """The hook of a run with a folder.

    name: for the bar; updates: in all; done: of these, by the run that is continued; wandb: tracking's run; scores:
    called with a Network, what to show besides the loss; write: called with weights and the state of training;
    stopping: interruption.postponed's.
    """

    def __init__(self, name, updates, done, wandb, scores, write, stopping):
        self.wandb, self.scores, self.write, self.updates = wandb, scores, write, updates
        self.stopping = stopping
        self.bar = tqdm(total=updates, initial=done, desc=name, unit="update", disable=None)

    def log(self, update, model, scalars):
        one = model.networks()[0]
        scores = self.scores(one)
        shown = {k: float(np.mean(scores[k])) for k in ("r_W", "r_gate") if k in scores}  # over components
        shown = {"loss": scalars["loss"]} | shown
        self.bar.set_postfix({k: f"{v:.3f}" for k, v in shown.items()}, refresh=False)
        self.bar.update(update - self.bar.n)
        tracking.log(self.wandb, update, scalars | shown, one.W, last=self.updates)

    def keeps(self, update, last):
        return update % CHECKPOINT_EVERY == 0 or update == last

    def keep(self, model, training):
        self.write(model.state_dict(), training | {"wandb": self.wandb.id})
