"""CORNN: a recurrent network's weights by convex optimisation, one neuron at a time.

Dinc, Shai, Schnitzer and Tanaka 2023, doi 10.48550/arXiv.2311.10200 (NeurIPS 36). The network is

    r[t] = tanh(x[t] @ w + known[t])        x = [u, v, 1], its state clamped to the recorded one (teacher forcing)

and tanh(a) is taken for the mean of a coin that shows 1 or -1, so that the cross-entropy of (1 + r) / 2, weighted by
1 / (1 - r^2), is convex in w:

    loss = sum_t (log(2 cosh a) - r a) / (1 - r^2) + ridge |w|^2

Its gradient is the prediction error tanh(a) - r carried back through x, and near the record its Hessian is x.T @ x,
whatever the neuron. So one inverse serves all neurons: solve arctanh(r) by least squares first, then take Newton steps
with that Hessian, halved for neurons whose loss would rise.
"""

import numpy as np

from nsi import network
from nsi.network import Network

RIDGES = 1e-6, 1e-4, 1e-2  # relative to the mean square of x
SAMPLE_STRIDE = 4  # samples, of which one is used to choose the ridge
MAX_RATE = 0.9999  # rates beyond are saturated, their current unknown


def cornn(rec, alpha):
    """Fit all weights; velocity and stimulus are inputs, the latter of known weight.

    rec: Recording. RIDGES are tried on the last tenth of the trials, and the best is then used on all. Returns: Network
    without input units.
    """
    trials, _, n = rec.rates.shape
    late = slice(min(round(3 / alpha), rec.rates.shape[1] // 4), None)
    u = network.synaptic_state(rec.rates, alpha)
    x = np.concatenate([u, rec.velocity, np.ones_like(u[..., :1])], -1)[:, late]
    known = np.zeros_like(rec.rates) if rec.stimulus is None else rec.stimulus
    valid, first = rec.valid[:, late], np.arange(trials) < trials - max(1, trials // 10)
    parts = [(a[first], a[~first]) for a in (x, rec.rates[:, late], known[:, late], valid)]
    train, test = ([a[part[3]].astype(np.float64) for a in part[:3]] for part in zip(*parts, strict=True))
    quick = [a[::SAMPLE_STRIDE] for a in train]
    best = min(RIDGES, key=lambda ridge: loss(weights(*quick, ridge), *test).sum())
    w = weights(*(np.concatenate(pair) for pair in zip(train, test, strict=True)), best)
    return Network(w[:n], w[n:-1], w[-1], alpha, n)


def loss(w, x, r, known):
    """The loss above without its ridge, a mean over samples. Returns: (N,)."""
    a, weight = x @ w + known, _weight(r)
    size = np.abs(a)
    return np.mean(weight * (size + np.log1p(np.exp(-2 * size)) - r * a), 0)


def weights(x, r, known, ridge, steps=30, enough=1e-5):
    """Minimise the loss. x: (samples, q); r, known: (samples, N). Returns: (q, N)."""
    ridge = ridge * np.mean(x**2)
    inverse = np.linalg.inv(x.T @ x / len(x) + ridge * np.eye(x.shape[1]))
    w = inverse @ (x.T @ (np.arctanh(np.clip(r, -MAX_RATE, MAX_RATE)) - known)) / len(x)
    value, step_size, weight = loss(w, x, r, known) + ridge * np.sum(w**2, 0) / 2, np.ones(r.shape[1]), _weight(r)
    for _ in range(steps):
        error = weight * (np.tanh(x @ w + known) - r)
        step = inverse @ (x.T @ error / len(x) + ridge * w)
        moved = w - step_size * step
        reached = loss(moved, x, r, known) + ridge * np.sum(moved**2, 0) / 2
        better = reached <= value
        w, value = np.where(better, moved, w), np.where(better, reached, value)
        step_size = np.where(better, np.minimum(1, 2 * step_size), step_size / 2)
        if np.abs(step).max() < enough * np.abs(w).max():
            break
    return w


def _weight(r):
    return np.where(np.abs(r) < MAX_RATE, 1 / np.maximum(1 - r**2, 1 - MAX_RATE**2), 0.0)
