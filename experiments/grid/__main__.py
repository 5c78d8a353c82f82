"""Grid cells: is the two-dimensional attractor identified, and what is needed for it?

Simulates sheets of grid cells (CASES) whose animal walks in a box, and puts each to the estimate, with nothing but the
recording; the first also to a trained network, beside the correlation of the rates and the circuit itself. Then
classifies recordings (shapes.py). Writes results.json, grid.png, tables.md and the page. Run it from the top folder, as
`python -m experiments.grid`.
"""

import argparse

import numpy as np

import cann
import nsi
from experiments import runs
from experiments.benchmark.tasks import loaded
from experiments.grid import figures as pictures
from experiments.grid import shapes
from nsi import geometry, recordings
from nsi.evaluation import metrics, prediction
from nsi.evaluation.scores import per_component, true_effective_gate
from nsi.evaluation.weights import effective_gate
from nsi.geometry import rate_maps
from nsi.simulation import circuits
from nsi.simulation.heterogeneity import vary_weights
from nsi.simulation.observation import select_neurons
from nsi.sums import correlation

FOLDER = runs.folder_of(__file__)
FIRST_SEED = 100
CASES = {  # jitter, amplitude of pulses, whether half of the cells are recorded, in no order, whether as spikes
    "uniform": (0.0, 0.0, False, False),
    "jitter 0.2, passive": (0.2, 0.0, False, False),
    "jitter 0.2, pulses": (0.2, 1.0, False, False),
    "half of the cells": (0.0, 0.0, True, False),
    "half of the cells, spikes": (0.0, 0.0, True, True),
}
PEAK_HZ = 30.0  # at rate 1
MAIN = "r_W", "frobenius_W", "r_gate_effective", "heading_error_5s"
SCORES = ("r_W", "r_W_near", "frobenius_W", "r_dev", "r_gate_effective", "r_gate_profile", "phase_error",
          "heading_error_5s")  # fmt: skip


def recording(case, seed, side, trials, steps):
    """The arrays of a case's data file. Returns: dict, as `recordings.save` writes it."""
    jitter, amplitude, half, spikes = CASES[case]
    circuit = vary_weights(circuits.grid(side), np.random.default_rng(1000 + seed), jitter)
    data = cann.simulate_recording(circuit, seed, trials, steps, amplitude=amplitude)
    if not half:
        return {k: v for k, v in data.items() if k != "heading"}
    rng, n = np.random.default_rng(2000 + seed), side**2
    some = rng.permutation(n)[: n // 2]
    data = {k: v for k, v in select_neurons(data, some).items() if k not in ("heading", "position")}
    if spikes:
        data["spikes"] = rng.poisson(data.pop("rates") * PEAK_HZ * data["dt"]).astype(np.float32)
    return data | {"phases": circuit.geometry.places(n)[some]}


def tables_ahead(net, rec, held_out):
    """prediction.heading_table of a network, the cells' places found in all trials."""
    shape = geometry.of(rec)
    return prediction.heading_table(net, held_out, shape, geometry.places_of(rec, shape))


def measured(case, seed, sizes, updates):
    """Simulate one case and put it to the estimate, the first also to a network.

    Returns: {method: {measure: value, list or None}}, and arrays to draw."""
    data = recording(case, seed, *sizes)
    rec, truth = loaded(data)
    train, held_out, _ = recordings.split(rec)
    shape, n = geometry.of(rec), rec.rates.shape[-1]
    e = nsi.estimate(train, calibrated=False)
    found = metrics.valid_json(runs.score_estimate(e, rec, truth))
    found = {m: found[m] for m in SCORES if m in found}
    found |= {"verdicts": e.verdicts, "dimensions": shape.dimensions, "n": n}
    places, everyone, true = geometry.places_of(rec, shape), np.ones((n, n), bool), true_effective_gate(truth, rec)
    profiles = [[shape.mean_profile(g, places, everyone) for g in gate] for gate in (e.gate, true)]
    found["r_gate_profile"] = per_component(correlation, *map(np.array, profiles))
    if "phases" in data and shape.dimensions == 2:
        found["phase_error"] = misplaced(places, data["phases"])
    if e.network is not None:
        found["ahead"] = tables_ahead(e.network, rec, held_out)
        found["heading_error_5s"] = found["ahead"]["5"]["error"]
    results = {"estimate": found}
    if case != "uniform":
        return results, None
    net = runs.train_network(train, "--seed", seed, *updates)
    circuit = runs.circuit_of(rec, truth)
    trained, own = (runs.score_network(a, rec, held_out, truth) for a in (net, circuit))
    results["trained network"] = trained | {"ahead": tables_ahead(net, rec, held_out)}
    correlated = np.corrcoef(rec.rates[rec.valid], rowvar=False)
    results["correlation of the rates"] = {"r_W": float(correlation(correlated, truth["W"][:n, :n]))}
    own = {m: own[m] for m in ("r_W", "heading_error_5s")}
    results["the circuit itself"] = own | {"ahead": tables_ahead(circuit, rec, held_out)}
    gates = {"true": true, "estimate": e.gate, "trained network": effective_gate(net, rec)}
    return results, drawn_arrays(data, {"true": truth["W"][:n, :n], "estimate": e.W, "trained network": net.W[:n, :n]},
                                 gates)  # fmt: skip


def drawn_arrays(data, weights, gates):
    """What the figure shows of a recording and of what is found, as lists. weights: {name: (n, n)}; gates: {name:
    (2, n, n)}; these cells are in order."""
    rates, position = (data[key].reshape(-1, data[key].shape[-1]) for key in ("rates", "position"))
    maps, _ = rate_maps.rate_maps(rates[:, [0]], position)
    profile = lambda W: geometry.TORUS.profile(W)[1]
    arrays = {"bump": data["rates"][0, -1], "map": maps[0], "repeats": rate_maps.autocorrelogram(maps[0])}
    arrays |= {f"W, {name}": profile(W) for name, W in weights.items()}
    arrays |= {f"gate, {name}": [profile(g) for g in gate] for name, gate in gates.items()}
    return {k: np.round(np.nan_to_num(v, nan=-9.0), 5).tolist() for k, v in arrays.items()}


def misplaced(found, places):
    """Mean distance (rad) of found phases from the true ones, the torus' symmetries and a shift left open."""
    errors = []
    for M in geometry.SYMMETRIES:
        turned = found @ M.T
        offset = np.angle(np.exp(1j * (places - turned)).mean(0))
        errors.append(geometry.TORUS.distance(turned + offset, places).mean())
    return float(min(errors))


def cell(values):
    """Mean ± s.d. over seeds; of components, of their mean."""
    return runs.spread([np.mean(v) for v in values if np.size(v) and None not in np.ravel(v)])


made = runs.made


def table(results):
    """What is found of each sheet, as Markdown."""
    return runs.tabulate(named(results), MAIN, cell)


def named(results):
    """The rows of all cases. Returns: {name: {measure: values}}."""
    return {
        case if method == "estimate" else f"{case}: {method}": row
        for case, found in results["cases"].items() for method, row in found.items()
    }  # fmt: skip


def tables(results):
    """All measures, as the text of tables.md."""
    return runs.sections("grid cells", {
        "All": (
            "Means over both components of the velocity; `r_gate_profile` compares effective gates as functions of "
            "phase difference; `phase_error`: mean distance of found from true phases of cells in no order. "
            "`heading_error_5s`: rad of displacement, a period being 7.26.",
            runs.tabulate(named(results), SCORES, cell),
        ),
        "Error of the predicted phase by seconds ahead": ("rad, sheet *uniform*.", ahead(results)),
        "Which shape made a recording": (
            "Verdicts of nsi/geometry/classify.py, counted; of commit ef66d0c.", verdicts(results),
        ),
    })  # fmt: skip


def ahead(results):
    """Errors of the predicted phase by seconds ahead, of the uniform sheet, as Markdown."""
    found = results["cases"]["uniform"]
    lines = {f"network of the {name}" if name == "estimate" else name: (row["ahead"], "error")
             for name, row in found.items() if "ahead" in row}  # fmt: skip
    lines |= {name: (found["trained network"]["ahead"], key)
              for name, key in (("ideal integrator", "integrator"), ("bump that stays", "stay"))}  # fmt: skip
    columns = {f"{s} s": [cell([t[s][key] for t in tables]) for tables, key in lines.values()]
               for s in found["trained network"]["ahead"][0]}  # fmt: skip
    return runs.turned(list(lines), columns, 5)


def verdicts(results):
    """How often recordings of each kind were called what they are, as Markdown."""
    rows = results["verdicts"].items()
    said = lambda calls: ", ".join(f"{name} {calls.count(name)}" for name in dict.fromkeys(calls))
    return runs.markdown(["made by", "should be", "verdicts"], [(k, shapes.CASES[k][0], said(v)) for k, v in rows])


def main():
    p = runs.options(__doc__, 1, trials=30)
    p.add_argument("--cases", nargs="+", choices=[*CASES, "none"], default=list(CASES), help="which; others are kept")
    p.add_argument("--side", type=int, default=12, help="of the sheet of grid cells")
    p.add_argument("--shapes", type=int, default=3, help="recordings of each shape that a verdict is asked of")
    args = p.parse_args()
    sizes, results = (args.side, args.trials, args.steps), runs.read(FOLDER)
    counts = {case: args.seeds if case == "uniform" else 1 for case in args.cases if case in CASES}
    items = [(case, FIRST_SEED + k) for case, count in counts.items() for k in range(count)]
    one = lambda item: runs.apart("experiments.grid.__main__", "measured", *item, sizes, runs.updates(args))
    each = dict(zip(items, runs.each(one, items, args.workers), strict=True))
    cases = results.setdefault("cases", {})
    for case, count in counts.items():
        cases[case] = runs.gathered([found for (of, _), (found, _) in each.items() if of == case])
        size = runs.size(argparse.Namespace(**vars(args) | {"seeds": count}))
        results.setdefault("made", {})[case] = f"{args.side} × {args.side} cells, {size}"
    results["drawn"] = next((arrays for _, arrays in each.values() if arrays), results.get("drawn"))
    results["cases"] = {case: cases[case] for case in CASES if case in cases}
    if args.shapes:
        results["verdicts"] = {
            name: [shapes.called(name, seed) for seed in range(args.shapes)] for name in shapes.CASES
        }
    runs.write(FOLDER, results)
    runs.publish(FOLDER, results, table, made, tables=tables, grid=pictures.figure)


if __name__ == "__main__":
    main()
