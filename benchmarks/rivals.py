"""Rivals to this project's estimator, on the same recordings, one core each.

    this project                     train.py with its defaults
    correlation of the rates         np.corrcoef: no model at all, and neither a gate nor a network that runs
    least squares on active samples  arctanh(r) on u and v * u where neurons fire (experiments/results.py)
    fully observed regression        the same on u of all neurons and v: told the hidden neurons' rates
    FORCE (RLS)                      Sussillo and Abbott 2009, doi 10.1016/j.neuron.2009.07.018, on all weights at once,
                                     as Rajan, Harvey and Tank 2016, doi 10.1016/j.neuron.2016.02.009; with settings as
                                     published, and with those that the truth says are best, which no experimenter has
    published estimator              train.py with the options that bring it back

Run from the top folder, as `python -m benchmarks.rivals`; prints the table and writes it, rivals.md, and what it is
made of, rivals.json. Most of the time goes to the published estimator, on its own network.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import analysis
import model
import recording
from experiments import runs
from experiments.results import least_squares

PROJECT, LEAST_SQUARES, PUBLISHED = "this project", "least squares on active samples", "published estimator"
CORRELATION = "correlation of the rates (no model)"
TOLD = "fully observed regression (told the hidden neurons)"
FORCE, FORCE_TOLD = "FORCE (RLS)", "FORCE (RLS), small start (told which prior is best)"
CIRCUITS = {
    "shifters": (PROJECT, CORRELATION, LEAST_SQUARES, TOLD, FORCE, FORCE_TOLD),
    "gain": (PROJECT, CORRELATION, LEAST_SQUARES, FORCE, FORCE_TOLD, PUBLISHED),  # no hidden neurons to be told of
}
# g, s.d. of the initial W times sqrt(N), and alpha_rls, the strength of the prior that W stays there
FORCE_SETTINGS = {FORCE: [(1.5, 1.0)], FORCE_TOLD: [(0.03, 1e2), (0.03, 1e3), (0.03, 1e4), (0.03, 1e5)]}
PUBLISHED_OPTIONS = (
    "--loss mse --warmup 0 --forcing 0 --init-scale 1 --drive-penalty 0 "
    "--lr 1e-4 --beta2 0.999 --schedule constant --batch 100 --no-polish --no-errors"
)
MEASURES = ("r_W", "r_W_identifiable", "frobenius_W", "r_gate", "seconds")
# figures of others on the gain network; nothing here reproduces them
REPORTED = {
    "CORNN": {"r_W": 0.24},
    "CURBD": {"r_W": 0.08},
    "least squares (near pairs 0.96)": {"r_W": 0.73, "r_gate": 0.24},
}


# ---- the estimators ---------------------------------------------------------------------------------------------


def regress(X, r, samples):
    """Least squares of arctanh(r[:, j]) on X over the first `samples` moments at which neuron j fires.

    X: (moments, K); r: (moments, M). Returns: (K, M).
    """
    solution = np.zeros((X.shape[1], r.shape[1]))
    ridge = 1e-6 * np.eye(X.shape[1])
    for j in range(r.shape[1]):
        fires = np.flatnonzero((r[:, j] > 0.01) & (r[:, j] < 0.999))[:samples]
        A = X[fires].astype(np.float64)
        solution[:, j] = np.linalg.lstsq(A.T @ A + len(A) * ridge, A.T @ np.arctanh(r[fires, j]))[0]
    return solution


def fully_observed(rec, hidden, alpha, samples):
    """Regress arctanh(r) of all M neurons on u of all neurons, on v and on 1.

    hidden: (trials, steps, M - N), the hidden neurons' rates, which no experimenter has.
    Returns: Fit of M units, the velocity entering the hidden ones.
    """
    n, settled = rec.rates.shape[-1], round(3 / alpha)
    rates = np.concatenate([rec.rates, hidden], -1)
    u, r, v = (x[:, settled:] for x in (analysis.synaptic_state(rates, alpha), rates, rec.velocity))
    X = np.concatenate([u, v, np.ones_like(v[..., :1])], -1)
    solution = regress(X.reshape(-1, X.shape[-1]), r.reshape(-1, r.shape[-1]), samples)
    size = r.shape[-1]
    return analysis.Fit(solution[:size], solution[size:-1, n:], solution[-1], alpha, n)


def force(rec, alpha, passes, g, alpha_rls, rng):
    """FORCE learning of all weights of a network r = phi(x @ w), x = [u, v, 1], that runs freely on velocity.

    At every step, recursive least squares moves the currents towards those of the recorded neurons:
    P <- P - P x x' P / (1 + x' P x), w <- w - P x e, with e = x @ w - arctanh(r recorded). Trials start at the record.

    g: s.d. of the initial W times sqrt(N); alpha_rls: P starts at I / alpha_rls. Returns: Fit without input units.
    """
    trials, _, n = rec.rates.shape
    settled = round(3 / alpha)
    start = analysis.synaptic_state(rec.rates[:, : settled + 1], alpha)[:, settled]
    target = np.arctanh(np.minimum(rec.rates[:, settled:].astype(np.float64), 0.999))
    v = rec.velocity[:, settled:]
    size = n + v.shape[-1] + 1
    w, P = np.zeros((size, n)), np.eye(size) / alpha_rls
    w[:n] = g / np.sqrt(n) * rng.standard_normal((n, n))
    x = np.ones(size)
    for trial in list(range(trials)) * passes:
        x[:n] = start[trial]
        for t in range(target.shape[1]):
            x[n:-1] = v[trial, t]
            a, Px = x @ w, P @ x
            k = Px / (1 + x @ Px)  # P x after the update of P
            P -= np.outer(k, Px)
            w -= np.outer(k, a - target[trial, t])
            x[:n] += alpha * (np.maximum(0, np.tanh(a)) - x[:n])
    return analysis.Fit(w[:n], w[n:-1], w[-1], alpha, n)


# ---- measuring them ---------------------------------------------------------------------------------------------


def measure_trained(data, out, *options):
    """train.py with options. Returns: Fit, no separate gate, seconds of its training and last step."""
    metrics = runs.fit(data, out, *options)
    fit = analysis.fits(model.load(out / "model.pt")[0])[0]
    return fit, None, metrics["train_seconds"] + metrics["polish_seconds"]


def measure_correlation(rec):
    """Returns: the rates' correlation matrix as W of a Fit, no gate, seconds."""
    began = time.perf_counter()
    n = rec.rates.shape[-1]
    W = np.corrcoef(rec.rates.reshape(-1, n), rowvar=False)
    seconds = time.perf_counter() - began
    return analysis.Fit(W, np.zeros((1, n)), np.zeros(n), 1.0, n), None, seconds


def measure_least_squares(rec, alpha, args):
    """Returns: Fit without input units, gate (1, N, N), seconds."""
    began = time.perf_counter()
    W, gate = least_squares(rec, alpha, args.samples)
    seconds = time.perf_counter() - began
    return analysis.Fit(W, np.zeros((1, len(W))), np.zeros(len(W)), alpha, len(W)), gate, seconds


def measure_told(rec, hidden, alpha, args):
    """Returns: Fit whose input units are the hidden neurons, no separate gate, seconds."""
    began = time.perf_counter()
    fit = fully_observed(rec, hidden, alpha, args.samples)
    return fit, None, time.perf_counter() - began


def measure_force(rec, true_W, alpha, seed, passes, settings):
    """Of several settings (g, alpha_rls), the one whose W correlates best with the truth.

    Returns: Fit without input units, no gate, seconds of all settings.
    """
    began = time.perf_counter()
    tried = [force(rec, alpha, passes, g, alpha_rls, np.random.default_rng(seed)) for g, alpha_rls in settings]
    seconds = time.perf_counter() - began
    return max(tried, key=lambda fit: analysis.correlation(fit.W, true_W)), None, seconds


def measure(shift, seed, args, folder):
    """Simulate one recording and put the estimators to it. Returns: {"circuit, estimator": {measure: value}}.

    All are scored over the same weights, those that the data determine by this project's fit, which thus always runs.
    Where the recording has no tau (gain), least squares and FORCE are told the true alpha, 1; fits take train.py's.
    """
    data, out = folder / f"{shift}-{seed}.npz", folder / f"{shift}-{seed}"
    runs.script(
        "cann.py", "--out", data, "--shift", shift, "--seed", seed, "--trials", args.trials, "--steps", args.steps
    )
    rec = recording.load(data)
    truth = recording.load_truth(data, rec)
    n, alpha = rec.rates.shape[-1], rec.dt / rec.tau if rec.tau else 1.0
    true_W = truth["W"][:n, :n]
    updates = ["--updates", args.updates] if args.updates else []
    project = measure_trained(data, out / "project", "--seed", seed, *updates)
    determined = np.load(out / "project" / "errors.npz")["identifiable"]
    published = (*PUBLISHED_OPTIONS.split(), "--updates", args.published_updates)
    estimators = {
        PROJECT: lambda: project,
        CORRELATION: lambda: measure_correlation(rec),
        LEAST_SQUARES: lambda: measure_least_squares(rec, alpha, args),
        TOLD: lambda: measure_told(rec, truth["hidden_rates"], alpha, args),
        FORCE: lambda: measure_force(rec, true_W, alpha, seed, args.force_passes, FORCE_SETTINGS[FORCE]),
        FORCE_TOLD: lambda: measure_force(rec, true_W, alpha, seed, args.force_passes, FORCE_SETTINGS[FORCE_TOLD]),
        PUBLISHED: lambda: measure_trained(data, out / "published", "--seed", seed, *published),
    }
    results = {}
    for name in wanted(shift, seed, args):
        fit, gate, seconds = estimators[name]()
        scores = analysis.connectivity_scores(fit, truth, determined) | {"seconds": seconds}
        if gate is not None:
            scores["r_gate"] = float(analysis.correlation(gate, truth["gate"]))
        results[f"{shift}, {name}"] = {m: scores[m] for m in MEASURES if m in scores}
    return results


def wanted(shift, seed, args):
    """The estimators to put to a recording."""
    names = [name for name in CIRCUITS[shift] if args.only in f"{shift}, {name}"]
    return [name for name in names if name != PUBLISHED or seed < args.published_seeds]


def alone(function, *arguments):
    """Call a function in a process of its own, whose numerical libraries then start with one thread."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


# ---- the table --------------------------------------------------------------------------------------------------


def table(rows):
    """The results as Markdown. rows: {"circuit, estimator": {measure: values over seeds}}."""
    lines = ["| circuit | estimator | " + " | ".join(f"`{m}`" for m in MEASURES) + " | n |"]
    lines += ["|" + " --- |" * (len(MEASURES) + 3)]
    for circuit, names in CIRCUITS.items():
        for name in names:
            if row := rows.get(f"{circuit}, {name}"):
                cells = [cell(row[m], 1 if m == "seconds" else 3) if m in row else "–" for m in MEASURES]
                lines.append(f"| {circuit} | {name} | {' | '.join(cells)} | {len(row['seconds'])} |")
    for name, row in REPORTED.items():
        cells = [f"{row[m]:g}" if m in row else "–" for m in MEASURES]
        lines.append(f"| gain | *reported by others, not measured here:* {name} | {' | '.join(cells)} | – |")
    return "\n".join(lines)


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
    p.add_argument("--published-updates", type=int,   default=10000, help="of the published estimator")
    p.add_argument("--published-seeds",   type=int,   default=1,     help="recordings per circuit that it is put to")
    p.add_argument("--only",              default="", help="rows whose `circuit, estimator` contains this; others stay")
    p.add_argument("--workers",           type=int,                  help="recordings at a time (default: all cores)")
    p.add_argument("--out",               type=Path,  default=Path(__file__).parent, help="folder of rivals.json, .md")
    # fmt: on
    args = p.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that `alone` starts
    kept = args.out / "rivals.json"
    rows = json.loads(kept.read_text()) if args.only and kept.exists() else {}
    items = [(shift, seed) for seed in range(args.seeds) for shift in CIRCUITS if wanted(shift, seed, args)]
    with tempfile.TemporaryDirectory() as folder:
        results = runs.each(lambda item: alone(measure, *item, args, Path(folder)), items, args.workers)
    fresh = {}
    for result in results:
        for name, measures in result.items():
            for m, value in measures.items():
                fresh.setdefault(name, {}).setdefault(m, []).append(value)
    rows |= fresh
    runs.write(kept, rows)
    (args.out / "rivals.md").write_text(table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
