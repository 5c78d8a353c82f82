"""When does it break? One factor at a time away from the defaults of cann.py and train.py.

Factors of the circuit, of its recording and of the fit; for each value and seed a recording and a separated fit to it.
A second set, SINGLE, asks for single connections: it departs from an uneven circuit (jitter 0.2) with known pulses,
since only there anything sets a pair apart, and counts false claims too. Writes results.json, limits.png, single.png,
tables.md and the page. Run it from the top folder, as `python -m experiments.limits`; with `--factors`, the other
factors' results of the last run are kept.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

import cann
from experiments import runs
from nsi import figures, files, recordings
from nsi.geometry import RING
from nsi.simulation import stimulation
from nsi.simulation.circuits import ring as circuit_of
from nsi.simulation.heterogeneity import vary_weights

FOLDER = runs.folder_of(__file__)
MEASURES = ("r_W_identifiable", "r_gate", "identifiable_fraction")
OF_SINGLE = ("r_dev", "r_dev_resolved", "resolved_fraction", "coverage", "coverage_gate", "false_claims")
COLOURS = dict(zip(MEASURES, (figures.FITTED, figures.SIMPLE, figures.TRUE), strict=True)) | {
    "r_dev": figures.FITTED, "resolved_fraction": figures.TRUE, "coverage": "#d9a05b", "coverage_gate": "#b58bb0",
    "false_claims": figures.SIMPLE,
}  # fmt: skip


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
SINGLE = {
    "jitter": Factor("relative s.d. of single weights", 0.2, (0.05, 0.1, 0.2, 0.4)),
    "sparse": Factor("share of the weights that is absent", 0, (0, 0.3, 0.6), "linear"),
    "measurement": Factor("noise on the rates, s.d.", 0, (0, 0.01, 0.03, 0.1), "linear"),
    "recorded": Factor("share of the uneven ring recorded", 1, (0.5, 0.75, 1), "linear"),
}
ALL = FACTORS | SINGLE
UNEVEN = {"jitter": 0.2, "sparse": 0, "measurement": 0, "amplitude": 4.0}  # what SINGLE departs from
SHOWN = "r_dev", "resolved_fraction", "coverage", "coverage_gate", "false_claims"  # in its figure
OF_THE_FIT = ("alpha", "input_units")  # the other factors are the recording's


def bump_width(strength):
    """Full width at half maximum of the bump at rest, degrees, for a cosine of the ring's weights."""
    circuit = circuit_of(FACTORS["ring"].default, cosine=strength)
    rates = cann.simulate(circuit, np.zeros((1, 1, 1)), np.zeros((1, 1)))[0, 0, : circuit.network.n]
    return 360 * np.mean(rates > rates.max() / 2)


class Settings(NamedTuple):
    """What is simulated and recorded."""

    trials: int
    steps: int
    noise: float  # s.d. of the input current per step
    observed: float  # share of the compass neurons in `rates`, chosen at random; the others are the first hidden ones
    ring: int  # compass neurons
    strength: float  # of the cosine of their W
    speed: float  # s.d. of the velocity, rad/s
    memory: float  # its correlation time, s
    jitter: float = 0.0  # this and sparse: as of vary_weights, balanced
    sparse: float = 0.0
    measurement: float = 0.0  # s.d. of noise on the rates, which are then cut off at 0
    amplitude: float = 0.0  # of pulses, which reach neurons that are not observed too, unrecorded


def simulated(path, seed, settings):
    """Simulate and write a recording with its ground truth; at the defaults, the one that cann.py writes."""
    changes, s = np.random.default_rng(1000 + seed), settings
    circuit = circuit_of(s.ring, s.ring // 2, cosine=s.strength)
    circuit = vary_weights(circuit, changes, s.jitter, sparse=s.sparse, balance=bool(s.jitter or s.sparse))
    motion = stimulation.Velocity(s.speed, s.memory)
    data = cann.simulate_recording(circuit, seed, s.trials, s.steps, s.noise, s.amplitude, motion)
    rng, size = np.random.default_rng(seed + 1), len(circuit.network.b)
    keep = np.sort(rng.permutation(s.ring)[: round(s.observed * s.ring)])
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
    if s.measurement:
        noisy = data["rates"] + s.measurement * rng.standard_normal(data["rates"].shape)
        data["rates"] = noisy.clip(0).astype(np.float32)
    if s.amplitude:
        data["stimulus"] = data["stimulus"][..., keep]
    del data["true_orders"]  # of all compass neurons, not of those observed
    recordings.save(path, **data)


def measured(settings, seed, folder, steps, options=()):
    """Simulate with settings {factor: value} and fit. Returns: {measure: value}, None where there is none."""
    data = folder / "recording.npz"
    of_recording = {name: value for name, value in settings.items() if name not in OF_THE_FIT}
    simulated(data, seed, Settings(steps=steps, **of_recording))
    flags = ["--alpha", settings["alpha"], "--input-units", settings["input_units"], "--seed", seed, *options]
    try:
        metrics = runs.fit(data, folder, *flags)
    except RuntimeError as error:
        if "diverged" not in str(error):
            raise
        print(error)
        metrics = {}
    if metrics:
        metrics["false_claims"] = false_claims(data, folder)
    data.unlink()
    return {measure: finite(metrics.get(measure)) for measure in (*MEASURES, *OF_SINGLE)}


def false_claims(data, folder):
    """Share of the resolved pairs whose weight is claimed to lie on the wrong side of the mean at its distance.

    Claimed: the unbiased estimate lies more than 1.96 standard errors from its mean profile over identifiable pairs;
    wrong: the true weight lies on the other side of its own. data: the recording; folder: of the fit. Returns: the
    share, or None where no pair is resolved.
    """
    rec = recordings.load(data)
    n, places = rec.rates.shape[-1], RING.find(rec.rates[rec.valid])
    true = recordings.load_truth(data, rec)["W"][:n, :n].astype(float)
    with np.load(folder / "connectivity.npz", allow_pickle=False) as file:
        W, se, pairs, known = (file[key] for key in ("W_unbiased", "W_se", "resolved", "identifiable"))
    if not pairs.any():
        return None
    known = known & ~np.eye(n, dtype=bool)
    fitted, true = ((a - RING.mean_profile(a, places, known))[pairs] for a in (W, true))
    return float(np.mean((np.abs(fitted) > 1.96 * se[pairs]) & (fitted * true < 0)))


def finite(value):
    """The value, or None (JSON has no NaN) where it is missing or not finite."""
    return value if value is not None and np.isfinite(value) else None


def known(values):
    """The values of the seeds that have one."""
    return [value for value in values if value is not None]


def curve(ax, x, rows, measure, **style):
    """One measure against x: seeds as faint dots, their mean as a line, with a gap where no seed has a value.

    x: (values,); rows: one {measure: values over seeds} for each x; style: of the line.
    """
    means = [np.mean(known(row[measure])) if known(row[measure]) else np.nan for row in rows]
    (line,) = ax.plot(x, means, "o", ms=3.5, lw=1.3, **style)
    for place, row in zip(x, rows, strict=True):
        values = known(row[measure])
        ax.plot([place] * len(values), values, "o", ms=4.5, mew=0, alpha=0.3, color=line.get_color())


def figure(results, factors=FACTORS, measures=MEASURES, columns=3):
    """A panel per factor. results: {factor: {value: {measure: values over seeds}}}; factors, measures: those drawn."""
    results = {name: rows for name, rows in results.items() if name in factors}
    columns = min(columns, len(results))
    drawn, axes = plt.subplots(
        -(-len(results) // columns), columns, figsize=(3.5 * columns, 0.5 + 2.3 * -(-len(results) // columns)),
        sharey=True, squeeze=False,
    )  # fmt: skip
    for ax in axes.flat[len(results) :]:
        ax.set_axis_off()
    for ax, (name, rows) in zip(axes.flat, results.items(), strict=False):
        values = [float(value) for value in rows]
        if "coverage" in measures:
            ax.axhspan(0.92, 0.98, color="#e6e6e6", lw=0, zorder=0, label="aim of coverage")
        for k, measure in enumerate(measures):
            style = {"ls": ("-", "--", "-.", ":")[k % 4], "zorder": 3 + k}
            curve(ax, values, rows.values(), measure, color=COLOURS[measure], label=measure, **style)
        ax.axvline(factors[name].default, color="grey", ls=":", lw=1, zorder=0, label="default")
        ax.set(xlabel=factors[name].label, xscale=factors[name].scale)
        ax.set_xticks(values, [f"{v:g}\n({bump_width(v):.0f}°)" if name == "strength" else f"{v:g}" for v in values])
        ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("correlation, or share")
    axes[0, 0].set_ylim(min(0, axes[0, 0].get_ylim()[0]), 1.04)
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return drawn


def made(results):
    """What runs the results are of, as a sentence."""
    return runs.made(results)


def cells(results, factors, measures):
    """Rows of a table, means and s.d. over seeds, the default in bold. results: as for `figure`."""
    rows = []
    for name in (name for name in factors if name in results):
        for value, row in results[name].items():
            shown = f"**{value}**" if float(value) == factors[name].default else value
            label = factors[name].label.replace("\n", " ")
            rows.append([label, shown, *(runs.spread(known(row[m])) if known(row[m]) else "–" for m in measures)])
    return rows


def table(results):
    """The lowest value of each measure by factor, as Markdown. results: as for `figure`."""
    rows = []
    for name in (name for name in ALL if name in results):
        measures = MEASURES if name in FACTORS else ("r_dev", "coverage_gate", "resolved_fraction")
        span = list(results[name])
        lowest = []
        for measure in measures:
            means = {v: np.mean(known(row[measure])) for v, row in results[name].items() if known(row[measure])}
            worst = min(means, key=means.get, default=None)
            lowest.append("–" if worst is None else f"{means[worst]:.3f} (at {worst})")
        label = ALL[name].label.replace("\n", " ")
        rows.append([label, f"{span[0]} to {span[-1]}", *lowest])
    return runs.markdown(
        ["factor", "values", "lowest r", "lowest r of the gate, or its coverage", "share determined"], rows
    )


def tables(results):
    """All values, as the text of tables.md. results: as for `figure`."""
    head = lambda measures: ["factor", "value", *(f"`{m}`" for m in measures)]  # noqa: E731
    first = runs.markdown(head(MEASURES), cells(results, FACTORS, MEASURES))
    parts = {"The ring": ("One factor at a time; the default in bold.", first)}
    for title, measures in (("found", OF_SINGLE[:3]), ("claimed", OF_SINGLE[3:])):
        caption = (
            "A ring whose connections differ (jitter 0.2), with pulses. `r_dev`: of deviations, identifiable pairs; "
            "`r_dev_resolved`: resolved pairs; `false_claims`: share of the resolved pairs whose interval lies on the "
            "wrong side of the mean at their distance."
        )
        found = runs.markdown(head(measures), cells(results, SINGLE, measures))
        parts[f"Single connections: what is {title}"] = caption, found
    return runs.sections("limits", parts)


def measure(args):
    """Simulate and fit every value of the chosen factors, the defaults once. Returns: as `figure` takes them."""
    even = {name: factor.default for name, factor in FACTORS.items()} | {"trials": args.trials}
    points = {}  # {name of a point: its settings}

    def point(name, value):
        base, key = (even, name) if name in FACTORS else (even | UNEVEN, "observed" if name == "recorded" else name)
        whose = "default" if name in FACTORS else "uneven"
        label = whose if value == base[key] else f"{name} {value:g}"
        points[label] = base | {key: value}
        return label

    labels = {name: {value: point(name, value) for value in ALL[name].values} for name in args.factors}
    seeds = range(args.seeds)
    options = ["--updates", args.updates] if args.updates else []
    with tempfile.TemporaryDirectory() as top:

        def one(item):
            label, seed = item
            folder = Path(top) / f"{label} {seed}"
            folder.mkdir()
            return measured(points[label], seed, folder, args.steps, options)

        items = [(label, seed) for label in points for seed in seeds]
        found = dict(zip(items, runs.each(one, items), strict=True))
    return {
        name: {
            f"{value:g}": {m: [found[label, seed][m] for seed in seeds] for m in measures_of(name)}
            for value, label in values.items()
        }
        for name, values in labels.items()
    }


def measures_of(name):
    """The measures of a factor."""
    return MEASURES if name in FACTORS else OF_SINGLE


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=1, help="how many")
    p.add_argument("--factors", nargs="+", choices=ALL, default=list(ALL), help="which (default: all)")
    p.add_argument("--trials", type=int, default=FACTORS["trials"].default, help="where they are not the factor")
    p.add_argument("--steps", type=int, default=1000, help="of each trial")
    p.add_argument("--updates", type=int, help="of each fit (default: train.py's)")
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    args = p.parse_args()
    results = runs.read(FOLDER)
    if not args.draw:
        results |= measure(args)
        results["made"] = results.get("made", {}) | dict.fromkeys(args.factors, runs.size(args))
        runs.write(FOLDER, {name: results[name] for name in ("made", *ALL) if name in results})
    figures.set_style()
    with files.whole(FOLDER / "limits.png") as temporary:
        figure(results).savefig(temporary)
    with files.whole(FOLDER / "single.png") as temporary:
        figure(results, SINGLE, SHOWN, 2).savefig(temporary)
    runs.publish(FOLDER, results, table, made, tables=tables)


if __name__ == "__main__":
    main()
