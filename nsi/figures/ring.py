"""The figures of a ring, one function each, drawn from arrays."""

import matplotlib.pyplot as plt
import numpy as np

from nsi.evaluation.weights import unsigned_product
from nsi.figures.profiles import draw_interval
from nsi.figures.style import FITTED, OTHER, SIMPLE, TRUE, draw_band, draw_matrix, draw_standard_errors, draw_zero
from nsi.geometry import RING

SILENT_RATE = 0.005  # mean rate, in the bin where it is highest, below which a unit counts as silent
SILENT = "#9a9a9a"
GATE = "gate per rad/s"


def draw_tuning(panels):
    """Tuning maps over velocity x heading, each relative to its largest rate; silent units are marked.

    panels: {title: (units, velocity, heading) sorted as they are drawn}."""
    rows, columns = 3, 10
    figure = plt.figure(figsize=(11.6, 1.9 * len(panels) / 2 + 0.4), layout="constrained")
    parts = figure.subfigures((len(panels) + 1) // 2, 2, wspace=0.03, hspace=0.04).ravel()
    for part, (title, maps) in zip(parts, panels.items(), strict=False):
        chosen = np.linspace(0, len(maps) - 1, min(rows * columns, len(maps))).round().astype(int)
        axes = part.subplots(rows, columns, subplot_kw={"xticks": [], "yticks": []}).ravel()
        for ax in axes[len(chosen) :]:
            ax.set_axis_off()
        for ax, unit in zip(axes, chosen, strict=False):
            top = np.nanmax(maps[unit])
            image = ax.imshow(maps[unit] / (top or 1), aspect="auto", origin="lower", cmap="viridis", vmin=0, vmax=1)
            if not top > SILENT_RATE:
                ax.text(0.5, 0.5, "silent", color="w", fontsize=6, ha="center", va="center", transform=ax.transAxes)
        corner = axes[(rows - 1) * columns]
        corner.set_xlabel("heading\n0 to 360°", fontsize=7, labelpad=1)
        corner.set_ylabel("v, ±4\nrad/s", fontsize=7, labelpad=1)
        part.suptitle(f"{title}: {len(chosen)} of {len(maps)}", fontsize=9)
        bar = part.colorbar(image, ax=axes, fraction=0.02, pad=0.01, ticks=[0, 1])
        bar.set_label("rate / its highest", fontsize=7)
    return figure


def draw_connectivity(separated, control, truth, order):
    """The published connectivity figure, with the signed gate and the unsigned product.

    All weights share one scale, the true ones', and the network's two products of weights another. separated, control:
    Network; truth: recordings.load_truth's; order: of the input units.
    """
    n = separated.n
    sort = np.concatenate([np.arange(n), n + order])
    figure = plt.figure(figsize=(14, 6.6))
    grid = figure.add_gridspec(6, 4, width_ratios=[0.9, 1, 1, 0.75])
    W, true, products = truth["W"][:n, :n], truth["gate"][0], (unsigned_product(separated), separated.gate()[0])
    limit, product = np.abs(W).max(), max(np.quantile(np.abs(p), 0.995) for p in products)
    both, weight, per_velocity = f"response (first {n}), input", "weight, current per rate", "weight per rad/s"
    panels = (
        (grid[:3, 0], W, "(a) true W, compass to compass", limit, "compass", weight),
        (grid[3:, 0], control.W, "(b) control W: no separation", limit, "unit", weight),
        (grid[:, 1:3], separated.W[np.ix_(sort, sort)], "(c) separated W, response then input units", limit, both,
         weight),
        (grid[:2, 3], true, "(d) true gate", None, "compass", per_velocity),
        (grid[2:4, 3], products[0], "(e) product, unsigned", product, "response", per_velocity),
        (grid[4:, 3], products[1], "(f) gate, velocity-signed", product, "response", per_velocity),
    )  # fmt: skip
    for place, values, title, size, of, unit in panels:
        draw_matrix(figure.add_subplot(place), values, title, size, of, unit, n if of == both else None)
    return figure


def draw_trust(W, W_se, determined, gate, gate_se):
    """Best estimates, their standard errors, and the weights that the data determine, the others grey. All (n, n)."""
    figure, axes = plt.subplots(1, 5, figsize=(17, 3.1))
    limit, of = np.quantile(np.abs(W), 0.995), "response"
    draw_matrix(axes[0], W, "(a) W, best estimate", limit, of)
    draw_standard_errors(axes[1], W_se, "(b) standard error of W", W, of)
    draw_matrix(axes[2], np.where(determined, W, np.nan), "(c) W, identifiable pairs", limit, of)
    draw_matrix(axes[3], gate, "(d) effective gate", None, of, GATE)
    draw_standard_errors(axes[4], gate_se, "(e) standard error of the gate", gate, of)
    return figure


def draw_profiles(arrays, separated, control, truth):
    """Mean weight against distance around the ring, estimated, of both networks, and true; left W, right the gate.

    The band of the estimate is the 95 % interval of its mean for noise alone, that of a network its s.d. from pair to
    pair. arrays: of connectivity.npz; separated, control: Network; truth: recordings.load_truth's, with the
    `effective_gate` of the circuit.
    """
    n, around = separated.n, np.arange(separated.n)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    W, gate = ([arrays[f"{name}{kind}"] for kind in ("", "_unbiased", "_se")] for name in ("W", "gate"))
    _draw_mean(left, separated.W[:n, :n], "network", SIMPLE)
    _draw_mean(left, control.W, "control", OTHER)
    _draw_estimate(left, truth["W"][:n, :n], W)
    _draw_estimate(right, truth["effective_gate"][0], [a[0] for a in gate])
    other = right.twinx()  # the network's product is many times larger
    _draw_mean(other, separated.gate()[0], None, SIMPLE)
    right.plot([], [], color=SIMPLE, label="network, product of weights\n(right axis)")
    other.spines["right"].set_visible(True)
    other.tick_params(axis="y", colors=SIMPLE)
    limit = np.abs(other.get_ylim()).max()
    other.set_ylim(-limit, limit)  # so that both axes have 0 in the middle
    share = np.array([arrays["identifiable"][around, (around + s) % n].mean() for s in around - n // 2])
    left.fill_between(
        np.degrees(around - n // 2) * 2 * np.pi / n, 0, 1, where=share < 0.5, transform=left.get_xaxis_transform(),
        color="grey", alpha=0.12, lw=0, label="distances at which fewer than half\nof the pairs are identifiable",
    )  # fmt: skip
    left.legend(fontsize=7, ncols=2, loc="lower center")
    right.legend(fontsize=7)
    left.set(ylabel="weight", title="W, mean over the ring by distance")
    right.set(ylabel=GATE, title="effective gate, mean over the ring by distance")
    return figure


def draw_recovered(true, estimated):
    """Estimated and true W and gate, as matrices and by distance, with the interval of the estimate's mean for noise.

    true: {"W", "gate": (n, n)}; estimated: the same, of best estimate, centre and standard error of its intervals."""
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 6), width_ratios=(1, 1, 1.3))
    for row, name, unit in zip(axes, ("W", "gate"), ("weight", GATE), strict=True):
        limit = np.abs(true[name]).max()
        draw_matrix(row[0], true[name], f"true {name}", limit, unit=unit)
        draw_matrix(row[1], estimated[name][0], f"estimated {name}", limit, unit=unit)
        _draw_estimate(row[2], true[name], estimated[name])
        row[2].set(title=f"{name}, mean by distance")
        row[2].legend(fontsize=7)
    return figure


def _draw_mean(ax, W, label, colour):
    """Mean of a network's weights by distance around the ring, and their s.d. as a band."""
    distance, mean, sd = RING.profile(W)
    ax.plot(np.degrees(distance), mean, color=colour, label=label)
    draw_band(ax, np.degrees(distance), mean - sd, mean + sd, colour=colour, alpha=0.15)


def _draw_estimate(ax, true, estimated):
    """A best estimate and the truth by distance around the ring. true: (n, n); estimated: best estimate, centre and
    standard error of its intervals."""
    distance, mean, _ = RING.profile(true)
    ax.plot(np.degrees(distance), mean, "--", color=TRUE, label="true", zorder=3)
    mean = RING.profile(estimated[0])[1]
    ax.plot(np.degrees(distance), mean, color=FITTED, label="estimate")
    draw_interval(ax, estimated, RING, RING.places(len(true)))
    draw_zero(ax)
    ax.set(xlabel="to minus from, around the ring (deg)", xticks=range(-180, 181, 90), xlim=(-180, 180))
    limit = 2 * np.abs(mean).max()
    ax.set_ylim(-limit, limit)  # which cuts intervals of pairs that are hardly ever active together


def draw_integration(time, recorded, fits, heading, trials):
    """Decoded heading while the networks run freely on velocity. All angles: (trials, steps) rad."""
    figure, axes = plt.subplots(1, len(trials) + 1, figsize=(13, 2.9), width_ratios=[1] * len(trials) + [0.9])
    colours = dict(zip(fits, (FITTED, SIMPLE), strict=True))
    lines = [("true heading", heading, "#b8b8b8", "-", 3), ("recorded bump", recorded, TRUE, "-", 1.5)]
    lines += [(name, angle, colours[name], "--", 1.2) for name, angle in fits.items()]
    for ax, trial in zip(axes, trials, strict=False):
        for name, angle, colour, style, width in lines:
            degrees = np.degrees(_centred(angle[trial], recorded[trial]))
            ax.plot(time, degrees, style, color=colour, label=name, lw=width)
        ax.set(xlabel="time (s)", title=f"held-out trial {trial + 1}")
    axes[0].set_ylabel("heading (deg, unwrapped)")
    axes[0].legend(fontsize=7)
    for name, angle in fits.items():
        error = np.degrees(np.abs(RING.difference(angle, recorded)))
        axes[-1].plot(time, error.mean(0), color=colours[name], label=name)
        draw_band(axes[-1], time, error.min(0), error.max(0), colour=colours[name], alpha=0.12)
    axes[-1].set(xlabel="time (s)", ylabel="|error| (deg)", title="error, mean and range over trials")
    axes[-1].legend()
    return figure


def draw_shifters(fitted, true, correlations, headings, directions):
    """Input units and the shifter neurons that they match one to one; silent units as crosses.

    fitted, true: (pairs, velocity, heading) tuning maps; correlations: (pairs,) of rates;
    headings: (2, pairs) rad, preferred by unit and by neuron; directions: (2, pairs) selectivity.
    """
    figure = plt.figure(figsize=(13, 3.5))
    parts = figure.subfigures(1, 2, width_ratios=[1.1, 1])
    active = np.nanmax(fitted, (1, 2)) > SILENT_RATE
    chosen = np.argsort(-correlations)[np.linspace(0, len(correlations) - 1, 8).round().astype(int)]
    axes = parts[0].subplots(2, len(chosen), subplot_kw={"xticks": [], "yticks": []})
    for column, pair in zip(axes.T, chosen, strict=True):
        for ax, maps in zip(column, (true, fitted), strict=True):
            ax.imshow(maps[pair], aspect="auto", origin="lower", cmap="viridis", vmin=0)
        column[0].set_title(f"r {correlations[pair]:.2f}", fontsize=8)
        if not active[pair]:
            column[1].set_xlabel("silent", fontsize=8)
    axes[0, 0].set_ylabel("shifter\nneuron")
    axes[1, 0].set_ylabel("input\nunit")
    parts[0].suptitle("velocity × heading maps, best to worst match", fontsize=9)
    left, middle, right = parts[1].subplots(1, 3)
    bins = np.linspace(-0.2, 1, 25)
    left.hist([correlations[active], correlations[~active]], bins, stacked=True, color=(FITTED, SILENT),
              label=(f"active ({active.sum()})", f"silent ({(~active).sum()})"))  # fmt: skip
    left.set(xlabel="correlation of rates", ylabel="matched pairs")
    left.margins(y=0.25)
    left.legend(fontsize=7, loc="upper left")
    for ax, pairs in ((middle, np.degrees(headings[::-1]) % 360), (right, directions[::-1])):
        ax.plot(*pairs[:, active], ".", color=FITTED, ms=4)
    right.plot(*directions[::-1][:, ~active], "x", color=SILENT, ms=4)
    middle.set(xlabel="preferred heading (deg),\nshifter neuron", ylabel="preferred heading (deg), input unit",
               xlim=(0, 360), ylim=(0, 360))  # fmt: skip
    right.set(xlabel="direction selectivity,\nshifter neuron", ylabel="direction selectivity, input unit",
              xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))  # fmt: skip
    return figure


def _centred(angle, reference):
    """Unwrap an angle so that it starts within half a turn of an unwrapped reference."""
    angle, reference = np.unwrap(angle), np.unwrap(reference)
    return angle - np.round((angle[0] - reference[0]) / (2 * np.pi)) * 2 * np.pi
