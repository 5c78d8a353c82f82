"""One long session as trials: cut at its gaps, scaled neuron by neuron, with the velocity of its heading or place.

Frames are numbered by nsi/recordings/clocks.py. Where up to 0.03 s of them, or one, were lost, or a heading or rate is
not finite, rates and course are interpolated; at longer gaps the session is cut. What was found, and which share of the
session is kept, is printed.
"""

import sys
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from nsi import files
from nsi.errors import BadInput
from nsi.geometry import RING, Torus
from nsi.recordings import HIGH_RATE, clocks, paths, recorded_steps
from nsi.recordings.arrays import list_some, pad_trials, short_gaps

MIN_HIGH_SHARE = 0.05  # share of its maximum, below which a neuron's 99th percentile does not scale it
MAX_BRIDGED_SHARE = 0.25  # share of a trial's frames that may be interpolated
FROZEN_S = 0.2  # s of a course that does not change at all, before a jump: a lost tracker
LONG_FROZEN_S = 10.0  # s of such a course that are suspicious by themselves
MAX_VALUE = 1e30  # of a rate, heading or place
MAX_VELOCITY_SD = 20.0  # rad/s, s.d. of a heading's velocity beyond which it is not in rad, or time not in s


class Course(NamedTuple):
    """Heading or position of an animal."""

    name: str  # the key
    values: np.ndarray  # (steps, D) rad or m
    circular: bool
    jump: float  # rad or m, from one step to the next, and
    fastest: float  # rad/s or m/s, beyond both of which it did not get there


def cut(time, rates, heading, smooth=0.0, longest=10.0, shortest=2.0):
    """A session as the arrays of a data file. Prints which share of the session is kept.

    time: (steps,) s, evenly spaced but for jitter, lost frames and gaps; rates: (steps, N) in any unit, counts too;
    heading: (steps,) rad, wrapped or not; smooth: s.d., s, of a Gaussian for both, or 0; longest, shortest: s, of a
    trial. Returns: dict of rates, velocity (derived from the heading), heading, dt, lengths, as `recordings.save`
    writes. Raises: BadInput where the arrays do not agree, or no stretch is long enough.
    """
    return cut_heading(time, rates, heading, (smooth, longest, shortest))[0]


def cut_heading(time, rates, heading, options, dt=None, every=1):
    """As `cut`, of which every so many frames are taken once they are smoothed. options: smooth, longest and shortest;
    dt: s, of a frame, where it is known; every: frames of a time step. Returns: the arrays, and what scales each
    neuron's rates (N,)."""
    heading = _numbers("heading", heading)
    if heading.ndim != 1 and (heading.ndim != 2 or 1 not in heading.shape):
        raise BadInput(f"heading has shape {heading.shape}; expected (steps,) rad")
    heading = heading.reshape(-1, 1)
    _check_radians(heading)
    data, scale = _trials(time, rates, Course("heading", heading, True, 0.5, 8.0), options, dt, every)
    turning = data["velocity"][recorded_steps(data["velocity"].shape, data["lengths"])].std()
    print(f"  velocity: s.d. {turning:.3g} rad/s")
    if turning > MAX_VELOCITY_SD or turning == 0:
        _say(
            f"velocity has an s.d. of {turning:.3g} rad/s; expected some rad/s: is heading in rad, time in s, "
            "and `smooth` long enough for the tracker's noise"
        )
    data["heading"] = data["heading"] % np.float32(2 * np.pi)
    return data, scale


def cut_path(time, rates, position, spacing, smooth=0.0, longest=10.0, shortest=2.0):
    """A session in a box as the arrays of a data file of grid cells: as `cut`, with a place instead of a heading.
    position: (steps, 2) m; spacing: m, of the firing fields. Returns: dict of rates, velocity (2 components, rad/s of
    phase), position, dt, lengths. Raises: as `cut`."""
    if not isinstance(spacing, (int, float, np.number)) or not 0 < spacing < np.inf:
        raise BadInput(f"spacing is {spacing!r}; expected metres above 0")
    position = _numbers("position", position)
    if position.ndim != 2 or position.shape[1] != 2:
        raise BadInput(f"position has shape {position.shape}; expected (steps, 2) m")
    data, _ = _trials(time, rates, Course("position", position, False, 0.1, 5.0), (smooth, longest, shortest))
    inside = recorded_steps(data["position"].shape, data["lengths"])
    for sentence in paths.describe(data["position"][inside], np.linalg.norm(data["velocity"][inside], axis=-1).mean()):
        _say(sentence)
    data["velocity"] = data["velocity"] * np.float32(Torus(spacing=spacing).per_metre)
    return data


def scale_of(rates):
    """The factor that scales each neuron's 99th percentile, or of nearly silent neurons the maximum, to HIGH_RATE.
    rates: (steps, N). Returns: (N,), 1 of neurons that never fire."""
    high, top = np.quantile(rates, 0.99, axis=0), rates.max(0)
    sparse = (high < MIN_HIGH_SHARE * top) & (top > 0)
    if sparse.any():
        _say(
            f"rates of neuron {list_some(np.flatnonzero(sparse))} reach more than {1 / MIN_HIGH_SHARE:g} times their "
            "99th percentile, as of few spikes or an artefact; they are scaled by their maximum"
        )
    if not (top > 0).all():
        _say(f"rates of neuron {list_some(np.flatnonzero(top <= 0))} are never above 0; leave them out")
    high = np.where(sparse, top, high)
    return HIGH_RATE / np.where(high > 0, high, HIGH_RATE)


def _trials(time, rates, course, options, dt=None, every=1):
    """Rates and a course of a session, and the course's velocity, as padded trials; and the scale of the rates."""
    (smooth, longest, shortest), rates, name = options, _numbers("rates", rates), course.name
    if not (0 <= smooth <= longest < np.inf and 0 <= shortest <= longest and longest > 0):
        raise BadInput(
            f"smooth, longest and shortest are {smooth}, {longest} and {shortest} s; expected 0 <= shortest <= longest "
            "and 0 <= smooth <= longest"
        )
    frames_in = np.shape(time)[0] if np.ndim(time) else 0
    if rates.ndim != 2 or not frames_in == len(course.values) == len(rates):
        shapes = f"time {np.shape(time)}, rates {rates.shape} and {name} {course.values.shape}"
        remedy = ": transpose rates" if rates.shape[1:] == (frames_in,) == (len(course.values),) else ""
        raise BadInput(f"{shapes} do not agree; expected as many steps of each, and (steps, N) rates{remedy}")
    if rates.shape[1] == 0:
        raise BadInput(f"rates has shape {rates.shape}; expected neurons: (steps, N)")
    if np.nanmin(rates, initial=0) < 0:
        raise BadInput(f"rates has negative values (down to {np.nanmin(rates):.3g}); expected firing rates >= 0")
    frames = clocks.number_frames(time, dt)
    for sentence in frames.said:
        _say(sentence)
    place, rates = _without_lost(course, frames), _filled(rates, frames)
    known = np.isfinite(place).all(-1) & np.isfinite(rates).all(-1)
    parts, longest_part, remarks = _parts(frames, known, longest, shortest, every)
    tracked, trials, dt = _trackings(place, frames, name), [], frames.dt
    for part in parts:
        along = np.unwrap(place[part], axis=0) if course.circular else place[part]
        number, r = frames.number[part] - frames.number[part[0]], rates[part]
        if tracked is not None:
            along = _between_trackings(frames.time[part], tracked[part], along, dt * number)
        if number[-1] + 1 > len(part):
            every_frame = np.arange(number[-1] + 1)
            r, along = (np.stack([np.interp(every_frame, number, c) for c in x.T], -1) for x in (r, along))
        if smooth:
            r, along = (gaussian_filter1d(x, smooth / dt, axis=0, mode="nearest") for x in (r, along))
        r, along = r[every // 2 :: every], along[every // 2 :: every]
        trials.append({"rates": r, "velocity": np.gradient(along, dt * every, axis=0), name: along})
    if not trials:
        reason = "".join(f", {remark.split(';')[0]}" for remark in remarks[-1:])
        raise BadInput(
            f"time has no stretch of {shortest:g} s without a gap in {frames_in} samples of {dt:.4g} s (the longest "
            f"has {longest_part * dt:.3g} s{reason}); expected longer ones, or a smaller `shortest`"
        )
    kept, steps = sum(map(len, parts)), max(len(t["rates"]) for t in trials)
    size = steps * len(trials) * rates.shape[1] * 4
    files.check_size(size, f"{len(trials)} trials of up to {steps} steps", "a smaller `longest`")
    print(
        f"session: {kept * dt:.4g} of {frames_in * dt:.4g} s kept ({100 * kept / frames_in:.3g} %) in {len(trials)} "
        f"trials, time step {dt * every:.4g} s"
    )
    for remark in remarks:
        _say(remark)
    scale = scale_of(np.concatenate([t["rates"] for t in trials]))
    for t in trials:
        t["rates"] = scale * t["rates"]
    return pad_trials(trials, list(trials[0])) | {"dt": dt * every}, scale


def _parts(frames, known, longest, shortest, every):
    """Samples of each trial. known: (steps,) bool. Returns: list of indices, frames of the longest stretch, remarks."""
    use = np.flatnonzero(known & (frames.piece >= 0))
    number, piece = frames.number[use], frames.piece[use]
    apart = (np.diff(piece) != 0) | (np.diff(number) > frames.bridge + 1)
    most, least = max(2 * every, round(longest / frames.dt)), max(2 * every, shortest / frames.dt)
    parts, bridged, gappy, top = [], 0, 0, 0
    for stretch in np.split(np.arange(len(use)), np.flatnonzero(apart) + 1) if len(use) else ():
        counted = number[stretch] - number[stretch[0]]
        top = max(top, counted[-1] + 1)
        for part in np.split(stretch, np.searchsorted(counted, np.arange(most, counted[-1] + 1, most))):
            size = number[part[-1]] - number[part[0]] + 1 if len(part) else 0
            if size < least - 1e-9:
                continue
            if len(part) < (1 - MAX_BRIDGED_SHARE) * size:
                gappy += 1
            else:
                bridged += size - len(part)
                parts.append(use[part])
    lost = (~known).sum()
    remarks = {
        f"{lost} of {len(known)} samples have no finite rates or course; short gaps are bridged, longer ones cut": lost,
        f"{bridged} lost frames are bridged by interpolation": bridged,
        f"{gappy} trials lack more than {MAX_BRIDGED_SHARE:.0%} of their frames; they are left out": gappy,
    }
    return parts, top, [remark for remark, count in remarks.items() if count]


def _without_lost(course, frames):
    """A course, NaN where the tracker lost the animal: where it does not change at all after, or before, a jump."""
    values, name = course.values.copy(), course.name
    same = (values[1:] == values[:-1]).all(-1)
    start = np.flatnonzero(np.r_[True, ~same])
    stop = np.r_[start[1:], len(values)]
    moved = RING.difference(values[1:], values[:-1]) if course.circular else np.diff(values, axis=0)
    jump = np.abs(moved).max(-1) > max(course.jump, course.fastest * frames.dt)
    jumps = np.r_[False, jump & (frames.piece[1:] == frames.piece[:-1]), False]
    long = stop - start >= max(FROZEN_S / frames.dt, 5 * np.median(stop - start))
    lost = long & (jumps[start] | jumps[stop])
    for a, b in zip(start[lost], stop[lost], strict=True):
        values[a:b] = np.nan
    seconds = (stop - start) * frames.dt
    if lost.any():
        a = start[lost][0]
        _say(
            f"{name} stays exactly {list_some(course.values[a])} for {seconds[lost][0]:.3g} s from sample {a}, and "
            f"jumps there or from there, as where a tracker lost the animal; {lost.sum()} such stretches of "
            f"{seconds[lost].sum():.3g} s in all are left out"
        )
    still = long & ~lost & (seconds > LONG_FROZEN_S)
    if still.any():
        _say(
            f"{name} does not change at all for {seconds[still][0]:.3g} s from sample {start[still][0]}: did the "
            "tracker see the animal there; NaN where it did not"
        )
    return values


def _filled(rates, frames):
    """Rates with values that are not finite interpolated, neuron by neuron, where they are few in a row."""
    missing = np.isnan(rates)
    if len(gone := np.flatnonzero(missing.mean(0) > 0.5)):
        raise BadInput(
            f"rates of neuron {list_some(gone)} are not finite at more than half of the steps; expected numbers: leave "
            f"{'it' if len(gone) == 1 else 'them'} out"
        )
    for j in np.flatnonzero(missing.any(0)):
        gaps, before, after = short_gaps(~missing[:, j], frames.bridge + 1)
        gaps = gaps[frames.piece[before] == frames.piece[after]]
        known = np.flatnonzero(~missing[:, j])
        rates[gaps, j] = np.interp(gaps, known, rates[known, j])
    return rates


def _trackings(place, frames, name):
    """At which samples a course was tracked, where it is held in between; None where it is tracked at each of them."""
    between = np.flatnonzero(~frames.fresh[1:] & (frames.piece[1:] == frames.piece[:-1]))
    if len(between) >= 0.1 * len(place):  # the clock stands still too
        return frames.fresh if (place[between + 1] == place[between]).all(-1).mean() > 0.9 else None
    changed = np.r_[True, (place[1:] != place[:-1]).any(-1)]
    lasts = np.diff(np.flatnonzero(changed))
    if len(lasts) < 10 or np.median(lasts) < 2 or (np.abs(lasts - np.median(lasts)) <= 1).mean() < 0.9:
        return None
    _say(f"{name} changes only at every {np.median(lasts):g} samples or so; it is interpolated in between")
    return changed


def _between_trackings(time, tracked, along, since):
    """A course at each sample's own moment, interpolated between those at which it was tracked. since: (steps,) s."""
    tracked = np.r_[True, tracked[1:]]
    now = time[0] + since
    now += np.quantile(time - now, 0.99)  # what is held was tracked before: the samples' clock is never behind
    return np.stack([np.interp(now, time[tracked], x[tracked]) for x in along.T], -1)


def _check_radians(heading):
    """Raise BadInput where a heading wraps at something else than a full turn in rad."""
    known = heading[np.isfinite(heading)]
    step, span = np.abs(np.diff(known)), np.ptp(known) if len(known) else 0
    wraps = step > 0.8 * span
    if not 3 <= wraps.sum() < 0.2 * len(step) or np.quantile(step[~wraps], 0.9) > 0.2 * span:
        return
    span = float(np.median(step[wraps]))
    if abs(span / (2 * np.pi) - 1) > 0.2:
        what, remedy = f"and goes from {known.min():.4g} to {known.max():.4g}", ", and NaN where it was lost"
        if abs(span / 360 - 1) < 0.2:
            what, remedy = "as degrees do where they wrap", ": np.deg2rad(heading)"
        raise BadInput(
            f"heading jumps by about {span:.3g} from one step to the next, {wraps.sum()} times, {what}; expected rad, "
            f"which wrap at 2 pi{remedy}"
        )


def _numbers(name, array):
    """An array as float, NaN where it is masked, infinite or too large for float32. Raises: BadInput if not numbers."""
    try:
        array = np.ma.filled(array.astype(float), np.nan) if isinstance(array, np.ma.MaskedArray) else np.asarray(array)
        array = array.astype(float) if array.dtype.kind in "fiub" else np.asarray(array.tolist(), float)
    except (ValueError, TypeError):
        raise BadInput(f"{name} has something else than real numbers, or rows of unequal length; expected an array "
                       "of numbers") from None  # fmt: skip
    return np.where(np.abs(array) < MAX_VALUE, array, np.nan)


def _say(sentence):
    print(f"session: {sentence}", file=sys.stderr)
