"""Style of all figures: colours, logarithmic axes, colour bars, and matrices with symmetric limits."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

DIVERGING = "RdBu_r"
FITTED = "#c8553d"
TRUE = "#1b1b1e"
SIMPLE = "#588b8b"
OTHER = "#d9a05b"
UNKNOWN = "#c9c9c9"  # of a matrix


def set_style():
    """Set the look of all figures."""
    plt.rcParams.update({
        "figure.dpi": 110, "savefig.dpi": 110, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 10, "legend.frameon": False, "figure.constrained_layout.use": True, "text.usetex": False,
    })  # fmt: skip


def set_log_axis(ax, ticks, **settings):
    """A logarithmic axis of x with these ticks alone. settings: of ax.set."""
    ax.set(xscale="log", **settings)
    ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
    ax.minorticks_off()


def draw_band(ax, x, low, high, label=None, colour=FITTED, alpha=0.2):
    """An interval around a line."""
    ax.fill_between(x, low, high, color=colour, alpha=alpha, lw=0, label=label)


def draw_zero(ax):
    ax.axhline(0, color="grey", lw=0.5)


def add_bar(ax, image, label, **settings):
    """A colour bar beside an axis. settings: of Figure.colorbar. Returns: it."""
    return ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, label=label, **settings)


def draw_map(ax, values, title, label, cmap="viridis", **limits):
    """An array (x, y) over a plane, with a colour bar."""
    add_bar(ax, ax.imshow(values.T, origin="lower", cmap=cmap, **limits), label)
    ax.set(title=title, xticks=[], yticks=[])


def _draw_pairs(ax, values, title, of, cmap, **scale):
    """A matrix of pairs, grey where it is not a number. Returns: the image."""
    colours = plt.get_cmap(cmap).with_extremes(bad=UNKNOWN)
    ax.set(title=title, xlabel=f"to {of}", ylabel=f"from {of}")
    ax.spines[:].set_visible(True)
    return ax.imshow(values, cmap=colours, interpolation="nearest", **scale)


def draw_matrix(ax, W, title, limit=None, of="neuron", unit="weight", split=None):
    """One matrix with symmetric colour limits, beyond which colours are the limit's.

    of: what rows and columns are; unit: what the colour bar says; split: rows before the border that is drawn between
    response and input units."""
    limit = limit or np.quantile(np.abs(W), 0.995) or 1.0
    image = _draw_pairs(ax, W, title, of, DIVERGING, vmin=-limit, vmax=limit)
    ax.locator_params(integer=True)
    if split:
        ax.axhline(split - 0.5, color="k", lw=0.7)
        ax.axvline(split - 0.5, color="k", lw=0.7)
    bar = add_bar(ax, image, None, extend="both" if (np.abs(W) > 1.001 * limit).any() else "neither")
    bar.ax.tick_params(labelsize=7)
    bar.set_label(unit, fontsize=8)


def draw_standard_errors(ax, se, title, values, of="neuron"):
    """A matrix of standard errors on a logarithmic scale of their own; grey where they are infinite. values: what they
    are of; of: what rows and columns are."""
    finite = se[np.isfinite(se) & (se > 0)]
    low, high = np.quantile(finite, (0.02, 0.98)) if len(finite) else (0.5, 1.0)
    scale = LogNorm(low / 1.05, high * 1.05, clip=True)
    image = _draw_pairs(ax, np.where(np.isfinite(se), se, np.nan), title, of, "magma_r", norm=scale)
    if not len(finite):
        ax.text(0.5, 0.5, "all infinite", ha="center", transform=ax.transAxes)
    bar, ticks = add_bar(ax, image, None, extend="both"), (low, np.sqrt(low * high), high)
    bar.set_ticks(ticks, labels=[f"{x:.2g}" for x in ticks], fontsize=7)
    bar.ax.minorticks_off()
    bar.set_label(f"standard error\n(r.m.s. value: {np.sqrt(np.mean(np.square(values))):.2g})", fontsize=7)
