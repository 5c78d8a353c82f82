"""Single connections: circuits whose weights differ from pair to pair, scored on how they deviate from the ring.

On a symmetric ring the mere correlation matrix of the rates resembles W. Here each weight among compass neurons is
multiplied by 1 + s * randn, or half of them are absent, and all are then balanced so that the bump behaves as before
(nsi/uneven.py). The deviations, W minus its mean profile by distance, are what no smooth estimate can have. On the same
recordings:

    this project           train.py with its defaults
    free training alone    without the rounds in which the response weights are solved for (--rounds 0)
    FORCE, CORNN, LINT     estimators of others, see experiments/estimate; they are given a stimulus, and the true alpha
    least squares          of arctanh(r) on u and v * u, where neurons fire, likewise
    correlation            of the rates: no model at all

Writes results.json, connections.png and the page's tables. Run it from the top folder, as
`python -m experiments.connections`; with `--circuits`, the other circuits' results of the last run are kept.
"""

import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from experiments.estimate.baselines import force, least_squares
from experiments.estimate.cornn import cornn
from experiments.estimate.lint import lint
from nsi import connectivity, figures, files, prediction, recordings
from nsi.geometry import RING
from nsi.network import Network
from nsi.run import checkpoint

FOLDER = runs.folder_of(__file__)
JITTER, PULSES = ["--jitter", 0.2, "--balance"], ["--stimulus", 4]
SPARSE = ["--jitter", 0.2, "--jitter-shifters", 0.2, "--sparse", 0.5, "--balance"]
CIRCUITS = {
    "even, passive": [],
    "even, pulses": PULSES,
    "jitter 0.2, passive": JITTER,
    "jitter 0.2, pulses": [*JITTER, *PULSES],
    "jitter 0.2, pulses, 20 trials": [*JITTER, *PULSES, "--trials", 20],
    "jitter 0.05, pulses every 0.1 s, 200 trials": [
        "--jitter", 0.05, "--balance", *PULSES, "--stimulus-every", 0.1, "--trials", 200,
    ],
    "sparse, passive": SPARSE,
    "sparse, pulses": [*SPARSE, *PULSES],
    "holding, passive": ["--circuit", "holding"],
    "holding, pulses": ["--circuit", "holding", *PULSES],
    "gain, passive": ["--circuit", "gain"],
}  # fmt: skip
PROJECT, FREE = "this project", "free training alone"
LEAST_SQUARES, CORRELATION = "least squares", "correlation"
RIVALS = "FORCE", "CORNN", "LINT", LEAST_SQUARES, CORRELATION
ESTIMATORS = PROJECT, FREE, *RIVALS
COLOURS = figures.FITTED, figures.SIMPLE, "#d9a05b", "#7fa37f", "#b58bb0", "#c9b458", "#9a9a9a"
DEVIATIONS = "r_dev", "dev_slope", "dev_error"
COMPARED = "r_W", "r_W_near", "frobenius_W", "r_gate_effective", "gate_error", "heading_error_5s", "loss", "seconds"
SCORES = (
    *COMPARED, "coverage", "coverage_total", "coverage_gate", "identifiable_fraction", "resolved_fraction",
    "r_dev_resolved", "running",
)  # fmt: skip
DIGITS = {"loss": 5, "seconds": 0}
WARMUP, WINDOW = 10, 50  # train.py's, of the windows that the loss is measured on


def measured(name, seed, folder, sizes, updates, lint_updates, rivals):
    """Simulate one circuit and put the estimators to it, to seeds from `rivals` on this project's alone.

    Returns: {estimator: {measure: value or None}}.
    """
    data, out = folder / f"{name}-{seed}.npz", folder / f"{name}-{seed}"
    runs.simulate(data, "--seed", seed, *sizes, *CIRCUITS[name])
    found = {PROJECT: runs.fit(data, out / "project", "--seed", seed, *updates)}
    if seed < rivals:
        free = runs.fit(data, out / "free", "--seed", seed, "--rounds", 0, "--no-errors", *updates)
        others = runs.apart("experiments.connections.__main__", "compared", data, out, seed, lint_updates)
        found |= {FREE: free | others.pop(FREE), **others}
    data.unlink()
    return {
        name: {m: finite(row.get(m)) for m in (*DEVIATIONS, *(SCORES if name == PROJECT else COMPARED))}
        for name, row in found.items()
    }


def compared(data, out, seed, lint_updates):
    """Scores of the free training's deviations and of the rivals, over this project's identifiable pairs.

    data: the recording; out: the folder of both fits. Returns: {estimator: {measure: value}}.
    """
    rec = recordings.load(data)
    truth, alpha, places = recordings.load_truth(data, rec), true_alpha(rec), RING.find(rec.rates[rec.valid])
    train, held_out, _ = recordings.split(rec)
    with np.load(out / "project" / "connectivity.npz", allow_pickle=False) as file:
        known = file["identifiable"]
    score = lambda net: connectivity.scores(net, truth, RING, places, known)  # noqa: E731
    free = score(checkpoint.networks(out / "free" / "model.pt")[0][0])
    found = {FREE: {m: free[m] for m in DEVIATIONS}}
    for name, estimator in trainable(train, alpha, seed, lint_updates).items():
        began = time.perf_counter()
        net = estimator()
        found[name] = score(net) | {"seconds": time.perf_counter() - began} | run_freely(net, held_out, places)
    began = time.perf_counter()
    W, gate = least_squares(train, alpha, 20000)
    found[LEAST_SQUARES] = score(only(W)) | {"seconds": time.perf_counter() - began}
    true = connectivity.true_effective_gate(truth, rec)
    found[LEAST_SQUARES] |= {
        "r_gate_effective": connectivity.correlation(gate, true),
        "gate_error": np.linalg.norm(gate - true) / np.linalg.norm(true),
    }
    began = time.perf_counter()
    W = np.corrcoef(train.rates[train.valid], rowvar=False)
    found[CORRELATION] = score(only(W)) | {"seconds": time.perf_counter() - began}
    return found


def trainable(train, alpha, seed, lint_updates):
    """The rivals that are trained. train: Recording. Returns: {name: a function that gives a Network}."""
    return {
        "FORCE": lambda: force(train, alpha, 2, 1.5, 1.0, np.random.default_rng(seed)),
        "CORNN": lambda: cornn(train, alpha),
        "LINT": lambda: lint(train, alpha, updates=lint_updates, seed=seed),
    }


def true_alpha(rec):
    """dt / tau, or, where the recording does not tell (the gain network), the circuit's own."""
    return rec.dt / rec.tau if rec.tau else 1.0


def only(W):
    """Weights of a method that gives no network, as one."""
    return Network(W, np.zeros((1, len(W))), np.zeros(len(W)), 1.0, len(W))


def run_freely(net, held_out, places):
    """How a rival's network predicts trials that were held out, measured as train.py does. Returns: dict."""
    with np.errstate(over="ignore", invalid="ignore"):
        ahead = prediction.heading_table(net, held_out, RING, places)["5"]
        error = prediction.window_error(net, held_out, WARMUP, WINDOW)
    return {"loss": error, "heading_error_5s": ahead["error"] if ahead["samples"] >= prediction.FEWEST else None}


def finite(value):
    """The value, or None (JSON has no NaN) where it is missing or not finite; words as they are."""
    if value is None or isinstance(value, str):
        return value
    return float(value) if np.isfinite(value) else None


def cell(values, digits=3):
    """Mean ± s.d. over seeds of those that there are; words, each once."""
    known = [v for v in values if v is not None]
    if known and isinstance(known[0], str):
        return ", ".join(dict.fromkeys(known))
    return runs.spread(known, digits) if known else "–"


def size(args, row):
    """The size of a run in words: `runs.size`, and how many of its recordings the other estimators had."""
    count = len(row.get(CORRELATION, {}).get("r_W", []))
    return runs.size(args) + (f" (other estimators: {count})" if count < args.seeds else "")


def made(results):
    """What runs the results are of, as a sentence."""
    return runs.made(results)


def all_of(results):
    """The circuits there are results of. results: with "made" beside them. Returns: {circuit: its row}."""
    return {name: results[name] for name in CIRCUITS if name in results}


def uneven(results):
    """The circuits whose weights deviate from their profile. results: {circuit: {estimator: {measure: values}}}."""
    return {name: row for name, row in all_of(results).items() if name.startswith(("jitter", "sparse"))}


def deviations(results):
    """How single connections are found, as Markdown. results: as for `uneven`."""
    some = uneven(results)
    columns = {f"`r_dev`, {name}": [cell(row[name]["r_dev"]) for row in some.values()] for name in ESTIMATORS}
    for measure in DEVIATIONS[1:]:
        columns |= {f"`{measure}`, {name}": [cell(row[name][measure]) for row in some.values()]
                    for name in (PROJECT, FREE)}  # fmt: skip
    return runs.turned(list(some), columns)


def scores(results):
    """The measures of this project's fits, as Markdown. results: as for `uneven`."""
    some = all_of(results)
    columns = {f"`{m}`": [cell(row[PROJECT][m], DIGITS.get(m, 3)) for row in some.values()] for m in SCORES}
    return runs.turned(list(some), columns)


def rivals(results):
    """The measures that every estimator has, as Markdown. results: as for `uneven`."""
    rows = [(f"{circuit}: {name}", row[name]) for circuit, row in all_of(results).items() for name in ESTIMATORS]
    columns = {f"`{m}`": [cell(row[m], DIGITS.get(m, 3)) for _, row in rows] for m in COMPARED}
    return runs.turned([name for name, _ in rows], columns)


def figure(results):
    """r_dev of every estimator, circuit by circuit, seeds as dots. results: as for `uneven`."""
    some = uneven(results)
    drawn, ax = plt.subplots(figsize=(9, 3.6))
    for k, (name, colour) in enumerate(zip(ESTIMATORS, COLOURS, strict=True)):
        x = np.arange(len(some)) + (k - (len(ESTIMATORS) - 1) / 2) * 0.12
        values = [[v for v in row[name]["r_dev"] if v is not None] for row in some.values()]
        ax.bar(x, [np.mean(v) if v else 0.0 for v in values], 0.11, color=colour, label=name)
        for place, each in zip(x, values, strict=True):
            ax.plot([place] * len(each), each, ".", color=figures.TRUE, ms=3)
    ax.axhline(0, color=figures.TRUE, lw=0.6)
    ax.set_xticks(range(len(some)), [name.replace(", ", "\n") for name in some])
    ax.set(ylabel="r of single weights'\ndeviations", ylim=(-0.1, 1.02))
    drawn.legend(ncols=4, loc="outside upper center")
    return drawn


def main():
    p = runs.options(__doc__, 5, CIRCUITS)
    p.add_argument("--rivals", type=int, default=1, help="to how many seeds the other estimators are put")
    p.add_argument("--lint-updates", type=int, default=400, help="of LINT, for each rank tried")
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    args = p.parse_args()
    sizes = ["--trials", args.trials, "--steps", args.steps]
    results = runs.read(FOLDER)
    if not args.draw:
        items = [(name, seed) for name in args.circuits for seed in range(args.seeds)]
        with tempfile.TemporaryDirectory() as folder:
            more = Path(folder), sizes, runs.updates(args), args.lint_updates, args.rivals
            each = runs.each(lambda item: measured(*item, *more), items)
        for name in args.circuits:
            new = runs.gathered(found for (of, _), found in zip(items, each, strict=True) if of == name)
            results[name] = results.get(name, {}) | new  # with --rivals 0 theirs are those of the last run
        results["made"] = results.get("made", {}) | {name: size(args, results[name]) for name in args.circuits}
        runs.write(FOLDER, {"made": results["made"]} | all_of(results))
    figures.style()
    with files.whole(FOLDER / "connections.png") as temporary:
        figure(results).savefig(temporary)
    tables = {f.__name__: f(results) for f in (made, deviations, scores, rivals)}
    runs.page(FOLDER, **tables)
    print("\n\n".join(tables.values()))


if __name__ == "__main__":
    main()
