"""What each part of the training is worth: one change to train.py's defaults at a time.

Run from the top folder, as `python -m experiments.estimator`. Writes results.json, tables.md and the page.
The recordings' seeds are none of those that other pages report.
"""

import argparse
import tempfile

import numpy as np

from experiments import runs
from nsi.run.settings import SCHEDULES

UPDATES, BATCH = SCHEDULES[False]["updates"], SCHEDULES[False]["batch"]
VARIANTS = {
    "default": "",
    "no forcing": "--forcing 0",
    "forcing 0.2": "--forcing 0.2",
    "no drive penalty": "--drive-penalty 0",
    "drive penalty 0.03": "--drive-penalty 0.03",
    "no warm-up": "--warmup 0",
    "mean squared error": "--loss mse",
    "initial W 0.1": "--init-scale 0.1",
    "initial W 1 (Glorot)": "--init-scale 1",
    "window 25": "--window 25",
    "window 100": f"--window 100 --batch {BATCH // 2}",
    "half the updates, twice the batch": f"--updates {UPDATES // 2} --batch {2 * BATCH}",
    "half the updates": f"--updates {UPDATES // 2}",
    "twice the updates": f"--updates {2 * UPDATES}",
    "as many updates as the control": " ".join(f"--{name} {value:g}" for name, value in SCHEDULES[True].items()),
    "lr 3e-3": "--lr 3e-3",
    "lr 2e-2": "--lr 2e-2",
    "constant lr 1e-3": "--schedule constant --lr 1e-3",
    "200 input units": "--input-units 200",
}
MEASURES = ("r_W", "r_W_near", "r_gate", "r_gate_effective", "heading_error_5s", "train_seconds")
DATA = {"ring": [], "gain": ["--circuit", "gain"], "stimulated": ["--stimulus", 4]}


MAIN = (
    "default", "no warm-up", "no forcing", "no drive penalty", "mean squared error",
    "initial W 1 (Glorot)", "lr 3e-3", "lr 2e-2",
)  # fmt: skip
COLUMNS = ("ring", "r_W"), ("ring", "heading_error_5s"), ("gain", "r_W"), ("gain", "heading_error_5s")


def table(results_by_row):
    """The variants that matter, as Markdown.

    results_by_row: {"variant, circuit": {measure: values of each recording}}."""
    value = lambda name, circuit, m: f"{np.mean(results_by_row[f'{name}, {circuit}'][m]):.3f}"  # noqa: E731
    rows = [[name, *(value(name, *column) for column in COLUMNS)] for name in MAIN]
    return runs.markdown(["", *(f"{circuit}: `{m}`" for circuit, m in COLUMNS)], rows)


def made(results_by_row):
    """What runs the results are of, as a sentence."""
    return runs.made(results_by_row)


def tables(results_by_row):
    """All variants, as the text of tables.md. results_by_row: as for `table`."""
    results_by_row = {row: values for row, values in results_by_row.items() if row != "made"}
    names = []
    for row in results_by_row:
        name, _, circuit = row.rpartition(", ")
        names.append(f"{name} (`{VARIANTS[name]}`), {circuit}" if VARIANTS.get(name) else row)
    columns = {
        f"`{m}`": [f"{np.mean(row[m]):.{0 if m == 'train_seconds' else 3}f}" for row in results_by_row.values()]
        for m in MEASURES
    }
    caption = "One change at a time. `train_seconds` were taken beside other work, and are of the free training alone."
    return runs.sections("the parts of the training", {"All variants": (caption, runs.turned(names, columns))})


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", default="", help="variants whose name contains this")
    p.add_argument("--circuits", nargs="+", choices=DATA, default=["ring", "gain"], help="which")
    p.add_argument("--seeds", type=int, default=1, help="recordings of each circuit, from seed 100 on")
    p.add_argument("--small", action="store_true", help="tiny recordings and fits, to see that it runs")
    args = p.parse_args()
    seeds = range(100, 100 + args.seeds)
    sizes, updates = (["--trials", 10, "--steps", 200], ["--updates", 3]) if args.small else ([], [])
    with tempfile.TemporaryDirectory() as folder:
        for circuit in args.circuits:
            for seed in seeds:
                runs.simulate(f"{folder}/{circuit}-{seed}.npz", "--seed", seed, *sizes, *DATA[circuit])

        def one(item):
            name, circuit, seed = item
            out = f"{folder}/{list(VARIANTS).index(name)}-{circuit}-{seed}"
            options = ("--seed", seed, *VARIANTS[name].split(), *updates)
            return runs.fit_network(f"{folder}/{circuit}-{seed}.npz", out, *options)

        names = [name for name in VARIANTS if args.only in name]
        items = [(name, circuit, seed) for name in names for circuit in args.circuits for seed in seeds]
        results_by_row = {}
        for (name, circuit, _), metrics in zip(items, runs.each(one, items), strict=True):
            row = results_by_row.setdefault(f"{name}, {circuit}", {m: [] for m in MEASURES})
            for m in MEASURES:
                row[m].append(np.nan if metrics[m] is None else metrics[m])
    if args.only:
        print(
            runs.markdown(
                ["", *MEASURES], [[row, *(np.mean(v[m]) for m in MEASURES)] for row, v in results_by_row.items()]
            )
        )
        return
    many = "recording" if args.seeds == 1 else "recordings"
    size = f"{args.seeds} {many} of each circuit, 100 trials of 1000 steps, seeds from 100 on"
    folder = runs.folder_of(__file__)
    runs.write(folder, results := {"made": f"{size}; {runs.source()}"} | results_by_row)
    runs.publish(folder, results, table, made, tables=tables)


if __name__ == "__main__":
    main()
