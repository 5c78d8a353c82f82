"""The publication reproduced: trained networks of every circuit, with input separation and without, over seeds.

Each seed simulates its own recording and starts its own fits. Writes results.json, tables.md and
the page. Run it from the top folder, as `python -m experiments.reproduction`.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from experiments import runs
from nsi import recordings
from nsi.evaluation import prediction, tuning
from nsi.evaluation.scores import true_effective_gate
from nsi.evaluation.weights import effective_gate
from nsi.geometry import RING
from nsi.network import Network, predict
from nsi.run import checkpoint
from nsi.sums import correlation

MEASURES = (
    "network_r_W", "network_r_W_near", "network_frobenius_W", "r_gate", "network_r_gate_effective",
    "network_gate_slope", "network_gate_error", "heading_error_5s", "selectivity", "seconds",
)  # fmt: skip
MAIN = "network_r_W", "network_r_W_near", "network_r_gate_effective", "heading_error_5s"
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


def cell(row, measure):
    """Mean ± s.d. over seeds of those that there are."""
    return spread(measure, row[measure]) if any(v is not None for v in row.get(measure, [])) else "–"


def fits(results):
    """The rows of the results. Returns: {"circuit, fit": {measure: values over seeds}}."""
    return {name: row for name, row in results.items() if name != "made"}


def table(results):
    """What the networks recover, as Markdown. results: {"made": ..., "circuit, fit": {measure: values over seeds}}."""
    rows = [[name, *(cell(row, m) for m in MAIN)] for name, row in fits(results).items()]
    published = {name: {"network_r_W": row["r_W"]} for name, row in PUBLISHED.items()}
    rows += [[f"gain, {name}", *(row.get(m, "–") for m in MAIN)] for name, row in published.items()]
    return runs.markdown(["", *(f"`{m.removeprefix('network_')}`" for m in MAIN)], rows)


def made(results):
    """What runs the results are of, as a sentence."""
    return runs.made(results)


def tables(results):
    """All measures, as the text of tables.md. results: as for `table`."""
    rows = fits(results)
    columns = {"n": [len(next(iter(row.values()))) for row in rows.values()]}
    columns |= {f"`{m}`": [cell(row, m) for row in rows.values()] for m in MEASURES}
    caption = (
        "Of the trained networks, mean ± s.d. over n seeds, each with its own recording and fits. `r_gate`: of the "
        "gate as a product of weights; `selectivity`: mean absolute (R − L) / (R + L) of the response units' rates in "
        "turns to the right and left; `seconds`: of training, median, beside other work. *The circuit itself*: the "
        "network that made the recording, run like a fit."
    )
    published = [[name, f"{row['r_W']:g}", f"{row['r_gate']:g}" if "r_gate" in row else "–", f"{row['seconds']:g}"]
                 for name, row in PUBLISHED.items()]  # fmt: skip
    return runs.sections("the reproduction", {
        "All fits": (caption, runs.turned(list(rows), columns)),
        "The publication's code": (
            "Repaired so that it runs, on its own simulated data; one run of 10 000 updates on one core. Not part of "
            "this project.",
            runs.markdown(["", "`r_W`", "`r_gate`", "`seconds`"], published),
        ),
    })  # fmt: skip


def spread(measure, values):
    """Mean and s.d. over seeds, as the tables show them; of seconds the median, since other work can delay a fit."""
    values = [v for v in values if v is not None]
    return f"{np.median(values):.0f}" if measure == "seconds" else runs.spread(values)


def one_seed(circuit, seed, args, folder):
    """Simulate and fit. Returns: {"separated": measures, "the circuit itself": ..., "control": ...}."""
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
        metrics = runs.fit(data, out, "--seed", seed, "--set", "calibrated=no", *flags, *updates)
        net = checkpoint.networks(out / "model.pt", trained=True)[0][0]
        free = predict(net, rec, warmup=20)[..., : net.n]
        maps = tuning.tuning_maps(free, heading, rec.velocity[..., 0])
        results[which] = {k: metrics[k] for k in MEASURES if k in metrics} | {
            "seconds": metrics["train_seconds"],
            "selectivity": float(np.abs(tuning.direction_selectivity(maps)).mean()),
        }
        return out, net

    out, _ = fitted("separated")
    if circuit in ("ring", "gain") and seed < args.seeds / 2:
        fitted("control", "--control")
    if circuit != "gain":  # the circuit itself, run from where the fits are: what noise leaves of its prediction
        weights = (truth["W"], truth["W_in"], truth["b"])
        itself = Network(*(np.float32(x) for x in weights), rec.dt / rec.tau, n)
        held_out = rec.trials(json.loads((out / "metrics.json").read_text())["held_out_trials"])
        wrong = prediction.heading_error(itself, held_out, RING, places)
        own = true_effective_gate(truth, rec)
        results["the circuit itself"] = {
            "network_r_W": 1.0, "heading_error_5s": float(np.nanmean(wrong)),
            "network_r_gate_effective": float(correlation(effective_gate(itself, rec), own)),
        }  # fmt: skip
    return results


def circuit_of(row):
    """The circuit of a row's name, "circuit, fit"."""
    return row.rpartition(", ")[0]


def main():
    p = runs.options(__doc__, 2, CIRCUITS)
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
    made_of = before.pop("made", {}) | dict.fromkeys(rows, runs.size(args))
    rows = {name: row for name, row in before.items() if circuit_of(name) not in args.circuits} | rows
    rows = dict(sorted(rows.items(), key=lambda item: list(CIRCUITS).index(circuit_of(item[0]))))
    results = {"made": {name: made_of[name] for name in rows}} | rows
    runs.write(folder_of_page, results)
    runs.publish(folder_of_page, results, table, made, tables=tables)


if __name__ == "__main__":
    main()
