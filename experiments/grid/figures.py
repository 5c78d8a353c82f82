"""The figure of the grid cells' page."""

import matplotlib.pyplot as plt
import numpy as np

from nsi import figures
from nsi.geometry import TORUS


def sheet(ax, values, title, **colours):
    """Values of neurons, or of differences of phases, (n,), as they lie in the plane, each at its nearest image."""
    places = TORUS.places(len(values))
    where = np.linalg.solve(TORUS.K, TORUS.difference(places, 0).T)
    image = ax.scatter(*where, c=values, marker="h", s=11000 / len(values), **colours)
    ax.set(title=title, aspect="equal", xlabel="displacement, rad")
    ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)


def _row(values):
    """Values of differences (n,) along the first phase, from half a turn before to half a turn after."""
    side = round(np.sqrt(len(values)))
    return np.roll(np.reshape(values, (side, side))[:, 0], side // 2)


def figure(results):
    """Cells, sheet, connectivity and prediction. results: results.json's."""
    drawn, axes = plt.subplots(2, 4, figsize=(14, 6))
    arrays, even = {k: np.array(v) for k, v in results["drawn"].items()}, results["cases"]["even"]
    shown = lambda x: np.where(np.asarray(x) == -9, np.nan, x).T  # noqa: E731
    axes[0, 0].imshow(shown(arrays["map"]), origin="lower", cmap="viridis")
    axes[0, 0].set(title="(a) rate map of a cell, box of 1.5 m", xticks=[], yticks=[])
    axes[0, 1].imshow(shown(arrays["repeats"]), origin="lower", cmap=figures.DIVERGING, vmin=-1, vmax=1)
    axes[0, 1].set(title="(b) its autocorrelogram", xticks=[], yticks=[])
    sheet(axes[0, 2], arrays["bump"], "(c) the bump on the sheet", cmap="viridis", vmin=0)
    true, fitted = arrays["gate"]
    size = np.abs(fitted).max()
    sheet(axes[0, 3], fitted[0], "(d) fitted effective gate, x", cmap=figures.DIVERGING, vmin=-size, vmax=size)
    side = round(np.sqrt(len(arrays["bump"])))
    along = 2 * np.pi * (np.arange(side) - side // 2) / side
    for ax, name, pair in ((axes[1, 0], "(e) W", arrays["W"]), (axes[1, 1], "(f) gate, x", (true[0], fitted[0])),
                           (axes[1, 2], "(g) gate, y", (true[1], fitted[1]))):  # fmt: skip
        for values, colour, label, style in zip(pair, (figures.TRUE, figures.FITTED), ("true", "fitted"), ("--", "-"),
                                                strict=True):  # fmt: skip
            ax.plot(along, _row(values), style, color=colour, label=label, zorder=3 if label == "true" else 2)
        ax.axhline(0, color="grey", lw=0.5)
        ax.set(title=f"{name}, mean by phase difference", xlabel="first phase, to minus from (rad)")
        ax.legend()
    middle, sd = _row(arrays["W"][1]), _row(arrays["W_sd"])
    axes[1, 0].fill_between(along, middle - sd, middle + sd, color=figures.FITTED, alpha=0.15, lw=0)
    axes[1, 0].set(ylabel="weight")
    axes[1, 1].set(ylabel="gate per rad/s")
    seconds = list(even["fit"]["ahead"][0])
    lines = {
        "fit": (even["fit"]["ahead"], "error", figures.FITTED),
        "the circuit itself": (even["the circuit itself"]["ahead"], "error", figures.TRUE),
        "ideal integrator": (even["fit"]["ahead"], "integrator", figures.SIMPLE),
        "bump that stays": (even["fit"]["ahead"], "stay", "grey"),
    }
    for name, (tables, which, colour) in lines.items():
        values = [[t[s][which] for t in tables if t[s][which] is not None] for s in seconds]
        axes[1, 3].plot([float(s) for s in seconds], [np.mean(v) if v else np.nan for v in values], "o-", ms=3,
                        color=colour, label=name)  # fmt: skip
    axes[1, 3].set(title="(h) error of the predicted phase", xlabel="seconds ahead", ylabel="rad", yscale="log",
                   xscale="log")  # fmt: skip
    axes[1, 3].set_xticks([float(s) for s in seconds], seconds)
    axes[1, 3].minorticks_off()
    axes[1, 3].legend()
    return drawn
