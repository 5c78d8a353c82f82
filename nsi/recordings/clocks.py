"""Time stamps as clocks give them: the frame number of each sample, and where a session must be cut.

Frames are taken to follow each other evenly, dt apart, and time stamps to be off by jitter, or by the resolution of
their clock. Sample i of a piece without gaps has the frame number k[i], and its stamp is

    time[i] = offset + dt * k[i] + error[i]

dt is the stamps' median step where steps are whole multiples of it, else (jitter, a clock that is coarser than the
frames or stands still between trackings) the mean over windows of WINDOW stamps. k goes up by 1 from sample to sample,
and by more where frames were lost: where the stamps from there on are late by half a frame or more.
"""

import statistics
from typing import NamedTuple

import numpy as np

from nsi.errors import BadInput

MAX_TIME = 1e20  # no time in any unit, down to ns since 1970
MAX_STEP_S = 1.0  # s, a longer time step is in other units, or of no recording of neurons
MIN_STEP_S = 1e-4  # s, a shorter one likewise
MAX_BRIDGED_S = 0.03  # s without a frame that are bridged by interpolation, or one frame
MAX_STILL_S = 0.1  # s, or four of the usual steps, between two stamps, beyond which a session is cut
MAX_COARSE_STEP_S = 0.25  # s, the usual step of a clock that stands still in between
FIRST_WINDOW = 3  # stamps over which the time step is averaged at first
WINDOW = 20  # and then
MAX_FALLING_SHARE = 0.1  # share of the steps at which time may fall: jitter, and clocks that start again
BLOCK, UNEQUAL = 200, 0.25  # stamps whose time step is compared with the session's, and how much it may differ
LATE_WINDOW = 5  # stamps, most of which must be late before frames count as lost
OFFSET_GAIN = 0.02  # share of a stamp's error by which the clock's offset follows it


class Frames(NamedTuple):
    """The samples of a session, numbered."""

    dt: float  # s
    piece: np.ndarray  # (steps,) int, pieces between gaps; -1 of samples that are left out
    number: np.ndarray  # (steps,) int, the frame within its piece, rising
    time: np.ndarray  # (steps,) s, with missing stamps filled in by the last one
    fresh: np.ndarray  # (steps,) bool, whether the clock has gone on since the sample before
    bridge: int  # frames in a row that may be lost and bridged
    said: list  # sentences on what was found


def number_frames(time, dt=None):
    """Number the frames of a clock. time: (steps,) s; dt: s, where it is known. Returns: Frames. Raises: BadInput where
    the clock cannot be used."""
    time = seconds(time)
    known = np.flatnonzero(np.isfinite(time))
    if len(known) < 2:
        raise BadInput(f"time has {len(known)} finite values in {len(time)} steps; expected seconds that rise")
    at = known[np.r_[True, np.diff(time[known]) != 0]]
    stamp, step = time[at], np.diff(time[at])
    if len(at) < 2:
        raise BadInput(f"time is {stamp[0]:.10g} at all of {len(time)} steps; expected seconds that rise")
    if (falls := (step < 0).mean()) > MAX_FALLING_SHARE:
        remedy = ": where the last sample comes first, reverse time and all other arrays" if falls > 0.9 else ""
        raise BadInput(f"time falls at {(step < 0).sum()} of {len(step)} steps; expected seconds that rise{remedy}")
    usual = float(np.median(step[step > 0]))
    max_still = max(MAX_STILL_S, 4 * usual)
    exact, guess = _time_step(at, stamp, time)
    dt = dt or guess
    check_seconds(dt)
    if usual > MAX_COARSE_STEP_S and (same := np.median(np.diff(at))) > 1:
        raise BadInput(
            f"time is the same at {same:g} steps in a row and then goes on by {usual:.3g} s, which is too coarse to "
            "find lost frames; expected times of a finer resolution, e.g. as float64"
        )
    bridge = max(1, int(MAX_BRIDGED_S / dt + 0.01))
    late = step / dt - np.diff(at)  # frames
    back = (step < 0) & (late < -1.5)
    cuts = np.flatnonzero(back | (step > max_still) | ~(late < bridge + 1)) + 1
    _check_rate(at, stamp, dt, cuts)
    patience = 1 if exact else LATE_WINDOW
    numbers = _numbers(at, stamp, dt, cuts, patience)
    if guess == dt and not exact:  # a line through whole pieces is surer than windows
        slope = _slope(numbers, stamp, cuts)
        if abs(slope / dt - 1) < 0.05:
            dt = slope
            numbers = _numbers(at, stamp, dt, cuts, patience)
    frames = Frames(dt, None, None, time, None, bridge, _describe(time, at, back))
    return _of_samples(time, at, numbers, cuts, max_still / dt, frames)


def seconds(time):
    """Times as seconds (steps,), of any array of numbers or of dates. Raises: BadInput where it is something else."""
    try:
        time = np.ma.filled(time.astype(float), np.nan) if isinstance(time, np.ma.MaskedArray) else np.asarray(time)
        if time.dtype.kind in "Mm":
            time = (time - (time[:1] if time.dtype.kind == "M" else 0)) / np.timedelta64(1, "s")
        if time.dtype.kind not in "fiub":
            time = time.astype(float)
    except (ValueError, TypeError, IndexError):
        raise BadInput("time has something else than numbers; expected seconds") from None
    if time.ndim != 1 and (time.ndim != 2 or 1 not in time.shape):
        raise BadInput(f"time has shape {time.shape}; expected (steps,) s")
    time = time.ravel().astype(float)
    return np.where(np.abs(time) < MAX_TIME, time, np.nan)


def check_seconds(dt, key="time"):
    """Raise BadInput where a time step is none that neurons are recorded with, as in other units."""
    if MIN_STEP_S <= dt < MAX_STEP_S:
        return
    units = (("ms", 1e3), ("µs", 1e6), ("ns", 1e9))
    likely = [f"divide by {size:g} if it is in {unit}" for unit, size in units if 5e-4 <= dt / size < MAX_STEP_S]
    likely += ["if it counts frames, divide it by their rate"] if dt == 1 else []
    raise BadInput(
        f"{key} goes on by {dt:.4g} from one step to the next, as in other units than seconds; expected seconds, a "
        f"fraction of one a step{': ' if likely else ''}{'; '.join(likely)}"
    )


def _time_step(at, stamp, time):
    """Whether the stamps' steps are whole multiples of one, and the time step (s). at: samples; stamp: (stamps,) s."""
    count, step = np.diff(at), np.diff(stamp)
    each = (step / count)[step > 0]
    usual = float(np.median(each))
    coarse = np.median(count) > 1 or (
        np.array_equal(time.astype(np.float32), time, equal_nan=True)
        and usual < 4 * np.spacing(np.float32(np.abs(stamp).max()))
    )

    def windows(length):
        length = min(length, max(1, len(step) // 2))
        span, frames = stamp[length:] - stamp[:-length], at[length:] - at[:-length]
        return span[span > 0], frames[span > 0]

    lengths = (WINDOW,) * 3 if coarse else (FIRST_WINDOW, FIRST_WINDOW, WINDOW)
    span, frames = windows(lengths[0])
    if len(span) == 0:
        return True, usual
    mean = float(np.median(span / frames))
    multiples = np.abs(each / usual - np.round(each / usual)) < 0.1
    long, counted = windows(WINDOW)
    wanders = np.ptp(np.quantile(long - counted * np.median(long / counted), [0.1, 0.9])) if len(long) else 0
    if not coarse and multiples.mean() >= 0.9 and ((each > 1.5 * usual).mean() < 0.1 or wanders > 2 * usual):
        return True, float(each[np.abs(each / usual - 1) < 0.25].mean())
    for length in lengths:  # windows that hold as many lost frames as most do, none where few are lost
        span, frames = windows(length)
        alike = np.abs(span - frames * mean) < (1.1 if coarse else 0.6) * mean
        mean = float(span[alike].sum() / frames[alike].sum()) if alike.any() else mean
    return False, mean


def _numbers(at, stamp, dt, cuts, patience):
    """The frame number of each stamp within its piece. cuts: indices of the stamps that begin one."""
    numbers = np.empty(len(at), int)
    for start, stop in zip([0, *cuts], [*cuts, len(at)], strict=True):
        counted = at[start:stop] - at[start]
        late = (stamp[start:stop] - stamp[start]) / dt - counted
        numbers[start:stop] = counted + _lost(late, patience)
    return numbers


def _lost(late, patience):
    """Number of frames lost up to each stamp. late: (stamps,) frames behind an even count. One late stamp is jitter;
    frames are lost where the median of the next `patience` is late. Negative: where samples were written twice."""
    values, lost, result = late.tolist(), 0, []
    offset = statistics.median(values[: 5 * patience]) if patience > 1 else values[0]
    for i, value in enumerate(values):
        error = value - offset - lost
        if abs(error) > 0.5:
            later = statistics.median(values[i : i + patience]) - offset - lost
            if abs(later) > 0.5 and (later > 0) == (error > 0):
                lost += round(later)
                error = value - offset - lost
        offset += OFFSET_GAIN * min(0.5, max(-0.5, error))
        result.append(lost)
    return result


def _slope(numbers, stamp, cuts):
    """The least-squares slope (s per frame) of stamps on frame numbers, with an offset for each piece."""
    products = np.zeros(2)
    for k, t in zip(np.split(numbers, cuts), np.split(stamp, cuts), strict=True):
        k = k - k.mean()
        products += k @ (t - t[0]), k @ k
    return products[0] / max(products[1], 1e-12)


def _check_rate(at, stamp, dt, cuts):
    """Raise BadInput where a good part of a session was taken at another rate than the rest."""
    count, step = (np.delete(np.diff(x), cuts - 1).astype(float) for x in (at, stamp))
    if len(step) < 4 * BLOCK:
        return
    count, step = (x[: len(x) // BLOCK * BLOCK].reshape(-1, BLOCK) for x in (count, step))
    means, medians = step.sum(1) / count.sum(1), np.median(step / count, 1)
    other = np.minimum(np.abs(means / dt - 1), np.abs(medians / dt - 1)) > UNEQUAL
    if other.mean() > 0.1:
        low, high = np.quantile(means, [0.05, 0.95])
        raise BadInput(
            f"time goes on by {low:.3g} s a step in some parts of the session and by {high:.3g} s in others; expected "
            "one rate: cut each part by itself, or resample one"
        )


def _of_samples(time, at, numbers, cuts, max_still, frames):
    """Frames of all samples, of their stamps' numbers: samples between two stamps are counted on from the first.
    max_still: frames that a stamp may be old where a piece ends."""
    sample, which = np.arange(len(time)), np.isin(np.arange(len(at)), cuts).cumsum()
    before = np.searchsorted(at, sample, "right") - 1  # the stamp that a sample has, or has last
    number, piece = numbers[before] + sample - at[before], which[before]
    after = np.minimum(before + 1, len(at) - 1)
    late = (which[after] == piece) & (after > before) & (number >= numbers[after])
    order = number + 2 * len(time) * piece
    late |= (order <= np.r_[-1, np.maximum.accumulate(np.where(late, -1, order))[:-1]]) & (before >= 0)
    stale = (which[after] != piece) | (after == before)
    piece = np.where((before < 0) | late | (stale & (sample - at[before] > max_still)), -1, piece)
    if late.any():
        frames.said.append(
            f"time goes on by less than half a step, or not at all, at {late.sum()} of {len(time)} samples more than a "
            f"time step of {frames.dt:.4g} s leaves room for; these are left out"
        )
    stamps = np.where(before < 0, np.nan, time[at[np.maximum(before, 0)]])
    return frames._replace(piece=piece, number=number, time=stamps, fresh=np.isin(sample, at))


def _describe(time, at, back):
    remarks, missing = [], int((~np.isfinite(time)).sum())
    if missing:
        remarks.append(f"time is not finite at {missing} of {len(time)} samples; they are placed by their neighbours")
    if back.any():
        last, first = at[back.argmax() :][:2]
        remarks.append(
            f"time goes back {f'{back.sum()} times, first' if back.sum() > 1 else 'once,'} from {time[last]:.10g} to "
            f"{time[first]:.10g} s at sample {first}, as where a clock starts again; the session is cut there"
        )
    return remarks
