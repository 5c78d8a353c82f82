"""Plain least squares with the synapse's delay: the strongest rival of the estimate.

Where neuron j is active, its current phi^-1(r_j) - stimulus_j is regressed on [u, F(v u), 1], F being one more synapse:
the filter that makes the state u of the rates. Where the velocity multiplies connections and acts at once, F is left
out; where it drives the neurons directly, they are [u, v, 1]. There is no prior and no hidden neuron; the standard
errors are those of independent noise of one variance. It is given alpha, the response function, and how velocity acts.
Samples are selected by the current that a first fit predicts: by the recorded rate, neurons would count as active
because of their noise.
"""

import numpy as np

from nsi.network import synaptic_state
from nsi.response import TANH

SETTLING_TIMES = 8  # synaptic time constants after which a trial's unknown first state is forgotten
FIRST_STRIDE = 4  # steps, of which the first fit takes one
FIRST_RATES = 0.15, 0.96  # that the first fit takes
NOISE_SD_ABOVE = 5.0  # predicted current, in s.d. of the noise
HIGHEST_RATE = 0.99  # predicted rate
RIDGE = 1e-9  # of the mean eigenvalue


def least_squares(rec, alpha, mechanism="hidden neurons", response=TANH):
    """Estimate W and the gate. rec: Recording; alpha: dt / tau; mechanism: by which velocity acts ("hidden neurons",
    "multiplied connections" or "direct drive"); response: nsi.response.Response.

    Returns: dict of W, W_se (n, n) and, but where the velocity drives neurons, gate, gate_se (D, n, n); not a number
    for neurons with fewer samples than regressors."""
    n, velocity, direct = rec.rates.shape[-1], rec.velocity, mechanism == "direct drive"
    d, first = velocity.shape[-1], min(int(np.ceil(SETTLING_TIMES / alpha)), rec.rates.shape[1] // 4)
    u = synaptic_state(rec.rates, alpha)
    signals = velocity if direct else np.concatenate([velocity[..., k : k + 1] * u for k in range(d)], -1)
    if mechanism == "hidden neurons":
        signals = synaptic_state(signals, alpha)
    x = np.concatenate([u, signals, np.ones_like(u[..., :1])], -1)[:, first:]
    known = np.zeros_like(rec.rates) if rec.stimulus is None else rec.stimulus
    r, known, valid = rec.rates[:, first:], known[:, first:], rec.valid[:, first:, None]
    if direct:  # currents are hardly above their noise
        weights, se, _ = regress(x, r, known, valid & response.usable(r), response)
    else:
        thin = (slice(None), slice(None, None, FIRST_STRIDE))
        used = valid & (r > FIRST_RATES[0]) & (r < FIRST_RATES[1])
        weights, _, noise = regress(x[thin], r[thin], known[thin], used[thin], response)
        predicted = x @ np.nan_to_num(weights).astype(np.float32) + known
        low, high = NOISE_SD_ABOVE * np.nanmedian(noise), response.current(HIGHEST_RATE)
        used = valid & (predicted > low) & (predicted < high) & (r > 0)
        weights, se, _ = regress(x, r, known, used, response)
    gates = {} if direct else {"gate": weights, "gate_se": se}
    return {"W": weights[:n], "W_se": se[:n]} | {k: a[n:-1].reshape(d, n, n) for k, a in gates.items()}


def regress(x, r, known, used, response=TANH):
    """Regress currents less known ones on x, neuron by neuron. x: (trials, steps, q); others: (trials, steps, n).

    Returns: weights (q, n), their standard errors, and the residual's s.d. (n,)."""
    x, r, known, used = (a.reshape(-1, a.shape[-1]) for a in (x, r, known, used))
    q, n = x.shape[1], r.shape[1]
    weights, se, noise = np.full((q, n), np.nan), np.full((q, n), np.nan), np.full(n, np.nan)
    for j in range(n):
        at = np.flatnonzero(used[:, j])
        if len(at) <= q:
            continue
        a = x[at].astype(np.float64)
        y = response.current(r[at, j].astype(np.float64)) - known[at, j]
        G = a.T @ a
        G[np.diag_indices(q)] += RIDGE * np.trace(G) / q
        inverse = np.linalg.inv(G)
        weights[:, j] = inverse @ (a.T @ y)
        left = y - a @ weights[:, j]
        noise[j] = np.sqrt(left @ left / (len(at) - q))
        se[:, j] = noise[j] * np.sqrt(np.maximum(np.diag(inverse), 0))
    return weights, se, noise
