"""One long session as trials: cut at its gaps, scaled neuron by neuron, with the velocity of its heading or place."""

import itertools

import numpy as np
from scipy.ndimage import gaussian_filter1d

from nsi.geometry import Torus
from nsi.run.files import BadInput

TOP = 0.8  # what the 99th percentile of a neuron's rates becomes


def stretches(time, longest, shortest):
    """Stretches of a session without a gap, of at most `longest` s and no less than `shortest`. time: (steps,) s.

    Returns: list of slices. A gap is where time goes on by more than 1.5 steps.
    """
    dt = np.median(np.diff(time))
    cuts, most, parts = [0, *(np.flatnonzero(np.diff(time) > 1.5 * dt) + 1), len(time)], max(1, round(longest / dt)), []
    for start, stop in itertools.pairwise(cuts):
        parts += [slice(k, min(k + most, stop)) for k in range(start, stop, most)]
    return [part for part in parts if (part.stop - part.start) * dt >= shortest]


def cut(time, rates, heading, smooth=0.0, longest=10.0, shortest=2.0):
    """A session as the arrays of a data file.

    time: (steps,) s, evenly spaced but for gaps; rates: (steps, N) in any unit, counts too; heading: (steps,) rad,
    wrapped or not; smooth: s.d., s, of a Gaussian for both, or 0; longest, shortest: s, of a trial.
    Returns: dict of rates, velocity (derived from the heading), heading, dt, lengths, as `recordings.save` writes.
    Raises: BadInput where the arrays do not agree, or no stretch is long enough.
    """
    heading = np.asarray(heading, float)[:, None]
    data = _trials(time, rates, heading, "heading", np.unwrap, smooth, longest, shortest)
    data["heading"] = data["heading"] % np.float32(2 * np.pi)
    return data


def cut_path(time, rates, position, spacing, smooth=0.0, longest=10.0, shortest=2.0):
    """A session in a box as the arrays of a data file of grid cells: as `cut`, with a place instead of a heading.

    position: (steps, 2) m; spacing: m, of the firing fields. Returns: dict of rates, velocity (2 components, rad/s of
    phase), position, dt, lengths. Raises: as `cut`.
    """
    data = _trials(time, rates, np.asarray(position, float), "position", None, smooth, longest, shortest)
    data["velocity"] = data["velocity"] * np.float32(Torus(spacing=spacing).per_metre)
    return data


def _trials(time, rates, course, name, along, smooth, longest, shortest):
    """Rates and a course (steps, D) of a session, and the course's velocity, as padded trials."""
    time, rates = (np.asarray(a, float) for a in (time, rates))
    if rates.ndim != 2 or len(time) < 2 or not len(time) == len(course) == len(rates) or time.ndim != 1:
        shapes = f"time {time.shape}, rates {rates.shape} and {name} {course.shape}"
        raise BadInput(f"{shapes} do not agree; expected as many steps of each, and (steps, N) rates")
    dt, trials = float(np.median(np.diff(time))), []
    for part in stretches(time, longest, shortest):
        r, place = rates[part], course[part] if along is None else along(course[part], axis=0)
        if smooth:
            r, place = (gaussian_filter1d(x, smooth / dt, axis=0, mode="nearest") for x in (r, place))
        trials.append({"rates": r, "velocity": np.gradient(place, dt, axis=0), name: place})
    if not trials:
        raise BadInput(
            f"time has no stretch of {shortest:g} s without a gap; expected longer ones, or a smaller `shortest`"
        )
    high = np.quantile(np.concatenate([t["rates"] for t in trials]), 0.99, axis=0)
    lengths = np.array([len(t["rates"]) for t in trials])
    for t in trials:
        t["rates"] = TOP * t["rates"] / np.where(high > 0, high, 1)
    pad = lambda x: np.pad(x, ((0, lengths.max() - len(x)), (0, 0))).astype(np.float32)  # noqa: E731
    return {k: np.stack([pad(t[k]) for t in trials]) for k in trials[0]} | {"dt": dt, "lengths": lengths}
