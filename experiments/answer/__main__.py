"""Time to the answer: when a fit reaches what the published code ends with, and how long the main job takes.

The published code, repaired so that it runs, took 1418 s of one core for 10 000 updates on the gain network, and ended
at r_W 0.406 and r_gate 0.826 (as measured once, elsewhere). Here: seconds of training on one core until a fit first has
both, with the default schedule and with shorter ones, which reach it sooner; then `sh train.sh` as it is, on all cores.
Run from the top folder, as `python -m experiments.answer`; nothing else should run beside it. Prints a table and writes
results.json and the page's table.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import train
from experiments import runs
from model import RNN
from nsi import connectivity, recordings, units
from nsi.geometry import RING
from nsi.run.watch import Watch
from nsi.windows import Windows

PUBLISHED = {"seconds": 1418, "r_W": 0.406, "r_gate": 0.826}


def reached(path, updates, seed):
    """Fit a recording on one core.

    Returns: {"updates", "at" (the update at which both scores first were the published ones, or None), "seconds" until
    then, and at the end "r_W", "r_gate" and "all_seconds"}.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    rec = recordings.load(path)
    truth, n, places = recordings.load_truth(path, rec), rec.rates.shape[-1], RING.find(rec.rates)
    args = train.parse(["--updates", str(updates), "--seed", str(seed), "--input-units", "100"])
    alpha = rec.dt / rec.tau if rec.tau else 0.2
    scored = []

    class Scores(Watch):
        def log(self, update, model, scalars):
            now = time.perf_counter() - began
            scores = connectivity.scores(model.networks()[0], truth, RING, places)
            scored.append((update, now, scores["r_W"], scores["r_gate"]))

    began = time.perf_counter()
    generators = [torch.Generator().manual_seed(seed)]
    who = units.choose(args, n, rec.driven)
    model = RNN(n, args.input_units, rec.velocity.shape[-1], alpha, args.init_scale, generators, who)
    windows = Windows(recordings.split(rec)[0], alpha, generators, batch=args.batch)
    train.fit(model, windows, updates, args.lr, watch=Scores())
    good = [s for s in scored if s[2] >= PUBLISHED["r_W"] and s[3] >= PUBLISHED["r_gate"]]
    at, seconds = good[0][:2] if good else (None, None)
    _, all_seconds, r_W, r_gate = scored[-1]
    return {
        "updates": updates, "at": at, "seconds": seconds, "all_seconds": all_seconds, "r_W": r_W, "r_gate": r_gate
    }  # fmt: skip


def main_job(folder):
    """Seconds of `sh train.sh` on data/ring.npz, in a copy of the project."""
    subprocess.run([sys.executable, runs.ROOT / "cann.py", "--out", folder / "data/ring.npz"], check=True)
    for path in (*runs.ROOT.glob("*.py"), runs.ROOT / "train.sh"):
        (folder / path.name).write_bytes(path.read_bytes())
    shutil.copytree(runs.ROOT / "nsi", folder / "nsi")
    began = time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"PYTHON": sys.executable}
    subprocess.run(["sh", "train.sh"], cwd=folder, check=True, env=environment)
    return time.perf_counter() - began


def table(found):
    """The results as Markdown."""
    fits = found["fits"]
    columns = {
        "both reached at update": [row["at"] or "never" for row in fits],
        "after, s": [f"{row['seconds']:.1f}" if row["at"] else "–" for row in fits],
        "published / this": [f"{PUBLISHED['seconds'] / row['seconds']:.0f}" if row["at"] else "–" for row in fits],
        "all, s": [f"{row['all_seconds']:.1f}" for row in fits],
        "`r_W`": [f"{row['r_W']:.3f}" for row in fits],
        "`r_gate`": [f"{row['r_gate']:.3f}" for row in fits],
    }
    text = runs.turned([f"{row['updates']} updates" for row in fits], columns)
    if "main_job" in found:
        text += f"\n\n`sh train.sh`: {found['main_job']:.0f} s in all on {found['cores']} cores."
    return text


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--updates", type=int, nargs="+", default=[100, 200, 400, 1100], help="lengths of the schedule")
    p.add_argument("--small", action="store_true", help="a tiny recording and no main job, to see that it runs")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as top:
        data = Path(top) / "gain.npz"
        runs.simulate(data, "--circuit", "gain", *(["--trials", 4, "--steps", 100] if args.small else []))
        found = {"cores": os.cpu_count(), "fits": [reached(data, updates, 0) for updates in args.updates]}
        if not args.small:
            found["main_job"] = main_job(Path(top))
    print(table(found))
    if not args.small:
        folder = runs.folder_of(__file__)
        runs.write(folder, found)
        runs.page(folder, answer=table(found))


if __name__ == "__main__":
    main()
