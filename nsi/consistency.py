"""Compare the parts of a recording with each other: early with late trials, the start of trials with their end.

What is fitted is taken to be the same circuit, seen in the same way, throughout. Two divisions into segments are
compared: the session (trials in their order, or pieces of a long trial) and the trial (positions within all trials).
Each quantity is a weighted mean per segment, so that one test serves all: `change` looks for the place in the sequence
of segments where the mean before differs most from the mean after, and `outlying` for single segments. The noise is
that of neighbouring segments. A difference counts if it is both large and far beyond the noise.
"""

import itertools
import warnings
from typing import NamedTuple

import numpy as np

from nsi import prediction

SEGMENTS = 60  # at most, of a session
SHORTEST = 2.0  # s, of a segment of a session
BEYOND = 6.0  # standard errors
FEWEST = 25.0  # s of activity, below which parts are not compared
GAINED = 0.3  # of the variance that is not explained: what a part's own lag must explain beyond the others'
SURE = 0.9  # correlation of turning from which a factor is named
DRIVEN = 0.15  # correlation of a neuron's deviation with the velocity, from which it receives it
LARGEST = 4_000_000  # values of the rates in which delays are looked for
WELL = 0.35  # share of the rates' variance that the place explains, from which parts are compared by it
MOST = 100_000  # samples of the activity that are compared
PATIENCE = 0.3  # s, over which a missing velocity may be interpolated


# ---- one test for all ------------------------------------------------------------------------------------------


class Segments(NamedTuple):
    """A division of a recording's steps into segments that follow each other."""

    label: np.ndarray  # (trials, steps) int, -1 where a step belongs to none
    names: list  # of str, what each segment is called
    joint: bool  # whether a segment is a position within all trials
    gain: float = 1.15  # ratio of two slopes that counts

    @property
    def count(self):
        return len(self.names)

    def coarser(self, most):
        """At most so many segments, of several of these each."""
        size = int(np.ceil(self.count / most))
        names = []
        for start in range(0, self.count, size):
            part = self.names[start : start + size]
            unit = part[0].split()[0].rstrip("s") + "s" if len(part) > 1 else part[0].split()[0]
            first, last = part[0].split()[1].split("-")[0], part[-1].split()[1].split("-")[-1]
            names.append(f"{unit} {first}-{last}" if first != last else f"{unit} {first}")
        return self._replace(label=np.where(self.label < 0, -1, self.label // size), names=names)

    def where(self, which):
        """Segments in words. which: indices, in order."""
        names = [self.names[k] for k in which]
        unit, parts = names[0].split()[0].rstrip("s"), [name.split()[1] for name in names]
        if np.all(np.diff(which) == 1):
            first, last = parts[0].split("-")[0], parts[-1].split("-")[-1]
            text = f"{unit}s {first} to {last}" if first != last else f"{unit} {first}"
        elif any("-" in part for part in parts):
            text = f"{unit}s {_some(part.replace('-', ' to ') for part in parts)}"
        else:
            text = f"{unit} {_some(parts)}"
        return text + (" of each trial" if self.joint else "")


def divisions(rec):
    """The divisions in which a recording's parts are compared. Returns: list of Segments, of several segments each."""
    valid, (trials, steps) = rec.valid, rec.rates.shape[:2]
    found, label = [], np.full((trials, steps), -1)
    seconds = valid.sum() * rec.dt
    if trials >= 8:
        size = max(1, int(np.ceil(trials / SEGMENTS)), int(np.ceil(SHORTEST * trials / seconds)))
        label[:] = (np.arange(trials) // size)[:, None]
        stops = [min(trials, start + size) - 1 for start in range(0, trials, size)]
        names = [f"trials {start}-{stop}" if stop > start else f"trial {start}"
                 for start, stop in zip(range(0, trials, size), stops, strict=True)]  # fmt: skip
    else:
        size = max(1, int(np.ceil(valid.sum() / min(SEGMENTS, max(1, seconds // SHORTEST)))))
        order = np.cumsum(valid.ravel()).reshape(valid.shape) - 1
        label = order // size
        edges = [f"{k * size * rec.dt:.3g}-{(k + 1) * size * rec.dt:.3g}" for k in range(label[valid].max() + 1)]
        names = [f"seconds {edge}" for edge in edges]
    label[~valid] = -1
    if len(names) >= 6:
        found.append(Segments(label, names, False, 1.15 if trials >= 8 else 1.5))
    if trials >= 8 and steps >= 50:
        bins = 10
        label = np.where(valid, np.arange(steps) * bins // steps, -1)
        edges = [int(np.ceil(k * steps / bins)) for k in range(bins + 1)]
        names = [f"steps {a}-{b - 1}" for a, b in itertools.pairwise(edges)]
        found.append(Segments(label, names, True))
    return found


class Part(NamedTuple):
    """Where a quantity differs, and what it is there and elsewhere."""

    which: np.ndarray  # indices of segments
    here: float
    elsewhere: float
    steady: bool = True  # whether it is alike within either part, so that it steps and does not drift


def noise(values, weights):
    """The s.d. of values of weight 1, from the differences between neighbours.

    A steady drift is taken out, and the largest differences, which may be changes, are left out.
    """
    d = np.diff(values)
    d = (d - np.median(d)) / np.sqrt(1 / weights[1:] + 1 / weights[:-1])
    kept = np.sort(d**2)[: max(3, int(0.8 * len(d)))]
    return np.sqrt(kept.mean()) / 0.66  # of a normal distribution without its largest fifth


def change(total, weights, size, least=1):
    """Where a mean per segment changes. total, weights: (segments,), whose ratio it is; size: called with the means
    before and after, how large their difference is, 1 being what counts; least: segments on either side.

    Returns: Part, the shorter side of the change or the later one; or None.
    """
    known = np.flatnonzero(weights > 1e-8 * weights.max(initial=1e-300))
    if len(known) < 6:
        return None
    w, x = weights[known], total[known] / weights[known]
    sd = max(noise(x, w), 1e-12)
    best = None
    least = max(least, len(x) // 10)
    for k in range(least, len(x) - least + 1):
        before, after = (np.average(x[part], weights=w[part]) for part in (slice(k), slice(k, None)))
        t = abs(after - before) / (sd * np.sqrt(1 / w[:k].sum() + 1 / w[k:].sum()))
        if best is None or t > best[0]:
            best = t, k, before, after
    t, k, before, after = best
    if t < BEYOND or size(before, after) < 1:
        return None
    ends = [np.average(one[: len(one) // 2 + 1], weights=weight[: len(one) // 2 + 1])
            - np.average(one[len(one) // 2 :], weights=weight[len(one) // 2 :])
            for one, weight in ((x[:k], w[:k]), (x[k:], w[k:]))]  # fmt: skip
    steady = max(map(abs, ends)) < 0.15 * abs(after - before)
    if k >= 0.4 * len(x):
        return Part(known[k:], after, before, steady)
    return Part(known[:k], before, after, steady)


def outlying(total, weights, size):
    """Single segments whose mean differs from the others', as `change`. Returns: Part or None."""
    known = np.flatnonzero(weights > 0.05 * np.median(weights))
    if len(known) < 6:
        return None
    w, x = weights[known], total[known] / weights[known]
    middle = np.median(x)
    z = (x - middle) * np.sqrt(w)
    sd = max(1.4826 * np.median(np.abs(z)), 1e-12)
    out = np.array([abs(one) > BEYOND * sd and size(middle, value) >= 1 for one, value in zip(z, x, strict=True)])
    if not out.any() or out.mean() > 0.4:
        return None
    return Part(known[out], float(np.average(x[out], weights=w[out])), float(middle))


def differing(total, weights, size, single=None):
    """Single segments that differ from all others, or else where the mean changes; as `change`. Returns: Part or None.

    single: how large the difference of single segments is, where it is to be larger.
    """
    out = outlying(total, weights, single or size)
    if out is None:
        return change(total, weights, size)
    rest = weights.copy()
    rest[out.which] = 0
    return change(total, weights, size) if change(total, rest, size) else out


def ratio(most):
    """How large the ratio of two means is, relative to `most`. Returns: a function, `change`'s size."""

    def size(a, b):
        low, high = sorted((abs(a), abs(b)))
        return np.inf if a * b <= 0 else np.log(max(high, 1e-12) / max(low, 1e-12)) / np.log(most)

    return size


def apart(most):
    """How large the difference of two means is, relative to `most`. Returns: a function, `change`'s size."""
    return lambda a, b: abs(a - b) / most


# ---- how the activity turns with the velocity ------------------------------------------------------------------


def related(rec, angle, found):
    """How the activity turns with the velocity in the part of the recording where it does most, if it does so in none
    other. found: prediction.turns' of the whole. Returns: the same of that part, or `found`."""
    if found["r"] is not None and abs(found["r"]) > 0.5:
        return found
    trials, steps = angle.shape
    parts = [(slice(None), slice(steps // 2)), (slice(None), slice(steps // 2, None))]
    if trials > 1:
        parts += [(slice(trials // 2), slice(None)), (slice(trials // 2, None), slice(None))]
    each = [prediction.turns(angle[part], rec.velocity[..., 0][part], rec.valid[part], rec.dt) for part in parts]
    best = max(each, key=lambda one: abs(one["r"] or 0))
    return best if abs(best["r"] or 0) > 0.8 else found


class Turning:
    """The turning of an angle on the velocity, window by window, and its regression by segments."""

    def __init__(self, rec, angle, found, divided, jumps=False):
        """angle: (trials, steps) rad; found: prediction.turns' of it; divided: `divisions`'; jumps: (trials, steps)
        bool, steps that are left out."""
        self.rec, self.divided, self.dt = rec, divided, rec.dt
        self.v, self.valid = rec.velocity[..., 0], rec.valid & np.isfinite(angle)
        self.by = round((found["lag"] or 0.0) / rec.dt)
        spans = [prediction.Turns(angle, self.v, self.valid, rec.dt, span) for span in prediction.SPANS]
        self.pairs = max(spans, key=lambda pairs: abs(self._r(pairs, self.by)))
        self.r = self._r(self.pairs, self.by)
        if abs(self.r) < 0.5 < abs(found["r"]):
            self.r = found["r"]
        self.x, self.y, self.use, self.middle = self.pairs.at(self.by)
        if np.any(jumps):
            size = self.pairs.apart + self.pairs.width
            self.use = self.use & (_mean_over(jumps, size)[:, self.middle - size // 2] == 0)

    @staticmethod
    def _r(pairs, by, of=slice(None)):
        x, y, use, _ = pairs.at(by)
        x, y = x[of][use[of]], y[of][use[of]]
        return np.corrcoef(x, y)[0, 1] if len(x) > 2 and np.ptp(x) > 1e-9 and np.ptp(y) > 1e-9 else 0.0

    def moments(self, segments):
        """Count (at least 1), sums of x, y, x x, y y and x y in each segment."""
        label = self.segment(segments)
        use = self.use & (label >= 0)
        n, *sums = _moments(self.x[use], self.y[use], label[use], segments.count)
        return np.maximum(n, 1), *sums

    def segment(self, segments, by=None):
        """The segment of each window, -1 where it belongs to none. Returns: (trials, windows) int."""
        middle = self.middle if by is None else self.pairs.at(by)[3]
        return segments.label[:, np.minimum(middle, segments.label.shape[1] - 1)]

    def correlation(self, segments, which, lag):
        """The correlation of turns in some segments at a lag (s)."""
        by = round(lag / self.dt)
        x, y, use, _ = self.pairs.at(by)
        use = use & np.isin(self.segment(segments, by), which)
        return np.corrcoef(x[use], y[use])[0, 1]

    def lags(self, segments):
        """The lag (s) of each segment, NaN where it cannot be told. segments: Segments."""
        furthest = min(round(prediction.LAG / self.dt), self.pairs.moved.shape[1] // 3)
        every = np.arange(-furthest, furthest + 1)
        r = np.full((len(every), segments.count), 0.0)
        for row, by in zip(r, every, strict=True):
            x, y, use, _ = self.pairs.at(by)
            label = self.segment(segments, by)
            use = use & (label >= 0)
            n, sx, sy, xx, yy, xy = _moments(x[use], y[use], label[use], segments.count)
            deep = n > max(10, 0.3 * np.median(n))
            n = np.maximum(n, 1)
            spread = np.maximum((xx - sx**2 / n) * (yy - sy**2 / n), 1e-12)
            row[deep] = ((xy - sx * sy / n) / np.sqrt(spread))[deep]
        r = r * np.sign(self.r)
        lag = np.full(segments.count, np.nan)
        for k, column in enumerate(r.T):
            top = int(column.argmax())
            if column[top] < 0.6 or not 0 < top < len(every) - 1:
                continue
            a, b, c = column[top - 1 : top + 2]
            lag[k] = (every[top] + 0.5 * (a - c) / min(a - 2 * b + c, -1e-9)) * self.dt
        return lag


def _moments(x, y, label, count):
    return [np.bincount(label, one, count) for one in (np.ones_like(x), x, y, x * x, y * y, x * y)]


def still(rec):
    """Steps at which the velocity is exactly 0, or stays exactly what it is for a while. (trials, steps) bool."""
    v = rec.velocity
    zero = ~v.any(-1)
    same = np.zeros_like(zero)
    same[:, 1:] = (v[:, 1:] == v[:, :-1]).all(-1)
    run = max(5, round(0.1 / rec.dt))
    if same.shape[1] > run:
        whole = np.lib.stride_tricks.sliding_window_view(same, run, axis=1).all(-1)
        for k in range(run + 1):  # a run of equal values, and the first of them
            start = max(0, k - 1)
            part = slice(start, start + whole.shape[1])
            zero[:, part] |= whole
    return zero & rec.valid


def missing(turning):
    """A velocity that is 0 or constant where the activity turns on: lost tracking. Yields: sentences."""
    rec, valid = turning.rec, turning.rec.valid
    lost = still(rec)
    share = lost.sum() / valid.sum()
    if share < 0.002 or share > 0.9:
        return
    pairs, (x, y, use, _) = turning.pairs, (turning.x, turning.y, turning.use, None)
    size = turning.pairs.apart + turning.pairs.width
    within = pairs.at(turning.by, _mean_over(lost, size))[0]  # share of each window
    clear = use & (within == 0)
    if clear.sum() < 0.02 * use.sum():
        clear = use & (within < np.quantile(within[use], 0.1) + 1e-9)
    slope = (x * y)[clear].sum() / max((x * x)[clear].sum(), 1e-12)
    left = np.angle(np.exp(1j * (y - slope * x))) ** 2
    inside = use & (within > 0.9)
    blind, independent = False, inside.sum() * max(1, pairs.apart // 5) / size
    if independent > 4 and clear.sum() > 10:
        out = left[clear].mean()
        blind = left[inside].mean() > max(3 * out, 0.1 * y[clear].var()) and np.median(left[inside]) > 2 * out
    scattered = False
    if not blind:
        filled = _filled(rec.velocity[..., 0], lost, valid, round(PATIENCE / rec.dt))
        z = pairs.at(turning.by, pairs.turn_of(filled - rec.velocity[..., 0], rec.dt))[0]
        part = use & (np.abs(z) > 0)
        if part.sum() > 50:
            A = np.stack([x[part], z[part]])
            (b, c), inverse = np.linalg.solve(A @ A.T + 1e-12 * np.eye(2), A @ y[part]), np.linalg.pinv(A @ A.T)
            noise = np.sqrt(np.mean((y[part] - b * x[part] - c * z[part]) ** 2) * inverse[1, 1] * 5)
            scattered = c / b > 0.5 and abs(c) > BEYOND * noise
    if blind or scattered:
        constant = "is exactly 0" if not rec.velocity[lost].any() else "is exactly 0 or does not change"
        where = _where(lost, valid)
        remedy = (
            "leave these steps out, with `lengths` or as trials of their own"
            if blind else "interpolate it where gaps are short, and cut the trials at longer ones"
        )  # fmt: skip
        yield (
            f"velocity {constant} at {share:.0%} of the steps ({where}), where the recorded activity turns as "
            f"elsewhere, as if the tracker had lost the animal or values were filled in; {remedy}"
        )


def _mean_over(mask, size):
    """The share of a mask in windows of `size` steps. (trials, windows)."""
    sums = np.pad(np.cumsum(mask, 1, dtype=float), ((0, 0), (1, 0)))
    return (sums[:, size:] - sums[:, :-size]) / size


def _filled(v, lost, valid, most):
    """The velocity interpolated over gaps of at most so many steps. v: (trials, steps)."""
    filled = v.astype(float)
    for row, gone, there in zip(filled, lost, valid, strict=True):
        steps = np.flatnonzero(there & ~gone)
        if len(steps) < 2:
            continue
        inside = np.flatnonzero(gone)
        place = np.searchsorted(steps, inside)
        ok = (place > 0) & (place < len(steps))
        inside, place = inside[ok], place[ok]
        short = steps[place] - steps[place - 1] <= most
        row[inside[short]] = np.interp(inside[short], steps, row[steps])
    return filled


def _where(mask, valid):
    """Where most of a mask lies, in words."""
    by_trial = mask.sum(1) / np.maximum(valid.sum(1), 1)
    most = by_trial > 0.9
    if mask[most].sum() > 0.9 * mask.sum():
        return f"trial {_some(np.flatnonzero(most))}"
    by_step = mask.sum(0) / np.maximum(valid.sum(0), 1)
    often = np.flatnonzero((by_step > 0.9) & (valid.sum(0) > 0.5 * len(valid)))
    if len(mask) > 2 and mask[:, often].sum() > 0.8 * mask.sum():
        return f"steps {often[0]} to {often[-1]} of each trial"
    trial, step = np.argwhere(mask)[0]
    return f"first at trial {trial}, step {step}"


def _some(items, most=5):
    items = list(map(str, items))
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def relations(turning):
    """Where the activity's turning on the velocity is another than elsewhere.

    Returns: None, or its Segments, Part of slopes, and the correlations there and elsewhere.
    """
    for segments in turning.divided:
        n, sx, sy, xx, yy, xy = turning.moments(segments)
        cxy, cxx, cyy = xy - sx * sy / n, xx - sx * sx / n, yy - sy * sy / n
        found = differing(cxy, np.where(n > 5, cxx, 0), ratio(segments.gain), ratio(1.8))
        if found:
            each = np.where((n > 5) & (cxx > 0), np.abs(cxy) / np.sqrt(np.maximum(cxx * cyy, 1e-12)), np.nan)
            if len(found.which) < 0.4 * segments.count and np.nanmedian(each) > 0.95:  # and others like these
                strange = np.flatnonzero(each < 0.75 * np.nanmedian(each))
                if np.isin(found.which, strange).any():
                    found = found._replace(which=np.union1d(found.which, strange))
            others = np.setdiff1d(np.arange(segments.count), found.which)
            r = [cxy[k].sum() / np.sqrt(max(cxx[k].sum() * cyy[k].sum(), 1e-12)) for k in (found.which, others)]
            return segments, found, *r
    return None


def drift(turning):
    """Where the lag between activity and velocity changes. Returns: None, or Segments and Part (s)."""
    for segments in turning.divided:
        coarse = segments.coarser(10)
        lag = turning.lags(coarse)
        known = np.isfinite(lag)
        tolerance = max(0.03, 2.5 * turning.dt)
        found = change(np.where(known, lag, 0), known * 1.0, apart(tolerance))
        if found and min(len(found.which), known.sum() - len(found.which)) > 1:
            own, other = (turning.correlation(coarse, found.which, at) for at in (found.here, found.elsewhere))
            if (own**2 - other**2) / max(1 - own**2, 1e-6) > GAINED:
                return coarse, found
    return None


def offset(turning):
    """What is added to the velocity, rad/s, by the activity's turning where the velocity is 0.

    Returns: None, or the offset everywhere; or Segments and Part where it changes.
    """
    x, y, use = turning.x, turning.y, turning.use
    sd, span = turning.v[turning.valid].std(), turning.pairs.apart * turning.dt
    total, count = 0.0, 0.0
    for segments in turning.divided:
        n, sx, sy, xx, _, xy = turning.moments(segments)
        slope = (xy - sx * sy / n).sum() / max((xx - sx * sx / n).sum(), 1e-12)
        total, count = (sx - sy / slope) / span, n
        found = change(total, np.where(n > 5, n, 0), apart(0.2 * sd))
        if found and abs(turning.r) > 0.9:
            return segments, found
    if np.ndim(total) == 0 or abs(turning.r) < 0.8:
        return None
    middle, ends = np.median(x[use]), []
    for part in (use & (x <= middle), use & (x > middle)):
        slope, at = np.polyfit(x[part], y[part], 1)
        ends.append(-at / slope / span)
    value = total.sum() / count.sum()
    each = total[count > 5] / count[count > 5]
    error = each.std() / np.sqrt(len(each))
    alike = min(ends) * max(ends) > 0 and min(map(abs, ends)) > 0.5 * abs(value)
    return value if abs(value) > max(0.1 * sd, BEYOND * error) and alike else None


def of_velocity(turning):
    """What is wrong with the velocity in parts of a recording, or as a constant. Yields: at most one sentence."""
    for sentence in missing(turning):
        yield sentence
        return
    if turning.rec.stimulus is not None and abs(turning.r) < 0.95:
        return  # pulses move the bump, too
    if found := drift(turning):
        segments, part = found
        yield (
            f"velocity: its clock drifts from the neurons': the recorded activity turns {in_time(part.elsewhere)} in "
            f"most of the recording and {in_time(part.here)} in {segments.where(part.which)}; no single shift mends "
            "this: align the two clocks by their common events, at both ends"
        )
    elif found := relations(turning):
        yield _said_of(found)
    elif (found := offset(turning)) is not None:
        if isinstance(found, tuple):
            segments, part = found
            yield (
                f"velocity: where it is 0 the recorded activity turns as at {-part.here:.3g} rad/s in "
                f"{segments.where(part.which)} and as at {-part.elsewhere:.3g} rad/s elsewhere: its zero has moved"
            )
        else:
            remedy = f"; subtract {found:.3g} from velocity" if abs(turning.r) >= SURE else ""
            yield (
                f"velocity has a constant offset: where it is {found:.3g} rad/s the recorded activity stands still "
                f"(r {turning.r:.2f}){remedy}"
            )


def in_time(lag):
    """A lag in words."""
    return f"{abs(lag):.2g} s {'before' if lag < 0 else 'after'} it"


def _said_of(found):
    """The sentence on `relations`' finding."""
    segments, part, here, elsewhere = found
    where = segments.where(part.which)
    if min(abs(here), abs(elsewhere)) < 0.6 * max(abs(here), abs(elsewhere)):
        others = np.setdiff1d(np.arange(segments.count), part.which)
        where = segments.where(part.which if abs(here) < abs(elsewhere) else others)
        low, high = sorted((here, elsewhere), key=abs)
        return (
            f"velocity: the recorded activity of {where} does not turn with it (r {low:.2f}, in the others "
            f"{high:.2f}); is the velocity there that of other trials or times"
        )
    if part.here * part.elsewhere < 0:
        return (
            f"velocity: the recorded activity turns with it in one part of the recording and against it in the other "
            f"({where}); is its sign, or the neurons' order, another there"
        )
    times = part.here / part.elsewhere
    if not part.steady:
        remedy = "; it changes little by little, as no single factor mends"
    elif min(abs(here), abs(elsewhere)) >= SURE:
        remedy = f": multiply velocity by {times:.3g} there, unless the animal's gain changed"
    else:
        remedy = ""
    return (
        f"velocity: the recorded activity of {where} turns {times:.3g} times as fast with it as elsewhere (slope "
        f"{abs(part.here):.3g} and {abs(part.elsewhere):.3g}, r {here:.2f} and {elsewhere:.2f}){remedy}"
    )


def of_heading(turning):
    """Where the given heading does not turn with the velocity. turning: of the heading.

    Yields: at most one sentence.
    """
    found = relations(turning)
    if found and min(abs(found[2]), abs(found[3])) < 0.8 * max(abs(found[2]), abs(found[3])):
        segments, part, here, elsewhere = found
        others = np.setdiff1d(np.arange(segments.count), part.which)
        where = segments.where(part.which if abs(here) < abs(elsewhere) else others)
        low, high = sorted((here, elsewhere), key=abs)
        yield (
            f"heading of {where} does not turn with velocity (r {low:.2f}, in the others {high:.2f}), though the "
            "recorded activity does: it is of other trials or times, or the tracker was lost; leave heading out"
        )


# ---- the activity itself -------------------------------------------------------------------------------------------


def of_place(angle, heading, divided):
    """Where the place that the activity points to, relative to the heading, changes once. Yields: at most one sentence.

    angle, heading: (trials, steps) rad. Where it differs from trial to trial anyway, nothing is said.
    """
    known = np.isfinite(angle)
    apart = np.exp(1j * (np.where(known, angle, 0) - heading)) * known
    for segments in divided:
        if segments.joint or segments.gain > 1.2:
            continue  # within a trial a bump that integrates velocity drifts away from the heading
        use = segments.label >= 0
        sums = np.array([np.bincount(segments.label[use], part[use], segments.count)
                         for part in (apart.real, apart.imag, known)])  # fmt: skip
        each = (sums[0] + 1j * sums[1]) / np.maximum(sums[2], 1)
        best = None
        for k in range(segments.count // 6 + 2, segments.count - segments.count // 6 - 1):
            before, after = each[:k].mean(), each[k:].mean()
            if best is None or abs(before) + abs(after) > best[0]:
                best = abs(before) + abs(after), before, after, k
        if best is None or min(map(abs, best[1:3])) < 0.95:
            continue
        turned = np.angle(best[2] / best[1])
        if abs(turned) > 1:
            yield (
                f"rates: relative to heading the activity points {abs(turned):.2g} rad elsewhere in "
                f"{segments.where(np.arange(best[3], segments.count))} than before; unless the circuit was reset, the "
                "neurons are in another order there, or heading has another zero"
            )
            return


class Activity:
    """The rates beside those that each neuron has on average where the activity points.

    What the neurons are expected to do is a function of the decoded place alone, so that which places were visited,
    and how often, makes no difference between parts of a recording.
    """

    def __init__(self, rec, decoded, alpha):
        """decoded: (trials, steps, D) rad, NaN in silence; alpha: dt / tau."""
        (n, d), self.rec, self.alpha = (rec.rates.shape[-1], decoded.shape[-1]), rec, alpha
        self.known = rec.valid & np.isfinite(decoded).all(-1)
        if rec.stimulus is not None:
            self.known &= ~after(rec.stimulus, round(0.1 / rec.dt))
        count = self.known.sum()
        side = int(np.clip(count / 40, 8, 36) if d == 1 else np.clip(np.sqrt(count / 20), 4, 12))
        place = np.nan_to_num(decoded % (2 * np.pi) / (2 * np.pi) * side).astype(int) % side
        self.bins = place @ side ** np.arange(d)  # (trials, steps)
        self.use = self.known.copy()
        self.use[:, np.arange(self.use.shape[1]) % max(1, count // MOST) > 0] = False
        bins, rates = self.bins[self.use], rec.rates[self.use]
        high = np.quantile(rates, 0.99, axis=0)
        rates = np.minimum(rates, np.where(high > 0, 3 * high, np.inf))  # outliers are spoken of elsewhere
        count = np.maximum(np.bincount(bins, minlength=side**d), 1)
        tuning = np.stack([np.bincount(bins, x, side**d) for x in rates.T], 1) / count[:, None]
        self.peak = np.maximum(tuning.max(0), 1e-9)
        self.tuning = tuning / self.peak
        self.rates, self.expected = rates / self.peak, self.tuning[bins]  # (samples, n)
        self.left = self.rates - self.expected
        self.explained = 1 - self.left.var(0).sum() / max(self.rates.var(0).sum(), 1e-12)
        rank = self.tuning.argsort(1, kind="stable").argsort(1, kind="stable")
        away = rank < max(2, n // 3)  # the neurons furthest from where the activity points
        self.away, self.halves = away[bins], [(away & (rank % 2 == k))[bins] for k in (0, 1)]

    def sums(self, segments, values):
        """The sums of values (samples,) or (samples, any) in each segment."""
        label = segments.label[self.use]
        use = label >= 0
        if values.ndim == 1:
            return np.bincount(label[use], values[use], segments.count)
        return np.stack([np.bincount(label[use], x, segments.count) for x in values[use].T], 1)

    def together(self):
        """What the neurons away from the bump do together beyond what is expected, as a share of a neuron's peak.

        Returns: s.d., correlation between two halves of these neurons.
        """
        a, b = ((self.left * half).sum(1) / np.maximum(half.sum(1), 1) for half in self.halves)
        shared = np.mean(a * b)
        return np.sqrt(max(shared, 0)), shared / np.sqrt(max(np.mean(a * a) * np.mean(b * b), 1e-12))

    def gain(self):
        """How much the neurons at the bump fluctuate together, as a share of what is expected, as `together`."""
        odd = np.arange(self.rates.shape[1]) % 2
        each = []
        for k in (0, 1):
            E = self.expected * (odd == k) * (self.expected > 0.3)
            with np.errstate(invalid="ignore", divide="ignore"):
                each.append((self.rates * E).sum(1) / (E * E).sum(1) - 1)
        a, b = (one[np.isfinite(each[0] + each[1])] for one in each)
        shared = np.mean(a * b) if len(a) else 0.0
        return np.sqrt(max(shared, 0)), shared / np.sqrt(max(np.mean(a * a) * np.mean(b * b), 1e-12)) if len(a) else 0.0

    def reordered(self, segments):
        """Neurons whose correlations with the others are of one kind before some segment, and of another after it.

        Returns: (indices of neurons, index of the first segment after), or None.
        """
        label, count = segments.label[self.use], segments.count
        n = self.rates.shape[1]
        rows, active = np.zeros((count, n, n)), np.zeros((count, n), bool)
        spread = np.full((count, n), np.nan)
        for k in range(count):
            rates = self.rates[label == k]
            if len(rates) > 10:
                rows[k], spread[k] = np.cov(rates, rowvar=False), rates.std(0)
        active = spread > 0.3 * np.nanmedian(spread, 0)
        for row in rows:
            np.fill_diagonal(row, 0)
        rows -= rows.sum(2, keepdims=True) / max(n - 1, 1)
        for row in rows:
            np.fill_diagonal(row, 0)
        rows /= np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-9)
        alike = np.einsum("aij,bij->iab", rows, rows)  # (n, segments, segments)
        alike[~(active.T[:, :, None] & active.T[:, None])] = np.nan
        best = None
        at = np.arange(count)
        for k, mixed in itertools.product(range(2, count - 1), (0, 1)):
            before, used = at < k, (at < k) | (at >= k + mixed)  # the change may lie within a segment
            both = used & used[:, None]
            same, other = ((before[:, None] == before) & both & (at != at[:, None]), (before[:, None] != before) & both)
            if k + mixed > count - 2:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of neurons that are active in one segment only
                within, across = np.nanquantile(alike[:, same], 0.2, 1), np.nanquantile(alike[:, other], 0.8, 1)
            changed = np.flatnonzero((within > 0.7) & (within - across > 0.3))
            if len(changed) > 1 and np.nanmedian(within) > 0.7:
                score = np.nanmean((within - across)[changed]) * len(changed)
                if best is None or score > best[0]:
                    best = score, changed, k
        return best and best[1:]

    def scaled_by_trial(self):
        """Whether each neuron was scaled in each trial by itself, and silent ones with it.

        Returns: None, or which value is the same in all trials, and the share of silent pairs of trial and neuron.
        """
        rec = self.rec
        whole = np.flatnonzero(rec.valid.sum(1) >= 50)
        whole = whole[:: max(1, len(whole) // 50)]
        if len(whole) < 2:
            return None
        rates, levels = [rec.rates[k][rec.valid[k]] for k in whole], (0.95, 0.99, 0.995, 0.999, 1.0)
        for level, high in zip(levels, np.stack([np.quantile(r, levels, axis=0) for r in rates], 1), strict=True):
            usual = np.median(high)
            cut_off = np.mean([(r >= 0.999 * usual).mean() for r in rates]) > 2 * (1 - level) + 0.01
            if usual > 0 and not cut_off and np.mean(np.abs(high / usual - 1) < 1e-3) > 0.9:
                break
        else:
            return None
        silent = []
        for k, r in zip(whole, rates, strict=True):
            E = self.tuning[self.bins[k]][rec.valid[k]]
            x, y = r - r.mean(0), E - E.mean(0)
            follows = (x * y).sum(0) > 0.2 * np.sqrt((x * x).sum(0) * (y * y).sum(0))
            silent.append(~(follows & (np.quantile(E, 0.99, axis=0) > 0.7)))
        if np.sum(silent) < max(2, 0.002 * np.size(silent)):
            return None
        return f"{'largest value' if level == 1 else f'{100 * level:g}th percentile'}, {usual:.3g},", np.mean(silent)

    def delays(self):
        """When each neuron does what is expected of it. Returns: (2, n) s, of two halves of the recording, NaN where
        it cannot be told."""
        rec, dt = self.rec, self.rec.dt
        n, furthest = rec.rates.shape[-1], min(round(0.5 / dt), rec.rates.shape[1] // 4)
        every = max(1, int(np.ceil(self.known.sum() * n * (2 * furthest + 1) / 5e7)))
        lags = np.arange(-furthest, furthest + 1)
        some = np.arange(len(rec.rates))[:: max(1, rec.rates.size // LARGEST)]
        halves = (some[::2], some[1::2]) if len(some) > 1 else (some, some)
        found = np.full((2, n), np.nan)
        for half, delay in zip(halves, found, strict=True):
            E = self.tuning[self.bins[half]] - self.expected.mean(0)
            r, known = rec.rates[half] / self.peak - self.rates.mean(0), self.known[half]
            middle = slice(furthest, r.shape[1] - furthest, every)
            E = E[:, middle]
            score = []
            for by in lags:
                late = slice(furthest + by, r.shape[1] - furthest + by, every)
                x, y = E[known[:, middle] & known[:, late]], r[:, late][known[:, middle] & known[:, late]]
                score.append((x * y).sum(0) / np.sqrt(np.maximum((x * x).sum(0) * (y * y).sum(0), 1e-12)))
            score = np.array(score)
            for k, column in enumerate(score.T):
                top = int(column.argmax())
                if 0 < top < len(lags) - 1 and column[top] > 0.5:
                    a, b, c = column[top - 1 : top + 2]
                    delay[k] = (lags[top] + 0.5 * (a - c) / min(a - 2 * b + c, -1e-12)) * dt
        return found


def two_groups(delays):
    """Neurons in two groups by their delay. delays: (2, n) s. Returns: s between the groups, the spread within them,
    the least of it in either half of the recording, and which neurons are late (n,) bool; or None."""
    mean = delays.mean(0)
    known = np.flatnonzero(np.isfinite(mean))
    if len(known) < 6:
        return None
    order = known[np.argsort(mean[known])]
    least = max(2, len(order) // 10)
    best = None
    for k in range(least, len(order) - least + 1):
        parts = order[:k], order[k:]
        within = np.sqrt(sum(((mean[part] - mean[part].mean()) ** 2).sum() for part in parts) / len(order))
        if best is None or within < best[1]:
            best = k, within
    k, within = best
    early, late = order[:k], order[k:]
    between = [np.median(one[late]) - np.median(one[early]) for one in (mean, *delays)]
    which = np.zeros(delays.shape[1], bool)
    which[late] = True
    return between[0], within, min(between[1:]), which


def after(stimulus, steps):
    """Steps with a stimulus, or so many after one. (trials, steps) bool."""
    on = np.cumsum(np.pad(stimulus.any(-1), ((0, 0), (steps + 1, 0))), 1)
    return on[:, steps + 1 :] > on[:, : -steps - 1]


def of_activity(activity, divided):
    """What is wrong with the rates in parts of a recording, or in all neurons together.

    Yields: at most one sentence, with whether it makes what the activity's turning says of the velocity unsure.
    """
    if (found := activity.scaled_by_trial()) is not None:
        level, silent = found
        yield (
            (
                f"rates of each neuron reaches the same {level} in every trial, as scaled trial by trial; in "
                f"{silent:.1%} of trials and neurons the activity never comes near the neuron, whose noise is then "
                "scaled up as if it fired; scale each neuron over the whole session, e.g. by np.percentile(r, [5, 99], "
                "axis=(0, 1))"
            ),
            False,
        )
        return
    enough = activity.known.sum() * activity.rec.dt > FEWEST and activity.explained > WELL
    kinds = (_order, _lost, _late, _amplitude) if enough else ()
    for kind in (*kinds, _together, *((_brightness,) if enough else ())):
        for sentence in kind(activity, divided):
            yield sentence, kind in (_order, _lost, _late) or activity.explained < WELL
            return


def _order(activity, divided):
    """Neurons that change places."""
    for segments in divided:
        coarse = segments.coarser(8)
        if not segments.joint and (found := activity.reordered(coarse)):
            which, first = found
            yield (
                f"rates: {len(which)} of {activity.rates.shape[1]} neurons (neuron {_some(which)}) fire together with "
                f"other neurons from {coarse.where([first])} on than before, as if their order in rates were another; "
                "give each neuron one place in rates throughout"
            )
            return


def _lost(activity, divided):
    """Neurons that are seen in a part of the recording only."""
    n, product, square = activity.rates.shape[1], activity.rates * activity.expected, activity.expected**2
    for segments in divided:
        coarse = segments.coarser(12)
        total, weights = activity.sums(coarse, product), activity.sums(coarse, square)
        weights = np.where(weights > 0.2 * np.median(weights, 0), weights, 0)
        each = [change(t, w, ratio(5), 2) for t, w in zip(total.T, weights.T, strict=True)]
        step = activity.known.sum() * activity.rec.dt / len(activity.rates)
        lost = [k for k, part in enumerate(each)
                if part and _parted(total[:, k], weights[:, k] * step, part.which)]  # fmt: skip
        if lost and len(lost) < 0.8 * n:
            first = each[lost[0]]
            low = first.which if abs(first.here) < abs(first.elsewhere) else (
                np.setdiff1d(np.arange(coarse.count), first.which))  # fmt: skip
            yield (
                f"rates: {len(lost)} of {n} neurons (neuron {_some(lost)}) fire where the others' activity says so in "
                f"one part of the recording and hardly in another (neuron {lost[0]}: {coarse.where(low)}), as if they "
                "were not seen there; leave out these neurons, or that part"
            )
            return


def _parted(total, weights, which):
    """Whether nearly all segments of one part lie beyond those of the other, and enough is known of both.

    total: (segments,); weights: (segments,) s.
    """
    known, inside = weights > 0, np.isin(np.arange(len(total)), which)
    if min(weights[inside].sum(), weights[~inside].sum()) < 1.0:
        return False
    low, high = sorted((total[known & part] / weights[known & part] for part in (inside, ~inside)), key=np.median)
    return np.quantile(low, 0.8) < 0.5 * np.quantile(high, 0.2)


def _late(activity, divided):
    """Two groups of neurons of which one is late, by more than a synapse where velocity reaches it."""
    found = two_groups(activity.delays())
    if found is None:
        return
    between, within, least, late = found
    dt = activity.rec.dt
    v = activity.rec.velocity[activity.use][:, 0]
    drive = activity.expected * v[:, None], activity.expected * np.abs(v)[:, None]
    driven = [np.abs([np.corrcoef(a, b)[0, 1] for a, b in zip(activity.left[:, late].T, x[:, late].T, strict=True)])
              for x in drive]  # fmt: skip
    synapse = 1.5 * dt / activity.alpha if np.median(np.max(driven, 0)) > DRIVEN else 0.0
    if least > max(0.025, 2.5 * dt, synapse) and between > 4 * within:
        count, where = late.sum(), np.flatnonzero(late)
        yield (
            f"rates: {count} of {len(late)} neurons (neuron {_some(where)}) come {between:.2g} s after the others; "
            "unless neurons do, the two groups' clocks are apart"
        )


def _amplitude(activity, divided):
    """Rates that all neurons reach, or that they have in silence, and that change."""
    expected, rates = activity.expected, activity.rates
    for segments in divided:
        n = np.maximum(activity.sums(segments, np.ones(len(rates))), 1) * rates.shape[1]
        r, e, re, ee = (activity.sums(segments, x.sum(1)) for x in (rates, expected, rates * expected, expected**2))
        total, weights = re - r * e / n, ee - e * e / n
        found = differing(total, np.where(n > 20 * rates.shape[1], weights, 0), ratio(1.2), ratio(1.5))
        if found:
            yield (
                f"rates: all neurons together reach {found.here / found.elsewhere:.2g} times as high in "
                f"{segments.where(found.which)} as elsewhere, where the activity is alike; as bleaching, or another "
                "focus or threshold, does: scale these parts alike"
            )
            return
        away = activity.sums(segments, activity.away.sum(1) * 1.0)
        total = activity.sums(segments, (activity.left * activity.away).sum(1))
        found = change(total, away, apart(0.05))
        if found:
            yield (
                f"rates: neurons away from the activity rise by {found.here - found.elsewhere:.2g} of their peak in "
                f"{segments.where(found.which)}, as a baseline that changes does; subtract it part by part"
                if found.here > found.elsewhere else
                f"rates: neurons away from the activity fall by {found.elsewhere - found.here:.2g} of their peak in "
                f"{segments.where(found.which)}, as a baseline that changes does; subtract it part by part"
            )  # fmt: skip
            return


def _together(activity, divided):
    """An artefact or noise that all neurons share."""
    if activity.rates.shape[1] < 6:
        return
    sd, r = activity.together()
    if sd > 0.03 and r > 0.75:
        yield (
            f"rates: neurons far from where the activity points rise and fall together (s.d. {sd:.2g} of their peak, "
            f"correlation {r:.2f}), as with movement artefacts, stray light or noise that all share; subtract what "
            "they share before scaling"
        )


def _brightness(activity, divided):
    """A gain that all active neurons share, and that no velocity or stimulus explains."""
    sd, r = activity.gain()
    if sd > 0.2 and r > 0.95 and activity.rec.stimulus is None:
        yield (
            f"rates: all active neurons rise and fall together (s.d. {sd:.2g} of what is expected where the activity "
            f"points, correlation {r:.2f}), as with a brightness or gain that changes"
        )


# ---- trials that are there twice -------------------------------------------------------------------------------------


def repeated(rec):
    """Stretches of the rates that are in several trials. Yields: at most one sentence."""
    rates, valid = rec.rates, rec.valid
    trials, steps, n = rates.shape
    length = min(10, steps)
    rng = np.random.default_rng(0)
    odd = lambda count: rng.integers(0, 2**63, count, dtype=np.uint64) * 2 + 1  # noqa: E731
    bits = (np.ascontiguousarray(rates, np.float32) + np.float32(0)).view(np.uint32)
    weights, row = odd(n), np.empty((trials, steps), np.uint64)
    for k in range(trials):
        row[k] = (bits[k].astype(np.uint64) * weights).sum(1)  # modulo 2^64
    new = np.ones_like(valid)
    new[:, 1:] = row[:, 1:] != row[:, :-1]
    new &= rates.any(-1)
    count = steps - length + 1
    block, lively = np.zeros((trials, count), np.uint64), np.zeros((trials, count), int)
    for j, weight in enumerate(odd(length)):
        block += row[:, j : j + count] * weight
        lively += new[:, j : j + count]
    whole = valid[:, length - 1 :] & (lively > 0.6 * length)
    piece = np.broadcast_to(np.arange(trials)[:, None], whole.shape)
    if trials == 1:
        piece = np.broadcast_to(np.arange(count) // max(1, int(valid.sum()) // 10), whole.shape)
    _, which = np.unique(block[whole], return_inverse=True)
    of = piece[whole]
    first, last = np.full(which.max(initial=-1) + 1, of.max(initial=0)), np.zeros(which.max(initial=-1) + 1, int)
    np.minimum.at(first, which, of)
    np.maximum.at(last, which, of)
    twice = first[which] != last[which]
    if twice.sum() < max(length, 0.001 * len(of)):
        return
    pieces = max(10, trials) if trials == 1 else trials
    held_out = np.isin(of, np.arange(pieces)[9::10] if pieces >= 10 else [pieces - 1])
    share = twice[held_out].mean() if held_out.any() else 0.0
    names = sorted({(first[w], last[w]) for w in which[twice]})
    kind = "tenth" if trials == 1 else "trial"
    pairs = _some([f"{b} as of {a}" for a, b in names], 3)
    held = f"; so {share:.0%} of the held-out trials is in the training set too, and their scores are no test"
    yield (
        f"rates has the same stretches in several {kind}s ({twice.mean():.0%} of all steps; {kind} {pairs})"
        f"{held if share else ''}; give each stretch once, and cut trials that do not overlap"
    )
