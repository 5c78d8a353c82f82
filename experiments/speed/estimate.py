"""What an estimate costs as neurons and samples grow: CPU seconds and memory, each size in a process of its own.

Run from the top folder, as `python -m experiments.speed.estimate`; best with nothing beside it. Writes
estimate.json and the table of estimate.md. With `--neurons 500` rows of other sizes stay as they were.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import nsi
from experiments import runs
from nsi import files
from nsi.recordings import Recording
from nsi.simulation import simulate_recording
from nsi.simulation.circuits import ring

FOLDER = runs.folder_of(__file__)
SIZES = (25, 100), (50, 100), (100, 25), (100, 100), (100, 300), (100, 600), (250, 30), (500, 30), (1000, 30)
STEPS = 1000


def measure(neurons, trials, steps, calibrated):
    """Estimate a ring without stimulus. Returns: dict of `seconds` of the CPU, `memory` (GiB, at most), `start` (GiB,
    before the estimate) and the sizes."""
    data = simulate_recording(ring(neurons, neurons // 2), 0, trials, steps)
    rec = Recording(data["rates"], data["velocity"], data["dt"], None, data["tau"])
    del data
    start, began = used_memory(), time.process_time()
    nsi.estimate(rec, calibrated=calibrated)
    seconds = time.process_time() - began
    return {"neurons": neurons, "trials": trials, "steps": steps, "calibrated": calibrated, "seconds": seconds,
            "memory": used_memory(), "start": start}  # fmt: skip


def used_memory():
    """The most memory that this process has had, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def estimate_table(results):
    """Seconds and memory by size, as Markdown."""
    plain = {(r["neurons"], r["trials"]): r["seconds"] for r in results["rows"] if not r["calibrated"]}
    rows = [
        [f"{r['neurons']} neurons, {r['trials']} × {r['steps']}",
         f"{plain[r['neurons'], r['trials']]:.1f}" if (r["neurons"], r["trials"]) in plain else "–",
         f"{r['seconds']:.1f}", f"{r['memory']:.2f}", r["commit"]]
        for r in results["rows"] if r["calibrated"]
    ]  # fmt: skip
    columns = ["", "CPU s, no intervals", "CPU s, with", "GiB", "commit"]
    return f"{runs.markdown(columns, rows)}\n\nRings without stimulus, one thread; {results['machine']}."


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--most", type=int, default=10**9, help="neurons times trials, at most")
    p.add_argument("--steps", type=int, default=STEPS, help="of a trial")
    p.add_argument("--neurons", type=int, help="measure rings of so many alone")
    args = p.parse_args()
    path, rows, run = FOLDER / "estimate.json", {}, runs.describe_run()
    if args.neurons:
        key = lambda r: (r["neurons"], r["trials"], r["calibrated"])
        rows = {key(r): r for r in json.loads(path.read_text())["rows"]}
    for neurons, trials in (size for size in SIZES if size[0] * size[1] <= args.most):
        for calibrated in (False, True) if args.neurons in (None, neurons) else ():
            row = runs.apart("experiments.speed.estimate", "measure", neurons, trials, args.steps, calibrated)
            rows[neurons, trials, calibrated] = row | {"commit": run["commit"]}
            print(row, flush=True)
            results = {"rows": [rows[k] for k in sorted(rows)]} | run
            with files.whole(path) as temporary:
                Path(temporary).write_text(json.dumps(results, indent=1) + "\n")
    runs.page(FOLDER, "estimate.md", estimate=estimate_table(results))


if __name__ == "__main__":
    main()
