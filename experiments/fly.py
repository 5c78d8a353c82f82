"""Real flies: what a fit to E-PG activity and walking velocity predicts of flies, neurons and wiring it never saw.

*Prediction*, leaving one fly out: the network is held at the record up to a moment, then runs freely on velocity
alone; its error is the mean |angle| between its bump and the recorded one. Rivals: a bump that stays; an integrator,
whose one gain is fitted on the same flies as the network, for each horizon; the same with a start filtered over the
last frames and a delayed velocity, both chosen on these flies too; and the control without separation.
*Clear bump*, the rule of selection, which looks at E-PG activity alone: trials whose mean |sum of r exp(i angle)| / sum
of r is above the median of all trials. It selects what is scored; no fit selects.
*Wiring*: mean E-PG to E-PG weight by distance around the ring, against the connectome's E-PG to E-PG synapses minus
its path through Delta7, times one free ratio.
*Unseen neurons*: the drive that the input units send to the wedges, against the P-EN1 neurons recorded there, which no
fit reads (held_out_rates).
*Null models*: velocity of other trials, reversed rates, wedges with randomised phases, and these blurred by the optics.

All networks have the settings of fly.sh, and predict by the mean of their replicas' bumps. Each replica draws
flies with replacement; ranges are over replicas. Writes experiments/fly.json and assets/fly.png and prints the tables.
Run it from the top folder, as `python -m experiments.fly`.
"""

import argparse
import json
import re
import shlex
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

import analysis
import figures
import fitting
import recording
import train
import uncertainty
from experiments import runs

HORIZONS = 0.5, 1.0, 2.0, 5.0  # s
BEFORE, EVERY = 20, 5  # steps that a network is held, and between two starts
GAINS, SMOOTHING, LAGS = np.arange(0.5, 1.51, 0.05), (1.0, 0.7, 0.5, 0.3), (0, 1, 2)
TURNING = 1.0  # rad/s, above which a fly turns
BLUR = 1.0  # wedges, s.d. of the optics' blur in the null model
RIVALS = "integrator", "integrator, filtered"


# ---- prediction -------------------------------------------------------------------------------------------------


def pieces(rec):
    """Every trial cut into overlapping pieces of BEFORE steps, the moment itself and the longest horizon.

    Returns: Recording of them, and which trial each is from.
    """
    length = BEFORE + 1 + round(max(HORIZONS) / rec.dt)
    where = [(k, s) for k, steps in enumerate(rec.valid.sum(1)) for s in range(0, steps - length + 1, EVERY)]
    cut = lambda x: np.stack([x[k, s : s + length] for k, s in where])  # noqa: E731
    return recording.Recording(cut(rec.rates), cut(rec.velocity), rec.dt), np.array([k for k, _ in where])


def vector(rates):
    """The bump as a complex number: angle and size. (..., n) to (...)."""
    return rates @ np.exp(1j * analysis.ring_angles(rates.shape[-1]))


def ahead(dt):
    """Steps after the moment for each horizon."""
    return np.array([round(h / dt) for h in HORIZONS])


def predict(fits, cut):
    """Mean bump of networks that run freely after the moment. Returns: (pieces, horizons) complex."""
    free = [analysis.run_network(f, cut, BEFORE + 1)[:, BEFORE + ahead(cut.dt), : f.n] for f in fits]
    return np.mean([vector(r) for r in free], 0)


def integrated(cut, gain, smoothing=1.0, lag=0):
    """A bump that starts where the filtered rates have it, and moves with gain times velocity. (pieces, horizons)."""
    weights = smoothing * (1 - smoothing) ** np.arange(BEFORE + 1)[::-1]
    start = np.angle(weights @ vector(cut.rates[:, : BEFORE + 1]).T)
    turned = np.cumsum(cut.velocity[..., 0], 1) * cut.dt
    moved = turned[:, BEFORE - lag + ahead(cut.dt)] - turned[:, BEFORE - lag, None]
    return start[:, None] + gain * moved


def integrators(cut, fly, options):
    """Leave one fly out, and predict it with the integrator that is best on the others at each horizon.

    fly: (pieces,), whose each is; options: of `integrated`. Returns: (pieces, horizons) angles, rad.
    """
    angles = np.stack([integrated(cut, *option) for option in options])  # (options, pieces, horizons)
    wrong = np.stack([missed(a, cut) for a in angles])
    result = np.empty(angles.shape[1:])
    for k in np.unique(fly):
        best = np.mean([wrong[:, fly == other].mean(1) for other in np.unique(fly) if other != k], 0).argmin(0)
        result[fly == k] = np.stack([angles[b, fly == k, h] for h, b in enumerate(best)], 1)
    return result


def missed(angles, cut):
    """|angle| between predicted and recorded bump. angles: (pieces, horizons). Returns: the same, rad."""
    return np.abs(analysis.angle_between(angles, np.angle(vector(cut.rates[:, BEFORE + ahead(cut.dt)]))))


def fit(rec, args):
    """Networks with the settings of fly.sh. Returns: list of analysis.Fit, one for each replica."""
    return analysis.fits(fitting.fit(rec, args, torch.device("cpu"))[0])


def clearness(rec):
    """How clear each trial's bump is: mean of |sum of r exp(i angle)| / sum of r. Returns: (trials,)."""
    strength = np.abs(vector(rec.rates)) / np.maximum(rec.rates.sum(-1), 1e-12)
    return np.array([x[v].mean() for x, v in zip(strength, rec.valid, strict=True)])


def leave_one_out(rec, args):
    """Fit all flies but one, predict that one; for every fly.

    Returns: the bumps (pieces, horizons) complex, of the network, the control and the rivals, by name.
    """
    cut, trial = pieces(rec)
    fly, control = rec.fly[trial], argparse.Namespace(**vars(args) | {"control": True})
    bumps = {name: np.empty((len(fly), len(HORIZONS)), complex) for name in ("network", "network, control")}
    for k in np.unique(fly):
        for name, options in zip(bumps, (args, control), strict=True):
            one = recording.Recording(cut.rates[fly == k], cut.velocity[fly == k], cut.dt)
            bumps[name][fly == k] = predict(fit(rec.trials(rec.fly != k), options), one)
        print(f"  left out fly {k + 1} of {fly.max() + 1}", flush=True)
    size = np.abs(vector(cut.rates[:, BEFORE, None]))
    bumps["bump that stays"] = size * np.exp(1j * integrated(cut, 0.0))
    for name, smoothing, lags in (("integrator", (1.0,), (0,)), ("integrator, filtered", SMOOTHING, LAGS)):
        bumps[name] = np.exp(
            1j * integrators(cut, fly, [(g, s, lag) for g in GAINS for s in smoothing for lag in lags])
        )
    return bumps


def scores(bumps, rec):
    """Errors of prediction fly by fly. bumps: of `leave_one_out`.

    Returns: {"error" and "error, clear bump": {name: (flies, horizons)}, rad; "amplitude": {name: (flies, horizons)},
    correlation of predicted and recorded size of the bump}.
    """
    cut, trial = pieces(rec)
    recorded, chosen = (
        np.abs(vector(cut.rates[:, BEFORE + ahead(cut.dt)])),
        (clearness(rec) > np.median(clearness(rec)))[trial],
    )
    flies = [rec.fly[trial] == k for k in np.unique(rec.fly)]
    found = {"error": {}, "error, clear bump": {}, "amplitude": {}}
    for name, bump in bumps.items():
        wrong = missed(np.angle(bump), cut)
        found["error"][name] = [wrong[f].mean(0).tolist() for f in flies]
        found["error, clear bump"][name] = [wrong[f & chosen].mean(0).tolist() for f in flies if (f & chosen).any()]
        if not name.startswith("integrator"):  # it has no size
            pairs = [zip(np.abs(bump[f]).T, recorded[f].T, strict=True) for f in flies]
            found["amplitude"][name] = [[float(analysis.correlation(*p)) for p in pair] for pair in pairs]
    return found


# ---- wiring -----------------------------------------------------------------------------------------------------


def connectome(path):
    """Mean synapses between E-PG neurons of the glomeruli 1 to 8 by distance around the ring.

    path: the connectome's .npz (see the README). Returns: those of a neuron on another (9,), and through Delta7 (9,),
    for distances 0, 22.5, ... 180 degrees.
    """
    with np.load(path) as file:
        W, population, glomerulus = file["W"].astype(float), file["pop"], file["glom"]
    epg, delta7 = (population == "EPG") & ~np.char.endswith(glomerulus, "9"), population == "D7"
    number = np.array([int(g[1:]) for g in glomerulus[epg]])
    place = np.where(np.char.startswith(glomerulus[epg], "R"), (number - 1) * 45.0, 22.5 + (8 - number) * 45.0)
    where = np.round(np.abs((place[:, None] - place + 180) % 360 - 180) / 22.5).astype(int)
    another = ~np.eye(len(place), dtype=bool)
    direct, through = W[np.ix_(epg, epg)], W[np.ix_(epg, delta7)] @ W[np.ix_(delta7, epg)]
    mean = lambda path, pairs: np.array([path[pairs & (where == d)].mean() for d in range(9)])  # noqa: E731
    return mean(direct, another), mean(through, True)


def profile(W):
    """Mean weight at distances 0, 22.5, ... 180 degrees, both ways. (16, 16) to (9,)."""
    _, mean, _ = analysis.ring_profile(W)
    return (mean[8 - np.arange(9)] + mean[(8 + np.arange(9)) % 16]) / 2


def match(found, direct, delta7):
    """Correlation of a profile with direct - ratio * delta7, at the best ratio >= 0. Returns: r, ratio."""
    ratios = np.concatenate([[0], np.geomspace(1e-4, 1, 400)]) * np.ptp(direct) / np.ptp(delta7) * 10
    r = [analysis.correlation(found, direct - ratio * delta7) for ratio in ratios]
    return float(np.max(r)), float(ratios[np.argmax(r)])


def displacement(fit):
    """How far input units send from where they receive, degrees, positive in the direction in which they are driven.

    Means of the units' weights as vectors: sum over units of v * conj(received) * sent, those driven by left turns
    counted backwards. The connectome's P-EN1 neurons: 55.
    """
    n = fit.n
    received, sent = vector(fit.W[:n, n:].T), vector(fit.W[n:, :n])
    turn = received.conj() * sent * np.abs(fit.W_in[0])
    return float(np.rad2deg(np.angle(np.sum(np.where(fit.W_in[0] > 0, turn, turn.conj())))))


def gate_size(fit, rec):
    """The odd first harmonic of the effective gate, current per rad/s: what turns the bump with velocity."""
    distance, mean, _ = analysis.ring_profile(uncertainty.effective_gate(fit, rec)[0])
    return float(2 * np.mean(mean * np.sin(distance)))


def turning_gain(fits, cut):
    """Regression of how far the free bump moves in a second on how far the fly turns."""
    start, end = (np.mean([vector(analysis.run_network(f, cut, BEFORE + 1)[:, s, : f.n]) for f in fits], 0)
                  for s in (BEFORE + 1, BEFORE + ahead(cut.dt)[1]))  # fmt: skip
    turned = cut.velocity[:, BEFORE + 2 : BEFORE + 1 + ahead(cut.dt)[1], 0].sum(1) * cut.dt
    few = np.abs(turned) < np.pi / 2
    return float(np.polyfit(turned[few], analysis.angle_between(np.angle(end), np.angle(start))[few], 1)[0])


# ---- unseen neurons ---------------------------------------------------------------------------------------------


def input_units(fit, rec):
    """Run the input units along the record. Returns: their states and the drive they send to the wedges."""
    states = analysis.synaptic_state(analysis.run_network(fit, rec)[..., fit.n :], fit.alpha)
    return states, states @ fit.W[fit.n :, : fit.n]


def leads(bump, rec):
    """How far another bump is ahead of E-PG's when a fly turns. bump: (trials, steps) complex.

    Returns: {"left" and "right": degrees, for each fly}, circular means weighted by the bumps' sizes.
    """
    relative = bump * vector(rec.rates).conj()
    turns = {"right": rec.velocity[..., 0] > TURNING, "left": rec.velocity[..., 0] < -TURNING}
    mean = lambda turn, k: np.sum(relative[turn & rec.valid & (rec.fly == k)[:, None]])  # noqa: E731
    degrees = lambda turn: [float(np.rad2deg(np.angle(mean(turn, k)))) for k in np.unique(rec.fly)]  # noqa: E731
    return {side: degrees(turn) for side, turn in turns.items()}


def share(x, y, rec):
    """Share of the variance of y that one linear map from x explains, fitted on every second trial, for each fly.

    x: (trials, steps, any); y: (trials, steps, any). Returns: (flies,) on the other trials.
    """
    half = np.arange(len(x)) % 2 == 0
    x = np.concatenate([x, np.ones((*x.shape[:2], 1))], -1).astype(float)
    settled = rec.valid & (np.arange(x.shape[1]) >= BEFORE)
    fitted = settled & half[:, None]
    G, target = x[fitted].T @ x[fitted], x[fitted].T @ y[fitted]
    weights = np.linalg.solve(G + 1e-6 * np.trace(G) / len(G) * np.eye(len(G)), target)
    tested = [settled & ~half[:, None] & (rec.fly == k)[:, None] for k in np.unique(rec.fly)]
    return [float(1 - np.sum((y[t] - x[t] @ weights) ** 2) / np.sum((y[t] - y[t].mean(0)) ** 2)) for t in tested]


def unseen(rec, pen, fits, shuffled):
    """The input units beside the P-EN1 neurons. fits, shuffled: of the recording, and with the velocity of others."""
    drive = np.mean([input_units(f, rec)[1] for f in fits], 0)
    epg, v = (analysis.synaptic_state(a, fits[0].alpha) for a in (rec.rates, rec.velocity))
    rows = {
        "E-PG and velocity": [np.concatenate([epg, v], -1)],
        "E-PG, velocity and their product": [np.concatenate([epg, v, epg * v], -1)],
        "input units": [input_units(f, rec)[0] for f in fits],
        "input units, shuffled velocity": [input_units(f, rec)[0] for f in shuffled],
    }
    return {
        "lead": {"P-EN1": leads(vector(pen), rec), "input units": leads(vector(drive), rec)},
        "share": {name: np.mean([share(x, pen, rec) for x in each], 0).tolist() for name, each in rows.items()},
    }


# ---- null models ------------------------------------------------------------------------------------------------


def nulls(rec, rng):
    """Recordings in which velocity cannot move the bump, or there is none. Returns: {name: Recording}."""
    other = lambda **change: recording.Recording(**vars(rec) | change)  # noqa: E731
    backwards = rec.rates.copy()
    for rates, steps in zip(backwards, rec.valid.sum(1), strict=True):
        rates[:steps] = rates[:steps][::-1]
    noise = other(rates=randomised(rec, rng))
    blurred = gaussian_filter1d(noise.rates, BLUR, axis=-1, mode="wrap")
    return {
        "shuffled velocity": other(velocity=np.roll(rec.velocity, len(rec.velocity) // 2, 0)),
        "reversed rates": other(rates=backwards),
        "randomised phases": noise,
        "randomised phases, blurred": other(rates=(blurred * rec.rates.std() / blurred.std()).astype(np.float32)),
    }


def randomised(rec, rng):
    """Each wedge's rates with their spectrum but random phases, and their values in rank order as they were."""
    rates = np.zeros_like(rec.rates)
    for trial, out, steps in zip(rec.rates, rates, rec.valid.sum(1), strict=True):
        spectrum = np.fft.rfft(trial[:steps], axis=0)
        turn = np.exp(1j * rng.uniform(0, 2 * np.pi, spectrum.shape))
        rank = np.fft.irfft(spectrum * turn, steps, axis=0).argsort(0).argsort(0)
        out[:steps] = np.take_along_axis(np.sort(trial[:steps], 0), rank, 0)
    return rates


def read(fits, rec, cut, wiring):
    """What is read off fits to one recording, for each replica. wiring: `connectome`'s. Returns: dict of lists."""
    profiles = [profile(f.W[: f.n, : f.n]) for f in fits]
    return {
        "profile": [p.tolist() for p in profiles],
        "gate_profile": [analysis.ring_profile(uncertainty.effective_gate(f, rec)[0])[1].tolist() for f in fits],
        "r_connectome": [match(p, *wiring)[0] for p in profiles],
        "displacement": [displacement(f) for f in fits],
        "gate": [gate_size(f, rec) for f in fits],
        "turning_gain": [turning_gain([f], cut) for f in fits],
    }


def correlations(rec):
    """Profile of the wedges' correlations, over time, for each fly: what no model is needed for. (flies, 9)."""
    of = lambda k: np.corrcoef(rec.rates[rec.fly == k][rec.valid[rec.fly == k]], rowvar=False)  # noqa: E731
    return [profile(of(k)).tolist() for k in np.unique(rec.fly)]


# ---- tables -----------------------------------------------------------------------------------------------------


def table(results):
    """The results as Markdown. results: experiments/fly.json."""
    parts = []
    network = np.array(results["error"]["network"])
    head = ["| | " + " | ".join(f"{h:g} s" for h in HORIZONS) + " |", "|" + " --- |" * (len(HORIZONS) + 1)]
    for kind in ("error", "error, clear bump", "amplitude"):
        rows = {name: np.array(values) for name, values in results[kind].items()}
        lines = [f"| {n} | " + " | ".join(runs.spread(x) for x in v.T) + " |" for n, v in rows.items()]
        if kind == "error":
            for name in RIVALS:
                better = np.array(rows[name]) - network
                cells = (f"{runs.spread(x)} ({(x > 0).sum()}/{len(x)})" for x in better.T)
                lines.append(f"| *{name}, minus network* | " + " | ".join(cells) + " |")
        parts.append("\n".join([f"`{kind}`", "", *head, *lines]))
    lines = ["| | `r_connectome` | `displacement` | `gate` | `turning_gain` |", "|" + " --- |" * 5]
    for name, row in results["read"].items():
        cells = (interval(row[k], d) for k, d in READ.items())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    r = interval(results["correlation"]["r_connectome"], 3)
    lines.append(f"| correlations of the rates, no model | {r} | – | – | – |")
    parts.append("\n".join(lines))
    lines = ["| | right | left |", "|" + " --- |" * 3]
    for name, row in results["lead"].items():
        lines.append(f"| lead of {name}, ° | {runs.spread(row['right'], 1)} | {runs.spread(row['left'], 1)} |")
    parts.append("\n".join(lines))
    lines = ["| linear map onto P-EN1 from | share explained |", "| --- | --- |"]
    lines += [f"| {name} | {runs.spread(row)} |" for name, row in results["share"].items()]
    parts.append("\n".join(lines))
    return "\n\n".join(parts)


READ = {"r_connectome": 3, "displacement": 0, "gate": 4, "turning_gain": 2}  # measure: digits


def interval(values, digits):
    """'median (lowest to highest)' over the bootstrap, or over flies."""
    low, middle, high = np.percentile(values, [0, 50, 100])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def settings(*options):
    """train.py's options as fly.sh gives them, and these after them. Returns: argparse.Namespace."""
    command = re.search(r"train\.py (.*)\"\$@\"", (runs.ROOT / "fly.sh").read_text(), re.DOTALL)[1]
    return train.parse([*shlex.split(command.replace("\\\n", " ")), *options])


def main():
    p = recording.Parser("Test the fit to real flies on flies, neurons and wiring that it never saw.")
    p.add_argument("--data", type=Path, default="data/fly.npz", help="as fly.py writes")
    p.add_argument("--connectome", type=Path, default="data/hemibrain_hd_152.npz", help="see the README")
    p.add_argument("--out", type=Path, default="experiments/fly.json", help="the results")
    p.add_argument("--figure", type=Path, default="assets/fly.png", help="the figure")
    p.add_argument("--updates", type=int, default=800, help="of every fit")
    p.add_argument("--replicas", type=int, default=4, help="networks of every fit but the one to the recording")
    options = p.parse_args()
    rec = recording.load(options.data)
    pen, wiring = recording.load_held_out(options.data, rec), connectome(options.connectome)
    whole = settings("--updates", str(options.updates))
    args = argparse.Namespace(**vars(whole) | {"replicas": options.replicas})
    torch.set_flush_denormal(True)
    results = scores(leave_one_out(rec, args), rec)
    cut, fits, results["read"] = pieces(rec)[0], {}, {}
    for name, one in {"recording": rec, **nulls(rec, np.random.default_rng(0))}.items():
        fits[name] = fit(one, whole if one is rec else args)
        results["read"][name] = read(fits[name], one, cut, wiring)
        print(f"  fitted {name}", flush=True)
    results |= unseen(rec, pen, fits["recording"], fits["shuffled velocity"])
    each = correlations(rec)
    results["correlation"] = {"profile": each, "r_connectome": [match(np.array(c), *wiring)[0] for c in each]}
    results["connectome"] = {"direct": wiring[0].tolist(), "delta7": wiring[1].tolist()}
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    figures.style()
    figures.fly(results, HORIZONS).savefig(options.figure)
    print(table(results))


if __name__ == "__main__":
    recording.run(main)
