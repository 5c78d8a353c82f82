"""Regression of the recorded activity's turning on the velocity."""

import numpy as np

from nsi import geometry
from nsi.recordings.arrays import correlate

SPANS = 0.5, 0.125  # s, of turns
MAX_LAG = 0.75  # s, between the clocks of velocity and activity
MIN_R = 0.12  # correlation of turning below which there is none, in a long recording; 3 / sqrt(s) in a shorter one
REMEDY_R = 0.9  # correlation of turning from which a warning names a factor or a shift


class Turning:
    """The course of a recording's activity, and its regression on the velocity."""

    def __init__(self, rec):
        """rec: Recording, without missing rates."""
        shape = geometry.of(rec)
        places, self.rec = geometry.places_of(rec, shape), rec
        first = lambda x: (x if shape.dimensions == 1 else unwrap_course(shape, x))[..., 0]
        has_heading = rec.heading is not None and rec.heading.shape[-1] == shape.dimensions
        self.places = shape.decode(rec.rates, places)  # (trials, steps, D) rad, NaN in silence
        self.angle = first(self.places)  # (trials, steps) rad, of the first component
        self.course = first(rec.heading) if has_heading else None  # the same of the given heading
        self.fit = first_component(measure_turning(rec, shape, places))
        self.heading = self.fit.get("heading", {"r": None, "slope": None})
        self.seconds = float((rec.valid & rec.rates.any(-1)).sum() * rec.dt)  # for which neurons are active
        ways = [np.unwrap(row[np.isfinite(row)]) for row in self.angle]
        # how often it goes around the ring, all trials together; each one's start counts a quarter
        self.rounds = sum(np.ptp(way) for way in ways if len(way)) / (2 * np.pi) + len(ways) / 4
        self.by_product = shape.dimensions == 1 and self._turns_by_product()

    def is_unrelated(self, r):
        """Whether a correlation of turning, the largest over lags, is no more than chance gives in so many seconds."""
        return r is None or abs(r) < min(0.5, max(MIN_R, 3 / np.sqrt(self.seconds)))

    def regress_on(self, velocity, lag=None):
        """The regression of the activity's turning on another velocity (trials, steps), `regress_turns`'s."""
        return regress_turns(self.angle, velocity, self.rec.valid, self.rec.dt, lag)

    def _turns_by_product(self):
        """Whether the product of two velocities explains the activity's turning, as neither of them does by half."""
        velocity = self.rec.velocity
        if velocity.shape[-1] != 2:
            return False
        second, both = (self.regress_on(v)["r"] or 0.0 for v in (velocity[..., 1], velocity.prod(-1)))
        each = max((self.fit["r"] or 0.0) ** 2, second**2)
        return not self.is_unrelated(both) and 1 - both**2 < 0.5 * (1 - each)


def measure_turning(rec, shape, places):
    """Regress the turning of the recorded activity on the velocity; without it no fit to the velocity means anything.

    places: (n, D) rad. Returns: dict of `slope` (1 for activity that integrates rad/s), `r` (correlation) and `lag`
    (s, by which the activity comes after the velocity), at the lag within MAX_LAG where the correlation is largest,
    None where there is none; and `heading`, the same of the heading, where it is given. On a torus slope and r are
    lists, one for each component of the velocity, at the lag of the first."""
    activity = _measure_course(shape, shape.decode(rec.rates, places), rec)
    if rec.heading is None or rec.heading.shape[-1] != shape.dimensions:
        return activity
    heading = _measure_course(shape, rec.heading, rec)
    return activity if heading["r"] is None else activity | {"heading": heading}


def _measure_course(shape, places, rec):
    """Regress the turning of places (trials, steps, D) rad on the velocity, by component where D > 1."""
    course = unwrap_course(shape, places)
    first = regress_turns(course[..., 0], rec.velocity[..., 0], rec.valid, rec.dt)
    if shape.dimensions == 1 or first["r"] is None:
        return first
    pairs = zip(np.moveaxis(course, -1, 0), np.moveaxis(rec.velocity, -1, 0), strict=False)
    each = [regress_turns(angle, velocity, rec.valid, rec.dt, first["lag"]) for angle, velocity in pairs]
    return {"slope": [one["slope"] for one in each], "r": [one["r"] for one in each], "lag": first["lag"]}


def first_component(turning):
    """The first component of `measure_turning`, of which a torus has two."""
    parts = {k: first_component(v) if isinstance(v, dict) else v for k, v in turning.items()}
    return {k: v[0] if isinstance(v, list) else v for k, v in parts.items()}


def unwrap_course(shape, places):
    """Unwrapped displacement of the bump, in the velocity's components. places: (trials, steps, D) rad. Returns: the
    same, NaN where a place is."""
    moved = shape.displacement(shape.difference(places[:, 1:], places[:, :-1]))
    course = np.pad(np.cumsum(np.nan_to_num(moved), 1, dtype=float), ((0, 0), (1, 0), (0, 0)))
    return np.where(np.isfinite(places).all(-1, keepdims=True), course, np.nan)


def regress_turns(angle, velocity, valid, dt, lag=None):
    """Regress an angle's turning on a velocity, at the best lag, or at the one given (s). angle: (trials, steps) rad,
    NaN where there is none; velocity: (trials, steps) rad/s; valid: (trials, steps) bool. Returns: dict of `slope`,
    which predicts the turns' directions best, `r` and `lag` (s), None where nothing turns."""
    r, by, turns = align_turns(angle, velocity, valid, dt, lag)
    if turns is None:
        return {"slope": None, "r": None, "lag": None}
    x, y, use, _ = turns.at(by)
    x, y = x[use], y[use]
    slopes = r * y.std() / x.std() * np.geomspace(0.3, 5, 120)
    every = max(1, len(x) // 5000)
    slope = max(slopes, key=lambda slope: np.cos(y[::every] - slope * x[::every]).sum())
    return {"slope": float(slope), "r": float(r), "lag": by * dt}


def align_turns(angle, velocity, valid, dt, lag=None):
    """The correlation of turns, the lag (steps) at which it is largest, and the Turns, or None; as `regress_turns`.

    Turns over SPANS are compared, of directions averaged over less than half of each: noise of single steps drowns
    these less than turns of one step. Fast turns go around in the longer span, so that the better one counts."""
    best = 0.0, 0, None
    for span in SPANS:
        turns = Turns(angle, velocity, valid & np.isfinite(angle), dt, span)
        furthest = min(round(MAX_LAG / dt), turns.moved.shape[1] // 4)
        for by in range(-furthest, furthest + 1) if lag is None else [round(lag / dt)]:
            x, y, use, _ = turns.at(by)
            x, y = x[use], y[use]
            r = correlate(x, y) if len(x) > 2 and min(np.ptp(x), np.ptp(y)) > 1e-9 else 0.0
            if abs(r) > abs(best[0]) + 1e-12:
                best = r, by, turns
        if abs(best[0]) > 0.95:
            break
    return best


def average_windows(x, width):
    """Mean over windows of so many steps. x: (trials, steps). Returns: (trials, steps - width + 1)."""
    sums = np.pad(np.cumsum(x * 1.0, 1), ((0, 0), (1, 0)))
    return (sums[:, width:] - sums[:, :-width]) / width


def describe_lag(lag, digits=3):
    """By how much the activity turns before or after the velocity. lag: s."""
    return f"{abs(lag):.{digits}g} s {'before' if lag < 0 else 'after'}"


class Turns:
    """Turns of velocity (rad/s) and angle (rad) over windows of a recording, each (trials, steps). valid: of the same
    shape; span: s, of a window."""

    def __init__(self, angle, velocity, valid, dt, span):
        sizes = ((span, 4), (0.4 * span, 8))
        self.apart, self.width = (max(1, min(round(s / dt), angle.shape[1] // part)) for s, part in sizes)
        pointing = average_windows(np.exp(1j * np.where(valid, angle, 0.0)) * valid, self.width)
        k, known = self.apart, average_windows(valid, self.width) > 1 - 1e-6
        self.moved = np.angle(pointing[:, k:] * pointing[:, :-k].conj())  # (trials, steps - width - k + 1)
        self.known, self.driven = known[:, k:] & known[:, :-k], self.turn_of(velocity, dt)

    def turn_of(self, velocity, dt):
        """A velocity's turn in each window, as the angle's is averaged. velocity: (trials, steps)."""
        whole = average_windows(dt * (np.cumsum(velocity, 1, dtype=float) - velocity), self.width)
        return whole[:, self.apart :] - whole[:, : -self.apart]

    def at(self, by, driven=None):
        """Turns of a velocity and, `by` steps later, of the angle. driven: `turn_of`'s of another velocity. Returns: x,
        y, and which are known, (trials, windows), and the step in the middle of each window, of the angle."""
        count = self.moved.shape[1]
        late, early = (slice(max(0, s * by), count - max(0, -s * by), max(1, self.apart // 5)) for s in (1, -1))
        middle = np.arange(count)[late] + (self.apart + self.width) // 2
        driven = self.driven if driven is None else driven
        return driven[:, early], self.moved[:, late], self.known[:, late] & self.known[:, early], middle
