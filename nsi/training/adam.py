"""Adam (Kingma and Ba 2015) with a one-cycle schedule (Smith and Topin 2018).

Written out, since importing torch.optim takes longer than a fifth of a fit.
"""

import math

import torch

RISING_SHARE = 0.3  # share of the updates in which the learning rate rises
START_LR = 1 / 25  # before the cycle, relative to its peak
END_LR = 1 / 25e4  # after the cycle, likewise
MAX_BETA1 = 0.95  # before and after the cycle
MIN_BETA1 = 0.85  # at the learning rate's peak


class Adam:
    """Adam for tensors that it changes in place."""

    def __init__(self, parameters, updates, lr, beta2=0.99, schedule="onecycle"):
        """updates: in all; lr: at the schedule's peak; schedule: "onecycle", or "constant" with beta1 0.9."""
        self.parameters, self.updates, self.peak, self.beta2 = list(parameters), updates, lr, beta2
        self.cycles, self.done = schedule == "onecycle" and updates > 1, 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    def lr_and_beta1(self):
        """Learning rate and beta1 of the next update."""
        if not self.cycles:
            return self.peak, 0.9
        top, last = RISING_SHARE * self.updates - 1, self.updates - 1
        rises = self.done <= top
        start, end = ((START_LR, MAX_BETA1), (1.0, MIN_BETA1)) if rises else ((1.0, MIN_BETA1), (END_LR, MAX_BETA1))
        along = self.done / top if rises else (self.done - top) / (last - top)
        return tuple(s * (b + (a - b) * (1 + math.cos(math.pi * along)) / 2)
                     for a, b, s in zip(start, end, (self.peak, 1.0), strict=True))  # fmt: skip

    @torch.no_grad()
    def step(self, gradients):
        """One update. gradients: as many tensors as parameters."""
        lr, beta1 = self.lr_and_beta1()
        self.done += 1
        unbias = math.sqrt(1 - self.beta2**self.done)
        size = lr * unbias / (1 - beta1**self.done)
        for p, g, (mean, square) in zip(self.parameters, gradients, self.moments, strict=True):
            mean.lerp_(g, 1 - beta1)
            square.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
            p.addcdiv_(mean, square.sqrt().add_(1e-8 * unbias), value=-size)

    def state(self):
        """What `restore` needs: updates done, and the two moments of every parameter."""
        return {"updates": self.done, "moments": [list(pair) for pair in self.moments]}

    def restore(self, state):
        """Go on from `state`. Raises: ValueError where it is another network's."""
        if [[m.shape for m in pair] for pair in state["moments"]] != [[p.shape] * 2 for p in self.parameters]:
            raise ValueError("moments of another shape")
        self.done = state["updates"]
        for pair, saved in zip(self.moments, state["moments"], strict=True):
            for mine, theirs in zip(pair, saved, strict=True):
                mine.copy_(theirs)
