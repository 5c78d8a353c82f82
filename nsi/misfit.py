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


def misfit(net, rec, held, data, inverses, rows, paths, generator=0):
    """Work it out for one regression.

    held: connectivity.Held of net and rec; data: uncertainty.Regression; inverses: {neuron: inverse of its information
    matrix}; rows: (n, n + input units), total = rows @ W[:, resp]; paths: (D, n, input units), gate = paths @ W[input,
    resp]; generator: seed of the nudges. Returns: Misfit.
    """
    n, size, some = net.n, len(net.b), list(inverses)
    found = Misfit(*(np.zeros((*a, n, n)) for a in ((), (), (len(paths),))))
    if size == n or not some:
        return found
    thin = lambda a: a.reshape(*held.rates.shape[:2], -1)[:, ::STRIDE]  # noqa: E731
    solve = lambda score: torch.stack([inverses[j] @ score[:, k] for k, j in enumerate(some)], 1)  # noqa: E731
    x, used = thin(data.x).double(), thin(data.used[:, some])  # in single precision slow residuals would be rounding
    seen = _neighbours(thin(data.left(some, solve(data.scores()[:, some]))), used)
    valid = held.valid[:, ::STRIDE]
    pick = lambda a: a[:, ::STRIDE][valid]  # noqa: E731
    states, before = pick(held.x)[:, :n], pick(held.slopes)
    rng, sent, shown = np.random.default_rng(generator), net.W[n:, some], 0.0
    for _ in range(DRAWS):
        other = nudged(net, rng)
        run = hold(other, rec)
        apart = run.x[:, ::STRIDE, n:size] - held.x[:, ::STRIDE, n:size]  # of the input units' states
        current = torch.where(used, torch.as_tensor(apart @ sent).double(), 0.0)
        step = solve(STRIDE * x.flatten(0, 1).T @ current.flatten(0, 1))
        shown += _neighbours(torch.where(used, (current - x @ step).float(), 0.0), used)
        step = step[:size].numpy()
        # how these, and the input units' slopes, follow the state
        even, now, then = np.split(onto_state(states, np.hstack([apart[valid], pick(run.slopes), before])), 3, 1)
        found.W[:, some] += step[:n] ** 2
        found.total[:, some] += (rows @ step - even @ sent) ** 2
        moved = now * other.W_in[:, None, n:] - then * net.W_in[:, None, n:]
        found.gate[:, :, some] += (paths @ step[n:] - moved @ sent) ** 2
    scale = max(0.0, seen) / max(shown, 1e-30)
    return Misfit(**{name: PART[name] * scale * variance for name, variance in found._asdict().items()})


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
    """Mean product of neighbouring residuals, pooled over neurons. e, used: (trials, steps, neurons)."""
    both = used[:, 1:] & used[:, :-1]
    return float((e[:, 1:] * e[:, :-1] * both).sum() / both.sum().clamp(min=1))
