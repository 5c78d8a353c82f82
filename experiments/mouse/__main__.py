"""A second species: what the estimate says of a mouse's head-direction cells, and what networks predict.

*Estimate*: as of the flies, of five pieces of the session; `--parts estimate` does this alone. *Prediction*: on
held-out stretches, as metrics.json has it. *Null models*: velocity of other stretches; rates reversed in time; each
cell's rates of another stretch. *Asleep*: the network fitted awake runs without velocity from states in which no two
cells agree, until its bump has formed; correlations of its pairs, and of pairs awake, with those in REM and slow-wave
sleep, which no fit reads. Writes results.json, mouse.png and the tables. Run it from the top folder, as
`python -m experiments.mouse`.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from experiments.flies import estimate
from nsi import figures, geometry, network, recordings
from nsi.evaluation.weights import effective_gate
from nsi.run import checkpoint, cli

NULLS = "velocity of other stretches", "rates reversed in time"  # of the gate's test
COARSE = 5  # steps of 20 ms: beyond the s.d. of the smoothing
AHEAD = "0.25", "0.5", "1", "2"
START_COUNT = 1500  # random states
RUN_S = 4.0  # s that the network runs
KEPT_S = 1.0  # s, the last, that are kept


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


def pairs(rates):
    """Correlations of all pairs of cells. rates: (..., cells). Returns: (pairs,)."""
    C = np.corrcoef(rates.reshape(-1, rates.shape[-1]), rowvar=False)
    return np.nan_to_num(C[np.triu_indices(len(C), 1)])


def alone(net, rec, rng):
    """Rates of a network that runs without velocity from states in which no two cells agree. (starts, steps, n)."""
    u = network.synaptic_state(rec.rates, net.alpha)[rec.valid]
    start = np.zeros((START_COUNT, len(net.b)), np.float32)
    start[:, : net.n] = np.stack([rng.choice(u[:, cell], START_COUNT) for cell in range(net.n)], -1)
    steps = round(RUN_S / rec.dt)
    velocity = np.zeros((START_COUNT, steps, rec.velocity.shape[-1]), np.float32)
    rates = [r[:, : net.n] for _, r in network.run(net, velocity, start)]
    return np.stack(rates[-round(KEPT_S / rec.dt) :], 1)


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
    """Pairs asleep, as the text of tables.md."""
    asleep = {name: results["asleep"][name] for name in ("awake", *NAMES) if name in results["asleep"]}
    rows = [[name, *(runs.spread(r[sleep]) for sleep in ("REM", "SWS"))] for name, r in asleep.items()]
    found = runs.markdown(["", "REM", "slow-wave sleep"], rows)
    caption = "r of the pairs' correlations with those asleep; mean ± s.d. over seeds of the fit."
    return runs.sections("the mouse", {
        "Pairs asleep": (caption, found),
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
    """Prediction, what is read off, and the pairs asleep."""
    figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.1))
    ahead = [float(s) for s in AHEAD]
    each = results["recording"]
    for one in each:
        axes[0].plot(ahead, _row(one, "error"), color=figures.FITTED, lw=1)
    for name in NAMES[1:]:
        for one in results[name]:
            axes[0].plot(ahead, _row(one, "error"), color="#c9c9c9", lw=1, zorder=0)
    axes[0].plot([], [], color="#c9c9c9", label="null models")
    for key, colour, style in (("integrator", figures.SIMPLE, "--"), ("stay", figures.TRUE, ":")):
        axes[0].plot(ahead, _row(each[0], key), style, color=colour, label=key)
    axes[0].plot([], [], color=figures.FITTED, label="network, each seed")
    axes[0].set(xlabel="seconds ahead", ylabel="error (rad)", ylim=(0, None), title="(a) held-out stretches")
    axes[0].legend(fontsize=7)
    distance = np.arange(-165, 180, 30)
    for name, colour in (("W", figures.FITTED), ("gate", figures.SIMPLE)):
        x = np.array([results["profiles"][name]], float)[0]
        axes[1].plot(distance, x / np.nanmax(np.abs(x)), "o-", ms=3, color=colour, label=f"{name}, scaled to 1")
    axes[1].axhline(0, color="grey", lw=0.5)
    axes[1].set(xlabel="to minus from (deg)", xticks=range(-180, 181, 90), title="(b) W and gate by distance, one fit")
    axes[1].legend(fontsize=7)
    for ax, sleep, letter in zip(axes[2:], ("REM", "SWS"), "cd", strict=True):
        for name, colour in (("awake", figures.SIMPLE), ("network", figures.FITTED)):
            ax.plot(results["pairs"][name], results["pairs"][sleep], ".", ms=3, color=colour, label=name, alpha=0.7)
        ax.set(xlabel="correlation of a pair, awake or network", ylabel=f"correlation of a pair in {sleep}",
               title=f"({letter}) pairs in {sleep}")  # fmt: skip
        ax.legend(fontsize=7, markerscale=3)
    return figure


def main():
    p = cli.Parser("Fit a mouse's head-direction cells, and test the fit awake and asleep.")
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
    """What networks predict awake and asleep, of the recording and of null models. Returns: dict, JSON."""
    rng = np.random.default_rng(0)
    with np.load(args.data.with_name("asleep.npz")) as file:
        slept = {name: pairs(file[name]) for name in ("REM", "SWS")}
    awake = pairs(rec.rates[rec.valid])
    match = lambda found: {name: [float(np.corrcoef(found, x)[0, 1])] for name, x in slept.items()}
    results = {"asleep": {"awake": match(awake)}}
    with tempfile.TemporaryDirectory() as temporary:
        for name, one in {"recording": rec, **nulls(rec, rng)}.items():
            path = Path(temporary) / "mouse.npz"
            arrays = {k: v for k, v in vars(one).items() if v is not None}
            recordings.save(path, **arrays)
            results[name], results["asleep"][name] = [], {"REM": [], "SWS": []}
            for seed in range(args.seeds if one is rec else 1):
                out = Path(temporary) / f"{name} {seed}"
                extra = () if one is rec and seed == 0 else ("--set", "calibrated=no")
                metrics = runs.fit(path, out, "--seed", seed, "--updates", args.updates, *extra)
                keys = ("heading_error", "loss", "variance", "turning", "decoding_error", "identifiable_fraction")
                results[name].append({k: metrics[k] for k in keys if k in metrics})
                (net,), _ = checkpoint.networks(out / "model.pt")
                found = pairs(alone(net, one, rng))
                for sleep, r in match(found).items():
                    results["asleep"][name][sleep] += r
                if one is rec and seed == 0:
                    places = geometry.places_of(rec, geometry.RING)
                    gate = effective_gate(net, rec)[0]
                    results["profiles"] = {"W": profile(net.W[: net.n, : net.n], places), "gate": profile(gate, places)}
                    results["pairs"] = {k: np.round(v, 4).tolist() for k, v in
                                        {"awake": awake, "network": found, **slept}.items()}  # fmt: skip
                print(f"  {name}, seed {seed}", flush=True)
    results["made"] = f"{args.seeds} fits of {args.updates} updates, 1 of each null model; {runs.source()}"
    return results


if __name__ == "__main__":
    cli.run(main)
