"""Real flies: does speed, whichever way, raise the bump, and does a model with order two foresee it on other flies?

The bump's size A is the length of its population vector. *Rise*: regression of A, relative to its mean over the trial,
on the ball's speed and its signed velocity, both through one exponential filter; a slope for each fly, with an interval
over flies. *Prediction*: A at a later moment by least squares on A now, with the velocity on the way (order one), or
also with its square (order two); fitted on all flies but one, and scored by the correlation on that one. Null models
have the velocity of half a trial later, or of another trial.
"""

from pathlib import Path

import numpy as np
from scipy import stats
from scipy.io import loadmat

from experiments import runs
from experiments.flies.prediction import BEFORE, HORIZONS, ahead, pieces, vector
from nsi import recordings
from nsi.connectivity import correlation
from nsi.prediction import predict
from nsi.recordings.flies import BALL, NAME
from nsi.run import checkpoint

FILTER = 0.4  # s, of the velocity before it is set against calcium
FILTERS = 0.3, 1.0  # s, of the velocity that predicts
RUN = Path("runs/fly")  # networks fitted to these flies
BRIDGE = Path("PEN1-PB")  # the authors' files of the protocerebral bridge, a folder per day
NULLS = "recording", "half a trial later", "another trial"


def filtered(x, dt, seconds):
    """Exponential filter along time. x: (trials, steps, ...)."""
    y, keep = np.empty_like(x, float), np.exp(-dt / seconds)
    y[:, 0] = x[:, 0]
    for t in range(1, x.shape[1]):
        y[:, t] = keep * y[:, t - 1] + (1 - keep) * x[:, t]
    return y


def instead(x, valid, null):
    """The velocity (trials, steps), or that of a null model. valid: (trials, steps) bool."""
    if null == "half a trial later":
        return np.stack([np.concatenate([np.roll(v[k], k.sum() // 2), v[~k]]) for v, k in zip(x, valid, strict=True)])
    return np.roll(x, 1, 0) if null == "another trial" else x


def rise(size, velocity, valid, animal, dt):
    """How speed and signed velocity change the bump's size, relative to its mean, per rad/s.

    size, velocity: (trials, steps); valid: (trials, steps) bool; animal: (trials,).
    Returns: {null: {"speed", "signed": (flies,)}}.
    """
    found = {}
    for null in NULLS:
        v = instead(velocity, valid, null)
        slopes = []
        for a, x, speed, k in zip(size, filtered(v, dt, FILTER), filtered(np.abs(v), dt, FILTER), valid, strict=True):
            terms = np.stack([np.ones(k.sum()), speed[k], x[k]], 1)
            slopes.append(np.linalg.lstsq(terms, a[k] / a[k].mean(), rcond=None)[0][1:])
        each = np.array([np.mean(np.array(slopes)[animal == fly], 0) for fly in np.unique(animal)])
        found[null] = {"speed": each[:, 0].tolist(), "signed": each[:, 1].tolist()}
    return found


def bridge(folder):
    """The protocerebral bridge. Returns: list of trials.

    Each: fly (str), dt, size (steps,) of E-PG's bump, averaged over the sides, sides (2, steps), mean of P-EN1 left and
    right, and velocity (steps,) rad/s. Glomeruli are rows L9 to L1 and R1 to R9; E-PG have L8 to L1 and R1 to R8, eight
    to a side, 45 degrees apart, P-EN1 L9 to L2 and R2 to R9.
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
        heading = np.interp(times[inside], ball["t"], np.unwrap(np.deg2rad(ball["OffsetRot"])))
        scaled, shifters = (spanned(x)[:, inside] for x in (rates, shifters))
        sides = np.stack([shifters[:8].mean(0), shifters[10:].mean(0)])
        turn = np.exp(1j * np.arange(8) * np.pi / 4)
        size = (np.abs(turn @ scaled[1:9]) + np.abs(turn @ scaled[9:17])) / 2
        dt = float(np.median(np.diff(times)))
        trials.append(
            {
                "fly": path.parent.name + named[1],
                "dt": dt,
                "size": size,
                "sides": sides,
                "velocity": np.gradient(heading, dt),
            }
        )
    return trials


def spanned(x):
    """Rows scaled so that their 5th to 99th percentile spans 0 to 1, and clipped. x: (rows, steps)."""
    low, high = np.percentile(x, [5, 99], axis=1, keepdims=True)
    return np.clip((x - low) / (high - low), 0, 1.2)


def arms(x, v, dt):
    """How rates change with turning to either side, relative to their mean, per rad/s.

    x: (units, steps); v: (steps,) rad/s. Returns: (units, 2), slopes on max(v, 0) and on max(-v, 0).
    """
    up, down = (filtered(np.maximum(s * v, 0)[None], dt, FILTER)[0] for s in (1, -1))
    terms = np.stack([np.ones(len(v)), up, down], 1)
    return np.linalg.lstsq(terms, (x / x.mean(1, keepdims=True)).T, rcond=None)[0][1:].T


def both_arms(trials):
    """Mean slopes of P-EN1 on its preferred and on the other side. Returns: {"preferred", "other": (flies,)}.

    The preferred side of left and right neurons is one and the same in all flies, taken from their mean.
    """
    flies = np.unique([t["fly"] for t in trials])
    each = np.array(
        [np.mean([arms(t["sides"], t["velocity"], t["dt"]) for t in trials if t["fly"] == f], 0) for f in flies]
    )
    left = each[:, 0].mean(0)  # (2,), slopes of the left ones
    order = [0, 1] if left[0] > left[1] else [1, 0]
    preferred, other = ((each[:, 0, order[k]] + each[:, 1, order[1 - k]]) / 2 for k in (0, 1))
    return {"preferred": preferred.tolist(), "other": other.tolist()}


def arms_of_units(nets, rec):
    """The same of the input units of networks held at a recording, network by network; active units, by W_in's sign."""
    found = {"preferred": [], "other": []}
    v = rec.velocity[..., 0].astype(float)
    up, down = (filtered(np.maximum(s * v, 0), rec.dt, FILTER)[rec.valid] for s in (1, -1))
    terms = np.stack([np.ones(len(up)), up, down], 1)
    for net in nets:
        rates = predict(net, rec)[..., net.n :][rec.valid]
        active = rates.mean(0) > 0.01
        slopes = np.linalg.lstsq(terms, rates[:, active] / rates[:, active].mean(0), rcond=None)[0][1:]
        right = net.W_in[0, net.n :][active] > 0
        found["preferred"].append(float(np.where(right, slopes[0], slopes[1]).mean()))
        found["other"].append(float(np.where(right, slopes[1], slopes[0]).mean()))
    return found


def predicted(rec, null="recording"):
    """Correlation of the bump's later size with what is predicted, on each fly left out, at each horizon.

    Returns: {"persistence", "order one", "order two": (flies, horizons)}.
    """
    v = instead(rec.velocity[..., 0], rec.valid, null)
    other = recordings.Recording(rec.rates, v[..., None].astype(np.float32), rec.dt, lengths=rec.lengths)
    cut, trial = pieces(other)
    size, v, fly = np.abs(vector(cut.rates)), cut.velocity[..., 0], rec.animal[trial]
    later = BEFORE + ahead(rec.dt)
    before = [size[:, BEFORE], *(filtered(size[:, : BEFORE + 1], rec.dt, s)[:, -1] for s in FILTERS)]
    one, two = ([filtered(x, rec.dt, s) for s in FILTERS] for x in (v, v**2))
    found = {name: np.empty((len(np.unique(fly)), len(HORIZONS))) for name in ("persistence", "order one", "order two")}
    for h, t in enumerate(later):
        terms = {"persistence": before}
        terms["order one"] = [*before, *(x[:, t] for x in one)]
        terms["order two"] = [*terms["order one"], *(x[:, t] for x in two), *(x[:, BEFORE] for x in two)]
        for name, columns in terms.items():
            x = np.stack([np.ones(len(fly)), *columns], 1)
            for k, left in enumerate(np.unique(fly)):
                b = np.linalg.lstsq(x[fly != left], size[fly != left, t], rcond=None)[0]
                found[name][k, h] = correlation(x[fly == left] @ b, size[fly == left, t])
    return {name: value.tolist() for name, value in found.items()}


def measured(path, folder=BRIDGE, run=RUN):
    """All that the page says of flies. path: data/fly.npz; folder: of the bridge's files, left out where it is not;
    run: of networks fitted by experiments/flies/fit.sh, likewise."""
    rec = recordings.load(path)
    size, v = np.abs(vector(rec.rates)), rec.velocity[..., 0].astype(float)
    results = {"rise": {"ellipsoid body": rise(size, v, rec.valid, rec.animal, rec.dt)}}
    trials = bridge(folder) if Path(folder).exists() else []
    if trials:
        steps = max(len(t["size"]) for t in trials)
        valid = np.arange(steps) < np.array([[len(t["size"])] for t in trials])
        wide = lambda key: np.stack([np.pad(t[key], (0, steps - len(t[key]))) for t in trials])  # noqa: E731
        animal = np.unique([t["fly"] for t in trials], return_inverse=True)[1]
        dt = float(np.median([t["dt"] for t in trials]))
        results["rise"]["protocerebral bridge"] = rise(wide("size"), wide("velocity"), valid, animal, dt)
        results["arms"] = {"P-EN1, bridge": both_arms(trials)}
    if (Path(run) / "model.pt").exists():
        units = arms_of_units(checkpoint.networks(Path(run) / "model.pt")[0], rec)
        results["arms"] = results.get("arms", {}) | {"input units, fitted to E-PG": units}
    results["prediction"] = predicted(rec)
    results["prediction, null"] = {null: predicted(rec, null)["order two"] for null in NULLS[1:]}
    return results


def interval(values):
    """'mean (low to high)', the 95 % interval over flies by Student's t."""
    values = np.asarray(values, float)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} ({values.mean() - half:.3f} to {values.mean() + half:.3f})"


def table(results):
    """The flies' tables as Markdown. results: the experiment's, with "flies" in it."""
    found = results["flies"]
    rows = [
        [f"{place}, {null}", interval(slopes["speed"]), interval(slopes["signed"]),
         f"{sum(x > 0 for x in slopes['speed'])} of {len(slopes['speed'])}"]
        for place, each in found["rise"].items() for null, slopes in each.items()
    ]  # fmt: skip
    first = runs.markdown(["bump's size, relative, per rad/s", "speed", "signed velocity", "flies that rise"], rows)
    named = [(name, np.array(r)) for name, r in found["prediction"].items()]
    named += [(f"order two, velocity of {null}", np.array(r)) for null, r in found["prediction, null"].items()]
    rows = [[name, *(interval(found["arms"][name][side]) for side in ("preferred", "other"))] for name in found["arms"]]
    arms = runs.markdown(["mean rate, relative, per rad/s", "turning to the preferred side", "to the other"], rows)
    rows = [[name, *(f"{x:.3f}" for x in r.mean(0))] for name, r in named]
    gain = np.array(found["prediction"]["order two"]) - np.array(found["prediction"]["order one"])
    rows.append(["*order two minus order one*", *(f"{interval(x)}, {sum(x > 0)} of {len(x)}" for x in gain.T)])
    return (
        "\n\n".join((first, arms))
        + "\n\n"
        + runs.markdown(["r of predicted and recorded size", *(f"{h:g} s" for h in HORIZONS)], rows)
    )
