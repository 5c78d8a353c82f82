"""The figures of real flies: of the tests, drawn from results.json, and of a trial."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.flies.prediction import HORIZONS
from nsi.figures import FITTED, SIMPLE, TRUE
from nsi.figures.style import OTHER, draw_band, set_log_axis
from nsi.geometry import RING

GREY = "#9a9a9a"


def fly(results, horizons=HORIZONS):
    """The tests on real flies. results: results.json's; horizons: s."""
    figure, axes = plt.subplots(2, 3, figsize=(12.5, 6.6))
    fly_errors(axes[0, 0], results, horizons)
    fly_amplitude(axes[0, 1], results, horizons)
    kinetics(axes[0, 2], results["estimate"])
    fly_gate(axes[1, 0], results)
    fly_leads(axes[1, 1], results)
    fly_shares(axes[1, 2], results)
    return figure


def draw_mean(ax, x, values, colour, name):
    """Mean and s.e.m. over flies by seconds ahead. values: (flies, x)."""
    se = values.std(0, ddof=1) / np.sqrt(len(values))
    ax.errorbar(x, values.mean(0), se, color=colour, marker="o", ms=4, label=name)


def fly_errors(ax, results, horizons):
    """How much smaller the error of prediction is than the integrator's: mean and s.e.m. over flies."""
    colours = {"network": FITTED, "network, control": OTHER, "integrator, filtered": SIMPLE, "bump that stays": GREY}
    for shift, (name, colour) in zip((0.97, 0.99, 1.01, 1.03), colours.items(), strict=True):
        better = np.array(results["error"]["integrator"]) - np.array(results["error"][name])
        draw_mean(ax, shift * np.array(horizons), better, colour, name)
    ax.axhline(0, color=TRUE, lw=0.8)
    set_log_axis(ax, horizons, xlabel="seconds ahead", ylabel="integrator's error minus its error, rad",
                 ylim=(-0.3, 0.08))  # fmt: skip
    ax.set_title("(a) flies left out: above 0 is better than the integrator\n(mean ± s.e.m. over flies)", fontsize=8)
    ax.legend(fontsize=7)


def fly_amplitude(ax, results, horizons):
    """Correlation of predicted and recorded size of the bump, mean and s.e.m. over flies."""
    for name, colour in {"network": FITTED, "network, control": OTHER, "bump that stays": GREY}.items():
        draw_mean(ax, horizons, np.array(results["amplitude"][name]), colour, name)
    set_log_axis(ax, horizons, xlabel="seconds ahead", ylabel="r, predicted and recorded size")
    ax.set_title("(b) size of the bump (mean ± s.e.m. over flies)", fontsize=8)
    ax.legend(fontsize=7)


def kinetics(ax, found):
    """By how much an animal's log likelihood per sample is higher with F(v u) than with each rival, on samples by the
    rate one step before, and the same of simulated circuits that have v u."""
    each, x = next(iter(found["kinetics"].values())), 0
    hidden, *rivals = each[0]["mechanisms"]
    labels = [f"over {rival}" for rival in rivals]
    for x, rival in enumerate(rivals):
        lead = [one["mechanisms"][hidden] - one["mechanisms"][rival] for one in each]
        ax.plot(np.full(len(lead), x) + np.linspace(-0.15, 0.15, len(lead)), lead, "o", ms=4, color=FITTED)
    for k, (name, lead) in enumerate(found.get("control", {}).items(), len(rivals)):
        ax.plot(np.full(len(lead), k) + np.linspace(-0.15, 0.15, len(lead)), lead, "x", ms=5, color=SIMPLE)
        labels.append(f"simulated, at once: {name}")
    ax.axhline(0, color=TRUE, lw=0.8)
    ax.set_xticks(range(len(labels)), labels, fontsize=6, rotation=20, ha="right")
    ax.set(ylabel="log likelihood per sample, lead")
    ax.set_title("(c) velocity one synapse later over rivals", fontsize=8)


def fly_wiring(ax, results):
    """Profiles of W by distance, each scaled to its range: fitted, connectome's, null models' and correlations'."""
    apart = np.arange(9) * 22.5
    scaled = lambda x: (x - x[..., -1:]) / (x[..., :1] - x[..., -1:])  # from 1 at no distance to 0 at the other side
    low, middle, high = np.percentile(scaled(np.array(results["read"]["recording"]["profile"])), [0, 50, 100], axis=0)
    draw_band(ax, apart, low, high, alpha=0.25)
    ax.plot(apart, middle, color=FITTED, label="fitted (median, range)")
    styles = {"shuffled velocity": (SIMPLE, "-"), "randomised phases, blurred": (GREY, "--")}
    for name, (colour, line) in styles.items():
        of = np.median(scaled(np.array(results["read"][name]["profile"])), 0)
        ax.plot(apart, of, line, color=colour, label=f"null: {name}")
    of = np.median(scaled(np.array(results["correlation"]["profile"])), 0)
    ax.plot(apart, of, ":", color=OTHER, label="correlations of the rates")
    direct, delta7 = (np.array(results["connectome"][k]) for k in ("direct", "delta7"))
    design = np.stack([direct, delta7, np.ones(9)], 1)
    best = design @ np.linalg.lstsq(design, middle, rcond=None)[0]
    ax.plot(apart, best, ".", color=TRUE, label="connectome: direct and Delta7, scales fitted")
    ax.axhline(0, color=TRUE, lw=0.6)
    ax.set(xlabel="distance around the ring, °", ylabel="weight, scaled", xticks=[0, 45, 90, 135, 180])
    ax.set_title("(c) E-PG to E-PG: null models look alike", fontsize=8)
    ax.legend(fontsize=6)


def fly_gate(ax, results):
    """What velocity adds to the weights by distance, of the recording and of null models."""
    distance = np.arange(-8, 8) * 22.5
    colours = {"recording": FITTED, "shuffled velocity": SIMPLE, "reversed rates": OTHER, "randomised phases": GREY}
    for name, colour in colours.items():
        low, middle, high = np.percentile(results["read"][name]["gate_profile"], [0, 50, 100], axis=0)
        draw_band(ax, distance, low, high, colour=colour)
        ax.plot(distance, middle, color=colour, label=name)
    ax.axhline(0, color=TRUE, lw=0.6)
    ax.set(xlabel="from E-PG to E-PG, °", ylabel="weight per rad/s", xticks=[-180, -90, 0, 90, 180])
    ax.set_title("(d) effective gate (median, range over networks)", fontsize=8)
    ax.legend(fontsize=7)


def fly_leads(ax, results):
    """How far P-EN1's bump and the input units' are ahead of E-PG's when turning, one line for each fly."""
    for k, (name, colour) in enumerate({"P-EN1": TRUE, "input units": FITTED}.items()):
        lead = np.array([results["lead"][name][side] for side in ("left", "right")])
        ax.plot([3 * k, 3 * k + 1], lead, color=colour, lw=0.6, alpha=0.5)
        ax.plot([3 * k, 3 * k + 1], lead.mean(1), "o-", color=colour, label=name)
    ax.axhline(0, color=TRUE, lw=0.6)
    ax.set_xticks([0, 1, 3, 4], ["left", "right"] * 2)
    ax.set(ylabel="ahead of E-PG, °")
    ax.set_title("(e) lead when turning faster than 1 rad/s (lines: flies)", fontsize=8)
    ax.legend(fontsize=7)


def fly_shares(ax, results):
    """Share of P-EN1's variance explained, for each fly and their mean."""
    for k, (name, each) in enumerate(results["share"].items()):
        ax.barh(k, np.mean(each), color=FITTED if name == "input units" else "#c9c9c9")
        ax.plot(each, np.full(len(each), k), ".", color=TRUE, ms=4)
    ax.set_yticks(range(len(results["share"])), results["share"], fontsize=7)
    ax.set(xlabel="share of P-EN1's variance")
    ax.set_title("(f) one linear map onto P-EN1 (dots: flies)", fontsize=8)
    ax.invert_yaxis()


def wedges(rec, trial):
    """The first 30 s of a trial: activity of the wedges over time, and the heading on the ball over it."""
    steps = min(int(rec.valid[trial].sum()), round(30 / rec.dt))
    n, time = rec.rates.shape[-1], np.arange(steps) * rec.dt
    figure, axes = plt.subplots(2, 1, figsize=(11, 3.6), sharex=True, height_ratios=[2.4, 1])
    extent = (0, time[-1], -180 / n, 360 - 180 / n)
    axes[0].imshow(
        rec.rates[trial, :steps].T, aspect="auto", origin="lower", cmap="Greys", extent=extent, interpolation="nearest"
    )
    places = RING.places(n)
    bump, heading = RING.decode(rec.rates[trial, :steps], places)[..., 0], rec.heading[trial, :steps, 0]
    offset = np.angle(np.mean(np.exp(1j * (bump - heading))))
    for angle, colour, label in ((bump, SIMPLE, "bump"), (heading + offset, FITTED, "heading on the ball, shifted")):
        axes[0].plot(time, (np.rad2deg(angle) + 180 / n) % 360 - 180 / n, ".", ms=2.5, color=colour, label=label)
    axes[0].set(ylabel="wedge, °", yticks=[0, 90, 180, 270])
    axes[0].legend(loc="upper right", markerscale=3, frameon=True)
    axes[1].plot(time, rec.velocity[trial, :steps, 0], color=TRUE, lw=0.8)
    axes[1].set(xlabel="s", ylabel="velocity, rad/s")
    return figure
