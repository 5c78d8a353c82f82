"""What metrics.json says of a fit, and how it is written."""

import math

import numpy as np

from nsi import connectivity, prediction, tuning, uncertainty, unrecorded
from nsi.geometry import decoding_error, places_of


def of_network(net, rec, held_out, geometry, truth, warmup, window, read=None, hidden=None):
    """The measures of one fitted network (docs/measures.md) that need no standard errors.

    The truth, where there is one, is read here and in `of_errors`, and only there. rec, held_out: all trials and the
    held-out ones; truth: recordings.load_truth's; warmup, window: steps of the windows that `loss` is measured on;
    read: Network whose connections are scored, where it is not the one that runs; hidden: Network whose hidden units
    are, where another has them. Returns: dict.
    """
    places, read = places_of(rec, geometry), net if read is None else read
    turning = prediction.turning(rec, geometry, places)
    result = connectivity.scores(read, truth, geometry, places)
    result["loss"] = prediction.window_error(net, held_out, warmup, window)
    result["variance"] = float(held_out.rates[held_out.valid].var(0, dtype=float).mean())
    gain = 1.0 if turning["slope"] is None else np.array(turning["slope"])
    result["heading_error"], differences = prediction.heading_scores(net, held_out, geometry, places, gain)
    result["heading_error_difference"] = differences
    last = result["heading_error"]["5"]
    result["heading_error_5s"] = last["error"] if last["samples"] >= prediction.FEWEST else None
    result["turning"] = turning
    result["decoding_error"] = None if rec.heading is None else decoding_error(rec, geometry, places)
    if net.W_in[:, net.n :].any():
        result |= tuning.shifter_measures(read, held_out, geometry, places)
    if len(net.b) > net.n:
        result |= uncertainty.path_measures(read, rec, truth)
        result |= unrecorded.measures(read if hidden is None else hidden, rec, truth)
    return result


def of_errors(net, rec, geometry, truth, found):
    """The measures of a network's connections that need standard errors. net: Network whose connections are the answer;
    rec: all trials; truth: recordings.load_truth's; found: the arrays of connectivity.npz. Returns: dict."""
    places, determined = places_of(rec, geometry), found["identifiable"]
    result = connectivity.scores(net, truth, geometry, places, determined)
    result["identifiable_fraction"] = float(determined.mean())
    result["resolved_fraction"] = float(found["resolved"].mean())
    if "W" in truth:
        true, W = (a[: net.n, : net.n] for a in (truth["W"], net.W))
        result["r_dev_resolved"] = float(connectivity.deviation(W, true, found["resolved"], geometry, places)[0])
        result["coverage"] = uncertainty.coverage(found["W_unbiased"], found["W_se"], true, determined)
    return result | (uncertainty.path_errors(net, rec, truth, found) if len(net.b) > net.n else {})


def of_replicas(each):
    """The measures of one network as they are; of several, a list of each measure. each: list of dicts."""
    return each[0] if len(each) == 1 else {k: [one[k] for one in each] for k in each[0]}


def replicas(metrics):
    """How many networks were fitted. metrics: of metrics.json."""
    return len(metrics["heading_error"]) if isinstance(metrics["heading_error"], list) else 1


def values_of(metrics, key):
    """A measure of each replica, its mean over the velocity's components, without those that are None. A list."""
    value = metrics.get(key)
    several = isinstance(value, list) and replicas(metrics) > 1 and len(value) == replicas(metrics)
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
