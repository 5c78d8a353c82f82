"""The figure of the grid cells' page."""

import matplotlib.pyplot as plt
import numpy as np

from nsi import figures
from nsi.figures import torus as sheets


def figure(results):
    """Cells, sheet, connectivity and prediction. results: results.json's."""
    drawn, axes = plt.subplots(2, 4, figsize=(14, 6))
    arrays, even = {k: np.array(v) for k, v in results["drawn"].items()}, results["cases"]["uniform"]
    shown = lambda x: np.where(np.asarray(x) == -9, np.nan, x).T  # noqa: E731
    image = axes[0, 0].imshow(shown(arrays["map"]), origin="lower", cmap="viridis", vmin=0)
    drawn.colorbar(image, ax=axes[0, 0], fraction=0.046, pad=0.03, label="mean rate")
    axes[0, 0].set(title="(a) rate map of a cell, box of 1.5 m", xticks=[], yticks=[])
    image = axes[0, 1].imshow(shown(arrays["repeats"]), origin="lower", cmap=figures.DIVERGING, vmin=-1, vmax=1)
    drawn.colorbar(image, ax=axes[0, 1], fraction=0.046, pad=0.03, label="correlation")
    axes[0, 1].set(title="(b) its autocorrelogram", xticks=[], yticks=[])
    sheets.draw_sheet(axes[0, 2], arrays["bump"], "(c) the bump on the sheet", vmin=0)
    true, fitted = arrays["gate"]
    sheets.draw_sheet(axes[0, 3], fitted[0], "(d) fitted effective gate, x", np.abs(fitted).max())
    for ax, name, pair in ((axes[1, 0], "(e) W", arrays["W"]), (axes[1, 1], "(f) gate, x", (true[0], fitted[0])),
                           (axes[1, 2], "(g) gate, y", (true[1], fitted[1]))):  # fmt: skip
        for values, colour, label, style in zip(pair, (figures.TRUE, figures.FITTED), ("true", "fitted"), ("--", "-"),
                                                strict=True):  # fmt: skip
            ax.plot(*sheets.profile_along(values), style, color=colour, label=label, zorder=3 if label == "true" else 2)
        ax.axhline(0, color="grey", lw=0.5)
        ax.set(title=f"{name}, mean by phase difference", xlabel="first phase, to minus from (rad)")
        ax.legend()
    phase, middle = sheets.profile_along(arrays["W"][1])
    sd = sheets.profile_along(arrays["W_sd"])[1]
    axes[1, 0].fill_between(phase, middle - sd, middle + sd, color=figures.FITTED, alpha=0.15, lw=0)
    axes[1, 0].set(ylabel="weight")
    axes[1, 1].set(ylabel="gate per rad/s")
    fit, own = (even[name]["ahead"] for name in ("fit", "the circuit itself"))
    sheets.draw_errors(axes[1, 3], {"network": (fit, "error"), "the circuit itself": (own, "error"),
                               "ideal integrator": (fit, "integrator"), "bump that stays": (fit, "stay")})  # fmt: skip
    axes[1, 3].set(title="(h) error of the predicted place")
    return drawn
