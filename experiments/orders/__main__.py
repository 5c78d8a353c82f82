"""Relations of higher order between input and response: are they found, sized, and told from those that are not there?

Circuits whose effective connectivity J(v) = W + v G1 + v^2 G2 + ... has orders beyond the first (nsi/simulation), a
recording and a fit for each seed, and what nsi/relations.py reads off. For real flies see flies.py beside this file.
Writes results.json, orders.png and the page's tables. Run it from the top folder, as `python -m experiments.orders`;
with `--circuits`, the other circuits' results of the last run are kept.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import cann
from experiments import runs
from experiments.orders import flies
from experiments.orders.figures import fly as draw_flies
from nsi import figures, files, orders, recordings
from nsi.geometry import RING
from nsi.measures import valid_json
from nsi.run import checkpoint
from nsi.simulation import circuits

FOLDER = runs.folder_of(__file__)
CIRCUITS = "ring", "even", "saturating", "quadratic", "product"
MEASURES = "r_orders", "orders_slope", "orders_coverage", "orders_size", "orders_shown"
WHOLE = "orders_description", "orders_residual", "orders_noise", "orders_powers"


def measured(name, seed, folder, sizes, updates):
    """Simulate one circuit and fit it. Returns: {measure: value}, with profiles for the figure."""
    data, out = folder / f"{name}-{seed}.npz", folder / f"{name}-{seed}"
    recordings.save(data, **cann.simulate_recording(circuits.CIRCUITS[name](), seed, *sizes))
    metrics = runs.fit(data, out, "--seed", seed, *updates)
    with np.load(out / "connectivity.npz") as file:
        found = collected(data, metrics, dict(file), checkpoint.networks(out / "model.pt")[0][0])
    data.unlink()
    return found


def collected(data, metrics, read, net):
    """What the page says of one fit. data: the recording's file; metrics, read: the fit's metrics.json and
    connectivity.npz; net: the network that runs. Returns: {measure: value}."""
    found, rec = {m: metrics[m] for m in (*MEASURES, *WHOLE)}, recordings.load(data)
    true = recordings.load_truth(data, rec)["orders"]
    everywhere = orders.expansion(net, orders.measure_of(rec.rates, rec.velocity, net.alpha))
    found["slope_everywhere"] = [
        float(np.sum(G * T) / np.sum(T * T)) if s is not None else None
        for G, T, s in zip(everywhere, true, found["orders_slope"], strict=True)
    ]
    found["scale"] = read["orders_scale"].tolist()
    kept = {"profile": read["orders_profile"], "se": read["orders_profile_se"], "true": true}
    profiles = {k: np.array([RING.profile(G)[1] for G in v]) for k, v in kept.items()}
    rms = {k: np.sqrt(np.mean(v**2, 1)) for k, v in profiles.items()}
    found["width"] = [
        float(1.96 * se / size) if s is not None else None
        for se, size, s in zip(rms["se"], rms["true"], found["orders_slope"], strict=True)
    ]
    found["profiles"] = {k: np.round(v, 7) for k, v in profiles.items()}
    return valid_json(found)  # an interval may be infinite


def called(powers, names=("v", "g")):
    """An order's name, as in `v g`. powers: (D,) int."""
    parts = [f"{name}{'²³'[p - 2] if p > 1 else ''}" for name, p in zip(names, powers, strict=False) if p]
    return " ".join(parts) or "order 0"


def there(rows):
    """The orders beyond 0 that a circuit has. rows: its results, one per seed. Returns: list of int."""
    return [k for k, slope in enumerate(rows[0]["orders_slope"]) if k and slope is not None]


def spread(values, digits=3):
    """'mean ± s.d.' over the seeds that have a value."""
    known = [value for value in values if value is not None]
    return runs.spread(known, digits) if known else "–"


def found(results):
    """How the orders that are there are found, as Markdown. results: {circuit: [measured's, one per seed]}."""
    lines = []
    for name, rows in simulated(results):
        for k in (0, *there(rows)):
            cells = [spread([row[m][k] for row in rows]) for m in (*MEASURES[:3], "width", "slope_everywhere")]
            told = f"{sum(row['orders_shown'][k] for row in rows)} of {len(rows)}"
            lines.append([f"{name}, {called(rows[0]['orders_powers'][k])}", *cells, told])
    names = ["circuit, order", "r", "slope", "coverage", "± of the interval", "slope, read at all states", "shown"]
    return runs.markdown(names, lines)


def absent(results):
    """The orders that are not there, and which description fits, as Markdown. results: as for `found`."""
    lines = []
    for name, rows in simulated(results):
        gone = [k for k in range(1, len(rows[0]["r_orders"])) if k not in there(rows)]
        largest = max((row["orders_size"][k] for row in rows for k in gone), default=0.0)
        shown = sum(row["orders_shown"][k] for row in rows for k in gone)
        said = sorted({row["orders_description"] for row in rows})
        left = [spread([row["orders_residual"][k] for row in rows], 4) for k in (0, 1)]
        own = spread([row["orders_noise"] for row in rows], 4)
        share = f"{100 * largest:.1f} % ({shown} of {len(gone) * len(rows)})"
        lines.append([name, share, " or ".join(said), *left, own])
    names = ["circuit", "largest absent order (shown)", "fits", "left by hidden units", "by velocity times connections"]
    return runs.markdown([*names, "own noise, estimated"], lines)


made = runs.made


def flies_table(results):
    """The flies' tables as Markdown. results: with "flies" in it."""
    return flies.table(results)


def simulated(results):
    """The circuits among the results, in order. Yields: name, rows."""
    return [(name, results[name]) for name in CIRCUITS if name in results]


def figure(results):
    """A row per circuit, of the first seed: J's profile at several inputs, then the profile of each order."""
    rows = [(name, each[0]) for name, each in simulated(results)]
    size = 13, 1.9 * len(rows) + 0.4
    drawn, axes = plt.subplots(len(rows), 5, figsize=size, squeeze=False, sharex=True, layout="constrained")
    for line, (name, row) in zip(axes, rows, strict=True):
        powers = np.array(row["orders_powers"])
        chosen = [0, 1, 2, 3] if powers.shape[1] == 1 else [0, 1, 3, 4]
        profiles = {k: np.array(v, float) for k, v in row["profiles"].items()}
        names = [called(p).removeprefix("order ") for p in powers]
        of = profiles["profile"], profiles["se"], profiles["true"], powers, np.array(row["scale"])
        figures.orders(line, *of, chosen, names)
        line[0].set_ylabel(f"{name}\nweight")
    for ax in axes[-1]:
        ax.set_xlabel("to minus from (deg)")
    axes[0, 0].legend(fontsize=5.5, loc="lower center", handlelength=1, labelspacing=0.2)
    axes[0, 1].legend(fontsize=6)
    return drawn


def main():
    p = runs.options(__doc__, 3, CIRCUITS)
    p.add_argument("--flies", type=Path, default="data/fly.npz", help="left out where there is no such file")
    p.add_argument("--bridge", type=Path, default=flies.BRIDGE, help="the authors' files of the bridge, likewise")
    args = p.parse_args()
    sizes = args.trials, args.steps
    items = [(name, seed) for name in args.circuits for seed in range(1, args.seeds + 1)]  # 0 was tuned on
    with tempfile.TemporaryDirectory() as folder:
        each = runs.each(lambda item: measured(*item, Path(folder), sizes, runs.updates(args)), items)
    results = runs.read(FOLDER)
    for name in args.circuits:
        results[name] = [row for row, (of, _) in zip(each, items, strict=True) if of == name]
        for row in results[name][1:]:  # the figure is of the first
            del row["profiles"]
        results.setdefault("made", {})[name] = runs.size(args)
    if args.flies.exists():
        results["flies"] = flies.measured(args.flies, args.bridge)
    write(results)


def write(results):
    """Put results, figure and tables in their places."""
    runs.write(FOLDER, results)
    figures.style()
    with files.whole(FOLDER / "orders.png") as path:
        figure(results).savefig(path)
    if {"curves", "direct"} <= results.get("flies", {}).keys() and len(results["flies"]["curves"]) > 1:
        with files.whole(FOLDER / "flies.png") as path:
            draw_flies(results["flies"]).savefig(path)
    tables = {"made": made(results), "found": found(results), "absent": absent(results)}
    runs.page(FOLDER, **tables, **({"flies": flies_table(results)} if "flies" in results else {}))


if __name__ == "__main__":
    main()
