"""Leave one fly out: what a fit to the others predicts of its bump, compared with integrators and a bump that stays.

The network is clamped to the recording up to a moment, then runs freely on velocity alone; its error is the mean
|angle| between its bump and the recorded one. An integrator has one gain, chosen on the same flies as the network is
fitted to, for each horizon; the filtered one a start averaged over the last frames and a delayed velocity besides.
"""

import numpy as np

from experiments.flies.fit import train_on_flies
from nsi import recordings
from nsi.geometry import RING
from nsi.network import predict
from nsi.sums import correlation

HORIZONS = 0.5, 1.0, 2.0, 5.0  # s
CLAMPED_STEPS = 20  # before a free run
START_STRIDE = 5  # steps between two starts
GAINS = np.arange(0.5, 1.51, 0.05)
SMOOTHING = 1.0, 0.7, 0.5, 0.3
LAGS = 0, 1, 2


def pieces(rec):
    """Every trial cut into overlapping pieces of CLAMPED_STEPS steps, the moment itself and the longest horizon.

    Returns: Recording of them, and which trial each is from.
    """
    length = CLAMPED_STEPS + 1 + round(max(HORIZONS) / rec.dt)
    where = [(k, s) for k, steps in enumerate(rec.valid.sum(1)) for s in range(0, steps - length + 1, START_STRIDE)]
    cut = lambda x: np.stack([x[k, s : s + length] for k, s in where])
    return recordings.Recording(cut(rec.rates), cut(rec.velocity), rec.dt), np.array([k for k, _ in where])


def vector(rates):
    """The bump as a complex number: angle and size. (..., n) to (...)."""
    return rates @ np.exp(1j * RING.places(rates.shape[-1])[:, 0])


def ahead(dt):
    """Steps after the moment for each horizon."""
    return np.array([round(h / dt) for h in HORIZONS])


def predict_bump(fits, cut):
    """Mean bump of networks that run freely after the moment. Returns: (pieces, horizons) complex."""
    free = [predict(f, cut, CLAMPED_STEPS + 1)[:, CLAMPED_STEPS + ahead(cut.dt), : f.n] for f in fits]
    return np.mean([vector(r) for r in free], 0)


def integrated(cut, gain, smoothing=1.0, lag=0):
    """A bump that starts where the filtered rates have it, and moves with gain times velocity. (pieces, horizons)."""
    weights = smoothing * (1 - smoothing) ** np.arange(CLAMPED_STEPS + 1)[::-1]
    start = np.angle(weights @ vector(cut.rates[:, : CLAMPED_STEPS + 1]).T)
    turned = np.cumsum(cut.velocity[..., 0], 1) * cut.dt
    moved = turned[:, CLAMPED_STEPS - lag + ahead(cut.dt)] - turned[:, CLAMPED_STEPS - lag, None]
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
    return np.abs(RING.difference(angles, np.angle(vector(cut.rates[:, CLAMPED_STEPS + ahead(cut.dt)]))))


def clearness(rec):
    """How clear each trial's bump is: mean of |sum of r exp(i angle)| / sum of r. Returns: (trials,)."""
    strength = np.abs(vector(rec.rates)) / np.maximum(rec.rates.sum(-1), 1e-12)
    return np.array([x[v].mean() for x, v in zip(strength, rec.valid, strict=True)])


def leave_one_out(rec, *extra):
    """Fit all flies but one, predict that one; for every fly. extra: options of the fits.

    Returns: the bumps (pieces, horizons) complex, of the network, the control and the rivals, by name.
    """
    cut, trial = pieces(rec)
    fly, options = rec.animal[trial], {"network": [], "network, control": ["--control"]}
    bumps = {name: np.empty((len(fly), len(HORIZONS)), complex) for name in options}
    for k in np.unique(fly):
        one = recordings.Recording(cut.rates[fly == k], cut.velocity[fly == k], cut.dt)
        for name, control in options.items():
            fits = train_on_flies(rec.trials(rec.animal != k), *extra, *control)
            bumps[name][fly == k] = predict_bump(fits, one)
        print(f"  left out fly {k + 1} of {fly.max() + 1}", flush=True)
    size = np.abs(vector(cut.rates[:, CLAMPED_STEPS, None]))
    bumps["bump that stays"] = size * np.exp(1j * integrated(cut, 0.0))
    for name, smoothing, lags in (("integrator", (1.0,), (0,)), ("integrator, filtered", SMOOTHING, LAGS)):
        choices = [(g, s, lag) for g in GAINS for s in smoothing for lag in lags]
        bumps[name] = np.exp(1j * integrators(cut, fly, choices))
    return bumps


def scores(bumps, rec):
    """Errors of prediction fly by fly. bumps: of `leave_one_out`.

    Returns: {"error" and "error, clear bump": {name: (flies, horizons)}, rad; "amplitude": {name: (flies, horizons)},
    correlation of predicted and recorded size of the bump}.
    """
    cut, trial = pieces(rec)
    recorded = np.abs(vector(cut.rates[:, CLAMPED_STEPS + ahead(cut.dt)]))
    chosen = (clearness(rec) > np.median(clearness(rec)))[trial]
    flies = [rec.animal[trial] == k for k in np.unique(rec.animal)]
    found = {"error": {}, "error, clear bump": {}, "amplitude": {}}
    for name, bump in bumps.items():
        wrong = missed(np.angle(bump), cut)
        found["error"][name] = [wrong[f].mean(0).tolist() for f in flies]
        found["error, clear bump"][name] = [wrong[f & chosen].mean(0).tolist() for f in flies if (f & chosen).any()]
        if not name.startswith("integrator"):  # it has no size
            pairs = [zip(np.abs(bump[f]).T, recorded[f].T, strict=True) for f in flies]
            found["amplitude"][name] = [[float(correlation(*p)) for p in pair] for pair in pairs]
    return found
