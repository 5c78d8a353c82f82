"""Plain least squares with the synapse's delay: the strongest rival of the estimate.

Where neuron j is active, arctanh(r_j) - stimulus_j is regressed on [u, F(v u), 1], F being one more synapse: the filter
that makes the state u of the rates. Where the velocity multiplies connections and acts at once, F is left out. There is
no prior and no hidden neuron; the standard errors are those of independent noise of one variance. It is given alpha,
the response function, and whether velocity acts through neurons. Samples are selected by the current that a first fit
predicts: by the recorded rate, neurons would count as active because of their noise.
"""

from typing import NamedTuple

import numpy as np

from nsi.network import synaptic_state

SETTLING_TIMES = 8  # synaptic time constants after which a trial's unknown first state is forgotten
FIRST_STRIDE = 4  # steps, of which the first fit takes one
FIRST_RATES = 0.15, 0.96  # that the first fit takes
NOISE_SD_ABOVE = 5.0  # predicted current, in s.d. of the noise
HIGHEST_RATE = 0.99  # predicted rate
RIDGE = 1e-9  # of the mean eigenvalue


class LeastSquares(NamedTuple):
    W: np.ndarray  # (n, n)
    W_se: np.ndarray
    gate: np.ndarray  # (D, n, n)
    gate_se: np.ndarray


def least_squares(rec, alpha, delayed=True):
    """Estimate W and the gate. rec: Recording; alpha: dt / tau; delayed: whether velocity acts one synapse later.

    Returns: LeastSquares, not a number for neurons with fewer samples than regressors."""
    n, velocity = rec.rates.shape[-1], rec.velocity
    d, first = velocity.shape[-1], min(int(np.ceil(SETTLING_TIMES / alpha)), rec.rates.shape[1] // 4)
    u = synaptic_state(rec.rates, alpha)
    products = np.concatenate([velocity[..., k : k + 1] * u for k in range(d)], -1)
    products = synaptic_state(products, alpha) if delayed else products
    x = np.concatenate([u, products, np.ones_like(u[..., :1])], -1)[:, first:]
    known = np.zeros_like(rec.rates) if rec.stimulus is None else rec.stimulus
    r, known, valid = rec.rates[:, first:], known[:, first:], rec.valid[:, first:]
    thin = (slice(None), slice(None, None, FIRST_STRIDE))
    used = valid[..., None] & (r > FIRST_RATES[0]) & (r < FIRST_RATES[1])
    weights, _, noise = regress(x[thin], r[thin], known[thin], used[thin])
    predicted = x @ np.nan_to_num(weights).astype(np.float32) + known
    low, high = NOISE_SD_ABOVE * np.nanmedian(noise), np.arctanh(HIGHEST_RATE)
    used = valid[..., None] & (predicted > low) & (predicted < high) & (r > 0)
    weights, se, _ = regress(x, r, known, used)
    split = lambda a: (a[:n], a[n:-1].reshape(d, n, n))  # noqa: E731
    (W, gate), (W_se, gate_se) = split(weights), split(se)
    return LeastSquares(W, W_se, gate, gate_se)


def regress(x, r, known, used):
    """Regress arctanh(r) - known on x, neuron by neuron. x: (trials, steps, q); others: (trials, steps, n).

    Returns: weights (q, n), their standard errors, and the residual's s.d. (n,)."""
    x, r, known, used = (a.reshape(-1, a.shape[-1]) for a in (x, r, known, used))
    q, n = x.shape[1], r.shape[1]
    weights, se, noise = np.full((q, n), np.nan), np.full((q, n), np.nan), np.full(n, np.nan)
    for j in range(n):
        at = np.flatnonzero(used[:, j])
        if len(at) <= q:
            continue
        a = x[at].astype(np.float64)
        y = np.arctanh(np.minimum(r[at, j].astype(np.float64), 0.99999)) - known[at, j]
        G = a.T @ a
        G[np.diag_indices(q)] += RIDGE * np.trace(G) / q
        inverse = np.linalg.inv(G)
        weights[:, j] = inverse @ (a.T @ y)
        left = y - a @ weights[:, j]
        noise[j] = np.sqrt(left @ left / (len(at) - q))
        se[:, j] = noise[j] * np.sqrt(np.maximum(np.diag(inverse), 0))
    return weights, se, noise
