"""Grid cells: is the two-dimensional attractor identified, and what is needed for it?

Simulates sheets of grid cells (cann.py --circuit grid) whose animal walks in a box, and fits each as a user would, with
nothing but the file: connected alike all around, recorded passively; with connections that differ by 20 %, passively
and with known current pulses; and 80 of the cells in no order, as rates and as Poisson spikes. Beside the fits: the
control, the correlation matrix of the rates, and the circuit itself. Includes the fit of the default sheet in
runs/grid, if it is there, as the page's commands make it. Then classifies recordings of a ring, a torus, two rings,
place cells and noise (nsi/geometry/classify.py). No recording has the bump's phases.

Writes results.json, grid.png, tables.md and the page. Run it from the top folder, as `python -m experiments.grid`.
"""

import tempfile
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

import cann
from experiments import runs
from experiments.grid import figures as pictures
from experiments.grid import shapes
from nsi import figures, files, geometry, recordings
from nsi.evaluation import prediction
from nsi.evaluation.scores import deviation, per_component, true_effective_gate
from nsi.evaluation.weights import effective_gate
from nsi.geometry import rate_maps
from nsi.network import Network
from nsi.run import checkpoint
from nsi.simulation import circuits
from nsi.simulation.heterogeneity import vary_weights
from nsi.sums import correlation

FOLDER = runs.folder_of(__file__)
CASES = {  # jitter, amplitude of pulses, how many cells are recorded (None: all), whether as spikes
    "uniform": (0.0, 0.0, None, False),
    "jitter 0.2, passive": (0.2, 0.0, None, False),
    "jitter 0.2, pulses": (0.2, 1.0, None, False),
    "80 cells": (0.0, 0.0, 80, False),
    "80 cells, spikes": (0.0, 0.0, 80, True),
}
PEAK_HZ = 30.0  # at rate 1
SMOOTHING_S = 0.03
MEASURES = ("r_W", "r_W_near", "frobenius_W", "r_dev", "dev_slope", "coverage", "coverage_total", "coverage_gate",
            "identifiable_fraction", "r_gate", "r_gate_effective", "gate_error", "heading_error_5s", "shifter_fraction",
            "heterogeneity", "seconds")  # fmt: skip


def recording(case, seed, side, trials, steps):
    """The arrays of a case's data file. Returns: dict, as `recordings.save` writes it."""
    jitter, amplitude, count, spikes = CASES[case]
    circuit = vary_weights(circuits.grid(side), np.random.default_rng(1000 + seed), jitter)
    data = cann.simulate_recording(circuit, seed, trials, steps, amplitude=amplitude)
    if count is None:
        return {k: v for k, v in data.items() if k != "heading"}
    rng, n = np.random.default_rng(2000 + seed), side**2
    order = rng.permutation(n)
    some, rest = order[: min(count, n // 2)], order[min(count, n // 2) :]
    units = np.concatenate([some, rest, np.arange(n, len(data["true_b"]))])
    rates = data["rates"][..., some]
    if spikes:
        counts = rng.poisson(rates * PEAK_HZ * data["dt"])
        rates = gaussian_filter1d(counts / (PEAK_HZ * data["dt"]), SMOOTHING_S / data["dt"], axis=1)
    hidden = np.concatenate([data["rates"][..., rest], data["hidden_rates"]], -1)
    unordered = {k: v for k, v in data.items() if k not in ("heading", "position", "true_orders")}
    # nor is it said where the bump is
    return unordered | {
        "rates": rates.astype(np.float32), "hidden_rates": hidden, "true_W": data["true_W"][np.ix_(units, units)],
        "true_W_in": data["true_W_in"][:, units], "true_b": data["true_b"][units],
        "true_gate": data["true_gate"][:, some][:, :, some], "phases": circuit.geometry.places(n)[some],
    }  # fmt: skip


def default():
    """The fit of the default sheet, as measured by the page's own commands. Returns: {measure: value}, or None."""
    path, run = runs.ROOT / "data" / "grid.npz", runs.ROOT / "runs" / "grid"
    metrics = files.read_json(run / "metrics.json")
    if not path.exists() or metrics is None or not metrics.get("finished", True):
        return None
    rec = recordings.load(path)
    shape, (trials, steps, n) = geometry.of(rec), rec.rates.shape
    found = {m: metrics.get(m) for m in MEASURES}
    found |= {"cells": n, "trials": trials, "steps": steps, "ahead": metrics["heading_error"]}
    own = itself(rec, recordings.load_truth(path, rec))
    places = geometry.places_of(rec, shape)
    return found | {"own": prediction.heading_table(own, rec.trials(metrics["held_out_trials"]), shape, places)}


def itself(rec, truth):
    """The simulated circuit as a network. Returns: Network."""
    weights = (truth[k].astype(np.float32) for k in ("W", "W_in", "b"))
    return Network(*weights, rec.dt / rec.tau, rec.rates.shape[-1])


def measured(case, seed, folder, sizes, rivals, options):
    """Simulate and fit one case; rivals: of how many seeds the control too.

    Returns: {estimator: {measure: value, list or None}}, and arrays to draw.
    """
    side, trials, steps = sizes
    path = folder / f"{case}-{seed}.npz"
    data = recording(case, seed, side, trials, steps)
    recordings.save(path, **data)
    out = folder / f"{case}-{seed}"
    metrics = runs.fit(path, out, "--seed", seed, *options)
    rec = recordings.load(path)
    shape, truth, n = geometry.of(rec), recordings.load_truth(path, rec), rec.rates.shape[-1]
    places, everyone = shape.find(rec.rates[rec.valid]), np.ones((n, n), bool)
    W, held_out = truth["W"][:n, :n], recordings.split(rec)[1]
    net = checkpoint.networks(out / "model.pt")[0][0]
    gates = effective_gate(net, rec), true_effective_gate(truth, rec)
    profiles = [[shape.mean_profile(g, places, everyone) for g in gate] for gate in gates]
    found = {"fit": {m: metrics.get(m) for m in MEASURES}}
    found["fit"] |= {"ahead": metrics["heading_error"], "dimensions": shape.dimensions}
    found["fit"]["r_gate_profile"] = per_component(correlation, *map(np.array, profiles))
    if "phases" in data and shape.dimensions == 2:
        found["fit"]["phase_error"] = misplaced(places, data["phases"])
    with np.load(out / "connectivity.npz", allow_pickle=False) as file:
        best, known = file["W"], file["identifiable"]
    rates = rec.rates[rec.valid]
    correlated = np.corrcoef(rates, rowvar=False)
    r_dev = deviation(correlated, W, known, shape, places)[0]
    found["correlation of the rates"] = {
        "r_W": finite(correlation(correlated, W)), "r_dev": finite(r_dev),
    }  # fmt: skip
    if case != "uniform":
        return found, None
    ahead = prediction.heading_table(itself(rec, truth), held_out, shape, places)
    found["the circuit itself"] = {"r_W": 1.0, "heading_error_5s": ahead["5"]["error"], "ahead": ahead}
    if seed < rivals:
        control = runs.fit(path, f"{out}-control", "--seed", seed, "--control", "--set", "calibrated=no", *options)
        found["control"] = {m: control.get(m) for m in MEASURES}
    return found, None if seed else drawn_arrays(data, best, W, gates)


def drawn_arrays(data, fitted, true, gates):
    """What the figure shows of a recording and its fit, as lists."""
    rates, position = (data[key].reshape(-1, data[key].shape[-1]) for key in ("rates", "position"))
    maps, _ = rate_maps.rate_maps(rates[:, [0]], position)
    profile = geometry.TORUS.profile  # these cells are in order
    arrays = {
        "bump": data["rates"][0, -1], "map": maps[0], "repeats": rate_maps.autocorrelogram(maps[0]),
        "W": [profile(W)[1] for W in (true, fitted)], "W_sd": profile(fitted)[2],
        "gate": [[profile(g)[1] for g in gate] for gate in gates[::-1]],
    }  # fmt: skip
    return {k: np.round(np.nan_to_num(v, nan=-9.0), 5).tolist() for k, v in arrays.items()}


def misplaced(found, places):
    """Mean distance (rad) of found phases from the true ones, the torus' symmetries and a shift left open."""
    errors = []
    for M in geometry.SYMMETRIES:
        turned = found @ M.T
        offset = np.angle(np.exp(1j * (places - turned)).mean(0))
        errors.append(geometry.TORUS.distance(turned + offset, places).mean())
    return float(min(errors))


def finite(value):
    """The value, or None (JSON has no NaN) where it is not finite."""
    return float(value) if np.isfinite(value) else None


def cell(values):
    """Mean ± s.d. over seeds; of components, of their mean."""
    known = [np.mean(v) for v in values if np.size(v) and None not in np.ravel(v)]
    return runs.spread(known) if known else "–"


def made(results):
    """What runs the results are of, as a sentence."""
    return runs.made({name: results["cases"][name] for name in results["made"]} | {"made": results["made"]})


def table(results):
    """What is found of each sheet, as Markdown."""
    names = ("r_W", "r_dev", "r_gate_effective", "heading_error_5s")
    rows = [[case, *(cell(found["fit"].get(m, [])) for m in names)] for case, found in results["cases"].items()]
    others = ("correlation of the rates", "control", "the circuit itself")
    rows += [[f"uniform: {name}", *(cell(results["cases"]["uniform"][name].get(m, [])) for m in names)]
             for name in others if name in results["cases"].get("uniform", {})]  # fmt: skip
    return runs.markdown(["", *(f"`{m}`" for m in names)], rows)


def tables(results):
    """All measures, as the text of tables.md."""
    return runs.sections("grid cells", {
        "All fits": (
            "`r_gate`, `r_gate_effective`, `r_gate_profile`: means over both components; the last compares effective "
            "gates as functions of phase difference. `heading_error_5s`: rad of displacement, a period being 7.26.",
            scores(results),
        ),
        "Error of the predicted phase by seconds ahead": ("rad, sheet *uniform*.", ahead(results)),
        "Intervals": (
            "`heterogeneity`: s.d. of single weights about the mean at their phase difference, relative to the r.m.s. "
            "weight; `coverage`: share of the 95 % intervals that contain the truth.",
            trust(results),
        ),
        "The default sheet": ("By the page's commands; of the gate, x and y.", sheet(results)),
        "Eighty cells in no order": ("`phase_error`: mean distance of found from true phases.", unordered(results)),
        "Which shape made a recording": ("Verdicts of nsi/geometry/classify.py, counted.", verdicts(results)),
    })  # fmt: skip


def scores(results):
    """The fits and their comparisons, as Markdown."""
    rows = [(f"{case}: {name}", row) for case, found in results["cases"].items() for name, row in found.items()]
    names = ("r_W", "r_W_near", "r_dev", "dev_slope", "r_gate", "r_gate_effective", "r_gate_profile",
             "heading_error_5s")  # fmt: skip
    return runs.turned([name for name, _ in rows], {f"`{m}`": [cell(row.get(m, [])) for _, row in rows] for m in names})


def trust(results):
    """How far single weights are found to differ, and what intervals of weights, totals and gate hold, as Markdown."""
    rows = {case: found["fit"] for case, found in results["cases"].items()}
    columns = {f"`{m}`": [cell(row.get(m, [])) for row in rows.values()]
               for m in ("heterogeneity", "coverage", "coverage_total", "coverage_gate")}  # fmt: skip
    return runs.turned(list(rows), columns)


def sheet(results):
    """The default sheet's fit against what is aimed at, as Markdown."""
    one = results["default"]
    size = f"{one['cells']} cells, {one['trials']} trials of {one['steps']} steps, n = 1"
    names = ("r_W", "r_W_near", "r_gate", "r_gate_effective", "coverage_total", "heading_error_5s")
    rows = [(f"`{m}`", ", ".join(f"{x:.3f}" for x in np.atleast_1d(one[m]).astype(float))) for m in names]
    last = [(name, f"{one[of]['5'][key]:.3f}") for name, of, key in (
        ("the same of the circuit itself", "own", "error"), ("of an ideal integrator", "ahead", "integrator"),
    ) if one[of]["5"][key] is not None]  # fmt: skip
    return runs.markdown([size, ""], rows + last)


def ahead(results):
    """Errors of the predicted phase by seconds ahead, of the uniform sheet, as Markdown."""
    even = results["cases"]["uniform"]
    columns = {f"{s} s": [] for s in even["fit"]["ahead"][0]}
    mean = lambda tables, s, which: cell([t[s][which] for t in tables])  # noqa: E731
    for seconds, column in zip(even["fit"]["ahead"][0], columns.values(), strict=True):
        column += [mean(even[name]["ahead"], seconds, "error") for name in ("fit", "the circuit itself")]
        column += [mean(even["fit"]["ahead"], seconds, which) for which in ("integrator", "stay")]
    return runs.turned(["fit", "the circuit itself", "ideal integrator", "bump that stays"], columns, 5)


def unordered(results):
    """What comes out of 80 cells in no order, as Markdown."""
    some = {case: found["fit"] for case, found in results["cases"].items() if case.startswith("80")}
    names = ("phase_error", "r_gate_profile", "r_W", "heading_error_5s")
    return runs.turned(list(some), {f"`{m}`": [cell(row.get(m, [])) for row in some.values()] for m in names})


def verdicts(results):
    """How often recordings of each kind were called what they are, as Markdown."""
    rows = results["verdicts"].items()
    said = lambda calls: ", ".join(f"{name} {calls.count(name)}" for name in dict.fromkeys(calls))  # noqa: E731
    return runs.markdown(["made by", "should be", "verdicts"], [(k, shapes.CASES[k][0], said(v)) for k, v in rows])


def main():
    p = runs.options(__doc__, 2)
    p.set_defaults(trials=60)
    p.add_argument("--cases", nargs="+", choices=[*CASES, "none"], default=list(CASES), help="which; others are kept")
    p.add_argument("--rivals", type=int, default=1, help="of how many seeds the control too")
    p.add_argument("--side", type=int, default=14, help="of the sheet of grid cells")
    p.add_argument("--shapes", type=int, default=5, help="recordings of each shape that a verdict is asked of")
    p.add_argument("--workers", type=int, help="at a time (default: one per core)")
    args = p.parse_args()
    sizes, results = (args.side, args.trials, args.steps), runs.read(FOLDER)
    items = [(case, seed) for case in args.cases if case in CASES for seed in range(args.seeds)]
    with tempfile.TemporaryDirectory() as folder:
        one = lambda item: measured(*item, Path(folder), sizes, args.rivals, runs.updates(args))  # noqa: E731
        each = runs.each(one, items, args.workers)
    cases = results.setdefault("cases", {})
    for case in {case for case, _ in items}:
        of_case = [found for (of, _), (found, _) in zip(items, each, strict=True) if of == case]
        cases[case] = cases.get(case, {}) | runs.gathered(of_case)  # with --rivals 0 theirs are kept
    for _, arrays in each:
        if arrays:
            results["drawn"] = arrays
    results["cases"] = {case: cases[case] for case in CASES if case in cases}
    results.setdefault("made", {}).update(
        {case: f"{runs.size(args)}, {args.side} × {args.side} cells" for case in args.cases if case in CASES}
    )
    results["default"] = default() or results.get("default")
    if args.shapes:
        results["verdicts"] = {
            name: [shapes.called(name, seed) for seed in range(args.shapes)] for name in shapes.CASES
        }
    runs.write(FOLDER, results)
    figures.set_style()
    with files.whole(FOLDER / "grid.png") as temporary:
        pictures.figure(results).savefig(temporary)
    runs.publish(FOLDER, results, table, made, tables=tables)


if __name__ == "__main__":
    main()
