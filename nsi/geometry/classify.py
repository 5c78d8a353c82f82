"""Which attractor made these rates? A ring, a torus, two independent rings and a sheet of place cells, from the rates
and the velocity alone; and "cannot tell" where the evidence for each of them is missing.

They differ in how a velocity moves the leading components of the activity (plane_waves.by_velocity). On a ring all
waves have wave vectors along one line, on a torus three of the same length add up, and two rings are two waves along
different lines, each in neurons of its own. On a sheet that does not close, the place itself is a linear function of
the activity.
"""

from typing import NamedTuple

import numpy as np

import nsi.geometry.plane_waves as plane_waves
from nsi.geometry.detect import MIN_EXPLAINED, Evidence

MIN_EXPLAINED_RATIO = 3.0  # R^2 of the velocity relative to that of another trial's
MIN_PLACE_R2 = 0.2  # of the place as a linear function of the activity, on a sheet
PLACE_COMPONENTS = 40  # principal components of the activity in that regression
PLACE_RIDGE = 0.1  # of that regression, relative to the components' mean variance
MIN_NEURONS = 10
MIN_VARIANCE_RATIO = 1.2  # variance of the last component of a shape relative to the next
MAX_OFF_LINE = 0.25  # a ring's wave vectors across their common line, relative to along it
MIN_SINE = 0.5  # of the angle between two rings' wave vectors
MAX_SHARED = 0.35  # a neuron's part in the other ring, relative to its part in its own


class Classification(NamedTuple):
    """The shape of the activity, and the evidence for it."""

    shape: str  # "ring", "torus", "two rings", "place sheet" or "cannot tell"
    why: str
    evidence: dict  # numbers by name


def classify_shape(rec):
    """Which attractor made a recording's activity.

    rec: Recording, of which rates and velocity are used. Returns: Classification.
    """
    if rec.rates.shape[-1] < MIN_NEURONS:
        return Classification("cannot tell", f"{rec.rates.shape[-1]} neurons are too few", {})
    rng, d = np.random.default_rng(0), rec.velocity.shape[-1]
    variances, directions = plane_waves.leading(rec.rates[rec.valid])
    ratio = variances[:-1] / np.maximum(variances[1:], 1e-12)
    evidence = {"ring": float(ratio[1]), "two rings": float(ratio[3]), "torus": float(ratio[5])}

    def moved(count, velocity=rec.velocity):
        return plane_waves.by_velocity(rec.rates, velocity, rec.dt, rec.valid, directions[:, :count], rng)

    evidence["read"] = read = explained_place(rec)
    if read > MIN_PLACE_R2:
        return Classification("place sheet", f"the place is read linearly off the activity, R^2 {read:.2f}", evidence)
    movements = {"ring": moved(2), "two rings": moved(4), "torus": moved(6)}
    evidence |= {f"{name} moved": movement.explained for name, movement in movements.items()}
    others = np.roll(rec.velocity, 1, 0)
    least = max(MIN_EXPLAINED, MIN_EXPLAINED_RATIO * max(moved(count, others).explained for count in (2, 6)))
    trusted = {name for name, movement in movements.items() if movement.explained > least}
    if not trusted:
        most = max(0.0, *(m.explained for m in movements.values()))
        return Classification("cannot tell", f"the velocity explains {most:.1%} of the activity's changes", evidence)
    if "torus" in trusted and d == 2 and not Evidence(rec).against:
        return Classification("torus", "three waves of one length, 60 degrees apart, move with the velocity", evidence)
    waves, vectors, _ = movements["two rings"]
    if "two rings" in trusted and ratio[3] > MIN_VARIANCE_RATIO:
        a, b = vectors if d == 2 else np.zeros((2, 2))
        sine = abs(a[0] * b[1] - a[1] * b[0]) / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)
        size = np.sort(np.abs(waves) / np.median(np.abs(waves).max(0)), 1)
        other = float(np.median(size[:, 0] / np.maximum(size[:, 1], 1e-12)))
        evidence |= {"sine": float(sine), "other": other}
        if sine > MIN_SINE and other < MAX_SHARED:
            return Classification("two rings", "two waves along different lines, each in neurons of its own", evidence)
    if "ring" in trusted and ratio[1] > MIN_VARIANCE_RATIO:
        along = np.linalg.svd(vectors, compute_uv=False)
        evidence["line"] = float(along[1] / along[0]) if d > 1 else 0.0
        if evidence["line"] < MAX_OFF_LINE:
            return Classification("ring", "all waves move along one line of the velocity", evidence)
    return Classification("cannot tell", "what moves with the velocity is none of the shapes", evidence)


def explained_place(rec):
    """R^2 of ridge regression of the place within a trial, the velocity's integral, on the activity, over other trials.

    Where the place closes upon itself, it is no linear function of the activity beyond half a period. Returns: float.
    """
    directions = plane_waves.leading(rec.rates[rec.valid], PLACE_COMPONENTS)[1]
    y, x = rec.rates @ directions, rec.dt * rec.velocity.cumsum(1, dtype=float)
    y, x = (_centred(a, rec.valid) for a in (y, x))
    halves = [(y[k::2][rec.valid[k::2]], x[k::2][rec.valid[k::2]]) for k in (0, 1)]
    if not all(len(a) for a, _ in halves):
        return 0.0
    scores = []
    for fit, test in (halves, halves[::-1]):
        square = fit[0].T @ fit[0]
        ridge = PLACE_RIDGE * np.trace(square) / len(square) * np.eye(len(square))
        B = np.linalg.solve(square + ridge, fit[0].T @ fit[1])
        scores.append(1 - ((test[1] - test[0] @ B) ** 2).sum() / max((test[1] ** 2).sum(), 1e-12))
    return float(np.mean(scores))


def _centred(a, valid):
    """Each trial's values (trials, steps, k) without their mean over its valid steps."""
    a = np.where(valid[..., None], a, 0.0)
    return a - (a.sum(1) / valid.sum(1)[:, None])[:, None]
