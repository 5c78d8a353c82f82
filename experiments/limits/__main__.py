"""When does the estimate break? One factor at a time away from the defaults of cann.py.

Factors of the circuit, of its recording, and alpha; for each value and seed a recording and an estimate. The last four
factors depart from a circuit whose connections differ (jitter 0.2), with known pulses, since only there anything sets a
pair apart. Writes results.json, limits.png, tables.md and the page. Run it from the top folder, as
`python -m experiments.limits`; with `--factors`, the other factors' results of the last run are kept.
"""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

import nsi
from experiments import runs
from experiments.benchmark.tasks import loaded
from nsi import figures, recordings
from nsi.evaluation import metrics
from nsi.figures.style import set_log_axis
from nsi.simulation import simulate_recording, stimulation
from nsi.simulation.circuits import ring as circuit_of
from nsi.simulation.heterogeneity import vary_weights

FOLDER = runs.folder_of(__file__)
FIRST_SEED = 100
MEASURES = "r_W_near", "r_dev", "r_gate_effective", "coverage", "coverage_gate", "identifiable_fraction"
LINES = {  # of the figure: colour, style
    "r": (figures.FITTED, "-"), "r_gate_effective": (figures.SIMPLE, "--"), "coverage": ("#d9a05b", "-."),
}  # fmt: skip


class Settings(NamedTuple):
    """What is simulated and recorded."""

    trials: int = 40
    steps: int = 1000
    noise: float = 0.02  # s.d. of the input current per step
    observed: float = 1.0  # share of the compass neurons in `rates`, chosen at random; the others are hidden ones
    alpha: float = 0.2  # that is given to the estimate; the circuit's is 0.2
    ring: int = 100  # compass neurons
    speed: float = stimulation.VELOCITY_SD  # s.d. of the velocity, rad/s
    jitter: float = 0.0  # this and sparse: as of vary_weights, balanced
    sparse: float = 0.0
    measurement: float = 0.0  # s.d. of noise on the rates
    amplitude: float = 0.0  # of pulses, which reach neurons that are not observed too, unrecorded


class Factor(NamedTuple):
    label: str
    values: tuple  # the default among them
    scale: str = "log"
    uneven: bool = False  # whether it departs from UNEVEN


FACTORS = {
    "noise": Factor("noise, s.d. of the input current", (0.02, 0.1, 0.2)),
    "trials": Factor("trials", (10, 20, 40)),
    "observed": Factor("share of compass neurons observed", (0.25, 0.5, 1), "linear"),
    "alpha": Factor("alpha given to the estimate", (0.1, 0.2, 0.4)),
    "ring": Factor("compass neurons, and as many shifters", (32, 64, 100)),
    "speed": Factor("velocity, s.d. (rad/s)", (0.5, 2, 4)),
    "jitter": Factor("relative s.d. of single weights", (0.05, 0.2, 0.4), uneven=True),
    "sparse": Factor("share of the weights that is absent", (0, 0.5), "linear", True),
    "measurement": Factor("noise on the rates, s.d.", (0, 0.02, 0.1), "linear", True),
    "recorded": Factor("share of the uneven ring recorded", (0.5, 1), "linear", True),
}
KEYS = {"recorded": "observed"}  # factors that are not called as what they change
EVEN, UNEVEN = Settings(), Settings(jitter=0.2, amplitude=4.0)  # what factors depart from


def default_of(name):
    """The value of a factor that the others have."""
    return getattr(UNEVEN if FACTORS[name].uneven else EVEN, KEYS.get(name, name))


def settings_of(name, value, trials, steps):
    """What a value of a factor asks for. Returns: Settings."""
    base = (UNEVEN if FACTORS[name].uneven else EVEN)._replace(trials=trials, steps=steps)
    return base if value == default_of(name) else base._replace(**{KEYS.get(name, name): value})


def simulated(s, seed):
    """The arrays of a recording with its ground truth. s: Settings. Returns: dict."""
    circuit = circuit_of(s.ring, s.ring // 2)
    changes = np.random.default_rng(1000 + seed)
    circuit = vary_weights(circuit, changes, s.jitter, sparse=s.sparse, balance=bool(s.jitter or s.sparse))
    motion = stimulation.Velocity(s.speed)
    data = simulate_recording(circuit, seed, s.trials, s.steps, s.noise, s.amplitude, motion)
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
    data["rates"] += s.measurement * rng.standard_normal(data["rates"].shape, np.float32)
    if s.amplitude:
        data["stimulus"] = data["stimulus"][..., keep]
    return {k: v for k, v in data.items() if k not in ("true_orders", "heading")}  # nor is it said where neurons lie


def measured(settings, seed):
    """Simulate and estimate. settings: of Settings, as a tuple. Returns: {measure: value}, and the verdict on the
    description."""
    s = Settings(*settings)
    rec, truth = loaded(simulated(s, seed))
    e = nsi.estimate(recordings.split(rec)[0], alpha=s.alpha, calibrated=False)
    found = runs.score_estimate(e, rec, truth)
    return metrics.valid_json({m: found.get(m) for m in MEASURES}) | {"verdict": e.verdicts["description"]}


def measure(args):
    """Every value of the chosen factors. Returns: {factor: {value: {measure: values over seeds}}}."""
    settings = {(name, v): settings_of(name, v, args.trials, args.steps)
                for name in args.factors for v in FACTORS[name].values}  # fmt: skip
    jobs = [(s, FIRST_SEED + k) for s in dict.fromkeys(settings.values()) for k in range(args.seeds)]
    one = lambda job: runs.apart("experiments.limits.__main__", "measured", tuple(job[0]), job[1])
    found = dict(zip(jobs, runs.each(one, jobs, args.workers), strict=True))
    results = {}
    for (name, value), s in settings.items():
        rows = [found[s, FIRST_SEED + k] for k in range(args.seeds)]
        results.setdefault(name, {})[f"{value:g}"] = {m: [row[m] for row in rows] for m in rows[0]}
    return results


def mean(row, measure, name):
    """The mean over seeds, NaN where there is none. measure: of MEASURES, or "r" of single or of near weights."""
    chosen = {"r": "r_dev" if FACTORS[name].uneven else "r_W_near"}.get(measure, measure)
    known = [v for v in row[chosen] if v is not None]
    return np.mean(known) if known else np.nan


def figure(results):
    """A panel per factor."""
    names, columns = [name for name in FACTORS if name in results], 4
    rows = -(-len(names) // columns)
    drawn, axes = plt.subplots(rows, columns, figsize=(13, 0.5 + 2.3 * rows), sharey=True, squeeze=False)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, names, strict=False):
        values = [float(value) for value in results[name]]
        for measure, (colour, style) in LINES.items():
            y = [mean(row, measure, name) for row in results[name].values()]
            ax.plot(values, y, style, marker="o", ms=4, color=colour, label=measure)
        silent = [v for v, row in zip(values, results[name].values(), strict=True) if set(row["verdict"]) != {"fits"}]
        ax.plot(silent, np.full(len(silent), 0.03), "x", color=figures.TRUE, label="no interval is given")
        ax.axvline(default_of(name), color="grey", ls=":", lw=1, zorder=0, label="default")
        ax.axhline(0.95, color="grey", lw=0.5, zorder=0)
        set_log_axis(ax, values, xlabel=FACTORS[name].label, ylim=(0, 1.04), xscale=FACTORS[name].scale)
    for ax in axes[:, 0]:
        ax.set_ylabel("correlation, or share")
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return drawn


made = runs.made


def table(results):
    """The lowest value of each measure by factor, as Markdown."""
    rows = []
    for name in (name for name in FACTORS if name in results):
        lowest = []
        for measure in LINES:
            means = {v: mean(row, measure, name) for v, row in results[name].items()}
            known = {v: m for v, m in means.items() if np.isfinite(m)}
            worst = min(known, key=known.get, default=None)
            lowest.append("–" if worst is None else f"{known[worst]:.3f} (at {worst})")
        silent = [v for v, row in results[name].items() if set(row["verdict"]) != {"fits"}]
        rows.append([FACTORS[name].label, *lowest, ", ".join(silent) or "–"])
    return runs.markdown(
        ["factor", "lowest r", "lowest r of the gate", "lowest coverage, not calibrated", "no interval at"], rows
    )


def tables(results):
    """All values, as the text of tables.md."""
    parts = {}
    for title, uneven in (("The ring", False), ("Single connections", True)):
        some = [(name, value, row) for name in FACTORS if name in results and FACTORS[name].uneven == uneven
                for value, row in results[name].items()]  # fmt: skip
        names = [
            f"{FACTORS[name].label}: " + (f"**{v}**" if float(v) == default_of(name) else v) for name, v, _ in some
        ]
        shown = lambda m, name, row: "–" if np.isnan(x := mean(row, m, name)) else f"{x:.3f}"
        columns = {f"`{m}`": [shown(m, name, row) for name, _, row in some] for m in MEASURES}
        columns["description"] = [", ".join(dict.fromkeys(row["verdict"])) for _, _, row in some]
        caption = "One factor at a time; the default in bold."
        if uneven:
            caption = "A ring whose connections differ (jitter 0.2), with pulses. `r_dev`: of deviations from the mean."
        parts[title] = caption, runs.turned(names, columns)
    return runs.sections("limits", parts)


def main():
    p = runs.options(__doc__, 1, trials=EVEN.trials)
    p.add_argument("--factors", nargs="+", choices=FACTORS, default=list(FACTORS), help="which; others are kept")
    args = p.parse_args()
    results = runs.read(FOLDER) | measure(args)
    results["made"] = {k: v for k, v in results.get("made", {}).items() if k in FACTORS}
    results["made"] |= dict.fromkeys(args.factors, runs.size(args))
    results = {name: results[name] for name in ("made", *FACTORS) if name in results}
    runs.write(FOLDER, results)
    runs.publish(FOLDER, results, table, made, tables=tables, limits=figure)


if __name__ == "__main__":
    main()
