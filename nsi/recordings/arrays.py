"""What readers and checks share: short gaps, trials padded to one array, and numbers in words."""

import numpy as np


def list_some(items, most=5):
    """A few of many numbers, in words."""
    items = [f"{item:.4g}" if isinstance(item, float) else str(item) for item in items]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


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
    """Trials of different lengths as arrays that are zero in the padding.

    trials: list of {key: (steps, any)}. Returns: {key: (trials, steps, any) float32}, and `lengths` (trials,).
    """
    lengths = np.array([len(trial[keys[0]]) for trial in trials])
    padded = {key: np.zeros((len(trials), lengths.max(), trials[0][key].shape[1]), np.float32) for key in keys}
    for key, array in padded.items():
        for row, trial in zip(array, trials, strict=True):
            row[: len(trial[key])] = trial[key]
    return padded | {"lengths": lengths}
