"""Recorded paths of animals, for a simulated circuit to follow: `.npz` files, or text, of time and place."""

import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from nsi import files
from nsi.errors import BadInput
from nsi.recordings import clocks

BOX_M = 0.1, 10.0  # m, range of a walking animal's box
SPEED_M_S = 0.005, 2.0  # m/s, range of its speed
SMOOTHING_S = 0.05  # s, s.d. of the smoothing: trackers jump by a pixel, and a pixel per step is a speed
MAX_PLACE = 1e6  # a larger number is no place in any unit
MAX_TIME = 1e12  # a larger number is no time in any unit
MIN_HOLE_S = 0.5  # s, and five of the usual steps, without a place, that are named
MIN_JUMP_M = 0.1  # m from one sample to the next that no animal covers
MAX_SPEED_M_S = 5.0  # m/s that no animal exceeds
MAX_JUMP_SHARE = 0.1  # of the samples
TEXT = ".csv", ".tsv", ".txt"  # suffixes of files that are text
MISSING = "", "na", "n/a", "nan", "null", "none"  # what stands for a number that is not there


def read(path, dt, trials, steps):
    """A path cut into trials, at a simulation's own time step; box, mean speed and what is implausible are printed.

    path: `.npz` with t (samples,) s, and x and y (samples,) m or pos (samples, 2) m; or text with a first line that
    names t, x and y, between commas, semicolons, tabs or spaces; samples with a NaN, where the tracker lost the animal,
    are filled in linearly; trials: at most.
    Returns: position (trials, steps + 1, 2) m.
    Raises: BadInput where it is not such a file, or too short for a trial.
    """
    with files.naming(path) if Path(path).suffix.lower() in TEXT else files.Archive(path) as file:
        t, place = _read_text(path) if file is None else _read_arrays(file)
        tracked = np.isfinite(t) & np.isfinite(place).all(-1)
        t, place = t[tracked], place[tracked]
        check_range(t, place)
        if len(t) < 2 or (np.diff(t) <= 0).any():
            raise BadInput(f"t has {len(t)} samples, or does not rise; expected times in s, one after the other")
        wanted = min(trials, int((t[-1] - t[0]) / dt) // steps)
        if wanted < 1:
            raise BadInput(f"t spans {t[-1] - t[0]:.3g} s; expected at least one trial of --steps, {steps * dt:g} s")
        clocks.check_seconds(float(np.median(np.diff(t))), "t")
    for sentence in _find_implausible(t, place):
        print(f"{Path(path).name}: {sentence}", file=sys.stderr)
    moments = t[0] + dt * np.arange(wanted * steps + 1)
    place = np.stack([np.interp(moments, t, along) for along in place.T], -1)
    place = gaussian_filter1d(place, SMOOTHING_S / dt, axis=0)
    return place[np.arange(wanted)[:, None] * steps + np.arange(steps + 1)]


def check_range(t, place):
    """Raise BadInput where times or places are too large to be any."""
    latest, furthest = (float(np.abs(x).max(initial=0)) for x in (t, place))
    if latest > MAX_TIME or furthest > MAX_PLACE:
        raise BadInput(
            f"t reaches {latest:.3g} and places {furthest:.3g}; expected s and m, and NaN where the tracker lost the "
            "animal"
        )


def _find_implausible(t, place):
    """Print a path's box and mean speed. Yields: sentences on what no animal does. t: (samples,) s; place: m."""
    jump, sentences = find_jumps(t, place)
    yield from sentences
    step, moved = np.diff(t), np.linalg.norm(np.diff(place, axis=0), axis=-1)
    hole = step > max(MIN_HOLE_S, 5 * float(np.median(step)))
    if hole.any():
        yield (
            f"places are missing {_times(hole)} for up to {step.max():.3g} s, {step[hole].sum() / (t[-1] - t[0]):.0%} "
            f"of the time, first from {t[hole.argmax()]:g} s on; they are filled in along straight lines"
        )
    use, beside = ~hole & ~jump, _beside(jump)
    speed = moved[use].sum() / step[use].sum() if use.any() else np.nan
    yield from describe(place if beside.all() else place[~beside], speed)


def find_jumps(t, place):
    """Where an animal cannot have gone from one sample to the next. t: (samples,) s; place: (samples, 2) m.

    Returns: (samples - 1,) bool, False throughout where so many are that places are in another unit; list of a
    sentence on them, or of none."""
    moved = np.linalg.norm(np.diff(place, axis=0), axis=-1)
    jump = (moved > MIN_JUMP_M) & (moved > MAX_SPEED_M_S * np.diff(t))
    jump &= jump.mean() < MAX_JUMP_SHARE
    if not jump.any():
        return jump, []
    places, counts = np.unique(place[_beside(jump)], axis=0, return_counts=True)
    x, y = places[counts.argmax()]
    often = (place == [x, y]).all(-1).sum()
    at = f"from or to ({x:g}, {y:g}), where it is in {often} samples" if counts.max() > 1 else "which no animal does"
    return jump, [
        f"places jump {_times(jump)} by up to {moved[jump].max():.3g} m from one sample to the next, {at}; expected "
        "NaN where the tracker lost the animal"
    ]


def _beside(jump):
    """The samples on both sides of jumps. Returns: (samples,) bool."""
    return np.r_[False, jump] | np.r_[jump, False]


def _times(which):
    return "once" if which.sum() == 1 else f"{which.sum()} times"


def describe(place, speed):
    """Print the box and mean speed of a path. place: (samples, 2) m; speed: m/s. Yields: what is implausible."""
    width, height = np.ptp(np.quantile(place, [0.001, 0.999], axis=0), axis=0)
    print(f"  path: a box of {width:.3g} x {height:.3g} m, mean speed {speed:.3g} m/s")
    if not (BOX_M[0] <= max(width, height) <= BOX_M[1] and SPEED_M_S[0] <= speed <= SPEED_M_S[1]):
        yield (
            f"the path is in a box of {width:.3g} x {height:.3g} m at {speed:.3g} m/s in the mean; expected "
            f"{BOX_M[0]:g} to {BOX_M[1]:g} m and {SPEED_M_S[0]:g} to {SPEED_M_S[1]:g} m/s, as of an animal: are places "
            "in cm or pixels, or times in ms or frames"
        )


def _read_arrays(file):
    """Times and places of an Archive."""
    keys = ("t", "pos") if "pos" in file else ("t", "x", "y")
    file.require(keys, "t, x and y, or t and pos")
    arrays = [file[key] for key in keys]
    for key, array in zip(keys, arrays, strict=True):
        if array.dtype.kind not in "fiu":
            raise BadInput(f"{key} has type {array.dtype.str}; expected real numbers")
    t, *place = (array.astype(float) for array in arrays)
    place = np.stack(place, -1) if place[0].shape == place[-1].shape == t.shape else place[0]
    if t.ndim != 1 or place.shape != (len(t), 2):
        raise BadInput(f"t has shape {t.shape} and the places {place.shape}; expected (samples,), (samples, 2)")
    return t, place


def _read_text(path):
    """Times and places of a text file, of any of the delimiters that spreadsheets write."""
    lines = [(number, line) for number, line in enumerate(_read_lines(path), 1) if line.strip()]
    comments = [line.lstrip()[0] in "#%" for _, line in lines]
    names, delimiter, rest = [], ",", []
    for at, ((_, line), comment) in enumerate(zip(lines, comments, strict=True)):
        line = line.lstrip("#% ").strip(" ") if comment else line
        delimiter = next((d for d in ";\t,|" if d in line), None)  # None: spaces
        names = [name.lower() for name in _fields(line, delimiter)]
        if {"t", "x", "y"} <= {*names} or not comment:
            rest = [one for one, comment in zip(lines[at + 1 :], comments[at + 1 :], strict=True) if not comment]
            break
    else:
        names = []
    if [names.count(name) for name in ("t", "x", "y")] != [1, 1, 1]:
        has = "is empty" if not lines else f"has the columns {', '.join(names) or 'none'}"
        raise BadInput(f"{has[:200]}; expected t, x and y, each of them once, in its first line")
    rows = [(number, _fields(line, delimiter)) for number, line in rest]
    if all(len(row) > len(names) and not row[-1] for _, row in rows):  # a delimiter at the end of each line
        rows = [(number, row[:-1]) for number, row in rows]
    unnamed = bool(rows) and all(len(row) == len(names) + 1 for _, row in rows)  # a first column without a name
    for number, row in rows:
        if len(row) != len(names) + unnamed:
            raise BadInput(f"line {number} has {len(row)} columns; expected the {len(names)} of its first line")
    columns = [names.index(name) + unnamed for name in ("t", "x", "y")]
    table = [[_parse_number(number, row[k], delimiter) for k in columns] for number, row in rows]
    t, *place = np.reshape(table, (-1, 3)).T
    return t, np.stack(place, -1)


def _read_lines(path):
    """The lines of a text file, in UTF-8 or what its byte-order mark says."""
    if Path(path).exists() and not Path(path).is_file():  # a pipe or a device may never end
        raise BadInput("is not a file; expected columns t, x and y")
    try:
        content = Path(path).read_bytes()
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").splitlines()
    except OSError as error:
        raise BadInput(f"cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise BadInput("is not text in UTF-8; expected columns t, x and y") from None


def _fields(line, delimiter):
    return [field.strip(" \t\"'") for field in line.split(delimiter)]


def _parse_number(number, text, delimiter):
    """A number of a line, NaN where it is missing; a comma may stand for the point where it does not delimit."""
    if text.lower() in MISSING:
        return np.nan
    try:
        return float(text if delimiter == "," else text.replace(",", "."))
    except ValueError:
        raise BadInput(f"line {number} has {text[:40]!r}; expected a number, or nothing where it is missing") from None
