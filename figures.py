"""The figures, one function each, drawn from arrays; test.ipynb calls them and keeps them in assets/."""

import matplotlib.pyplot as plt
import numpy as np

import analysis

DIVERGING = "RdBu_r"
FITTED, TRUE, SIMPLE = "#c8553d", "#1b1b1e", "#588b8b"


def style():
    """Set the look of all figures."""
    plt.rcParams.update({
        "figure.dpi": 110, "savefig.dpi": 110, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 10, "legend.frameon": False, "figure.constrained_layout.use": True,
    })  # fmt: skip


def tuning(panels, rows=3, columns=10, speed=4.0):
    """Tuning maps over velocity x heading. panels: {title: (units, velocity, heading) sorted as they are drawn}."""
    figure = plt.figure(figsize=(11, 1.9 * len(panels) / 2 + 0.4), layout="constrained")
    parts = figure.subfigures((len(panels) + 1) // 2, 2, wspace=0.03, hspace=0.04).ravel()
    for part, (title, maps) in zip(parts, panels.items(), strict=False):
        chosen = np.linspace(0, len(maps) - 1, min(rows * columns, len(maps))).round().astype(int)
        axes = part.subplots(rows, columns).ravel()
        for ax in axes:
            ax.set(xticks=[], yticks=[])
            ax.set_axis_off()
        for ax, unit in zip(axes, chosen, strict=False):
            ax.set_axis_on()
            ax.imshow(
                maps[unit], aspect="auto", origin="lower", cmap="viridis", vmin=0, vmax=np.nanmax(maps[unit]) or 1
            )
        corner = axes[(rows - 1) * columns]
        corner.set_xlabel("heading\n0 to 360°", fontsize=6, labelpad=1)
        corner.set_ylabel(f"v, ±{speed:g}\nrad/s", fontsize=6, labelpad=1)
        part.suptitle(title, fontsize=9)
    return figure


def matrix(ax, W, title, limit=None, From="neuron", To="neuron", split=None):
    """One matrix with symmetric colour limits; `split` draws the border between response and input units."""
    limit = limit or np.quantile(np.abs(W), 0.995) or 1.0
    colours = plt.get_cmap(DIVERGING).with_extremes(bad="#c9c9c9")
    image = ax.imshow(W, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(title=title, xlabel=f"to {To}", ylabel=f"from {From}")
    ax.spines[:].set_visible(True)
    if split:
        ax.axhline(split - 0.5, color="k", lw=0.7)
        ax.axvline(split - 0.5, color="k", lw=0.7)
    ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)


def connectivity(separated, control, truth, order):
    """The published connectivity figure, with the signed gate beside the unsigned product.

    separated, control: analysis.Fit; truth: recording.load_truth's; order: of the input units.
    """
    n = separated.n
    sort = np.concatenate([np.arange(n), n + order])
    figure = plt.figure(figsize=(14, 6.6))
    grid = figure.add_gridspec(6, 4, width_ratios=[0.9, 1, 1, 0.75])
    matrix(
        figure.add_subplot(grid[:3, 0]),
        truth["W"][:n, :n],
        "(a) true W, compass to compass",
        From="compass",
        To="compass",
    )
    matrix(figure.add_subplot(grid[3:, 0]), control.W, "(b) control W: no separation", From="unit", To="unit")
    matrix(
        figure.add_subplot(grid[:, 1:3]), separated.W[np.ix_(sort, sort)], "(c) separated W, response then input units",
        From=f"response (first {n}), input", To=f"response (first {n}), input", split=n,
    )  # fmt: skip
    matrix(figure.add_subplot(grid[:2, 3]), truth["gate"][0], "(d) true gate", From="compass", To="compass")
    matrix(
        figure.add_subplot(grid[2:4, 3]),
        analysis.unsigned_product(separated),
        "(e) product, unsigned",
        From="response",
        To="response",
    )
    matrix(
        figure.add_subplot(grid[4:, 3]),
        analysis.gate(separated)[0],
        "(f) gate, velocity-signed",
        From="response",
        To="response",
    )
    return figure


def trust(W, W_se, determined, gate, gate_se):
    """Fitted weights, their standard errors, and the weights that the data determine, the others grey; the gate.

    All (n, n). Standard errors are drawn up to the largest weight, beyond which they say nothing more.
    """
    figure, axes = plt.subplots(1, 5, figsize=(15, 2.9))
    limit = np.quantile(np.abs(W), 0.995)
    matrix(axes[0], W, "(a) W, fitted", limit, "response", "response")
    error(axes[1], W_se, "(b) standard error of W", limit)
    matrix(axes[2], np.where(determined, W, np.nan), "(c) W, as far as determined", limit, "response", "response")
    limit = np.quantile(np.abs(gate), 0.995)
    matrix(axes[3], gate, "(d) effective gate", limit, "response", "response")
    error(axes[4], gate_se, "(e) standard error of the gate", limit)
    return figure


def error(ax, se, title, limit):
    """A matrix of standard errors, from 0 to `limit`."""
    image = ax.imshow(np.minimum(se, limit), cmap="magma_r", vmin=0, vmax=limit, interpolation="nearest")
    ax.set(title=title, xlabel="to response", ylabel="from response")
    ax.spines[:].set_visible(True)
    ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, extend="max")


def profiles(separated, control, truth, determined, effective):
    """Mean weight against distance around the ring, fitted and true; left W, right the gate.

    separated, control: analysis.Fit; determined: (n, n) bool; effective: (n, n), uncertainty.effective_gate's.
    """
    n = separated.n
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3))
    share = np.array([determined[np.arange(n), (np.arange(n) + s) % n].mean() for s in np.arange(n) - n // 2])
    for ax, curves in (
        (left, {"true": truth["W"][:n, :n], "separated": separated.W[:n, :n], "control": control.W}),
        (
            right,
            {
                "true": truth["gate"][0],
                "fitted, product of weights": analysis.gate(separated)[0],
                "effective": effective,
            },
        ),
    ):
        for (name, W), colour in zip(curves.items(), (TRUE, FITTED, SIMPLE), strict=False):
            distance, mean, sd = analysis.ring_profile(W)
            ax.plot(
                np.degrees(distance),
                mean,
                color=colour,
                label=name,
                ls="--" if name == "true" else "-",
                zorder=3 if name == "true" else 2,
            )
            ax.fill_between(np.degrees(distance), mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
        ax.axhline(0, color="grey", lw=0.5)
        ax.set(xlabel="to minus from, around the ring (deg)", xticks=range(-180, 181, 90), xlim=(-180, 180))
        ax.legend()
    left.fill_between(
        np.degrees(distance),
        0,
        1,
        where=share < 0.5,
        transform=left.get_xaxis_transform(),
        color="grey",
        alpha=0.12,
        lw=0,
    )
    left.set(ylabel="weight", title="W (grey: not determined by the data)")
    right.set(ylabel="gate per rad/s", title="gate")
    return figure


def integration(time, recorded, fits, heading, trials=(0, 1, 2)):
    """Decoded heading while the networks run freely on velocity. All angles: (trials, steps) rad."""
    figure, axes = plt.subplots(1, len(trials) + 1, figsize=(13, 2.9), width_ratios=[1] * len(trials) + [0.9])
    for ax, trial in zip(axes, trials, strict=False):
        for name, angle, colour in (("true heading", heading, "#b8b8b8"), ("recorded bump", recorded, TRUE)):
            ax.plot(
                time,
                np.degrees(_centred(angle[trial], recorded[trial])),
                color=colour,
                label=name,
                lw=3 if name == "true heading" else 1.5,
            )
        for (name, angle), colour in zip(fits.items(), (FITTED, SIMPLE), strict=True):
            ax.plot(
                time, np.degrees(_centred(angle[trial], recorded[trial])), color=colour, label=name, lw=1.2, ls="--"
            )
        ax.set(xlabel="time (s)", title=f"held-out trial {trial + 1}")
    axes[0].set_ylabel("heading (deg, unwrapped)")
    axes[0].legend(fontsize=7)
    for (name, angle), colour in zip(fits.items(), (FITTED, SIMPLE), strict=True):
        error = np.abs(analysis.angle_between(angle, recorded))
        axes[-1].plot(time, error.mean(0), color=colour, label=name)
        axes[-1].fill_between(time, error.min(0), error.max(0), color=colour, alpha=0.12, lw=0)
    axes[-1].set(xlabel="time (s)", ylabel="|error| (rad)", title="error, mean and range over trials")
    axes[-1].legend()
    return figure


def shifters(fitted, true, correlations, headings, directions):
    """Input units beside the shifter neurons they match one to one.

    fitted, true: (pairs, velocity, heading) tuning maps; correlations: (pairs,) of rates;
    headings: (2, pairs) rad, preferred by unit and by neuron; directions: (2, pairs) selectivity.
    """
    figure = plt.figure(figsize=(13, 3.3))
    parts = figure.subfigures(1, 2, width_ratios=[1.1, 1])
    chosen = np.argsort(-correlations)[np.linspace(0, len(correlations) - 1, 8).round().astype(int)]
    axes = parts[0].subplots(2, len(chosen))
    for column, pair in zip(axes.T, chosen, strict=True):
        for ax, maps in zip(column, (true, fitted), strict=True):
            ax.imshow(maps[pair], aspect="auto", origin="lower", cmap="viridis", vmin=0)
            ax.set(xticks=[], yticks=[])
        column[0].set_title(f"r {correlations[pair]:.2f}", fontsize=8)
    axes[0, 0].set_ylabel("shifter\nneuron")
    axes[1, 0].set_ylabel("input\nunit")
    parts[0].suptitle("velocity × heading maps, best to worst match", fontsize=9)
    left, middle, right = parts[1].subplots(1, 3)
    left.hist(correlations, bins=np.linspace(-0.2, 1, 25), color=FITTED)
    left.set(xlabel="correlation of rates", ylabel="matched pairs")
    middle.plot(*np.degrees(headings[::-1]) % 360, ".", color=FITTED, ms=4)
    middle.set(
        xlabel="preferred heading,\nshifter neuron (deg)", ylabel="input unit (deg)", xlim=(0, 360), ylim=(0, 360)
    )
    right.plot(*directions[::-1], ".", color=FITTED, ms=4)
    right.set(xlabel="direction selectivity,\nshifter neuron", ylabel="input unit", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    return figure


def _centred(angle, reference):
    """Unwrap an angle so that it starts within half a turn of an unwrapped reference."""
    angle, reference = np.unwrap(angle), np.unwrap(reference)
    return angle - np.round((angle[0] - reference[0]) / (2 * np.pi)) * 2 * np.pi


# ---- real flies -------------------------------------------------------------------------------------------------


def wedges(rec, trial, seconds=30):
    """One trial as it was recorded: activity of the wedges over time, and the heading on the ball over it."""
    steps = min(int(rec.valid[trial].sum()), round(seconds / rec.dt))
    n, time = rec.rates.shape[-1], np.arange(steps) * rec.dt
    figure, axes = plt.subplots(2, 1, figsize=(11, 3.6), sharex=True, height_ratios=[2.4, 1])
    extent = (0, time[-1], -180 / n, 360 - 180 / n)
    axes[0].imshow(
        rec.rates[trial, :steps].T, aspect="auto", origin="lower", cmap="Greys", extent=extent, interpolation="nearest"
    )
    angles = analysis.ring_angles(n)
    bump, heading = analysis.decode_heading(rec.rates[trial, :steps], angles), rec.heading[trial, :steps, 0]
    offset = np.angle(np.mean(np.exp(1j * (bump - heading))))
    for angle, colour, label in ((bump, SIMPLE, "bump"), (heading + offset, FITTED, "heading on the ball, shifted")):
        axes[0].plot(time, (np.rad2deg(angle) + 180 / n) % 360 - 180 / n, ".", ms=2.5, color=colour, label=label)
    axes[0].set(ylabel="wedge, °", yticks=[0, 90, 180, 270])
    axes[0].legend(loc="upper right", markerscale=3, frameon=True)
    axes[1].plot(time, rec.velocity[trial, :steps, 0], color=TRUE, lw=0.8)
    axes[1].set(xlabel="s", ylabel="velocity, rad/s")
    return figure


def fly(results, horizons):
    """The tests on real flies. results: experiments/fly.json; horizons: s."""
    figure, axes = plt.subplots(2, 3, figsize=(12.5, 6.6))
    fly_errors(axes[0, 0], results, horizons)
    fly_amplitude(axes[0, 1], results, horizons)
    fly_wiring(axes[0, 2], results)
    fly_gate(axes[1, 0], results)
    fly_leads(axes[1, 1], results)
    fly_shares(axes[1, 2], results)
    return figure


def fly_errors(ax, results, horizons):
    """Error of prediction less the integrator's, fly by fly: mean and s.e.m. over flies."""
    integrator = np.array(results["error"]["integrator"])
    colours = {
        "network": FITTED,
        "network, control": "#d9a05b",
        "integrator, filtered": SIMPLE,
        "bump that stays": "#9a9a9a",
    }
    for name, colour in colours.items():
        better = integrator - np.array(results["error"][name])
        ax.errorbar(
            horizons,
            better.mean(0),
            better.std(0, ddof=1) / np.sqrt(len(better)),
            color=colour,
            marker="o",
            ms=4,
            label=name,
        )
    ax.axhline(0, color=TRUE, lw=0.8)
    ax.set(
        xscale="log",
        xticks=horizons,
        xlabel="horizon, s",
        ylabel="error less than the integrator's, rad",
        ylim=(-0.3, 0.08),
    )
    ax.set_xticks(horizons, [f"{h:g}" for h in horizons])
    ax.minorticks_off()
    ax.set_title("(a) where will the bump be? flies left out")
    ax.legend(fontsize=7)


def fly_amplitude(ax, results, horizons):
    """Correlation of predicted and recorded size of the bump, mean and s.e.m. over flies."""
    for name, colour in {"network": FITTED, "network, control": "#d9a05b", "bump that stays": "#9a9a9a"}.items():
        r = np.array(results["amplitude"][name])
        ax.errorbar(horizons, r.mean(0), r.std(0, ddof=1) / np.sqrt(len(r)), color=colour, marker="o", ms=4, label=name)
    ax.set(xscale="log", xlabel="horizon, s", ylabel="r, predicted and recorded size")
    ax.set_xticks(horizons, [f"{h:g}" for h in horizons])
    ax.minorticks_off()
    ax.set_title("(b) how large will it be?")
    ax.legend(fontsize=7)


def fly_wiring(ax, results):
    """Profiles of W by distance, each scaled to its largest weight: fitted, connectome's, and null models'."""
    apart = np.arange(9) * 22.5
    fitted = np.array(results["read"]["recording"]["profile"])
    low, middle, high = np.percentile(fitted, [0, 50, 100], axis=0)
    ax.fill_between(apart, low, high, color=FITTED, alpha=0.25, lw=0)
    ax.plot(apart, middle, color=FITTED, label="fitted")
    for name, line in (("randomised phases", ":"), ("randomised phases, blurred", "--")):
        ax.plot(apart, np.median(results["read"][name]["profile"], 0), line, color="#9a9a9a", label=name)
    direct, delta7 = (np.array(results["connectome"][k]) for k in ("direct", "delta7"))
    design = np.stack([direct, delta7, np.ones(9)], 1)
    ax.plot(
        apart, design @ np.linalg.lstsq(design, middle, rcond=None)[0], ".", color=TRUE, label="connectome, two scales"
    )
    ax.axhline(0, color=TRUE, lw=0.6)
    ax.set(xlabel="distance around the ring, °", ylabel="mean weight", xticks=[0, 45, 90, 135, 180])
    ax.set_title("(c) E-PG to E-PG")
    ax.legend(fontsize=7)


def fly_gate(ax, results):
    """What velocity adds to the weights by distance, of the recording and of null models."""
    distance = np.arange(-8, 8) * 22.5
    colours = {
        "recording": FITTED,
        "shuffled velocity": SIMPLE,
        "reversed rates": "#d9a05b",
        "randomised phases": "#9a9a9a",
    }
    for name, colour in colours.items():
        low, middle, high = np.percentile(results["read"][name]["gate_profile"], [0, 50, 100], axis=0)
        ax.fill_between(distance, low, high, color=colour, alpha=0.2, lw=0)
        ax.plot(distance, middle, color=colour, label=name)
    ax.axhline(0, color=TRUE, lw=0.6)
    ax.set(xlabel="from E-PG to E-PG, °", ylabel="weight per rad/s", xticks=[-180, -90, 0, 90, 180])
    ax.set_title("(d) effective gate")
    ax.legend(fontsize=7)


def fly_leads(ax, results):
    """How far P-EN1's bump and the input units' are ahead of E-PG's when turning, one line for each fly."""
    for k, (name, colour) in enumerate({"P-EN1": TRUE, "input units": FITTED}.items()):
        lead = np.array([results["lead"][name][side] for side in ("left", "right")])
        ax.plot([3 * k, 3 * k + 1], lead, color=colour, lw=0.6, alpha=0.5)
        ax.plot([3 * k, 3 * k + 1], lead.mean(1), "o-", color=colour, label=name)
    ax.axhline(0, color=TRUE, lw=0.6)
    ax.set_xticks([0, 1, 3, 4], ["left", "right"] * 2)
    ax.set(ylabel="ahead of E-PG, °")
    ax.set_title("(e) turning faster than 1 rad/s")
    ax.legend(fontsize=7)


def fly_shares(ax, results):
    """Share of P-EN1's variance explained, for each fly and their mean."""
    for k, (name, each) in enumerate(results["share"].items()):
        ax.barh(k, np.mean(each), color=FITTED if name == "input units" else "#c9c9c9")
        ax.plot(each, np.full(len(each), k), ".", color=TRUE, ms=4)
    ax.set_yticks(range(len(results["share"])), results["share"], fontsize=7)
    ax.set(xlabel="share of P-EN1's variance")
    ax.set_title("(f) one linear map onto P-EN1")
    ax.invert_yaxis()
