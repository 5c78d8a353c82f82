"""Time to the answer: when a fit reaches what the published code ends with, and how long the main job takes.

The published code, repaired so that it runs, took 1418 s of one core for 10 000 updates on the gain network, and ended
at r_W 0.406 and r_gate 0.826 (as measured once, elsewhere). Here: seconds of training on one core until a fit first has
both, with the default schedule and with shorter ones, which reach it sooner; then `sh train.sh` as it is, on all cores.
Run from the top folder, as `python -m benchmarks.answer`; nothing else should run beside it. Prints a table and writes
benchmarks/answer.json and benchmarks/answer.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import analysis
import fitting
import recording
import train
from experiments import runs

PUBLISHED = {"seconds": 1418, "r_W": 0.406, "r_gate": 0.826}


def reached(path, updates, seed):
    """Fit a recording on one core.

    Returns: {"updates", "at" (the update at which both scores first were the published ones, or None), "seconds" until
    then, and at the end "r_W", "r_gate" and "all_seconds"}.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    rec = recording.load(path)
    truth, everything = recording.load_truth(path, rec), np.ones((rec.rates.shape[-1],) * 2, bool)
    args = train.parse(["--updates", str(updates), "--seed", str(seed)])
    args.alpha = train.choose_alpha(args, rec)
    scored = []

    def log(update, model, _):
        now = time.perf_counter() - began
        scores = analysis.connectivity_scores(analysis.fits(model)[0], truth, everything)
        scored.append((update, now, scores["r_W"], scores["r_gate"]))

    began = time.perf_counter()
    fitting.fit(train.split_trials(rec)[0], args, torch.device("cpu"), log)
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
    began = time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"PYTHON": sys.executable}
    subprocess.run(["sh", "train.sh"], cwd=folder, check=True, env=environment)
    return time.perf_counter() - began


def table(found):
    """The results as Markdown."""
    lines = ["| updates | both reached at update | after, s | published / this | all, s | `r_W` | `r_gate` |"]
    lines += ["|" + " --- |" * 7]
    for row in found["fits"]:
        when = "never | – | –"
        if row["at"]:
            when = f"{row['at']} | {row['seconds']:.1f} | {PUBLISHED['seconds'] / row['seconds']:.0f}"
        lines.append(
            f"| {row['updates']} | {when} | {row['all_seconds']:.1f} | {row['r_W']:.3f} | {row['r_gate']:.3f} |"
        )
    if "main_job" in found:
        lines += ["", f"`sh train.sh`: {found['main_job']:.0f} s in all on {found['cores']} cores."]
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--updates", type=int, nargs="+", default=[100, 200, 400, 1100], help="lengths of the schedule")
    p.add_argument("--small", action="store_true", help="a tiny recording and no main job, to see that it runs")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as top:
        data = Path(top) / "gain.npz"
        runs.script(
            "cann.py", "--shift", "gain", "--out", data, *(["--trials", 4, "--steps", 100] if args.small else [])
        )
        found = {"cores": os.cpu_count(), "fits": [reached(data, updates, 0) for updates in args.updates]}
        if not args.small:
            found["main_job"] = main_job(Path(top))
    print(table(found))
    if not args.small:
        runs.write(runs.ROOT / "benchmarks" / "answer.json", found)
        (runs.ROOT / "benchmarks" / "answer.md").write_text(table(found) + "\n")


if __name__ == "__main__":
    main()
