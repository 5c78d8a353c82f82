"""Fluorescence of an indicator: its rates, and its decay where the file does not give it.

    y[t] = c[t] + e[t],   c[t] = g c[t-1] + (1 - g) r[t],   g = exp(-dt / decay)

A neuron that the bump has left has r = 0, and its fluorescence falls to 0 as g^k, k steps later, in whatever way the
circuit works. With one free size c_i for each run i of silent steps, the decay minimises the squares of

    y_i[k] - c_i g^k,     c_i = (g^k . y_i) / (g^k . g^k)

The bump of the fluorescence lags by about the decay. So a neuron counts as silent where its place is FAR from the
fluorescence's phase one decay later, which settles in turn with the decay. The standard error is clustered by trials.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize_scalar

from nsi.estimation.kinetics import surely_better
from nsi.estimation.regression import MAX_AUTOCORRELATION, MIN_CLUSTERS

ROUNDING = 4  # single-precision roundings of the largest fluorescence
FAR = 2 * np.pi / 3  # rad, of a silent neuron's place from the phase
BLUR = 0.1  # s, of the phase
SHORTEST_RUN = 5  # steps
LONGEST = 3.0  # s, of decays
ROUNDS, SETTLED = 6, 5e-3  # in which decay and phase settle; relative change
MAX_RELATIVE_SE = 0.025  # of the decay, above which it is not determined
NEGLIGIBLE = 1e-3  # s.d. of what decays leave, relative to the highest fluorescence, that may be autocorrelated
STEP = 0.02  # of the logarithm of the decay, for derivatives


class Decay(NamedTuple):
    """Of an indicator, s."""

    value: float
    se: float


def deconvolve(fluorescence, g):
    """The rates r of an indicator's fluorescence, exact without noise: those that rounding alone tells from 0 are 0.
    fluorescence: (trials, steps, n) float32. Returns: the same shape."""
    rates = fluorescence.copy()
    rates[:, 1:] = (fluorescence[:, 1:] - np.float32(g) * fluorescence[:, :-1]) / np.float32(1 - g)
    rates[np.abs(rates) < ROUNDING * np.finfo(np.float32).eps * fluorescence.max() / (1 - g)] = 0.0
    return rates


class Runs(NamedTuple):
    """Samples of neurons that are silent, one run after another."""

    y: np.ndarray  # (samples,)
    k: np.ndarray  # (samples,) int, steps since the run's first one
    first: np.ndarray  # (runs,) int, each run's first sample
    cluster: np.ndarray  # (runs,) int

    def explain(self, decay):
        """Squares that decays of this time constant (in steps) explain, by run, and their sizes. Returns: (runs,) two
        times."""
        p = np.exp(-np.arange(self.k.max() + 1) / decay)[self.k]
        by_run = lambda a: np.add.reduceat(a, self.first)
        with_y, norm = by_run(p * self.y), by_run(p * p)
        return with_y**2 / norm, with_y / norm

    def by_cluster(self, a):
        """Sums by cluster. a: (runs,)."""
        return np.bincount(self.cluster, a)


def silent_runs(rec, places, direction, lag):
    """The runs of steps in which neurons are silent. direction: (trials, steps) complex, of the bump; lag: steps by
    which it comes late. Returns: Runs, or None where there are none."""
    trials, steps, n = rec.rates.shape
    use = np.zeros((trials, n, steps), bool)
    late = np.angle(direction[:, lag:])[:, None]
    use[..., : steps - lag] = np.cos(places[:, 0][:, None] - late) < np.cos(FAR)
    use[..., : steps - lag] &= (rec.valid[:, : steps - lag] & rec.valid[:, lag:])[:, None]
    if rec.stimulus is not None:
        use &= rec.stimulus.transpose(0, 2, 1) == 0
    edges = np.diff(np.pad(use, ((0, 0), (0, 0), (1, 1))).astype(np.int8).ravel())
    starts, ends = (np.flatnonzero(edges == sign) for sign in (1, -1))
    kept = ends - starts >= SHORTEST_RUN
    starts, length = starts[kept], (ends - starts)[kept]
    if not len(starts):
        return None
    first = np.cumsum(length) - length
    k = np.arange(length.sum()) - np.repeat(first, length)
    trial, rest = np.divmod(starts + 1, n * (steps + 2))  # of the padded array, a step before
    neuron, step = np.divmod(rest, steps + 2)
    at = np.repeat((trial * n + neuron) * steps + step - 1, length) + k
    pieces = max(1, -(-MIN_CLUSTERS // trials))
    y = rec.rates.transpose(0, 2, 1).reshape(-1)[at].astype(np.float64)
    return Runs(y, k, first, trial * pieces + step * pieces // (steps + 2))


def find_decay(rec, places):
    """The decay of the indicator whose fluorescence a ring's rates are. rec: Recording; places: (n, 1) rad. Returns:
    Decay, or None where silent neurons do not determine it."""
    z = rec.rates @ np.exp(1j * places[:, 0]).astype(np.complex64)
    width = max(1.0, BLUR / rec.dt)
    direction = gaussian_filter1d(z.real, width, axis=1) + 1j * gaussian_filter1d(z.imag, width, axis=1)
    longest, decay = min(LONGEST / rec.dt, rec.rates.shape[1] / 2), BLUR / rec.dt
    for _ in range(ROUNDS):
        runs, before = silent_runs(rec, places, direction, round(decay)), decay
        if runs is None or np.square(runs.y).sum() <= 0:
            return None
        decay = _likeliest(runs, longest)
        if abs(decay / before - 1) < SETTLED:
            return _judge(runs, decay, rec)
    return None


def _likeliest(runs, longest):
    """The decay, in steps, that explains most: the best of a few, then between its neighbours."""
    grid = np.geomspace(0.5, longest, 16)
    explained = [runs.explain(d)[0].sum() for d in grid]
    best = int(np.argmax(explained))
    bounds = np.log(grid[max(0, best - 1)]), np.log(grid[min(len(grid) - 1, best + 1)])
    loss = lambda log: -runs.explain(np.exp(log))[0].sum()
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def _judge(runs, decay, rec):
    """The Decay of some runs, None where it is not clearly determined."""
    below, at, above = (runs.by_cluster(runs.explain(decay * np.exp(s))[0]) for s in (-STEP, 0.0, STEP))
    score, curvature = (above - below) / (2 * STEP), (2 * at - above - below).sum() / STEP**2
    sizes = runs.explain(decay)[1]
    e = runs.y - np.repeat(sizes, np.diff(np.append(runs.first, len(runs.y)))) * np.exp(-runs.k / decay)
    square = np.square(e).sum()
    variance = square / max(1, len(e) - len(sizes))
    white = (e[1:] * e[:-1])[runs.k[1:] > 0].sum() < MAX_AUTOCORRELATION * square
    white |= variance < (NEGLIGIBLE * np.quantile(rec.rates, 0.99)) ** 2
    by_chance = variance * runs.by_cluster(np.ones(len(sizes)))
    share = (at - by_chance) / np.maximum(at + by_chance, 1e-30)
    se = np.sqrt(np.square(score).sum()) / max(curvature, 1e-30)  # of log decay
    clear = se < MAX_RELATIVE_SE and surely_better(share, 0.0 * share)
    return Decay(decay * rec.dt, float(se * decay * rec.dt)) if white and clear else None
