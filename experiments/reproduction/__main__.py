"""The headline tables over seeds: the fits of every circuit, the control, least squares, and error bars.

Each seed simulates its own recording and starts its own fits. Writes results.json and the page's tables, means
and s.d. over seeds. Run it from the top folder, as `python -m experiments.reproduction`.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from experiments import runs
from experiments.estimate.baselines import least_squares
from nsi import connectivity, prediction, recordings, tuning
from nsi.geometry import RING
from nsi.network import Network
from nsi.run import checkpoint

MEASURES = (
    "r_W", "r_W_near", "r_W_identifiable", "identifiable_fraction", "r_gate", "r_gate_effective", "heading_error_5s",
    "selectivity", "seconds",
)  # fmt: skip
TRUST = (
    "frobenius_W", "frobenius_total", "gate_slope", "gate_error", "coverage", "coverage_total", "coverage_gate",
    "direct_share", "true_direct_share",
)  # fmt: skip
CIRCUITS = {
    "ring": [],
    "gain": ["--circuit", "gain"],
    "stimulated": ["--stimulus", 4],
    "holding": ["--circuit", "holding"],
    "holding, stimulated": ["--circuit", "holding", "--stimulus", 4],
}
# of the published code, repaired so that it runs, on its own simulated data: one run of 10 000 updates on one core
PUBLISHED = {
    "published code, separated": {"r_W": 0.406, "r_gate": 0.826, "seconds": 1418},
    "published code, control": {"r_W": 0.202, "seconds": 1138},
}


def table(rows):
    """What the fits recover, as Markdown. rows: {"circuit, fit": {measure: values over seeds}}."""
    names = [*rows, *(f"gain, {name}" for name in PUBLISHED)]
    columns = {"n": [len(row["r_W"]) for row in rows.values()] + [1] * len(PUBLISHED)}
    for m in MEASURES:
        cells = [spread(m, row[m]) if any(v is not None for v in row.get(m, [])) else "–" for row in rows.values()]
        columns[f"`{m}`"] = cells + [f"{row[m]:g}" if m in row else "–" for row in PUBLISHED.values()]
    return runs.turned(names, columns)


def trust_table(rows):
    """How far the separated fits can be trusted, as Markdown. rows: as for `table`."""
    rows = {name: row for name, row in rows.items() if name.endswith("separated")}
    columns = {
        f"`{m}`": [spread(m, row[m]) if any(v is not None for v in row.get(m, [])) else "–" for row in rows.values()]
        for m in TRUST
    }
    return runs.turned(list(rows), columns)


def spread(measure, values):
    """Mean and s.d. over seeds, as the tables show them; of seconds the median, since other work can delay a fit."""
    values = [v for v in values if v is not None]
    return f"{np.median(values):.0f}" if measure == "seconds" else runs.spread(values)


def true_direct_share(rec, truth):
    """What train.py's `direct_share` should be: the direct path in the true total, by regression over all weights."""
    n = rec.rates.shape[-1]
    total = connectivity.true_total(truth, rec.rates, rec.dt / rec.tau)
    return float(np.sum(total * truth["W"][:n, :n]) / np.sum(total**2))


def one_seed(circuit, seed, args, folder):
    """Simulate and fit. Returns: {"separated": measures, "the circuit itself": ..., "control", "least squares"}."""
    name = circuit.replace(", ", "-")
    data = folder / f"{name}-{seed}.npz"
    runs.simulate(data, "--seed", seed, "--trials", args.trials, "--steps", args.steps, *CIRCUITS[circuit])
    rec = recordings.load(data)
    truth = recordings.load_truth(data, rec)
    places = RING.find(rec.rates)
    heading = RING.decode(rec.rates, places)[..., 0]
    updates, n = runs.updates(args), rec.rates.shape[-1]
    results = {}

    def fitted(which, *flags):
        out = folder / f"{name}-{seed}-{which}"
        metrics = runs.fit(data, out, "--seed", seed, *flags, *updates)
        net = checkpoint.networks(out / "model.pt")[0][0]
        free = prediction.predict(net, rec, warmup=20)[..., : net.n]
        maps = tuning.tuning_maps(free, heading, rec.velocity[..., 0])
        results[which] = {k: metrics[k] for k in (*MEASURES, *TRUST) if k in metrics} | {
            "seconds": metrics["train_seconds"] + metrics["solve_seconds"],
            "selectivity": float(np.abs(tuning.direction_selectivity(maps)).mean()),
        }
        return out, net

    out, _ = fitted("separated")
    with np.load(out / "connectivity.npz") as file:
        found = dict(file)
    determined = found["identifiable"]
    if rec.stimulus is not None:
        results["separated"]["true_direct_share"] = true_direct_share(rec, truth)
    if circuit in ("ring", "gain") and seed < args.seeds / 2:
        _, control = fitted("control", "--control", "--no-errors")
        scores = connectivity.scores(control, truth, RING, places, determined)
        results["control"]["r_W_identifiable"] = scores["r_W_identifiable"]
        began = time.perf_counter()
        alpha = rec.dt / rec.tau if rec.tau else 1.0  # the gain network's own, which the fits are not told
        W, gate = least_squares(rec, alpha, args.least_squares_samples)
        rival = Network(W, np.zeros((1, n)), np.zeros(n), alpha, n)
        scores = connectivity.scores(rival, truth, RING, places, determined)
        results["least squares"] = {k: scores[k] for k in MEASURES if k in scores}
        results["least squares"]["r_gate"] = connectivity.correlation(gate, truth["gate"])
        results["least squares"]["seconds"] = time.perf_counter() - began
    if circuit != "gain":  # the circuit itself, run from where the fits are: what noise leaves of its prediction
        weights = (truth["W"], truth["W_in"], truth["b"])
        itself = Network(*(np.float32(x) for x in weights), rec.dt / rec.tau, n)
        held_out = rec.trials(json.loads((out / "metrics.json").read_text())["held_out_trials"])
        wrong = prediction.heading_error(itself, held_out, RING, places)
        own = connectivity.true_effective_gate(truth, rec)
        results["the circuit itself"] = {
            "r_W": 1.0, "heading_error_5s": float(np.nanmean(wrong)),
            "r_gate_effective": float(connectivity.correlation(connectivity.effective_gate(itself, rec), own)),
        }  # fmt: skip
    return results


def circuit_of(row):
    """The circuit of a row's name, "circuit, fit"."""
    return row.rpartition(", ")[0]


def main():
    p = runs.options(__doc__, 2, CIRCUITS)
    p.add_argument("--least-squares-samples", type=int, default=20000, help="at most, per neuron")
    args = p.parse_args()
    some = dict(zip(CIRCUITS, (1, 1, 0.5, 0.5, 0.5), strict=True))
    some = {c: max(1, round(share * args.seeds)) for c, share in some.items()}
    jobs = [(c, seed) for c in args.circuits for seed in range(some[c])]
    folder_of_page = runs.folder_of(__file__)
    with tempfile.TemporaryDirectory() as folder:
        each = runs.each(lambda job: one_seed(*job, args, Path(folder)), jobs)
    named = ({f"{c}, {name}": row for name, row in found.items()} for (c, _), found in zip(jobs, each, strict=True))
    rows = runs.gathered(named)
    before = runs.read(folder_of_page)
    rows = {name: row for name, row in before.items() if circuit_of(name) not in args.circuits} | rows
    rows = dict(sorted(rows.items(), key=lambda item: list(CIRCUITS).index(circuit_of(item[0]))))
    runs.write(folder_of_page, rows)
    runs.page(folder_of_page, recovery=table(rows), trust=trust_table(rows))
    print(table(rows) + "\n\n" + trust_table(rows))


if __name__ == "__main__":
    main()
