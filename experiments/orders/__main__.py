"""Orders of effective connectivity: are they estimated, and distinguished from those that are not there?

Circuits whose effective connectivity J(v) = W + v G1 + v^2 G2 + ... has orders beyond the first, a recording for each
seed, and nsi.estimation.estimate with orders. For real flies see flies.py. Writes results.json, orders.png and the
page's tables. Run it from the top folder, as `python -m experiments.orders`; with `--circuits`, the other circuits'
results of the last run are kept.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import cann
from experiments import runs
from experiments.benchmark.tasks import loaded
from experiments.orders import flies
from experiments.orders.figures import draw_orders
from experiments.orders.figures import fly as draw_flies
from nsi import geometry
from nsi.estimation import estimate
from nsi.estimation.estimator import find_places
from nsi.estimation.orders import profiles, sizes
from nsi.evaluation.metrics import valid_json
from nsi.evaluation.scores import order_scores
from nsi.simulation import circuits

FOLDER = runs.folder_of(__file__)
CIRCUITS = "ring", "even", "saturating", "quadratic", "product"
FIRST_SEED = 100  # below it the estimate was developed
FLIES = """![Flies: rise with speed, prediction of the bump's size](flies.png)

*What to see: the bump rises with the fly's own speed, and with no other (a, a dot for each fly). With v² its size is
predicted better on flies left out (b).* The rows are of an earlier run with `data/fly.npz`."""


def measured(name, seed, sizes_of):
    """Simulate one circuit and estimate its orders. sizes_of: trials, steps. Returns: {measure: value}, with profiles
    for the figure."""
    rec, truth = loaded(cann.simulate_recording(circuits.CIRCUITS[name](), seed, *sizes_of))
    began, shape = time.perf_counter(), geometry.of(rec)
    estimated = estimate(rec, geometry=shape, orders=True)
    seconds, arrays, places = time.perf_counter() - began, estimated.arrays(), find_places(rec, shape)
    size, shown = sizes(arrays, shape, places)
    rms = lambda a: np.sqrt(np.mean(a**2, (1, 2)))
    with np.errstate(divide="ignore"):
        width = 1.96 * rms(arrays["orders_se"]) / rms(truth["orders"])
    result = {
        "seconds": seconds, "description": estimated.verdicts["description"], "powers": arrays["orders_powers"],
        "scale": arrays["orders_scale"], "size": size, "shown": shown, "width": width,
    } | order_scores(arrays, truth)  # fmt: skip
    best, centre, se = profiles(arrays, shape, places)
    every = np.ones(best.shape[1:], bool)
    true = np.stack([shape.mean_profile(G.astype(np.float64), places, every) for G in truth["orders"]])
    order = np.argsort(places[:, 0])
    profile = lambda orders: np.round([shape.profile(G[np.ix_(order, order)])[1] for G in orders], 7)
    result["profiles"] = {
        k: profile(v) for k, v in zip(("profile", "centre", "se", "true"), (best, centre, se, true), strict=True)
    }
    return valid_json(result)  # an interval may be infinite


def called(powers, names=("v", "g")):
    """An order's name, as in `v g`. powers: (D,) int."""
    parts = [f"{name}{'²³'[p - 2] if p > 1 else ''}" for name, p in zip(names, powers, strict=False) if p]
    return " ".join(parts) or "order 0"


def there(rows):
    """The orders that a circuit has. rows: its results, one per seed. Returns: list of int."""
    return [k for k, slope in enumerate(rows[0]["orders_slope"]) if slope is not None]


def share(rows, orders_of):
    """How many of some orders are shown, in words. rows: a circuit's results; orders_of: list of int."""
    return f"{sum(row['shown'][k] for row in rows for k in orders_of)} of {len(orders_of) * len(rows)}"


def present(results):
    """How the orders that are there are estimated, as Markdown. results: {circuit: [measured's, one per seed]}."""
    lines = []
    for name, rows in simulated(results):
        for k in there(rows):
            cells = [runs.spread([row[m][k] for row in rows]) for m in ("r_orders", "orders_slope", "orders_coverage")]
            lines.append([f"{name}, {called(rows[0]['powers'][k])}", *cells, share(rows, [k])])
    return runs.markdown(["circuit, order", "r", "slope", "coverage", "shown"], lines)


def absent(results):
    """The orders that are not there, the description and the seconds, as Markdown. results: as for `present`."""
    lines = []
    for name, rows in simulated(results):
        gone = [k for k in range(len(rows[0]["size"])) if k not in there(rows)]
        largest = max(row["size"][k] for row in rows for k in gone)
        said = sorted({row["description"] for row in rows})
        seconds = runs.spread([row["seconds"] for row in rows], 0)
        lines.append([name, f"{100 * largest:.1f} %", share(rows, gone), " or ".join(said), seconds])
    return runs.markdown(["circuit", "largest absent order", "shown", "description", "seconds"], lines)


def widths(results):
    """How far intervals of single pairs reach to either side, relative to the r.m.s. of the true order."""
    lines = [
        [f"{name}, {called(rows[0]['powers'][k])}", runs.spread([row["width"][k] for row in rows], 2)]
        for name, rows in simulated(results)
        for k in there(rows)
    ]
    return runs.markdown(["circuit, order", "± of the interval"], lines)


made = runs.made


def tables(results):
    """All further tables: tables.md. results: as for `present`."""
    parts = ["# Orders: further tables", "Orders that are not there, the largest relative to order 0:", absent(results),
             "How far 95 % intervals of single pairs reach to either side, relative to the r.m.s. of the true order:",
             widths(results)]  # fmt: skip
    if "flies" in results:
        parts += ["## Real flies", FLIES, "95 % intervals over flies:", flies.table(results)]
    return "\n\n".join(parts) + "\n"


def simulated(results):
    """The circuits among the results, in order. Yields: name, rows."""
    return [(name, results[name]) for name in CIRCUITS if name in results]


def figure(results):
    """A row per circuit, of the first seed: J's profile at several inputs, then the profile of each order."""
    rows = [(name, each[0]) for name, each in simulated(results)]
    size = 13, 1.9 * len(rows) + 0.4
    drawn, axes = plt.subplots(len(rows), 5, figsize=size, squeeze=False, sharex=True, layout="constrained")
    for line, (name, row) in zip(axes, rows, strict=True):
        powers = np.array(row["powers"])
        chosen = [0, 1, 2, 3] if powers.shape[1] == 1 else [0, 1, 3, 4]
        profiles_of = {k: np.array(v, float) for k, v in row["profiles"].items()}
        names = [called(p).removeprefix("order ") for p in powers]
        draw_orders(line, profiles_of, powers, np.array(row["scale"]), chosen, names)
        line[0].set_ylabel(f"{name}\nweight")
    for ax in axes[-1]:
        ax.set_xlabel("to minus from (deg)")
    axes[0, 0].legend(fontsize=5.5, loc="lower center", handlelength=1, labelspacing=0.2)
    axes[0, 1].legend(fontsize=6)
    return drawn


def main():
    p = runs.options(__doc__, 5, CIRCUITS)
    p.add_argument("--flies", type=Path, default="data/fly.npz", help="left out where there is no such file")
    args = p.parse_args()
    items = [(name, FIRST_SEED + seed) for name in args.circuits for seed in range(args.seeds)]
    each = runs.each(lambda item: measured(*item, (args.trials, args.steps)), items, 1)
    results = runs.read(FOLDER)
    for name in args.circuits:
        results[name] = [row for row, (of, _) in zip(each, items, strict=True) if of == name]
        for row in results[name][1:]:  # the figure is of the first
            del row["profiles"]
        results.setdefault("made", {})[name] = runs.size(args)
    if args.flies.exists():
        results["flies"] = flies.measured(args.flies)
    runs.write(FOLDER, results)
    pictures = {"orders": figure}
    if "flies" in results:
        pictures["flies"] = lambda results: draw_flies(results["flies"])
    runs.publish(FOLDER, results, made, present, tables=tables, **pictures)


if __name__ == "__main__":
    main()
