"""A second species: what the estimate says of a mouse's head-direction cells, and what networks predict.

*Estimate*: as of the flies, of five pieces of the session; `--parts estimate` does this alone. *Prediction*: on
held-out stretches, as metrics.json has it. *Null models*: velocity of other stretches; rates reversed in time; each
cell's rates of another stretch. Writes results.json, mouse.png and the tables. Run it from the top folder, as
`python -m experiments.mouse`.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from experiments.flies import estimate
from nsi import figures, geometry, recordings
from nsi.evaluation.weights import effective_gate
from nsi.run import checkpoint, cli

NULLS = "velocity of other stretches", "rates reversed in time"  # of the gate's test
COARSE = 5  # steps of 20 ms: beyond the s.d. of the smoothing
AHEAD = "0.25", "0.5", "1", "2"


def nulls(rec, rng):
    """Recordings that lack what a fit is to find. Returns: {name: Recording}."""
    backward, apart = rec.rates.copy(), rec.rates.copy()
    for k, length in enumerate(rec.valid.sum(1)):
        backward[k, :length] = rec.rates[k, :length][::-1]
    whole = np.flatnonzero(rec.valid.all(1))
    for cell in range(rec.rates.shape[-1]):
        apart[whole, :, cell] = rec.rates[rng.permutation(whole), :, cell]
    changed = {"rates reversed in time": backward, "each cell of another stretch": apart}
    return {"velocity of other stretches": recordings.shuffled(rec, 0)} | {
        name: recordings.Recording(**vars(rec) | {"rates": rates, "heading": None}) for name, rates in changed.items()
    }


def profile(found, places):
    """Mean of a matrix (n, n) by the signed distance of its pairs, in bins of 30 degrees. Returns: list of 12."""
    apart = geometry.RING.difference(places.T, places)
    which = np.floor((apart + np.pi) / (np.pi / 6)).astype(int) % 12
    off = ~np.eye(len(found), dtype=bool)
    return [float(found[(which == k) & off].mean()) if ((which == k) & off).any() else None for k in range(12)]


def table(results):
    """Prediction, as Markdown. results: of results.json."""
    first = results["recording"][0]["heading_error"]
    rows = [[name, *(runs.spread([one["heading_error"][s]["error"] for one in each]) for s in AHEAD)]
            for name, each in results.items() if name in NAMES]  # fmt: skip
    for name, key in (("*integrator, its gain the recording's*", "integrator"), ("*bump that stays*", "stay")):
        rows.append([name, *(runs.spread([first[s][key]]) for s in AHEAD)])
    return runs.markdown(["error, rad", *(f"{s} s" for s in AHEAD)], rows)


def answer(results):
    """What the estimate answers, in sentences."""
    found = results["estimate"]
    main, own = estimate.main_of(found), list(found["kinetics"].values())[-1]
    best, usual = estimate.likeliest(main), estimate.likeliest(own)
    rival, lead = estimate.closest(main, "responses", best)
    alphas, slow = (np.array([one["alpha"] for one in each]) for each in (main, found["coarse"]))
    over = estimate.leads(main, "mechanisms", estimate.HIDDEN)[estimate.FILTERED]
    coarse = estimate.leads(found["coarse"], "mechanisms", estimate.HIDDEN)[estimate.MULTIPLIED]
    fits = estimate.count([one["description"] == "fits" for one in found["each"]])
    none = "; ".join(f"{name}: {estimate.found_in(found['gate'][name])}" for name in NULLS)
    tau, tau_slow = (estimate.interval(dt / a, 3) for dt, a in ((found["dt"], alphas), (COARSE * found["dt"], slow)))
    by = estimate.interval(lead, 3, True)
    return (
        f"`nsi.estimate` describes {fits} pieces of the session; the whole: "
        f'"{found["together"]["description"]}". It finds a gate in {estimate.found_in(found["gate"]["recording"])} '
        f"({none}). Likeliest response: {best} (over {rival} {by} per sample; on samples by the rate itself: {usual}). "
        f"tau: {tau} s; with every {COARSE}th step {tau_slow} s. Velocity one synapse later leads over a filtered one "
        f"at once by {estimate.interval(over, 4, True)}; with every {COARSE}th step over velocity at once by "
        f"{estimate.interval(coarse, 4, True)}."
    )


def made(results):
    """What runs the results are of, as a sentence."""
    return f"{runs.made(results)} Estimate: {results['estimate']['made']}."


def tables(results):
    """What the estimate says of the pieces, as the text of tables.md."""
    return runs.sections("the mouse", {
        "Estimate by samples": (
            "Log likelihood per sample that one description is better by, mean (95 % interval over five pieces of the "
            "session). Samples: by the neuron's rate one step before, or by the rate itself, as shares of the highest.",
            estimate.kinetics_table(results["estimate"]),
        ),
        "What nsi.estimate says": ("Piece by piece.", estimate.verdict_table(results["estimate"])),
    })  # fmt: skip


NAMES = "recording", "velocity of other stretches", "rates reversed in time", "each cell of another stretch"


def _row(one, key):
    return np.array([one["heading_error"][s][key] for s in AHEAD], float)  # NaN where there are too few samples


def draw(results):
    """Prediction, and what is read off."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.1))
    ahead, each = [float(s) for s in AHEAD], results["recording"]
    for names, colour, label in (
        (NAMES[1:], "#c9c9c9", "null models"),
        (NAMES[:1], figures.FITTED, "network, each seed"),
    ):
        for k, one in enumerate(one for name in names for one in results[name]):
            axes[0].plot(ahead, _row(one, "error"), color=colour, lw=1, label=None if k else label)
    for key, colour, style in (("integrator", figures.SIMPLE, "--"), ("stay", figures.TRUE, ":")):
        axes[0].plot(ahead, _row(each[0], key), style, color=colour, label=key)
    axes[0].set(xlabel="seconds ahead", ylabel="error (rad)", ylim=(0, None), title="(a) held-out stretches")
    axes[0].legend(fontsize=7)
    distance = np.arange(-165, 180, 30)
    for name, colour in (("W", figures.FITTED), ("gate", figures.SIMPLE)):
        x = np.array([results["profiles"][name]], float)[0]
        axes[1].plot(distance, x / np.nanmax(np.abs(x)), "o-", ms=3, color=colour, label=f"{name}, scaled to 1")
    axes[1].axhline(0, color="grey", lw=0.5)
    axes[1].set(xlabel="to minus from (deg)", xticks=range(-180, 181, 90), title="(b) W and gate by distance, one fit")
    axes[1].legend(fontsize=7)
    return figure


def main():
    p = cli.Parser("Fit a mouse's head-direction cells, and test the fit.")
    p.add_argument("--data", type=Path, default="data/mouse.npz", help="as experiments.mouse.read writes")
    p.add_argument("--seeds", type=int, default=3, help="fits of the recording; null models are fitted once")
    p.add_argument("--updates", type=int, default=1100, help="of every fit")
    runs.add_parts(p)
    args = p.parse_args()
    rec, folder = recordings.load(args.data), runs.folder_of(__file__)
    results = runs.redo(folder, args.parts, lambda: fit_networks(rec, args), lambda: ask_estimate(rec))
    runs.publish(folder, results, answer, table, made, tables=tables, mouse=draw)


def ask_estimate(rec):
    """What the estimate says, piece by piece of the session. Returns: dict, JSON."""
    null = {k: v for k, v in nulls(rec, np.random.default_rng(0)).items() if k in NULLS}
    return estimate.answers(rec, null) | {"coarse": coarse(rec), "made": runs.source()}


def coarse(rec):
    """Kinetics of the pieces with every COARSE-th step only."""
    thin = replace(rec, rates=rec.rates[:, ::COARSE], velocity=rec.velocity[:, ::COARSE], dt=COARSE * rec.dt,
                   heading=None, lengths=-(-rec.valid.sum(1) // COARSE))  # fmt: skip
    return [estimate.kinetics_of(one, next(iter(estimate.SELECTIONS.values()))) for one in estimate.split(thin)]


def fit_networks(rec, args):
    """What networks predict, of the recording and of null models. Returns: dict, JSON."""
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, one in {"recording": rec, **nulls(rec, np.random.default_rng(0))}.items():
            path = Path(temporary) / "mouse.npz"
            recordings.save(path, **{k: v for k, v in vars(one).items() if v is not None})
            results[name] = []
            for seed in range(args.seeds if one is rec else 1):
                out = Path(temporary) / f"{name} {seed}"
                found = runs.fit(path, out, "--seed", seed, "--updates", args.updates, "--set", "calibrated=no")
                keys = ("heading_error", "loss", "variance", "turning", "decoding_error", "identifiable_fraction")
                results[name].append({k: found[k] for k in keys if k in found})
                if one is rec and seed == 0:
                    (net,), _ = checkpoint.networks(out / "model.pt")
                    weights = {"W": net.W[: net.n, : net.n], "gate": effective_gate(net, rec)[0]}
                    places = geometry.places_of(rec, geometry.RING)
                    results["profiles"] = {name: profile(W, places) for name, W in weights.items()}
                print(f"  {name}, seed {seed}", flush=True)
    results["made"] = f"{args.seeds} fits of {args.updates} updates, 1 of each null model; {runs.source()}"
    return results


if __name__ == "__main__":
    cli.run(main)
