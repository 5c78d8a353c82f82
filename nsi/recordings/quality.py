"""Warnings about a recording before it is fitted, one sentence for each finding.

A sentence names the file, the key, the number and the remedy. A file that cannot be used is refused when it is
read (nsi/recordings); one with warnings can be used, and is probably not what its maker meant. A clean recording gets
no sentence. Each kind is a function, which yields or returns sentences without the file's name.
"""

import sys

import numpy as np

from nsi import geometry
from nsi.network import synaptic_state
from nsi.recordings import activity as rates_of
from nsi.recordings import consistency
from nsi.recordings.arrays import list_some
from nsi.recordings.turning import REMEDY_R, Turning, describe_lag, regress_turns

MAX_PERCENTILE_RATIO = 10  # of a value to the 99th percentile, beyond which it may be an artefact
MIN_ACTIVE_S = 5.0  # s of activity, below which nothing is said of its turning
MIN_ROUNDS = 2.0  # turns around the ring, a quarter for each trial's start, below which many places were hardly visited
GAIN_RANGE = 0.55, 1.6  # turning per velocity that may be a circuit's own
NOISY_GAIN_RANGE = 0.5, 2.0  # the same where r is below REMEDY_R
OTHER_COMPONENT_R = 0.5  # correlation with the turning from which on another component is named as the velocity
MIN_LAG = 0.035, 1.5  # s, and steps, beyond which clocks are apart
MIN_LAG_SHARE = 0.02  # of the variance that is not explained: what a lag must explain beyond none
SYNAPSE_TOLERANCE = 0.02, 6.0  # share by which a synapse may explain less than a lag does, and s that add to it
MIN_JUMP = 0.3, 12.0, 2.0  # rad, robust s.d., and 98th percentiles of the rates' changes, of a jump in one step
SCALE_RANGE = 0.2, 1.05  # 99th percentile of a neuron's rates that the network can have
MAX_SCALE_RATIO = 5.0, 20.0  # of the 99th percentiles of most neurons, and of the largest rates of any two
MAX_BASELINE_SHARE = 0.15  # 5th percentile of a neuron's rates over its 99th
MAX_SATURATED_SHARE = 0.05  # share of a neuron's samples at its largest value
MIN_ALPHA, MAX_DT_S = 0.01, 1.0  # alpha, and dt in s, that are mistakes more often than not
MAX_UNUSED_SHARE = 0.05  # share of the recorded steps that no window reaches


def report_warnings(rec, path, alpha, length, bootstrap=False):
    """Print what `find_warnings` finds on stderr, and alpha and the activity's turning on stdout. Returns: list of
    sentences."""
    turning = Turning(geometry.fill_missing(rec))
    sentences = find_warnings(rec, path, alpha, length, bootstrap, turning)
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    source = "as given" if rec.tau or not np.isclose(alpha, 0.2) else "the file has no tau"
    if rec.tau and np.isclose(alpha, rec.dt / rec.tau):
        source = f"dt {rec.dt:g} s / tau {rec.tau:g} s"
    turns, fit = "activity or velocity never turns", turning.fit
    if fit["r"] is not None:
        lag = f"{describe_lag(fit['lag'])} it" if fit["lag"] else "at once"
        turns = f"the activity turns {fit['slope']:.3g} times as fast as velocity says, r {fit['r']:.2f}, {lag}"
    print(f"{path.name}: alpha {alpha:.3g} ({source}); {turns}")
    return sentences


def find_warnings(rec, path, alpha, length, bootstrap=False, turning=None):
    """All findings. rec: Recording; path: of its file; alpha: dt / tau; length: steps of a window with its warm-up;
    turning: Turning, where it is known already. Returns: list of sentences, which begin with the file's name."""
    turning = turning or Turning(geometry.fill_missing(rec))
    rec, parts = turning.rec, compare_parts(turning, alpha)
    found = [
        *check_outliers(rec), *check_silence(rec), *check_scale(turning), *check_neurons(rec), *check_time(rec, alpha),
        *check_trials(rec, length, bootstrap), rates_of.check_repeats(rec), parts["rates"],
        *check_turning(turning, parts, alpha), None if parts["unsure"] or parts["velocity"] else check_jumps(turning),
    ]  # fmt: skip
    return [f"{path.name}: {sentence}" for sentence in found if sentence]


def compare_parts(turning, alpha):
    """Compare the parts of a recording; what is wrong with one array is not said of the next. Returns: dict of a
    sentence or None of rates, velocity and heading, and unsure: whether the rates' fault makes their turning unsure."""
    parts = {"rates": None, "velocity": None, "heading": None, "unsure": False}
    if turning.rounds < MIN_ROUNDS:
        return parts
    rec, divided = turning.rec, consistency.divide_recording(turning.rec)
    activity = rates_of.Activity(rec, turning.places, alpha)
    parts["rates"], parts["unsure"] = rates_of.check_activity(activity, divided)
    fit = consistency.find_related_part(rec, turning.angle, turning.fit)
    short = turning.seconds <= consistency.MIN_COMPARED_S
    if short or parts["unsure"] or turning.by_product or turning.is_unrelated(fit["r"]):
        return parts
    jumps = find_jumps(turning)
    one = consistency.SegmentTurning(rec, turning.angle, fit, divided, False if jumps is None else jumps[0])
    parts["velocity"] = consistency.check_velocity(one)
    if turning.course is None or parts["velocity"] or parts["rates"]:
        return parts
    parts["rates"] = consistency.check_place(turning.places, rec.heading, divided)
    if not parts["rates"] and "heading" in turning.fit:
        fit = consistency.find_related_part(rec, turning.course, turning.heading)
        one = consistency.SegmentTurning(rec, turning.course, fit, divided)
        parts["heading"] = consistency.check_heading(one)
    return parts


def check_outliers(rec):
    """A velocity that is not given, and what may be artefacts in rates, velocity and stimulus: values beyond
    MAX_PERCENTILE_RATIO times the 99th percentile of all that are not 0."""
    if rec.decoded:
        yield (
            "velocity is not given, and the activity's own turning is taken for it, so that its sign and gain are "
            "free, and how heading is predicted from it says little"
        )
    for key in ("rates", "velocity", "stimulus"):
        size = np.abs(np.zeros(1) if rec.arrays()[key] is None else rec.arrays()[key])
        usual = np.quantile(size[size > 0], 0.99, method="lower") if size.any() else np.inf
        if count := int((size > MAX_PERCENTILE_RATIO * usual).sum()):
            where = ", ".join(map(str, np.unravel_index(size.argmax(), size.shape)))
            yield (
                f"{key} has {count} of {size.size} values beyond {MAX_PERCENTILE_RATIO} times their 99th percentile, "
                f"{usual:.3g}; the largest is {key}[{where}], {size.max() / usual:.0f} times; remove them unless they "
                "are real"
            )


def check_silence(rec):
    """Steps at which no neuron fires: padding without `lengths`, or gaps."""
    silent, total, ends = rec.valid & ~rec.rates.any(-1), rec.rates.sum(-1), rec.valid.sum(1)
    usual = np.median(total[rec.valid & ~silent])
    before = np.pad(total, ((0, 0), (1, 0)))[:, :-1]  # of each step, the activity one step earlier
    onset = silent & (before > 0.3 * usual)  # of silence that does not fade in, as that of a few cells does
    at_end = np.array([e - np.max(np.flatnonzero(~s[:e]), initial=-1) - 1 for s, e in zip(silent, ends, strict=True)])
    still = [not v[e - k : e].any() for v, e, k in zip(rec.velocity, ends, at_end, strict=True)]
    abrupt = np.array([k < e and o[e - k] for o, e, k in zip(onset, ends, np.maximum(at_end, 1), strict=True)])
    long = at_end >= 10
    padded = np.flatnonzero(long & (abrupt if (long & abrupt).mean() > 0.2 else still))
    if len(padded):
        yield (
            f"rates is 0 in all neurons at the end of {len(padded)} of {len(ends)} trials (trial {list_some(padded)}), "
            f"for up to {at_end.max()} steps, as padding is; give `lengths`, the steps that each trial really has"
        )
    share = (silent.sum() - at_end[padded].sum()) / max(1, rec.valid.sum() - at_end[padded].sum())
    if rec.stimulus is not None:  # after strong pulses neurons may all be silent
        share = (silent & ~rates_of.follows_stimulus(rec.stimulus, round(0.25 / rec.dt))).sum() / rec.valid.sum()
    if share > 0.01 and (share > 0.5 or onset.sum() > 0.5 * (silent[:, 1:] & ~silent[:, :-1]).sum()):
        where = np.argwhere(silent)[0]
        yield (
            f"rates is 0 in all neurons at {share:.0%} of the steps (first at trial {where[0]}, step {where[1]}), "
            "where there is no heading; smooth spikes over longer times, or cut the trials there and use `lengths`"
        )


def check_scale(turning):
    """Rates in other units than the network's, which lie between 0 and 1."""
    rec = turning.rec
    x = rec.rates[rec.valid]
    low, high = np.quantile(x[:: max(1, len(x) // 20000)], [0.05, 0.99], axis=0)
    remedy = "scale each neuron, e.g. 0.8 * rates / np.quantile(rates, 0.99, (0, 1))"
    if not high.all():
        remedy += ", and leave out those of which this quantile is 0"
    high = np.where(high > 0, high, x.max(0))
    fires = high > 0
    usual, largest = float(np.median(high[fires])), np.minimum(x.max(0), MAX_PERCENTILE_RATIO * high)[fires]
    tenth, top = np.quantile(high[fires], [0.1, 0.9])  # a neuron whose place was hardly visited has few high rates
    unequal = top > MAX_SCALE_RATIO[0] * tenth
    if turning.seconds > consistency.MIN_COMPARED_S:
        unequal |= largest.max() > MAX_SCALE_RATIO[1] * largest.min()
    reach = f"{high[fires].min():.3g} to {high.max():.3g}"
    if is_whole(x) and x.max() > 1:
        counts = f"whole numbers up to {x.max():g}, as counts of spikes are"
        yield f"rates holds {counts}; smooth them over time and {remedy}"
    elif np.any(high > SCALE_RANGE[1]) or usual < SCALE_RANGE[0]:
        yield (
            f"rates reaches {usual:.3g} in the median neuron (99th percentile; {reach}), as in spikes/s or other "
            f"units, while the network's lie between 0 and 1; {remedy}"
        )
    elif turning.rounds > MIN_ROUNDS and unequal:
        yield f"rates reaches from {reach} in different neurons (99th percentile); {remedy}"
    share = float(np.median(low[fires] / high[fires]))
    if share > MAX_BASELINE_SHARE and rec.valid.sum() * rec.dt > MIN_ACTIVE_S:
        yield (
            f"rates never falls far: its 5th percentile is {share:.0%} of its 99th in the median neuron, as with a "
            f"constant baseline; subtract it, neuron by neuron (np.quantile(rates, 0.05, (0, 1)))"
        )


def is_whole(x):
    """Whether all values are whole numbers. x: (samples, n)."""
    return all(np.array_equal(some, np.round(some)) for some in (x[:100], x))


def check_neurons(rec):
    """Neurons that never fire, that say what another says, or that saturate."""
    x = rec.rates[rec.valid]
    dead = np.flatnonzero(~x.any(0))
    if len(dead):
        yield f"rates of neuron {list_some(dead)} is 0 throughout; leave {'it' if len(dead) == 1 else 'them'} out"
    alive = np.flatnonzero(x.any(0))
    _, first, which = np.unique(x[:: max(1, len(x) // 2000), alive], axis=1, return_index=True, return_inverse=True)
    pairs = [(alive[first[g]], alive[j]) for j, g in enumerate(np.ravel(which)) if first[g] != j]
    pairs = [(i, j) for i, j in pairs if np.array_equal(x[:, i], x[:, j])]
    if pairs:
        words = list_some(f"{j} as of {i}" for i, j in pairs)
        yield f"rates has the same values of neuron {words}; leave {'it' if len(pairs) == 1 else 'them'} out"
    if not is_whole(x):
        top = (x == x.max(0)).mean(0) * x.any(0)
        if top.max() > MAX_SATURATED_SHARE:
            which = list_some(np.flatnonzero(top > MAX_SATURATED_SHARE))
            yield (
                f"rates of neuron {which} is at its largest value in up to {top.max():.0%} of the steps, as if cut "
                "off there; scale before clipping, and clip higher"
            )


def check_time(rec, alpha):
    """Time steps and time constants in other units than seconds."""
    if rec.dt > MAX_DT_S:
        yield f"dt is {rec.dt:g} s; expected seconds, a fraction of one: divide it by 1000 if it is in ms"
    if alpha < MIN_ALPHA:
        known = f"tau is {rec.tau:g} s and " if rec.tau else ""
        yield (
            f"{known}dt is {rec.dt:g} s, so that alpha = dt / tau is {alpha:.2g} and the activity can hardly change "
            "from step to step; give both in seconds, or --alpha"
        )


def check_trials(rec, length, bootstrap=False):
    """Trials that no window fits into, and animals that cannot be drawn."""
    lengths = rec.valid.sum(1)
    holds, lost = lengths >= length, lengths[lengths < length].sum() / lengths.sum()
    if rec.lengths is not None and len(lengths) > 1 and (lost > MAX_UNUSED_SHARE or holds.mean() < 0.5):
        yield (
            f"lengths leaves {holds.sum()} of {len(holds)} trials that hold a window of {length} steps; the others are "
            f"not used, {lost:.0%} of what is recorded: cut longer trials, or give a shorter --window or --warmup"
        )
    if bootstrap and rec.animal is not None and len(np.unique(rec.animal)) == 1:
        yield (
            "animal names one animal in all trials, so that --bootstrap draws trials: the spread over replicas is that "
            "of this animal's trials, and says nothing of other animals"
        )


def check_turning(turning, parts, alpha):
    """Velocity in other units, of another clock or of other trials, or no velocity at all; heading likewise."""
    if turning.seconds < MIN_ACTIVE_S:
        return
    rec = turning.rec
    v, unit = rec.velocity[rec.valid][:, 0], "expected the turning velocity in rad/s, signed"
    if np.ptp(v) == 0:
        yield f"velocity is {v[0]:g} throughout, so that nothing tells how it moves the activity; {unit}"
        return
    fit, heading = turning.fit, turning.heading
    if parts["velocity"] or turning.by_product:
        yield parts["velocity"]
        return
    if turning.is_unrelated(fit["r"]):
        at = "" if fit["r"] is None else f" (slope {fit['slope']:.2g}, r {fit['r']:.2f})"
        if not parts["unsure"]:
            reason = _explain_no_turning(turning)
            yield f"velocity: the recorded activity does not turn with it{at}{reason}; {unit}"
        return
    by_heading = not turning.is_unrelated(heading["r"])
    with_heading = by_heading and GAIN_RANGE[0] < abs(heading["slope"]) < GAIN_RANGE[1]
    sure = abs(fit["r"]) > REMEDY_R
    low, high = GAIN_RANGE if sure and turning.seconds > consistency.MIN_COMPARED_S else NOISY_GAIN_RANGE
    if parts["unsure"]:  # what is wrong with the rates changes how fast they turn
        low, high = (low / 2, high * 2) if sure else (0, np.inf)
    part = turning.rounds < MIN_ROUNDS and with_heading  # evenly spaced places are wrong where few were visited
    if not low < abs(fit["slope"]) < high and not part:
        slope = heading["slope"] if by_heading and not with_heading else fit["slope"]
        yield _describe_units(rec, v, fit, slope, with_heading)
    else:
        yield _check_heading(turning, parts)
    late = _count_lag_steps(rec, turning.angle, fit)
    if late and not rec.decay and not parts["unsure"] and not _is_synaptic_lag(turning, alpha):
        remedy = f": move velocity {abs(fit['lag']):.3g} s {'earlier' if fit['lag'] < 0 else 'later'}, {late} steps"
        yield (
            f"velocity: the recorded activity turns {describe_lag(fit['lag'])} it (r {fit['r']:.2f}); unless neurons "
            f"do, or an indicator (give `decay`), their clocks are apart{remedy if abs(fit['r']) >= REMEDY_R else ''}"
        )


def _count_lag_steps(rec, angle, fit):
    """By how many steps an angle turns before or after the velocity, 0 where they turn together."""
    at_once = regress_turns(angle, rec.velocity[..., 0], rec.valid, rec.dt, 0.0)["r"] or 0.0
    gained = (fit["r"] ** 2 - at_once**2) / max(1 - fit["r"] ** 2, 1e-9)
    apart = abs(fit["lag"]) > max(MIN_LAG[0], MIN_LAG[1] * rec.dt) and gained > MIN_LAG_SHARE
    return round(abs(fit["lag"]) / rec.dt) if apart else 0


def _is_synaptic_lag(turning, alpha):
    """Whether the activity's lag is that of a synapse or two, and not of a clock: activity behind a synapse follows an
    exponential mean of the velocity; where the velocity acts on the rates themselves, these also follow its changes."""
    rec = turning.rec
    v, best = rec.velocity[..., 0].astype(float), abs(turning.fit["r"])
    smooth = lambda x: synaptic_state(np.pad(x, ((0, 0), (0, 1)))[..., None], alpha)[:, 1:, 0]
    once, before = smooth(v), np.diff(v, axis=1, prepend=v[:, :1]) / alpha
    if abs(turning.fit["lag"]) > 2 * rec.dt / alpha + MIN_LAG[1] * rec.dt:
        return False
    models = (v + before,) if turning.fit["lag"] < 0 else (once, smooth(once))
    each = [turning.regress_on(model, by)["r"] for model in models for by in (0.0, rec.dt)]
    tolerance = SYNAPSE_TOLERANCE[0] + SYNAPSE_TOLERANCE[1] / turning.seconds
    return 1 - max(abs(r or 0) for r in each) <= (1 + tolerance) * (1 - best)


def _check_heading(turning, parts):
    """A heading that does not turn with the velocity, as the activity does. Returns: a sentence, or None."""
    if turning.course is None or parts["heading"]:
        return parts["heading"]
    rec, heading, fit, r = turning.rec, turning.heading, turning.fit, f"(r {turning.fit['r']:.2f})"
    if turning.is_unrelated(heading["r"]):
        in_rad = regress_turns(np.deg2rad(rec.heading[..., 0]), rec.velocity[..., 0], rec.valid, rec.dt)
        if not turning.is_unrelated(in_rad["r"]):
            largest = np.abs(rec.heading).max()
            return f"heading reaches {largest:.3g} and turns as if it were in degrees; expected heading in rad"
        how = "does not change" if heading["r"] is None else f"does not turn with velocity (r {heading['r']:.2f})"
        return (
            f"heading {how}, though the recorded activity does {r}: it is of other trials or times, or was not "
            "tracked; leave it out"
        )
    if not GAIN_RANGE[0] < abs(heading["slope"]) < GAIN_RANGE[1]:
        return (
            f"heading turns {abs(heading['slope']):.3g} times as fast as velocity, and the activity "
            f"{abs(fit['slope']):.3g} times; expected the heading of the same animal, in rad"
        )
    if heading["slope"] < 0:
        return f"heading turns against velocity (slope {heading['slope']:.2f}); give both the same sign"
    if (late := _count_lag_steps(rec, turning.course, heading)) and abs(heading["lag"] - fit["lag"]) > MIN_LAG[0]:
        activity = f"{describe_lag(fit['lag'])} it" if fit["lag"] else "with it"
        remedy = f"; move heading {late} steps {'later' if heading['lag'] < 0 else 'earlier'}"
        return (
            f"heading turns {describe_lag(heading['lag'])} velocity, and the recorded activity {activity} {r}: "
            f"heading's clock is apart{remedy if min(abs(heading['r']), abs(fit['r'])) >= REMEDY_R else ''}"
        )


def _describe_units(rec, v, fit, slope, by_heading):
    """The sentence on a velocity, or an activity, that turns at another rate."""
    size, deg = abs(slope), np.pi / 180
    units = {"deg/s": deg, "rad per step": 1 / rec.dt, "deg per step": deg / rec.dt, "turns per s": 2 * np.pi}
    units |= {"rad/ms, or dt in ms": 1e-3}
    unit, factor = min(units.items(), key=lambda item: abs(np.log(size / item[1])))
    says = f"the recorded activity turns {abs(fit['slope']):.3g} times as fast as velocity (r {fit['r']:.2f})"
    if by_heading:
        return f"{says}, and heading as fast as velocity: neurons may be of part of the ring, or of another place"
    known = abs(np.log(size / factor)) < np.log(1.6)
    guess = f", as if it were in {unit}" if known else ""
    true = factor if known else size
    if abs(fit["r"]) < REMEDY_R:
        return f"velocity: {says}{guess}; expected the turning velocity in rad/s, of the same circuit"
    return (
        f"velocity: {says}{guess}; its s.d. of {v.std():.3g} would be {v.std() * true:.3g} rad/s: "
        f"multiply it by {true:.4g}"
    )


def _explain_no_turning(turning):
    """A likely reason why the activity does not turn with the velocity, in a clause, or nothing."""
    rec = turning.rec
    v, step = rec.velocity[..., 0], rec.valid[:, 1:] & rec.valid[:, :-1]
    wraps = np.abs(np.abs(np.diff(v, axis=1)[step]) - 2 * np.pi) < 0.5
    for d in range(1, rec.velocity.shape[-1]):
        r = turning.regress_on(rec.velocity[..., d])["r"]
        if not turning.is_unrelated(r) and abs(r) > OTHER_COMPONENT_R:
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
    if not turning.is_unrelated(turning.heading["r"]):
        return ", though the given heading does: the neurons' trials or times are not those of velocity"
    return ": is it another quantity, of other trials, or of another time"


def find_jumps(turning, key="rates"):
    """Where the activity (key: rates), or the given heading, jumps from one step to the next as no velocity explains,
    by more than MIN_JUMP, so that a bump which wanders or is pushed has none. Returns: (trials, steps) bool, the sizes
    of the jumps (trials, steps) rad; or None."""
    rec = turning.rec
    angle = turning.angle if key == "rates" else rec.heading[..., 0]
    known = rec.valid & np.isfinite(angle + turning.angle)
    use = known[:, 1:] & known[:, :-1]
    if rec.stimulus is not None and key == "rates":
        use &= ~rates_of.follows_stimulus(rec.stimulus, round(0.15 / rec.dt))[:, 1:]
    x = rec.dt * (rec.velocity[:, 1:, 0] + rec.velocity[:, :-1, 0]) / 2
    moved = np.angle(np.exp(1j * np.diff(np.where(known, angle, 0), axis=1)))
    slope = (x * moved)[use].sum() / max((x * x)[use].sum(), 1e-12)
    if use.sum() < 100 or not NOISY_GAIN_RANGE[0] < abs(slope) < NOISY_GAIN_RANGE[1]:
        return None
    left = geometry.RING.difference(moved, slope * x) * use
    stays = np.abs(left + np.roll(left, 1, 1) + np.roll(left, -1, 1))  # an outlier comes and goes
    left = np.abs(left)
    limit = max(MIN_JUMP[0], MIN_JUMP[1] * 1.4826 * np.median(left[use]))
    jump = (left > limit) & (stays > limit)
    if key == "rates":  # the angle of few cells jumps where they hardly fire, and no rate does
        size = np.linalg.norm(np.diff(rec.rates, axis=1), axis=-1)
        jump &= size > MIN_JUMP[2] * np.quantile(size[use], 0.98)
    if not jump.any():
        return None
    return np.pad(jump, ((0, 0), (1, 0))), np.pad(left, ((0, 0), (1, 0)))


def check_jumps(turning):
    """Jumps of the activity, or of the heading. Returns: a sentence, or None."""
    found, key = find_jumps(turning), "rates: the activity"
    if found is None and turning.rec.heading is not None:
        found, key = find_jumps(turning, "heading"), "heading"
    if found is None:
        return None
    jump, size = found
    (trial, step), at = np.argwhere(jump)[0], np.bincount(np.nonzero(jump)[1])
    alike = f", {at.max()} of them at step {at.argmax()}" if at.max() > 1 else ""
    return (
        f"{key} jumps {jump.sum()} times by up to {size[jump].max():.2g} rad from one step to the next, which no "
        f"velocity explains (first at trial {trial}, step {step}{alike}); where frames are missing, cut the trials "
        "there and use `lengths`"
    )
