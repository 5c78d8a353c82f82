"""The second description of a recording: the velocity multiplies connections, and there are no hidden units.

    arctanh(r[t]) = sum over orders k of v[t]^k (u[t] @ G_k) + b + noise

It is linear in the G_k, so that the fit is a ridge regression for each neuron, with one prior s.d. for each order,
under which the recording is most likely (as in nsi/solve.py). Where it is right its residual is the recording's own
noise. What a wrong description leaves changes as slowly as the bump moves, while noise is new at every step: `residual`
tells these two parts apart.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import solve_triangular

from nsi import orders, uncertainty
from nsi.connectivity import Held
from nsi.network import Network, synaptic_state
from nsi.training import losses

PRIORS = 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0  # s.d. of an order's weights, its monomial of unit size
THRESHOLD_PRIOR = 0.1
MOST = 20  # leading directions of the states that weights are given in
LEAST = 1e-6  # of the states' leading eigenvalue
SURE = 0.15, 0.98  # rates that show their current before any has been predicted
ASKED = 6  # neurons that the likelihood is pooled over: priors are a factor of three apart
EVERY = 2  # steps: one in so many is regressed on
GUESS = 25  # samples per regressor that are enough for a first guess
TELL = 12_500  # samples that tell a residual; of a longer recording trials are left out
ALIKE = 0.5  # share of the residual's variance that may change slowly, if its own noise is to be told


class Described(NamedTuple):
    """A recording described without hidden units."""

    net: Network  # the higher orders in `products`
    left: "Residual"
    held: Held  # its regressors
    coefficients: np.ndarray  # (q, n)
    directions: np.ndarray  # (n, p), of the states, which each order's coefficients are given in, in units of `size`
    size: np.ndarray  # (K + 1,)


class Residual(NamedTuple):
    """What a description leaves of the recorded neurons' currents."""

    sd: float  # of the residual current
    noise: float  # of that part of it which is new at every step; NaN where it cannot be told


def fit(rec, alpha, powers):
    """The direct description of a recording.

    rec: the training trials; powers: (K + 1, D), orders.powers_of's, order 0 first.
    Returns: Described.
    """
    n, d = rec.rates.shape[-1], rec.velocity.shape[-1]
    u = synaptic_state(rec.rates, alpha)
    late = slice(min(int(np.ceil(8 / alpha)), u.shape[1] // 4), None)
    states = u[:, late][rec.valid[:, late]].astype(np.float64)
    sizes, directions = np.linalg.eigh(states.T @ states / len(states))
    V = directions[:, ::-1][:, : min(MOST, int((sizes > LEAST * sizes[-1]).sum()))].astype(np.float32)  # (n, p)
    sd = orders.spread_of(rec.velocity[rec.valid])
    terms = np.prod((rec.velocity / sd)[..., None, :] ** powers, -1).astype(np.float32)  # (trials, steps, K + 1)
    size = np.maximum(np.sqrt((terms[rec.valid].astype(np.float64) ** 2).mean(0)), 1e-12)
    x = ((terms / size)[..., None] * (u @ V)[..., None, :]).reshape(*u.shape[:2], -1)[:, late]
    x = np.concatenate([x, np.ones_like(x[..., :1])], -1).astype(np.float32)
    known = np.zeros_like(rec.rates) if rec.stimulus is None else rec.stimulus
    held = Held(x, x[..., :0], *(a[:, late] for a in (known, rec.velocity, rec.rates, rec.valid)))
    some = Held(*(a[:, ::EVERY] for a in held))
    about = _solved(_seen(some, max(1, some.valid.size // (GUESS * x.shape[-1]))), n)
    about = _solved(uncertainty.regress(about, some.x, some), n, about, len(powers), V.shape[1])
    left = remaining(about, held)
    size = size * np.prod(sd**powers, -1)  # of each monomial, in the velocity's own units
    G = np.stack([V @ part for part in np.split(about[:-1], len(powers))]) / size[:, None, None]
    products = tuple((tuple(int(q) for q in p), g) for p, g in zip(powers[1:], G[1:], strict=True))
    net = Network(G[0], np.zeros((d, n)), about[-1], alpha, n, products=products)
    return Described(net, left, some, about, V, size)


def _seen(held, every):
    """The regression on samples whose rate shows the current by itself, of every so-manieth step. Returns:
    uncertainty.Regression."""
    held = Held(*(a[:, ::every] for a in held))
    start = uncertainty.regress(np.zeros((held.x.shape[-1], held.rates.shape[-1])), held.x, held)
    r = torch.as_tensor(held.rates).flatten(0, 1)
    used = (r > SURE[0]) & (r < SURE[1]) & torch.as_tensor(held.valid).flatten()[:, None]
    left = losses.inverse(r) - torch.as_tensor(held.known).flatten(0, 1)
    return start._replace(used=used, e=torch.where(used, left, 0.0))


def _solved(data, n, about=None, orders=0, p=0):
    """Coefficients (q, n): about given ones with priors chosen by marginal likelihood, or a plain first guess."""
    score, square, count = data.scores().numpy(), data.e.double().square().sum(0).numpy(), data.used.sum(0).numpy()
    q, known = len(score), {j: G.numpy() for j, G in data.informations() if count[j] > 0}
    coefficients = np.zeros((q, n)) if about is None else about.astype(np.float64).copy()
    if about is None:
        for j, G in known.items():
            coefficients[:, j] = np.linalg.solve(G + 1e-6 * np.trace(G) / q * np.eye(q) + 1e-9 * np.eye(q), score[:, j])
        return coefficients
    known = {j: G for j, G in known.items() if count[j] >= 2 * q}
    noise = {j: _noise(G, score[:, j], square[j], count[j]) for j, G in known.items()}
    about_zero = {j: score[:, j] + G @ coefficients[:, j] for j, G in known.items()}  # the prior's centre is 0
    rest = {j: square[j] + coefficients[:, j] @ (score[:, j] + about_zero[j]) for j in known}
    asked = list(known)[:: max(1, len(known) // ASKED)]
    spread = lambda chosen: np.append(np.repeat(chosen, p), THRESHOLD_PRIOR)  # noqa: E731

    def evidence(chosen):
        return sum(_evidence(known[j], about_zero[j], rest[j], noise[j], spread(chosen)) for j in asked)

    chosen = [PRIORS[4]] * orders
    if known:
        chosen = _climb(evidence, chosen, [np.array(PRIORS)] * orders)
    for j, G in known.items():
        coefficients[:, j] = np.linalg.solve(G / noise[j] + np.diag(spread(chosen) ** -2.0), about_zero[j] / noise[j])
    return coefficients


def remaining(coefficients, held):
    """What a description with these coefficients (q, n) leaves. held: Held, with its regressors. Returns: Residual."""
    held = Held(*(a[:: max(1, round(held.valid.sum() / TELL))] for a in held))
    return residual(uncertainty.regress(coefficients, held.x, held), held.x.shape[:2])


def residual(data, shape):
    """What a description leaves, and how much of that is noise.

    What changes slowly has nearly the covariance at a lag of one step that it has at none, and the ratio of those at
    two and at one says how nearly. data: uncertainty.Regression about the description; shape: (trials, steps).
    """
    e, used = data.e.numpy().reshape(*shape, -1), data.used.numpy().reshape(*shape, -1)
    c = []
    for lag in range(3):
        both = used[:, lag:] & used[:, : shape[1] - lag]
        c.append((e[:, lag:] * e[:, : shape[1] - lag])[both].mean() if both.any() else np.nan)
    slow = c[1] ** 2 / c[2] if 0 < c[2] < c[1] else max(c[1], 0.0)
    share = slow / c[0] if c[0] > 0 else np.nan
    return Residual(float(np.sqrt(c[0])), float(np.sqrt(c[0] - slow)) if share < ALIKE else np.nan)


def _noise(G, score, square, count):
    """Variance of a neuron's residual current, from the regression without a prior."""
    size = np.trace(G) / len(G)
    explained = score @ np.linalg.solve(G + 1e-7 * size * np.eye(len(G)), score)
    return max(1e-12, (square - explained) / max(1, count - len(G)))


def _evidence(G, score, square, noise, spread):
    """Log marginal likelihood of one neuron's currents, but for a constant.

    G, score, square: x.T @ x, x.T @ e and e @ e of the residual e about the prior's centre; spread: prior s.d.
    """
    lower = np.linalg.cholesky(np.eye(len(G)) + spread[:, None] * G * spread / noise)
    z = solve_triangular(lower, spread * score, lower=True)
    return -np.log(np.diag(lower)).sum() - (square / noise - z @ z / noise**2) / 2


def _climb(value, chosen, grids):
    """The point of a grid that is best along each axis, one after the other until none moves.

    value: called with a point; chosen: where to begin; grids: the places along each axis. Along an axis it is looked
    for upwards from where it was, as far as one of the next two places is better. Returns: list.
    """
    value = cache(value)  # places are come by more than once

    def along(chosen, k):
        grid = list(grids[k])
        at, worth = grid.index(chosen[k]), lambda m: value((*chosen[:k], grid[m], *chosen[k + 1 :]))
        for step in (1, -1):
            ahead = lambda at, step=step: [m for m in (at + step, at + 2 * step) if 0 <= m < len(grid)]  # noqa: E731
            while better := [m for m in ahead(at) if worth(m) > worth(at)]:
                at = max(better, key=worth)
        return [*chosen[:k], grid[at], *chosen[k + 1 :]]

    for _ in range(len(grids) + 1):
        before = list(chosen)
        for k in range(len(grids)):
            chosen = along(list(chosen), k)
        if chosen == before:
            break
    return chosen
