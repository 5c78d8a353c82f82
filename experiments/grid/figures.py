"""The figure of the grid cells' page."""

import matplotlib.pyplot as plt
import numpy as np

from nsi import figures
from nsi.figures import torus as sheets
from nsi.figures.style import draw_map, draw_zero

COLOURS = {"true": (figures.TRUE, "--"), "estimate": (figures.FITTED, "-"), "trained network": (figures.SIMPLE, "-")}


def figure(results):
    """Cells, sheet, connectivity and prediction. results: results.json's."""
    drawn, axes = plt.subplots(2, 4, figsize=(14, 6))
    arrays, found = {k: np.array(v) for k, v in results["drawn"].items()}, results["cases"]["uniform"]
    shown = lambda x: np.where(np.asarray(x) == -9, np.nan, x)
    draw_map(axes[0, 0], shown(arrays["map"]), "(a) rate map of a cell, box of 1.5 m", "mean rate", vmin=0)
    draw_map(axes[0, 1], shown(arrays["repeats"]), "(b) its autocorrelogram", "correlation", figures.DIVERGING,
             vmin=-1, vmax=1)  # fmt: skip
    sheets.draw_sheet(axes[0, 2], arrays["bump"], "(c) the bump on the sheet", vmin=0, unit="rate")
    gate = {name: arrays[f"gate, {name}"] for name in COLOURS}
    sheets.draw_sheet(axes[0, 3], gate["estimate"][0], "(d) estimated gate, x", np.abs(gate["estimate"]).max(),
                      unit="gate per rad/s")  # fmt: skip
    W = {name: arrays[f"W, {name}"] for name in COLOURS}
    for k, (ax, name, values) in enumerate(zip(axes[1], ("W", "gate, x", "gate, y"), (W, *(
        {name: g[k] for name, g in gate.items()} for k in (0, 1)
    )), strict=False)):  # fmt: skip
        for method, (colour, style) in COLOURS.items():
            ax.plot(*sheets.profile_along(values[method]), style, color=colour, label=method)
        draw_zero(ax)
        ax.set(title=f"({'efg'[k]}) {name}, mean by phase difference", xlabel="first phase, to minus from (rad)")
        ax.legend(fontsize=7)
    axes[1, 0].set(ylabel="weight")
    axes[1, 1].set(ylabel="gate per rad/s")
    lines = {name: (found[name]["ahead"], "error") for name in ("estimate", "trained network", "the circuit itself")
             if "ahead" in found[name]}  # fmt: skip
    trained = found["trained network"]["ahead"]
    lines |= {"ideal integrator": (trained, "integrator"), "bump that stays": (trained, "stay")}
    sheets.draw_errors(axes[1, 3], lines)
    axes[1, 3].set(title="(h) error of the predicted place", ylim=(None, 30))
    return drawn
