"""Reading connectivity off a network: the direct weights, the path through the input units, and their scores.

W[i, j] is the weight from neuron i to neuron j. The *gate* is what velocity adds to the weights: as a product of
weights, W[resp, input] diag(W_in) W[input, resp], and *effective*, which counts an input unit only while it is active.
"""

from typing import NamedTuple

import numpy as np

from nsi import response
from nsi.network import Network, run, synaptic_state
from nsi.sums import sum_products

TINY = 1e-30  # states of silent units decay to numbers that slow a CPU down


def gate(net):
    """The velocity-signed path among recorded neurons, through hidden ones or by gain. Returns: (D, n, n)."""
    n = net.n
    through = np.stack([(net.W[:n, n:] * w_in) @ net.W[n:, :n] for w_in in net.W_in[:, n:]])
    return through if net.W_gain is None else through + net.W_gain


def unsigned_product(net):
    """The published reading of the same path, W[resp, input] @ W[input, resp]. Returns: (n, n)."""
    return net.W[: net.n, net.n :] @ net.W[net.n :, : net.n]


def correlation(fitted, true):
    """Pearson r over all entries, or NaN where either does not vary."""
    fitted, true = np.ravel(fitted), np.ravel(true)
    if len(true) < 2 or np.ptp(true) == 0 or np.ptp(fitted) == 0:
        return np.nan
    return np.corrcoef(fitted, true)[0, 1]


def per_component(measure, fitted, true):
    """A measure of the gate, a number, or where the velocity has several components a list of one for each.

    measure: called with two (n, n); fitted, true: (D, n, n).
    """
    each = [float(measure(a, b)) for a, b in zip(fitted, true, strict=True)]
    return each if len(each) > 1 else each[0]


def deviation(fitted, true, mask, geometry, places):
    """How two matrices agree on what sets a pair of neurons apart from others at the same distance.

    fitted, true: (n, n), of which each one's mean profile over the mask's pairs is taken away; mask: (n, n) bool, the
    diagonal being left out. Returns: correlation, slope of fitted on true, and relative error, NaN where `true` does
    not deviate.
    """
    mask = mask & ~np.eye(len(mask), dtype=bool)
    a, b = (np.asarray(W, float) - geometry.mean_profile(np.asarray(W, float), places, mask) for W in (fitted, true))
    a, b = a[mask], b[mask]
    if b.size == 0 or np.linalg.norm(b) <= 1e-9 * np.linalg.norm(true[mask]):
        return np.nan, np.nan, np.nan
    return correlation(a, b), (a @ b) / (b @ b), np.linalg.norm(a - b) / np.linalg.norm(b)


def scores(net, truth, geometry, places, determined=None):
    """A network's connectivity against the truth, as far as there is one.

    truth: recordings.load_truth's; determined: as of `weight_scores`. Returns: dict of what that returns, and r_gate
    and r_product, by `per_component`, of the gate as a product of weights, signed and unsigned.
    """
    result, n = {}, net.n
    if "W" in truth:
        result = weight_scores(net.W[:n, :n], truth["W"][:n, :n], geometry, places, determined)
    if "gate" in truth and len(net.b) > n:
        product = np.broadcast_to(unsigned_product(net), truth["gate"].shape)
        result["r_gate"] = per_component(correlation, gate(net), truth["gate"])
        result["r_product"] = per_component(correlation, product, truth["gate"])
    return result


def weight_scores(fitted, true, geometry, places, determined=None):
    """Fitted weights against true ones.

    fitted, true: (n, n); determined: (n, n) bool, pairs that the recording determines, or None. Returns: dict of r_W,
    r_W_near (pairs that one bump can hold), frobenius_W (relative to the truth) and, where `determined` is given,
    r_W_identifiable, r_dev, dev_slope, dev_error over these.
    """
    near = geometry.near(places)
    result = {"r_W": correlation(fitted, true), "r_W_near": correlation(fitted[near], true[near])}
    if determined is not None:
        result["r_W_identifiable"] = correlation(fitted[determined], true[determined])
        deviations = deviation(fitted, true, determined, geometry, places)
        result |= dict(zip(("r_dev", "dev_slope", "dev_error"), deviations, strict=True))
    result["frobenius_W"] = np.linalg.norm(fitted - true) / np.linalg.norm(true)
    return {name: float(value) for name, value in result.items()}


def gate_scores(fitted, true):
    """A fitted effective gate against the true circuit's own. fitted, true: (D, n, n).

    Returns: dict of r_gate_effective, gate_slope (of fitted on true) and gate_error (relative), by `per_component`."""
    size = lambda true: max(np.sum(true**2), 1e-30)  # noqa: E731
    measured = {
        "r_gate_effective": correlation,
        "gate_slope": lambda a, b: np.sum(a * b) / size(b),
        "gate_error": lambda a, b: np.sqrt(np.sum((a - b) ** 2) / size(b)),
    }
    return {name: per_component(measure, fitted, true) for name, measure in measured.items()}


def coverage(centre, se, true, known=True):
    """Share of the finite 95 % intervals of the known entries that hold the true ones, or NaN. All (..., n, n)."""
    known = known & np.isfinite(se)
    with np.errstate(invalid="ignore"):
        return float(np.mean((np.abs(centre - true) < 1.96 * se)[known])) if known.any() else np.nan


# ---- the path through the input units, as it acts ---------------------------------------------------------------


class Held(NamedTuple):
    """A network run with its recorded units held at the record, after the first steps."""

    x: np.ndarray  # (trials, steps, n + input units + 1): state of both, and 1
    slopes: np.ndarray  # (trials, steps, input units): phi'
    known: np.ndarray  # (trials, steps, n): stimulus, and velocity's current where it enters recorded units
    velocity: np.ndarray  # (trials, steps, D)
    rates: np.ndarray  # (trials, steps, n)
    valid: np.ndarray  # (trials, steps) bool: recorded, not padding


def hold(net, rec):
    """Run the input units along the record. Returns: Held, without the first 8 / alpha steps."""
    n, size = net.n, len(net.b)
    u = synaptic_state(rec.rates, net.alpha)
    trials, steps, _ = u.shape
    first = min(int(np.ceil(8 / net.alpha)), steps // 4)
    settled = lambda a: a[:, first:]  # noqa: E731
    x = np.ones((trials, steps - first, size + 1), np.float32)
    x[..., :n] = silenced(settled(u))
    slopes = np.empty((trials, steps, size - n), np.float32)
    known = np.zeros_like(rec.rates) if rec.stimulus is None else rec.stimulus.copy()
    if net.W_in[:, :n].any():
        known += rec.velocity @ net.W_in[:, :n]
    if size > n:
        inputs = Network(net.W[n:, n:], net.W_in[:, n:], net.b[n:], net.alpha, 0, saturation=net.saturation)
        np.matmul(u, net.W[:n, n:], out=slopes)  # what they receive, until a step takes its place
        current = lambda t: slopes[:, t]  # noqa: E731
        start = np.zeros((trials, size - n), np.float32)
        for t, (s, r) in enumerate(run(inputs, rec.velocity, start, current)):
            slopes[:, t] = response.slope(r)
            if t >= first:
                x[:, t - first, n:-1] = silenced(s)
    return Held(x, *(settled(a) for a in (slopes, known, rec.velocity, rec.rates, rec.valid)))


def silenced(u):
    """A state without numbers so small that they slow a CPU down."""
    return np.where(np.abs(u) < TINY, 0.0, u)


def onto_state(u, y, ridge=1e-2):
    """The linear map that best takes the state u (..., n) to y (..., m), its unseen directions left at 0. (n, m)."""
    u, y = (a.reshape(int(np.prod(a.shape[:-1])), a.shape[-1]) for a in (u, y))
    cov = sum_products(u, u) / len(u)
    cov += ridge * np.linalg.eigvalsh(cov)[-1] * np.eye(len(cov))
    return np.linalg.solve(cov, sum_products(u, y) / len(u))


def even_map(held, n):
    """Mean state of the input units as a linear function of the response units' state. Returns: (n, input units)."""
    x = held.x[held.valid]
    return onto_state(x[:, :n], x[:, n:-1])


def gate_map(net, held):
    """Linear map from W[input, resp] to the effective gate. Returns: (D, n, input units)."""
    active = onto_state(held.x[held.valid][:, : net.n], held.slopes[held.valid])  # (n, input units)
    return active * net.W_in[:, None, net.n :]


def effective_gate(net, rec):
    """What velocity adds to the weights: d current / d velocity as a linear function of the response units' state.

    Unlike the product of weights (`gate`) it counts an input unit only while it is active, so that its size can be
    compared between networks. Returns: (D, n, n).
    """
    return gate_map(net, hold(net, rec)) @ net.W[net.n :, : net.n]


def true_total(truth, rates, alpha):
    """What a simulated circuit's neurons do to each other, directly and through hidden ones, as weights. (n, n)."""
    W, hidden, n = truth["W"], truth["hidden_rates"], rates.shape[-1]
    if hidden.shape[-1] == 0:
        return W[:n, :n]
    u = synaptic_state(np.concatenate([rates, hidden], -1), alpha)[:, _settled(rates)]
    return W[:n, :n] + onto_state(u[..., :n], u[..., n:]) @ W[n:, :n]


def _settled(rates):
    """The steps of a trial after 50, or, of a short one, after a quarter: the guess at the first state is forgotten."""
    return slice(min(50, rates.shape[1] // 4), None)


def has_gate(truth):
    """Whether a truth has a gate: a circuit may have none of first order."""
    return "gate" in truth and bool(truth["gate"].any())


def is_whole(truth, rec):
    """Whether a truth has the weights of every neuron that there is."""
    known = {"W", "hidden_rates"} <= truth.keys()
    return known and len(truth["W"]) == rec.rates.shape[-1] + truth["hidden_rates"].shape[-1]


def true_effective_gate(truth, rec, alpha=None):
    """The true circuit's own effective gate: its hidden neurons' slopes, as they were, in the place of a network's.

    truth: recordings.load_truth's; alpha: dt / tau, where the recording has no tau. Returns: (D, n, n), or the true
    gate where no neuron is hidden or not all that there is of the circuit is given.
    """
    if not (is_whole(truth, rec) and "W_in" in truth):
        return truth["gate"]
    W, n, hidden = truth["W"], rec.rates.shape[-1], truth["hidden_rates"]
    if hidden.shape[-1] == 0:
        return truth["gate"]
    late = _settled(rec.rates)
    alpha = rec.dt / rec.tau if rec.tau else alpha or 1.0
    u, valid = synaptic_state(rec.rates, alpha)[:, late], rec.valid[:, late]
    active = onto_state(u[valid], response.slope(hidden[:, late])[valid])
    return np.stack([(active * w_in) @ W[n:, :n] for w_in in truth["W_in"][:, n:]])
