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

BEYOND = 3.0  # times what another trial's velocity explains, which the velocity must explain
READ = 0.2  # R^2 that a linear reading of the place must reach on a sheet
READERS, RIDGE = 40, 0.1  # components of the activity that it is read from, and its ridge, relative to their variance
FEWEST = 10  # neurons
STANDS_OUT = 1.2  # variance of the last component of a shape relative to the next
LINE = 0.25  # a ring's wave vectors across their common line, relative to along it
APART, OWN = 0.5, 0.35  # sine between two rings' wave vectors; a neuron's part in the other ring, relative to its own


class Classification(NamedTuple):
    """What the activity is, and why."""

    shape: str  # "ring", "torus", "two rings", "place sheet" or "cannot tell"
    why: str
    evidence: dict  # numbers by name


def classify_shape(rec):
    """Which attractor made a recording's activity.

    rec: Recording, rates and velocity of which are looked at. Returns: Classification.
    """
    rng, rates = np.random.default_rng(0), rec.rates[rec.valid]
    if rec.rates.shape[-1] < FEWEST:
        return Classification("cannot tell", f"{rec.rates.shape[-1]} neurons are too few", {})
    variances, directions = plane_waves.leading(rates)
    ratio = variances[:-1] / np.maximum(variances[1:], 1e-12)
    evidence = {"ring": float(ratio[1]), "two rings": float(ratio[3]), "torus": float(ratio[5])}

    def moved(count, velocity=rec.velocity):
        return plane_waves.by_velocity(rec.rates, velocity, rec.dt, rec.valid, directions[:, :count], rng)

    evidence["read"] = read = reading(rec)
    if read > READ:
        return Classification("place sheet", f"the place is read linearly off the activity, R^2 {read:.2f}", evidence)
    movements = {"ring": moved(2), "two rings": moved(4), "torus": moved(6)}
    others = np.roll(rec.velocity, 1, 0)
    for name, movement in movements.items():
        evidence[f"{name} moved"] = movement.explained
    other = max(0.0, *(moved(count, others).explained for count in (2, 6)))
    trusted = {k: m for k, m in movements.items() if m.explained > max(MIN_EXPLAINED, BEYOND * other)}
    if not trusted:
        most = max(0.0, *(m.explained for m in movements.values()))
        return Classification("cannot tell", f"the velocity explains {most:.1%} of the activity's changes", evidence)
    if "torus" in trusted and rec.velocity.shape[-1] == 2 and not Evidence(rec).against:
        return Classification("torus", "three waves of one length, 60 degrees apart, move with the velocity", evidence)
    if "two rings" in trusted and ratio[3] > STANDS_OUT:
        movement = movements["two rings"]
        a, b = movement.vectors if rec.velocity.shape[-1] == 2 else np.zeros((2, 2))
        lengths = max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)
        sine = abs(a[0] * b[1] - a[1] * b[0]) / lengths
        size = np.sort(np.abs(movement.waves) / np.median(np.abs(movement.waves).max(0)), 1)
        other = float(np.median(size[:, 0] / np.maximum(size[:, 1], 1e-12)))
        evidence |= {"sine": float(sine), "other": other}
        if sine > APART and other < OWN:
            return Classification("two rings", "two waves along different lines, each in neurons of its own", evidence)
    if "ring" in trusted and ratio[1] > STANDS_OUT:
        k = movements["two rings"].vectors
        along = np.linalg.svd(k, compute_uv=False)
        line = along[1] / along[0] if rec.velocity.shape[-1] > 1 else 0.0
        evidence["line"] = float(line)
        if line < LINE:
            return Classification("ring", "all waves move along one line of the velocity", evidence)
    return Classification("cannot tell", "what moves with the velocity is none of the shapes", evidence)


def reading(rec):
    """How well the place within a trial, the velocity's integral, is read linearly off the activity of trials left out.

    Where the place closes upon itself, no linear reading goes on beyond the half of a period. Returns: R^2.
    """
    directions = plane_waves.leading(rec.rates[rec.valid], READERS)[1]
    y, x = rec.rates @ directions, rec.dt * rec.velocity.cumsum(1, dtype=float)
    y, x = (_centred(a, rec.valid) for a in (y, x))
    halves = [(y[k::2][rec.valid[k::2]], x[k::2][rec.valid[k::2]]) for k in (0, 1)]
    if not all(len(a) for a, _ in halves):
        return 0.0
    found = []
    for fit, test in (halves, halves[::-1]):
        square = fit[0].T @ fit[0]
        B = np.linalg.solve(square + RIDGE * np.trace(square) / len(square) * np.eye(len(square)), fit[0].T @ fit[1])
        found.append(1 - ((test[1] - test[0] @ B) ** 2).sum() / max((test[1] ** 2).sum(), 1e-12))
    return float(np.mean(found))


def _centred(a, valid):
    """Each trial's values (trials, steps, k) without their mean over its valid steps."""
    a = np.where(valid[..., None], a, 0.0)
    return a - (a.sum(1) / valid.sum(1)[:, None])[:, None]
