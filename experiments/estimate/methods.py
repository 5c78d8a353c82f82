"""The estimators, each a function of a recording that gives what it says of the connections, and their scores."""

import time
from dataclasses import replace
from functools import partial

import numpy as np

from experiments import runs
from experiments.estimate.cornn import cornn
from experiments.estimate.least_squares import least_squares
from experiments.estimate.lint import lint
from nsi import estimation
from nsi.evaluation import prediction
from nsi.evaluation.scores import deviation
from nsi.evaluation.weights import clamp, gate_map, hidden_path_map
from nsi.hidden import matching
from nsi.run import checkpoint
from nsi.run.settings import Settings
from nsi.sums import correlation

FREE_OPTIONS = "--set calibrated=no"  # the network's own weights
PUBLISHED_OPTIONS = "--preset published --set calibrated=no"
NORMAL = 1.96
WINDOWS = Settings().warmup, Settings().window  # steps, that the loss is measured on


def by_estimate(data, folder, sizes):
    began = time.process_time()
    e = estimation.estimate(data.rec)
    row = {"seconds": time.process_time() - began}
    arrays = {k: getattr(e, k) for k in e.arrays()}
    row |= {"alpha": e.alpha, "alpha_se": e.alpha_se, "scale": e.scale, "gate_p": e.gate_p}
    row |= {f"verdict_{k}": v for k, v in e.verdicts.items()}
    row |= {f"factor_{k}": v for k, v in e.calibration.get("factors", {}).items()}
    return row | score(arrays, data) | (score_network(e.network, data, e.scale) if e.network else {})


def by_least_squares(data, folder, sizes):
    began = time.process_time()
    arrays = least_squares(data.rec, data.alpha, data.hidden)
    row = {"seconds": time.process_time() - began}
    arrays = arrays._asdict() | {"W_unbiased": arrays.W, "gate_unbiased": arrays.gate}
    return row | score(arrays, data)


def by_training(options, data, folder, sizes):
    """The weights of a network that train.py trains with some options."""
    metrics = runs.fit(folder / "recording.npz", folder / "fit", "--overwrite", *options.split(), *sizes)
    net = checkpoint.networks(folder / "fit" / "model.pt", trained=True)[0][0]
    n, rec = net.n, data.rec
    clamped = clamp(net, rec)
    W, sent = net.W[:n, :n], net.W[n:, :n]
    arrays = {
        "W": W,
        "total": W + hidden_path_map(clamped, n) @ sent,
        "gate": gate_map(net, clamped) @ sent,
    }
    seconds = metrics["cpu_seconds"] * metrics["train_seconds"] / metrics["seconds"]  # of the training alone
    return {"seconds": seconds} | score(arrays, data) | score_network(net, data)


def by_network(estimator, data, folder, sizes):
    """The weights of a network without hidden units, as an estimator fits it, given the circuit's alpha."""
    began = time.process_time()
    net = estimator(data.rec, data.alpha, **sizes)
    row = {"seconds": time.process_time() - began}
    return row | score({"W": net.W}, data) | score_network(net, data)


def by_correlation(data, folder, sizes):
    began = time.process_time()
    W = np.corrcoef(data.rec.rates[data.rec.valid], rowvar=False)
    return {"seconds": time.process_time() - began} | score({"W": W}, data)


METHODS = {
    "estimate": by_estimate,
    "least-squares": by_least_squares,
    "trained": partial(by_training, FREE_OPTIONS),
    "published": partial(by_training, PUBLISHED_OPTIONS),
    "cornn": partial(by_network, cornn),
    "lint": partial(by_network, lint),
    "correlation": by_correlation,
}
NAMES = dict(zip(METHODS, ("estimate", "least squares", "trained network", "published estimator", "CORNN", "LINT",
                           "correlation"), strict=True))  # fmt: skip
QUICK = "estimate", "least-squares", "trained", "correlation"  # put to every seed, the others to the first ones


# ---- scores -----------------------------------------------------------------------------------------------------


def score(arrays, data):
    """What is found against what is true, over all pairs but the intervals, which leave the diagonal of W out.

    arrays: dict with W, and perhaps total and gate, NAME_unbiased and NAME_se. Returns: dict of numbers.
    """
    near, result = data.geometry.near(data.places), {}
    for name, true in data.true.items():
        if name not in arrays:
            continue
        a = arrays[name]
        result[f"r_{name}"] = correlation(a, true)
        result[f"slope_{name}"] = np.sum(a * true) / np.sum(true**2)
        result[f"error_{name}"] = np.linalg.norm(a - true) / np.linalg.norm(true)
        if name != "gate":
            result[f"r_{name}_near"] = correlation(a[near], true[near])
        if f"{name}_se" in arrays:
            result |= score_intervals(name, arrays, true)
    deviations = deviation(arrays["W"], data.true["W"], near, data.geometry, data.places)
    if np.isfinite(deviations[0]):
        result |= dict(zip(("r_dev", "dev_slope", "dev_error"), deviations, strict=True))
    return result


def score_intervals(name, arrays, true):
    """Coverage of the 95 % intervals and their median half-width over the r.m.s. weight."""
    center, se = arrays[f"{name}_unbiased"], arrays[f"{name}_se"]
    claimed = np.isfinite(se) & np.isfinite(center)
    if name != "gate":
        claimed &= ~np.eye(len(se), dtype=bool)
    if not claimed.any():
        return {}
    inside = np.abs(center - true)[claimed] < NORMAL * se[claimed]
    return {
        f"coverage_{name}": inside.mean(),
        f"width_{name}": NORMAL * np.median(se[claimed]) / np.sqrt(np.mean(true**2)),
    }


def score_network(net, data, scale=1.0):
    """How a network predicts trials that no estimator was fitted to, running freely, and what its hidden units are.

    scale: of the rates, in the network's own units."""
    test, rec = (replace(a, rates=np.float32(scale) * a.rates) for a in (data.test, data.rec))
    ahead = prediction.heading_table(net, test, data.geometry, data.places)["5"]
    with np.errstate(over="ignore", invalid="ignore"):
        loss = prediction.window_error(net, test, *WINDOWS) if test.rates.shape[1] >= sum(WINDOWS) else None
    result = {"heading_error_5s": ahead["error"], "loss": loss}
    if len(net.b) > net.n:
        result["r_match"] = matching.measures(net, rec, data.truth).get("r_match")
    return result
