"""The figures of the page of orders, of circuits and of real flies, drawn from results.json."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.flies.prediction import HORIZONS
from experiments.orders.neurons import SPEEDS
from nsi.estimation.intervals import NORMAL
from nsi.figures import FITTED, SIMPLE, TRUE

MODELS = {"order two": FITTED, "network (experiments/flies)": "#7a5c99", "order one": SIMPLE, "persistence": "#b8b8b8"}
LEFT, RIGHT = "#3b6fb6", "#c8553d"


def fly(results):
    """Real flies. results: results["flies"], with the bridge and fitted networks. Returns: the figure."""
    drawn, axes = plt.subplots(1, 5, figsize=(13.5, 3.5), width_ratios=[1.4, 1, 1, 1, 1], layout="constrained")
    rises(axes[0], results["rise"])
    for ax, (place, models) in zip(axes[1:3], results["prediction"].items(), strict=True):
        draw_prediction(ax, models, results["prediction, null"][place])
        ax.set_title(place)
    axes[1].set_ylabel("r of the size predicted")
    axes[1].legend(fontsize=6)
    for ax, (name, sides) in zip(axes[3:], results["curves"].items(), strict=True):
        tuned(ax, sides)
        ax.set_title(name.replace(", ", "\n"))
    axes[3].set_ylabel("mean rate, relative")
    axes[3].legend(fontsize=6)
    for ax, letter in zip(axes, "abcde", strict=True):
        ax.set_title(letter, loc="left", fontweight="bold")
    return drawn


def rises(ax, results):
    """The rise with speed, a dot for each fly, with the recorded velocity and with those of null models."""
    names = []
    for place, nulls in results.items():
        for null, slopes in nulls.items():
            each, at = np.array(slopes["speed"]), len(names)
            colour = FITTED if null == "recording" else "#999999"
            ax.plot(at + np.linspace(-0.15, 0.15, len(each)), each, ".", color=colour, ms=4)
            ax.plot([at - 0.3, at + 0.3], [each.mean()] * 2, color=colour, lw=2)
            names.append(f"{place},\n{'own velocity' if null == 'recording' else f'velocity of {null}'}")
    ax.axhline(0, color="grey", lw=0.5)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=6)
    ax.set(ylabel="rise with speed, per rad/s")


def draw_prediction(ax, models, nulls):
    """Correlation of predicted and recorded size by horizon, means over flies left out."""
    for name, colour in MODELS.items():
        if name not in models:  # the bridge has no network
            continue
        ax.plot(HORIZONS, np.mean(models[name], 0), "o-", color=colour, ms=3, label=name.split(" (")[0])
    for style, (null, r) in zip((":", "--"), nulls.items(), strict=True):
        ax.plot(HORIZONS, np.mean(r, 0), style, color=TRUE, lw=1, label=f"order two, {null}")
    ax.set(xscale="log", xlabel="seconds ahead", ylim=(0, 0.7))
    ax.set_xticks(HORIZONS, [f"{h:g}" for h in HORIZONS])
    ax.minorticks_off()


def tuned(ax, sides):
    """Mean rate by velocity, thin of each fly or network, thick their mean."""
    middle = (SPEEDS[1:] + SPEEDS[:-1]) / 2
    for (side, rows), colour in zip(sides.items(), (LEFT, RIGHT), strict=True):
        rows = np.array(rows, float)  # null is NaN
        ax.plot(middle, rows.T, color=colour, lw=0.4, alpha=0.5)
        enough = np.isfinite(rows).mean(0) > 0.5
        ax.plot(middle[enough], np.nanmean(rows[:, enough], 0), color=colour, lw=2, label=side)
    ax.axhline(1, color="grey", lw=0.5)
    ax.set(xlabel="velocity (rad/s)", ylim=(0, None))


def draw_orders(axes, profiles, powers, scale, chosen, names):
    """The orders of effective connectivity, by signed distance around the ring.

    axes: one for J at several inputs, and one for each order that is `chosen`, by index; profiles: dict of `profile`,
    `centre`, `se`, `true`, (K + 1, n) each: mean of each order's best estimate at each distance, of the unbiased one,
    that one's standard error, and the truth; powers: (K + 1, D) int; scale: (K + 1,), each monomial's r.m.s., so that
    an order that is hardly there is drawn as small as it is; names: of each.
    """
    profile, true, half = profiles["profile"], profiles["true"], NORMAL * profiles["se"]
    degrees = np.degrees(np.arange(len(profile[0])) - len(profile[0]) // 2) * 2 * np.pi / len(profile[0])
    for v, colour in zip((-4, -2, 0, 2, 4), plt.get_cmap("coolwarm")(np.linspace(0, 1, 5)), strict=True):
        terms = np.prod(float(v) ** powers[:, :1], 1)  # further inputs at 1
        axes[0].plot(degrees, terms @ profile, color=colour, label=f"v = {v}")
        axes[0].plot(degrees, terms @ true, color=TRUE, ls="--", lw=0.7)
    axes[0].set_title("J(v)" if powers.shape[1] == 1 else "J(v, g = 1)")
    for ax, k in zip(axes[1:], chosen, strict=True):
        ax.plot(degrees, profile[k], color=FITTED, label="estimate")
        low, high = profiles["centre"][k] - half[k], profiles["centre"][k] + half[k]
        ax.fill_between(degrees, low, high, color=FITTED, alpha=0.2, lw=0, label="± 1.96 s.e. of the data alone")
        ax.plot(degrees, true[k], color=TRUE, ls="--", label="true")
        least = 0.04 * np.abs(profile[0]).max() / scale[k]
        low, high = ax.get_ylim()
        ax.set(title=f"order {names[k]}", ylim=(min(low, -least), max(high, least)))
    for ax in axes:
        ax.axhline(0, color="grey", lw=0.5)
        ax.set(xticks=range(-180, 181, 90), xlim=(-180, 180))
