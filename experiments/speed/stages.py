"""Where the seconds of a fit go: CPU seconds by stage, and as the recording and the window grow.

    fit        python train.py on a simulated ring, everything included; stage_seconds of its metrics.json
    update     of a plain autograd loop at 200 units and batch 50 (`autograd_update` of this folder's __main__.py), the
               mean of several right before the fit and right after it: seconds over it compare machines, and loads

Run from the top folder, as `python -m experiments.speed.stages`; best with nothing beside it. Writes stages.json and
the tables of stages.md.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from experiments import runs
from nsi import recordings
from nsi.simulation import simulate_recording
from nsi.simulation.circuits import ring

FOLDER = runs.folder_of(__file__)
HERE = "experiments.speed.stages"
UPDATES = 12  # of autograd, before and after each fit
DEFAULT = {"neurons": 100, "trials": 100, "window": 50}
GROWING = {"neurons": (50, 200), "trials": (25, 300), "window": (25, 100)}
STEPS = 1000  # of a trial
STAGES = "start", "checks", "training", "estimate", "hidden units", "measures", "report"


def time_updates(count=UPDATES):
    """Mean CPU seconds of an update by autograd."""
    import torch

    from experiments.speed import __main__ as speed

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    made = speed.parts(**speed.DEFAULTS)
    speed.autograd_update(*made)
    began = time.process_time()
    for _ in range(count):
        speed.autograd_update(*made)
    return (time.process_time() - began) / count


def fit(sizes, steps, options=()):
    """Simulate a ring and run train.py on it. sizes: dict as DEFAULT. Returns: dict of `stages` (CPU s), `update` (CPU
    s) and `load` (processes that wanted to run, over a minute), with the sizes."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "ring.npz", Path(folder) / "run"
        circuit = ring(sizes["neurons"], sizes["neurons"] // 2)
        recordings.save(data, **simulate_recording(circuit, 0, sizes["trials"], steps))
        updates = [runs.apart(HERE, "time_updates")]
        runs.script("train.py", "--data", data, "--out", out, "--window", sizes["window"], *options)
        updates.append(runs.apart(HERE, "time_updates"))
        stages = json.loads((out / "metrics.json").read_text())["stage_seconds"]
    return sizes | {"stages": stages, "update": sum(updates) / 2, "load": os.getloadavg()[0]}


def stage_table(results):
    """CPU seconds of the default recording's fit by stage, and in updates of autograd."""
    first = results["fits"][0]
    seconds = {stage: first["stages"].get(stage, 0.0) for stage in STAGES}
    seconds["all"] = sum(first["stages"].values())
    rows = [[stage, f"{x:.1f}", f"{x / first['update']:.0f}"] for stage, x in seconds.items()]
    update = f"An update of autograd took {1e3 * first['update']:.0f} ms at a load of {first['load']:.0f}."
    return f"{runs.markdown(['', 'CPU s', 'updates'], rows)}\n\n{update}"


def growth_table(results):
    """CPU seconds as neurons, trials and window grow."""
    rows = []
    for one in results["fits"]:
        parts = [one["stages"].get("estimate", 0.0), one["stages"]["training"] + one["stages"].get("hidden units", 0.0)]
        total = sum(one["stages"].values())
        parts = [total, *parts, total - sum(parts)]
        size = f"{one['neurons']} neurons, {one['trials']} trials, window {one['window']}"
        rows.append([size, *(f"{x:.1f}" for x in parts)])
    return runs.markdown(["", "all, CPU s", "estimate", "networks", "rest"], rows)


def made(results):
    """Commit and machine, as a sentence."""
    return f"Commit {results['commit']}, {results['machine']}, one thread."


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--small", action="store_true", help="one small fit, to see that it runs")
    p.add_argument("--most", type=int, default=10**9, help="neurons times trials, at most")
    args = p.parse_args()
    if args.small:
        results = {"fits": [fit({"neurons": 20, "trials": 10, "window": 20}, 150, ["--updates", 3, "--batch", 4])]}
        print(stage_table(results), growth_table(results), sep="\n\n")
        return
    results = runs.describe_run()
    sizes = [DEFAULT, *(DEFAULT | {name: size} for name, each in GROWING.items() for size in each)]
    results["fits"] = [fit(size, STEPS) for size in sizes if size["neurons"] * size["trials"] <= args.most]
    runs.write(FOLDER, results, "stages.json")
    tables = {"stages": stage_table, "growth": growth_table, "made": made}
    runs.page(FOLDER, "stages.md", **{name: table(results) for name, table in tables.items()})


if __name__ == "__main__":
    main()
