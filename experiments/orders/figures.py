"""The figures of the page of orders, of circuits and of real flies, drawn from results.json."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.flies.prediction import HORIZONS
from nsi.estimation.regression import NORMAL
from nsi.figures import FITTED, SIMPLE, TRUE
from nsi.figures.style import draw_band, draw_zero, set_log_axis

MODELS = {"order two": FITTED, "network (experiments/flies)": "#7a5c99", "order one": SIMPLE, "persistence": "#b8b8b8"}


def fly(results):
    """Real flies: the rise with speed, a dot for each fly, with the recorded velocity and with those of null models;
    and the correlation of predicted and recorded size by horizon, means over flies left out. results:
    results["flies"]."""
    drawn, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.5), width_ratios=[1, 1.4])
    for at, (null, slopes) in enumerate(results["rise"].items()):
        each, colour = np.array(slopes["speed"]), FITTED if null == "recording" else "#999999"
        left.plot(at + np.linspace(-0.15, 0.15, len(each)), each, ".", color=colour, ms=4)
        left.plot([at - 0.3, at + 0.3], [each.mean()] * 2, color=colour, lw=2)
    names = ["own velocity" if null == "recording" else f"velocity of\n{null}" for null in results["rise"]]
    left.set_xticks(range(len(names)), names, fontsize=7)
    draw_zero(left)
    left.set(ylabel="rise with speed, per rad/s")
    for name, r in results["prediction"].items():
        right.plot(HORIZONS, np.mean(r, 0), "o-", color=MODELS[name], ms=3, label=name.split(" (")[0])
    for style, (null, r) in zip((":", "--"), results["prediction, null"].items(), strict=True):
        right.plot(HORIZONS, np.mean(r, 0), style, color=TRUE, lw=1, label=f"order two, {null}")
    set_log_axis(right, HORIZONS, xlabel="seconds ahead", ylabel="r of the size predicted", ylim=(0, 0.7))
    right.legend(fontsize=6)
    for ax, letter in ((left, "a"), (right, "b")):
        ax.set_title(letter, loc="left", fontweight="bold")
    return drawn


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
        draw_band(ax, degrees, low, high, "± 1.96 s.e. of the data alone")
        ax.plot(degrees, true[k], color=TRUE, ls="--", label="true")
        least = 0.04 * np.abs(profile[0]).max() / scale[k]
        low, high = ax.get_ylim()
        ax.set(title=f"order {names[k]}", ylim=(min(low, -least), max(high, least)))
    for ax in axes:
        draw_zero(ax)
        ax.set(xticks=range(-180, 181, 90), xlim=(-180, 180))
