"""The measures in metrics.json."""

import math

import numpy as np

from nsi.evaluation import prediction, scores, tuning
from nsi.evaluation.scores import coverage, deviation, has_gate, true_effective_gate
from nsi.evaluation.weights import effective_gate
from nsi.geometry import decoding_error
from nsi.hidden import matching
from nsi.recordings.turning import measure_turning
from nsi.sums import correlation

BY_COMPONENT = "r_gate_effective", "gate_slope", "gate_error"  # of the estimate: lists have no replicas


def of_network(trained, net, hidden, data, settings):
    """The measures of one fitted network (docs/measures.md).

    The truth, where there is one, is read here and in `of_connections`, and only there. trained, net, hidden: Network,
    of the publication's training, the one that predicts, and the one of hidden neurons; data: run.setup.Data; settings:
    with warmup and window, of the windows that `loss` is measured on. Returns: dict.
    """
    rec, held_out, geometry, places, truth = data.rec, data.held_out, data.geometry, data.places, data.truth
    turning = measure_turning(rec, geometry, places)
    own = scores.network_scores(trained, truth, geometry, places)
    if len(trained.b) > trained.n and has_gate(truth):
        effective = effective_gate(trained, rec)
        own |= scores.gate_scores(effective, true_effective_gate(truth, rec))
    as_products = "r_gate", "r_product"  # of a network only, whose gate is a product of weights
    result = {k if k in as_products else f"network_{k}": value for k, value in own.items()}
    result["loss"] = prediction.window_error(net, held_out, settings.warmup, settings.window)
    result["variance"] = float(held_out.rates[held_out.valid].var(0, dtype=float).mean())
    gain = 1.0 if turning["slope"] is None else np.array(turning["slope"])
    scored = prediction.heading_scores(net, held_out, geometry, places, gain)
    result["heading_error"], result["heading_error_difference"] = scored
    last = result["heading_error"]["5"]
    result["heading_error_5s"] = last["error"] if last["samples"] >= prediction.MIN_SAMPLES else None
    result["turning"] = turning
    result["decoding_error"] = None if rec.heading is None else decoding_error(rec, geometry, places)
    if trained.driven_hidden.any():
        result |= tuning.shifter_measures(trained, held_out, geometry, places)
    if len(hidden.b) > hidden.n:
        result |= matching.measures(hidden, rec, truth)
    return result


def of_connections(arrays, rec, geometry, places, truth):
    """The measures of the estimate. arrays: the arrays of connectivity.npz; rec: all trials; places: (n, D) rad; truth:
    recordings.load_truth's. Returns: dict; without standard errors (of a control) only those of W."""
    n, result, determined = len(arrays["W"]), {}, arrays.get("identifiable")
    if "W" in truth:
        true = truth["W"][:n, :n]
        result |= scores.weight_scores(arrays["W"], true, geometry, places, determined)
    if determined is None:
        return result
    off = ~np.eye(n, dtype=bool)  # no neuron of the circuits here connects to itself
    result["identifiable_fraction"] = float(determined.mean())
    result["resolved_fraction"] = float(arrays["resolved"].mean())
    if "W" in truth:
        r, _, _ = deviation(arrays["W"], true, arrays["resolved"], geometry, places)
        result["r_dev_resolved"] = float(r)
        result["coverage"] = coverage(arrays["W_unbiased"], arrays["W_se"], true, off)
    if has_gate(truth):
        true = true_effective_gate(truth, rec, float(arrays["alpha"]))
        result |= scores.gate_scores(arrays["gate"], true)
        result["coverage_gate"] = coverage(arrays["gate_unbiased"], arrays["gate_se"], true)
    if scores.is_whole(truth, rec):
        true = scores.true_total(truth, rec.rates, float(arrays["alpha"]))
        near = geometry.near(places)
        result["r_total"] = float(correlation(arrays["total"][near], true[near]))
        result["frobenius_total"] = float(np.linalg.norm(arrays["total"] - true) / np.linalg.norm(true))
        result["coverage_total"] = coverage(arrays["total_unbiased"], arrays["total_se"], true, off)
    return result


def of_replicas(each):
    """The measures of one network as they are; of several, a list of each measure. each: list of dicts."""
    return each[0] if len(each) == 1 else {k: [one[k] for one in each] for k in each[0]}


def replicas(metrics):
    """Number of networks that were fitted. metrics: of metrics.json."""
    return len(metrics["heading_error"]) if isinstance(metrics["heading_error"], list) else 1


def values_of(metrics, key):
    """A measure of each replica, its mean over the velocity's components, without those that are None. A list."""
    value = metrics.get(key)
    several = isinstance(value, list) and replicas(metrics) > 1 and len(value) == replicas(metrics)
    several &= key not in BY_COMPONENT
    each = [[x for x in np.ravel(one) if x is not None] for one in (value if several else [value])]
    return [float(np.mean(one)) for one in each if one]


def tables_of(metrics, key):
    """A measure that is a dictionary, of each replica. Returns: list of dict."""
    value = metrics.get(key)
    return value if isinstance(value, list) else [] if value is None else [value]


def valid_json(value):
    """A value with None for every number that is not finite, however deep, and Python's numbers for numpy's."""
    if isinstance(value, dict):
        return {k: valid_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [valid_json(v) for v in value]
    if isinstance(value, np.generic | np.ndarray):
        return valid_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe_orders(metrics):
    """Describe the orders that the data show. metrics: of metrics.json. Yields: sentences."""
    if "orders_size" not in metrics:
        return
    if metrics["verdicts"]["description"] != "fits":
        yield "orders of the velocity: cannot tell, since the estimate claims no interval"
        return
    d = len(metrics["orders_powers"][0])
    names = ["velocity"] if d == 1 else [f"v{k + 1}" for k in range(d)]
    each = zip(metrics["orders_powers"], metrics["orders_size"], metrics["orders_shown"], strict=True)
    shown = [
        f"{' '.join(f'{name}^{p}' if p > 1 else name for name, p in zip(names, powers, strict=True) if p)} "
        f"({100 * size:.1f} %)"
        for powers, size, known in each
        if known and any(powers)
    ]
    yield f"orders beyond 0 that these data show, relative to order 0: {', '.join(shown) or 'none'}"
