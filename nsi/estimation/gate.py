"""Is there a gate at all? One test of the whole gate, calibrated by permutation.

The currents of some neurons are regressed on the recorded state, the same filtered once more, and the velocity times
the states' leading directions, at once and through a synapse. The statistic is the mean F of these last columns. Under
the null hypothesis that velocity does not act on the neurons, each trial might as well have had another's; so the
statistic is worked out again with the velocities of other trials, and the rank of the true one is its p value
(Phipson and Smyth 2010, doi 10.2202/1544-6115.1585).
"""

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from nsi.estimation.signals import describe_states, leading_directions, settled, state_of

PERMUTATIONS = 39
AT_ONCE = 8  # permutations whose regressors are summed in one product
MAX_P_FOUND = 0.025  # up to which a gate is found
MIN_P_ABSENT = 0.2  # from which on there is none
MAX_TRIALS = 24
MAX_NEURONS = 12
STEP_STRIDE = 3  # steps, of which one is used
MIN_EXTRA_SAMPLES = 100  # more than regressors
DIRECTIONS = 6  # of the states, that the velocity multiplies
PATH_DIRECTIONS = 20  # of the hidden path
MIN_TRIALS = 8  # of a recording with fewer, trials are shifted in time as well
RATE_RANGE = 0.15, 0.96  # of scaled rates, between which samples are taken


def gate_test(rec, alpha, chosen, seed=0):
    """The verdict and its p value. rec: Recording; alpha: dt / tau; chosen: response.Response.

    Returns: "found", "not found" or "cannot tell"; p."""
    rec = rec.trials(slice(None, None, max(1, len(rec.rates) // MAX_TRIALS)))
    if not rec.velocity.any():
        return "cannot tell", 1.0
    rates = np.float32(chosen.scale) * rec.rates
    u, first = state_of(rates, alpha), settled(alpha, rates.shape[1])
    directions = leading_directions(u, rec.valid, PATH_DIRECTIONS)
    later = slice(first, None, STEP_STRIDE)
    direct = describe_states(u, rec.valid)
    path = np.concatenate([direct, state_of(u @ directions, alpha), np.ones_like(u[..., :1])], -1)[:, later]
    z, n = u @ directions[:, :DIRECTIONS], rates.shape[-1]
    known = 0.0 if rec.stimulus is None else rec.stimulus[:, later]
    r = rates[:, later]
    top = np.quantile(r[rec.valid[:, later]], 0.999)
    used = (r > RATE_RANGE[0] * top) & (r < RATE_RANGE[1] * max(top, 1.0 if chosen.name == "tanh" else top))
    used &= (r > 0) & rec.valid[:, later][..., None]
    used &= True if rec.measured is None else rec.measured[:, later]
    y, path = chosen.current(r) - known, path.reshape(-1, path.shape[-1])
    flat, y = used.reshape(-1, n), y.reshape(-1, n)
    columns = 2 * DIRECTIONS * rec.velocity.shape[-1]
    enough = np.flatnonzero(flat.sum(0) > path.shape[1] + columns + MIN_EXTRA_SAMPLES)
    data = []
    for j in enough[:: max(1, len(enough) // MAX_NEURONS)]:
        at = np.flatnonzero(flat[:, j])
        x, target = path[at].astype(np.float64), y[at, j].astype(np.float64)
        G = x.T @ x
        G[np.diag_indices(len(G))] += 1e-10 * np.trace(G) / len(G)
        basis = solve_triangular(cholesky(G, lower=True), x.T, lower=True)  # orthonormal rows
        data.append((at, basis, target - (basis @ target) @ basis))
    if not data:
        return "cannot tell", 1.0

    def statistics(velocities):
        parts = []
        for velocity in velocities:
            products = [velocity[..., d : d + 1] * z for d in range(velocity.shape[-1])]
            parts += [*products, state_of(np.concatenate(products, -1), alpha)]
        added = np.concatenate([a[:, later] for a in parts], -1).reshape(-1, columns * len(velocities))
        return mean_f(data, added, columns)

    rng, trials = np.random.default_rng(seed), len(rec.rates)
    velocities = [rec.velocity]
    for _ in range(PERMUTATIONS):
        shift = rng.integers(1, trials) if trials > 1 else 0
        order = (np.arange(trials) + shift) % trials if rng.random() < 0.5 else _derangement(rng, trials)
        velocity = rec.velocity[order]
        if trials < MIN_TRIALS:
            steps = velocity.shape[1]
            velocity = np.roll(velocity, rng.integers(steps // 5, max(steps // 5 + 1, 4 * steps // 5)), 1)
        velocities.append(velocity)
    pieces = [velocities[k : k + AT_ONCE] for k in range(0, len(velocities), AT_ONCE)]
    true, *null = np.concatenate([statistics(piece) for piece in pieces])
    p = (1 + np.sum(np.array(null) >= true)) / (1 + len(null))
    return "found" if p <= MAX_P_FOUND else "not found" if p >= MIN_P_ABSENT else "cannot tell", float(p)


def mean_f(data, added, columns):
    """The mean over neurons of F, of some columns besides a neuron's other regressors.

    data: for each neuron its samples, an orthonormal basis of the other regressors at these (q, samples), and its
    current less what they explain (samples,); added: (all samples, sets * columns). Returns: (sets,)."""
    total = np.zeros(added.shape[1] // columns)
    for at, basis, left in data:
        own = added[at].astype(np.float64)
        across, right = basis @ own, left @ own
        for k in range(len(total)):
            part = slice(k * columns, (k + 1) * columns)
            G = own[:, part].T @ own[:, part] - across[:, part].T @ across[:, part]
            G[np.diag_indices(columns)] += 1e-9 * np.trace(G) / columns + 1e-30
            explained = right[part] @ np.linalg.solve(G, right[part])
            total[k] += explained / columns / ((left @ left - explained) / (len(at) - len(basis) - columns))
    return total / len(data)


def _derangement(rng, count):
    """A random permutation without fixed points, as far as there is one."""
    circle = rng.permutation(count)
    order = np.empty(count, int)
    order[circle] = np.roll(circle, 1)
    return order
