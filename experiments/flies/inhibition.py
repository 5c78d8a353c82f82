"""One assumption about real flies: recorded E-PG neurons act on each other through inhibition alone.

In the connectome E-PG neurons have few synapses onto each other, none beyond their neighbours, and a strong inhibitory
path through Delta7; most of what excites them comes from neurons that were not recorded. `--assume inhibition` keeps
every weight from E-PG to E-PG at or below 0, so that excitation has to pass through the input units. Fits of fit.py
with it and without, side by side:

*Left out*: each fly is predicted by networks fitted to the others. Their input units are run along its record and held
against its P-EN1 neurons, which no fit reads: how far they lead, the share of P-EN1 that a linear map from their states
explains, fitted on the other flies, and, with no P-EN1 used, their picture on the ring (`neurons.placed`), before and
after what E-PG itself tells is taken from both. Rivals of the share are linear maps from E-PG and velocity.
*Is the assumption wrong?* If it were, prediction would be worse with it: differences fly by fly, and how often as large
a mean difference comes of flies whose signs are drawn at random (all of them counted).
*Wiring*: the profile of W against minus the connectome's E-PG to E-PG path through Delta7, and that of null models.

Writes inhibition.json, inhibition.png and the page's tables. Run it from the top folder, as
`python -m experiments.flies.inhibition`.
"""

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from experiments import runs
from experiments.flies.fit import fitted
from experiments.flies.neurons import alike, input_units, leads, mapped, placed
from experiments.flies.prediction import HORIZONS, missed, pieces, predict, vector
from experiments.flies.wiring import connectome, displacement, nulls, profile
from nsi import figures, files, recordings
from nsi.connectivity import correlation
from nsi.network import synaptic_state
from nsi.run import cli

ASSUMED = "inhibition"
FITS = {"nothing assumed": "none", ASSUMED: "inhibition", f"{ASSUMED}, shuffled velocity": "inhibition"}
TOLD = {"lead right": 1, "lead left": 1, "share": 3, "picture": 3, "partial": 3, "displacement": 1}  # digits


def left_out(rec, pen, seen, *options):
    """Every fly seen by networks fitted to the others.

    rec: all flies; pen: their P-EN1; seen: the recording that is fitted, rec or another of the same trials; options: of
    the fits. Returns: {measure: one value for each fly}.
    """
    cut, trial = pieces(rec)
    found = {name: [] for name in ("error", *TOLD)}
    for k in np.unique(rec.animal):
        nets = fitted(seen.trials(rec.animal != k), *options)
        other, fly = rec.animal != k, rec.animal == k
        here, piece = rec.trials(fly), rec.animal[trial] == k
        one = recordings.Recording(cut.rates[piece], cut.velocity[piece], cut.dt)
        states, drives = zip(*(input_units(net, rec) for net in nets), strict=True)
        lead = leads(vector(np.mean(drives, 0)[fly]), here)
        drawn = np.mean([placed(net, x[fly]) for net, x in zip(nets, states, strict=True)], 0)
        values = {
            "error": missed(np.angle(predict(nets, one)), one).mean(0).tolist(),
            "lead right": lead["right"][0], "lead left": lead["left"][0],
            "share": float(np.mean([mapped(x, pen, rec, other, fly) for x in states])),
            "picture": alike(drawn, pen[fly], here), "partial": alike(drawn, pen[fly], here, True),
            "displacement": float(np.mean([displacement(net) for net in nets])),
        }  # fmt: skip
        for name, value in values.items():
            found[name].append(value)
        print(f"  {' '.join(map(str, options[-1:]))}: left out fly {k + 1} of {rec.animal.max() + 1}", flush=True)
    return found


def rivals(rec, pen, alpha=0.5):
    """Share of P-EN1 on flies left out by linear maps, fitted on the others, from E-PG and velocity. By name."""
    filtered = lambda x, *alphas: np.concatenate([synaptic_state(x, a) for a in alphas], -1)  # noqa: E731
    e, v = rec.rates, rec.velocity
    either = np.concatenate([np.maximum(0, v), np.maximum(0, -v)], -1)  # right and left turns apart
    times = lambda e, v: np.concatenate([e * v[..., k : k + 1] for k in range(v.shape[-1])], -1)  # noqa: E731
    two = (alpha, 0.2)
    seen = {
        "E-PG and velocity": [filtered(e, alpha), filtered(v, alpha)],
        "and their product": [filtered(x, alpha) for x in (e, v, e * v)],
        "and products with turns to either side": [filtered(x, *two) for x in (e, either, times(e, either))],
    }  # fmt: skip
    fly = rec.animal
    share = lambda x: [mapped(x, pen, rec, fly != k, fly == k) for k in np.unique(fly)]  # noqa: E731
    return {name: share(np.concatenate(x, -1)) for name, x in seen.items()}


def wiring(rec, synapses, *options):
    """Profiles of fits under the assumption, of the recording and of null models, against minus the Delta7 path.

    synapses: `connectome`'s. Returns: {name: {"profile": (replicas, 9), "r_delta7", "displacement": (replicas,)}}.
    """
    found = {}
    for name, one in {"recording": rec, **nulls(rec, np.random.default_rng(0))}.items():
        nets = fitted(one, "--assume", FITS[ASSUMED], *options)
        profiles = [profile(net.W[: net.n, : net.n]) for net in nets]
        found[name] = {
            "profile": [p.tolist() for p in profiles],
            "r_delta7": [float(np.nan_to_num(correlation(p, -synapses[1]))) for p in profiles],
            "displacement": [displacement(net) for net in nets],
        }
        print(f"  wiring: {name}", flush=True)
    return found


def by_chance(differences):
    """How often flies whose signs are drawn at random have as large a mean difference, either way. All are counted."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    return float(np.mean(np.abs(signs @ differences) >= abs(np.sum(differences)) - 1e-12))


def neurons_table(results):
    """What input units are, with the assumption and without, beside P-EN1 itself, as Markdown."""
    rows = {"recorded P-EN1": {f"lead {side}": v for side, v in results["P-EN1"].items()}} | results["left out"]
    rows |= {name: {"share": row} for name, row in results["rivals"].items()}
    cells = {f"`{m}`": [runs.spread(row[m], d) if m in row else "–" for row in rows.values()] for m, d in TOLD.items()}
    return runs.turned(list(rows), cells)


def errors_table(results):
    """Errors of prediction with the assumption and without, and the test of it, as Markdown."""
    head, rows = ["", *(f"{h:g} s" for h in HORIZONS)], []
    for name, row in results["left out"].items():
        rows.append([name, *(runs.spread(x) for x in np.transpose(row["error"]))])
    with_, without = (np.array(results["left out"][name]["error"]) for name in (ASSUMED, "nothing assumed"))
    worse = (with_ - without).T
    cells = (f"{runs.spread(x)} (worse on {(x > 0).sum()}/{len(x)}; {by_chance(x):.2f})" for x in worse)
    return runs.markdown(head, [*rows, ["*with it, less without*", *cells]])


def wiring_table(results):
    """Profiles against the Delta7 path, as Markdown."""
    middle = lambda x, d: f"{np.median(x):.{d}f} ({np.min(x):.{d}f} to {np.max(x):.{d}f})"  # noqa: E731
    measures = {"r_delta7": 3, "displacement": 0}
    rows = [[name, *(middle(row[m], d) for m, d in measures.items())] for name, row in results["wiring"].items()]
    return runs.markdown(["", "`r_delta7`", "`displacement`"], rows)


def figure(results):
    """Leads, errors and profiles, with the assumption and without."""
    drawn, axes = plt.subplots(1, 3, figsize=(12, 3.4))
    shown = {"recorded P-EN1": figures.TRUE, "nothing assumed": figures.SIMPLE, ASSUMED: figures.FITTED}
    for k, (name, colour) in enumerate(shown.items()):
        row = results["left out"].get(name)
        sides = [results["P-EN1"][s] if row is None else row[f"lead {s}"] for s in ("left", "right")]
        axes[0].plot([3 * k, 3 * k + 1], sides, color=colour, lw=0.6, alpha=0.5)
        axes[0].plot([3 * k, 3 * k + 1], np.mean(sides, 1), "o-", color=colour, label=name)
    axes[0].axhline(0, color=figures.TRUE, lw=0.6)
    axes[0].set_xticks([0, 1, 3, 4, 6, 7], ["left", "right"] * 3)
    axes[0].set(ylabel="ahead of E-PG, °", title="(a) flies left out, turning")
    axes[0].legend(fontsize=7)
    error = {name: np.array(results["left out"][name]["error"]) for name in ("nothing assumed", ASSUMED)}
    worse = error[ASSUMED] - error["nothing assumed"]
    axes[1].plot(HORIZONS, worse.T, color=figures.FITTED, lw=0.6, alpha=0.5)
    axes[1].plot(HORIZONS, worse.mean(0), "o-", color=figures.FITTED)
    axes[1].axhline(0, color=figures.TRUE, lw=0.6)
    axes[1].set(xlabel="horizon, s", ylabel="error with it less without, rad", title="(b) does the assumption cost?")
    apart = np.arange(9) * 22.5
    for name, colour in (("recording", figures.FITTED), ("randomised phases, blurred", "#9a9a9a")):
        profiles = np.array(results["wiring"][name]["profile"])
        profiles = profiles / np.abs(profiles).max(1, keepdims=True)
        axes[2].fill_between(apart, profiles.min(0), profiles.max(0), color=colour, alpha=0.2, lw=0)
        axes[2].plot(apart, np.median(profiles, 0), color=colour, label=name)
    delta7 = -np.array(results["connectome"])
    axes[2].plot(apart, delta7 / np.abs(delta7).max(), ".", color=figures.TRUE, label="connectome through Delta7")
    axes[2].set(xlabel="distance around the ring, °", ylabel="weight, largest 1", xticks=[0, 45, 90, 135, 180],
                title="(c) E-PG to E-PG")  # fmt: skip
    axes[2].legend(fontsize=7)
    return drawn


def main():
    p = cli.Parser("Fit real flies under the assumption that E-PG neurons inhibit each other, and test it.")
    p.add_argument("--data", type=Path, default="data/fly.npz", help="as experiments.flies.read writes")
    p.add_argument("--connectome", type=Path, default="data/hemibrain_hd_152.npz", help="see the page")
    p.add_argument("--updates", type=int, default=800, help="of every fit")
    p.add_argument("--replicas", type=int, default=2, help="networks for each fly left out; twice as many for wiring")
    options = p.parse_args()
    rec, folder = recordings.load(options.data), runs.folder_of(__file__)
    pen, synapses = recordings.load_held_out(options.data, rec), connectome(options.connectome)
    torch.set_flush_denormal(True)
    size = "--updates", str(options.updates), "--replicas", str(options.replicas)
    twice = *size, "--replicas", str(2 * options.replicas)
    moved = nulls(rec, np.random.default_rng(0))["shuffled velocity"]
    results = {
        "P-EN1": leads(vector(pen), rec), "rivals": rivals(rec, pen), "connectome": synapses[1].tolist(),
        "wiring": wiring(rec, synapses, *twice),
        "left out": {name: left_out(rec, pen, moved if "shuffled" in name else rec, *size, "--assume", assume)
                     for name, assume in FITS.items()},
    }  # fmt: skip
    runs.write(folder, results, "inhibition.json")
    figures.style()
    with files.whole(folder / "inhibition.png") as temporary:
        figure(results).savefig(temporary)
    tables = neurons_table(results), errors_table(results), wiring_table(results)
    runs.page(folder, **dict(zip(("neurons", "test", "delta7"), tables, strict=True)))
    print("\n\n".join(tables))


if __name__ == "__main__":
    cli.run(main)
