"""When does it break? One factor at a time away from the defaults of cann.py and train.py.

Factors of the circuit, of its recording and of the fit; for each value and seed a recording and a separated fit to it.
Writes results.json, limits.png and the page's table. Run it from the top folder, as
`python -m experiments.limits`; with `--factors`, the other factors' results of the last run are kept.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

import cann
from experiments import runs
from nsi import figures, recordings, stimulation
from nsi.circuits import ring as circuit_of
from nsi.run import files

FOLDER = runs.folder_of(__file__)
MEASURES = ("r_W_identifiable", "r_gate", "identifiable_fraction")
COLOURS = dict(zip(MEASURES, (figures.FITTED, figures.SIMPLE, figures.TRUE), strict=True))


class Factor(NamedTuple):
    label: str
    default: float
    values: tuple
    scale: str = "log"


FACTORS = {
    "noise": Factor("noise, s.d. of the input current", 0.02, (0.005, 0.02, 0.05, 0.1, 0.2)),
    "trials": Factor("trials", 100, (10, 30, 100)),
    "observed": Factor("share of compass neurons observed", 1, (0.25, 0.5, 1), "linear"),
    "alpha": Factor("alpha of the fit (the circuit's: 0.2)", 0.2, (0.05, 0.1, 0.2, 0.4, 0.8)),
    "input_units": Factor("input units", 100, (4, 10, 30, 100, 300)),
    "ring": Factor("compass neurons, and as many shifters", 100, (32, 64, 100, 200)),
    "strength": Factor("cosine of the ring's weights\n(bump's width)", 0.12, (0.1, 0.12, 0.15), "linear"),
    "speed": Factor("velocity, s.d. (rad/s)", stimulation.VELOCITY_SD, (0.5, 1, 2, 4)),
    "memory": Factor("velocity, correlation time (s)", stimulation.VELOCITY_TAU, (0.03, 0.112, 0.5)),
}
OF_THE_FIT = ("alpha", "input_units")  # the other factors are the recording's


def bump_width(strength):
    """Full width at half maximum of the bump at rest, degrees, for a cosine of the ring's weights."""
    circuit = circuit_of(FACTORS["ring"].default, cosine=strength)
    rates = cann.simulate(circuit, np.zeros((1, 1, 1)), np.zeros((1, 1)))[0, 0, : circuit.network.n]
    return 360 * np.mean(rates > rates.max() / 2)


def simulated(path, seed, *, trials, steps, noise, observed, ring, strength, speed, memory):
    """Simulate and write a recording with its ground truth; at the defaults, the one that cann.py writes.

    noise: s.d. of the input current per step; observed: share of the compass neurons that are in `rates`, chosen at
    random, the others being the first of the hidden ones; ring: compass neurons; strength: of the cosine of their W;
    speed: s.d. of the velocity, rad/s; memory: its correlation time, s.
    """
    circuit = circuit_of(ring, ring // 2, cosine=strength)
    data = cann.simulate_recording(circuit, seed, trials, steps, noise, sd=speed, tau=memory)
    rng, size = np.random.default_rng(seed + 1), len(circuit.network.b)
    keep = np.sort(rng.permutation(ring)[: round(observed * ring)])
    order, n = np.concatenate([keep, np.setdiff1d(np.arange(size), keep)]), len(keep)
    rates = np.concatenate([data["rates"], data["hidden_rates"]], -1)[..., order]
    data |= {
        "rates": rates[..., :n],
        "hidden_rates": rates[..., n:],
        "true_W": data["true_W"][np.ix_(order, order)],
        "true_W_in": data["true_W_in"][:, order],
        "true_b": data["true_b"][order],
        "true_gate": data["true_gate"][:, keep][:, :, keep],
    }
    del data["true_orders"]  # of all compass neurons, not of those observed
    recordings.save(path, **data)


def measured(settings, seed, folder, steps, options=()):
    """Simulate with settings {factor: value} and fit. Returns: {measure: value}, None where there is none."""
    data = folder / "recording.npz"
    of_recording = {name: value for name, value in settings.items() if name not in OF_THE_FIT}
    simulated(data, seed, steps=steps, **of_recording)
    flags = ["--alpha", settings["alpha"], "--input-units", settings["input_units"], "--seed", seed, *options]
    try:
        metrics = runs.fit(data, folder, *flags)
    except RuntimeError as error:
        if "diverged" not in str(error):
            raise
        print(error)
        metrics = {}
    data.unlink()
    return {measure: finite(metrics.get(measure)) for measure in MEASURES}


def finite(value):
    """The value, or None (JSON has no NaN) where it is missing or not finite."""
    return value if value is not None and np.isfinite(value) else None


def known(values):
    """The values of the seeds that have one."""
    return [value for value in values if value is not None]


def curve(ax, x, rows, measure, **look):
    """One measure against x: seeds as faint dots, their mean as a line, with a gap where no seed has a value.

    x: (values,); rows: one {measure: values over seeds} for each x; look: of the line.
    """
    means = [np.mean(known(row[measure])) if known(row[measure]) else np.nan for row in rows]
    (line,) = ax.plot(x, means, "o-", ms=3.5, lw=1.3, **look)
    for place, row in zip(x, rows, strict=True):
        values = known(row[measure])
        ax.plot([place] * len(values), values, "o", ms=4.5, mew=0, alpha=0.3, color=line.get_color())


def figure(results):
    """A panel per factor. results: {factor: {value: {measure: values over seeds}}}."""
    columns = min(3, len(results))
    drawn, axes = plt.subplots(
        -(-len(results) // columns), columns, figsize=(3.5 * columns, 0.5 + 2.3 * -(-len(results) // columns)),
        sharey=True, squeeze=False,
    )  # fmt: skip
    for ax in axes.flat[len(results) :]:
        ax.set_axis_off()
    for ax, (name, rows) in zip(axes.flat, results.items(), strict=False):
        values = [float(value) for value in rows]
        for measure in MEASURES:
            curve(ax, values, rows.values(), measure, color=COLOURS[measure], label=measure)
        ax.axvline(FACTORS[name].default, color="grey", ls=":", lw=1, zorder=0, label="default")
        ax.set(xlabel=FACTORS[name].label, xscale=FACTORS[name].scale)
        ax.set_xticks(values, [f"{v:g}\n({bump_width(v):.0f}°)" if name == "strength" else f"{v:g}" for v in values])
        ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("correlation, or share")
    axes[0, 0].set_ylim(min(0, axes[0, 0].get_ylim()[0]), 1.04)
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(MEASURES) + 1)
    return drawn


def table(results):
    """The results as Markdown, means and s.d. over seeds, the default in bold. results: as for `figure`."""
    rows = []
    for name, values in results.items():
        for value, row in values.items():
            shown = f"**{value}**" if float(value) == FACTORS[name].default else value
            label = FACTORS[name].label.replace("\n", " ")
            rows.append([label, shown, *(runs.spread(known(row[m])) if known(row[m]) else "–" for m in MEASURES)])
    return runs.markdown(["factor", "value", *(f"`{m}`" for m in MEASURES)], rows)


def measure(args):
    """Simulate and fit every value of the chosen factors, the default once. Returns: as `figure` takes them."""
    defaults = {name: factor.default for name, factor in FACTORS.items()} | {"trials": args.trials}
    label = lambda name, value: "default" if value == defaults[name] else f"{name} {value:g}"  # noqa: E731
    points = {label(name, value): defaults | {name: value} for name in args.factors for value in FACTORS[name].values}
    seeds = range(args.seeds)
    options = ["--updates", args.updates] if args.updates else []
    with tempfile.TemporaryDirectory() as top:

        def one(item):
            point, seed = item
            folder = Path(top) / f"{point} {seed}"
            folder.mkdir()
            return measured(points[point], seed, folder, args.steps, options)

        items = [(point, seed) for point in points for seed in seeds]
        found = dict(zip(items, runs.each(one, items), strict=True))
    return {
        name: {
            f"{value:g}": {m: [found[label(name, value), seed][m] for seed in seeds] for m in MEASURES}
            for value in FACTORS[name].values
        }
        for name in args.factors
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=2, help="how many")
    p.add_argument("--factors", nargs="+", choices=FACTORS, default=list(FACTORS), help="which (default: all)")
    p.add_argument("--trials", type=int, default=FACTORS["trials"].default, help="where they are not the factor")
    p.add_argument("--steps", type=int, default=1000, help="of each trial")
    p.add_argument("--updates", type=int, help="of each fit (default: train.py's)")
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    args = p.parse_args()
    results = runs.read(FOLDER)
    if not args.draw:
        results |= measure(args)
        results = {name: results[name] for name in FACTORS if name in results}
        runs.write(FOLDER, results)
    figures.style()
    with files.whole(FOLDER / "limits.png") as temporary:
        figure(results).savefig(temporary)
    runs.page(FOLDER, limits=table(results))
    print(table(results))


if __name__ == "__main__":
    main()
