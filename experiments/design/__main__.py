"""Which experiment next? Pulses proposed from a pilot against random ones, by the trials that they need.

A circuit whose weights differ from pair to pair is recorded under weak random pulses and fitted, and again under pulses
that nsi.design proposes from the fit and under random ones of amplitude 4 every 0.25 s; nsi.estimate estimates the
connections from growing numbers of trials. How far the circuit's own bump is thrown is measured on runs with the same
velocity and noise, with and without pulses. Writes results.json, design.png and the page's tables. Run it from the top
folder, as `python -m experiments.design`.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments import runs
from nsi import design, figures, recordings
from nsi.estimation import estimate
from nsi.evaluation.scores import deviation
from nsi.figures.style import set_log_axis
from nsi.geometry import RING
from nsi.simulation import simulate
from nsi.simulation.circuits import ring
from nsi.simulation.heterogeneity import vary_weights
from nsi.simulation.stimulation import random_velocity

FOLDER = runs.folder_of(__file__)
CIRCUIT = "--jitter", 0.2, "--balance"
KINDS = RANDOM, PROPOSED = "random, amplitude 4", "proposed"
TRIALS = 5, 7, 10, 14, 20, 28, 40
MIN_R_DEV = 0.9  # r_dev
FIRST_SEED = 100  # below it the estimate was developed


def estimated(data, trials):
    """r_dev over all pairs of different neurons, and the median standard error of the weights, by the first trials of a
    recording. data: its path."""
    rec = recordings.load(data)
    true = recordings.load_truth(data, rec)["W"]
    n = rec.rates.shape[-1]
    fit = estimate(rec.trials(slice(trials)), calibrated=False)
    r = deviation(fit.W, true[:n, :n], np.ones((n, n), bool), RING, RING.places(n))[0]
    return finite(r), finite(design.median_error(fit.W_se))


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
        simulate(circuit, velocity, start, np.random.default_rng(seed), 0.02, pulses, settle=100)[:, -50:, :n]
        for pulses in (None, some[:, :steps])
    ]
    headings = [RING.decode(rates, RING.places(n)) for rates in each]
    return float(np.mean(RING.distance(*headings)))


def measured(seed, folder, args):
    """One circuit: its pilot, the proposal, and both kinds of pulses.

    Returns: {kind: {"plan", "thrown", "expected" (thrown), "r_dev" {trials: r}, "errors" {trials: [expected, reached]
    median standard error of the weights}}}.
    """
    pilot, sizes = folder / "pilot.npz", ["--seed", seed, *CIRCUIT, "--steps", args.steps]
    runs.simulate(pilot, *sizes, "--trials", args.trials, "--stimulus", args.pilot)
    runs.fit(pilot, folder / "pilot", "--seed", seed, "--set", "calibrated=no", *runs.updates(args))
    counts, results = [t for t in TRIALS if t <= args.most], {}
    planner = design.PilotExperiment(*design.read(folder / "pilot", pilot), args.most, args.steps, seed)
    plans = list(design.choose(planner, args.disturbance))
    proposed = design.best(plans, args.disturbance or plans[0][1].disturbance)
    for name, (plan, expected) in {RANDOM: plans[0], PROPOSED: proposed}.items():
        stimulus, played, data = planner.draw(plan), folder / "stimulus.npz", folder / "recording.npz"
        recordings.save(played, stimulus=stimulus[: args.most])
        runs.simulate(data, *sizes, "--trials", args.most, "--stimulus", played)
        rates, row = planner.run(stimulus), {"r_dev": {}, "errors": {}}
        for trials in counts:
            row["r_dev"][str(trials)], reached = estimated(data, trials)
            arguments = planner.fit, rates[:trials], planner.velocity[:trials], planner.noise
            row["errors"][str(trials)] = [finite(design.median_error(design.expected_errors(*arguments))), reached]
        row |= {"plan": plan.describe(), "thrown": thrown(seed, stimulus), "expected": expected.disturbance}
        results[name] = row
        print(f"  {name}: {row}", flush=True)
    return results


def needed(counts):
    """Trials at which r_dev reaches MIN_R_DEV, on a line through the logarithm of trials, or None. counts:
    {trials: r}."""
    r = np.maximum.accumulate([-1.0 if value is None else value for value in counts.values()])
    trials = np.log([int(t) for t in counts])
    if not r[0] < MIN_R_DEV <= r[-1]:
        return None
    return float(np.exp(np.interp(MIN_R_DEV, r, trials)))


def trials(results):
    """r_dev by the number of trials, as Markdown. results: "circuits", list of `measured`'s, one for each."""
    each = results["circuits"]
    columns = {name: [runs.spread([one[name]["r_dev"].get(str(t)) for one in each]) for t in TRIALS] for name in KINDS}
    return runs.turned(TRIALS, columns)


made = runs.made


def kinds(results):
    """What the two kinds of pulses cost, as Markdown. results: as for `trials`."""
    rows = []
    for name in KINDS:
        each = [one[name] for one in results["circuits"]]
        needs = runs.spread([needed(row["r_dev"]) for row in each], 1)
        rows.append([name, needs, *(runs.spread([row[key] for row in each]) for key in ("thrown", "expected"))])
    return runs.markdown(["", f"trials to r {MIN_R_DEV:g}", "thrown, rad", "expected"], rows)


def tables(results):
    """Trials, pulses, and standard errors, expected and reached: tables.md. results: as for `trials`."""
    each = results["circuits"]
    plans = [[name, " ".join(one[name]["plan"].split())] for one in each for name in KINDS]
    errors = lambda name, t, k: [one[name]["errors"].get(str(t), (None, None))[k] for one in each]
    columns = {f"{name}, {what}": [runs.spread(errors(name, t, k), 4) for t in TRIALS]
               for name in KINDS for k, what in enumerate(("expected", "reached"))}  # fmt: skip
    parts = (
        "# Which experiment next: further tables",
        "r of single weights' deviations from the mean profile, over all pairs of different neurons, by trials:",
        trials(results),
        "Pulses: largest amplitude, s between pulses, share of the neurons, and which.",
        runs.markdown(["", "pulses"], plans),
        "Median standard errors of the weights over all pairs, expected from the pilot and reached, by trials:",
        runs.turned(TRIALS, columns),
    )
    return "\n\n".join(parts) + "\n"


def figure(results):
    """r_dev against trials, both kinds of pulses."""
    drawn, ax = plt.subplots(figsize=(4.5, 3))
    for name, colour in zip(KINDS, (figures.SIMPLE, figures.FITTED), strict=True):
        for k, one in enumerate(results["circuits"]):
            counts = one[name]["r_dev"]
            values = np.array([*counts.values()], float)
            ax.plot([int(t) for t in counts], values, "o-", color=colour, label="" if k else name)
    ax.axhline(MIN_R_DEV, color=figures.TRUE, lw=0.6)
    set_log_axis(ax, TRIALS, xlabel="trials of 10 s", ylabel="r of single weights'\ndeviations", ylim=(0, 1.02))
    ax.legend(loc="lower right")
    return drawn


def main():
    p = runs.options(__doc__, 1, trials=30)
    p.add_argument("--pilot", type=float, default=2.0, help="amplitude of the pilot's pulses")
    p.add_argument("--most", type=int, default=TRIALS[-1], help="trials that are played, at most")
    p.add_argument("--disturbance", type=float, help="rad, of the proposal (default: as far as random pulses)")
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    args = p.parse_args()
    if not args.draw:
        results = []
        for seed in range(FIRST_SEED, FIRST_SEED + args.seeds):
            with tempfile.TemporaryDirectory() as folder:
                results.append(measured(seed, Path(folder), args))
        made_of = f"{args.seeds} circuits, seeds from {FIRST_SEED} on; {runs.source()}"
        runs.write(FOLDER, {"made": made_of, "circuits": results})
    results = runs.read(FOLDER)
    runs.publish(FOLDER, results, made, kinds, tables=tables, design=figure)


if __name__ == "__main__":
    main()
