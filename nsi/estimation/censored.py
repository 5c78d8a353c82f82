"""Regression of currents of which silence shows only that they are below the threshold (Tobit: Tobin 1958,
doi 10.2307/1907382), for all neurons at once.

    y_j = X w_j + e_j,  e_j ~ N(0, s_j^2);      y_j is known where the neuron fires, elsewhere only y_j < c_j

The likelihood of a silent step is Phi((c - X w) / s), of a saturated one Phi((X w - c) / s). It is maximised by
expectation and maximisation (Dempster, Laird and Rubin 1977): with m = X w, z = (c - m) / s and the hazard
h(z) = N(z) / Phi(z), a silent step counts as y = m - s h and leaves a variance of s^2 (1 - h (h + z)),

    w <- w + B X' (E[y] - X w),      s^2 <- mean(E[(y - X w)^2])

with B = (X'X)^-1, and then by Newton steps in (w, log s), for which the information about w is

    J = X' diag(omega) X / s^2,      omega = 1 where the current is known, h (h + z) elsewhere
"""

from typing import NamedTuple

import numpy as np
from scipy.special import erfcx

from nsi.sums import sum_products

ROUGH_EVERY, ROUGH_ROUNDS = 4, 15  # steps and rounds of the first, rough, maximisation
MAX_ROUNDS = 8, 8  # Newton steps before and after the information is worked out again
CONVERGED = 0.02  # standard errors, by which no weight changes any more
RIDGE = 1e-9  # of the mean square of the regressors, for neurons that never fire
SAMPLES_PER_COLUMN = 2  # known currents, fewer than which say nothing of a neuron
MIN_CLUSTERS = 20  # of trials, or pieces of them, that the sandwich is taken over


class Samples(NamedTuple):
    """Regressors and currents, flat over trials and steps, for n neurons."""

    x: np.ndarray  # (samples, q) float32, the last column 1
    y: np.ndarray  # (samples, n) float32, currents less the stimulus; where they are not known, the bound c
    silent: np.ndarray  # (samples, n) int8: 0 where y is known, 1 where the current is below y, -1 where above
    trial: np.ndarray  # (samples,) int

    def every(self, step):
        return Samples(*(a[::step] for a in self))


class CensoredFit(NamedTuple):
    """Maximum likelihood, NaN for neurons with too few known currents."""

    weights: np.ndarray  # (q, n)
    variance: np.ndarray  # (n,), of the noise
    information: np.ndarray  # (n, q, q), J
    residuals: np.ndarray  # (samples, n) float32, expected ones where the current is not known


def hazard(z):
    """N(z) / Phi(z), the normal density over its distribution function."""
    return np.sqrt(2 / np.pi) / erfcx(-z / np.sqrt(2))


class _Expectation:
    """Expected residuals given the weights, with the places of unknown currents worked out once."""

    def __init__(self, samples):
        self.x, self.y = samples.x, samples.y
        self.at = np.flatnonzero(samples.silent)
        self.sign = samples.silent.ravel()[self.at].astype(np.float32)
        self.neuron = self.at % samples.y.shape[1]
        self.count = np.bincount(self.neuron, minlength=samples.y.shape[1])

    def __call__(self, w, s):
        """w: (q, n), s: (n,). Returns: E[y] - X w (samples, n), s by expectation and maximisation (n,), and the terms
        of a Newton step in w and log s together: omega of the unknown currents; per sample s^2 times the information
        about both together; per neuron the gradient by log s and the information about it."""
        residual = self.y - self.x @ w.astype(np.float32)
        own = s[self.neuron].astype(np.float32)
        z = np.clip(self.sign * residual.ravel()[self.at] / own, -50, 12)
        h = hazard(z)
        omega = h * (h + z)
        residual.ravel()[self.at] = 0
        square = np.einsum("tn,tn->n", residual, residual, dtype=np.float64) / s**2
        both = 2 * residual
        residual.ravel()[self.at] = -self.sign * own * h
        both.ravel()[self.at] = self.sign * own * (omega * z - h)
        of = lambda values: np.bincount(self.neuron, values, len(s))
        slow = s * np.sqrt((square + of(1 - h * z)) / len(residual))
        gradient = square - (len(residual) - self.count) - of(h * z)
        return residual, slow, (omega, both, gradient, 2 * square + of(z * (z * omega - h)))


def maximise_likelihood(samples):
    """Fit all neurons. samples: Samples. Returns: CensoredFit."""
    x, n, q = samples.x, samples.y.shape[1], samples.x.shape[1]
    known = (samples.silent == 0).sum(0)
    enough = known >= SAMPLES_PER_COLUMN * q
    w, s = np.zeros((q, n)), np.maximum(samples.y.std(0, dtype=np.float64), 1e-6)
    w[-1] = np.where(samples.silent == 0, samples.y, 0).sum(0) / np.maximum(known, 1)
    complete = not samples.silent.any()
    for step, rounds in ((1, 2),) if complete else ((ROUGH_EVERY, ROUGH_ROUNDS), (1, 1)):
        some = samples.every(step)
        expectation, G = _Expectation(some), _gram(some.x)
        inverse = np.linalg.inv(G)
        for _ in range(rounds):
            residual, s, _ = expectation(w, s)
            w = w + inverse @ (some.x.T @ residual)
    residual, exact, _ = expectation(w, s)
    if complete:
        s = exact * np.sqrt(len(x) / max(1, len(x) - q))
        J = G / s[:, None, None] ** 2
    else:
        w, s, J, residual = _newton(samples, expectation, w, exact, enough)
        enough &= np.linalg.eigvalsh(J)[:, 0] > 0  # else the likelihood has no maximum within rounding
    w[:, ~enough], s[~enough], residual[:, ~enough] = np.nan, np.nan, 0.0
    return CensoredFit(w, s**2, J, residual)


def _newton(samples, expectation, w, s, enough):
    """Newton steps in w and log s of all neurons, the information about w being worked out once more before the last.

    Returns: w, s, information about w when s is unknown, residuals."""
    x, n = samples.x, len(s)
    order = np.argsort(expectation.neuron, kind="stable")
    ends = np.searchsorted(expectation.neuron[order], np.arange(n + 1))
    row, G = expectation.at // n, _gram(x)
    residual, _, terms = expectation(w, s)
    for rounds in MAX_ROUNDS:
        J = np.repeat(G[None], n, 0)
        for j in np.flatnonzero(enough):
            one = order[ends[j] : ends[j + 1]]
            lost = x[row[one]]
            J[j] -= lost.T @ ((1 - terms[0][one])[:, None].astype(np.float32) * lost)
        inverse = np.linalg.inv(J)
        size = np.sqrt(np.maximum(np.einsum("npp->pn", inverse), 0.0))
        for _ in range(rounds):
            _, both, gradient, own = terms
            across = (x.T @ both).astype(np.float64)
            half = np.einsum("npq,qn->pn", inverse, across)
            plain = np.einsum("npq,qn->pn", inverse, x.T @ residual)
            left = np.maximum(own - (across * half).sum(0) / s**2, 0.1 * own)
            step = np.clip((gradient - (across * plain).sum(0) / s**2) / left, -0.3, 0.3) * enough
            change = (plain - half * step) * enough
            w, s = w + change, s * np.exp(step)
            residual, _, terms = expectation(w, s)
            if (np.abs(change) < CONVERGED * s * size).all() and (np.abs(step) < CONVERGED / np.sqrt(left)).all():
                break
    across = (x.T @ terms[1]).astype(np.float64).T / s[:, None] ** 2
    J = J / s[:, None, None] ** 2 - across[:, :, None] * across[:, None] / np.maximum(terms[3], 1)[:, None, None]
    return w, s, J, residual


def _gram(x):
    G = sum_products(x, x)
    G[np.diag_indices(len(G))] += RIDGE * np.trace(G) / len(G)
    return G


def marginal(information, kept):
    """Information about the first `kept` weights, the others unknown. (n, q, q) -> (n, kept, kept)"""
    a, b, d = information[:, :kept, :kept], information[:, :kept, kept:], information[:, kept:, kept:]
    return a - b @ np.linalg.solve(d, b.transpose(0, 2, 1))


def restrict(fit, possible):
    """Weights and their covariance where some are known to be 0, by the parabola about the maximum of the likelihood.

    possible: (q, n) bool. Returns: (q, n) and (n, q, q), both 0 where a weight is not possible."""
    if possible.all():
        return fit.weights, np.linalg.inv(fit.information)
    weights, covariance = np.zeros_like(fit.weights), np.zeros_like(fit.information)
    for j, J in enumerate(fit.information):
        on = np.flatnonzero(possible[:, j])
        inverse = np.linalg.inv(J[np.ix_(on, on)])
        covariance[j][np.ix_(on, on)] = inverse
        weights[on, j] = inverse @ (J @ fit.weights[:, j])[on]
    return weights, covariance


def standard_errors(fit, samples, covariance):
    """The larger of the classical and the trial-clustered (sandwich) standard errors. covariance: of `restrict`.

    Returns: (q, n)."""
    trial = samples.trial
    if len(np.unique(trial)) < MIN_CLUSTERS:
        trial = np.arange(len(trial)) * MIN_CLUSTERS // len(trial)
    starts = np.flatnonzero(np.diff(trial, prepend=trial[0] - 1))
    clusters = np.split(np.arange(len(trial)), starts[1:])
    scores = np.stack([samples.x[c].T @ fit.residuals[c] for c in clusters]) / np.nan_to_num(fit.variance, nan=1.0)
    robust = (np.einsum("npq,cqn->cpn", covariance, scores, optimize=True) ** 2).sum(0)
    robust *= len(clusters) / (len(clusters) - 1)
    return np.sqrt(np.maximum(robust, np.einsum("npp->pn", covariance)))


def log_likelihood(samples, fit, trials):
    """Log likelihood of each trial's currents, silent and saturated steps included. Returns: (trials,)."""
    s = np.sqrt(fit.variance)
    z = (samples.y - samples.x @ fit.weights.astype(np.float32)) / s
    known = samples.silent == 0
    side = np.where(known, 0.0, np.clip(samples.silent * z, -35, 12))
    each = np.where(known, -0.5 * z**2 - np.log(s) - 0.5 * np.log(2 * np.pi), np.log(erfcx(-side / np.sqrt(2)) / 2))
    each -= np.where(known, 0.0, 0.5 * side**2)
    return np.bincount(samples.trial, np.nan_to_num(each).sum(1), trials)
