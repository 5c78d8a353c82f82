"""The README's results tables over seeds: the fits of every circuit, the control, least squares, and error bars.

Each seed simulates its own recording and starts its own fits. Writes experiments/results.json and prints two tables,
means and s.d. over seeds. Run it from the top folder, as `python -m experiments.results`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import analysis
import model
import recording
import uncertainty
from experiments import runs

MEASURES = (
    "r_W", "r_W_near", "r_W_identifiable", "identifiable_fraction", "r_gate", "r_gate_effective", "heading_error_5s",
    "selectivity", "seconds",
)  # fmt: skip
TRUST = ("frobenius_W", "frobenius_total", "gate_slope", "coverage", "W_se", "direct_share", "true_direct_share")
CIRCUITS = {
    "shifters": [],
    "gain": ["--shift", "gain"],
    "stimulated": ["--stimulus", 4],
    "holding": ["--holding"],
    "holding, stimulated": ["--holding", "--stimulus", 4],
}
# of the published code, repaired so that it runs, on its own simulated data: one run of 10 000 updates on one core
PUBLISHED = {
    "published code, separated": {"r_W": 0.406, "r_gate": 0.826, "seconds": 1418},
    "published code, control": {"r_W": 0.202, "seconds": 1138},
}


def table(rows):
    """What the fits recover, as Markdown. rows: {"circuit, fit": {measure: values over seeds}}."""
    lines = ["| | n | " + " | ".join(f"`{m}`" for m in MEASURES) + " |", "|" + " --- |" * (len(MEASURES) + 2)]
    for name, row in rows.items():
        cells = [spread(m, row[m]) if any(v is not None for v in row.get(m, [])) else "–" for m in MEASURES]
        lines.append(f"| {name} | {len(row['r_W'])} | " + " | ".join(cells) + " |")
    for name, row in PUBLISHED.items():
        lines.append(f"| gain, {name} | 1 | " + " | ".join(f"{row[m]:g}" if m in row else "–" for m in MEASURES) + " |")
    return "\n".join(lines)


def trust_table(rows):
    """How far the separated fits can be trusted, as Markdown. rows: as for `table`."""
    lines = ["| | n | " + " | ".join(f"`{m}`" for m in TRUST) + " |", "|" + " --- |" * (len(TRUST) + 2)]
    for name, row in rows.items():
        if name.endswith("separated"):
            cells = [spread(m, row[m]) if any(v is not None for v in row.get(m, [])) else "–" for m in TRUST]
            lines.append(f"| {name} | {len(row['r_W'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(measure, values):
    """Mean and s.d. over seeds, as the tables show them; of seconds the median, since other work can delay a fit."""
    values = [v for v in values if v is not None]
    return f"{np.median(values):.0f}" if measure == "seconds" else runs.spread(values)


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


def true_direct_share(rec, truth):
    """What train.py's `direct_share` should be: the direct path in the true total, by regression over all weights."""
    n = rec.rates.shape[-1]
    total = uncertainty.true_total(truth, rec.rates, rec.dt / rec.tau)
    return float(np.sum(total * truth["W"][:n, :n]) / np.sum(total**2))


def one_seed(circuit, seed, args, folder):
    """Simulate and fit. Returns: {"separated": measures, "the circuit itself": ..., "control", "least squares"}."""
    name = circuit.replace(", ", "-")
    data = folder / f"{name}-{seed}.npz"
    runs.script(
        "cann.py", "--out", data, "--seed", seed, "--trials", args.trials, "--steps", args.steps, *CIRCUITS[circuit]
    )
    rec = recording.load(data)
    truth = recording.load_truth(data, rec)
    heading = analysis.decode_heading(rec.rates, analysis.place_on_ring(rec.rates))
    updates, n = ["--updates", args.updates] if args.updates else [], rec.rates.shape[-1]
    results = {}

    def fitted(which, *flags):
        out = folder / f"{name}-{seed}-{which}"
        metrics = runs.fit(data, out, "--seed", seed, *flags, *updates)
        fit = analysis.fits(model.load(out / "model.pt")[0])[0]
        free = analysis.run_network(fit, rec, warmup=20)[..., : fit.n]
        maps = analysis.tuning_maps(free, heading, rec.velocity[..., 0])
        results[which] = {k: metrics[k] for k in (*MEASURES, *TRUST) if k in metrics} | {
            "seconds": metrics["train_seconds"] + metrics["polish_seconds"],
            "selectivity": float(np.abs(analysis.direction_selectivity(maps)).mean()),
        }
        return out, fit

    out, _ = fitted("separated")
    with np.load(out / "errors.npz") as file:
        found = dict(file)
    determined, W = found["identifiable"], truth["W"][:n, :n]
    within = np.abs(found["W"] - W) < 1.96 * found["W_se"]
    if determined.any():
        results["separated"] |= {
            "coverage": float(within[determined].mean()), "W_se": float(np.median(found["W_se"][determined])),
        }  # fmt: skip
    if rec.stimulus is not None:
        results["separated"]["true_direct_share"] = true_direct_share(rec, truth)
    if circuit in ("shifters", "gain") and seed < args.seeds / 2:
        _, control = fitted("control", "--control", "--no-errors")
        scores = analysis.connectivity_scores(control, truth, determined)
        results["control"]["r_W_identifiable"] = scores["r_W_identifiable"]
        began = time.perf_counter()
        alpha = rec.dt / rec.tau if rec.tau else 1.0  # the gain network's own, which the fits are not told
        W, gate = least_squares(rec, alpha, args.least_squares_samples)
        scores = analysis.connectivity_scores(
            analysis.Fit(W, np.zeros((1, n)), np.zeros(n), alpha, n=n), truth, determined
        )
        results["least squares"] = {k: scores[k] for k in MEASURES if k in scores}
        results["least squares"]["r_gate"] = analysis.correlation(gate, truth["gate"])
        results["least squares"]["seconds"] = time.perf_counter() - began
    if circuit != "gain":  # the circuit itself, run from where the fits are: what noise leaves of its prediction
        weights = (truth["W"], truth["W_in"][:, n:], truth["b"])
        itself = analysis.Fit(*(np.float32(x) for x in weights), rec.dt / rec.tau, n)
        held_out = rec.trials(json.loads((out / "metrics.json").read_text())["held_out_trials"])
        wrong = analysis.heading_error(itself, held_out, analysis.place_on_ring(rec.rates))[0]
        results["the circuit itself"] = {
            "r_W": 1.0, "heading_error_5s": float(wrong.mean()),
            "r_gate_effective": float(analysis.correlation(uncertainty.effective_gate(itself, rec), truth["gate"])),
        }  # fmt: skip
    return results


def circuit_of(row):
    """The circuit of a row's name, "circuit, fit"."""
    return row.rpartition(", ")[0]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=10, help="of the two main circuits; fewer of the rest")
    p.add_argument("--circuits", nargs="+", choices=CIRCUITS, default=list(CIRCUITS), help="which; others are kept")
    p.add_argument("--trials", type=int, default=100, help="of each recording")
    p.add_argument("--steps", type=int, default=1000, help="of each trial")
    p.add_argument("--updates", type=int, help="of each fit (default: train.py's)")
    p.add_argument("--least-squares-samples", type=int, default=20000, help="at most, per neuron")
    args = p.parse_args()
    some = dict(zip(CIRCUITS, (1, 1, 0.5, 0.3, 0.3), strict=True))
    some = {c: max(1, round(share * args.seeds)) for c, share in some.items()}
    jobs = [(c, seed) for c in args.circuits for seed in range(some[c])]
    kept, rows = Path(__file__).with_suffix(".json"), {}
    with tempfile.TemporaryDirectory() as folder:
        for (circuit, _), found in zip(
            jobs, runs.each(lambda job: one_seed(*job, args, Path(folder)), jobs), strict=True
        ):
            for name, result in found.items():
                for measure, value in result.items():
                    rows.setdefault(f"{circuit}, {name}", {}).setdefault(measure, []).append(value)
    before = json.loads(kept.read_text()) if kept.exists() else {}
    rows = {name: row for name, row in before.items() if circuit_of(name) not in args.circuits} | rows
    rows = dict(sorted(rows.items(), key=lambda item: list(CIRCUITS).index(circuit_of(item[0]))))
    runs.write(kept, rows)
    print(table(rows) + "\n\n" + trust_table(rows))


if __name__ == "__main__":
    main()
