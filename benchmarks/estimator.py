"""What each part of the estimator is worth: one change to train.py's defaults at a time.

Run from the top folder, as `python -m benchmarks.estimator`. Prints the table as it grows and writes
benchmarks/estimator.md. The recordings' seeds are none of those that the README reports.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from experiments.results import script

VARIANTS = {
    "default": "",
    "no forcing": "--forcing 0",
    "forcing 0.2": "--forcing 0.2",
    "no drive penalty": "--drive-penalty 0",
    "drive penalty 0.03": "--drive-penalty 0.03",
    "drive penalty 0.1": "--drive-penalty 0.1",
    "no warm-up": "--warmup 0",
    "warm-up 20": "--warmup 20",
    "mean squared error": "--loss mse",
    "initial W 0.1": "--init-scale 0.1",
    "initial W 1 (Glorot)": "--init-scale 1",
    "window 25": "--window 25",
    "window 100": "--window 100",
    "lr 3e-3": "--lr 3e-3",
    "lr 1.2e-2": "--lr 1.2e-2",
    "constant lr 1e-3": "--schedule constant --lr 1e-3",
    "300 updates": "--updates 300",
    "1200 updates": "--updates 1200",
    "50 input units": "--input-units 50",
    "200 input units": "--input-units 200",
}
MEASURES = ("r_W", "r_W_near", "r_W_identifiable", "r_gate", "heading_error_5s", "train_seconds")
DATA = {"shifters": (100, 101), "gain": (100,)}  # seeds of the recordings


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", help="variants whose name contains this")
    args = p.parse_args()
    lines = ["Means over recordings and fits with the seeds " + str(DATA) + ".", ""]
    lines += ["| change to the defaults | circuit | " + " | ".join(f"`{m}`" for m in MEASURES) + " |"]
    lines += ["|" + " --- |" * (len(MEASURES) + 2)]
    with tempfile.TemporaryDirectory() as folder:
        for shift, seeds in DATA.items():
            for seed in seeds:
                script("cann.py", "--out", f"{folder}/{shift}-{seed}.npz", "--shift", shift, "--seed", seed)
        for name, options in VARIANTS.items():
            if args.only and args.only not in name:
                continue
            for shift, seeds in DATA.items():
                rows = []
                for seed in seeds:
                    data = f"{folder}/{shift}-{seed}.npz"
                    flags = ("--data", data, "--out", f"{folder}/run", "--seed", seed, "--wandb", "disabled")
                    script("train.py", *flags, *options.split())
                    rows.append(json.loads((Path(folder) / "run" / "metrics.json").read_text()))
                cells = [f"{np.mean([row[m] for row in rows]):.3f}" for m in MEASURES]
                lines.append(f"| {name} {f'(`{options}`)' if options else ''} | {shift} | " + " | ".join(cells) + " |")
                print(lines[-1], flush=True)
    if not args.only:
        Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
