"""The figures of one fit, drawn from its recording, its networks and connectivity.npz.

report.py puts them on a page. `draw_figures` makes them all; one that a fit has nothing for is left out.
"""

import matplotlib.pyplot as plt
import numpy as np

from nsi.evaluation import tuning
from nsi.evaluation.metrics import tables_of
from nsi.figures import style
from nsi.figures.profiles import draw_interval
from nsi.figures.style import FITTED, SIMPLE, TRUE, draw_matrix, draw_standard_errors
from nsi.network import predict, predict_hidden

MIN_SHOWN_S = 8.0  # s of a trial that is drawn, at least
MIN_SHOWN_STEPS = 60
MAX_UNITS = 40  # input units drawn
MARGINS = {f"figure.subplot.{side}": x for side, x in (
    ("left", 0.07), ("right", 0.97), ("bottom", 0.14), ("top", 0.92), ("wspace", 0.28), ("hspace", 0.12)
)}  # fmt: skip


CAPTIONS = {
    "recording": "activity of the neurons by their places in one held-out trial, with the heading decoded from it and, "
    "where the file gives one, the heading given, shifted by a constant; below, velocity",
    "prediction": "held-out trials, above recorded, below predicted: up to the line the network is clamped to the "
    "recording, then it runs on velocity alone; dots are the decoded heading",
    "error": "error of the predicted heading on held-out trials, beside an integrator of velocity with the recording's "
    "own gain and a bump that stays. n counts samples; of several replicas the line is the mean, the faint lines are "
    "the single ones",
    "connectivity": "weights from rows to columns, neurons in the order of their places; grey is what the data do not "
    "determine each by itself. Standard errors, on a scale of their own and grey where infinite, are of W, or, where "
    "they are smaller, of the total effect",
    "profiles": "mean of the best estimate over pairs of neurons by their distance (line) and its s.d. from pair to "
    "pair (dotted); shaded, the 95 % interval of the unbiased mean for noise alone, different neurons' being taken as "
    "independent; errors that all neurons share, as of what is assumed of hidden neurons, are not in it. A "
    "ring's W is a bump; a gate that moves the bump is odd, of opposite sign on either side. The gate is what "
    "velocity, its first component, adds to weights",
    "inputs": "mean rate of each input unit over velocity and heading, on a scale of its own: a shifter is tuned to "
    "both. Below, how each unit follows velocity, (R - L) / (R + L) of its mean rates in right and left turns, and the "
    f"heading that it prefers. {tuning.SIDES.rstrip('.')}",
}


def draw_figures(held_out, geometry, places, networks, arrays, metrics, warmup):
    """All figures of a fit.

    held_out: Recording; places: (n, D) rad; networks: the replicas, of which the first is drawn where only one can be;
    arrays: the arrays of connectivity.npz, or None; metrics: of metrics.json; warmup: clamped steps of a window.
    Returns: list of name, what to see, matplotlib Figure.
    """
    style.set_style()
    # a layout that is computed takes as long as all else
    plt.rcParams.update({"figure.constrained_layout.use": False, **MARGINS})
    net, where, order = networks[0], (geometry, places), geometry.order(places)
    drawn = {
        "recording": draw_recording(held_out, *where),
        "prediction": draw_prediction(held_out, net, *where, warmup),
        "error": draw_heading_error(tables_of(metrics, "heading_error")),
        "connectivity": draw_connectivity(net, arrays, order),
    }
    if arrays is not None:
        drawn["profiles"] = draw_profiles(arrays, *where, order)
    if len(net.b) > net.n:
        drawn["inputs"] = draw_inputs(net, held_out, *where)
    see = dict(CAPTIONS)
    if len(networks) > 1:
        for name in ("prediction", "inputs"):
            see[name] += f". Drawn is the first of {len(networks)} replicas"
    if arrays is not None and "W_replicas_se" in arrays:
        see["connectivity"] += ". On the right, the s.d. of each weight over the replicas"
    return [(name, see[name], figure) for name, figure in drawn.items()]


def draw_recording(rec, geometry, places):
    """One trial of the recording, the longest."""
    trial = int(np.argmax(rec.valid.sum(1)))
    steps = _shown(rec, int(rec.valid[trial].sum()))
    figure, (top, below) = plt.subplots(2, 1, figsize=(9, 3.8), sharex=True, height_ratios=[2.6, 1])
    angle = geometry.decode(rec.rates[trial, :steps], places)[:, 0]
    angles = {"decoded": (angle, SIMPLE)}
    if rec.heading is not None:
        heading = rec.heading[trial, :steps, 0]
        angles["given"] = (heading + np.angle(np.nansum(np.exp(1j * (angle - heading)))), FITTED)
    _draw_activity(top, rec.rates[trial, :steps], rec.dt, places, angles)
    top.set(xlabel="", ylabel="place (deg)")
    top.legend(loc="upper right", markerscale=3, frameon=True, fontsize=7)
    for d, velocity in enumerate(rec.velocity[trial, :steps].T):
        below.plot(np.arange(steps) * rec.dt, velocity, lw=0.8, color=(TRUE, FITTED, SIMPLE)[d % 3])
    below.set(xlabel="time (s)", ylabel="velocity (rad/s)", xlim=(0, steps * rec.dt))
    return figure


def draw_prediction(rec, net, geometry, places, warmup):
    """Recorded and predicted activity of the best, the median and the worst trial."""
    lengths = rec.valid.sum(1)
    settled = min(warmup + int(np.ceil(3 / net.alpha)), int(lengths.max()) // 3)
    steps = _shown(rec, int(lengths.max()))
    free = predict(net, rec, settled, 0, steps)[..., : net.n]
    scored = rec.valid[:, :steps] & (np.arange(steps) >= settled)
    wrong = (np.square(free - rec.rates[:, :steps]).mean(-1) * scored).sum(1) / np.maximum(scored.sum(1), 1)
    usable = np.argsort(np.where(scored.any(1), wrong, np.inf))[: scored.any(1).sum()]
    chosen = dict.fromkeys(int(k) for k in usable[[0, (len(usable) - 1) // 2, -1]])
    names = {1: ["only"], 2: ["best", "worst"], 3: ["best", "median", "worst"]}[len(chosen)]
    brightest = float(np.quantile(rec.rates[rec.valid], 0.998)) or float(rec.rates.max())
    figure, axes = plt.subplots(2, len(chosen), figsize=(3.6 * len(chosen) + 0.6, 4.2), squeeze=False, sharey=True)
    for column, name, k in zip(axes.T, names, chosen, strict=True):
        for ax, rates, of in zip(column, (rec.rates, free), ("recorded", "predicted"), strict=True):
            shown = rates[k, : min(steps, int(lengths[k]))]
            angles = {"decoded": (geometry.decode(shown, places)[:, 0], SIMPLE)}
            _draw_activity(ax, shown, rec.dt, places, angles, brightest)
            ax.axvline(settled * rec.dt, color=FITTED, lw=1)
            ax.set(title=f"{name} trial, {of}", xlabel="time (s)" if of == "predicted" else "")
            ax.tick_params(labelbottom=of == "predicted")
    for ax in axes[:, 0]:
        ax.set_ylabel("place (deg)")
    figure.subplots_adjust(left=0.22 if len(chosen) == 1 else 0.07, wspace=0.08, hspace=0.3)
    return figure


def draw_heading_error(tables):
    """Error of the heading against seconds ahead. tables: of metrics.json, one for each replica."""
    ahead = [float(s) for s in tables[0]]
    get = lambda key: np.array([[row[key] for row in one.values()] for one in tables], float)  # NaN for None
    figure, ax = plt.subplots(figsize=(5.2, 3.4))
    if len(tables) > 1:
        ax.plot(ahead, get("error").T, color=FITTED, lw=0.6, alpha=0.4)
    lines = {
        "network": ("error", FITTED, "-"),
        "integrator": ("integrator", SIMPLE, "--"),
        "stays": ("stay", TRUE, ":"),
    }
    for name, (key, colour, line) in lines.items():
        ax.plot(ahead, get(key).mean(0), line, color=colour, marker="o", ms=4, label=name)
    ax.axhline(np.pi / 2, color="grey", lw=0.5)
    ax.annotate("chance", (ahead[0], np.pi / 2), fontsize=7, va="bottom")
    if np.isnan(get("error")[0]).all():
        ax.text(0.5, 0.5, "too few samples in the held-out trials", ha="center", transform=ax.transAxes)
    for x, row in zip(ahead, tables[0].values(), strict=True):
        if row["samples"]:
            ax.annotate(f"n {row['samples']}", (x, 1.68), fontsize=7, ha="center", color="grey")
    style.set_log_axis(ax, ahead, xlabel="seconds ahead", ylabel="error of the heading (rad)", ylim=(0, 1.75),
                 xlim=(ahead[0] / 1.2, ahead[-1] * 1.2))  # fmt: skip
    ax.legend(fontsize=8, loc="center left")
    figure.subplots_adjust(left=0.12)
    return figure


def choose_claimed(arrays):
    """The connections whose intervals are drawn: the direct weights, or, where theirs are wider, those of the total,
    direct weights and paths through hidden neurons together. arrays: the arrays of connectivity.npz.

    Returns: its name, centre and standard error, (n, n)."""
    name = "total" if np.median(arrays["total_se"]) < np.median(arrays["W_se"]) else "W"
    return name, arrays[f"{name}_unbiased"], arrays[f"{name}_se"]


def draw_connectivity(net, arrays, order):
    """W, the standard error of what is claimed, W as far as it is determined, and the s.d. over replicas."""
    n, square = net.n, np.ix_(order, order)
    W = (net.W[:n, :n] if arrays is None else arrays["W"])[square]
    limit = float(np.quantile(np.abs(W), 0.995)) or 1.0
    count = 1 if arrays is None else 4 if "W_replicas_se" in arrays else 3
    figure, axes = plt.subplots(1, count, figsize=(4.2 * count, 3.6), squeeze=False)
    draw_matrix(axes[0, 0], W, "W, trained network" if arrays is None else "W, best estimate", limit)
    if arrays is not None:
        name, _, se = choose_claimed(arrays)
        draw_standard_errors(axes[0, 1], se[square], f"standard error of {name}", arrays[name])
        draw_matrix(axes[0, 2], np.where(arrays["identifiable"][square], W, np.nan), "W, identifiable pairs", limit)
        if count > 3:
            draw_standard_errors(axes[0, 3], arrays["W_replicas_se"][square], "s.d. of W over replicas", arrays["W"])
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
    figure.subplots_adjust(left=0.2 if arrays is None else 0.05, right=0.85 if arrays is None else 0.94, wspace=0.5)
    return figure


def draw_profiles(arrays, geometry, places, order):
    """Mean of what is claimed by distance, and the effective gate with its mean by distance."""
    figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.5))
    name, *interval = choose_claimed(arrays)
    _draw_profile(axes[0], (arrays[name], *interval), geometry, places)
    axes[0].set(ylabel="weight", title=f"{name}, mean by distance")
    gate = [arrays[key][0] for key in ("gate", "gate_unbiased", "gate_se")]
    draw_matrix(axes[1], gate[0][np.ix_(order, order)], "effective gate", unit="gate per rad/s")
    _draw_profile(axes[2], gate, geometry, places)
    axes[2].set(ylabel="gate per rad/s", title="effective gate")
    figure.subplots_adjust(left=0.06, wspace=0.55)
    return figure


def draw_inputs(net, rec, geometry, places):
    """Tuning of the input units, the response units clamped."""
    units = predict_hidden(net, rec)[rec.valid]
    heading, velocity = geometry.decode(rec.rates[rec.valid], places)[:, 0], rec.velocity[rec.valid][:, 0]
    known = np.isfinite(heading)
    units, heading, velocity = units[known], heading[known], velocity[known]
    speed = float(np.quantile(np.abs(velocity), 0.98)) or 1.0
    active = np.flatnonzero((units > 0.05).mean(0) > 0.005)
    figure = plt.figure(figsize=(11, 5.2))
    grid = figure.add_gridspec(2, 2, height_ratios=[1.6, 1])
    if len(active) == 0:
        figure.text(0.5, 0.5, "no input unit is active", ha="center")
        return figure
    with np.errstate(invalid="ignore"):
        maps = tuning.tuning_maps(units[:, active], heading, velocity, (10, 18), speed)
    maps = np.nan_to_num(maps)
    chosen = tuning.sort_units(maps)
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(MAX_UNITS, len(chosen))).round().astype(int)]
    columns = 10
    rows = int(np.ceil(len(chosen) / columns))
    sheet = np.full((rows, 11, columns, 19), np.nan)  # maps of 10 by 18 bins, with a gap after each
    for k, unit in enumerate(chosen):
        sheet[rows - 1 - k // columns, :10, k % columns, :18] = maps[unit] / (maps[unit].max() or 1)
    ax = figure.add_subplot(grid[0, :])
    ax.imshow(sheet.reshape(rows * 11, -1), aspect="auto", origin="lower", cmap="viridis", interpolation="nearest")
    ax.set(xticks=[], yticks=[], xlabel="heading, -180° to 180°, in each", ylabel=f"velocity,\n±{speed:.2g} rad/s")
    ax.spines[:].set_visible(False)
    ax.set_title(
        f"{len(chosen)} of {len(active)} active input units ({units.shape[1]} in all): first those for left turns "
        "(v < 0), then those for right (v > 0)"
    )
    left, right = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    selectivity = tuning.direction_selectivity(maps)
    left.hist(selectivity, bins=np.linspace(-1, 1, 31), color=FITTED)
    left.set(xlabel="direction selectivity (1: right turns, v > 0, alone)", ylabel="units", xlim=(-1.05, 1.05))
    right.plot(np.degrees(tuning.preferred_heading(maps)), selectivity, ".", color=FITTED, ms=5)
    right.set(xlabel="preferred heading (deg)", ylabel="direction selectivity", xlim=(-180, 180), ylim=(-1.1, 1.1))
    figure.subplots_adjust(hspace=0.4, bottom=0.1, wspace=0.15)
    return figure


# ---- parts ------------------------------------------------------------------------------------------------------


def _shown(rec, length):
    """Number of steps that are drawn of a trial of this length."""
    return min(length, max(round(MIN_SHOWN_S / rec.dt), MIN_SHOWN_STEPS))


def _draw_activity(ax, rates, dt, places, angles, top=None):
    """Activity over time, neurons by place, with angles (steps,) rad over it. angles: {name: (angle, colour)}."""
    n = len(places)
    extent = (0, len(rates) * dt, -180 / n, 360 - 180 / n)
    rows = np.argsort(places[:, 0] % (2 * np.pi))
    if places.shape[-1] == 1:  # each row shows the neuron that is nearest, since they may lie unevenly
        off = np.exp(1j * (places[:, 0] - np.arange(n)[:, None] * 2 * np.pi / n))
        rows = np.abs(np.angle(off)).argmin(1)
    ax.imshow(rates[:, rows].T, aspect="auto", origin="lower", cmap="Greys", extent=extent, interpolation="nearest",
              vmin=0, vmax=top or rates.max() or 1)  # fmt: skip
    time = (np.arange(len(rates)) + 0.5) * dt
    for name, (angle, colour) in angles.items():
        ax.plot(time, (np.degrees(angle) + 180 / n) % 360 - 180 / n, ".", ms=2, color=colour, label=name)
    ax.set(yticks=[0, 90, 180, 270], ylim=extent[2:], xlim=extent[:2])


def _draw_profile(ax, estimated, geometry, places):
    """Mean of the best estimate over pairs by distance, with its pairs' s.d., and the interval of the mean."""
    style.draw_zero(ax)
    ax.set_xlabel("to minus from (deg)" if geometry.dimensions == 1 else "distance (deg)")
    profile = draw_interval(ax, estimated, geometry, places)
    if not len(profile.mean):
        ax.text(0.5, 0.5, "none is determined", ha="center", transform=ax.transAxes)
        return
    ax.plot(profile.degrees, profile.mean, color=FITTED)
    sides = profile.mean - profile.sd, profile.mean + profile.sd
    for side in sides:
        ax.plot(profile.degrees, side, color=FITTED, lw=0.5, ls=":")
    if geometry.dimensions == 1:
        ax.set_xticks(range(-180, 181, 90))
    span = np.abs(sides).max() * 1.6 or 1.0
    ax.set_ylim(-span, span)
