"""Repeat a simulation and a fit as other processors and numbers of threads compute them, and compare what they leave.

    python -m experiments.machines

numpy's OpenBLAS has one kernel for processors with AVX-512 and another for those without; OPENBLAS_CORETYPE chooses
between them, and torch is kept from AVX-512 alike. All fits are to the recording that the first machine made. A fit
with another seed, on the first machine, is the measure for the differences.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from experiments import runs
from nsi import recordings
from nsi.run import cli

KERNELS = {
    "AVX-512": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "AVX2": {"OPENBLAS_CORETYPE": "Haswell", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
SCORES = "r_W", "r_gate_effective", "loss"


def run(machine, *arguments):
    """Run one of the project's scripts on a machine. machine: name of its kernel, and its number of threads."""
    kernel, threads = machine
    environment = os.environ | KERNELS[kernel] | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    script, *rest = map(str, arguments)
    done = subprocess.run([sys.executable, runs.ROOT / script, *rest], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)


def differences(first, other):
    """How single entries of two fits' connectivity.npz differ, in the first one's standard errors.

    first, other: dicts of its arrays. Returns: {"W", "total", "gate": r.m.s. difference of best estimates, "largest":
    the largest of the three}, None where the first claims no interval.
    """
    apart = {}
    for name in ("W", "total", "gate"):
        se = first[f"{name}_se"]
        known = np.isfinite(se)
        apart[name] = (np.abs(first[name] - other[name])[known] / se[known]) if known.any() else None
    if any(a is None for a in apart.values()):
        return dict.fromkeys([*apart, "largest"])
    result = {name: float(np.sqrt(np.mean(a**2))) for name, a in apart.items()}
    return result | {"largest": float(max(a.max() for a in apart.values()))}


def table(results):
    """The results as Markdown."""
    rows = []
    for name, one in results["machines"].items():
        scores = ", ".join(
            "–" if one[k] is None else f"{one[k]:.3g}" if k == "loss" else f"{one[k]:.6f}" for k in SCORES
        )
        if one.get("W") is None:
            rows.append([name, one.get("recording", "–"), scores, "–", "–"])
            continue
        shown = ", ".join(f"{one[k]:.3f}" for k in ("W", "total", "gate"))
        rows.append([name, one["recording"], scores, shown, f"{one['largest']:.3f}"])
    head = ["machine", "recording", "`r_W`, `r_gate_effective`, `loss`", "`W`, `total`, `gate`: s.e.", "largest: s.e."]
    return runs.markdown(head, rows)


def made(results):
    """What the results are of, as a sentence."""
    updates = results["updates"] or "the usual"
    return f"{results['trials']} trials of {results['steps']} steps of the ring, {updates} updates."


def main():
    p = cli.Parser("Repeat a simulation and a fit as other processors and numbers of threads compute them.")
    p.add_argument("--trials", type=cli.number(int, 1), default=60, help="of the recording")
    p.add_argument("--steps", type=cli.number(int, 1), default=500, help="of each trial")
    p.add_argument("--updates", type=cli.number(int, 1), help="of each fit (default: train.py's)")
    args = p.parse_args()
    there = "avx512bw" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else False
    kernels = [name for name in KERNELS if there or name != "AVX-512"]
    machines = [(kernel, threads) for kernel in kernels for threads in (1, 2)]
    names = [f"{kernel}, {threads} thread{'s' * (threads > 1)}" for kernel, threads in machines]
    fits = [*zip([*names, f"{names[0]}, another seed"], [*machines, machines[0]], [0] * len(names) + [1], strict=True)]
    results = {"trials": args.trials, "steps": args.steps, "updates": args.updates, "machines": {}}
    with tempfile.TemporaryDirectory() as folder:
        data, out, first = Path(folder) / "ring.npz", Path(folder) / "run", None
        for name, machine, seed in fits:
            new = data if first is None else data.with_name("other.npz")
            run(machine, "cann.py", "--out", new, "--no-report", "--trials", args.trials, "--steps", args.steps)
            same = recordings.digest(recordings.load(new)) == recordings.digest(recordings.load(data))
            options = ["--seed", seed, "--no-report", "--wandb", "disabled", "--overwrite", *runs.updates(args)]
            run(machine, "train.py", "--data", data, "--out", out, *options)
            metrics = json.loads((out / "metrics.json").read_text())
            with np.load(out / "connectivity.npz") as file:
                arrays = dict(file)
            results["machines"][name] = {k: metrics[k] for k in SCORES}
            if first is not None:
                results["machines"][name] |= {"recording": "equal" if same else "differs"} | differences(first, arrays)
            first = first or arrays
            print(name, results["machines"][name], flush=True)
    folder = runs.folder_of(__file__)
    runs.write(folder, results)
    runs.page(folder, made=made(results), machines=table(results))


if __name__ == "__main__":
    cli.run(main)
