"""Real flies: what the estimate and trained networks say of E-PG activity and walking velocity.

*Estimate*: estimate.py. *Prediction*, leaving one fly out, beside a bump that stays and integrators: prediction.py.
*Wiring* against the connectome, and null models: wiring.py. *Neurons that no fit reads*, P-EN1: neurons.py.
*Clear bump*, of E-PG activity alone, selects what is scored; no fit selects.

`--parts networks` does all but the first, `--parts estimate` the first. All networks have the settings of fit.py, and
predict by the mean of their replicas' bumps; each replica draws flies with replacement, and ranges are over replicas.
Writes results.json, fly.png, tables.md and the page. Run it from the top folder, as `python -m experiments.flies`.
"""

from pathlib import Path

import numpy as np
import torch

from experiments import runs
from experiments.flies import estimate
from experiments.flies.figures import fly as draw
from experiments.flies.fit import train_on_flies
from experiments.flies.neurons import leads, share, unseen
from experiments.flies.prediction import (
    GAINS,
    HORIZONS,
    LAGS,
    integrated,
    integrators,
    leave_one_out,
    missed,
    pieces,
    scores,
    vector,
)
from experiments.flies.wiring import connectome, correlations, displacement, match, nulls, read
from nsi import recordings
from nsi.errors import BadInput
from nsi.run import cli

__all__ = [
    "GAINS", "LAGS", "displacement", "integrated", "integrators", "leads", "missed", "nulls", "pieces", "share",
    "vector",
]  # fmt: skip
NULLS = "shuffled velocity", "reversed rates"  # of the gate's test
RIVALS = "integrator", "integrator, filtered"
READ = {"r_connectome": 3, "displacement": 0, "gate": 4, "turning_gain": 2}  # measure: digits


def interval(values, digits):
    """'median (lowest to highest)' over the bootstrap, or over flies."""
    low, middle, high = np.percentile(values, [0, 50, 100])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def answer(results):
    """What the estimate answers, in sentences."""
    found, gate = results["estimate"], {name: row["gate"] for name, row in results["read"].items()}
    null = max(max(values) for name, values in gate.items() if name != "recording")
    control = found["control"]["through an indicator"]
    lead = f"{estimate.interval(control, 3, True)} per sample, in {estimate.count(control)}"
    return (
        f"`nsi.estimate` says that its signals describe {described(found)} flies; of all nine together: "
        f'"{found["together"]["description"]}". Its test finds a gate in '
        f"{estimate.found_in(found['gate']['recording'])}; the lowest of {len(gate['recording'])} trained networks' "
        f"gates is {min(gate['recording']) / null:.0f} times the highest null model's. A simulated circuit whose "
        "velocity multiplies connections *at once* looks, through an indicator, as if velocity acted one synapse later "
        f"({lead}): the flies' calcium cannot tell."
    )


def described(found):
    """In how many flies nsi.estimate's signals describe the recording."""
    return estimate.count([one["description"] == "fits" for one in found["each"]])


def made(results):
    """What runs the results are of, as a sentence."""
    return f"{runs.made(results)} Estimate: {results['estimate']['made']}."


def by_horizon(rows, cell=runs.spread):
    """{name: (flies, horizons)} as Markdown. cell: of the flies' values at a horizon (default: mean ± s.d.)."""
    rows = [[name, *(cell(x) for x in np.array(values).T)] for name, values in rows.items()]
    return runs.markdown(["", *(f"{h:g} s" for h in HORIZONS)], rows)


def table(results):
    """What the estimate answers, as Markdown. results: of results.json."""
    found = results["estimate"]
    main, usual = estimate.main_of(found), estimate.likeliest(list(found["kinetics"].values())[-1])
    best = estimate.likeliest(main)
    rival, lead = estimate.closest(main, "responses", best)
    over = estimate.leads(main, "mechanisms", estimate.HIDDEN)
    later = over[estimate.FILTERED]
    alphas = np.array([one["alpha"] for one in main])
    each = [one["alpha"] for one in found["each"]]
    network, own, integrator = (
        np.array(error)[:, HORIZONS.index(1.0)]
        for error in (results["error"]["network"], found["error"]["estimate"], results["error"]["integrator"])
    )
    rows = [
        ["response", f"{best}, over {rival} by {estimate.interval(lead, 3, True)}", estimate.likeliest_in(main, best),
         f"samples by the rate itself: {usual}"],
        ["alpha = dt / tau", f"{estimate.interval(alphas, 2)}, tau {estimate.interval(found['dt'] / alphas, 2)} s", "–",
         f"`nsi.estimate`: {min(each):.2f} to {max(each):.2f}"],
        ["velocity one synapse later, over at once",
         estimate.interval(over[estimate.MULTIPLIED], 4, True), estimate.count(over[estimate.MULTIPLIED]),
         f"over a filtered velocity, at once: {estimate.interval(later, 4, True)}, {estimate.count(later)}"],
        ["gate", "found", estimate.found_in(found["gate"]["recording"]),
         "; ".join(f"{name} {estimate.found_in(found['gate'][name])}" for name in NULLS)],
        ["error after 1 s, rad", runs.spread(own), "–", f"integrator's minus it: "
         f"{estimate.interval(integrator - own, 3, True)}, network's: {estimate.interval(network - own, 3, True)}"],
    ]  # fmt: skip
    return runs.markdown(["question", "estimate (95 % over flies)", "flies", "null model, or rival"], rows)


def tables(results):
    """All numbers, as the text of tables.md."""
    found, network = results["estimate"], np.array(results["error"]["network"])
    better = {name: np.array(results["error"][name]) - network for name in RIVALS}
    captions = {
        "error": "Mean |angle| in rad between predicted and recorded bump, mean ± s.d. over flies.",
        "error, clear bump": "The same in trials whose bump is clearer than the median trial's.",
        "amplitude": "Correlation of predicted and recorded size of the bump.",
    }
    read = [[name, *(interval(row[k], d) for k, d in READ.items())] for name, row in results["read"].items()]
    read.append(["correlations of the rates", interval(results["correlation"]["r_connectome"], 3), "–", "–", "–"])
    lead = [[name, *(runs.spread(row[side], 1) for side in ("right", "left"))] for name, row in results["lead"].items()]
    shares = [[name, runs.spread(row)] for name, row in results["share"].items()]
    return runs.sections("real flies", {
        "Estimate by samples": (
            "Log likelihood per sample that one description is better by, mean (95 % interval over flies). Samples: by "
            "the neuron's rate one step before, or by the rate itself, as shares of the highest; response and alpha: "
            "with a velocity that acts one synapse later.",
            estimate.kinetics_table(found),
        ),
        "What nsi.estimate says": ("Fly by fly.", estimate.verdict_table(found)),
        **{kind.capitalize(): (say, by_horizon(results[kind] | found[kind])) for kind, say in captions.items()},
        "Error of an integrator minus the network's": (
            "In brackets: on how many flies the network is better.",
            by_horizon(better, lambda x: f"{runs.spread(x)} ({(x > 0).sum()}/{len(x)})"),
        ),
        "Wiring and gate": (
            "Median (lowest to highest) over networks fitted to flies drawn with replacement. `r_connectome`: of W's "
            "profile with E-PG to E-PG synapses minus their path through Delta7, times one free ratio; `displacement`: "
            "from where input units receive to where they send, degrees (connectome: 55); `gate`: odd first harmonic "
            "of the effective gate; `turning_gain`: turning of the free bump within 1 s against the fly's.",
            runs.markdown(["", *(f"`{name}`" for name in READ)], read),
        ),
        "Lead of the bump": (
            "Degrees ahead of E-PG's bump in turns above 1 rad/s.", runs.markdown(["", "right", "left"], lead),
        ),
        "Share of P-EN1's variance explained": (
            "By one linear map, fitted on every second trial and scored on the others, for each fly.",
            runs.markdown(["map from", "share"], shares),
        ),
    })  # fmt: skip


def main():
    p = cli.Parser("Test the fit to real flies on other flies, on neurons and on wiring.")
    p.add_argument("--data", type=Path, default="data/fly.npz", help="as experiments.flies.read writes")
    p.add_argument("--connectome", type=Path, default="data/hemibrain_hd_152.npz", help="see the page")
    p.add_argument("--updates", type=int, default=800, help="of every fit")
    p.add_argument("--replicas", type=int, default=4, help="networks of every fit but the one to the recording")
    runs.add_parts(p)
    options = p.parse_args()
    rec, folder = recordings.load(options.data), runs.folder_of(__file__)
    results = runs.redo(folder, options.parts, lambda: fit_networks(rec, options), lambda: ask_estimate(rec))
    runs.publish(folder, results, answer, table, made, tables=tables, fly=draw)


def ask_estimate(rec):
    """What the estimate says, fly by fly. Returns: dict, JSON."""
    found = estimate.answers(rec, {k: v for k, v in nulls(rec, np.random.default_rng(0)).items() if k in NULLS})
    alphas = [one["alpha"] for one in estimate.main_of(found)]
    found |= scores({"estimate": estimate.leave_one_out(rec, alphas)}, rec) | {"control": estimate.control()}
    return found | {"made": runs.source()}


def fit_networks(rec, options):
    """What networks predict, and what is read off them. Returns: dict, JSON."""
    pen, wiring = recordings.load_truth(options.data, rec).get("held_out_rates"), connectome(options.connectome)
    if pen is None:
        raise BadInput(f"{options.data}: no held_out_rates (P-EN1); make it with python -m experiments.flies.read")
    updates, few = ("--updates", str(options.updates)), ("--replicas", str(options.replicas))
    torch.set_flush_denormal(True)
    results = scores(leave_one_out(rec, *updates, *few), rec)
    cut, fits, results["read"] = pieces(rec)[0], {}, {}
    for name, one in {"recording": rec, **nulls(rec, np.random.default_rng(0))}.items():
        fits[name] = train_on_flies(one, *updates, *(() if one is rec else few))
        results["read"][name] = read(fits[name], one, cut, wiring)
        print(f"  fitted {name}", flush=True)
    results |= unseen(rec, pen, fits["recording"], fits["shuffled velocity"])
    each = correlations(rec)
    results["correlation"] = {"profile": each, "r_connectome": [match(np.array(c), *wiring)[0] for c in each]}
    results["connectome"] = {"direct": wiring[0].tolist(), "delta7": wiring[1].tolist()}
    results["made"] = f"{len(set(rec.animal))} flies, {len(rec.rates)} trials; {runs.source()}"
    return results


if __name__ == "__main__":
    cli.run(main)
