"""What readers and checks share: correlations, short gaps, trials padded to one array, and numbers in words."""

import numpy as np


def list_some(items, most=5):
    """A few of many numbers, in words."""
    items = [f"{item:.4g}" if isinstance(item, float) else str(item) for item in items]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def correlate(x, y):
    """The correlation of x and y along their first axis, 0 where either is constant."""
    x, y = x - x.mean(0), y - y.mean(0)
    return (x * y).sum(0) / np.sqrt(np.maximum((x * x).sum(0) * (y * y).sum(0), 1e-12))


def short_gaps(known, most):
    """Values to interpolate: those in gaps of a sequence. known: (steps,) bool; most: steps from the known value before
    a gap to the one after it. Returns: indices of these values, and of the known ones before and after each."""
    there, missing = np.flatnonzero(known), np.flatnonzero(~known)
    after = np.searchsorted(there, missing)
    inside = (after > 0) & (after < len(there))
    missing, before, after = missing[inside], there[after[inside] - 1], there[after[inside]]
    short = after - before <= most
    return missing[short], before[short], after[short]


def pad_trials(trials, keys):
    """Trials of different lengths as arrays that are zero in the padding. trials: list of {key: (steps, any)}. Returns:
    {key: (trials, steps, any) float32}, and `lengths` (trials,)."""
    lengths = np.array([len(trial[keys[0]]) for trial in trials])
    pad = lambda x: np.pad(x.astype(np.float32), ((0, lengths.max() - len(x)), (0, 0)))
    return {key: np.stack([pad(trial[key]) for trial in trials]) for key in keys} | {"lengths": lengths}
