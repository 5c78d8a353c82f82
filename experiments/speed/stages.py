"""Where the seconds of a fit go: CPU seconds by stage.

    fit        python train.py on a simulated ring, everything included; stage_seconds of its metrics.json
    update     of a plain autograd loop at 200 units and batch 50 (`autograd_update` of this folder's __main__.py), the
               mean of several right before the fit and right after it: seconds over it compare machines, and loads

Run from the top folder, as `python -m experiments.speed.stages`; best with nothing beside it. Writes stages.json and
the table of stages.md.
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
SIZE = {"neurons": 100, "trials": 100, "steps": 1000}
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


def fit(size, options=()):
    """Simulate a ring and run train.py on it. size: dict as SIZE. Returns: dict of `stages` (CPU s), `update` (CPU s)
    and `load` (processes that wanted to run, over a minute), with the size."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "ring.npz", Path(folder) / "run"
        circuit = ring(size["neurons"], size["neurons"] // 2)
        recordings.save(data, **simulate_recording(circuit, 0, size["trials"], size["steps"]))
        updates = [runs.apart(HERE, "time_updates")]
        runs.script("train.py", "--data", data, "--out", out, *options)
        updates.append(runs.apart(HERE, "time_updates"))
        stages = json.loads((out / "metrics.json").read_text())["stage_seconds"]
    return size | {"stages": stages, "update": sum(updates) / 2, "load": os.getloadavg()[0]}


def stage_table(results):
    """CPU seconds of the fit by stage, and in updates of autograd."""
    seconds = {stage: results["stages"].get(stage, 0.0) for stage in STAGES}
    seconds["all"] = sum(results["stages"].values())
    rows = [[stage, f"{x:.1f}", f"{x / results['update']:.0f}"] for stage, x in seconds.items()]
    update = f"An update of autograd took {1e3 * results['update']:.0f} ms at a load of {results['load']:.0f}."
    return f"{runs.markdown(['', 'CPU s', 'updates'], rows)}\n\n{update}"


def made(results):
    """Commit and machine, as a sentence."""
    return f"Commit {results['commit']}, {results['machine']}, one thread."


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--small", action="store_true", help="one small fit, to see that it runs")
    if p.parse_args().small:
        options = ["--updates", 3, "--batch", 4, "--window", 20]
        print(stage_table(fit({"neurons": 20, "trials": 10, "steps": 150}, options)))
        return
    results = runs.describe_run() | fit(SIZE)
    runs.write(FOLDER, results, "stages.json")
    runs.page(FOLDER, "stages.md", stages=stage_table(results), made=made(results))


if __name__ == "__main__":
    main()
