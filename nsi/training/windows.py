"""Random windows of a recording, which the training's updates are made of."""

import numpy as np
import torch

from nsi import geometry
from nsi.errors import BadInput
from nsi.network import synaptic_state


class Windows:
    """Random windows of a recording, resident on the device, drawn by one generator per replica.

    Trials shorter than a window are left out. With `bootstrap` each replica draws from trials, or, where the recording
    says that they are of several animals, from animals that were themselves drawn with replacement.
    """

    def __init__(self, rec, alpha, generators, settings, device="cpu"):
        """rec: Recording; alpha: dt / tau; generators: torch Generators, one per replica; settings: with warmup and
        window, steps outside and inside the loss, batch, windows per update and replica, bootstrap, and rotate: turn
        each window around the ring, whose order follows from the activity. Raises: BadInput where neurons to be turned
        do not lie evenly around it."""
        flat = lambda x: torch.as_tensor(x, device=device).flatten(0, 1)
        self.warmup, self.length, self.batch = settings.warmup, settings.warmup + settings.window, settings.batch
        self.trials, self.steps, _ = rec.rates.shape
        self.generators, self.ring = generators, _around(rec, device) if settings.rotate else None
        last = torch.as_tensor(rec.valid.sum(1)) - self.length  # step at which a trial's last window starts
        self.first = last.clamp(0, int(np.ceil(3 / alpha)))  # u[0] is a guess, soon forgotten
        self.span = last - self.first + 1  # (trials,), below 1 where no window fits
        several = rec.animal is not None and len(np.unique(rec.animal)) > 1
        whole = torch.as_tensor(rec.animal) if several else torch.arange(self.trials)
        animals = [torch.nonzero((whole == k) & (self.span > 0))[:, 0] for k in whole[self.span > 0].unique()]
        resample = lambda g: [animals[k] for k in torch.randint(len(animals), (len(animals),), generator=g)]
        self.pools = [torch.cat(resample(g) if settings.bootstrap else animals) for g in generators]
        self.rates, self.velocity = flat(rec.rates), flat(rec.velocity)  # (trials * steps, ...)
        self.u = flat(synaptic_state(rec.rates, alpha))
        self.stimulus = None if rec.stimulus is None else flat(rec.stimulus)

    def draw(self):
        """The next windows' first rows and, to `rotate` them, turns. Returns: (replicas, 1 or 2, batch)."""
        windows = []
        for g, pool in zip(self.generators, self.pools, strict=True):
            trial = pool[torch.randint(len(pool), (self.batch,), generator=g)]
            step = torch.randint(self.span.max(), (self.batch,), generator=g) * self.span[trial] // self.span.max()
            drawn = [trial * self.steps + self.first[trial] + step]
            if self.ring is not None:
                drawn.append(torch.randint(self.rates.shape[-1], (self.batch,), generator=g))
            windows.append(torch.stack(drawn))
        return torch.stack(windows).to(self.rates.device, non_blocking=True)

    def at(self, windows):
        """The windows themselves. windows: ([replicas,] 1 or 2, batch), `draw`'s.

        Returns: velocity, state, rates and stimulus (or None), each (length, [replicas,] batch, ...).
        """
        start, *turn = windows.unbind(-2)
        rows = torch.arange(self.length, device=start.device).view(-1, *[1] * start.ndim) + start
        pick = lambda x: x.index_select(0, rows.flatten()).view(*rows.shape, -1)
        velocity, *ring = (None if x is None else pick(x) for x in (self.velocity, self.u, self.rates, self.stimulus))
        if turn:  # each window by its own number of neurons
            n = self.rates.shape[-1]
            order, rank = self.ring
            order = order[(rank + turn[0][..., None]) % n]  # ([replicas,] batch, n)
            ring = [x if x is None else x.gather(-1, order.expand_as(x)) for x in ring]
        return velocity, *ring


def _around(rec, device):
    """The neurons in order around the ring, and each one's rank in it. Returns: (n,), (n,) on the device."""
    shape = geometry.of(rec)
    places = geometry.places_of(rec, shape)
    order = shape.order(places)
    apart = np.diff(places[order, 0], append=places[order[0], 0] + 2 * np.pi) * len(order) / (2 * np.pi)
    if shape.dimensions > 1 or np.abs(apart - 1).max() > 0.5:
        raise BadInput("argument --rotate: expected neurons that lie evenly around a ring, and these do not")
    order = torch.as_tensor(order, device=device)
    return order, torch.argsort(order)
