"""Neurons that were not recorded: how well hidden units stand for them, and what is assumed for that.

The same kind of circuit is recorded in several ways (HIDDEN), and as train.py does, a network with the estimate's
weights among recorded neurons is trained under its constraints, and once under none. Its hidden units are matched one
to one with the hidden neurons of their kind on training trials and compared on held-out ones. Of circuits that break a
constraint (BROKEN) it is asked whether the recording speaks against it; of recordings with missing neurons, or without
velocity (LESS), what is estimated. Writes results.json, unrecorded.png, tables.md and the page. Run it from the top
folder, as `python -m experiments.unrecorded`.
"""

import matplotlib.pyplot as plt
import numpy as np

import nsi
from experiments import runs
from experiments.benchmark.tasks import loaded
from nsi import figures, geometry, recordings
from nsi.evaluation import metrics, prediction
from nsi.hidden import diagnostics, matching
from nsi.run import connections, setup
from nsi.simulation import circuits, simulate_recording
from nsi.simulation.observation import record_neurons, select_neurons

FOLDER = runs.folder_of(__file__)
FIRST_SEED = 100
HIDDEN = {  # circuit, neurons recorded, options of the fit
    "compass: constrained": ("ring", "compass", []),
    "compass: unconstrained": ("ring", "compass", ["--set", "constraints=none"]),
    "shifters: constrained": ("ring", "shifters", []),
    "half of each: constrained": ("ring", "half", []),
}
BROKEN = {  # a constraint that is wrong, each; and one in which none is
    "inhibited shifters (excited)": "inhibited", "coupled shifters (apart)": "coupled",
    "two types of shifters (types)": "mixed", "ring": "ring",
}  # fmt: skip
LESS = {"all of the compass": 1, "half of the compass": 2, "a quarter of the compass": 4, "no velocity": 0}
MAIN = "r_match", "r2_hidden", "r2_hidden_baseline", "heading_error_5s"
OF_HIDDEN = (*MAIN, "r_match_response", "r_match_input", "r2_hidden_linear")
BLOCKS = "r_W_recorded", "r_W_to_hidden", "r_W_from_hidden", "r_W_among_hidden"
OF_ESTIMATE = "r_W", "W_size", "r_total", "r_gate_effective", "gate_error"
MODULE = "experiments.unrecorded.__main__"


def simulated(circuit, seed, sizes, neurons="compass"):
    """A recording of some neurons of a circuit. Returns: dict, as recordings.save writes it."""
    return record_neurons(simulate_recording(circuits.CIRCUITS[circuit](), seed, *sizes), neurons, seed)


def fit_hidden(name, seed, sizes, updates):
    """The network of hidden units of one of HIDDEN, against the hidden neurons. Returns: {measure: value}."""
    import train

    circuit, neurons, options = HIDDEN[name]
    rec, truth = loaded(simulated(circuit, seed, sizes, neurons))
    some, held_out, _ = recordings.split(rec)
    shape, alpha = geometry.of(rec), rec.dt / rec.tau
    _, settings = train.parse([str(word) for word in ("--seed", seed, "--alpha", alpha, *options, *updates)])
    settings = setup.choose_settings(settings, some, shape, name)
    weights = connections.weights_for_networks(nsi.estimate(some, calibrated=False), alpha)
    net = train.fit_hidden(*weights, some, settings)[0]
    found = matching.measures(net, rec, truth)
    wrong = prediction.heading_error(net, held_out, shape, geometry.places_of(rec, shape))
    return metrics.valid_json(found | {"heading_error_5s": float(np.nanmean(wrong))})


def warn(name, seed, sizes):
    """Whether held-out trials of one of BROKEN speak against the constraint `apart`. Returns: {"warned": 0.0 or 1.0}"""
    rec, _ = loaded(simulated(BROKEN[name], seed, sizes))
    sentences = diagnostics.late(recordings.split(rec)[1], rec.dt / rec.tau, geometry.of(rec), "apart")
    return {"warned": float(any(sentences))}


def estimate_less(name, seed, sizes):
    """The estimate from one of LESS. Returns: {measure: value}, W_size being the slope on true direct weights."""
    data, every = simulated("ring", seed, sizes), LESS[name]
    if every == 0:
        del data["velocity"]
    else:
        data = select_neurons(data, np.arange(0, data["rates"].shape[-1], every))
    rec, truth = loaded({k: v for k, v in data.items() if k != "true_orders"})
    e = nsi.estimate(recordings.split(rec)[0], calibrated=False)
    found = runs.score_estimate(e, rec, truth)
    true = truth["W"][: len(e.W), : len(e.W)]
    found["W_size"] = float(np.sum(e.W * true) / np.sum(true**2))
    found = metrics.valid_json({m: found.get(m) for m in OF_ESTIMATE})
    return found | {"verdict": e.verdicts["description"]}


def table(results):
    """Hidden units against hidden neurons, as Markdown. results: {"hidden", "warned", "less": {row: values}}."""
    return runs.tabulate(results["hidden"], MAIN)


made = runs.made


def tables(results):
    """All measures, as the text of tables.md."""
    return runs.sections("neurons that were not recorded", {
        "Hidden units against hidden neurons": (
            "On held-out trials, recorded units clamped. `r_match`: mean correlation, one to one, matched on training "
            "trials (`r_match_response` undriven, `r_match_input` driven ones); `r2_hidden`: variance explained one to "
            "one; `r2_hidden_linear`: by a linear map from all hidden units of the kind; `r2_hidden_baseline`: by one "
            "from the recording (u, v, v·u).",
            runs.tabulate(results["hidden"], OF_HIDDEN),
        ),
        "Blocks of W after the match": (
            "Each hidden unit's column, or row, is correlated on its own, since its scale is free.",
            runs.tabulate(results["hidden"], BLOCKS),
        ),
        "Is a constraint right?": (
            "Three circuits violate one each, the last none. `warned`: share of recordings that speak against one.",
            runs.tabulate(results["warned"], ("warned",)),
        ),
        "Neurons or velocity missing from the recording": (
            "Of the estimate. `W_size`: slope of estimated on true direct weights. Without velocity the activity's own "
            "turning stands for it.",
            runs.tabulate(results["less"], (*OF_ESTIMATE, "verdict")),
        ),
    })  # fmt: skip


def figure(results):
    """r_match and the variance explained, of each recording and fit; one dot a recording."""
    rows, (drawn, axes) = results["hidden"], plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    titles = {"r_match": "correlation with hidden neurons, one to one", "r2_hidden": "variance of them explained"}
    for ax, (measure, title) in zip(axes, titles.items(), strict=True):
        for y, (name, row) in enumerate(rows.items()):
            colour = figures.SIMPLE if "unconstrained" in name else figures.FITTED
            ax.barh(y, np.mean(row[measure]), color=colour, alpha=0.35, height=0.6)
            ax.plot(row[measure], np.full(len(row[measure]), y), "o", color=colour, ms=4)
            if measure == "r2_hidden":
                ax.plot(np.mean(row["r2_hidden_baseline"]), y, "|", color=figures.TRUE, ms=14, mew=1.5,
                        label=None if y else "by a linear map from the recording")  # fmt: skip
        ax.set(xlabel=title, xlim=(0, 1.02), yticks=range(len(rows)))
        ax.set_yticklabels(rows, fontsize=8)
    axes[0].invert_yaxis()
    axes[1].legend(loc="upper left", bbox_to_anchor=(0, 1.14), fontsize=8)
    return drawn


def main():
    p = runs.options(__doc__, 1, trials=30)
    p.add_argument("--recorded", nargs="+", choices=HIDDEN, default=list(HIDDEN), help="recordings, each with its fit")
    args = p.parse_args()
    sizes, updates = (args.trials, args.steps), runs.updates(args)
    kinds = {
        "hidden": ("fit_hidden", args.recorded, updates),
        "warned": ("warn", BROKEN),
        "less": ("estimate_less", LESS),
    }
    jobs = [(kind, name, FIRST_SEED + k) for kind, (_, names, *_) in kinds.items() for name in names
            for k in range(args.seeds)]  # fmt: skip

    def one(job):
        kind, name, seed = job
        function, _, *rest = kinds[kind]
        return runs.apart(MODULE, function, name, seed, sizes, *rest)

    found = dict(zip(jobs, runs.each(one, jobs, args.workers), strict=True))
    results = {"made": f"{runs.size(args)}, from seed 100 on"}
    for kind in kinds:
        results[kind] = runs.gathered({name: row} for (of, name, _), row in found.items() if of == kind)
    runs.write(FOLDER, results)
    runs.publish(FOLDER, results, table, made, tables=tables, unrecorded=figure)


if __name__ == "__main__":
    main()
