"""Real flies: what a fit to E-PG activity and walking velocity predicts of flies, neurons and wiring it never saw.

*Prediction*, leaving one fly out: the network is held at the record up to a moment, then runs freely on velocity
alone; its error is the mean |angle| between its bump and the recorded one. Rivals: a bump that stays; an integrator,
whose one gain is fitted on the same flies as the network, for each horizon; the same with a start filtered over the
last frames and a delayed velocity, both chosen on these flies too; and the control without separation.
*Clear bump*, the rule of selection, which looks at E-PG activity alone: trials whose mean |sum of r exp(i angle)| / sum
of r is above the median of all trials. It selects what is scored; no fit selects.
*Wiring*: mean E-PG to E-PG weight by distance around the ring, against the connectome's E-PG to E-PG synapses minus
its path through Delta7, times one free ratio.
*Unseen neurons*: the drive that the input units send to the wedges, against the P-EN1 neurons recorded there, which no
fit reads (held_out_rates).
*Null models*: velocity of other trials, reversed rates, wedges with randomised phases, and these blurred by the optics.

All networks have the settings of fit.py, and predict by the mean of their replicas' bumps. Each replica draws
flies with replacement; ranges are over replicas. Writes results.json, fly.png and the page's tables.
Run it from the top folder, as `python -m experiments.flies`.
"""

from pathlib import Path

import numpy as np
import torch

from experiments import runs
from experiments.flies.figures import fly as draw
from experiments.flies.fit import fitted
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


def table(results):
    """The results as Markdown. results: of results.json."""
    parts = []
    network = np.array(results["error"]["network"])
    head = ["| | " + " | ".join(f"{h:g} s" for h in HORIZONS) + " |", "|" + " --- |" * (len(HORIZONS) + 1)]
    for kind in ("error", "error, clear bump", "amplitude"):
        rows = {name: np.array(values) for name, values in results[kind].items()}
        lines = [f"| {n} | " + " | ".join(runs.spread(x) for x in v.T) + " |" for n, v in rows.items()]
        if kind == "error":
            for name in RIVALS:
                better = np.array(rows[name]) - network
                cells = (f"{runs.spread(x)} ({(x > 0).sum()}/{len(x)})" for x in better.T)
                lines.append(f"| *{name}, minus network* | " + " | ".join(cells) + " |")
        parts.append("\n".join([f"`{kind}`", "", *head, *lines]))
    lines = ["| | `r_connectome` | `displacement` | `gate` | `turning_gain` |", "|" + " --- |" * 5]
    for name, row in results["read"].items():
        cells = (interval(row[k], d) for k, d in READ.items())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    r = interval(results["correlation"]["r_connectome"], 3)
    lines.append(f"| correlations of the rates, no model | {r} | – | – | – |")
    parts.append("\n".join(lines))
    lines = ["| | right | left |", "|" + " --- |" * 3]
    for name, row in results["lead"].items():
        lines.append(f"| lead of {name}, ° | {runs.spread(row['right'], 1)} | {runs.spread(row['left'], 1)} |")
    parts.append("\n".join(lines))
    lines = ["| linear map onto P-EN1 from | share explained |", "| --- | --- |"]
    lines += [f"| {name} | {runs.spread(row)} |" for name, row in results["share"].items()]
    parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main():
    p = cli.Parser("Test the fit to real flies on flies, neurons and wiring that it never saw.")
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
        fits[name] = fitted(one, *updates, *(() if one is rec else few))
        results["read"][name] = read(fits[name], one, cut, wiring)
        print(f"  fitted {name}", flush=True)
    results |= unseen(rec, pen, fits["recording"], fits["shuffled velocity"])
    each = correlations(rec)
    results["correlation"] = {"profile": each, "r_connectome": [match(np.array(c), *wiring)[0] for c in each]}
    results["connectome"] = {"direct": wiring[0].tolist(), "delta7": wiring[1].tolist()}
    runs.write(folder, results)
    figures.style()
    draw(results, HORIZONS).savefig(folder / "fly.png")
    runs.page(folder, flies=table(results))
    print(table(results))


if __name__ == "__main__":
    cli.run(main)
