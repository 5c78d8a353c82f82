"""Neurons that were not recorded: how well the hidden units of a fit stand for them, and what is assumed for that.

The same simulated circuit is recorded in several ways: its compass alone, its shifters alone, half of each, the compass
and ten shifters, half or a quarter of the compass, and the compass without the velocity. train.py is fitted with its
assumptions and without any. Hidden units are matched one to one with the hidden neurons of their kind on training
trials and compared on held-out ones; the baseline is a linear map from the recorded activity. Circuits that break
an assumption are recorded too: whether the fit warns of it is what is asked there.

Writes results.json, unrecorded.png, tables.md and the page. Run it from the top folder, as
`python -m experiments.unrecorded`.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from nsi import figures, files, geometry, recordings
from nsi.evaluation import prediction
from nsi.run import checkpoint

FOLDER = runs.folder_of(__file__)
RECORDED = {
    "compass": ["--record", "compass"],
    "shifters": ["--record", "shifters"],
    "half of each": ["--record", "half"],
    "compass and 10 shifters": ["--record", 10],
    "compass, holding": ["--circuit", "holding"],
    "compass, gain": ["--circuit", "gain"],
}
BROKEN = {  # an assumption that is wrong, each
    "inhibited shifters (excited)": ["--circuit", "inhibited"],
    "coupled shifters (apart)": ["--circuit", "coupled"],
    "two types of shifters (types)": ["--circuit", "mixed"],
}
LESS = {
    "no velocity": None,
    "half of the compass": 2,
    "a quarter of the compass": 4,
}  # one neuron of so many is recorded
FITS = {
    "assumed": [], "three times the updates": ["--updates", 1650], "nothing assumed": ["--set", "constraints=none"],
    "two starts": ["--replicas", 2],
}  # fmt: skip
STANDING = "hidden units for the missing"  # a fit of recordings that lack compass neurons
HIDDEN = (
    "r_match", "r_match_response", "r_match_input", "r2_hidden", "r2_hidden_linear", "r2_hidden_baseline",
)  # fmt: skip
BLOCKS = "r_W_recorded", "r_W_to_hidden", "r_W_from_hidden", "r_W_among_hidden"
REST = "r_W", "r_gate_effective", "gate_error", "loss", "heading_error_5s", "train_seconds"
TRUST = (
    "r_W", "W_size", "frobenius_W", "coverage", "r_total", "total_size", "coverage_total", "identifiable_fraction",
    "r_match_response",
)  # fmt: skip
RIGHT = "r_match", "hidden_agreement", "warned"
BLIND = "r_W", "r_gate_effective", "gate_error", "heading_error_5s", "true_velocity_5s"


def measured(name, seed, folder, sizes, updates, fits):
    """Record the circuit one way and fit it. Returns: {fit: {measure: value or None}}."""
    whole = data = folder / f"{name}-{seed}.npz"
    runs.simulate(data, "--seed", seed, *sizes, *(RECORDED | BROKEN).get(name, []))
    options = {fit: FITS[fit] for fit in fits}
    if name in BROKEN:
        options = {fit: option for fit, option in options.items() if fit in ("assumed", "two starts")}
    if name in LESS:
        data, options = less(data, LESS[name])
    found, quick = {}, [] if name in LESS else ["--set", "calibrated=no"]
    for fit, option in options.items():
        out = folder / f"{name}-{seed}-{fit}"
        metrics = runs.fit(data, out, "--seed", seed, *quick, *option, *updates)
        metrics |= sizes_of(data, out) | {"warned": float(bool(metrics["warnings"]))}
        if name == "no velocity":
            metrics["true_velocity_5s"] = ahead(whole, out)
        some = {m: metrics.get(m) for m in dict.fromkeys((*HIDDEN, *BLOCKS, *REST, *TRUST, *RIGHT, *BLIND))}
        mean = lambda v: None if None in v else float(np.mean(v))  # of replicas, or components  # noqa: E731
        found[fit] = {m: mean(v) if isinstance(v, list) else v for m, v in some.items()}
        found[fit]["warnings"] = metrics["warnings"]
    for path in {whole, data}:
        path.unlink()
    return found


def sizes_of(data, out):
    """How large the fitted direct weights, and the total, are relative to true direct weights: slopes of regression."""
    path = out / "connectivity.npz"
    if not path.exists():
        return {}
    with np.load(path) as fitted, np.load(data) as file:
        n = len(fitted["W"])
        true, known = file["true_W"][:n, :n], fitted["identifiable"]
        slope = lambda x: float(np.sum(x[known] * true[known]) / np.sum(true[known] ** 2))  # noqa: E731
        return {"W_size": slope(fitted["W"]), "total_size": slope(fitted["total"])} if known.any() else {}


def ahead(path, out):
    """Error of the heading 5 s ahead, rad, of a network that is given the true velocity after it was fitted without:
    the activity's own turning would look ahead. path: the whole recording; out: the fit's folder."""
    rec = recordings.load(path)
    shape = geometry.of(rec)
    places, net = geometry.places_of(rec, shape), checkpoint.networks(out / "model.pt")[0][0]
    return float(np.nanmean(prediction.heading_error(net, recordings.split(rec)[1], shape, places)))


def less(path, every):
    """A recording without its velocity (every: None), or with one compass neuron of `every` alone, the others being
    missing from the recording as shifters are. Returns: its path, and the options of its fits by name."""
    with np.load(path, allow_pickle=False) as file:
        data = dict(file)
    options = {"assumed": []}
    if every is None:
        del data["velocity"]
    else:
        del data["true_orders"]  # of all compass neurons
        n, size = data["rates"].shape[-1], len(data["true_b"])
        recorded = np.arange(0, n, every)
        order = np.concatenate([recorded, np.setdiff1d(np.arange(size), recorded)])
        rates = np.concatenate([data["rates"], data["hidden_rates"]], -1)[..., order]
        data |= {"rates": rates[..., : len(recorded)], "hidden_rates": rates[..., len(recorded) :],
                 "true_W": data["true_W"][np.ix_(order, order)], "true_W_in": data["true_W_in"][:, order],
                 "true_b": data["true_b"][order],
                 "true_gate": data["true_gate"][:, recorded][:, :, recorded]}  # fmt: skip
        options[STANDING] = ["--response-units", n - len(recorded)]
    out = path.with_name(f"less-{path.name}")
    np.savez(out, **data)
    return out, options


def cell(values):
    """Mean ± s.d. over seeds of those that there are; of small ones the mean alone, to two digits."""
    known = [v for v in values if v is not None]
    if known and 0 < max(np.abs(known)) < 0.005:
        return f"{np.mean(known):.2g}"
    return runs.spread(known) if known else "–"


def rows(results, chosen):
    """Rows of a table: (name, {measure: values}) of the recordings `chosen` and each of their fits."""
    some = [(name, fit, row) for name in chosen if name in results for fit, row in results[name].items()]
    return [(f"{name}: {fit} (n {len(row['r_W'])})", row) for name, fit, row in some]


MAIN = "r_match", "r2_hidden", "r2_hidden_baseline", "heading_error_5s"


def table(results):
    """Hidden units against hidden neurons, as Markdown. results: {recording: {fit: {measure: values}}}."""
    chosen = {name: of for name, of in results.items() if name in RECORDED and name != "compass, gain"}
    some = [(f"{name}: {fit}", of[fit]) for name, of in chosen.items() for fit in ("assumed", "nothing assumed")
            if fit in of]  # fmt: skip
    return runs.markdown(["", *(f"`{m}`" for m in MAIN)], [[n, *(cell(row[m]) for m in MAIN)] for n, row in some])


def made(results):
    """What runs the results are of, as a sentence."""
    return runs.made(results)


def tables(results):
    """All measures, as the text of tables.md."""
    named = [name for name in RECORDED if name != "compass, gain"]
    return runs.sections("neurons that were not recorded", {
        "Hidden units against hidden neurons": (
            "On held-out trials, recorded units clamped. `r_match`: mean correlation, one to one, matched on training "
            "trials (`r_match_response` undriven, `r_match_input` driven ones); `r2_hidden`: variance explained one to "
            "one; `r2_hidden_linear`: by a linear map from all hidden units of the kind; `r2_hidden_baseline`: by one "
            "from the recording (u, v, v·u).",
            part(results, named, HIDDEN),
        ),
        "Blocks of W after the match": (
            "Each hidden unit's column, or row, is correlated on its own, since its scale is free. Of the second "
            "network where there is one.",
            part(results, named, BLOCKS),
        ),
        "What the constraints cost elsewhere": (
            "Of the network that predicts.",
            part(results, [*named, "compass, gain"], REST),
        ),
        "Neurons missing from the recording": (
            "`W_size`, `total_size`: slope of fitted on true direct weights over identifiable pairs.",
            part(results, [name for name in LESS if name != "no velocity"], TRUST),
        ),
        "No velocity in the file": (
            "The activity's own turning stands for it. `true_velocity_5s`: error of the heading 5 s ahead when the "
            "fitted network is given the true velocity.",
            part(results, ["compass", "no velocity"], BLIND),
        ),
        "Is a constraint right?": (
            "Three circuits violate one each. `warned`: share of fits that warn of it; `hidden_agreement`: of two "
            "starts.",
            part(results, ["compass", "compass, holding", *BROKEN], RIGHT),
        ),
    })  # fmt: skip


def part(results, chosen, measures):
    """A table as Markdown. results: as for `table`."""
    some = rows(results, chosen)
    columns = {f"`{m}`": [cell(row.get(m, [])) for _, row in some] for m in measures}
    return runs.turned([name for name, _ in some], columns)


def figure(results):
    """r_match and the variance explained, recording by recording, with and without assumptions."""
    names = [name for name in RECORDED if name in results and name != "compass, gain"]
    drawn, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    colours = dict(zip(FITS, (figures.FITTED, "#d9a05b", figures.SIMPLE), strict=False))
    colours = {fit: c for fit, c in colours.items() if any(fit in results[name] for name in names)}
    for ax, measure, title in zip(axes, ("r_match", "r2_hidden"), ("correlation", "variance explained"), strict=True):
        for k, (fit, colour) in enumerate(colours.items()):
            values = [[v for v in results[name].get(fit, {}).get(measure, []) if v is not None] for name in names]
            x = np.arange(len(names)) + (k - 1) * 0.27
            height = [np.mean(v) if v else 0 for v in values]
            ax.bar(x, height, 0.25, color=colour, label=fit if ax is axes[0] else None)
            for place, each in zip(x, values, strict=True):
                ax.plot([place] * len(each), each, ".", color=figures.TRUE, ms=3)
        short = [n.replace(" and ", "\nand ").replace(" of", "\nof").replace(", ", ",\n") for n in names]
        ax.set_xticks(range(len(names)), short, fontsize=7)
        ax.set(title=f"{title}, one to one", ylim=(-0.05, 1.02), ylabel=title)
    baseline = [[v for v in results[name]["assumed"]["r2_hidden_baseline"] if v is not None] for name in names]
    axes[1].plot(range(len(names)), [np.mean(v) for v in baseline], "_", color=figures.TRUE, ms=22,
                 label="linear map from what was recorded")  # fmt: skip
    drawn.legend(ncols=4, loc="outside upper center", fontsize=8)
    return drawn


def main():
    p = runs.options(__doc__, 3)
    every = [*RECORDED, *BROKEN, *LESS]
    p.add_argument("--recorded", nargs="+", choices=every, default=every, help="which; others are kept")
    p.add_argument("--fits", nargs="+", choices=FITS, default=list(FITS), help="which, where all neurons of a kind are")
    p.add_argument("--workers", type=int, help="fits at a time (default: one per core)")
    args = p.parse_args()
    sizes, updates = ["--trials", args.trials, "--steps", args.steps], runs.updates(args)
    items = [(name, seed) for name in args.recorded for seed in range(args.seeds)]
    with tempfile.TemporaryDirectory() as folder:
        one = lambda item: measured(*item, Path(folder), sizes, updates, args.fits)  # noqa: E731
        each = runs.each(one, items, args.workers)
    results = runs.read(FOLDER)
    for name in args.recorded:
        found = [one for (other, _), one in zip(items, each, strict=True) if other == name]
        results[name] = results.get(name, {}) | {
            fit: {m: [one[fit][m] for one in found] for m in sorted(found[0][fit])} for fit in found[0]
        }
    made_of = results.get("made", {}) | dict.fromkeys(args.recorded, runs.size(args))
    results = {"made": made_of} | {name: results[name] for name in every if name in results}
    runs.write(FOLDER, results)
    runs.publish(FOLDER, results, table, made, tables=tables)
    figures.set_style()
    with files.whole(FOLDER / "unrecorded.png") as temporary:
        figure(results).savefig(temporary)


if __name__ == "__main__":
    main()
