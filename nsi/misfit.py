"""What it does to an estimate that the input units' tuning is itself a fit, and not the hidden neurons'.

The regression of uncertainty.py takes the input units' states for given. Where they are not the hidden neurons', the
current has a part that no weight explains, a function of the circuit's state that comes back in every trial: it biases
the weights, and more data do not help. The noise is new at every step, this part is not; so the covariance of
neighbouring residuals tells its size. What it can do is found by trial: the tuning is nudged at random, in all that an
input unit receives, and the estimate worked out anew as if the nudged network were the circuit. Misfit of this kind,
nudged so far that as much of it shows in the residuals as there does, has the variance that is added to the intervals.
"""

from typing import NamedTuple

import numpy as np
import torch

from nsi.connectivity import hold, onto_state

DRAWS = 4
STRIDE = 2  # steps: what a wrong tuning does changes slowly, so that every other step tells it
PART = {"W": 1.5, "total": 2.0, "gate": 0.25}  # of that variance: set on some circuits, tested on others
NUDGE = 0.02  # relative to the r.m.s. weight: small enough for the answer to be in proportion


class Misfit(NamedTuple):
    """Variance that a fitted tuning adds to an estimate; 0 for neurons of which the data say nothing."""

    W: np.ndarray  # (n, n)
    total: np.ndarray  # (n, n)
    gate: np.ndarray  # (D, n, n)


class Nudges:
    """Nudged tunings, and what they do to a regression, which is told some neurons at a time."""

    def __init__(self, net, rec, held, data, even, paths, generator=0):
        """held: connectivity.Held of net and rec; data: uncertainty.Regression; even: (n, input units), what these do
        for W's even path, and paths: (D, n, input units), for the gate; generator: seed of the nudges."""
        n, size = net.n, len(net.b)
        self.n, self.even, self.paths, self.sent = n, even, paths, net.W[n:, :n]
        self.found = Misfit(*(np.zeros((*a, n, n)) for a in ((), (), (len(paths),))))
        self.thin = lambda a: a.reshape(*held.rates.shape[:2], -1)[:, ::STRIDE]
        # in single precision slow residuals would be rounding
        self.x, self.used = self.thin(data.x).double().flatten(0, 1), self.thin(data.used)
        self.seen, self.shown, self.draws = np.zeros(2), np.zeros(2), []
        valid = held.valid[:, ::STRIDE]
        pick = lambda a: a[:, ::STRIDE][valid]  # noqa: E731
        states, before = pick(held.x)[:, :n], pick(held.slopes)
        rng = np.random.default_rng(generator)
        for _ in range(DRAWS if size > n else 0):
            other = nudged(net, rng)
            run = hold(other, rec)
            apart = run.x[:, ::STRIDE, n:size] - held.x[:, ::STRIDE, n:size]  # of the input units' states
            # how these, and the input units' slopes, follow the state
            follow, now, then = np.split(onto_state(states, np.hstack([apart[valid], pick(run.slopes), before])), 3, 1)
            moved = now * other.W_in[:, None, n:] - then * net.W_in[:, None, n:]
            self.draws.append((torch.as_tensor(apart).flatten(0, 1), follow, moved))

    def add(self, neurons, solved, left):
        """What they do to some neurons. solved: a function that takes their scores x.T @ e (q, ..., k) to steps of
        their coefficients; left: (samples, k), their residuals."""
        if not self.draws:
            return
        used, n = self.used[..., neurons], self.n
        self.seen += _neighbours(self.thin(left), used)
        sent, k = self.sent[:, neurons], len(neurons)
        currents = torch.cat([apart @ torch.as_tensor(sent) for apart, _, _ in self.draws], 1).double()
        currents *= used.flatten(0, 1).repeat(1, DRAWS)
        # numpy's products of so few columns take a quarter of torch's time
        x, narrow = self.x.numpy(), currents.numpy()
        steps = solved(STRIDE * torch.as_tensor((narrow.T @ x).T).view(-1, DRAWS, k))
        currents -= torch.as_tensor(x @ steps.flatten(1).numpy())
        e = currents.float().view(*used.shape[:2], DRAWS, k).movedim(2, 0)
        self.shown += sum(_neighbours(torch.where(used, one, 0.0), used) for one in e)
        for (_, follow, moved), step in zip(self.draws, steps.movedim(1, 0).numpy(), strict=True):
            direct, through = step[:n], step[n : n + len(sent)]
            self.found.W[:, neurons] += direct**2
            self.found.total[:, neurons] += (direct + self.even @ through - follow @ sent) ** 2
            self.found.gate[:, :, neurons] += (self.paths @ through - moved @ sent) ** 2

    def variance(self):
        """What the tuning's error adds to that of every neuron told. Returns: Misfit."""
        seen, shown = (total / max(1.0, count) for total, count in (self.seen, self.shown))
        scale = max(0.0, seen) / max(DRAWS * shown, 1e-30)
        return Misfit(**{name: PART[name] * scale * variance for name, variance in self.found._asdict().items()})


def nudged(net, rng):
    """The network with what its hidden units receive changed at random, NUDGE of the r.m.s. of its kind each."""
    n, changed = net.n, []
    for a in (net.W[:n, n:], net.W_in[:, n:], net.b[n:]):
        noise = rng.standard_normal(a.shape) * (a != 0)
        changed.append((a + NUDGE * np.sqrt(np.mean(a**2)) * noise).astype(a.dtype))
    W, W_in, b = net.W.copy(), net.W_in.copy(), net.b.copy()
    W[:n, n:], W_in[:, n:], b[n:] = changed
    return net._replace(W=W, W_in=W_in, b=b)


def _neighbours(e, used):
    """Sum over products of neighbouring residuals, and how many. e, used: (trials, steps, neurons). Returns: (2,)."""
    both = used[:, 1:] & used[:, :-1]
    return np.array([float((e[:, 1:] * e[:, :-1] * both).double().sum()), float(both.sum())])
