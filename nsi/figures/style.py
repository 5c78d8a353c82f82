"""Style of all figures: colours, and matrices with symmetric limits."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

DIVERGING = "RdBu_r"
FITTED = "#c8553d"
TRUE = "#1b1b1e"
SIMPLE = "#588b8b"


def set_style():
    """Set the look of all figures."""
    plt.rcParams.update({
        "figure.dpi": 110, "savefig.dpi": 110, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 10, "legend.frameon": False, "figure.constrained_layout.use": True, "text.usetex": False,
    })  # fmt: skip


def draw_matrix(ax, W, title, limit=None, of="neuron", unit="weight", split=None):
    """One matrix with symmetric colour limits, beyond which colours are the limit's.

    of: what rows and columns are; unit: what the colour bar says; split: rows before the border that is drawn between
    response and input units."""
    limit = limit or np.quantile(np.abs(W), 0.995) or 1.0
    colours = plt.get_cmap(DIVERGING).with_extremes(bad="#c9c9c9")
    image = ax.imshow(W, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(title=title, xlabel=f"to {of}", ylabel=f"from {of}")
    ax.locator_params(integer=True)
    ax.spines[:].set_visible(True)
    if split:
        ax.axhline(split - 0.5, color="k", lw=0.7)
        ax.axvline(split - 0.5, color="k", lw=0.7)
    extend = "both" if (np.abs(W) > 1.001 * limit).any() else "neither"
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, extend=extend)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(unit, fontsize=8)


def draw_standard_errors(ax, se, title, values, of="neuron"):
    """A matrix of standard errors on a logarithmic scale of their own; grey where they are infinite. values: what they
    are of; of: what rows and columns are."""
    finite = se[np.isfinite(se) & (se > 0)]
    low, high = np.quantile(finite, (0.02, 0.98)) if len(finite) else (0.5, 1.0)
    colours = plt.get_cmap("magma_r").with_extremes(bad="#c9c9c9")
    shown = np.where(np.isfinite(se), se, np.nan)
    scale = LogNorm(low / 1.05, high * 1.05, clip=True)
    image = ax.imshow(shown, cmap=colours, norm=scale, interpolation="nearest")
    size = np.sqrt(np.mean(np.square(values)))
    ax.set(title=title, xlabel=f"to {of}", ylabel=f"from {of}")
    if not len(finite):
        ax.text(0.5, 0.5, "all infinite", ha="center", transform=ax.transAxes)
    ax.spines[:].set_visible(True)
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, extend="both")
    ticks = low, np.sqrt(low * high), high
    bar.set_ticks(ticks, labels=[f"{x:.2g}" for x in ticks], fontsize=7)
    bar.ax.minorticks_off()
    bar.set_label(f"standard error\n(r.m.s. value: {size:.2g})", fontsize=7)
