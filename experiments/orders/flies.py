"""Real flies: does speed, whichever way, raise the bump, and does a model with order two predict it on other flies?

The bump's size A is the length of its population vector. *Rise*: regression of A, relative to its mean over the trial,
on the ball's speed and its signed velocity, both through one exponential filter; a slope for each fly, with an interval
over flies. *Prediction*: A at a later moment by least squares on A now, with the filtered velocity now and then (order
one), or also with its square (order two); fitted on all flies but one, and scored by the correlation on that one. Null
models have the velocity of half a trial later, or of another trial.
"""

import numpy as np

from experiments import runs
from experiments.flies.estimate import interval
from experiments.flies.prediction import CLAMPED_STEPS, HORIZONS, ahead, pieces, vector
from nsi import recordings
from nsi.evaluation.metrics import valid_json
from nsi.sums import correlation

FILTER_S = 0.4  # s, of the velocity before it is set against calcium
FILTERS = 0.3, 1.0  # s, of the velocity that predicts
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
        for a, x, speed, k in zip(
            size, filtered(v, dt, FILTER_S), filtered(np.abs(v), dt, FILTER_S), valid, strict=True
        ):
            terms = np.stack([np.ones(k.sum()), speed[k], x[k]], 1)
            slopes.append(np.linalg.lstsq(terms, a[k] / a[k].mean(), rcond=None)[0][1:])
        each = np.array([np.mean(np.array(slopes)[animal == fly], 0) for fly in np.unique(animal)])
        found[null] = {"speed": each[:, 0].tolist(), "signed": each[:, 1].tolist()}
    return found


def predicted(size, velocity, valid, animal, dt, null="recording"):
    """Correlation of the bump's later size with what is predicted, on each fly left out, at each horizon.

    size, velocity: (trials, steps); valid: (trials, steps) bool; animal: (trials,).
    Returns: {"persistence", "order one", "order two": (flies, horizons)}.
    """
    v = instead(velocity, valid, null)
    both = (x[..., None].astype(np.float32) for x in (size, v))
    cut, trial = pieces(recordings.Recording(*both, dt, lengths=valid.sum(1)))
    size, v, fly = cut.rates[..., 0], cut.velocity[..., 0], animal[trial]
    later = CLAMPED_STEPS + ahead(dt)
    now = [size[:, CLAMPED_STEPS], *(filtered(size[:, : CLAMPED_STEPS + 1], dt, s)[:, -1] for s in FILTERS)]
    one, two = ([filtered(x, dt, s) for s in FILTERS] for x in (v, v**2))
    found = {name: np.empty((len(np.unique(fly)), len(HORIZONS))) for name in ("persistence", "order one", "order two")}
    for h, t in enumerate(later):
        terms = {"persistence": now}
        terms["order one"] = [*now, *(x[:, at] for x in one for at in (CLAMPED_STEPS, t))]
        terms["order two"] = [*terms["order one"], *(x[:, at] for x in two for at in (CLAMPED_STEPS, t))]
        for name, columns in terms.items():
            x = np.stack([np.ones(len(fly)), *columns], 1)
            for k, left in enumerate(np.unique(fly)):
                b = np.linalg.lstsq(x[fly != left], size[fly != left, t], rcond=None)[0]
                found[name][k, h] = correlation(x[fly == left] @ b, size[fly == left, t])
    return {name: value.tolist() for name, value in found.items()}


def measured(path):
    """All that the page says of flies. path: data/fly.npz."""
    rec = recordings.load(path)
    arrays = np.abs(vector(rec.rates)), rec.velocity[..., 0].astype(float), rec.valid, rec.animal, rec.dt
    results = {
        "rise": rise(*arrays), "prediction": predicted(*arrays),
        "prediction, null": {null: predicted(*arrays, null)["order two"] for null in NULLS[1:]},
    }  # fmt: skip
    network = runs.read(runs.ROOT / "experiments" / "flies").get("amplitude", {}).get("network")
    if network and len(network) == len(np.unique(rec.animal)):  # of the same flies
        results["prediction"]["network (experiments/flies)"] = network
    return valid_json(results)


def table(results):
    """The flies' tables as Markdown. results: the experiment's, with "flies" in it."""
    found = results["flies"]
    rows = [[null, interval(slopes["speed"]), interval(slopes["signed"]),
             f"{sum(x > 0 for x in slopes['speed'])} of {len(slopes['speed'])}"]
            for null, slopes in found["rise"].items()]  # fmt: skip
    rises = runs.markdown(["bump's size, relative, per rad/s", "speed", "signed velocity", "flies that rise"], rows)
    models = found["prediction"] | {f"order two, {null}": r for null, r in found["prediction, null"].items()}
    rows = [[name, *(f"{x:.3f}" for x in np.mean(r, 0))] for name, r in models.items()]
    for other in [name for name in found["prediction"] if name not in ("order two", "persistence")]:
        gain = np.array(models["order two"]) - np.array(models[other])
        rows.append([f"*order two minus {other}*", *(f"{interval(x)}, {sum(x > 0)} of {len(x)}" for x in gain.T)])
    head = ["r of predicted and recorded size", *(f"{h:g} s" for h in HORIZONS)]
    return f"{rises}\n\n{runs.markdown(head, rows)}"
