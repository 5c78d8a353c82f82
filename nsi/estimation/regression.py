"""Least squares of each neuron's current on known signals, and the standard errors of what is read off it.

Where neuron j is active its rate shows its current, y_j = phi^-1(r_j) - stimulus_j, and

    y_j = X w_j + e_j,      w_j = (X' X)^-1 X' y_j,      both over the samples in which j is active

The covariance of w_j is the larger of the classical one, sigma^2 B with B = (X' X)^-1, and the trial-clustered one,
B (sum_c X_c' e_c e_c' X_c) B (Liang and Zeger 1986, doi 10.1093/biomet/73.1.13). Samples are chosen by the predicted
current, never by the recorded rate, which would favour positive noise. plain.py has the same in a few lines.

All functions take the samples in pieces, any iterable of Samples, so that a long recording's signals need never be in
memory at once.
"""

from itertools import islice
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk, dtrmm
from scipy.linalg.lapack import dpotri, dtrtri

from nsi.sums import ROWS, sum_products

NORMAL = 1.96  # 97.5th percentile of the normal distribution
SAMPLES_PER_REGRESSOR = 2  # that a neuron needs, else nothing is said of its incoming weights
MIN_CLUSTERS, MAX_CLUSTERS = 20, 100  # fewer trials are cut, more are put together
STRUCTURE_LAGS = range(5, 20, 2)  # steps, at which residuals of a right description are not correlated
MAX_AUTOCORRELATION = 0.02  # mean of theirs at these lags, from which on a description does not fit
CONVERTED_BYTES = 1e8  # of samples, up to which all are kept in double precision while sums are taken
LEAF = 64  # rows of a triangular matrix that LAPACK inverts
RIDGE = 1e-9  # of the mean eigenvalue, so that directions without samples have a vast, finite variance


class Samples(NamedTuple):
    """Some samples that neurons' regressions use."""

    x: np.ndarray  # (samples, q) float32
    used: np.ndarray  # (samples, n) bool
    y: np.ndarray  # (samples, n) float32, currents less the stimulus, 0 where not used
    starts: np.ndarray  # (clusters,) first sample of each cluster
    weight: np.ndarray | None = None  # (samples, n), of each sample, 0 where not used; None: 1 where used

    def only(self, neurons):
        """The same of some neurons. neurons: indices."""
        weight = None if self.weight is None else self.weight[:, neurons]
        return self._replace(used=self.used[:, neurons], y=self.y[:, neurons], weight=weight)

    def residuals(self, weights, neurons=slice(None)):
        """y - x @ weights where a sample is used, else 0. weights: (q, any). Returns: (samples, any) float32."""
        left = self.y[:, neurons] - self.x @ weights.astype(np.float32)
        return np.where(self.used[:, neurons], left, np.float32(0.0))


class Moments(NamedTuple):
    """Sums over each neuron's samples, all that priors and estimates need of the data."""

    xx: dict  # neuron: (q, q), the lower triangle of X' X and 0 above, of neurons with enough samples
    xy: np.ndarray  # (q, n), X' y
    yy: np.ndarray  # (n,), y' y
    counts: np.ndarray  # (n,), samples

    def only(self, index):
        """The same of some regressors. index: ascending."""
        return Moments({j: G[np.ix_(index, index)] for j, G in self.xx.items()}, self.xy[index], self.yy, self.counts)


def select(x, currents, known, usable, predicted, low, high):
    """Set up samples. x: (trials, steps, q); currents, known, predicted: (trials, steps, n), phi^-1 of the rates, the
    stimulus and the current that a first fit predicts; usable: the same, bool, whether the rate shows a current at all;
    low, high: of the predicted current. Each trial is a cluster. Returns: Samples."""
    trials, steps, _ = x.shape
    flat = lambda a: a.reshape(-1, a.shape[-1])
    used = flat(usable & (predicted > low) & (predicted < high))
    y = np.where(used, flat(currents - known), 0.0).astype(np.float32)
    return Samples(np.ascontiguousarray(flat(x)), used, y, np.arange(trials) * steps)


def cluster_starts(trials, steps, per_cluster=1, cuts=1):
    """First samples of clusters of so many trials, or of so many pieces of each trial. Returns: (clusters,)."""
    first = np.arange(0, trials, per_cluster)[:, None] * steps
    return (first + np.arange(cuts) * steps // cuts).ravel()


def information(pieces, order=None):
    """Each neuron's X' X over all pieces, summed in double precision.

    Neighbours are active together, so each matrix is the last one with the samples added or taken away that only one
    of the two has: a tenth of the work for a ring, a third for a torus. pieces: list of Samples; order: neurons, in
    which neighbours follow. Yields: j, (q, q) of which the lower triangle is filled, overwritten by the next.
    """
    q, n = pieces[0].x.shape[1], pieces[0].used.shape[1]
    order = range(n) if order is None else order
    G = np.zeros((q, q), order="F")
    if pieces[0].weight is not None:
        for j in order:
            G[:] = 0.0
            for samples in pieces:
                at = np.flatnonzero(samples.weight[:, j])
                _add_products(G, samples.x[at].astype(np.float64) * np.sqrt(samples.weight[at, j, None]))
            yield j, G
        return
    used = np.concatenate([samples.used.T for samples in pieces], 1)
    x, starts = [samples.x for samples in pieces], np.cumsum([0] + [len(samples.x) for samples in pieces])
    if sum(a.nbytes for a in x) < CONVERTED_BYTES:  # once, rather than rows each time they change
        x = [a.astype(np.float64) for a in x]
    before = np.zeros(used.shape[1], bool)
    for j in order:
        now = used[j]
        if np.count_nonzero(now != before) > np.count_nonzero(now):
            G[:], before = 0.0, np.zeros_like(now)
        for sign, changed in ((1.0, now & ~before), (-1.0, before & ~now)):
            at = np.flatnonzero(changed)
            parts = np.split(at, np.searchsorted(at, starts[1:-1]))
            for a, i, k in zip(x, parts, starts, strict=False):
                _add_products(G, a[i - k], sign)
        before = now
        yield j, G


def _add_products(G, rows, sign=1.0):
    """Add sign * rows.T @ rows to the lower triangle of G, in place, in double precision."""
    for first in range(0, len(rows), ROWS):
        some = rows[first : first + ROWS].astype(np.float64, copy=False)
        dsyrk(sign, some.T, beta=1.0, c=G, lower=True, overwrite_c=True)


def moments(pieces, order=None, least=None):
    """Sums over each neuron's samples. pieces: iterable of Samples; order: neurons whose X' X are wanted (default:
    all), neighbours following each other; least: samples without which a neuron's is left out (default: those that
    least squares needs). Returns: Moments."""
    xx, xy = {}, 0.0
    yy = counts = 0
    for samples in pieces:
        y = samples.y if samples.weight is None else samples.weight * samples.y
        xy = xy + sum_products(samples.x, y)
        yy = yy + np.einsum("sn,sn->n", y, samples.y, dtype=np.float64)
        counts = counts + samples.used.sum(0)
        for j, G in information([samples], order):
            if j in xx:
                xx[j] += G
            else:
                xx[j] = G.copy(order="F")
    known = counts >= (SAMPLES_PER_REGRESSOR * len(xy) if least is None else least)
    return Moments({j: G for j, G in xx.items() if known[j]}, xy, yy, counts)


def moments_by_groups(pieces, groups, sums, least=None):
    """The same of some neurons at a time, whose X' X need not fit into memory together. pieces: list of Samples;
    groups: list of indices; sums: Moments, of which xy, yy and counts are those of all neurons. Yields: Moments."""
    known = sums.counts >= (SAMPLES_PER_REGRESSOR * len(sums.xy) if least is None else least)
    each = information(pieces, np.concatenate(groups))
    for group in groups:
        yield sums._replace(xx={j: G.copy(order="F") for j, G in islice(each, len(group)) if known[j]})


def ordinary(samples, order=None, ridge=1e-7):
    """Least squares with a small ridge. samples: Samples. Returns: weights (q, n), 0 for neurons with too few samples,
    and the median s.d. of the residual."""
    xy = sum_products(samples.x, samples.y)
    yy = np.einsum("sn,sn->n", samples.y, samples.y, dtype=np.float64)
    weights, variance, counts, q = np.zeros_like(xy), [], samples.used.sum(0), len(xy)
    for j, G in information([samples], order):
        if counts[j] >= SAMPLES_PER_REGRESSOR * q:
            weights[:, j] = cho_solve(factorise(G, ridge), xy[:, j], check_finite=False)
            variance.append((yy[j] - weights[:, j] @ xy[:, j]) / max(1, counts[j] - q))
    return weights, float(np.sqrt(max(np.median(variance), 1e-12))) if variance else np.nan


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


def factorise(G, ridge=RIDGE):
    """The Cholesky factor of X' X by its lower triangle, regularised. Returns: what scipy's cho_solve takes."""
    G = G.copy(order="F")
    np.einsum("ii->i", G)[:] += ridge * np.trace(G) / len(G) + 1e-30
    return cho_factor(G, lower=True, overwrite_a=True, check_finite=False)


def invert_root(L):
    """The inverse of a lower triangular matrix, by halves: LAPACK's, a column at a time, takes twice as long."""
    half = len(L) // 2
    if len(L) <= LEAF:
        return dtrtri(np.asfortranarray(L), lower=1)[0]
    first, last = invert_root(L[:half, :half]), invert_root(L[half:, half:])
    below = dtrmm(-1.0, first, np.asfortranarray(L[half:, :half]), side=1, lower=1, overwrite_b=1)
    inverse = np.zeros(L.shape, order="F")
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[half:, :half] = dtrmm(1.0, last, below, lower=1, overwrite_b=1)
    return inverse


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

    @staticmethod
    def unknown(q, n, maps):
        """That of no neuron. maps: list of (m, q)."""
        return LeastSquares(np.full((q, n), np.nan), np.full(n, np.nan), [np.full((len(L), n), np.inf) for L in maps])

    def fill(self, other, neurons):
        """Take some neurons from another one, in place."""
        self.weights[:, neurons], self.variance[neurons] = other.weights[:, neurons], other.variance[neurons]
        for mine, theirs in zip(self.se, other.se, strict=True):
            mine[:, neurons] = theirs[:, neurons]


def solve(sums):
    """The weights (q, n) and the residual's variance (n,), NaN for neurons with too few samples, and the sums' factors
    by neuron. sums: Moments."""
    q, n = sums.xy.shape
    weights, variance = np.full((q, n), np.nan), np.full(n, np.nan)
    factors = {j: factorise(G) for j, G in sums.xx.items() if sums.counts[j] >= SAMPLES_PER_REGRESSOR * q}
    for j, factor in factors.items():
        weights[:, j] = cho_solve(factor, sums.xy[:, j], check_finite=False)
        variance[j] = max(0.0, sums.yy[j] - weights[:, j] @ sums.xy[:, j]) / max(1, sums.counts[j] - q)
    return weights, variance, factors


class LinearMap:
    """What the variance of L w needs of L, (m, q): most are the identity on direct weights, and some columns."""

    def __init__(self, L):
        m = len(L)
        self.identity = L.shape[1] >= m and np.array_equal(L[:, :m], np.eye(m))
        rest = L.copy()
        rest[:, :m] -= np.eye(m) if self.identity else 0.0
        self.columns, self.m = np.flatnonzero(rest.any(0)), m
        self.rest = rest[:, self.columns]

    def variance(self, root):
        """The diagonal of L B L'. root: (q, q) lower triangular with B = root' root. Returns: (m,)."""
        some, direct = np.asfortranarray(root[:, self.columns]), root[:, : self.m]
        variance = np.einsum("mk,mk->m", self.rest @ (some.T @ some), self.rest)
        if self.identity:
            variance += np.einsum("qm,qm->m", direct, direct)
            variance += 2 * np.einsum("mk,mk->m", direct.T @ some, self.rest)
        return variance

    def apply(self, weights):
        """L w for each row w of some weights. weights: (any, q). Returns: (any, m)."""
        mapped = weights[:, self.columns] @ self.rest.T
        return mapped + weights[:, : self.m] if self.identity else mapped


def least_squares(pieces, sums, maps):
    """The unbiased estimate. pieces: iterable of Samples; sums: Moments of them; maps: list of (m, q).

    Returns: LeastSquares of the neurons in sums.xx.
    """
    weights, variance, factors = solve(sums)
    se = LeastSquares.unknown(*weights.shape, maps).se
    neurons, structured, scores = list(factors), [LinearMap(L) for L in maps], []
    for samples in pieces if neurons else ():
        left = samples.residuals(weights[:, neurons], neurons)
        left = left if samples.weight is None else left * samples.weight[:, neurons]
        ends = [*samples.starts[1:], len(left)]
        scores += [left[a:b].T @ samples.x[a:b] for a, b in zip(samples.starts, ends, strict=True)]
    larger = len(scores) / max(1, len(scores) - 1)
    for k, (j, factor) in enumerate(factors.items()):
        clustered = cho_solve(factor, np.stack([score[k] for score in scores], -1).astype(np.float64)).T
        root = invert_root(factor[0])
        for L, errors in zip(structured, se, strict=True):
            classical = variance[j] * L.variance(root)
            errors[:, j] = np.sqrt(np.maximum(classical, larger * (L.apply(clustered) ** 2).sum(0)))
    return LeastSquares(weights, variance, se)
