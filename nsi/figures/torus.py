"""The figures of a torus of grid cells, one function each, drawn from arrays (ring.py has a ring's)."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection

from nsi.figures.style import DIVERGING, FITTED, SIMPLE, TRUE
from nsi.geometry import TORUS

LINES = {"network": (FITTED, "-"), "the circuit itself": (TRUE, "-"), "ideal integrator": (SIMPLE, "--"),
         "bump that stays": ("grey", ":")}  # fmt: skip


def draw_sheet(ax, values, title, size=None, **colours):
    """Values of neurons, or of differences of phases, as hexagons in the plane, each at its nearest image.

    values: (n,), row by row of a sheet; size: symmetric colour limit, of signed values.
    """
    limits = (colours.pop("vmin", None), colours.pop("vmax", None)) if size is None else (-size, size)
    where = np.linalg.solve(TORUS.K, TORUS.difference(TORUS.places(len(values)), 0).T).T
    angle, radius = np.arange(6) * np.pi / 3, 4 * np.pi / 3 / np.sqrt(len(values))
    corners = where[:, None] + radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    image = PolyCollection(corners, array=values, cmap=DIVERGING if size else "viridis", lw=0, **colours)
    image.set_clim(*limits)
    ax.add_collection(image)
    ax.autoscale_view()
    ax.set(title=title, aspect="equal", xlabel="displacement (rad)")
    ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)


def profile_along(values):
    """Values of differences of phases (n,) along the first phase, from half a turn before to half a turn after."""
    side = round(np.sqrt(len(values)))
    return 2 * np.pi * (np.arange(side) - side // 2) / side, np.roll(values.reshape(side, side)[:, 0], side // 2)


def draw_cells(bump, position, maps, repeats):
    """What grid cells do. bump: (n,) rates at one moment; position: (steps, 2) m, a path; maps: (cells, bins, bins), x
    first; repeats: (2 bins - 1, 2 bins - 1), the first map's autocorrelogram."""
    figure, axes = plt.subplots(1, 3 + len(maps), figsize=(13, 2.8))
    draw_sheet(axes[0], bump, "(a) the bump on the sheet", vmin=0)
    axes[1].plot(*position.T, color="grey", lw=0.8)
    axes[1].plot(*position[-1], "o", color=FITTED, ms=5)
    axes[1].set(title="(b) path in the box", xlabel="x (m)", ylabel="y (m)")
    axes[1].set_aspect("equal", adjustable="datalim")
    for letter, ax, one in zip("cdefgh", axes[2:-1], maps, strict=False):
        ax.imshow(one.T, origin="lower", cmap="viridis", vmin=0)
        ax.set(title=f"({letter}) rate map", xticks=[], yticks=[])
    axes[-1].imshow(repeats.T, origin="lower", cmap=DIVERGING, vmin=-1, vmax=1)
    axes[-1].set(title=f"({'cdefgh'[len(maps)]}) autocorrelogram of (c)", xticks=[], yticks=[])
    return figure


def draw_connectivity(W, gate):
    """W and the gate as functions of the difference of phases. W: (true, fitted), each (n, n); gate: (true, fitted),
    each (2, n, n), of neurons on a sheet row by row."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4))
    for column, name, pair in zip(axes.T, ("W", "gate, x", "gate, y"), _pairs(W, gate), strict=True):
        means = [TORUS.profile(values)[1] for values in pair]
        for ax, mean, which in zip(column, means, ("true", "fitted"), strict=True):
            draw_sheet(ax, mean, f"{which} {name}", np.abs(means[0]).max())
    return figure


def draw_profiles(W, gate):
    """The same along the first phase, with the s.d. over the sheet shaded. Arguments: `draw_connectivity`'s."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3))
    for ax, name, pair in zip(axes, ("W", "gate, x", "gate, y"), _pairs(W, gate), strict=True):
        for values, colour, label, style in zip(pair, (TRUE, FITTED), ("true", "fitted"), ("--", "-"), strict=True):
            _, mean, sd = TORUS.profile(values)
            phase, mean, sd = *profile_along(mean), profile_along(sd)[1]
            ax.plot(phase, mean, style, color=colour, label=label, zorder=3 if label == "true" else 2)
            ax.fill_between(phase, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
        ax.axhline(0, color="grey", lw=0.5)
        ax.set(title=name, xlabel="first phase, to minus from (rad)")
        ax.legend()
    axes[0].set_ylabel("weight")
    axes[1].set_ylabel("gate per rad/s")
    return figure


def _pairs(W, gate):
    return W, [each[0] for each in gate], [each[1] for each in gate]


def draw_integration(recorded, predicted, table, own, spacing):
    """Paths that the network takes from velocity alone, and its error by seconds ahead.

    recorded, predicted: (trials, steps, 2) rad of displacement, from a common start; table, own:
    prediction.heading_table's, of the network and of the circuit itself; spacing: m, of the firing fields.
    """
    figure, axes = plt.subplots(1, len(recorded) + 1, figsize=(13, 3))
    for k, (ax, *paths) in enumerate(zip(axes, recorded, predicted, strict=False)):
        for path, colour, label, width in ((paths[0], TRUE, "recorded bump", 2.2), (paths[1], FITTED, "network", 1.0)):
            ax.plot(*path.T * spacing * np.sqrt(3) / (4 * np.pi), color=colour, label=label, lw=width)
        ax.set(title=f"held-out trial {k + 1}", xlabel="x (m)")
        ax.set_aspect("equal", adjustable="datalim")
    axes[0].set_ylabel("y (m)")
    axes[0].legend(fontsize=7)
    draw_errors(axes[-1], {"network": (table, "error"), "the circuit itself": (own, "error"),
                      "ideal integrator": (table, "integrator"), "bump that stays": (table, "stay")})  # fmt: skip
    return figure


def draw_errors(ax, lines):
    """Errors of the predicted place by seconds ahead. lines: {name of LINES: (a heading_table or several, key)}."""
    for name, (tables, key) in lines.items():
        tables, (colour, style) = tables if isinstance(tables, list) else [tables], LINES[name]
        seconds = [float(s) for s in tables[0]]
        values = [[t[s][key] for t in tables if t[s][key] is not None] for s in tables[0]]
        mean = [np.mean(v) if v else np.nan for v in values]
        ax.plot(seconds, mean, style, marker="o", ms=3, color=colour, label=name)
    ax.set(title="error of the predicted place", xlabel="seconds ahead", ylabel="rad", xscale="log")
    if any(np.isfinite(line.get_ydata()).any() for line in ax.lines):  # else there is no logarithm
        ax.set_yscale("log")
    ax.set_xticks(seconds, [f"{s:g}" for s in seconds])
    ax.minorticks_off()
    ax.legend(fontsize=7)


def draw_trust(W, se, true, gate, gate_se, true_gate):
    """How far to trust connections: their standard errors, the pairs' errors in standard errors against a normal
    variable's, and weights and gate of one neuron. All (n, n), of neurons on a sheet row by row; one component's gate.
    """
    figure, axes = plt.subplots(1, 4, figsize=(14, 2.9))
    draw_sheet(axes[0], TORUS.profile(se)[1], "(a) standard error, mean", vmin=0)
    z, bins = np.ravel((W - true) / se), np.linspace(-4, 4, 41)
    axes[1].hist(z[np.isfinite(z)], bins, density=True, color=FITTED, alpha=0.6, label="pairs")
    axes[1].plot(bins, np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi), color=TRUE, label="as claimed")
    axes[1].set(title="(b) error in standard errors", xlabel="(estimate − truth) / standard error")
    side = round(np.sqrt(len(W)))
    one, middle = side // 2 * (side + 1), side // 2
    phase = 2 * np.pi * (np.arange(side) - middle) / side
    for ax, name, *each in ((axes[2], "(c) one cell's weights", W, se, true),
                            (axes[3], "(d) its effective gate, x", gate, gate_se, true_gate)):  # fmt: skip
        values, row_se, truth = (matrix[one].reshape(side, side)[:, middle] for matrix in each)
        ax.fill_between(phase, values - 1.96 * row_se, values + 1.96 * row_se, color=FITTED, alpha=0.2, lw=0,
                        label="95 % interval")  # fmt: skip
        ax.plot(phase, values, color=FITTED, label="fitted")
        ax.plot(phase, truth, "--", color=TRUE, label="true")
        ax.axhline(0, color="grey", lw=0.5)
        ax.set(title=name, xlabel="first phase, to minus from (rad)")
    for ax in axes[1:]:
        ax.legend(fontsize=7)
    return figure
