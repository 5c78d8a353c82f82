"""The plane waves that the activity of a torus of neurons is made of, found from the activity alone.

A bump on a hexagonal torus drives neuron i by functions of three phases, phi1, phi2 and phi3 = phi2 - phi1, so that the
six leading principal components of the activity are three planes, one wave each: in its own plane, neuron i lies on a
circle, at the angle of its phase. `by_modulus` finds the planes from the rates: each neuron lies as far from the centre
as every other in each of them. `by_velocity` uses the velocity v, which turns the plane of the wave with wave vector k
at k.v rad/s: the planes are eigenvectors of the map from activity and velocity to the activity's change, and its
eigenvalues are the wave vectors.
"""

import itertools
from typing import NamedTuple

import numpy as np

from nsi.sums import sum_products

WAVES = 3
MAX_SAMPLES = 20000
CHANGE_STEPS = 5, 10, 20  # over which a change is measured
MAX_LAG_S = 0.15  # s, by which a change may come after the velocity
PHASE_BINS = 12  # per phase, in which the occupancy of the torus is counted
ITERATIONS = 5


class Movement(NamedTuple):
    """Movement of the leading components of the activity with the velocity."""

    waves: np.ndarray  # (n, 3) complex: each neuron in the planes of the three waves
    vectors: np.ndarray  # (3, D): their wave vectors, rad of phase per velocity and second
    explained: float  # R^2 of the components' change


def third(phases):
    """The three phases of two. phases: (..., 2) rad. Returns: (..., 3) rad, not wrapped."""
    return np.concatenate([phases, phases[..., 1:] - phases[..., :1]], -1)


def leading(rates, count=2 * WAVES):
    """Principal components over neurons. rates: (samples, n). Returns: all variances, and directions (n, count)."""
    some = rates[:: max(1, len(rates) // MAX_SAMPLES)].astype(np.float64)
    variances, vectors = np.linalg.eigh(np.cov(some, rowvar=False))
    return variances[::-1], vectors[:, ::-1][:, :count]


def by_modulus(directions, rng):
    """The waves from the directions alone: symmetric S with y_i' S y_i alike for all neurons i share their planes.

    directions: (n, 6); rng: numpy Generator. Returns: (n, 3) complex, each wave up to its sign.
    """
    y = directions / np.sqrt((directions**2).sum(1).mean() / directions.shape[1])
    size = y.shape[1]
    rows, columns = np.triu_indices(size)
    quadratic = y[:, rows] * y[:, columns] * np.where(rows == columns, 1, 2)
    _, _, found = np.linalg.svd(quadratic - quadratic.mean(0), full_matrices=True)
    alike = np.zeros((WAVES, size, size))
    alike[:, rows, columns] = alike[:, columns, rows] = found[::-1][:WAVES]
    values, bases = np.linalg.eigh(np.tensordot(rng.standard_normal((200, WAVES)), alike, 1))
    gaps = np.diff(values)
    z = y @ bases[np.argmax(gaps[:, 1::2].min(1) / (gaps[:, ::2].max(1) + 1e-12))]  # the best paired
    return np.stack([_round(z[:, 2 * k : 2 * k + 2]) for k in range(WAVES)], 1)


def _round(plane):
    """The linear image of a plane's points (n, 2) that lies on a circle, where there is one. Returns: (n,) complex."""
    x, y = plane.T
    a, b, c = np.linalg.lstsq(np.stack([x * x, 2 * x * y, y * y], 1), np.ones(len(x)))[0]
    values, axes = np.linalg.eigh([[a, b], [b, c]])
    if (values > 0).all():
        plane = plane @ (axes * np.sqrt(values)) @ axes.T
    return plane[:, 0] + 1j * plane[:, 1]


def by_velocity(rates, velocity, dt, valid, directions, rng):
    """The waves and wave vectors from how the components change: dy = sum_d v_d y A_d, the A_d diagonalised jointly.

    rates: (trials, steps, n); velocity: (trials, steps, D) rad/s; dt: s; valid: (trials, steps) bool; directions:
    (n, even number). Returns: Movement, of half as many waves as there are directions.
    """
    y = (rates - rates[valid].mean(0, dtype=np.float64)) @ directions
    scale = y[valid].std(0) + 1e-12
    y, moved = y / scale, dt * np.pad(velocity, ((0, 0), (1, 0), (0, 0))).cumsum(1, dtype=np.float64)[:, :-1]
    best = None
    for step, lag in itertools.product(CHANGE_STEPS, range(round(MAX_LAG_S / dt) + 1)):
        if step + lag >= y.shape[1]:
            continue
        early, late, ended = y[:, lag:-step], y[:, lag + step :], valid[:, lag + step :]
        driven = (moved[:, step:] - moved[:, :-step])[:, : early.shape[1]]
        every = max(1, int(ended.sum()) // MAX_SAMPLES)
        early, late, driven = (a[ended][::every].astype(np.float64) for a in (early, late, driven))
        mean, change = (early + late) / 2, late - early
        X = (driven[:, :, None] * mean[:, None]).reshape(len(mean), -1)
        A = np.linalg.lstsq(X, change)[0]
        explained = 1 - ((change - X @ A) ** 2).sum() / max((change**2).sum(), 1e-30)
        if best is None or explained > best[0]:
            best = explained, A
    if best is None:
        return Movement(np.zeros((len(directions), directions.shape[1] // 2), complex), None, 0.0)
    turns = [(a - a.T) / 2 for a in np.split(best[1], velocity.shape[-1])]
    mixtures = np.tensordot(rng.standard_normal((100, len(turns))), turns, 1)
    values, vectors = np.linalg.eigh(1j * mixtures)
    apart = np.diff(values).min(1) / np.maximum(np.abs(values).max(1), 1e-30)
    values, vectors = values[np.argmax(apart)], vectors[np.argmax(apart)]
    planes = vectors[:, np.argsort(-values)[: len(values) // 2]]  # of each pair, the one with a positive eigenvalue
    k = np.stack([np.einsum("iw,ij,jw->w", planes.conj(), 1j * a, planes).real for a in turns], 1)
    return Movement(directions / scale @ planes, k, float(best[0]))


def phases(waves):
    """Two phases from three waves, whose signs are chosen so that the third is the second minus the first.

    waves: (n, 3) complex. Returns: phases (n, 2) rad, the misfit being shared; signs (3,); agreement, 1 for no misfit.
    """
    angle, best = np.angle(waves), (-1.0,)
    for signs in itertools.product((1, -1), (1, -1), (1,)):
        a = angle * signs
        mean = np.exp(1j * (a[:, 2] - a[:, 1] + a[:, 0])).mean()
        if abs(mean) > best[0]:
            best = abs(mean), signs, a, np.angle(mean)
    agreement, signs, a, offset = best
    return shared(a - [0, 0, offset]), np.array(signs), agreement


def shared(three):
    """Two phases (..., 2) from three (..., 3) that nearly agree, the misfit shared among them."""
    misfit = np.angle(np.exp(1j * (three[..., 2] - three[..., 1] + three[..., 0]))) / 3
    return np.angle(np.exp(1j * np.stack([three[..., 0] - misfit, three[..., 1] + misfit], -1)))


def mean_phases(rates, moments):
    """Each neuron's phases, those of its mean activity, all parts of the torus counting alike.

    rates: (samples, n); moments: (samples, 3) complex, of modulus 1: where the activity is. Returns: (n, 3) complex.
    """
    cell = np.floor(np.angle(moments[:, :2]) % (2 * np.pi) / (2 * np.pi) * PHASE_BINS).astype(int) % PHASE_BINS
    cell = cell[:, 0] * PHASE_BINS + cell[:, 1]
    even = moments / np.maximum(np.bincount(cell, minlength=PHASE_BINS**2), 1)[cell][:, None]
    return sum_products(rates, even.real) + 1j * sum_products(rates, even.imag)


def refine(rates, estimate):
    """Find phases of neurons and of moments in turn. rates: (samples, n); estimate: (n, 2) rad. Returns: (n, 2) rad."""
    some = rates[:: max(1, len(rates) // MAX_SAMPLES)]
    for _ in range(ITERATIONS):
        there = np.exp(1j * third(estimate)).astype(np.complex64)
        z = some @ there.real + 1j * (some @ there.imag)
        there = np.abs(z).min(1) > 0
        estimate = phases(mean_phases(some[there], z[there] / np.abs(z[there])))[0]
    return estimate
