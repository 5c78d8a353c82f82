"""One long session as trials: cut at its gaps, scaled neuron by neuron, with the velocity of its heading."""

import itertools

import numpy as np
from scipy.ndimage import gaussian_filter1d

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
    time, rates, heading = (np.asarray(a, float) for a in (time, rates, heading))
    if rates.ndim != 2 or len(time) < 2 or time.shape != heading.shape or len(rates) != len(time):
        shapes = f"time {time.shape}, rates {rates.shape} and heading {heading.shape}"
        raise BadInput(f"{shapes} do not agree; expected (steps,), (steps, N) and (steps,)")
    dt, trials = float(np.median(np.diff(time))), []
    for part in stretches(time, longest, shortest):
        r, angle = rates[part], np.unwrap(heading[part])
        if smooth:
            r, angle = (gaussian_filter1d(x, smooth / dt, axis=0, mode="nearest") for x in (r, angle))
        trials.append({"rates": r, "velocity": np.gradient(angle, dt)[:, None], "heading": angle[:, None]})
    if not trials:
        raise BadInput(
            f"time has no stretch of {shortest:g} s without a gap; expected longer ones, or a smaller `shortest`"
        )
    high = np.quantile(np.concatenate([t["rates"] for t in trials]), 0.99, axis=0)
    lengths = np.array([len(t["rates"]) for t in trials])
    for t in trials:
        t["rates"] = TOP * t["rates"] / np.where(high > 0, high, 1)
        t["heading"] = t["heading"] % (2 * np.pi)
    pad = lambda x: np.pad(x, ((0, lengths.max() - len(x)), (0, 0))).astype(np.float32)  # noqa: E731
    return {k: np.stack([pad(t[k]) for t in trials]) for k in trials[0]} | {"dt": dt, "lengths": lengths}
