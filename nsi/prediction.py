"""Running a network along a recording: what it predicts, and how far its bump strays."""

import numpy as np
from scipy.special import stdtrit

from nsi.network import run, synaptic_state

AHEAD = 0.25, 0.5, 1.0, 2.0, 5.0  # s
FEWEST = 20  # samples that a mean error is worth
MIN_TRIALS = 3  # held-out trials that an interval over trials is worth
SPANS, LAG = (0.5, 0.125), 0.75  # s, of turns; how far apart the clocks of velocity and activity are looked for


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
    Returns: {"0.25": {"error", "integrator", "stay": rad, None of fewer than FEWEST samples, "samples": count}, ...}.
    """
    return heading_scores(net, rec, geometry, places, gain, warmup)[0]


def heading_scores(net, rec, geometry, places, gain=1.0, warmup=20):
    """Heading errors of the network and of two predictions without a network, and intervals of their differences.

    Arguments as for `heading_table`. Returns: `heading_table`'s dict, and {"0.25": {"integrator", "stay":
    `interval_over_trials` of the network's error minus that prediction's, "trials": count with samples}, ...}.
    """
    steps = [max(1, round(seconds / rec.dt)) for seconds in AHEAD]
    table, differences = {}, {}
    found = _errors(net, rec, geometry, places, steps, max(1, round(0.5 / rec.dt)), warmup, gain)
    for seconds, errors in zip(AHEAD, found, strict=True):
        count = int(np.isfinite(errors["network"]).sum())
        mean = lambda x, count=count: float(np.nanmean(x)) if count >= FEWEST else None  # noqa: E731
        table[f"{seconds:g}"] = {
            "error": mean(errors["network"]), "integrator": mean(errors["integrator"]), "stay": mean(errors["stay"]),
            "samples": count,
        }  # fmt: skip
        interval = lambda name, e=errors, n=count: interval_over_trials(e["network"] - e[name]) if n >= FEWEST else None  # noqa: E731
        differences[f"{seconds:g}"] = {
            "integrator": interval("integrator"), "stay": interval("stay"),
            "trials": int(np.isfinite(errors["network"]).any(0).sum()),
        }  # fmt: skip
    return table, differences


def interval_over_trials(samples):
    """The 95 % interval of a mean, trials being drawn: samples of one trial may go together.

    The mean is a ratio of sums over trials, its standard error that of the linearized ratio, and the quantile Student's
    of one degree of freedom fewer than trials. samples: (any, trials), NaN where there is none. Returns: [low, high],
    or None of fewer than MIN_TRIALS trials.
    """
    known = np.isfinite(samples)
    count = known.sum(0)
    trials = int((count > 0).sum())
    if trials < MIN_TRIALS:
        return None
    sums = np.where(known, samples, 0.0).sum(0)
    mean = sums.sum() / count.sum()
    se = np.sqrt(trials / (trials - 1) * np.sum((sums - mean * count) ** 2)) / count.sum()
    half = float(stdtrit(trials - 1, 0.975) * se)
    return [float(mean) - half, float(mean) + half]


def _errors(net, rec, geometry, places, ahead, every, warmup, gain=1.0):
    """Angles between predicted and recorded headings.

    ahead: steps of the free run, each of which is looked at; every: steps from one start to the next.
    Returns: for each of `ahead` {"network", "integrator", "stay": (starts, trials) rad, NaN where a trial has ended
    or its neurons are silent}.
    """
    length, trials = int(rec.valid.sum(1).max()), len(rec.rates)
    warmup = min(warmup, length // 4)
    heading = geometry.decode(rec.rates, places)  # (trials, steps, D)
    moved = rec.dt * geometry.movement(gain * rec.velocity[..., : geometry.dimensions]).cumsum(1, dtype=float)
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
                "network": np.nan_to_num(geometry.decode(free[:, warmup + k], places)),  # silent: it errs by chance
                "integrator": heading[:, now] + moved[:, end] - moved[:, now],
                "stay": heading[:, now],
            }
            unknown = ended | np.isnan(heading[:, now] + heading[:, end]).any(-1)
            for name, guess in guesses.items():
                errors[name].append(np.where(unknown, np.nan, geometry.distance(guess, heading[:, end])))
    return [{k: np.array(v) if v else np.empty((0, trials)) for k, v in errors.items()} for errors in found]


def turning(rec, geometry, places):
    """How the recorded activity turns with the velocity: where it does not, no fit to the velocity means anything.

    places: (n, D) rad. Returns: dict of `slope` (1 for activity that integrates rad/s), `r` (correlation) and `lag`
    (s, by which the activity comes after the velocity), at the lag within LAG where the correlation is largest, None
    where there is none; and `heading`, the same of the given heading, where it is given. On a torus slope and r are
    lists, one for each component of the velocity, at the lag of the first.
    """
    found = _along(geometry, geometry.decode(rec.rates, places), rec)
    if rec.heading is None or rec.heading.shape[-1] != geometry.dimensions:
        return found
    given = _along(geometry, rec.heading, rec)
    return found if given["r"] is None else found | {"heading": given}


def _along(geometry, places, rec):
    """The turning of a course of places (trials, steps, D) rad on the velocity, by component where D > 1."""
    course = course_of(geometry, places)
    first = turns(course[..., 0], rec.velocity[..., 0], rec.valid, rec.dt)
    if geometry.dimensions == 1 or first["r"] is None:
        return first
    pairs = zip(np.moveaxis(course, -1, 0), np.moveaxis(rec.velocity, -1, 0), strict=False)
    each = [turns(angle, velocity, rec.valid, rec.dt, first["lag"]) for angle, velocity in pairs]
    return {"slope": [one["slope"] for one in each], "r": [one["r"] for one in each], "lag": first["lag"]}


def course_of(geometry, places):
    """The way that a bump has come, in the velocity's components: places (trials, steps, D) rad, added up from step to
    step. Returns: the same, NaN where a place is."""
    moved = geometry.displacement(geometry.difference(places[:, 1:], places[:, :-1]))
    course = np.pad(np.cumsum(np.nan_to_num(moved), 1, dtype=float), ((0, 0), (1, 0), (0, 0)))
    return np.where(np.isfinite(places).all(-1, keepdims=True), course, np.nan)


def turns(angle, velocity, valid, dt, lag=None):
    """The `slope`, `r` and `lag` of an angle's turning on a velocity, at the best lag, or at the one given (s).

    Turns over SPANS are compared, of directions averaged over less than half of each: noise of single steps drowns
    these less than turns of one step. Of two spans the one counts that correlates more, since fast turns go around in
    the longer one. The slope is the one that predicts the turns' directions best.
    angle: (trials, steps) rad, NaN where there is none; velocity: (trials, steps) rad/s; valid: (trials, steps) bool.
    """
    best = None
    for span in SPANS:
        found = _turns(angle, velocity, valid & np.isfinite(angle), dt, span, lag)
        if best is None or (found and abs(found[0]) > abs(best[0])):
            best = found
        if best and abs(best[0]) > 0.95:
            break
    if best is None:
        return {"slope": None, "r": None, "lag": None}
    r, lag, x, y = best
    slopes = r * y.std() / x.std() * np.geomspace(0.3, 5, 120)
    every = max(1, len(x) // 5000)
    slope = max(slopes, key=lambda slope: np.cos(y[::every] - slope * x[::every]).sum())
    return {"slope": float(slope), "r": float(r), "lag": lag}


def _turns(angle, velocity, valid, dt, span, lag):
    """The correlation, the lag (s), and the turns that velocity and angle say, at the best lag; or None."""
    pairs = Turns(angle, velocity, valid, dt, span)
    furthest, best = min(round(LAG / dt), pairs.moved.shape[1] // 4), None
    for by in range(-furthest, furthest + 1) if lag is None else [round(lag / dt)]:
        x, y, use, _ = pairs.at(by)
        x, y = x[use], y[use]
        if len(x) < 3 or np.ptp(x) < 1e-9 or np.ptp(y) < 1e-9:
            continue
        r = np.corrcoef(x, y)[0, 1]
        if best is None or abs(r) > abs(best[0]) + 1e-12:
            best = r, by * dt, x, y
    return best


class Turns:
    """How far velocity and angle turn over windows of a recording.

    angle: (trials, steps) rad; velocity: (trials, steps) rad/s; valid: (trials, steps) bool; span: s, of a window.
    """

    def __init__(self, angle, velocity, valid, dt, span):
        steps = angle.shape[1]
        self.apart, self.width = (
            max(1, min(round(seconds / dt), steps // part)) for seconds, part in ((span, 4), (0.4 * span, 8))
        )
        pointing, known = self._mean(np.exp(1j * np.where(valid, angle, 0.0)) * valid), self._mean(valid * 1.0)
        k, known = self.apart, known > 1 - 1e-6
        self.moved = np.angle(pointing[:, k:] * pointing[:, :-k].conj())  # (trials, steps - width - k + 1)
        self.known, self.driven = known[:, k:] & known[:, :-k], self.turn_of(velocity, dt)

    def _mean(self, x):
        sums = np.pad(np.cumsum(x, 1), ((0, 0), (1, 0)))
        return (sums[:, self.width :] - sums[:, : -self.width]) / self.width

    def turn_of(self, velocity, dt):
        """A velocity's turn in each window, as the angle's is averaged. velocity: (trials, steps)."""
        whole = self._mean(dt * (np.cumsum(velocity, 1, dtype=float) - velocity))
        return whole[:, self.apart :] - whole[:, : -self.apart]

    def at(self, by, driven=None):
        """Turns of a velocity and, `by` steps later, of the angle. driven: `turn_of`'s of another velocity.

        Returns: x, y, and which are known, (trials, windows), and the step in the middle of each window, of the angle.
        """
        count = self.moved.shape[1]
        late, early = (slice(max(0, s * by), count - max(0, -s * by), max(1, self.apart // 5)) for s in (1, -1))
        middle = np.arange(count)[late] + (self.apart + self.width) // 2
        driven = self.driven if driven is None else driven
        return driven[:, early], self.moved[:, late], self.known[:, late] & self.known[:, early], middle


def window_error(net, rec, warmup, window):
    """Mean squared error of the rates over windows run freely after `warmup` held steps, laid end to end."""
    length = warmup + window
    errors = []
    for start in range(0, rec.rates.shape[1] - length + 1, length):
        free = predict(net, rec, warmup, start, length)[:, warmup:, : net.n]
        wrong = np.mean((free - rec.rates[:, start + warmup : start + length]) ** 2, (1, 2))
        errors.extend(wrong[rec.valid[:, start + length - 1]])
    return float(np.mean(errors))


def select_networks(candidates, rec, warmup, window):
    """Select, per replica, the network with the lowest free-running error on 20 training trials.

    candidates: {name: list of Network, one per replica}. Returns: list of Network, list of their names, and a dict
    {name: list of errors}, mean squared, one per replica.
    """
    some = rec.trials(slice(None, 20))
    errors = {name: [window_error(net, some, warmup, window) for net in nets] for name, nets in candidates.items()}
    names = [min(errors, key=lambda name, k=k: errors[name][k]) for k in range(len(next(iter(errors.values()))))]
    return [candidates[name][k] for k, name in enumerate(names)], names, errors
