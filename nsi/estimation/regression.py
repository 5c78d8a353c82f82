"""Least squares of each neuron's current on known signals, and the standard errors of what is read off it.

Where neuron j is active its rate shows its current, y_j = phi^-1(r_j) - stimulus_j, and

    y_j = X w_j + e_j,      w_j = (X' X)^-1 X' y_j,      both over the samples in which j is active

The covariance of w_j is the larger of the classical one, sigma^2 B with B = (X' X)^-1, and the trial-clustered one,
B (sum_c X_c' e_c e_c' X_c) B (Liang and Zeger 1986, doi 10.1093/biomet/73.1.13). Samples are chosen by the predicted
current, never by the recorded rate, which would favour positive noise. plain.py has the same in a few lines.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotri

SAMPLES_PER_REGRESSOR = 2  # that a neuron needs, else nothing is said of its incoming weights
MIN_CLUSTERS = 20  # at least; fewer trials are cut
STRUCTURE_LAGS = range(5, 20, 2)  # steps, at which residuals of a right description are not correlated
MAX_AUTOCORRELATION = 0.02  # mean of theirs at these lags, from which on a description does not fit
RIDGE = 1e-9  # of the mean eigenvalue, so that directions without samples have a vast, finite variance


class Samples(NamedTuple):
    """The samples that neurons' regressions use, and their sums."""

    x: np.ndarray  # (samples, q) float32
    used: np.ndarray  # (samples, n) bool
    y: np.ndarray  # (samples, n) float32, currents less the stimulus, 0 where not used
    starts: np.ndarray  # (clusters,) first sample of each trial, or piece of one

    @property
    def counts(self):
        """Samples of each neuron. (n,)"""
        return self.used.sum(0)

    def known(self, regressors=None):
        """Neurons with enough samples. (n,) bool"""
        return self.counts >= SAMPLES_PER_REGRESSOR * (regressors or self.x.shape[1])

    def residuals(self, weights, neurons=slice(None)):
        """y - x @ weights where a sample is used, else 0. weights: (q, n). Returns: (samples, n) float32."""
        left = self.y[:, neurons] - self.x @ weights.astype(np.float32)
        return np.where(self.used[:, neurons], left, np.float32(0.0))


class Moments(NamedTuple):
    """Sums over each neuron's samples, all that priors and estimates need of the data."""

    xx: dict  # neuron: (q, q), X' X
    xy: np.ndarray  # (q, n), X' y
    yy: np.ndarray  # (n,), y' y
    counts: np.ndarray  # (n,)

    def only(self, index):
        """The same of some regressors. index: (any,)."""
        return Moments({j: G[np.ix_(index, index)] for j, G in self.xx.items()}, self.xy[index], self.yy, self.counts)


def select(x, currents, known, usable, predicted, low, high):
    """Set up the samples. x: (trials, steps, q); currents, known, predicted: (trials, steps, n), phi^-1 of the rates,
    the stimulus and the current that a first fit predicts; usable: the same, bool, whether the rate shows a current at
    all; low, high: of the predicted current. Returns: Samples."""
    trials, steps, _ = x.shape
    pieces = max(1, -(-MIN_CLUSTERS // trials))
    starts = np.arange(trials)[:, None] * steps + np.arange(pieces) * steps // pieces
    flat = lambda a: a.reshape(-1, a.shape[-1])  # noqa: E731
    used = flat(usable & (predicted > low) & (predicted < high))
    y = np.where(used, flat(currents - known), 0.0).astype(np.float32)
    return Samples(np.ascontiguousarray(flat(x)), used, y, starts.ravel())


def information(samples, order=None):
    """Each neuron's X' X, summed in double precision.

    Neighbours are active together, so each matrix is the last one with the samples added or taken away that only one
    of the two has: a tenth of the work for a ring, a third for a torus. order: neurons in which neighbours follow.
    Yields: j, (q, q) of which the lower triangle is filled, overwritten by the next.
    """
    x, used, q = samples.x, samples.used, samples.x.shape[1]
    G, before = np.zeros((q, q), order="F"), np.zeros(len(x), bool)
    for j in range(used.shape[1]) if order is None else order:
        now = used[:, j]
        if np.count_nonzero(now != before) > np.count_nonzero(now):
            G[:], before = 0.0, np.zeros(len(x), bool)
        for sign, changed in ((1.0, now & ~before), (-1.0, before & ~now)):
            if changed.any():
                dsyrk(sign, x[changed].astype(np.float64).T, beta=1.0, c=G, lower=True, overwrite_c=True)
        before = now
        yield j, G


def moments(samples, order=None):
    """Sums over each neuron's samples. Returns: Moments."""
    xy = np.zeros((samples.x.shape[1], samples.used.shape[1]))
    for k in range(0, len(samples.x), 8192):
        xy += samples.x[k : k + 8192].T.astype(np.float64) @ samples.y[k : k + 8192].astype(np.float64)
    yy = np.einsum("sn,sn->n", samples.y, samples.y, dtype=np.float64)
    known = samples.known()
    xx = {j: symmetric(G) for j, G in information(samples, order) if known[j]}
    return Moments(xx, xy, yy, samples.counts)


def neighbours(used, most=5000):
    """An order of neurons in which each is followed by the one, of those left, whose samples differ the least.

    used: (samples, n) bool. Returns: (n,) indices.
    """
    active = used[:: max(1, len(used) // most)].astype(np.float32)
    differ = active.sum(0)[:, None] + active.sum(0) - 2 * active.T @ active
    order, left = [0], np.arange(1, len(differ))
    while len(left):
        closest = np.argmin(differ[order[-1], left])
        order.append(left[closest])
        left = np.delete(left, closest)
    return np.array(order)


def factorise(G):
    """The Cholesky factor of X' X, regularised by RIDGE. Returns: what scipy's cho_solve takes."""
    G = G.copy(order="F")
    np.einsum("ii->i", G)[:] += RIDGE * np.trace(G) / len(G) + 1e-30
    return cho_factor(G, lower=True, overwrite_a=True, check_finite=False)


def inverse(factor):
    """The inverse of the matrix that `factorise` has taken. Returns: (q, q)."""
    return symmetric(dpotri(factor[0], lower=True)[0])


def symmetric(lower):
    """A symmetric matrix by its lower triangle."""
    lower = np.tril(lower)
    return lower + np.tril(lower, -1).T


class LeastSquares(NamedTuple):
    """The unbiased estimate of all weights, and the standard errors of linear maps of them."""

    weights: np.ndarray  # (q, n), NaN for neurons with too few samples
    variance: np.ndarray  # (n,), of the residual
    se: list  # of (m, n), for each map


def least_squares(samples, sums, maps):
    """The unbiased estimate. sums: Moments of the samples; maps: list of (m, q). Returns: LeastSquares."""
    q, n = sums.xy.shape
    weights, variance = np.full((q, n), np.nan), np.full(n, np.nan)
    se = [np.full((len(L), n), np.inf) for L in maps]
    factors = {j: factorise(G) for j, G in sums.xx.items()}
    for j, factor in factors.items():
        weights[:, j] = cho_solve(factor, sums.xy[:, j], check_finite=False)
        variance[j] = max(0.0, sums.yy[j] - weights[:, j] @ sums.xy[:, j]) / max(1, sums.counts[j] - q)
    left = samples.residuals(np.nan_to_num(weights))
    pieces = np.split(np.arange(len(samples.x)), samples.starts[1:])
    scores = np.stack([left[piece].T @ samples.x[piece] for piece in pieces]).astype(np.float64)  # (clusters, n, q)
    larger = len(pieces) / max(1, len(pieces) - 1)
    for j, factor in factors.items():
        B = inverse(factor)
        clustered = scores[:, j] @ B  # (clusters, q)
        for L, errors in zip(maps, se, strict=True):
            classical = variance[j] * np.einsum("mq,mq->m", L @ B, L)
            errors[:, j] = np.sqrt(np.maximum(classical, larger * ((clustered @ L.T) ** 2).sum(0)))
    return LeastSquares(weights, variance, se)
