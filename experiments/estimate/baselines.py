"""Estimators of others, from a recording to a Network or its weights."""

import numpy as np

from nsi import network
from nsi.network import Network
from nsi.response import phi


def regress(X, r, samples, known=None):
    """Least squares of arctanh(r[:, j]) on X over the first `samples` moments at which neuron j fires.

    X: (moments, K); r: (moments, M); known: (moments, M), a stimulus, or None. Returns: (K, M).
    """
    solution = np.zeros((X.shape[1], r.shape[1]))
    ridge = 1e-6 * np.eye(X.shape[1])
    for j in range(r.shape[1]):
        fires = np.flatnonzero((r[:, j] > 0.01) & (r[:, j] < 0.999))[:samples]
        A = X[fires].astype(np.float64)
        current = np.arctanh(r[fires, j]) - (0.0 if known is None else known[fires, j])
        solution[:, j] = np.linalg.lstsq(A.T @ A + len(A) * ridge, A.T @ current)[0]
    return solution


def force(rec, alpha, passes, g, alpha_rls, rng):
    """FORCE learning of all weights of a network r = phi(x @ w), x = [u, v, 1], that runs freely on velocity.

    A known stimulus is added to the currents. At every step, recursive least squares moves these towards those of the
    recorded neurons:
    P <- P - P x x' P / (1 + x' P x), w <- w - P x e, with e = x @ w - arctanh(r recorded). Trials start at the record.

    g: s.d. of the initial W times sqrt(N); alpha_rls: P starts at I / alpha_rls. Returns: Network without input units.
    """
    trials, _, n = rec.rates.shape
    settled = round(3 / alpha)
    start = network.synaptic_state(rec.rates[:, : settled + 1], alpha)[:, settled]
    target = np.arctanh(np.minimum(rec.rates[:, settled:].astype(np.float64), 0.999))
    v = rec.velocity[:, settled:]
    known = np.zeros_like(target) if rec.stimulus is None else rec.stimulus[:, settled:]
    size = n + v.shape[-1] + 1
    w, P = np.zeros((size, n)), np.eye(size) / alpha_rls
    w[:n] = g / np.sqrt(n) * rng.standard_normal((n, n))
    x = np.ones(size)
    for trial in list(range(trials)) * passes:
        x[:n] = start[trial]
        for t in range(target.shape[1]):
            x[n:-1] = v[trial, t]
            a, Px = x @ w + known[trial, t], P @ x
            k = Px / (1 + x @ Px)  # P x after the update of P
            P -= np.outer(k, Px)
            w -= np.outer(k, a - target[trial, t])
            x[:n] += alpha * (phi(a) - x[:n])
    return Network(w[:n], w[n:-1], w[-1], alpha, n)


def least_squares(rec, alpha, samples):
    """Regress arctanh(r), less a known stimulus, on u and v * u where neurons fire.

    Returns: W (N, N), gate (D, N, N).
    """
    n, d, settled = rec.rates.shape[-1], rec.velocity.shape[-1], round(3 / alpha)
    u = network.synaptic_state(rec.rates, alpha)[:, settled:].reshape(-1, n)
    r, v = rec.rates[:, settled:].reshape(-1, n), rec.velocity[:, settled:].reshape(-1, d)
    moved = [v[:, k : k + 1] * u for k in range(d)]
    known = None if rec.stimulus is None else rec.stimulus[:, settled:].reshape(-1, n)
    solution = regress(np.concatenate([u, *moved, np.ones_like(v[:, :1])], 1), r, samples, known)
    return solution[:n], solution[n:-1].reshape(d, n, n)
