"""Running a network along a recording: what it predicts, and how far its bump strays."""

import numpy as np

from nsi.network import run, synaptic_state

AHEAD = 0.25, 0.5, 1.0, 2.0, 5.0  # s
FEWEST = 20  # samples that a mean error is worth
LAG = 0.5  # s, how far apart the clocks of velocity and activity are looked for


def predict(net, rec, warmup=None, start=0, steps=None):
    """Run a network along a recording, free after `warmup` steps (None: held at the record throughout).

    net: Network; rec: Recording. Returns: rates (trials, steps, units) float32, from step `start` on.
    """
    stop = rec.rates.shape[1] if steps is None else start + steps
    recorded = synaptic_state(rec.rates[:, :stop], net.alpha)[:, start:]
    u = np.zeros((len(recorded), len(net.b)), np.float32)
    rates = np.empty((len(u), stop - start, len(net.b)), np.float32)
    current = None
    if rec.stimulus is not None:
        wide = np.zeros_like(u)

        def current(t):
            wide[:, : net.n] = rec.stimulus[:, start + t]
            return wide

    held = stop if warmup is None else warmup
    for t, (_, r) in enumerate(run(net, rec.velocity[:, start:stop], u, current, recorded, held)):
        rates[:, t] = r
    return rates


def heading_error(net, rec, geometry, places, seconds=5.0, warmup=20):
    """How far the network's bump is from the recorded one after running freely on velocity alone.

    rec: held-out trials; places: (n, D) rad; seconds: length of the free run, which starts at several moments a tenth
    of it apart. Returns: angle (starts, trials) rad at its end, NaN where a trial has ended by then.
    """
    steps = max(1, round(seconds / rec.dt))
    return _errors(net, rec, geometry, places, [steps], max(1, steps // 10), warmup)[0]["network"]


def heading_table(net, rec, geometry, places, gain=1.0, warmup=20):
    """Mean error of the predicted heading by seconds ahead, beside two predictions without a network.

    rec: held-out trials; places: (n, D) rad; gain: of the integrator, turning of the activity per velocity, one or D.
    Returns: {"0.25": {"error", "integrator", "stay": rad or None, "samples": count}, ...}.
    """
    steps = [max(1, round(seconds / rec.dt)) for seconds in AHEAD]
    table = {}
    found = _errors(net, rec, geometry, places, steps, max(1, round(0.5 / rec.dt)), warmup, gain)
    for seconds, errors in zip(AHEAD, found, strict=True):
        count = int(np.isfinite(errors["network"]).sum())
        mean = lambda x, count=count: float(np.nanmean(x)) if count else None  # noqa: E731
        table[f"{seconds:g}"] = {
            "error": mean(errors["network"]), "integrator": mean(errors["integrator"]), "stay": mean(errors["stay"]),
            "samples": count,
        }  # fmt: skip
    return table


def _errors(net, rec, geometry, places, ahead, every, warmup, gain=1.0):
    """Angles between predicted and recorded headings.

    ahead: steps of the free run, each of which is looked at; every: steps from one start to the next.
    Returns: for each of `ahead` {"network", "integrator", "stay": (starts, trials) rad, NaN where there is none}.
    """
    length, trials = int(rec.valid.sum(1).max()), len(rec.rates)
    warmup = min(warmup, length // 4)
    heading = geometry.decode(rec.rates, places)  # (trials, steps, D)
    moved = rec.dt * geometry.movement(gain * rec.velocity[..., : geometry.dimensions]).cumsum(1)
    found = [{name: [] for name in ("network", "integrator", "stay")} for _ in ahead]
    for start in range(0, length - warmup - min(ahead), every):
        possible = [k for k in ahead if start + warmup + k < length]
        free = predict(net, rec, warmup, start, warmup + max(possible) + 1)[..., : net.n]
        now = start + warmup
        for k, errors in zip(ahead, found, strict=True):
            if k not in possible:
                continue
            end, ended = now + k, ~rec.valid[:, now + k]
            guesses = {
                "network": geometry.decode(free[:, warmup + k], places),
                "integrator": heading[:, now] + moved[:, end] - moved[:, now],
                "stay": heading[:, now],
            }
            for name, guess in guesses.items():
                errors[name].append(np.where(ended, np.nan, geometry.distance(guess, heading[:, end])))
    return [{k: np.array(v) if v else np.empty((0, trials)) for k, v in errors.items()} for errors in found]


def turning(rec, geometry, places):
    """How the recorded activity turns with the velocity: where it does not, no fit to the velocity means anything.

    places: (n, D) rad. Returns: dict of `slope` (1 for activity that integrates rad/s), `r` (correlation) and `lag`
    (s, by which the activity comes after the velocity), at the lag within LAG where the correlation is largest. On a
    torus slope and r are lists, one for each component of the velocity, and the correlation is their mean.
    """
    heading, d = geometry.decode(rec.rates, places), geometry.dimensions
    turned = geometry.displacement(geometry.difference(heading[:, 1:], heading[:, :-1]))
    speed = turned / rec.dt  # (trials, steps - 1, D)
    v, both = (
        rec.velocity[:, :-1, :d],
        rec.valid[:, 1:] & (rec.rates[:, 1:].max(-1) > 0) & (rec.rates[:, :-1].max(-1) > 0),
    )
    furthest, best = min(round(LAG / rec.dt), speed.shape[1] // 4), None
    for lag in range(-furthest, furthest + 1):
        late, early = (
            slice(max(lag, 0), speed.shape[1] + min(lag, 0)),
            slice(max(-lag, 0), speed.shape[1] - max(lag, 0)),
        )
        use = both[:, late] & both[:, early]
        x, y = v[:, early][use].astype(float), speed[:, late][use].astype(float)
        if len(x) < 3 or (np.ptp(x, 0) == 0).any() or (np.ptp(y, 0) == 0).any():
            continue
        r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)])
        if best is None or np.abs(r).mean() > np.abs(best["r"]).mean() + 1e-12:
            best = {"slope": r * y.std(0) / x.std(0), "r": r, "lag": lag * rec.dt}
    if best is None:
        return {"slope": None, "r": None, "lag": None}
    return best | {k: float(best[k][0]) if d == 1 else best[k].tolist() for k in ("slope", "r")}


def window_error(net, rec, warmup, window):
    """Mean squared error of the rates over windows run freely after `warmup` held steps, laid end to end."""
    length = warmup + window
    errors = []
    for start in range(0, rec.rates.shape[1] - length + 1, length):
        free = predict(net, rec, warmup, start, length)[:, warmup:, : net.n]
        wrong = np.mean((free - rec.rates[:, start + warmup : start + length]) ** 2, (1, 2))
        errors.extend(wrong[rec.valid[:, start + length - 1]])
    return float(np.mean(errors))


def better(before, after, rec, warmup, window):
    """Of each pair of networks the one that errs less, running freely on some training trials.

    Returns: the networks, and for each whether it is of `after`.
    """
    some = rec.trials(slice(None, 20))
    error = lambda net: window_error(net, some, warmup, window)  # noqa: E731
    chosen = [error(new) <= error(old) for old, new in zip(before, after, strict=True)]
    return [new if c else old for old, new, c in zip(before, after, chosen, strict=True)], chosen
