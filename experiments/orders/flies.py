"""Real flies: does speed, whichever way, raise the bump, and does a model with order two predict it on other flies?

The bump's size A is the length of its population vector. *Rise*: regression of A, relative to its mean over the trial,
on the ball's speed and its signed velocity, both through one exponential filter; a slope for each fly, with an interval
over flies. *Prediction*: A at a later moment by least squares on A now, with the filtered velocity now and then (order
one), or also with its square (order two); fitted on all flies but one, and scored by the correlation on that one. Null
models have the velocity of half a trial later, or of another trial. *Tuning* (neurons.py): how the rates of P-EN1, left
and right apart in the bridge, and of fitted input units change with turning to either side; a V rises to both.
"""

from pathlib import Path

import numpy as np
from scipy import stats

from experiments import runs
from experiments.flies.prediction import CLAMPED_STEPS, HORIZONS, ahead, pieces, vector
from experiments.orders.neurons import FILTER_S, STEP_S, arms_of_units, both_arms, bridge, curves, filtered
from nsi import recordings
from nsi.evaluation.metrics import valid_json
from nsi.run import checkpoint
from nsi.sums import correlation

FILTERS = 0.3, 1.0  # s, of the velocity that predicts
RUN = Path("runs/fly")  # networks fitted to these flies
BRIDGE = Path("PEN1-PB")  # the authors' files of the protocerebral bridge, a folder per day
NULLS = "recording", "half a trial later", "another trial"


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


def measured(path, folder=BRIDGE, run=RUN):
    """All that the page says of flies. path: data/fly.npz; folder: of the bridge's files, left out where it is not;
    run: of networks fitted by experiments/flies/fit.sh, likewise."""
    rec = recordings.load(path)
    places = {
        "ellipsoid body": (np.abs(vector(rec.rates)), rec.velocity[..., 0].astype(float), rec.valid, rec.animal, rec.dt)
    }
    results, trials = {"arms": {}, "curves": {}}, bridge(folder) if Path(folder).exists() else []
    if trials:
        steps = max(len(t["size"]) for t in trials)
        valid = np.arange(steps) < np.array([[len(t["size"])] for t in trials])
        wide = lambda key: np.stack([np.pad(t[key], (0, steps - len(t[key]))) for t in trials])
        animal = np.unique([t["fly"] for t in trials], return_inverse=True)[1]
        places["protocerebral bridge"] = wide("size"), wide("velocity"), valid, animal, STEP_S
        for null in ("recording", "another trial"):
            results["arms"][f"P-EN1, bridge{'' if null == 'recording' else ', ' + null}"] = both_arms(trials, null)
        results["curves"]["P-EN1, bridge"] = curves(trials)
    results["rise"] = {place: rise(*arrays) for place, arrays in places.items()}
    results["prediction"] = {place: predicted(*arrays) for place, arrays in places.items()}
    results["prediction, null"] = {
        place: {null: predicted(*arrays, null)["order two"] for null in NULLS[1:]} for place, arrays in places.items()
    }
    network = runs.read(runs.ROOT / "experiments" / "flies").get("amplitude", {}).get("network")
    if network and len(network) == len(np.unique(rec.animal)):  # of the same flies
        results["prediction"]["ellipsoid body"]["network (experiments/flies)"] = network
    if (Path(run) / "model.pt").exists():
        nets = checkpoint.networks(Path(run) / "model.pt")[0]
        name = "input units, fitted to E-PG"
        results["arms"][name], results["curves"][name] = arms_of_units(nets, rec)
    return valid_json(results)


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
    parts = [runs.markdown(["bump's size, relative, per rad/s", "speed", "signed velocity", "flies that rise"], rows)]
    for place, models in found["prediction"].items():
        named = [(name, np.array(r)) for name, r in models.items()]
        named += [(f"order two, {null}", np.array(r)) for null, r in found["prediction, null"][place].items()]
        rows = [[name, *(f"{x:.3f}" for x in r.mean(0))] for name, r in named]
        for other in [name for name in models if name not in ("order two", "persistence")]:
            gain = np.array(models["order two"]) - np.array(models[other])
            rows.append([f"*order two minus {other}*", *(f"{interval(x)}, {sum(x > 0)} of {len(x)}" for x in gain.T)])
        head = [f"{place}: r of predicted and recorded size", *(f"{h:g} s" for h in HORIZONS)]
        parts.append(runs.markdown(head, rows))
    rows = [[name, *(interval(found["arms"][name][side]) for side in ("preferred", "other"))] for name in found["arms"]]
    parts.append(
        runs.markdown(["mean rate, relative, per rad/s", "turning to the preferred side", "to the other"], rows)
    )
    return "\n\n".join(parts)
