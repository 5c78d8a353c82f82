"""Single connections: circuits whose weights differ from pair to pair, scored on how they deviate from the ring.

On a symmetric ring the mere correlation matrix of the rates resembles W. Here each weight among compass neurons is
multiplied by 1 + s * randn, or half of them are absent, and all are then balanced so that the bump behaves as before
(nsi/uneven.py). The deviations, W minus its mean profile by distance, are what no smooth estimate can have. Compared on
the same recordings: train.py with its defaults; with rounds, in which the input units are trained and the response
weights solved for in turn (nsi/solve.py); least squares where neurons fire; and the correlation matrix of the rates.

Writes results.json, connections.png and the page's tables. Run it from the top folder, as
`python -m experiments.connections`.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from experiments.rivals.baselines import least_squares
from nsi import connectivity, figures, recordings
from nsi.geometry import RING
from nsi.run import files

FOLDER = runs.folder_of(__file__)
SPARSE = ["--jitter", 0.2, "--jitter-shifters", 0.2, "--sparse", 0.5, "--balance"]
CIRCUITS = {
    "even, passive": [],
    "even, pulses": ["--stimulus", 4],
    "jitter 0.2, passive": ["--jitter", 0.2, "--balance"],
    "jitter 0.2, pulses": ["--jitter", 0.2, "--balance", "--stimulus", 4],
    "jitter 0.2, pulses, 20 trials": ["--jitter", 0.2, "--balance", "--stimulus", 4, "--trials", 20],
    "sparse, passive": SPARSE,
    "sparse, pulses": [*SPARSE, "--stimulus", 4],
    "holding, passive": ["--circuit", "holding"],
    "gain, passive": ["--circuit", "gain"],
}
FITS = {"default": [], "rounds": ["--rounds", 3, "--updates", 400, "--batch", 25, "--lr", 1e-2]}
OTHERS = "least squares", "correlation of the rates"
DEVIATIONS = "r_dev", "dev_slope", "dev_error"
SCORES = (
    "r_W", "r_W_near", "frobenius_W", "r_gate_effective", "gate_error", "heading_error_5s", "coverage",
    "identifiable_fraction",
)  # fmt: skip


def measured(name, seed, folder, sizes, updates):
    """Simulate one circuit and put the estimators to it. Returns: {estimator: {measure: value or None}}."""
    data = folder / f"{name}-{seed}.npz"
    runs.script("cann.py", "--out", data, "--seed", seed, *sizes, *CIRCUITS[name])
    found = {}
    for fit, options in FITS.items():
        out = folder / f"{name}-{seed}-{fit}"
        metrics = runs.fit(data, out, "--seed", seed, *options, *updates)
        found[fit] = {m: metrics.get(m) for m in (*DEVIATIONS, *SCORES)}
    rec = recordings.load(data)
    W = recordings.load_truth(data, rec)["W"][: rec.rates.shape[-1], : rec.rates.shape[-1]]
    with np.load(out / "connectivity.npz", allow_pickle=False) as file:
        known = file["identifiable"]
    alpha, rates = rec.dt / rec.tau if rec.tau else 1.0, rec.rates[rec.valid]
    estimates = least_squares(rec, alpha, 20000)[0], np.corrcoef(rates, rowvar=False)
    for other, estimate in zip(OTHERS, estimates, strict=True):
        r, slope, error = connectivity.deviation(estimate, W, known, RING, RING.find(rates))
        values = (r, slope, error, connectivity.correlation(estimate, W))
        found[other] = {m: finite(v) for m, v in zip((*DEVIATIONS, "r_W"), values, strict=True)}
    data.unlink()
    return found


def finite(value):
    """The value, or None (JSON has no NaN) where it is not finite."""
    return float(value) if np.isfinite(value) else None


def cell(values):
    """Mean ± s.d. over seeds of those that there are."""
    known = [v for v in values if v is not None]
    return runs.spread(known) if known else "–"


def deviations(results):
    """How single connections are found, as Markdown. results: {circuit: {estimator: {measure: values}}}."""
    some = {name: row for name, row in results.items() if any(v is not None for v in row["rounds"]["r_dev"])}
    columns = {f"r_dev, {fit}": [cell(row[fit]["r_dev"]) for row in some.values()] for fit in (*FITS, *OTHERS)}
    for measure in DEVIATIONS[1:]:
        columns |= {f"{measure}, {fit}": [cell(row[fit][measure]) for row in some.values()] for fit in FITS}
    return runs.turned(list(some), columns)


def scores(results):
    """The measures of all fits, as Markdown. results: as for `deviations`."""
    rows = [(f"{name}: {fit}", row[fit]) for name, row in results.items() for fit in FITS]
    return runs.turned([name for name, _ in rows], {f"`{m}`": [cell(row[m]) for _, row in rows] for m in SCORES})


def figure(results):
    """r_dev of every estimator, circuit by circuit, seeds as dots."""
    some = {name: row for name, row in results.items() if any(v is not None for v in row["rounds"]["r_dev"])}
    drawn, ax = plt.subplots(figsize=(9, 3.4))
    colours = dict(zip((*FITS, *OTHERS), (figures.SIMPLE, figures.FITTED, "#d9a05b", "#9a9a9a"), strict=True))
    for k, (fit, colour) in enumerate(colours.items()):
        x = np.arange(len(some)) + (k - 1.5) * 0.2
        values = [[v for v in row[fit]["r_dev"] if v is not None] for row in some.values()]
        ax.bar(x, [np.mean(v) for v in values], 0.18, color=colour, label=fit)
        for place, each in zip(x, values, strict=True):
            ax.plot([place] * len(each), each, ".", color=figures.TRUE, ms=3)
    ax.axhline(0, color=figures.TRUE, lw=0.6)
    ax.set_xticks(range(len(some)), [name.replace(", ", "\n") for name in some])
    ax.set(ylabel="r of single weights'\ndeviations", ylim=(-0.1, 1.02))
    drawn.legend(ncols=4, loc="outside upper center")
    return drawn


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=2, help="how many")
    p.add_argument("--circuits", nargs="+", choices=CIRCUITS, default=list(CIRCUITS), help="which; others are kept")
    p.add_argument("--trials", type=int, default=100, help="of each recording")
    p.add_argument("--steps", type=int, default=1000, help="of each trial")
    p.add_argument("--updates", type=int, help="of each fit (default: its own)")
    args = p.parse_args()
    sizes, updates = ["--trials", args.trials, "--steps", args.steps], []
    if args.updates:
        updates = ["--updates", args.updates]
    items = [(name, seed) for name in args.circuits for seed in range(args.seeds)]
    with tempfile.TemporaryDirectory() as folder:
        each = runs.each(lambda item: measured(*item, Path(folder), sizes, updates), items)
    results = runs.read(FOLDER)
    for name in args.circuits:
        results[name] = {}
    for (name, _), found in zip(items, each, strict=True):
        for fit, row in found.items():
            for measure, value in row.items():
                results[name].setdefault(fit, {}).setdefault(measure, []).append(value)
    results = {name: results[name] for name in CIRCUITS if name in results}
    runs.write(FOLDER, results)
    figures.style()
    with files.whole(FOLDER / "connections.png") as temporary:
        figure(results).savefig(temporary)
    runs.page(FOLDER, deviations=deviations(results), scores=scores(results))
    print(deviations(results) + "\n\n" + scores(results))


if __name__ == "__main__":
    main()
