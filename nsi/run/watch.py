"""What happens beside a training's updates: a progress bar, curves, checkpoints, and signals."""

import numpy as np
from tqdm import tqdm

from nsi.evaluation.scores import network_scores
from nsi.run import checkpoint, tracking

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
    """The hook of a part of a run, to be used in a with statement: a bar, and no more.

    name: for the bar; count: of updates in all, None where it is unknown."""

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
    """The hook of a run's training: a bar, W&B and checkpoints. run: session.Run; stopping: interruption.postponed's"""

    def __init__(self, run, stopping):
        self.run, self.updates, self.stopping = run, run.settings.updates, stopping
        done = run.state["training"]["updates"] if run.state else 0
        self.bar = tqdm(total=self.updates, initial=done, desc=run.out.name, unit="update", disable=None)

    def log(self, update, model, scalars):
        one, data = model.networks()[0], self.run.data
        scores = network_scores(one, data.truth, data.geometry, data.places)
        shown = {"loss": scalars["loss"]} | {k: np.mean(scores[k]).item() for k in ("r_W", "r_gate") if k in scores}
        self.bar.set_postfix({k: f"{v:.3f}" for k, v in shown.items()}, refresh=False)
        super().log(update, model, scalars)
        tracking.log(self.run.wandb, update, scalars | shown, one.W, last=self.updates)

    def keeps(self, update, last):
        return update % CHECKPOINT_EVERY == 0 or update == last

    def keep(self, model, training):
        run = self.run
        checkpoint.write(run.out / "model.pt", model.state_dict(), run.options, training | {"wandb": run.wandb.id})
