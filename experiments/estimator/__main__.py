"""What each part of the estimator is worth: one change to train.py's defaults at a time.

Run from the top folder, as `python -m experiments.estimator`. Prints the table, and writes results.json and the page's.
The recordings' seeds are none of those that other pages report.
"""

import argparse
import tempfile

import numpy as np

from experiments import runs
from train import CONTROL, FREE

UPDATES, BATCH = FREE["updates"], FREE["batch"]
VARIANTS = {
    "default": "",
    "without rounds of solving": "--rounds 0",
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
    "as many updates as the control": " ".join(f"--{name} {value:g}" for name, value in CONTROL.items()),
    "lr 3e-3": "--lr 3e-3",
    "lr 2e-2": "--lr 2e-2",
    "constant lr 1e-3": "--schedule constant --lr 1e-3",
    "200 input units": "--input-units 200",
}
MEASURES = ("r_W", "r_W_near", "r_gate", "r_gate_effective", "heading_error_5s", "train_seconds")
DATA = {"ring": [], "gain": ["--circuit", "gain"], "stimulated": ["--stimulus", 4]}


def table(found):
    """Markdown. found: {"variant, circuit": {measure: values of each recording}}."""
    names = []
    for row in found:
        name, _, circuit = row.rpartition(", ")
        names.append(f"{name} (`{VARIANTS[name]}`), {circuit}" if VARIANTS.get(name) else row)
    columns = {
        f"`{m}`": [f"{np.mean(row[m]):.{0 if m == 'train_seconds' else 3}f}" for row in found.values()]
        for m in MEASURES
    }
    return runs.turned(names, columns)


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
        found = {}
        for (name, circuit, _), metrics in zip(items, runs.each(one, items), strict=True):
            row = found.setdefault(f"{name}, {circuit}", {m: [] for m in MEASURES})
            for m in MEASURES:
                row[m].append(np.nan if metrics[m] is None else metrics[m])
    if not args.only:
        folder = runs.folder_of(__file__)
        runs.write(folder, found)
        runs.page(folder, estimator=table(found))
    print(table(found))


if __name__ == "__main__":
    main()
