"""Compare the parts of a recording with each other: early with late trials, the start of trials with their end.

A fit assumes the same circuit, recorded in the same way, throughout. Two divisions into segments are
compared: the session (trials in their order, or pieces of a long trial) and the trial (positions within all trials).
Each quantity is a weighted mean per segment, so that one test serves all: `find_change` finds the place in the sequence
of segments where the mean before differs most from the mean after, and `find_outlying` single segments. The noise is
that of neighbouring segments. A difference counts if it is both large and far beyond the noise.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_opening

from nsi.geometry import RING
from nsi.recordings.arrays import list_some, short_gaps
from nsi.recordings.turning import (
    MAX_LAG,
    REMEDY_R,
    align_turns,
    average_windows,
    describe_lag,
    regress_turns,
)

MAX_SEGMENTS = 60  # at most, of a session
MIN_SEGMENT_S = 2.0  # s, of a segment of a session
TRIAL_PARTS = 10  # segments of a trial
MIN_STANDARD_ERRORS = 6.0  # standard errors
MIN_COMPARED_S = 25.0  # s of activity, below which parts are not compared
MIN_LAG_SHARE = 0.3  # of the variance that is not explained: what a part's own lag must explain beyond the others'
MAX_GAP_S = 0.3  # s, over which a missing velocity may be interpolated
MIN_RESULTANT = 0.85  # resultant length of the activity's direction relative to the heading, from which it has one


class Segments(NamedTuple):
    """A division of a recording's steps into segments that follow each other."""

    label: np.ndarray  # (trials, steps) int, -1 where a step belongs to none
    unit: str  # trial, second or step
    first: np.ndarray  # of numbers or text, what each segment begins with, in this unit,
    last: np.ndarray  # and what it ends with
    joint: bool = False  # whether a segment is a position within all trials
    gain: float = 1.2  # ratio of two slopes that counts

    @property
    def count(self):
        return len(self.first)

    def coarser(self, most):
        """At most so many segments, of several of these each."""
        size = int(np.ceil(self.count / most))
        label, start = np.where(self.label < 0, -1, self.label // size), np.arange(0, self.count, size)
        last = self.last[np.minimum(start + size, self.count) - 1]
        return self._replace(label=label, first=self.first[start], last=last)

    def where(self, which):
        """Segments in words. which: indices, in order."""
        first, last = self.first[which], self.last[which]
        if np.all(np.diff(which) == 1):
            first, last = first[:1], last[-1:]
        ranges = [f"{a} to {b}" if a != b else f"{a}" for a, b in zip(first, last, strict=True)]
        units = f"{self.unit}s" if np.any(first != last) else self.unit
        return f"{units} {list_some(ranges)}{' of each trial' if self.joint else ''}"


def divide_recording(rec):
    """The divisions in which a recording's parts are compared. Returns: list of Segments, of several segments each."""
    valid, (trials, steps) = rec.valid, rec.rates.shape[:2]
    seconds, divisions = valid.sum() * rec.dt, []
    if trials >= 8:
        size = max(1, int(np.ceil(trials / MAX_SEGMENTS)), int(np.ceil(MIN_SEGMENT_S * trials / seconds)))
        label, first = np.arange(trials)[:, None] // size, np.arange(0, trials, size)
        session = Segments(np.where(valid, label, -1), "trial", first, np.minimum(first + size, trials) - 1)
    else:
        size = max(1, int(np.ceil(valid.sum() / min(MAX_SEGMENTS, max(1, seconds // MIN_SEGMENT_S)))))
        label = np.where(valid, (np.cumsum(valid).reshape(valid.shape) - 1) // size, -1)
        edges = np.array([f"{k * size * rec.dt:.3g}" for k in range(label.max() + 2)])
        session = Segments(label, "second", edges[:-1], edges[1:], gain=1.5)
    if session.count >= 6:
        divisions.append(session)
    if trials >= 8 and steps >= 50:
        edges = np.ceil(np.arange(TRIAL_PARTS + 1) * steps / TRIAL_PARTS).astype(int)
        label = np.where(valid, np.arange(steps) * TRIAL_PARTS // steps, -1)
        divisions.append(Segments(label, "step", edges[:-1], edges[1:] - 1, True))
    return divisions


class Part(NamedTuple):
    """A part where a quantity differs, and its values there and elsewhere."""

    which: np.ndarray  # indices of segments
    here: float
    elsewhere: float
    steady: bool = True  # whether it is alike within either part, so that it steps and does not drift


def estimate_noise(values, weights):
    """The s.d. of values of weight 1, from the differences between neighbours, a steady drift and the largest
    differences, which may be changes, aside."""
    d = np.diff(values)
    d = (d - np.median(d)) / np.sqrt(1 / weights[1:] + 1 / weights[:-1])
    kept = np.sort(d**2)[: max(3, int(0.8 * len(d)))]
    return np.sqrt(kept.mean()) / 0.66  # of a normal distribution without its largest fifth


def find_change(total, weights, size, least=1):
    """Find where a mean per segment changes. total, weights: (segments,), the mean's parts; size: called with the means
    before and after, how large their difference is, 1 being what counts; least: segments on either side. Returns: Part,
    the shorter side of the change or the later one; or None."""
    known = np.flatnonzero(weights > 1e-8 * weights.max(initial=1e-300))
    if len(known) < 6:
        return None
    w, x = weights[known], total[known] / weights[known]
    sd = max(estimate_noise(x, w), 1e-12)
    least = max(least, len(x) // 10)
    at = np.arange(least, len(x) - least + 1)
    sums = np.cumsum([w, w * x], 1)
    (first, left), (last, right) = sums[:, at - 1], sums[:, -1:] - sums[:, at - 1]
    before, after = left / first, right / last
    t = np.abs(after - before) / (sd * np.sqrt(1 / first + 1 / last))
    best = t.argmax()
    k, before, after = at[best], before[best], after[best]
    if t[best] < MIN_STANDARD_ERRORS or size(before, after) < 1:
        return None
    mean = lambda start, stop: np.average(x[start:stop], weights=w[start:stop])
    drift = [mean(a, (a + b) // 2 + 1) - mean((a + b) // 2, b) for a, b in ((0, k), (k, len(x)))]
    steady = max(map(abs, drift)) < 0.15 * abs(after - before)
    later = k >= 0.4 * len(x)
    return Part(known[k:], after, before, steady) if later else Part(known[:k], before, after, steady)


def find_outlying(total, weights, size):
    """Single segments whose mean differs from the others', as `find_change`. Returns: Part or None."""
    known = np.flatnonzero(weights > 0.05 * np.median(weights))
    if len(known) < 6:
        return None
    w, x = weights[known], total[known] / weights[known]
    middle = np.median(x)
    z = np.abs(x - middle) * np.sqrt(w)
    sd = max(1.4826 * np.median(z), 1e-12)
    out = (z > MIN_STANDARD_ERRORS * sd) & [size(middle, value) >= 1 for value in x]
    if not out.any() or out.mean() > 0.4:
        return None
    return Part(known[out], float(np.average(x[out], weights=w[out])), float(middle))


def find_difference(total, weights, size, size_of_single):
    """Single segments that differ from all others, or else where the mean changes; as `find_change`. size_of_single: as
    size, of the difference of single segments. Returns: Part or None."""
    out, rest = find_outlying(total, weights, size_of_single), weights.copy()
    if out is None:
        return find_change(total, weights, size)
    rest[out.which] = 0
    return find_change(total, weights, size) if find_change(total, rest, size) else out


def by_ratio(most):
    """Size of the ratio of two means, relative to `most`. Returns: a function, the size of `find_change`."""
    return lambda a, b: np.inf if a * b <= 0 else abs(np.log(a / b)) / np.log(most)


def by_difference(most):
    """Size of the difference of two means, relative to `most`. Returns: a function, the size of `find_change`."""
    return lambda a, b: abs(a - b) / most


def find_related_part(rec, angle, fit):
    """How the activity turns with the velocity in the part of the recording where it does most, if it does so in none
    other. fit: regress_turns' of the whole. Returns: the same of that part, or `fit`."""
    if fit["r"] is not None and abs(fit["r"]) > 0.5:
        return fit
    trials, steps = (size // 2 for size in angle.shape)
    parts = [np.s_[:, :steps], np.s_[:, steps:], *([np.s_[:trials], np.s_[trials:]] if trials else [])]
    each = [regress_turns(angle[part], rec.velocity[..., 0][part], rec.valid[part], rec.dt) for part in parts]
    best = max(each, key=lambda one: abs(one["r"] or 0))
    return best if abs(best["r"] or 0) > 0.8 else fit


class SegmentTurning:
    """The turning of an angle on the velocity, window by window, and its regression by segments."""

    def __init__(self, rec, angle, fit, divided, jumps=False):
        """angle: (trials, steps) rad; fit: regress_turns' of it; divided: list of Segments; jumps: (trials, steps)
        bool, steps that are left out."""
        self.rec, self.divided, self.dt = rec, divided, rec.dt
        self.v, self.valid = rec.velocity[..., 0], rec.valid & np.isfinite(angle)
        self.r, self.by, self.pairs = align_turns(angle, self.v, self.valid, rec.dt, fit["lag"] or 0.0)
        self.x, self.y, self.use, self.middle = self.pairs.at(self.by)
        if abs(self.r) < 0.5 < abs(fit["r"]):
            self.r = fit["r"]
        if np.any(jumps):
            size = self.pairs.apart + self.pairs.width
            self.use = self.use & (average_windows(jumps, size)[:, self.middle - size // 2] == 0)

    def windows(self, segments, by=None):
        """Turns x and y of the known windows, at the activity's lag or `by` steps, and the segment of each window."""
        x, y, use, middle = (self.x, self.y, self.use, self.middle) if by is None else self.pairs.at(by)
        label = segments.label[:, np.minimum(middle, segments.label.shape[1] - 1)]
        use = use & (label >= 0)
        return x[use], y[use], label[use]

    def sum_moments(self, segments, by=None):
        """Count, sums of x and y, and centred sums of x x, y y and x y in each segment."""
        x, y, label = self.windows(segments, by)
        parts = (np.ones_like(x), x, y, x * x, y * y, x * y)
        n, sx, sy, xx, yy, xy = (np.bincount(label, part, segments.count) for part in parts)
        n = np.maximum(n, 1)
        return n, sx, sy, xx - sx * sx / n, yy - sy * sy / n, xy - sx * sy / n

    def measure_lags(self, segments):
        """The lag (s) of each segment, NaN where it is unknown. segments: Segments."""
        furthest = min(round(MAX_LAG / self.dt), self.pairs.moved.shape[1] // 3)
        every = np.arange(-furthest, furthest + 1)
        r = np.zeros((len(every), segments.count))
        for row, by in zip(r, every, strict=True):
            n, _, _, xx, yy, xy = self.sum_moments(segments, by)
            deep = n > max(10, 0.3 * np.median(n))
            row[deep] = (xy / np.sqrt(np.maximum(xx * yy, 1e-12)))[deep]
        return locate_peaks(r * np.sign(self.r), every, 0.6) * self.dt


def locate_peaks(r, lags, least):
    """The lag at which each column of r (lags, any) is largest, by a parabola through that value and its neighbours.
    Returns: (any,), NaN where the value is below `least`, or at either end."""
    if len(lags) < 3:
        return np.full(r.shape[1], np.nan)
    top = r.argmax(0)
    inside = np.clip(top, 1, len(lags) - 2)
    a, b, c = (r[inside + by, np.arange(r.shape[1])] for by in (-1, 0, 1))
    peak = lags[inside] + 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-12)
    return np.where((r.max(0) >= least) & (top == inside), peak, np.nan)


def check_lost_tracking(turning):
    """A velocity that is 0 or constant where the activity turns on: lost tracking. Returns: a sentence, or None."""
    rec, pairs, x, y, use = turning.rec, turning.pairs, turning.x, turning.y, turning.use
    same = np.pad((rec.velocity[:, 1:] == rec.velocity[:, :-1]).all(-1), ((0, 0), (1, 0)))
    lost = binary_opening(same, np.ones((1, max(5, round(0.1 / rec.dt))))) | ~rec.velocity.any(-1)
    lost &= rec.valid
    share = lost.sum() / rec.valid.sum()
    if not 0.002 < share < 0.9:
        return None
    size = pairs.apart + pairs.width
    within = pairs.at(turning.by, average_windows(lost, size))[0]  # share of each window
    clear, inside = use & (within == 0), use & (within > 0.9)
    if clear.sum() < 0.02 * use.sum():
        clear = use & (within < np.quantile(within[use], 0.1) + 1e-9)
    blind, independent = False, inside.sum() * max(1, pairs.apart // 5) / size
    if independent > 4 and clear.sum() > 10:
        slope = (x * y)[clear].sum() / max((x * x)[clear].sum(), 1e-12)
        left = RING.difference(y, slope * x) ** 2
        out = left[clear].mean()
        blind = left[inside].mean() > max(3 * out, 0.1 * y[clear].var()) and np.median(left[inside]) > 2 * out
    if not blind and not _is_mended_by_interpolation(turning, lost):
        return None
    constant = "is exactly 0" if not rec.velocity[lost].any() else "is exactly 0 or does not change"
    remedy = "interpolate it where gaps are short, and cut the trials at longer ones"
    return (
        f"velocity {constant} at {share:.0%} of the steps ({_describe_steps(lost, rec.valid)}), where the recorded "
        "activity turns as elsewhere, as if the tracker had lost the animal or values were filled in; "
        f"{'leave these steps out, with `lengths` or as trials of their own' if blind else remedy}"
    )


def _is_mended_by_interpolation(turning, lost):
    """Whether a velocity interpolated over short gaps explains turns that the given one does not. lost: (trials, steps)
    bool, the gaps."""
    rec, pairs, velocity = turning.rec, turning.pairs, turning.v.astype(float)
    for row, known in zip(velocity, rec.valid & ~lost, strict=True):
        gaps, *_ = short_gaps(known, round(MAX_GAP_S / rec.dt))
        row[gaps] = np.interp(gaps, np.flatnonzero(known), row[known]) if len(gaps) else 0.0
    z = pairs.at(turning.by, pairs.turn_of(velocity - turning.v, rec.dt))[0]
    part = turning.use & (np.abs(z) > 0)
    if part.sum() <= 50:
        return False
    A, y = np.stack([turning.x[part], z[part]]), turning.y[part]
    coefficients, inverse = np.linalg.solve(A @ A.T + 1e-12 * np.eye(2), A @ y), np.linalg.pinv(A @ A.T)
    noise = np.sqrt(np.mean((y - coefficients @ A) ** 2) * inverse[1, 1] * 5)
    return coefficients[1] / coefficients[0] > 0.5 and abs(coefficients[1]) > MIN_STANDARD_ERRORS * noise


def _describe_steps(mask, valid):
    """Describe where most of a mask lies."""
    by_trial = mask.sum(1) / np.maximum(valid.sum(1), 1)
    most = by_trial > 0.9
    if mask[most].sum() > 0.9 * mask.sum():
        return f"trial {list_some(np.flatnonzero(most))}"
    by_step = mask.sum(0) / np.maximum(valid.sum(0), 1)
    often = np.flatnonzero((by_step > 0.9) & (valid.sum(0) > 0.5 * len(valid)))
    if len(mask) > 2 and mask[:, often].sum() > 0.8 * mask.sum():
        return f"steps {often[0]} to {often[-1]} of each trial"
    trial, step = np.argwhere(mask)[0]
    return f"first at trial {trial}, step {step}"


class SlopeChange(NamedTuple):
    """A part of a recording where the activity's turning on the velocity differs."""

    part: Part  # of slopes
    where: str  # that part in words
    r: tuple  # correlations there and elsewhere
    unrelated: str  # the side of the lower correlation, in words


def find_slope_change(turning):
    """Find a part where the activity's turning on the velocity differs. Returns: SlopeChange or None."""
    for segments in turning.divided:
        n, _, _, cxx, cyy, cxy = turning.sum_moments(segments)
        part = find_difference(cxy, np.where(n > 5, cxx, 0), by_ratio(segments.gain), by_ratio(1.8))
        if part is None:
            continue
        each = np.where((n > 5) & (cxx > 0), np.abs(cxy) / np.sqrt(np.maximum(cxx * cyy, 1e-12)), np.nan)
        if len(part.which) < 0.4 * segments.count and np.nanmedian(each) > 0.95:  # and others like these
            strange = np.flatnonzero(each < 0.75 * np.nanmedian(each))
            if np.isin(part.which, strange).any():
                part = part._replace(which=np.union1d(part.which, strange))
        sides = part.which, np.setdiff1d(np.arange(segments.count), part.which)
        r = [cxy[k].sum() / np.sqrt(max(cxx[k].sum() * cyy[k].sum(), 1e-12)) for k in sides]
        if abs(r[1]) < REMEDY_R and len(part.which) < 0.1 * segments.count:
            continue  # of animals that hardly turn single trials are no evidence
        return SlopeChange(part, segments.where(part.which), r, segments.where(sides[np.argmin(np.abs(r))]))
    return None


def check_velocity(turning):
    """Check the velocity for parts that differ, and for an offset. Returns: a sentence, or None."""
    pulsed = turning.rec.stimulus is not None and abs(turning.r) < 0.95  # pulses move the bump, too
    checks = (check_lost_tracking,) if pulsed else (check_lost_tracking, check_clock, check_slope, check_offset)
    return next(filter(None, (check(turning) for check in checks)), None)


def check_clock(turning):
    """A lag between activity and velocity that changes. Returns: a sentence, or None."""
    for segments in turning.divided:
        if segments.joint and segments.label.shape[1] < 10 * turning.pairs.apart:
            continue  # windows are longer than the segments
        coarse = segments.coarser(10)
        lag = turning.measure_lags(coarse)
        known = np.isfinite(lag)
        tolerance = max(0.03, 2.5 * turning.dt)
        found = find_change(np.where(known, lag, 0), known * 1.0, by_difference(tolerance))
        if not found or min(len(found.which), known.sum() - len(found.which)) < 2:
            continue
        explained = []  # of the turns in that part, by its own lag and by the others'
        for lag in (found.here, found.elsewhere):
            x, y, label = turning.windows(coarse, round(lag / turning.dt))
            inside = np.isin(label, found.which)
            explained.append(np.corrcoef(x[inside], y[inside])[0, 1] ** 2)
        if explained[0] - explained[1] > MIN_LAG_SHARE * max(1 - explained[0], 1e-6):
            most, here = (describe_lag(lag, 2) for lag in (found.elsewhere, found.here))
            return (
                f"velocity: its clock drifts from the neurons': the recorded activity turns {most} it in most of the "
                f"recording and {here} it in {coarse.where(found.which)}; no single shift mends this: align the two "
                "clocks by their common events, at both ends"
            )
    return None


def check_offset(turning):
    """An offset of the velocity, by the activity's turning where the velocity is 0. Returns: a sentence, or None."""
    sd, span = turning.v[turning.valid].std(), turning.pairs.apart * turning.dt
    for segments in turning.divided:
        count, sx, sy, cxx, _, cxy = turning.sum_moments(segments)
        slope = cxy.sum() / max(cxx.sum(), 1e-12)
        total = (sx - sy / slope) / span
        part = find_change(total, np.where(count > 5, count, 0), by_difference(0.2 * sd))
        if part and abs(turning.r) > 0.9:
            return (
                f"velocity: where it is 0 the recorded activity turns as at {-part.here:.3g} rad/s in "
                f"{segments.where(part.which)} and as at {-part.elsewhere:.3g} rad/s elsewhere: its zero has moved"
            )
    if not turning.divided or abs(turning.r) < 0.8:
        return None
    x, y = turning.x[turning.use], turning.y[turning.use]
    slow, offset, each = x <= np.median(x), total.sum() / count.sum(), total[count > 5] / count[count > 5]
    lines = [np.polyfit(x[half], y[half], 1) for half in (slow, ~slow)]
    ends = [-at / slope / span / offset for slope, at in lines]  # by either half's line alone, relative to both
    low, high = np.quantile(x, [0.02, 0.98])
    limit = max(0.2 * sd, MIN_STANDARD_ERRORS * each.std() / np.sqrt(len(each)))
    if min(ends) < 0.5 or not low < offset * span < high or abs(offset) < limit:
        return None
    remedy = f"; subtract {offset:.3g} from velocity" if abs(turning.r) >= REMEDY_R else ""
    return (
        f"velocity has a constant offset: where it is {offset:.3g} rad/s the recorded activity stands still "
        f"(r {turning.r:.2f}){remedy}"
    )


def check_slope(turning):
    """A part where the activity turns with the velocity at another rate. Returns: a sentence, or None."""
    change = find_slope_change(turning)
    if change is None:
        return None
    part, where, r, unrelated = change
    low, high = sorted(r, key=abs)
    if abs(low) < 0.6 * abs(high):
        return (
            f"velocity: the recorded activity of {unrelated} does not turn with it (r {low:.2f}, in the others "
            f"{high:.2f}); is the velocity there that of other trials or times"
        )
    if part.here * part.elsewhere < 0:
        return (
            "velocity: the recorded activity turns with it in one part of the recording and against it in the other "
            f"({where}); is its sign, or the neurons' order, another there"
        )
    times, remedy = part.here / part.elsewhere, ""
    if not part.steady:
        remedy = "; it changes little by little, as no single factor mends"
    elif abs(low) >= REMEDY_R:
        remedy = f": multiply velocity by {times:.3g} there, unless the animal's gain changed"
    return (
        f"velocity: the recorded activity of {where} turns {times:.3g} times as fast with it as elsewhere (slope "
        f"{abs(part.here):.3g} and {abs(part.elsewhere):.3g}, r {r[0]:.2f} and {r[1]:.2f}){remedy}"
    )


def check_heading(turning):
    """A part where the given heading does not turn with the velocity. turning: of the heading. Returns: a sentence, or
    None."""
    change = find_slope_change(turning)
    low, high = sorted(change.r, key=abs) if change else (0.0, 0.0)
    if abs(low) < 0.8 * abs(high):
        return (
            f"heading of {change.unrelated} does not turn with velocity (r {low:.2f}, in the others {high:.2f}), "
            "though the recorded activity does: it is of other trials or times, or the tracker was lost; leave heading "
            "out"
        )
    return None


def check_place(places, heading, divided):
    """Check whether the place of the activity, relative to the heading, changes once. Returns: a sentence, or None.

    places, heading: (trials, steps, D) rad. Where it differs from trial to trial anyway, or moves little by little,
    nothing is said.
    """
    known = np.isfinite(places).all(-1)
    for segments in divided:
        if segments.joint or segments.gain > 1.2:
            continue  # within a trial a bump that integrates velocity drifts away from the heading
        use, count = segments.label >= 0, segments.count
        for angle, recorded in zip(np.moveaxis(places, -1, 0), np.moveaxis(heading, -1, 0), strict=True):
            apart = np.exp(1j * (np.where(known, angle, 0) - recorded)) * known
            sums = [np.bincount(segments.label[use], part[use], count) for part in (apart.real, apart.imag, known)]
            each = (sums[0] + 1j * sums[1]) / np.maximum(sums[2], 1)
            sides = [(k, each[:k].mean(), each[k:].mean()) for k in range(count // 6 + 2, count - count // 6 - 1)]
            k, before, after = max(sides, key=lambda one: abs(one[1]) + abs(one[2]), default=(0, 0, 0))
            if min(abs(before), abs(after)) < MIN_RESULTANT:
                continue
            near = max(2, count // 6)
            turned, at_once = np.angle(after / before), np.angle(each[k : k + near].sum() / each[k - near : k].sum())
            if abs(turned) > 1 and abs(at_once) > 0.7 * abs(turned):
                return (
                    f"rates: relative to heading the activity points {abs(turned):.2g} rad elsewhere in "
                    f"{segments.where(np.arange(k, count))} than before; unless the circuit was reset, the neurons are "
                    "in another order there, or heading has another zero"
                )
    return None
