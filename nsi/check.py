"""What a sceptical colleague would say of a recording before it is fitted, one sentence for each finding.

A sentence names the file, the key, the number and the remedy. What cannot be used at all is refused when the file is
read (nsi/recordings); what is said here can be used, and is probably not what its maker meant. A clean recording gets
no sentence. `before` has all of them; each kind is a function below it, which yields sentences without the file's name.
"""

import sys
from typing import NamedTuple

import numpy as np

from nsi import geometry, prediction, recordings

SHORTEST = 5.0  # s of activity, below which nothing is said of its turning
UNRELATED = 0.12  # correlation of turning below which there is none, in a long recording; 3 / sqrt(s) in a shorter one
GAIN, NOISY_GAIN = (0.6, 1.6), (0.5, 2.0)  # turning per velocity that may be a circuit's own, and at r below 0.9
LATE = 0.035, 1.5  # s, and steps, beyond which clocks are apart
GAINED = 0.02  # of the variance that is not explained: what a lag must explain beyond none
JUMP = 0.3, 12.0  # rad, and robust s.d., beyond which single steps are jumps
SCALE = 0.2, 1.05  # 99th percentile of a neuron's rates that the network can have
UNEQUAL = 5.0  # ratio of the neurons' 99th percentiles
BASELINE = 0.15  # 5th percentile of a neuron's rates over its 99th
SATURATED = 0.05  # share of a neuron's samples at its largest value
SLOW, COARSE = 0.01, 1.0  # alpha, and dt in s, that are mistakes more often than not
WASTED = 0.05  # share of the recorded steps that no window reaches


class Seen(NamedTuple):
    """Where the activity points, and how it turns."""

    angle: np.ndarray  # (trials, steps) rad, NaN in silence; of the first component
    turning: dict  # prediction.turning's, of the first component

    @classmethod
    def of(cls, rec):
        shape = geometry.of(rec)
        places = geometry.places_of(rec, shape)
        heading, turning = shape.decode(rec.rates, places), prediction.turning(rec, shape, places)
        if shape.dimensions > 1:
            heading = prediction.course_of(shape, heading)
            turning = of_first(turning)
        return cls(heading[..., 0], turning)


def of_first(turning):
    """The first component of what prediction.turning says of several."""
    parts = {k: of_first(v) if isinstance(v, dict) else v for k, v in turning.items()}
    return {k: v[0] if isinstance(v, list) else v for k, v in parts.items()}


def told(rec, path, alpha, length, bootstrap=False):
    """Print what `before` finds on stderr, and what the fit takes for granted on stdout. Returns: list of sentences."""
    seen = Seen.of(rec)
    found = list(before(rec, path, alpha, length, bootstrap, seen))
    for sentence in found:
        print(sentence, file=sys.stderr)
    print(f"{path.name}: alpha {alpha:.3g} ({reason(rec, alpha)}); {turning_told(seen.turning)}")
    return found


def before(rec, path, alpha, length, bootstrap=False, seen=None):
    """All findings. rec: Recording; path: of its file; alpha: dt / tau; length: steps of a window with its warm-up;
    seen: Seen, where it is known already.

    Yields: sentences, which begin with the file's name.
    """
    seen = seen or Seen.of(rec)
    kinds = (
        recordings.outliers(rec), silence(rec), scale(rec), neurons(rec), time(rec, alpha),
        trials(rec, length, bootstrap), turning(rec, seen), jumps(rec, seen),
    )  # fmt: skip
    for kind in kinds:
        yield from (f"{path.name}: {sentence}" for sentence in kind)


def reason(rec, alpha):
    """Where alpha comes from, in a clause."""
    if rec.tau and np.isclose(alpha, rec.dt / rec.tau):
        return f"dt {rec.dt:g} s / tau {rec.tau:g} s"
    return "as given" if rec.tau or not np.isclose(alpha, 0.2) else "the file has no tau"


def turning_told(turning):
    """How the activity turns with the velocity, in a clause. turning: prediction.turning's."""
    if turning["r"] is None:
        return "activity or velocity never turns"
    lag = (
        f"{abs(turning['lag']):.3g} s {'before' if turning['lag'] < 0 else 'after'} it" if turning["lag"] else "at once"
    )
    return f"the activity turns {turning['slope']:.3g} times as fast as velocity says, r {turning['r']:.2f}, {lag}"


def some(items, most=5):
    """A few of many numbers, in words."""
    items = list(map(str, items))
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


# ---- values -----------------------------------------------------------------------------------------------------


def silence(rec):
    """Steps at which no neuron fires: padding without `lengths`, or gaps."""
    silent = rec.valid & ~rec.rates.any(-1)
    ends = rec.valid.sum(1)
    at_end = np.array([e - np.max(np.flatnonzero(~s[:e]), initial=-1) - 1 for s, e in zip(silent, ends, strict=True)])
    still = [not v[e - k : e].any() for v, e, k in zip(rec.velocity, ends, at_end, strict=True)]
    long = at_end >= 10
    padded = np.flatnonzero(long if long.mean() > 0.2 else long & still)  # few cells may all be silent for a while
    if len(padded):
        yield (
            f"rates is 0 in all neurons at the end of {len(padded)} of {len(ends)} trials (trial {some(padded)}), "
            f"for up to {at_end.max()} steps, as padding is; give `lengths`, the steps that each trial really has"
        )
    share = (silent.sum() - at_end[padded].sum()) / max(1, rec.valid.sum() - at_end[padded].sum())
    if share > 0.01:
        where = np.argwhere(silent)[0]
        yield (
            f"rates is 0 in all neurons at {share:.0%} of the steps (first at trial {where[0]}, step {where[1]}), "
            "where there is no heading; smooth spikes over longer times, or cut the trials there and use `lengths`"
        )


def scale(rec):
    """Rates in other units than the network's, which lie between 0 and 1."""
    x = rec.rates[rec.valid]
    low, high = np.quantile(x[:: max(1, len(x) // 20000)], [0.05, 0.99], axis=0)
    high = np.where(high > 0, high, x.max(0))
    fires = high > 0
    usual, remedy = (
        float(np.median(high[fires])),
        "scale each neuron, e.g. 0.8 * rates / np.quantile(rates, 0.99, (0, 1))",
    )
    if np.array_equal(x, np.round(x)) and x.max() > 1:
        yield (
            f"rates holds whole numbers up to {x.max():g}, as counts of spikes are; smooth them over time and {remedy}"
        )
    elif np.any(high > SCALE[1]) or usual < SCALE[0]:
        where = (
            f"reaches {usual:.3g} in the median neuron (99th percentile; {high[fires].min():.3g} to {high.max():.3g})"
        )
        yield f"rates {where}, as in spikes/s or other units, while the network's lie between 0 and 1; {remedy}"
    elif high[fires].max() > UNEQUAL * high[fires].min():
        yield (
            f"rates reaches from {high[fires].min():.3g} to {high.max():.3g} in different neurons (99th percentile); "
            f"{remedy}"
        )
    share = float(np.median(low[fires] / high[fires]))
    if share > BASELINE and rec.valid.sum() * rec.dt > SHORTEST:
        yield (
            f"rates never falls far: its 5th percentile is {share:.0%} of its 99th in the median neuron, as with a "
            f"constant baseline; subtract it, neuron by neuron (np.quantile(rates, 0.05, (0, 1)))"
        )


def neurons(rec):
    """Neurons that never fire, that say what another says, or that saturate."""
    x = rec.rates[rec.valid]
    dead = np.flatnonzero(~x.any(0))
    if len(dead):
        yield f"rates of neuron {some(dead)} is 0 throughout; leave {'it' if len(dead) == 1 else 'them'} out"
    alive = np.flatnonzero(x.any(0))
    _, first, which = np.unique(x[:: max(1, len(x) // 2000), alive], axis=1, return_index=True, return_inverse=True)
    pairs = [(alive[first[g]], alive[j]) for j, g in enumerate(np.ravel(which)) if first[g] != j]
    pairs = [(i, j) for i, j in pairs if np.array_equal(x[:, i], x[:, j])]
    if pairs:
        words = some(f"{j} as of {i}" for i, j in pairs)
        yield f"rates has the same values of neuron {words}; leave {'it' if len(pairs) == 1 else 'them'} out"
    if not np.array_equal(x, np.round(x)):
        top = (x == x.max(0)).mean(0) * x.any(0)
        if top.max() > SATURATED:
            yield (
                f"rates of neuron {some(np.flatnonzero(top > SATURATED))} is at its largest value in up to "
                f"{top.max():.0%} of the steps, as if cut off there; scale before clipping, and clip higher"
            )


def time(rec, alpha):
    """Time steps and time constants in other units than seconds."""
    if rec.dt > COARSE:
        yield f"dt is {rec.dt:g} s; expected seconds, a fraction of one: divide it by 1000 if it is in ms"
    if alpha < SLOW:
        given = f"tau is {rec.tau:g} s and " if rec.tau else ""
        yield (
            f"{given}dt is {rec.dt:g} s, so that alpha = dt / tau is {alpha:.2g} and the activity can hardly change "
            "from step to step; give both in seconds, or --alpha"
        )


def trials(rec, length, bootstrap=False):
    """Trials that no window fits into, and animals that cannot be drawn."""
    lengths = rec.valid.sum(1)
    holds = lengths >= length
    lost = lengths[~holds].sum() / lengths.sum()
    if len(lengths) > 1 and (lost > WASTED or holds.mean() < 0.5):
        yield (
            f"lengths leaves {holds.sum()} of {len(holds)} trials that hold a window of {length} steps; the others are "
            f"not used, {lost:.0%} of what is recorded: cut longer trials, or give a shorter --window or --warmup"
        )
    if bootstrap and rec.animal is not None and len(np.unique(rec.animal)) == 1:
        yield (
            "animal names one animal in all trials, so that --bootstrap draws trials: the spread over replicas is that "
            "of this animal's trials, and says nothing of other animals"
        )


# ---- movement ---------------------------------------------------------------------------------------------------


def seconds(rec):
    """How long the neurons were active, s."""
    return float((rec.valid & rec.rates.any(-1)).sum() * rec.dt)


def unrelated(r, time):
    """Whether a correlation of turning, the largest over lags, is no more than chance gives in so many seconds."""
    return r is None or abs(r) < min(0.5, max(UNRELATED, 3 / np.sqrt(time)))


def turning(rec, seen):
    """Velocity in other units, of another clock or of other trials, or no velocity at all."""
    length = seconds(rec)
    if length < SHORTEST:
        return
    v, unit = rec.velocity[rec.valid][:, 0], "expected the turning velocity in rad/s, signed"
    if np.ptp(v) == 0:
        yield f"velocity is {v[0]:g} throughout, so that nothing tells how it moves the activity; {unit}"
        return
    found = seen.turning
    given = found.get("heading", {"r": None})
    if unrelated(found["r"], length):
        if rec.velocity.shape[-1] == 2:  # two inputs may move the activity by their product alone
            second, both = (prediction.turns(seen.angle, v, rec.valid, rec.dt)["r"]
                            for v in (rec.velocity[..., 1], rec.velocity.prod(-1)))  # fmt: skip
            if unrelated(second, length) and not unrelated(both, length):
                return
        at = "" if found["r"] is None else f" (slope {found['slope']:.2g}, r {found['r']:.2f})"
        yield f"velocity: the recorded activity does not turn with it{at}{_why(rec, seen, length)}; {unit}"
        return
    yield from _strangers(rec, seen)
    by_heading, (low, high) = not unrelated(given["r"], length), GAIN if abs(found["r"]) > 0.9 else NOISY_GAIN
    slope = given["slope"] if by_heading and not GAIN[0] < abs(given["slope"]) < GAIN[1] else found["slope"]
    if not low < abs(found["slope"]) < high:
        yield _units(rec, v, found, slope, by_heading and GAIN[0] < abs(given["slope"]) < GAIN[1])
    elif rec.heading is not None and not by_heading and _in_degrees(rec, length):
        largest = np.abs(rec.heading).max()
        yield f"heading reaches {largest:.3g} and turns with velocity as if it were in degrees; expected heading in rad"
    elif by_heading and not GAIN[0] < abs(given["slope"]) < GAIN[1]:
        yield (
            f"heading turns {abs(given['slope']):.3g} times as fast as velocity, and the activity "
            f"{abs(found['slope']):.3g} times; expected the heading of the same animal, in rad"
        )
    elif by_heading and given["slope"] < 0:
        yield f"heading turns against velocity (slope {given['slope']:.2f}); give both the same sign"
    at_once = prediction.turns(seen.angle, rec.velocity[..., 0], rec.valid, rec.dt, 0.0)["r"] or 0.0
    gained = (found["r"] ** 2 - at_once**2) / max(1 - found["r"] ** 2, 1e-9)
    if abs(found["lag"]) > max(LATE[0], LATE[1] * rec.dt) and gained > GAINED:
        early = found["lag"] < 0
        yield (
            f"velocity: the recorded activity turns {abs(found['lag']):.3g} s {'before' if early else 'after'} it "
            f"(r {found['r']:.2f}); unless neurons do, their clocks are apart: move velocity "
            f"{abs(found['lag']):.3g} s {'earlier' if early else 'later'}, {round(abs(found['lag']) / rec.dt)} steps"
        )


def _in_degrees(rec, length):
    """Whether the given heading turns with the velocity once it is taken for degrees."""
    angle = np.deg2rad(rec.heading[..., 0])
    return not unrelated(prediction.turns(angle, rec.velocity[..., 0], rec.valid, rec.dt)["r"], length)


def _units(rec, v, found, slope, by_heading):
    """The sentence on a velocity, or an activity, that turns at another rate."""
    size, deg = abs(slope), np.pi / 180
    units = {"deg/s": deg, "rad per step": 1 / rec.dt, "deg per step": deg / rec.dt, "turns per s": 2 * np.pi}
    units |= {"rad/ms, or dt in ms": 1e-3}
    unit, factor = min(units.items(), key=lambda item: abs(np.log(size / item[1])))
    says = f"the recorded activity turns {abs(found['slope']):.3g} times as fast as velocity (r {found['r']:.2f})"
    if by_heading:
        return f"{says}, and heading as fast as velocity: neurons may be of part of the ring, or of another place"
    known = abs(np.log(size / factor)) < np.log(1.6)
    guess = f", as if it were in {unit}" if known else ""
    true = factor if known else size
    return (
        f"velocity: {says}{guess}; its s.d. of {v.std():.3g} would be {v.std() * true:.3g} rad/s: "
        f"multiply it by {true:.4g}"
    )


def _why(rec, seen, length):
    """A likely reason why the activity does not turn with the velocity, in a clause, or nothing."""
    v, step = rec.velocity[..., 0], rec.valid[:, 1:] & rec.valid[:, :-1]
    wraps = np.abs(np.abs(np.diff(v, axis=1)[step]) - 2 * np.pi) < 0.5
    for d in range(1, rec.velocity.shape[-1]):
        r = prediction.turns(seen.angle, rec.velocity[..., d], rec.valid, rec.dt)["r"]
        if not unrelated(r, length):
            return f", but with component {d} of velocity (r {r:.2f}): put this one first"
    if v[rec.valid].min() >= 0 or v[rec.valid].max() <= 0:
        return ", and it never changes its sign, as a speed without direction"
    if np.ptp(v[rec.valid]) < 2 * np.pi + 0.1 and wraps.sum() > 3:
        return (
            f", and it jumps by a full turn {wraps.sum()} times, as an angle that wraps: take its derivative, unwrapped"
        )
    fast = np.abs(v[rec.valid]) * rec.dt > 2.0
    if fast.sum() > 3:
        return f", and it is beyond 2 rad in a single step {fast.sum()} times: unwrap the heading before deriving it"
    if not unrelated(seen.turning.get("heading", {"r": None})["r"], length):
        return ", though the given heading does: the neurons' trials or times are not those of velocity"
    return ": is it another quantity, of other trials, or of another time"


def _strangers(rec, seen):
    """Single trials that do not turn with their velocity while the others do."""
    if len(rec.rates) < 3 or abs(seen.turning["r"]) > 0.98:
        return
    one = [(a[None] for a in trial) for trial in zip(seen.angle, rec.velocity[..., 0], rec.valid, strict=True)]
    each = [prediction.turns(*trial, rec.dt, seen.turning["lag"])["r"] for trial in one]
    each = np.abs(np.array([np.nan if one is None else one for one in each], float))
    strange = np.flatnonzero((each < 0.75 * np.nanmedian(each)) & (rec.valid.sum(1) * rec.dt > 2))
    if np.nanmedian(each) > 0.95 and len(strange):
        yield (
            f"velocity: the recorded activity of trial {some(strange)} does not turn with it (r at most "
            f"{each[strange].max():.2f}, in the others {np.nanmedian(each):.2f}); are they paired with others' velocity"
        )


def jumps(rec, seen):
    """Jumps of the activity, or of the heading, from one step to the next that no velocity explains.

    A step counts if what velocity leaves of it is beyond JUMP, so that a bump which wanders or is pushed has none.
    """
    angles = {"rates": seen.angle}
    if rec.heading is not None:
        angles["heading"] = rec.heading[..., 0]
    for key, angle in angles.items():
        known = rec.valid & np.isfinite(angle + seen.angle)
        use = known[:, 1:] & known[:, :-1]
        if rec.stimulus is not None and key == "rates":
            use = use & ~rec.stimulus[:, :-1].any(-1)
        x = rec.dt * (rec.velocity[:, 1:, 0] + rec.velocity[:, :-1, 0]) / 2
        moved = np.angle(np.exp(1j * np.diff(np.where(known, angle, 0), axis=1)))
        slope = (x * moved)[use].sum() / max((x * x)[use].sum(), 1e-12)
        if use.sum() < 100 or not NOISY_GAIN[0] < abs(slope) < NOISY_GAIN[1]:
            continue
        left = np.angle(np.exp(1j * (moved - slope * x))) * use
        stays = np.abs(left + np.roll(left, 1, 1) + np.roll(left, -1, 1))  # an outlier comes and goes
        left = np.abs(left)
        limit = max(JUMP[0], JUMP[1] * 1.4826 * np.median(left[use]))
        jump = (left > limit) & (stays > limit)
        if jump.any():
            trial, step = np.argwhere(jump)[0]
            at = np.bincount(np.nonzero(jump)[1])
            alike = f", {at.max()} of them at step {at.argmax() + 1}" if at.max() > 1 else ""
            yield (
                f"{'rates: the activity' if key == 'rates' else 'heading'} jumps {jump.sum()} times by up to "
                f"{left[jump].max():.2g} rad from one step to the next, which no velocity explains (first at trial "
                f"{trial}, step {step + 1}{alike}); where frames are missing, cut the trials there and use `lengths`"
            )
            return
