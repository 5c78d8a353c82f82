"""Which experiment next? Pulses proposed by a pilot's fit against random ones, by the trials that they need.

A circuit whose weights differ from pair to pair is recorded under weak random pulses and fitted; `python -m nsi.design`
proposes pulses from the fit, and the circuit is recorded under these and under random pulses of amplitude 4 every
0.25 s. Of growing numbers of trials the weights are solved for (nsi/solve.py) with the hidden neurons' tuning told, and
found by train.py, which is told nothing. How far the circuit's own bump is thrown is measured on runs with the same
velocity and noise, with and without pulses.

Writes results.json, design.png and the page's tables. Run it from the top folder, as `python -m experiments.design`.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import cann
from experiments import runs
from nsi import connectivity, design, figures, files, recordings, solve
from nsi.geometry import RING
from nsi.network import Network
from nsi.recordings import Recording
from nsi.simulation.circuits import ring
from nsi.simulation.heterogeneity import vary_weights
from nsi.simulation.stimulation import random_velocity

FOLDER = runs.folder_of(__file__)
CIRCUIT = "--jitter", 0.2, "--balance"
RANDOM, PROPOSED = "random, amplitude 4", "proposed"
TRIALS = 3, 5, 7, 10, 14, 20, 28, 40
FITTED = 7, 14, 28, 40
ENOUGH = 0.9  # r_dev
PER_TRIAL = "rates", "velocity", "heading", "stimulus", "hidden_rates"


def told(data, trials):
    """r_dev of weights solved for from the first trials of a recording, the hidden neurons' tuning told."""
    rec = recordings.load(data)
    truth = recordings.load_truth(data, rec)
    n, alpha = rec.rates.shape[-1], rec.dt / rec.tau
    true = Network(*(np.float32(truth[k]) for k in ("W", "W_in", "b")), alpha, n)
    W = true.W[:n, :n]
    found = solve.solve(true, rec.trials(slice(trials)), RING).net.W[:n, :n]
    profile = RING.mean_profile(W, RING.places(n), np.ones(W.shape, bool))
    kept = (found == W).all(0)  # neurons with too few samples keep what they had, here the truth
    return deviation(np.where(kept, profile, found), W)


def deviation(W, true):
    """r_dev over all pairs of different neurons."""
    everyone = np.ones(true.shape, bool)
    return finite(connectivity.deviation(W, true, everyone, RING, RING.places(len(true)))[0])


def fitted(data, out, seed, options):
    """r_dev of train.py's weights, and the median standard error of its intervals."""
    runs.fit(data, out, "--seed", seed, *options)
    with np.load(out / "connectivity.npz") as found, np.load(data) as file:
        n = len(found["W"])
        return deviation(found["W"], file["true_W"][:n, :n]), design.median_error(found["W_se"])


def cut(data, part, trials):
    """Write a recording's first trials. data, part: paths."""
    with np.load(data) as file:
        recordings.save(part, **{k: a[:trials] if k in PER_TRIAL else a for k, a in file.items()})


def finite(value):
    """The value, or None (JSON has no infinity) where it is not finite."""
    return float(value) if np.isfinite(value) else None


def thrown(seed, stimulus):
    """How far pulses throw the circuit's own bump in 5 s: rad, mean over 20 trials and the last half second."""
    circuit = vary_weights(ring(), np.random.default_rng(1000 + seed), 0.2, 0.0, 0.0, True)
    some, rng = stimulus[:20], np.random.default_rng(seed + 7)
    steps, n = min(500, some.shape[1]), circuit.network.n
    start, velocity = rng.uniform(-np.pi, np.pi, (len(some), 1)), random_velocity(rng, len(some), steps, circuit.dt)
    each = [
        cann.simulate(circuit, velocity, start, np.random.default_rng(seed), 0.02, pulses, settle=100)[:, -50:, :n]
        for pulses in (None, some[:, :steps])
    ]
    headings = [RING.decode(rates, RING.places(n)) for rates in each]
    return float(np.mean(RING.distance(*headings)))


def measured(seed, folder, args):
    """One circuit: its pilot, the proposal, and both kinds of pulses.

    Returns: {kind: {"plan", "thrown", "expected" (thrown), "told" and "fitted" {trials: r_dev}, "errors" {trials:
    [expected, reached] median standard error of intervals}}}.
    """
    options = ["--updates", args.updates] if args.updates else []
    pilot, sizes = folder / "pilot.npz", ["--seed", seed, *CIRCUIT, "--steps", args.steps]
    runs.simulate(pilot, *sizes, "--trials", args.trials, "--stimulus", args.pilot)
    runs.fit(pilot, folder / "pilot", "--seed", seed, *options)
    counts, fits = [t for t in TRIALS if t <= args.most], [t for t in FITTED if t <= args.most]
    planner, results = design.Pilot(*design.read(folder / "pilot", pilot), args.most, args.steps, seed), {}
    seen = list(design.choose(planner, args.disturbance))
    proposed = design.best(seen, args.disturbance or seen[0][1].disturbance)
    for name, (plan, expected) in {RANDOM: seen[0], PROPOSED: proposed}.items():
        stimulus, played, data = planner.draw(plan), folder / "stimulus.npz", folder / "recording.npz"
        recordings.save(played, stimulus=stimulus[: args.most])
        runs.simulate(data, *sizes, "--trials", args.most, "--stimulus", played)
        results[name] = row = {"plan": plan.told(), "thrown": thrown(seed, stimulus), "expected": expected.disturbance}
        row["told"] = {str(trials): told(data, trials) for trials in counts}
        row |= {"fitted": {}, "errors": {}}
        rates, part = planner.run(stimulus), folder / "part.npz"
        for trials in fits:
            cut(data, part, trials)
            found = fitted(part, folder / f"{name.split(',')[0]}-{trials}", seed, options)
            row["fitted"][str(trials)] = found[0]
            some = slice(trials - max(1, trials // 10))  # the others are held out
            rec = Recording(rates[some], planner.velocity[some], planner.dt, stimulus=stimulus[some])
            expects = design.expected_errors(planner.net, rec, planner.noise)
            row["errors"][str(trials)] = [finite(design.median_error(expects)), finite(found[1])]
            print(f"  {name}, {trials} trials: {row}", flush=True)
    return results


def needed(counts):
    """Trials at which r_dev reaches ENOUGH, on a line through the logarithm of trials, or None. counts: {trials: r}."""
    r = np.maximum.accumulate([-1.0 if value is None else value for value in counts.values()])
    trials = np.log([int(t) for t in counts])
    if not r[0] < ENOUGH <= r[-1]:
        return None
    return float(np.exp(np.interp(ENOUGH, r, trials)))


def cell(values, digits=3):
    """Mean ± s.d. over circuits of those that there are."""
    known = [v for v in values if v is not None]
    return runs.spread(known, digits) if known else "–"


def trials(results):
    """r_dev by the number of trials, as Markdown. results: list of `measured`'s, one for each circuit."""
    columns = {
        f"{name}, {how}": [cell([one[name][how].get(str(t)) for one in results]) for t in TRIALS]
        for how in ("told", "fitted")
        for name in (RANDOM, PROPOSED)
    }
    return runs.turned(TRIALS, columns)


def kinds(results):
    """What the two kinds of pulses cost, as Markdown. results: as for `trials`."""
    rows = []
    for name in (RANDOM, PROPOSED):
        each = [one[name] for one in results]
        rows.append(
            [
                name,
                "; ".join(dict.fromkeys(" ".join(row["plan"].split()) for row in each)),
                *(cell([needed(row[how]) for row in each], 1) for how in ("told", "fitted")),
                *(cell([row[key] for row in each]) for key in ("thrown", "expected")),
            ]
        )
    head = ["", "pulses", f"trials to {ENOUGH:g}, told", "fitted", "thrown, rad", "expected"]
    return runs.markdown(head, rows)


def errors(results):
    """Standard errors of intervals, expected and reached, as Markdown. results: as for `trials`."""
    columns = {
        f"{name}, {what}": [
            cell([one[name]["errors"].get(str(t), (None, None))[k] for one in results], 4) for t in FITTED
        ]
        for name in (RANDOM, PROPOSED)
        for k, what in enumerate(("expected", "reached"))
    }
    return runs.turned(FITTED, columns)


def figure(results):
    """r_dev against trials, both kinds of pulses."""
    drawn, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
    for ax, how, title in zip(axes, ("told", "fitted"), ("hidden tuning told", "train.py"), strict=True):
        for name, colour in ((RANDOM, figures.SIMPLE), (PROPOSED, figures.FITTED)):
            for k, one in enumerate(results):
                counts = one[name][how]
                ax.plot(
                    [int(t) for t in counts],
                    np.array([*counts.values()], float),
                    "o-",
                    color=colour,
                    label="" if k else name,
                )
        ax.axhline(ENOUGH, color=figures.TRUE, lw=0.6)
        ax.set_xscale("log")
        ax.set_xticks(TRIALS, TRIALS)
        ax.minorticks_off()
        ax.set(title=title, xlabel="trials of 10 s", ylim=(0, 1.02))
    axes[0].set_ylabel("r of single weights'\ndeviations")
    axes[0].legend(loc="lower right")
    return drawn


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=1, help="how many circuits")
    p.add_argument("--pilot", type=float, default=2.0, help="amplitude of the pilot's pulses")
    p.add_argument("--trials", type=int, default=30, help="of the pilot")
    p.add_argument("--most", type=int, default=TRIALS[-1], help="trials that are played, at most")
    p.add_argument("--disturbance", type=float, help="rad, of the proposal (default: as far as random pulses)")
    p.add_argument("--steps", type=int, default=1000, help="of each trial")
    p.add_argument("--updates", type=int, help="of each fit (default: train.py's)")
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    args = p.parse_args()
    if not args.draw:
        results = []
        for seed in range(args.seeds):
            with tempfile.TemporaryDirectory() as folder:
                results.append(measured(seed, Path(folder), args))
        runs.write(FOLDER, results)
    results = runs.read(FOLDER)
    figures.style()
    with files.whole(FOLDER / "design.png") as temporary:
        figure(results).savefig(temporary)
    runs.page(FOLDER, kinds=kinds(results), trials=trials(results), errors=errors(results))
    print("\n\n".join(table(results) for table in (kinds, trials, errors)))


if __name__ == "__main__":
    main()
