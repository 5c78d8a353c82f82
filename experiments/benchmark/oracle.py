"""The oracle: what is lost by noise alone, to who knows the circuit but for single weights.

It is given alpha, response, thresholds, the gate, hidden neurons' rates and their weights, and which connections exist.
On a ring or a torus it knows the mean weight at each distance and the s.d. of single weights d about it, d ~ N(0, s^2);
samples are those whose true current is well above its noise. Without geometry the weights are those of the likelihood,
silent steps included, inputs and thresholds being unknown too.
"""

import numpy as np

from experiments.benchmark.least_squares import HIGHEST_RATE, NOISE_SD_ABOVE, SETTLING_TIMES
from nsi.estimation import exchangeable
from nsi.network import synaptic_state


def oracle(rec, known):
    """rec: Recording; known: tasks.Known. Returns: dict of W, W_se (n, n), 0 of connections that do not exist."""
    n, truth, response = rec.rates.shape[-1], known.truth, known.response
    true = truth["W"][:n, :n].astype(float)
    exists = true != 0
    if known.geometry is None:
        fit = exchangeable.fit_whole if np.isfinite(rec.rates).all() else exchangeable.fit_sessions
        found = fit(rec, known.alpha, response, exists)
        return {"W": found.weights[:n], "W_se": np.where(exists, found.se, 0)}
    mean = np.where(exists, known.geometry.mean_profile(true, known.places, exists), 0)
    spread = np.std((true - mean)[exists])
    W, se = mean.copy(), np.zeros((n, n))
    if spread < 1e-6 * np.abs(mean).max():
        return {"W": W, "W_se": se}
    first = min(int(np.ceil(SETTLING_TIMES / known.alpha)), rec.rates.shape[1] // 4)
    rates = np.float32(response.scale) * rec.rates
    u = synaptic_state(rates, known.alpha)
    currents = truth["b"][:n] + (0 if rec.stimulus is None else rec.stimulus)
    if known.mechanism == "hidden neurons":
        currents = currents + synaptic_state(truth["hidden_rates"], known.alpha) @ truth["W"][n:, :n]
    else:
        currents = currents + sum(rec.velocity[..., k : k + 1] * (u @ gate) for k, gate in enumerate(truth["gate"]))
    r, u, currents, valid = (a[:, first:] for a in (rates, u, currents, rec.valid))
    r, u, currents = (a[valid].astype(float) for a in (r, u, currents))
    predicted, current = u @ true + currents, response.current(r)
    active = (predicted > 0.1) & (r > 0)
    noise = np.std((current - predicted)[active])
    active &= (predicted > NOISE_SD_ABOVE * noise) & (predicted < response.current(HIGHEST_RATE))
    for j in range(n):
        at, on = np.flatnonzero(active[:, j]), np.flatnonzero(exists[:, j])
        a = u[at][:, on]
        covariance = np.linalg.inv(a.T @ a / noise**2 + np.eye(len(on)) / spread**2)
        W[on, j] += covariance @ (a.T @ (current[at, j] - currents[at, j] - a @ mean[on, j])) / noise**2
        se[on, j] = np.sqrt(np.diag(covariance))
    return {"W": W, "W_se": se}
