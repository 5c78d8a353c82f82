"""How neurons are tuned to turning: P-EN1 of the protocerebral bridge, left and right apart, and fitted input units."""

import numpy as np
from scipy.io import loadmat

from experiments.flies.read import BALL, NAME
from nsi.network import predict_hidden

FILTER_S = 0.4  # s, of the velocity before it is set against calcium
STEP_S = 0.0876  # s, of most trials of the bridge; others are brought to it
SPEEDS = np.linspace(-3, 3, 13)  # rad/s, edges of the bins that curves are drawn over
MIN_SAMPLES = 10  # samples of a bin


def filtered(x, dt, seconds):
    """Exponential filter along time. x: (trials, steps, ...)."""
    y, keep = np.empty_like(x, float), np.exp(-dt / seconds)
    y[:, 0] = x[:, 0]
    for t in range(1, x.shape[1]):
        y[:, t] = keep * y[:, t - 1] + (1 - keep) * x[:, t]
    return y


def bridge(folder):
    """The protocerebral bridge. Returns: list of trials.

    Each: fly (str), size (steps,) of E-PG's bump, averaged over the sides, sides (2, steps), mean of P-EN1 left and
    right, and velocity (steps,) rad/s, all every STEP_S. Glomeruli are rows L9 to L1 and R1 to R9; E-PG have L8 to L1
    and R1 to R8, eight to a side, 45 degrees apart, P-EN1 L9 to L2 and R2 to R9.
    """
    trials = []
    for path in sorted(folder.rglob("*.mat")):
        named = NAME.match(path.name)
        if not named:
            continue
        file = loadmat(path, squeeze_me=True, variable_names=("GROIaveMax", "RROIaveMax", "positionDat"))
        ball = {k: np.ravel(file["positionDat"][k].item()).astype(float) for k in BALL}
        both = [np.asarray(file[key], float) for key in ("GROIaveMax", "RROIaveMax")]
        rates, shifters = both if named[2] == "60D05" else both[::-1]  # 60D05 labels E-PG, the other line P-EN1
        grabs = ball["tFrameGrab"][:: len(ball["tFrameGrab"]) // rates.shape[1]][: rates.shape[1]]
        times = ball["t"][0] + (grabs - ball["tVR"][0]) * 1e-4
        inside = (times >= ball["t"][0]) & (times <= ball["t"][-1])
        rates, shifters = (spanned(x)[:, inside] for x in (rates, shifters))
        turn = np.exp(1j * np.arange(8) * np.pi / 4)
        size = (np.abs(turn @ rates[1:9]) + np.abs(turn @ rates[9:17])) / 2
        signals = np.stack([size, shifters[:8].mean(0), shifters[10:].mean(0)])
        times = times[inside]
        if abs(np.median(np.diff(times)) / STEP_S - 1) > 0.01:
            every = np.arange(times[0], times[-1], STEP_S)
            signals, times = np.stack([np.interp(every, times, x) for x in signals]), every
        heading = np.interp(times, ball["t"], np.unwrap(np.deg2rad(ball["OffsetRot"])))
        fly, velocity = path.parent.name + named[1], np.gradient(heading, STEP_S)
        trials.append({"fly": fly, "size": signals[0], "sides": signals[1:], "velocity": velocity})
    return trials


def spanned(x):
    """Rows scaled so that their 5th to 99th percentile spans 0 to 1, and clipped. x: (rows, steps)."""
    low, high = np.percentile(x, [5, 99], axis=1, keepdims=True)
    return np.clip((x - low) / (high - low), 0, 1.2)


def arms(x, v, dt):
    """How rates change with turning to either side, relative to their mean, per rad/s.

    x: (units, steps); v: (steps,) rad/s. Returns: (units, 2), slopes on max(v, 0) and on max(-v, 0).
    """
    up, down = (filtered(np.maximum(s * v, 0)[None], dt, FILTER_S)[0] for s in (1, -1))
    terms = np.stack([np.ones(len(v)), up, down], 1)
    return np.linalg.lstsq(terms, (x / x.mean(1, keepdims=True)).T, rcond=None)[0][1:].T


def both_arms(trials, null="recording"):
    """Mean slopes of P-EN1 on its preferred and on the other side. Returns: {"preferred", "other": (flies,)}.

    The preferred side of left and right neurons is one and the same in all flies, taken from their mean.
    """
    flies, each = np.unique([t["fly"] for t in trials]), []
    velocity = [t["velocity"] for t in trials]
    if null == "another trial":  # cut or repeated to this one's length
        velocity = [
            np.resize(v, len(t["velocity"])) for v, t in zip(velocity[-1:] + velocity[:-1], trials, strict=True)
        ]
    slopes = [arms(t["sides"], v, STEP_S) for t, v in zip(trials, velocity, strict=True)]
    each = np.array([np.mean([s for s, t in zip(slopes, trials, strict=True) if t["fly"] == f], 0) for f in flies])
    left = each[:, 0].mean(0)  # (2,), slopes of the left ones
    order = [0, 1] if left[0] > left[1] else [1, 0]
    preferred, other = ((each[:, 0, order[k]] + each[:, 1, order[1 - k]]) / 2 for k in (0, 1))
    return {"preferred": preferred.tolist(), "other": other.tolist()}


def curve(x, v):
    """Mean of x, relative to its mean, by filtered velocity. x, v: (samples,). Returns: (bins,), NaN in empty ones."""
    where = np.digitize(v, SPEEDS) - 1
    of = lambda some: float(x[some].mean() / x.mean()) if some.sum() >= MIN_SAMPLES else np.nan
    return [of(where == k) for k in range(len(SPEEDS) - 1)]


def curves(trials):
    """P-EN1's tuning to velocity, fly by fly. Returns: {"left", "right": (flies, bins)}."""
    found = {"left": [], "right": []}
    for fly in np.unique([t["fly"] for t in trials]):
        own_trials = [t for t in trials if t["fly"] == fly]
        v = np.concatenate([filtered(t["velocity"][None], STEP_S, FILTER_S)[0] for t in own_trials])
        for k, side in enumerate(found):
            x = np.concatenate([t["sides"][k] / t["sides"][k].mean() for t in own_trials])
            found[side].append(curve(x, v))
    return found


def arms_of_units(nets, rec):
    """The same of the input units of networks held at a recording, network by network; active units, by W_in's sign.

    Returns: {"preferred", "other": (networks,)}, and the mean rate of units of either sign by velocity, {"left",
    "right": (networks, bins)}.
    """
    found, drawn = {"preferred": [], "other": []}, {"left": [], "right": []}
    v = rec.velocity[..., 0].astype(float)
    up, down = (filtered(np.maximum(s * v, 0), rec.dt, FILTER_S)[rec.valid] for s in (1, -1))
    terms, slow = np.stack([np.ones(len(up)), up, down], 1), filtered(v, rec.dt, FILTER_S)[rec.valid]
    for net in nets:
        rates = predict_hidden(net, rec)[rec.valid]
        active = rates.mean(0) > 0.01
        rates = rates[:, active] / rates[:, active].mean(0)
        slopes, right = np.linalg.lstsq(terms, rates, rcond=None)[0][1:], net.W_in[0, net.n :][active] > 0
        found["preferred"].append(float(np.where(right, slopes[0], slopes[1]).mean()))
        found["other"].append(float(np.where(right, slopes[1], slopes[0]).mean()))
        for side, those in (("left", ~right), ("right", right)):
            drawn[side].append(curve(rates[:, those].mean(1), slow))
    return found, drawn
