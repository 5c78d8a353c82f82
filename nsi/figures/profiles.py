"""Profiles of an estimate: its mean over pairs of neurons by their distance, and what noise leaves open of it."""

from typing import NamedTuple

import numpy as np

from nsi.estimation.regression import NORMAL
from nsi.figures.style import draw_band

MAX_BINS = 36  # of distance


class Profile(NamedTuple):
    """By distance: pairs whose interval has no end are left out."""

    degrees: np.ndarray  # distance, to minus from
    mean: np.ndarray  # of the best estimate over pairs
    sd: np.ndarray  # likewise
    low: np.ndarray  # of the mean's 95 % interval for noise alone
    high: np.ndarray


def profile_with_interval(best, centre, se, geometry, places):
    """The mean of a best estimate by distance, and the 95 % interval of the unbiased mean for noise alone.

    Weights onto one neuron come from one regression, so that their errors may all go together; different neurons have
    noise of their own. Signals that describe hidden neurons only nearly err alike for all neurons, which no mean over
    them reduces: such errors are in the intervals of single weights, and not in this one.

    best: (n, n); centre, se: of its intervals, likewise. Returns: Profile.
    """
    n, flat = len(best), geometry.dimensions == 1
    known = np.isfinite(se) & ~np.eye(n, dtype=bool)
    count = min(n, MAX_BINS)
    if flat:  # bins are centred on the distances of neurons that lie evenly, half a turn counting as minus half a turn
        width = 2 * np.pi / count
        low = -np.pi - width / 2
        signed = (geometry.difference(places[None], places[:, None])[..., 0] - low) % (2 * np.pi) + low
    else:
        signed = geometry.distance(places[None], places[:, None])
        low, width = 0.0, signed.max() / count
    which = np.clip((signed - low) // width, 0, count - 1)
    rows = []
    for here in (known & (which == k) for k in range(count)):
        if here.any():
            half = NORMAL * np.sqrt(np.square(np.where(here, se, 0).sum(0)).sum()) / here.sum()
            x, middle = best[here], centre[here].mean()
            rows.append((np.degrees(signed[here].mean()), x.mean(), x.std(), middle - half, middle + half))
    return Profile(*np.array(rows).reshape(-1, 5).T)


def draw_interval(ax, estimated, geometry, places):
    """Draw the interval of an estimate's mean by distance as a band.

    estimated: best estimate, centre and standard error of its intervals, (n, n). Returns: Profile."""
    profile = profile_with_interval(*estimated, geometry, places)
    draw_band(ax, profile.degrees, profile.low, profile.high, "95 % for noise alone")
    return profile
