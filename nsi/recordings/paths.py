"""Recorded paths of animals, for a simulated circuit to follow: `.npz` or `.csv` files of time and place."""

from pathlib import Path

import numpy as np

from nsi.run import files
from nsi.run.files import BadInput

BOX, SPEED = (0.1, 10.0), (0.005, 2.0)  # m, m/s, of an animal that walks
SMOOTH = 0.05  # s, s.d. of the smoothing: trackers jump by a pixel, and a pixel per step is a speed


def read(path, dt, trials, steps):
    """A path cut into trials, at a simulation's own time step.

    path: `.npz` with t (samples,) s, and x and y (samples,) m or pos (samples, 2) m; or `.csv` with a first line that
    names t, x and y; samples with a NaN, where the tracker lost the animal, are filled in linearly; trials: at most.
    Returns: position (trials, steps + 1, 2) m.
    Raises: BadInput where it is not such a file, or too short for a trial.
    """
    from scipy.ndimage import gaussian_filter1d  # slow to import

    t, place = _csv(path) if Path(path).suffix == ".csv" else _npz(path)
    seen = np.isfinite(t) & np.isfinite(place).all(-1)
    t, place = t[seen], place[seen]
    if len(t) < 2 or (np.diff(t) <= 0).any():
        raise BadInput(f"{path}: t has {len(t)} samples, or does not rise; expected times in s, one after the other")
    wanted = min(trials, int((t[-1] - t[0]) / dt) // steps)
    if wanted < 1:
        raise BadInput(
            f"{path}: t spans {t[-1] - t[0]:.3g} s; expected at least one trial of --steps, {steps * dt:g} s"
        )
    moments = t[0] + dt * np.arange(wanted * steps + 1)
    place = np.stack([np.interp(moments, t, along) for along in place.T], -1)
    place = gaussian_filter1d(place, SMOOTH / dt, axis=0)
    return place[np.arange(wanted)[:, None] * steps + np.arange(steps + 1)]


def describe(place, speed):
    """Print the box and mean speed of a path. place: (samples, 2) m; speed: m/s. Yields: what is implausible."""
    (left, bottom), (right, top) = np.quantile(place, [0.001, 0.999], axis=0)
    print(f"  path: a box of {right - left:.3g} x {top - bottom:.3g} m, mean speed {speed:.3g} m/s")
    size = max(right - left, top - bottom)
    if not (BOX[0] <= size <= BOX[1] and SPEED[0] <= speed <= SPEED[1]):
        yield (
            f"the path is in a box of {right - left:.3g} x {top - bottom:.3g} m at {speed:.3g} m/s in the mean; "
            f"expected {BOX[0]:g} to {BOX[1]:g} m and {SPEED[0]:g} to {SPEED[1]:g} m/s, as of an animal: are "
            "places in cm or pixels, or times in ms or frames"
        )


def _npz(path):
    with files.Archive(path) as file:
        place = ("pos",) if "pos" in file else ("x", "y")
        missing = [key for key in ("t", *place) if key not in file]
        if missing:
            keys = ", ".join(map(repr, list(file)[:9])) or "none"
            raise BadInput(f"{path}: has no key {missing[0]!r}; expected t, x and y, or t and pos (it has {keys})")
        t, *place = (_numbers(path, key, file[key]) for key in ("t", *place))
    place = place[0] if len(place) == 1 else np.stack(place, -1) if place[0].shape == place[1].shape else place[0]
    if t.ndim != 1 or place.shape != (len(t), 2):
        raise BadInput(f"{path}: t has shape {t.shape} and the places {place.shape}; expected (samples,), (samples, 2)")
    return t, place


def _csv(path):
    try:
        table = np.genfromtxt(path, delimiter=",", names=True, dtype=float, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise BadInput(f"{path}: has lines of unequal length; expected columns t, x, y between commas") from None
    names = table.dtype.names or ()
    if not {"t", "x", "y"} <= set(names):
        raise BadInput(f"{path}: has the columns {', '.join(names) or 'none'}; expected t, x and y in its first line")
    return np.atleast_1d(table["t"]), np.stack([np.atleast_1d(table["x"]), np.atleast_1d(table["y"])], -1)


def _numbers(path, key, array):
    if array.dtype.kind not in "fiu":
        raise BadInput(f"{path}: {key} has type {array.dtype.str}; expected real numbers")
    return array.astype(float)
