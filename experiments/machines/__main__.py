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
    """How single entries of two fits' connectivity.npz differ, over the pairs that both call identifiable.

    first, other: dicts of its arrays. Returns: {"W": r.m.s. difference, relative to the r.m.s. weight; "W_largest": the
    largest, likewise; "total", "gate": r.m.s. difference in the first one's standard errors; "identifiable": share of
    the pairs that only one of them calls so}, None where both call no pair identifiable.
    """
    both = first["identifiable"] & other["identifiable"]
    if not both.any():
        return {"W": None, "total": None, "gate": None, "identifiable": float(np.mean(first["identifiable"]))}
    apart = {k: np.abs(first[k] - other[k])[..., both] for k in ("W", "total", "gate")}
    rms, result = lambda x: float(np.sqrt(np.mean(x**2))), {}
    result["W"] = rms(apart["W"]) / rms(first["W"][both])
    result["W_largest"] = float(apart["W"].max()) / rms(first["W"][both])
    for name in ("total", "gate"):
        se = first[f"{name}_se"][..., both]
        known = np.isfinite(se)
        result[name] = rms(apart[name][known] / se[known]) if known.any() else None
    return result | {"identifiable": float(np.mean(first["identifiable"] != other["identifiable"]))}


def table(results):
    """The results as Markdown."""
    rows = []
    for name, one in results["machines"].items():
        scores = ", ".join(
            "–" if one[k] is None else f"{one[k]:.3g}" if k == "loss" else f"{one[k]:.4f}" for k in SCORES
        )
        if "W" not in one:
            rows.append([name, "–", scores, "–", "–"])
            continue
        shown = [f"{one[k]:.2f} s.e." if one[k] is not None else "–" for k in ("total", "gate")]
        weights = "–" if one["W"] is None else f"{one['W']:.1%}, at most {one['W_largest']:.1%}"
        rows.append([name, one["recording"], scores, weights, ", ".join(shown)])
    return runs.markdown(["machine", "recording", "`r_W`, `r_gate_effective`, `loss`", "`W`", "`total`, `gate`"], rows)


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
