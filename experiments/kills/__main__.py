"""Kill the simulation and the fit at random moments, and see what they leave.

    python -m experiments.kills

Each kill (SIGKILL) comes at a moment drawn uniformly from the time that the script takes when it is left alone. After
it, every file is read: each must be whole, the one of before or the one of after. The fits' folder is never cleared:
each killed fit is continued with --resume, killed again, and in the end left to finish; its weights, errors and
measures must then be those of a fit that was never disturbed, to the byte.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from experiments import runs
from nsi.run import checkpoint, cli

SIMULATION = ["cann.py", "--trials", 8, "--steps", 150]
FIT = ["train.py", "--batch", 4, "--window", 20, "--input-units", 20, "--wandb", "disabled"]


def start(command):
    """Begin one of the project's scripts. Returns: its process."""
    script, *rest = map(str, command)
    return subprocess.Popen([sys.executable, runs.ROOT / script, *rest], stdout=subprocess.DEVNULL)


def seconds(command):
    """Let a script run to its end. Returns: how long it took."""
    began = time.perf_counter()
    if start(command).wait():
        raise RuntimeError(f"{command} failed")
    return time.perf_counter() - began


def kill(command, after):
    """Begin a script and kill it after so many seconds. Returns: whether it was still running."""
    process = start(command)
    time.sleep(after)
    process.kill()
    return process.wait() != 0


def result(out):
    """What a finished fit leaves, times aside, for comparison."""
    weights = checkpoint.read(out / "model.pt")["model"]
    measures = json.loads((out / "metrics.json").read_text())
    measures = {k: v for k, v in measures.items() if not k.endswith("seconds")}
    return [w.numpy().tobytes() for w in weights.values()], (out / "connectivity.npz").read_bytes(), measures


def simulations(folder, kills, rng, _):
    """Kill cann.py, which overwrites one of two recordings with the other. Returns: kills that came in time."""
    sound = []
    for seed in (0, 1):
        took = seconds([*SIMULATION, "--seed", seed, "--out", folder / f"{seed}.npz"])
        sound.append((folder / f"{seed}.npz").read_bytes())
    target, done = folder / "ring.npz", 0
    target.write_bytes(sound[0])
    for k in range(kills):
        done += kill([*SIMULATION, "--seed", k % 2, "--out", target], rng.uniform(0, took))
        assert target.read_bytes() in sound
    return done


def fits(folder, kills, rng, updates):
    """Kill train.py, which continues where it was killed before. Returns: kills that came in time."""
    command = [*FIT, "--updates", updates, "--data", folder / "0.npz"]
    if not (folder / "0.npz").exists():
        seconds([*SIMULATION, "--seed", 0, "--out", folder / "0.npz"])
    took = seconds([*command, "--out", folder / "left alone" / "run"])
    out, done = folder / "killed" / "run", 0
    for _ in range(kills):
        done += kill([*command, "--out", out, "--resume"], rng.uniform(0, took))
        if (out / "model.pt").exists():
            checkpoint.networks(out / "model.pt")
        if (out / "connectivity.npz").exists():
            with np.load(out / "connectivity.npz", allow_pickle=False) as errors:
                assert all(np.size(errors[k]) for k in errors)
        if (out / "metrics.json").exists():
            json.loads((out / "metrics.json").read_text())
    seconds([*command, "--out", out, "--resume"])
    assert result(out) == result(folder / "left alone" / "run")
    assert not list(out.glob(".*.part*"))
    return done


def table(found):
    """Markdown. found: {script: {"kills", "in_time"}}."""
    rows = [[f"`{name}`", row["kills"], row["in_time"], "none"] for name, row in found.items()]
    return runs.markdown(["script", "kills", "before its end", "damage"], rows)


def main():
    p = cli.Parser("Kill the simulation and the fit at random moments, and see what they leave.")
    p.add_argument("--kills", type=cli.number(int, 1), default=50, help="of either script")
    p.add_argument("--only", choices=["cann.py", "train.py"], nargs="+", default=["cann.py", "train.py"], help="these")
    p.add_argument("--updates", type=cli.number(int, 1), default=1000, help="of the fits")
    p.add_argument("--seed", type=cli.number(int, 0), default=0, help="of the moments")
    args = p.parse_args()
    found, rng, victims = {}, np.random.default_rng(args.seed), {"cann.py": simulations, "train.py": fits}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            done = victims[name](Path(folder), args.kills, rng, args.updates)
            found[name] = {"kills": args.kills, "in_time": done}
            print(f"{name}: {args.kills} kills, {done} before the end, no damage")
    if len(found) == len(victims):
        folder = runs.folder_of(__file__)
        runs.write(folder, found)
        runs.page(folder, kills=table(found))


if __name__ == "__main__":
    cli.run(main)
