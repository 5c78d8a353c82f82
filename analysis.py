"""Reading a fitted network: tuning maps, connectivity scores, integration error. Pure functions on arrays.

Everywhere W[i, j] is the weight from neuron i to neuron j; n is the number of response units, which come first.
The truth, where there is one, enters `connectivity_scores` and `match_units` only.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binned_statistic_2d

TUNED_ABOVE_SHUFFLED = 0.99  # quantile of the shuffled statistic that a tuned unit must exceed


class Fit(NamedTuple):
    """A fitted network (see model.py), as arrays without a replica axis."""

    W: np.ndarray  # (units, units)
    W_in: np.ndarray  # (D, units that receive the velocity: the last ones)
    b: np.ndarray  # (units,)
    alpha: float
    n: int  # response units, the first ones


def fits(model):
    """The replicas of a model.RNN (one, if it has no replica axis) as a list of Fit, on the CPU."""
    weights = [p.detach().cpu().numpy() for p in (model.W, model.W_in, model.b)]
    replicas = zip(*weights, strict=True) if model.W.ndim == 3 else [weights]
    return [Fit(*replica, model.alpha, model.n_response) for replica in replicas]


# ---- heading ----------------------------------------------------------------------------------------------------


def ring_angles(n):
    """Preferred headings of n neurons in order around the ring. Returns: (n,) rad."""
    return np.arange(n) * 2 * np.pi / n


def place_on_ring(rates):
    """Each neuron's angle on the ring that the activity itself spans, whatever the neurons' order in the file.

    The two leading principal components of activity that circulates on a ring are its cosine and sine; they order the
    neurons, which are taken to tile the ring evenly. The angles increase with the neurons' index, and lie as near to
    `ring_angles` as a rotation can bring them: neurons in order around the ring get `ring_angles` itself.

    rates: (..., n). Returns: (n,) rad.
    """
    n = rates.shape[-1]
    angles = ring_angles(n)
    if n < 3:
        return angles
    _, vectors = np.linalg.eigh(np.cov(rates.reshape(-1, n), rowvar=False))
    z = vectors[:, -1] + 1j * vectors[:, -2]
    if np.sum(np.imag(z[1:] * z[:-1].conj())) < 0:
        z = z.conj()
    rank = np.argsort(np.argsort(np.angle(z)))
    turns = [np.sum(np.cos(angles[(rank + s) % n] - angles)) for s in range(n)]
    return angles[(rank + np.argmax(turns)) % n]


def decode_heading(rates, angles):
    """Population-vector angle. rates: (..., n); angles: (n,) rad. Returns: (...) rad in (-pi, pi]."""
    return np.angle(rates @ np.exp(1j * angles))


def angle_between(a, b):
    """Signed smallest angle from b to a, rad in (-pi, pi]."""
    return np.angle(np.exp(1j * (np.asarray(a) - b)))


# ---- running the network ----------------------------------------------------------------------------------------


def synaptic_state(rates, alpha):
    """The state u that the rates imply: u[t+1] = u[t] + alpha * (r[t] - u[t]), starting at u[0] = r[0].

    rates: (trials, steps, n). Returns: (trials, steps, n). The start is forgotten after some 1 / alpha steps.
    """
    u = np.empty_like(rates)
    u[:, 0] = rates[:, 0]
    for t in range(1, rates.shape[1]):
        u[:, t] = u[:, t - 1] + alpha * (rates[:, t - 1] - u[:, t - 1])
    return u


def run_network(fit, rec, warmup=None, start=0, steps=None):
    """Run a fitted network along a recording, free after `warmup` steps (None: held at the record throughout).

    fit: Fit; rec: recording.Recording. Returns: rates (trials, steps, units) float32, from step `start` on.
    """
    stop = rec.rates.shape[1] if steps is None else start + steps
    recorded = synaptic_state(rec.rates[:, :stop], fit.alpha)
    u = np.zeros((len(recorded), len(fit.b)), np.float32)
    rates = np.empty((len(u), stop - start, len(fit.b)), np.float32)
    for t in range(start, stop):
        if warmup is None or t - start <= warmup:
            u[:, : fit.n] = recorded[:, t]
        current = u @ fit.W + fit.b
        current[:, len(fit.b) - fit.W_in.shape[1] :] += rec.velocity[:, t] @ fit.W_in
        if rec.stimulus is not None:
            current[:, : fit.n] += rec.stimulus[:, t]
        rates[:, t - start] = np.maximum(0, np.tanh(current))
        u += fit.alpha * (rates[:, t - start] - u)
    return rates


def heading_error(fit, rec, angles, steps=500, warmup=20):
    """How far the model's bump is from the recorded one after running freely on velocity alone.

    rec: held-out trials; angles: (n,) rad, the neurons' places on the ring; steps: length of the free run (shorter
    where the trials are); the run starts at several moments, `steps` / 10 apart.
    Returns: |angle| (starts, trials) rad after the last step, NaN where a trial has ended by then, and the steps run.
    """
    length = int(rec.valid.sum(1).max())
    warmup = min(warmup, length // 4)
    steps = min(steps, length - warmup - 1)
    errors = []
    for start in range(0, length - warmup - steps, max(1, steps // 10)):
        free = run_network(fit, rec, warmup, start, warmup + steps + 1)[:, -1, : fit.n]
        end = start + warmup + steps
        wrong = np.abs(angle_between(decode_heading(free, angles), decode_heading(rec.rates[:, end], angles)))
        errors.append(np.where(rec.valid[:, end], wrong, np.nan))
    return np.array(errors), steps


def window_error(fit, rec, warmup, window):
    """Mean squared error of the rates over windows run freely after `warmup` held steps, laid end to end."""
    length = warmup + window
    errors = []
    for start in range(0, rec.rates.shape[1] - length + 1, length):
        free = run_network(fit, rec, warmup, start, length)[:, warmup:, : fit.n]
        wrong = np.mean((free - rec.rates[:, start + warmup : start + length]) ** 2, (1, 2))
        errors.extend(wrong[rec.valid[:, start + length - 1]])
    return float(np.mean(errors))


# ---- tuning -----------------------------------------------------------------------------------------------------


def tuning_maps(rates, heading, velocity, bins=(16, 36), speed=4.0):
    """Mean rate of each unit over velocity x heading.

    rates: (..., units); heading: (...) rad; velocity: (...) rad/s, drawn within +-speed.
    Returns: (units, velocity bins, heading bins), NaN where there is no data.
    """
    values = rates.reshape(-1, rates.shape[-1]).T
    limits = [[-speed, speed], [-np.pi, np.pi]]
    inside = np.abs(velocity.ravel()) < speed
    heading = angle_between(heading.ravel(), 0)
    return binned_statistic_2d(velocity.ravel()[inside], heading[inside], values[:, inside], "mean", bins, limits)[0]


def preferred_heading(maps):
    """Angle of the mean over a tuning map. maps: (units, velocity bins, heading bins). Returns: (units,) rad."""
    bins = maps.shape[-1]
    centres = (np.arange(bins) + 0.5) * 2 * np.pi / bins - np.pi
    return np.angle(np.nanmean(maps, 1) @ np.exp(1j * centres))


def direction_selectivity(maps):
    """(R - L) / (R + L) of the mean rates when turning right and left: 0 for a compass neuron, +-1 for a shifter.

    maps: (units, velocity bins, heading bins). Returns: (units,) in [-1, 1].
    """
    half = maps.shape[1] // 2
    right, left = (np.nanmean(m, (1, 2)) for m in (maps[:, -half:], maps[:, :half]))
    return (right - left) / np.maximum(right + left, 1e-12)


def sort_units(maps):
    """Left units by preferred heading, then right units by preferred heading. Returns: (units,) an order."""
    return np.lexsort((preferred_heading(maps) % (2 * np.pi), direction_selectivity(maps) >= 0))


def shifter_tuning(rates, heading, velocity, bins=24, shuffles=20):
    """Which units are tuned to heading and modulated by velocity beyond what shuffled data give.

    Heading tuning is the variance that the mean rate per heading bin explains; velocity modulation is the correlation
    of what it leaves with velocity. Both are compared with the same statistic after heading or velocity was shifted in
    time by large steps, at the TUNED_ABOVE_SHUFFLED quantile over units and shifts.

    rates: (trials, steps, units); heading, velocity: (trials, steps).
    Returns: dict of (units,) arrays: `active`, `shifter` (bool), `modulation` (correlation with velocity, signed).
    """
    x = rates.reshape(-1, rates.shape[-1]).astype(np.float64)
    active = (x > 0.05).mean(0) > 0.005
    x = x - x.mean(0)
    where = np.floor((heading.ravel() % (2 * np.pi)) / (2 * np.pi) * bins).astype(int) % bins
    v = velocity.ravel() - velocity.mean()
    total = (x**2).sum(0) + 1e-12

    def explained(where):
        counts = np.bincount(where, minlength=bins)
        sums = np.zeros((bins, x.shape[1]))
        np.add.at(sums, where, x)
        means = sums / np.maximum(counts, 1)[:, None]
        return means, (counts[:, None] * means**2).sum(0) / total

    means, tuning = explained(where)
    rest = x - means[where]
    scale = np.sqrt((rest**2).sum(0) * (v**2).sum()) + 1e-12
    shifts = [len(x) * (k + 1) // (shuffles + 1) for k in range(shuffles)]
    shuffled_tuning = (
        np.quantile([explained(np.roll(where, s))[1][active] for s in shifts], TUNED_ABOVE_SHUFFLED)
        if active.any()
        else 0
    )
    shuffled_modulation = [np.abs(np.roll(v, s) @ rest / scale)[active] for s in shifts]
    beyond = np.quantile(shuffled_modulation, TUNED_ABOVE_SHUFFLED) if active.any() else 0
    modulation = v @ rest / scale
    return {
        "active": active,
        "shifter": active & (tuning > shuffled_tuning) & (np.abs(modulation) > beyond),
        "modulation": modulation,
    }


def shifter_measures(fit, rec, angles):
    """Shifters among the input units, the response units held at the record.

    Returns: dict with `shifter_fraction` (of the active input units), `shifter_left` and `shifter_right` (the same
    for those that prefer either turning direction) and `active_input_units` (a count). Velocity's first component.
    """
    inputs = run_network(fit, rec)[..., fit.n :]
    inputs, rates, velocity = (a[rec.valid][None] for a in (inputs, rec.rates, rec.velocity))
    tuning = shifter_tuning(inputs, decode_heading(rates, angles), velocity[..., 0])
    count = max(1, int(tuning["active"].sum()))
    right = tuning["modulation"] > 0
    return {
        "shifter_fraction": float(tuning["shifter"].sum() / count),
        "shifter_left": float((tuning["shifter"] & ~right).sum() / count),
        "shifter_right": float((tuning["shifter"] & right).sum() / count),
        "active_input_units": int(tuning["active"].sum()),
    }


def match_units(rates, neurons):
    """Match units to neurons one to one so that the correlations of their rates add up to the most.

    rates: (..., units); neurons: (..., neurons). Returns: unit indices, neuron indices, their correlations.
    """
    x, y = (a.reshape(-1, a.shape[-1]).astype(np.float64) for a in (rates, neurons))
    x, y = (a - a.mean(0) for a in (x, y))
    x, y = (a / (np.sqrt((a**2).sum(0)) + 1e-12) for a in (x, y))
    correlation = x.T @ y
    units, matched = linear_sum_assignment(-correlation)
    return units, matched, correlation[units, matched]


# ---- connectivity -----------------------------------------------------------------------------------------------


def gate(fit):
    """The velocity-signed path through the input units, W[resp, inp] @ diag(W_in[d]) @ W[inp, resp].

    Returns: (D, n, n).
    """
    n = fit.n
    return np.stack([(fit.W[:n, n:] * w_in) @ fit.W[n:, :n] for w_in in fit.W_in])


def unsigned_product(fit):
    """The published reading of the same path, W[resp, inp] @ W[inp, resp]. Returns: (n, n)."""
    return fit.W[: fit.n, fit.n :] @ fit.W[fit.n :, : fit.n]


def correlation(fitted, true):
    """Pearson r over all entries, or NaN where either does not vary."""
    fitted, true = np.ravel(fitted), np.ravel(true)
    if len(true) < 2 or np.ptp(true) == 0 or np.ptp(fitted) == 0:
        return np.nan
    return np.corrcoef(fitted, true)[0, 1]


def connectivity_scores(fit, truth, determined):
    """The fitted connectivity against the truth, as far as there is one.

    truth: what recording.load_truth returns; determined: (n, n) bool, uncertainty.identifiable's, or None.
    Returns: dict of the measures r_W, r_W_near (pairs at most 0.3 n apart on the ring), r_W_identifiable,
    frobenius_W (relative to the truth), r_gate and r_product.
    """
    scores, n = {}, fit.n
    if "W" in truth:
        fitted, true = fit.W[:n, :n], truth["W"][:n, :n]
        apart = np.abs((np.arange(n)[:, None] - np.arange(n) + n // 2) % n - n // 2)
        near = apart <= 0.3 * n
        scores["r_W"] = correlation(fitted, true)
        scores["r_W_near"] = correlation(fitted[near], true[near])
        if determined is not None:
            scores["r_W_identifiable"] = correlation(fitted[determined], true[determined])
        scores["frobenius_W"] = np.linalg.norm(fitted - true) / np.linalg.norm(true)
    if "gate" in truth and len(fit.b) > n:
        scores["r_gate"] = correlation(gate(fit), truth["gate"])
        scores["r_product"] = correlation(unsigned_product(fit), truth["gate"][0])
    return {name: float(value) for name, value in scores.items()}


def ring_profile(W):
    """Mean and s.d. of a square matrix's entries at each signed distance j - i around the ring.

    W: (n, n). Returns: distance (n,) rad from -pi, mean (n,), s.d. (n,).
    """
    n = len(W)
    steps = np.arange(n) - n // 2
    entries = np.stack([W[np.arange(n), (np.arange(n) + s) % n] for s in steps])  # (distance, i)
    return steps * 2 * np.pi / n, entries.mean(1), entries.std(1)
