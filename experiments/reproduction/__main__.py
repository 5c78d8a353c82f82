"""The publication reproduced: networks trained with input separation and without, and the estimate, over seeds.

Each seed simulates its own recording, and trains networks once more with one change to the defaults at a time, on which
the estimate does not depend. Writes results.json, tables.md and the page. Run it from the top folder, as
`python -m experiments.reproduction`.
"""

import numpy as np

import nsi
from experiments import runs
from experiments.benchmark.tasks import loaded
from nsi import geometry, recordings
from nsi.evaluation import tuning
from nsi.network import predict
from nsi.simulation import circuits, simulate_recording

MAIN = "r_W", "r_W_near", "r_gate_effective", "heading_error_5s"
MEASURES = *MAIN, "frobenius_W", "r_gate", "gate_slope", "gate_error", "selectivity"
CIRCUITS = "ring", "gain"
VARIANTS = {  # of the training
    "no warm-up": "--warmup 0",
    "no forcing": "--forcing 0",
    "no drive penalty": "--drive-penalty 0",
    "mean squared error": "--loss mse",
    "initial W 1 (Glorot)": "--init-scale 1",
    "lr 3e-3": "--lr 3e-3",
    "lr 2e-2": "--lr 2e-2",
}
FITS = {"separated": "", "control": "--control"} | VARIANTS


def fits(results, variants):
    """The rows of the fits that vary the training, or of all others. results: {"made", "circuit, fit": {measure:
    values}}."""
    rows = {name: row for name, row in results.items() if name != "made"}
    return {name: row for name, row in rows.items() if (name.split(", ", 1)[1] in VARIANTS) == variants}


def table(results):
    """What the networks and the estimate recover, as Markdown. results: as for `fits`."""
    return runs.tabulate(fits(results, False), MAIN)


made = runs.made


def tables(results):
    """All measures, as the text of tables.md. results: as for `fits`."""
    return runs.sections("the reproduction", {
        "All fits": (
            "Mean ± s.d. over seeds, each with its own recording. `r_gate`: of the gate as a product of weights; "
            "`selectivity`: mean absolute (R − L) / (R + L) of the response units' rates in turns to the right and "
            "left. *The circuit itself*: the network that made the recording, run like a fit.",
            runs.tabulate(fits(results, False), MEASURES),
        ),
        "One change to the training": (
            "; ".join(f"{name}: `{option}`" for name, option in VARIANTS.items()) + ".",
            runs.tabulate(fits(results, True), MEASURES),
        ),
    })  # fmt: skip


def one_seed(circuit, seed, sizes, updates):
    """Simulate, train and estimate. Returns: {"circuit, fit": {measure: value}}."""
    simulated = circuits.CIRCUITS[circuit]()
    rec, truth = loaded(simulate_recording(simulated, seed, *sizes))
    train, held_out, _ = recordings.split(rec)
    shape = geometry.of(rec)
    heading = shape.decode(rec.rates, geometry.places_of(rec, shape))[..., 0]
    rows = {}
    for name, options in FITS.items():
        net = runs.train_network(train, "--seed", seed, *options.split(), *updates)
        free = predict(net, rec, warmup=20)[..., : net.n]
        maps = tuning.tuning_maps(free, heading, rec.velocity[..., 0])
        rows[name] = runs.score_network(net, rec, held_out, truth)
        rows[name]["selectivity"] = float(np.abs(tuning.direction_selectivity(maps)).mean())
    found = runs.score_estimate(nsi.estimate(train, calibrated=False), rec, truth)
    rows["estimate"] = {m: found[m] for m in MEASURES if m in found}
    if "W_in" in truth and len(truth["b"]) > rec.rates.shape[-1]:  # its error is what noise leaves
        own = runs.score_network(runs.circuit_of(rec, truth), rec, held_out, truth)
        rows["the circuit itself"] = {m: own[m] for m in MAIN}
    return {f"{circuit}, {name}": row for name, row in rows.items()}


def main():
    args = runs.options(__doc__, 2, CIRCUITS).parse_args()
    results, folder = runs.run_seeds(__file__, "one_seed", args.circuits, args), runs.folder_of(__file__)
    runs.write(folder, results)
    runs.publish(folder, results, table, made, tables=tables)


if __name__ == "__main__":
    main()
