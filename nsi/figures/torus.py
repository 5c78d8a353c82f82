"""The figures of a torus of grid cells, one function each, drawn from arrays (ring.py has a ring's)."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection

from nsi.estimation.regression import NORMAL
from nsi.figures import style
from nsi.figures.style import DIVERGING, FITTED, SIMPLE, TRUE
from nsi.geometry import TORUS

LINES = {"network": (FITTED, "-"), "estimate": (FITTED, "-"), "trained network": (SIMPLE, "-"),
         "the circuit itself": (TRUE, "-"), "ideal integrator": (style.OTHER, "--"),
         "bump that stays": ("grey", ":")}  # fmt: skip


def draw_sheet(ax, values, title, size=None, unit="", **colours):
    """Values of neurons, or of differences of phases, as hexagons in the plane, each at its nearest image.

    values: (n,), row by row of a sheet; size: symmetric colour limit, of signed values; unit: what the colour bar says.
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
    style.add_bar(ax, image, unit)


def profile_along(values):
    """Values of differences of phases (n,) along the first phase, from half a turn before to half a turn after."""
    side = round(np.sqrt(len(values)))
    return 2 * np.pi * (np.arange(side) - side // 2) / side, np.roll(values.reshape(side, side)[:, 0], side // 2)


def draw_cells(bump, position, maps, repeats):
    """What grid cells do. bump: (n,) rates at one moment; position: (steps, 2) m, a path; maps: (cells, bins, bins), x
    first; repeats: (2 bins - 1, 2 bins - 1), the first map's autocorrelogram."""
    figure, axes = plt.subplots(1, 3 + len(maps), figsize=(13, 2.8))
    draw_sheet(axes[0], bump, "(a) the bump on the sheet", vmin=0, unit="rate")
    axes[1].plot(*position.T, color="grey", lw=0.8)
    axes[1].plot(*position[-1], "o", color=FITTED, ms=5)
    axes[1].set(title="(b) path in the box", xlabel="x (m)", ylabel="y (m)")
    axes[1].set_aspect("equal", adjustable="datalim")
    for letter, ax, one in zip("cdefgh", axes[2:-1], maps, strict=False):
        style.draw_map(ax, one, f"({letter}) rate map", "mean rate", vmin=0)
    title = f"({'cdefgh'[len(maps)]}) autocorrelogram of (c)"
    style.draw_map(axes[-1], repeats, title, "correlation", DIVERGING, vmin=-1, vmax=1)
    return figure


def draw_connectivity(true, found):
    """W and the gate as functions of the difference of phases, true and estimated, on one scale each.

    true: dict of W (n, n) and gate (2, n, n), neurons on a sheet row by row; found: the arrays of connectivity.npz."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4))
    for column, (name, unit, truth, (best, _, _)) in zip(axes.T, _components(true, found), strict=True):
        means = [TORUS.profile(values)[1] for values in (truth, best)]
        for ax, mean, which in zip(column, means, ("true", "estimated"), strict=True):
            draw_sheet(ax, mean, f"{which} {name}", np.abs(means[0]).max(), unit)
    return figure


def draw_profiles(true, found):
    """The same along the first phase, with the 95 % interval of the unbiased mean for noise alone, but of cells with
    themselves."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3))
    for ax, (name, unit, truth, (best, centre, se)) in zip(axes, _components(true, found), strict=True):
        middle, half = TORUS.profile(centre)[1], NORMAL * np.sqrt(TORUS.profile(se**2)[1] / len(se))
        middle[0] = np.nan  # a cell and itself
        phase, low = profile_along(middle - half)
        style.draw_band(ax, phase, low, profile_along(middle + half)[1], "95 % for noise alone")
        ax.plot(*profile_along(TORUS.profile(best)[1]), color=FITTED, label="best estimate")
        ax.plot(*profile_along(TORUS.profile(truth)[1]), "--", color=TRUE, label="true")
        style.draw_zero(ax)
        ax.set(title=name, xlabel="first phase, to minus from (rad)", ylabel=unit)
    axes[0].legend(fontsize=7)
    return figure


def _components(true, found):
    """W and each gate. Yields: name, unit, truth (n, n), and best estimate, centre and standard error."""
    kinds = [{name: found[f"{name}{kind}"] for name in ("W", "gate")} for kind in ("", "_unbiased", "_se")]
    yield "W", "weight", true["W"], [kind["W"] for kind in kinds]
    for d, axis in enumerate("xy"):
        yield f"gate, {axis}", "gate per rad/s", true["gate"][d], [kind["gate"][d] for kind in kinds]


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
        tables, (colour, line) = tables if isinstance(tables, list) else [tables], LINES[name]
        seconds = [float(s) for s in tables[0]]
        values = [[t[s][key] for t in tables if t[s][key] is not None] for s in tables[0]]
        mean = [np.mean(v) if v else np.nan for v in values]
        ax.plot(seconds, mean, line, marker="o", ms=3, color=colour, label=name)
    scale = "log" if any(np.isfinite(line.get_ydata()).any() for line in ax.lines) else "linear"  # nothing has none
    style.set_log_axis(
        ax, seconds, title="error of the predicted place", xlabel="seconds ahead", ylabel="rad", yscale=scale
    )
    ax.legend(fontsize=7)


def draw_trust(true, found, name="total"):
    """How far to trust connections: standard errors, errors in standard errors against a normal variable's, and one
    cell's connections and gate: best estimates, and the 95 % intervals from the data alone.

    true, found: as for `draw_connectivity`, with `name`: "W" or "total"."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 2.9))
    best, centre, se = (found[f"{name}{kind}"] for kind in ("", "_unbiased", "_se"))
    draw_sheet(axes[0], TORUS.profile(se)[1], f"(a) standard error of {name}", vmin=0, unit="mean over the sheet")
    z, bins = np.ravel((centre - true[name]) / se), np.linspace(-4, 4, 41)
    axes[1].hist(z[np.isfinite(z)], bins, density=True, color=FITTED, alpha=0.6, label="pairs")
    axes[1].plot(bins, np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi), color=TRUE, label="as claimed")
    axes[1].set(title="(b) error of the intervals' centres", xlabel="(centre − truth) / standard error",
                ylabel="density")  # fmt: skip
    side = round(np.sqrt(len(se)))
    one, middle = side // 2 * (side + 1), side // 2
    phase = 2 * np.pi * (np.arange(side) - middle) / side
    gate = [found[f"gate{kind}"][0] for kind in ("", "_unbiased", "_se")]
    panels = (
        (axes[2], f"(c) one cell's {name}", "weight", true[name], (best, centre, se)),
        (axes[3], "(d) its gate, x", "gate per rad/s", true["gate"][0], gate),
    )
    for ax, title, unit, truth, each in panels:
        row, middle_row, row_se, row_true = (a[one].reshape(side, side)[:, middle] for a in (*each, truth))
        style.draw_band(ax, phase, middle_row - NORMAL * row_se, middle_row + NORMAL * row_se, "95 % intervals")
        ax.plot(phase, row, color=FITTED, label="best estimate")
        ax.plot(phase, row_true, "--", color=TRUE, label="true")
        style.draw_zero(ax)
        ax.set(title=title, xlabel="first phase, to minus from (rad)", ylabel=unit)
    for ax in axes[1:]:
        ax.legend(fontsize=7)
    return figure
