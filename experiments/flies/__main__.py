"""Real flies: what a fit to E-PG activity and walking velocity predicts of other flies, of neurons and of wiring.

*Prediction*, leaving one fly out: the network is clamped to the recording up to a moment, then runs freely on velocity
alone; its error is the mean |angle| between its bump and the recorded one. Rivals: a bump that stays; an integrator,
whose one gain is fitted on the same flies as the network, for each horizon; the same with a start filtered over the
last frames and a delayed velocity, both chosen on these flies too; and the control without separation.
*Clear bump*, the rule of selection, on E-PG activity alone: trials whose mean |sum of r exp(i angle)| / sum
of r is above the median of all trials. It selects what is scored; no fit selects.
*Wiring*: mean E-PG to E-PG weight by distance around the ring, against the connectome's E-PG to E-PG synapses minus
its path through Delta7, times one free ratio.
*Neurons that no fit reads*: the drive that the input units send to the wedges, against the P-EN1 neurons recorded there
(held_out_rates).
*Null models*: velocity of other trials, reversed rates, wedges with randomised phases, and these blurred by the optics.

All networks have the settings of fit.py, and predict by the mean of their replicas' bumps. Each replica draws
flies with replacement; ranges are over replicas. Writes results.json, fly.png, tables.md and the page.
Run it from the top folder, as `python -m experiments.flies`.
"""

from pathlib import Path

import numpy as np
import torch

from experiments import runs
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
from nsi import figures, recordings
from nsi.run import cli

__all__ = [
    "GAINS", "LAGS", "displacement", "integrated", "integrators", "leads", "missed", "nulls", "pieces", "share",
    "vector",
]  # fmt: skip
RIVALS = "integrator", "integrator, filtered"
READ = {"r_connectome": 3, "displacement": 0, "gate": 4, "turning_gain": 2}  # measure: digits


def interval(values, digits):
    """'median (lowest to highest)' over the bootstrap, or over flies."""
    low, middle, high = np.percentile(values, [0, 50, 100])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def answer(results):
    """The gate against null models, in a sentence."""
    gate = {name: row["gate"] for name, row in results["read"].items()}
    null = max((name for name in gate if name != "recording"), key=lambda name: np.median(gate[name]))
    return (
        f"Gate: {interval(gate['recording'], 4)} over {len(gate['recording'])} networks, in the null model with the "
        f"largest one ({null}) {interval(gate[null], 4)} over {len(gate[null])}: the medians differ by a factor of "
        f"{np.median(gate['recording']) / np.median(gate[null]):.0f}, the lowest network and the highest null by "
        f"{min(gate['recording']) / max(max(v) for k, v in gate.items() if k != 'recording'):.0f}. "
        f"r with the connectome's profile: {interval(results['read']['recording']['r_connectome'], 3)}; shuffled "
        f"velocity {interval(results['read']['shuffled velocity']['r_connectome'], 3)}; correlations of the rates "
        f"{interval(results['correlation']['r_connectome'], 3)}."
    )


def made(results):
    """What runs the results are of, as a sentence."""
    return runs.made(results)


def by_horizon(rows):
    """{name: (flies, horizons)} as Markdown, mean ± s.d. over flies."""
    rows = [[name, *(runs.spread(x) for x in np.array(values).T)] for name, values in rows.items()]
    return runs.markdown(["", *(f"{h:g} s" for h in HORIZONS)], rows)


def table(results):
    """Error of prediction as Markdown. results: of results.json."""
    names = ("network", *RIVALS, "bump that stays")
    return by_horizon({name: results["error"][name] for name in names})


def tables(results):
    """All numbers, as the text of tables.md."""
    parts = {}
    network = np.array(results["error"]["network"])
    captions = {
        "error": "Mean |angle| in rad between predicted and recorded bump, mean ± s.d. over flies.",
        "error, clear bump": "The same in trials whose bump is clearer than the median trial's.",
        "amplitude": "Correlation of predicted and recorded size of the bump.",
    }
    for kind, caption in captions.items():
        parts[kind.capitalize()] = caption, by_horizon(results[kind])
    rows = []
    for name in RIVALS:
        better = np.array(results["error"][name]) - network
        rows.append([name, *(f"{runs.spread(x)} ({(x > 0).sum()}/{len(x)})" for x in better.T)])
    table_of = runs.markdown(["", *(f"{h:g} s" for h in HORIZONS)], rows)
    parts["Error of an integrator minus the network's"] = (
        "In brackets: on how many flies the network is better.",
        table_of,
    )
    rows = [[name, *(interval(row[k], d) for k, d in READ.items())] for name, row in results["read"].items()]
    rows.append(["correlations of the rates", interval(results["correlation"]["r_connectome"], 3), "–", "–", "–"])
    parts["Wiring and gate"] = (
        "Median (lowest to highest) over networks fitted to flies drawn with replacement. `r_connectome`: of W's "
        "profile with E-PG to E-PG synapses minus their path through Delta7, times one free ratio; `displacement`: "
        "from where input units receive to where they send, degrees (connectome: 55); `gate`: odd first harmonic of "
        "the effective gate; `turning_gain`: turning of the free bump within 1 s against the fly's.",
        runs.markdown(["", *(f"`{name}`" for name in READ)], rows),
    )
    rows = [[name, runs.spread(row["right"], 1), runs.spread(row["left"], 1)] for name, row in results["lead"].items()]
    parts["Lead of the bump"] = (
        "Degrees ahead of E-PG's bump in turns above 1 rad/s.",
        runs.markdown(["", "right", "left"], rows),
    )
    rows = [[name, runs.spread(row)] for name, row in results["share"].items()]
    caption = "By one linear map, fitted on every second trial and scored on the others, for each fly."
    parts["Share of P-EN1's variance explained"] = caption, runs.markdown(["map from", "share"], rows)
    return runs.sections("real flies", parts)


def main():
    p = cli.Parser("Test the fit to real flies on other flies, on neurons and on wiring.")
    p.add_argument("--data", type=Path, default="data/fly.npz", help="as experiments.flies.read writes")
    p.add_argument("--connectome", type=Path, default="data/hemibrain_hd_152.npz", help="see the page")
    p.add_argument("--updates", type=int, default=800, help="of every fit")
    p.add_argument("--replicas", type=int, default=4, help="networks of every fit but the one to the recording")
    options = p.parse_args()
    rec, folder = recordings.load(options.data), runs.folder_of(__file__)
    pen, wiring = recordings.load_held_out(options.data, rec), connectome(options.connectome)
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
    runs.write(folder, results)
    figures.set_style()
    draw(results, HORIZONS).savefig(folder / "fly.png")
    runs.publish(folder, results, answer, table, made, tables=tables)


if __name__ == "__main__":
    cli.run(main)
