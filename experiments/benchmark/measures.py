"""The measures: what a method finds against what is true."""

import time
from dataclasses import replace

import numpy as np

from experiments.benchmark.methods import METHODS
from nsi.evaluation import prediction
from nsi.evaluation.metrics import valid_json
from nsi.evaluation.scores import coverage, deviation
from nsi.hidden import matching
from nsi.run.settings import Settings
from nsi.sums import correlation

NORMAL = 1.96
WINDOWS = Settings().warmup, Settings().window  # steps, that the loss is measured on


def measure(method, data):
    """Put a method to a recording. Returns: dict of numbers and words; `failed`, an error, where it ended in one."""
    began = time.process_time()
    try:
        found = METHODS[method].function(data.rec, data.known)
    except Exception as error:  # one method must not stop all others
        return {"failed": f"{type(error).__name__}: {error}", "seconds": time.process_time() - began}
    row = {"seconds": time.process_time() - began} | {k: v for k, v in found.items() if np.isscalar(v)}
    row |= score(found, data)
    if "network" in found and data.test is not None:
        row |= score_network(found["network"], data, found.get("scale", 1.0))
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in valid_json(row).items()}


def score(found, data):
    """What is found against what is true, over the pairs of the task; intervals of W and total leave the diagonal out.

    Returns: dict of numbers: r, slope, error, of near pairs too, coverage and width (median half-width over the
    r.m.s. weight) of intervals, of connected pairs too where some are not; and of single weights' deviations."""
    result, off = {}, data.pairs & ~np.eye(len(data.pairs), dtype=bool)
    geometry, places = data.known.geometry, data.known.places
    near = geometry.near(places) & data.pairs if geometry else None
    for name, true in data.true.items():
        if name not in found or not true.any():
            continue
        use = np.broadcast_to(data.pairs, true.shape)
        a, b = found[name][use], true[use]
        result[f"r_{name}"] = correlation(a, b)
        result[f"slope_{name}"], result[f"error_{name}"] = a @ b / (b @ b), np.linalg.norm(a - b) / np.linalg.norm(b)
        if name != "gate" and geometry:
            result[f"r_{name}_near"] = correlation(found[name][near], true[near])
        if f"{name}_se" in found:
            claimed = {"": use if name == "gate" else off}
            if name == "W" and (true[off] == 0).any():
                claimed["_connected"] = off & (true != 0)
            centre, se = found.get(f"{name}_unbiased", found[name]), found[f"{name}_se"]
            for kind, some in claimed.items():
                result |= score_intervals(f"{name}{kind}", centre[some], se[some], true[some])
    if "W" in data.true and (data.true["W"][off] == 0).any():
        some = off & (data.true["W"] != 0)
        result["r_connected"] = correlation(found["W"][some], data.true["W"][some])
    if "W" in data.true and geometry:
        deviations = deviation(found["W"], data.true["W"], near, geometry, places)
        if np.isfinite(deviations[1]):
            result |= dict(zip(("r_dev", "dev_slope", "dev_error"), deviations, strict=True))
    return result


def score_intervals(name, centre, se, true):
    """Coverage of the 95 % intervals that are claimed, and their median half-width over the r.m.s. of all. A standard
    error of 0 is of a weight that was given."""
    claimed = np.isfinite(se) & np.isfinite(centre) & (se > 0)
    if not claimed.any():
        return {}
    width = NORMAL * np.median(se[claimed]) / np.sqrt(np.mean(true**2))
    return {f"coverage_{name}": coverage(centre, se, true, claimed), f"width_{name}": width}


def score_network(net, data, scale):
    """How a network predicts trials that no method was fitted to, running freely, and what its hidden units are.

    scale: of the rates, in the network's own units."""
    test, rec = (replace(a, rates=np.float32(scale) * a.rates) for a in (data.test, data.rec))
    ahead = prediction.heading_table(net, test, data.known.geometry, data.known.places)["5"]
    with np.errstate(over="ignore", invalid="ignore"):
        loss = prediction.window_error(net, test, *WINDOWS) if test.rates.shape[1] >= sum(WINDOWS) else None
    result = {"heading_error_5s": ahead["error"], "loss": loss}
    if len(net.b) > net.n and data.true:
        result["r_match"] = matching.measures(net, rec, data.known.truth).get("r_match")
    return result
