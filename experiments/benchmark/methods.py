"""The methods: each a function of a recording, and an entry of METHODS.

A method is called with a Recording, and with Known (tasks.py), from which rivals take what they are given. It returns
a dictionary: arrays `W`, perhaps `total` (n, n) and `gate` (D, n, n), each with NAME_se and, where intervals are not
about the best estimate, NAME_unbiased; perhaps a `network` to run and the `scale` of the rates in it. Numbers and words
besides are kept as they are.
"""

from typing import NamedTuple

import numpy as np

from experiments import runs
from experiments.benchmark.cornn import cornn
from experiments.benchmark.least_squares import least_squares
from experiments.benchmark.lint import lint
from experiments.benchmark.oracle import oracle
from nsi import estimation
from nsi.estimation import exchangeable, observations  # noqa: F401, so that importing it does not count as its seconds
from nsi.evaluation.weights import clamp, gate_map, hidden_path_map

RIDGE = 0.01  # of the one-step ridge, relative to the neurons' variance


def estimate(rec, known, **options):
    """nsi.estimate, with calibrated intervals; nothing is given besides the recording."""
    e = estimation.estimate(rec, **options)
    kept = {k: getattr(e, k) for k in ("alpha", "alpha_se", "scale", "gate_p")}
    factors = {f"factor_{k}": v for k, v in e.calibration.get("factors", {}).items()}
    network = {"network": e.network} if e.network else {}
    return e.arrays() | kept | factors | network | {f"verdict_{k}": v for k, v in e.verdicts.items()}


def estimate_with_anatomy(rec, known):
    """The same, given which pairs are connected."""
    n = rec.rates.shape[-1]
    return estimate(rec, known, mask=known.truth["W"][:n, :n] != 0)


def by_least_squares(rec, known):
    """Least squares with the synapse's delay (least_squares.py), given alpha, response and mechanism."""
    return least_squares(rec, known.alpha, known.mechanism, known.response._replace(scale=1.0))


def train_network(rec, known, *options):
    """The weights of a network that train.py trains with some options."""
    alpha = ["--alpha", rec.dt / rec.tau] if rec.tau else []
    updates = ["--updates", known.updates] if known.updates else []
    net = runs.train_networks(rec, *options, *alpha, *updates)[0]
    n, clamped = net.n, clamp(net, rec)
    W, sent = net.W[:n, :n], net.W[n:, :n]
    path, gate = hidden_path_map(net, clamped) @ sent, gate_map(net, clamped) @ sent
    return {"W": W, "total": W + path, "gate": gate, "network": net}


def train_published(rec, known):
    """The same with the publication's options."""
    return train_network(rec, known, "--preset", "published")


def by_cornn(rec, known):
    """CORNN (cornn.py), given alpha."""
    net = cornn(rec, known.alpha)
    return {"W": net.W, "network": net}


def by_lint(rec, known):
    """LINT (lint.py), given alpha."""
    net = lint(rec, known.alpha, **({"updates": known.updates} if known.updates else {}))
    return {"W": net.W, "network": net}


def correlate(rec, known):
    """Correlation of the rates."""
    return {"W": np.corrcoef(rec.rates[rec.valid], rowvar=False)}


def one_step_ridge(rec, known):
    """Ridge regression of each neuron's change on all rates one step before."""
    z = (rec.rates - rec.rates[rec.valid].mean(0)) / np.maximum(rec.rates[rec.valid].std(0), 1e-9)
    both = rec.valid[:, 1:] & rec.valid[:, :-1]
    before, change = z[:, :-1][both].astype(float), np.diff(z, axis=1)[both]
    n = before.shape[1]
    return {"W": np.linalg.solve(before.T @ before / len(before) + RIDGE * np.eye(n), before.T @ change / len(before))}


def mean_profile(rec, known):
    """The null: the true mean weight at each distance, or of all pairs, and nothing of single connections."""
    n = rec.rates.shape[-1]
    geometry, W = known.geometry or exchangeable.NoGeometry(), known.truth["W"][:n, :n].astype(float)
    return {"W": geometry.mean_profile(W, known.places, np.ones((n, n), bool))}


class Method(NamedTuple):
    function: object  # called with Recording, Known
    name: str
    gives: tuple = ("weights",)  # of ASKS
    code: tuple = ("experiments/benchmark/methods.py",)  # whose last commit its results are kept under
    seeds: int = 1000  # at most


# by a task, and given by a method
ASKS = "weights", "intervals", "missing neurons", "observations", "anatomy", "gate", "prediction"
ESTIMATE = "nsi/estimation", "nsi/geometry", "nsi/response.py"
NETWORK = "train.py", "model.py", "nsi/training", "nsi/hidden/units.py"
LEAST_SQUARES, CORNN, LINT, ORACLE = (
    f"experiments/benchmark/{name}.py" for name in ("least_squares", "cornn", "lint", "oracle")
)
METHODS = {
    "estimate": Method(estimate, "estimate", tuple(ask for ask in ASKS if ask != "anatomy"), ESTIMATE),
    "anatomy": Method(estimate_with_anatomy, "estimate, given anatomy", ("anatomy",), ESTIMATE),
    "least-squares": Method(by_least_squares, "least squares", ("weights", "intervals"), (LEAST_SQUARES,)),
    "trained": Method(train_network, "trained network", ("weights", "prediction"), NETWORK),
    "published": Method(train_published, "published estimator", ("weights",), NETWORK, 1),
    "cornn": Method(by_cornn, "CORNN", ("weights", "prediction"), (CORNN,)),
    "lint": Method(by_lint, "LINT", ("weights", "prediction"), (LINT,)),
    "one-step": Method(one_step_ridge, "one-step ridge"),
    "correlation": Method(correlate, "correlation"),
    "null": Method(mean_profile, "mean profile"),
    "oracle": Method(oracle, "oracle", ("weights", "intervals", "missing neurons"), (ORACLE,)),
}
