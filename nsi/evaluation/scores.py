"""Scores against the truth of a simulated circuit: weights, total effects, gates and orders."""

import numpy as np

from nsi import response
from nsi.estimation.regression import NORMAL
from nsi.evaluation.weights import regress_on_state, unsigned_product
from nsi.network import synaptic_state
from nsi.sums import correlation

MIN_ORDER_SIZE = 5e-3  # of a true order to be scored, relative to order 0


def per_component(measure, fitted, true):
    """A measure of the gate, a number, or where the velocity has several components a list of one for each.

    measure: called with two (n, n); fitted, true: (D, n, n).
    """
    each = [float(measure(a, b)) for a, b in zip(fitted, true, strict=True)]
    return each if len(each) > 1 else each[0]


def deviation(fitted, true, mask, geometry, places):
    """Agreement of two matrices' deviations from their mean profiles over distance.

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


def network_scores(net, truth, geometry, places):
    """A network's connectivity against the truth, as far as there is one.

    truth: recordings.load_truth's. Returns: dict of what `weight_scores` returns, and r_gate and r_product, by
    `per_component`, of the gate as a product of weights, signed and unsigned.
    """
    result, n = {}, net.n
    if "W" in truth:
        result = weight_scores(net.W[:n, :n], truth["W"][:n, :n], geometry, places)
    if "gate" in truth and len(net.b) > n:
        product = np.broadcast_to(unsigned_product(net), truth["gate"].shape)
        result["r_gate"] = per_component(correlation, net.gate(), truth["gate"])
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
        found = deviation(fitted, true, determined, geometry, places)
        result |= dict(zip(("r_dev", "dev_slope", "dev_error"), found, strict=True))
    result["frobenius_W"] = np.linalg.norm(fitted - true) / np.linalg.norm(true)
    return {name: float(value) for name, value in result.items()}


def gate_scores(fitted, true):
    """A fitted effective gate against the true circuit's own. fitted, true: (D, n, n).

    Returns: dict of r_gate_effective, gate_slope (of fitted on true) and gate_error (relative), by `per_component`."""
    size = lambda true: max(np.sum(true**2), 1e-30)
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
        return float(np.mean((np.abs(centre - true) < NORMAL * se)[known])) if known.any() else np.nan


def true_total(truth, rates, alpha):
    """Total effects of a simulated circuit: direct weights plus paths through hidden neurons. Returns: (n, n)."""
    W, hidden, n = truth["W"], truth["hidden_rates"], rates.shape[-1]
    if hidden.shape[-1] == 0:
        return W[:n, :n]
    u, s = (synaptic_state(x, alpha)[:, _settled(rates)] for x in (rates, hidden))
    return W[:n, :n] + regress_on_state(u, s) @ W[n:, :n]


def _settled(rates):
    """The steps by which the guess at the first state is forgotten."""
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
    if not (is_whole(truth, rec) and "W_in" in truth and truth["hidden_rates"].shape[-1]):
        return truth["gate"]
    W, n, hidden = truth["W"], rec.rates.shape[-1], truth["hidden_rates"]
    late = _settled(rec.rates)
    alpha = rec.dt / rec.tau if rec.tau else alpha or 1.0
    u = synaptic_state(rec.rates, alpha)[:, late]
    active = regress_on_state(u, response.slope(hidden[:, late]), valid=rec.valid[:, late])
    return np.stack([(active * w_in) @ W[n:, :n] for w_in in truth["W_in"][:, n:]])


def order_scores(estimate, truth):
    """Estimated orders against the true ones.

    estimate: dict with `orders`, `orders_unbiased`, `orders_se` and `orders_scale` of connectivity.npz; truth:
    recordings.load_truth's. Returns: dict of lists over orders: r_orders, orders_slope (of estimated on true; both NaN
    where the truth has no such order) and orders_coverage (of the 95 % intervals of all pairs); {} without truth.
    """
    true = truth.get("orders")
    if true is None or true.shape != estimate["orders"].shape:
        return {}
    size = np.linalg.norm(true, axis=(1, 2)) * estimate["orders_scale"]
    there = size > MIN_ORDER_SIZE * size[0]
    pairs = list(zip(estimate["orders"], true, there, strict=True))
    each = zip(estimate["orders_unbiased"], estimate["orders_se"], true, strict=True)
    return {
        "r_orders": [correlation(a, b) if known else np.nan for a, b, known in pairs],
        "orders_slope": [np.sum(a * b) / np.sum(b * b) if known else np.nan for a, b, known in pairs],
        "orders_coverage": [coverage(*one) for one in each],
    }
