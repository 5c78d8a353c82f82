"""How many known current pulses, and how strong, until the connections are determined: for planning an experiment.

Passive activity never shows neurons of opposite sides of the ring together; pulses into random compass neurons do.
Simulates recordings with pulses of several amplitudes, and of several numbers of trials, and fits each. Writes
results.json, perturbation.png and the page's table. Run it from the top folder, as
`python -m experiments.perturbation`.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from experiments.limits.__main__ import curve, finite, known
from nsi import figures, recordings
from nsi.run import files

FOLDER = runs.folder_of(__file__)
AMPLITUDES = (0, 0.25, 0.5, 1, 2, 4)  # largest current of a pulse; cann.py draws each from 0..amplitude
TRIALS = (5, 10, 30)  # at the largest amplitude, besides --trials
MEASURES = ("r_W", "r_W_near", "frobenius_W", "r_gate", "r_gate_effective", "heading_error_5s")


def pulses_delivered(stimulus):
    """How many (neuron, onset) pairs a stimulus (trials, steps, N) has, pulses being apart in time."""
    on = np.pad(stimulus != 0, ((0, 0), (1, 0), (0, 0)))
    return int((on[:, 1:] & ~on[:, :-1]).sum())


def measured(amplitude, trials, seed, folder, steps, options=()):
    """Simulate and fit. Returns: {measure: value}, None where there is none, with the number of `pulses`."""
    data = folder / "recording.npz"
    sizes = ["--trials", trials, "--steps", steps]
    runs.simulate(data, "--seed", seed, "--stimulus", amplitude, *sizes)
    stimulus = recordings.load(data).stimulus
    metrics = runs.fit(data, folder, "--no-errors", "--seed", seed, *options)
    data.unlink()
    pulses = 0 if stimulus is None else pulses_delivered(stimulus)
    return {measure: finite(metrics.get(measure)) for measure in MEASURES} | {"pulses": pulses}


def figure(results):
    """W and gate against the pulses' amplitude, W against their number.

    results: {"amplitude" or "trials": {value: {measure or "pulses": values over seeds}}}.
    """
    drawn, axes = plt.subplots(1, 4, figsize=(13, 2.9))
    for ax in axes[2:]:
        ax.sharey(axes[0])
    rows = results["amplitude"]
    amplitudes = [float(value) for value in rows]
    panels = {
        "r_W": ("(a) W, all pairs", "correlation r_W", figures.FITTED),
        "frobenius_W": ("(b) error of W", "‖fitted − true‖ / ‖true‖", figures.FITTED),
        "r_gate": ("(c) gate", "correlation r_gate", figures.SIMPLE),
    }
    for ax, (measure, (title, label, colour)) in zip(axes, panels.items(), strict=False):
        curve(ax, amplitudes, rows.values(), measure, color=colour)
        ax.set_xscale("symlog", base=2, linthresh=min(a for a in amplitudes if a))
        ax.set_xticks(amplitudes, list(rows))
        ax.minorticks_off()
        ax.set(title=title, xlabel="largest current of a pulse (dimensionless)", ylabel=label)
    axes[1].set_ylim(0, 1.05 * axes[1].get_ylim()[1])
    rows, ax = results["trials"], axes[3]
    counts = [np.mean(row["pulses"]) for row in rows.values()]
    curve(ax, counts, rows.values(), "r_W", color=figures.FITTED)
    ax.set_xscale("log")
    ax.set_xticks(counts, [f"{count / 1000:.3g}\n({trials})" for count, trials in zip(counts, rows, strict=True)])
    ax.minorticks_off()
    xlabel = "pulses, neurons × onsets, in thousands\n(trials)"
    ax.set(title=f"(d) W, pulses of up to {max(amplitudes):g}", xlabel=xlabel, ylabel="correlation r_W")
    return drawn


def table(results):
    """The results as Markdown, means and s.d. over seeds. results: as for `figure`."""
    points = [(f"{factor} {value}", row) for factor, rows in results.items() for value, row in rows.items()]
    columns = {"pulses": [f"{np.mean(row['pulses']):.0f}" for _, row in points]}
    for m in MEASURES:
        columns[f"`{m}`"] = [runs.spread(known(row[m])) if known(row[m]) else "–" for _, row in points]
    return runs.turned([name for name, _ in points], columns)


def measure(args):
    """Simulate and fit all amplitudes and numbers of trials. Returns: as `figure` takes them."""
    trials = [*(n for n in TRIALS if n < args.trials), args.trials]
    points = {
        "amplitude": {a: (a, args.trials) for a in args.amplitudes},
        "trials": {n: (max(args.amplitudes), n) for n in trials},
    }
    options = ["--updates", args.updates] if args.updates else []
    with tempfile.TemporaryDirectory() as top:

        def one(item):
            folder = Path(top) / "-".join(map(str, item))
            folder.mkdir()
            return measured(*item, folder, args.steps, options)

        settings = dict.fromkeys(point for factor in points.values() for point in factor.values())
        items = [(*point, seed) for point in settings for seed in range(args.seeds)]
        found = dict(zip(items, runs.each(one, items), strict=True))
    return {
        factor: {
            f"{value:g}": {m: [found[*point, seed][m] for seed in range(args.seeds)] for m in (*MEASURES, "pulses")}
            for value, point in of_factor.items()
        }
        for factor, of_factor in points.items()
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=1, help="how many")
    p.add_argument("--amplitudes", type=float, nargs="+", default=AMPLITUDES, help="of the pulses")
    p.add_argument("--trials", type=int, default=100, help="of each recording, at most")
    p.add_argument("--steps", type=int, default=1000, help="of each trial")
    p.add_argument("--updates", type=int, help="of each fit (default: train.py's)")
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    args = p.parse_args()
    if not args.draw:
        runs.write(FOLDER, measure(args))
    results = runs.read(FOLDER)
    figures.style()
    with files.whole(FOLDER / "perturbation.png") as temporary:
        figure(results).savefig(temporary)
    runs.page(FOLDER, perturbation=table(results))
    print(table(results))


if __name__ == "__main__":
    main()
