"""The README's results table: the separated fit, the control and least squares over seeds.

Each seed simulates its own recording and starts its own fits, on the default circuit and on the published gain network.
Writes experiments/results.json and prints the table, means and s.d. over seeds. Run it from the top folder, as
`python -m experiments.results`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import analysis
import model
import recording

ROOT = Path(__file__).parent.parent
MEASURES = ("r_W", "r_W_near", "r_W_identifiable", "r_gate", "r_product", "heading_error_5s", "selectivity", "seconds")
# of the published code, repaired so that it runs, on its own simulated data: one run of 10 000 updates on one core
PUBLISHED = {
    "published code, separated": {"r_W": 0.406, "r_gate": 0.826, "r_product": -0.11, "seconds": 1418},
    "published code, control": {"r_W": 0.202, "seconds": 1138},
}


def table(rows):
    """The results as Markdown. rows: {"network, fit": {measure: values over seeds}}."""
    lines = ["| | " + " | ".join(f"`{m}`" for m in MEASURES) + " |", "|" + " --- |" * (len(MEASURES) + 1)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(spread(m, row[m]) if m in row else "–" for m in MEASURES) + " |")
    for name, row in PUBLISHED.items():
        lines.append(f"| gain, {name} | " + " | ".join(f"{row[m]:g}" if m in row else "–" for m in MEASURES) + " |")
    return "\n".join(lines)


def spread(measure, values):
    """Mean and s.d. over seeds, as the table shows them; of seconds the median, since other work can delay a fit."""
    if measure == "seconds":
        return f"{np.median(values):.0f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=len(values) > 1):.3f}"


def script(name, *arguments):
    """Run one of the project's scripts, its progress on the screen."""
    subprocess.run([sys.executable, str(ROOT / name), *map(str, arguments)], check=True)


def least_squares(rec, alpha, samples):
    """Regress arctanh(r) on u and v * u where neurons fire. Returns: W (N, N), gate (1, N, N)."""
    n = rec.rates.shape[-1]
    settled = round(3 / alpha)
    u = analysis.synaptic_state(rec.rates, alpha)[:, settled:].reshape(-1, n)
    r, v = rec.rates[:, settled:].reshape(-1, n), rec.velocity[:, settled:].reshape(-1, 1)
    X = np.concatenate([u, v * u, np.ones_like(v)], 1)
    solution = np.zeros((2 * n + 1, n))
    for j in range(n):
        fires = np.flatnonzero((r[:, j] > 0.01) & (r[:, j] < 0.999))[:samples]
        A = X[fires].astype(np.float64)
        solution[:, j] = np.linalg.lstsq(A.T @ A + 1e-6 * len(A) * np.eye(2 * n + 1), A.T @ np.arctanh(r[fires, j]))[0]
    return solution[:n], solution[None, n : 2 * n]


def one_seed(shift, seed, args, folder):
    """Simulate and fit. Returns: {"separated": measures, "control": measures, "least squares": measures}."""
    data = folder / f"{shift}-{seed}.npz"
    sizes = ["--trials", args.trials, "--steps", args.steps]
    script("cann.py", "--out", data, "--shift", shift, "--seed", seed, *sizes)
    rec = recording.load(data)
    truth = recording.load_truth(data, rec)
    heading = analysis.decode_heading(rec.rates, analysis.place_on_ring(rec.rates))
    results = {}
    for name, flags in (("separated", []), ("control", ["--control"])):
        out = folder / f"{shift}-{seed}-{name}"
        updates = ["--updates", args.updates] if args.updates else []
        script("train.py", "--data", data, "--out", out, "--seed", seed, "--wandb", "disabled", *flags, *updates)
        metrics = json.loads((out / "metrics.json").read_text())
        fit = analysis.fits(model.load(out / "model.pt")[0])[0]
        free = analysis.run_network(fit, rec, warmup=20)[..., : fit.n]
        maps = analysis.tuning_maps(free, heading, rec.velocity[..., 0])
        results[name] = {k: metrics[k] for k in MEASURES if k in metrics}
        results[name] |= {
            "seconds": metrics["train_seconds"],
            "selectivity": float(np.abs(analysis.direction_selectivity(maps)).mean()),
        }
    began = time.perf_counter()
    alpha = rec.dt / rec.tau if rec.tau else 1.0  # the gain network's own, which the fits are not told
    W, gate = least_squares(rec, alpha, args.least_squares_samples)
    determined = analysis.identifiable(rec.rates, analysis.synaptic_state(rec.rates, alpha))
    found = analysis.Fit(W, np.zeros((1, len(W))), np.zeros(len(W)), alpha, n=len(W))
    scores = analysis.connectivity_scores(found, truth, determined)
    results["least squares"] = {k: scores[k] for k in MEASURES if k in scores}
    results["least squares"]["r_gate"] = analysis.correlation(gate, truth["gate"])
    results["least squares"]["seconds"] = time.perf_counter() - began
    return results


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=5, help="how many")
    p.add_argument("--trials", type=int, default=100, help="of each recording")
    p.add_argument("--steps", type=int, default=1000, help="of each trial")
    p.add_argument("--updates", type=int, help="of each fit (default: train.py's)")
    p.add_argument("--least-squares-samples", type=int, default=20000, help="at most, per neuron")
    args = p.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for shift in ("shifters", "gain"):
            for seed in range(args.seeds):
                for name, result in one_seed(shift, seed, args, Path(folder)).items():
                    for measure, value in result.items():
                        rows.setdefault(f"{shift}, {name}", {}).setdefault(measure, []).append(value)
    (ROOT / "experiments" / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
