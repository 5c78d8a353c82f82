"""Rivals to this project's estimator, on the same recordings, one core each.

    this project                     train.py with its defaults
    correlation of the rates         np.corrcoef: no model at all, and neither a gate nor a network that runs
    least squares on active samples  arctanh(r) on u and v * u where neurons fire (baselines.py)
    fully observed regression        the same on u of all neurons and v: told the hidden neurons' rates
    FORCE (RLS)                      Sussillo and Abbott 2009, doi 10.1016/j.neuron.2009.07.018, on all weights at once,
                                     as Rajan, Harvey and Tank 2016, doi 10.1016/j.neuron.2016.02.009; with settings as
                                     published, and with those that the truth says are best, which no experimenter has
    CORNN                            Dinc et al. 2023: all weights by convex optimisation (cornn.py)
    LINT                             Valente et al. 2022: a network of low rank, trained on trajectories (lint.py)
    published estimator              train.py with the options that bring it back

Run from the top folder, as `python -m experiments.rivals`; prints the table and writes
results.json and the page's table. Most of the time goes to the published estimator, on its own network.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from experiments import runs
from experiments.rivals.baselines import force, fully_observed, least_squares
from experiments.rivals.cornn import cornn
from experiments.rivals.lint import lint
from nsi import connectivity, recordings
from nsi.geometry import RING
from nsi.network import Network
from nsi.run import checkpoint

PROJECT, LEAST_SQUARES, PUBLISHED = "this project", "least squares on active samples", "published estimator"
CORRELATION = "correlation of the rates (no model)"
TOLD = "fully observed regression (told the hidden neurons)"
CORNN, LINT = "CORNN", "LINT"
FORCE, FORCE_TOLD = "FORCE (RLS)", "FORCE (RLS), small start (told which prior is best)"
CIRCUITS = {
    "ring": (PROJECT, CORRELATION, LEAST_SQUARES, TOLD, FORCE, FORCE_TOLD, CORNN, LINT),
    "gain": (
        PROJECT,
        CORRELATION,
        LEAST_SQUARES,
        FORCE,
        FORCE_TOLD,
        CORNN,
        LINT,
        PUBLISHED,
    ),  # no hidden neurons to be told of
}
# g, s.d. of the initial W times sqrt(N), and alpha_rls, the strength of the prior that W stays there
FORCE_SETTINGS = {FORCE: [(1.5, 1.0)], FORCE_TOLD: [(0.03, 1e2), (0.03, 1e3), (0.03, 1e4), (0.03, 1e5)]}
PUBLISHED_OPTIONS = (
    "--loss mse --warmup 0 --forcing 0 --init-scale 1 --drive-penalty 0 "
    "--lr 1e-4 --beta2 0.999 --schedule constant --batch 100 --rounds 0 --no-errors"
)
MEASURES = ("r_W", "r_W_identifiable", "frobenius_W", "r_gate", "seconds")
# figures of others on the gain network; nothing here reproduces them
REPORTED = {
    "CORNN": {"r_W": 0.24},
    "CURBD": {"r_W": 0.08},
    "least squares (near pairs 0.96)": {"r_W": 0.73, "r_gate": 0.24},
}


# ---- measuring them ---------------------------------------------------------------------------------------------


def measure_trained(data, out, *options):
    """train.py with options. Returns: Network, no separate gate, seconds of its training and last step."""
    metrics = runs.fit(data, out, *options)
    net = checkpoint.networks(out / "model.pt")[0][0]
    return net, None, metrics["train_seconds"] + metrics["solve_seconds"]


def measure_correlation(rec):
    """Returns: the rates' correlation matrix as W of a Network, no gate, seconds."""
    began = time.perf_counter()
    n = rec.rates.shape[-1]
    W = np.corrcoef(rec.rates.reshape(-1, n), rowvar=False)
    seconds = time.perf_counter() - began
    return Network(W, np.zeros((1, n)), np.zeros(n), 1.0, n), None, seconds


def measure_least_squares(rec, alpha, args):
    """Returns: Network without input units, gate (1, N, N), seconds."""
    began = time.perf_counter()
    W, gate = least_squares(rec, alpha, args.samples)
    seconds = time.perf_counter() - began
    return Network(W, np.zeros((1, len(W))), np.zeros(len(W)), alpha, len(W)), gate, seconds


def measure_told(rec, hidden, alpha, args):
    """Returns: Network whose input units are the hidden neurons, no separate gate, seconds."""
    began = time.perf_counter()
    net = fully_observed(rec, hidden, alpha, args.samples)
    return net, None, time.perf_counter() - began


def measure_force(rec, true_W, alpha, seed, passes, settings):
    """Of several settings (g, alpha_rls), the one whose W correlates best with the truth.

    Returns: Network without input units, no gate, seconds of all settings.
    """
    began = time.perf_counter()
    tried = [force(rec, alpha, passes, g, alpha_rls, np.random.default_rng(seed)) for g, alpha_rls in settings]
    seconds = time.perf_counter() - began
    return max(tried, key=lambda net: connectivity.correlation(net.W, true_W)), None, seconds


def measure_network(estimator, rec, alpha, **settings):
    """Returns: Network without input units, as an estimator fits it; no gate, seconds."""
    began = time.perf_counter()
    net = estimator(rec, alpha, **settings)
    return net, None, time.perf_counter() - began


def measure(circuit, seed, args, folder):
    """Simulate one recording and put the estimators to it. Returns: {"circuit, estimator": {measure: value}}.

    All are scored over the same weights, those that the data determine by this project's fit, which thus always runs.
    Where the recording has no tau (gain), least squares and FORCE are told the true alpha, 1; fits take train.py's.
    """
    data, out = folder / f"{circuit}-{seed}.npz", folder / f"{circuit}-{seed}"
    runs.simulate(data, "--circuit", circuit, "--seed", seed, "--trials", args.trials, "--steps", args.steps)
    rec = recordings.load(data)
    truth = recordings.load_truth(data, rec)
    n, alpha = rec.rates.shape[-1], rec.dt / rec.tau if rec.tau else 1.0
    true_W = truth["W"][:n, :n]
    updates = ["--updates", args.updates] if args.updates else []
    project = measure_trained(data, out / "project", "--seed", seed, *updates)
    determined = np.load(out / "project" / "connectivity.npz")["identifiable"]
    published = (*PUBLISHED_OPTIONS.split(), "--updates", args.published_updates)
    estimators = {
        PROJECT: lambda: project,
        CORRELATION: lambda: measure_correlation(rec),
        LEAST_SQUARES: lambda: measure_least_squares(rec, alpha, args),
        TOLD: lambda: measure_told(rec, truth["hidden_rates"], alpha, args),
        FORCE: lambda: measure_force(rec, true_W, alpha, seed, args.force_passes, FORCE_SETTINGS[FORCE]),
        FORCE_TOLD: lambda: measure_force(rec, true_W, alpha, seed, args.force_passes, FORCE_SETTINGS[FORCE_TOLD]),
        CORNN: lambda: measure_network(cornn, rec, alpha),
        LINT: lambda: measure_network(lint, rec, alpha, seed=seed, updates=args.lint_updates),
        PUBLISHED: lambda: measure_trained(data, out / "published", "--seed", seed, *published),
    }
    results = {}
    for name in wanted(circuit, seed, args):
        net, gate, seconds = estimators[name]()
        scores = connectivity.scores(net, truth, RING, RING.find(rec.rates), determined) | {"seconds": seconds}
        if gate is not None:
            scores["r_gate"] = float(connectivity.correlation(gate, truth["gate"]))
        results[f"{circuit}, {name}"] = {m: scores[m] for m in MEASURES if m in scores}
    return results


def wanted(circuit, seed, args):
    """The estimators to put to a recording."""
    names = [name for name in CIRCUITS[circuit] if args.only in f"{circuit}, {name}"]
    return [name for name in names if name != PUBLISHED or seed < args.published_seeds]


# ---- the table --------------------------------------------------------------------------------------------------


def table(rows):
    """The results as Markdown. rows: {"circuit, estimator": {measure: values over seeds}}."""
    some = {f"{c}, {name}": rows[f"{c}, {name}"] for c, names in CIRCUITS.items() for name in names
            if f"{c}, {name}" in rows}  # fmt: skip
    names = [*some, *(f"gain, *reported by others, not measured here:* {name}" for name in REPORTED)]
    columns = {"n": [len(row["seconds"]) for row in some.values()] + ["–"] * len(REPORTED)}
    for m in MEASURES:
        cells = [cell(row[m], 1 if m == "seconds" else 3) if m in row else "–" for row in some.values()]
        columns[f"`{m}`"] = cells + [f"{row[m]:g}" if m in row else "–" for row in REPORTED.values()]
    return runs.turned(names, columns)


def cell(values, digits):
    """Mean ± s.d. over seeds, or the one value there is."""
    return runs.spread(values, digits) if len(values) > 1 else f"{values[0]:.{digits}f}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # fmt: off
    p.add_argument("--seeds",             type=int,   default=3,     help="recordings per circuit")
    p.add_argument("--trials",            type=int,   default=100,   help="of each recording")
    p.add_argument("--steps",             type=int,   default=1000,  help="of each trial")
    p.add_argument("--updates",           type=int,                  help="of this project's fits (default: its own)")
    p.add_argument("--samples",           type=int,   default=20000, help="of each regression, at most, per neuron")
    p.add_argument("--force-passes",      type=int,   default=2,     help="of FORCE over the trials")
    p.add_argument("--lint-updates",      type=int,   default=400,   help="of LINT, for each rank tried")
    p.add_argument("--published-updates", type=int,   default=10000, help="of the published estimator")
    p.add_argument("--published-seeds",   type=int,   default=1,     help="recordings per circuit that it is put to")
    p.add_argument("--only",              default="", help="rows whose `circuit, estimator` contains this; others stay")
    p.add_argument("--workers",           type=int,                  help="recordings at a time (default: all cores)")
    # fmt: on
    args = p.parse_args()
    here = runs.folder_of(__file__)
    rows = runs.read(here) if args.only else {}
    items = [(circuit, seed) for seed in range(args.seeds) for circuit in CIRCUITS if wanted(circuit, seed, args)]
    with tempfile.TemporaryDirectory() as folder:
        results = runs.each(
            lambda item: runs.apart("experiments.rivals.__main__", "measure", *item, args, Path(folder)),
            items,
            args.workers,
        )
    rows |= runs.gathered(results)
    runs.write(here, rows)
    runs.page(here, rivals=table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
