"""Detect the shape of a recording's attractor, and the neurons' places on it."""

from functools import cached_property

import numpy as np

import nsi.geometry.plane_waves as plane_waves
from nsi.geometry.factors import fill_missing
from nsi.geometry.shapes import RING, SYMMETRIES, TORUS, Ring, Torus

MIN_PAIR_RATIO = 1.2  # variance of the sixth principal component relative to the seventh's
MAX_LENGTH_RATIO = 1.3  # longest wave vector relative to the shortest
MAX_GAP = 0.25  # length of k3 - k2 + k1, relative to the wave vectors' mean length
MIN_EXPLAINED = 0.1  # R^2 of the velocity, of the leading components' change
MIN_FOLLOWING = 0.5  # mean resultant of decoded and recorded heading, from which the heading places neurons
SPAN_S = 0.5  # s, over which movements are compared
MIN_NEURONS = 8  # of which a geometry may be denied
MAX_SAMPLES = 20_000  # steps that it is denied by
MIN_RING_R2 = 0.8  # share of the correlations' variance that distance on a ring explains, from which there is one
MAX_RING_MOMENT = 1.5  # E[d^4] / E[d^2]^2, d the distance from the centre of the leading plane: circle 1, normal 2
MIN_TURNING_R = 0.2  # correlation of velocity and turning, from which there is a ring
MAX_HEADING_ERROR = 0.8  # rad, of the heading decoded by preferred headings, below which these are the places


def places_of(rec, shape):
    """The recorded neurons' places: those that the activity spans, evenly spaced on a ring; but where a ring's heading
    is given, and the headings that neurons prefer decode it within MAX_HEADING_ERROR, these, unless evenly spaced ones
    agree with them, as they are or turned over. Returns: (n, D) rad."""
    places = shape.find(rec.rates[rec.valid])
    if shape.dimensions > 1 or rec.heading is None:
        return places
    some = rec.trials(slice(None, None, 1 + len(rec.rates) // 20))
    rates, heading = some.rates[some.valid], some.heading[some.valid][:, 0]
    bins = np.floor(heading % (2 * np.pi) / (2 * np.pi) * 36).astype(int) % 36
    count = np.maximum(np.bincount(bins, minlength=36), 1)
    tuning = np.stack([np.bincount(bins, x, 36) / count for x in rates.T])  # (n, bins)
    preferred = np.angle(tuning @ np.exp(1j * (np.arange(36) + 0.5) * np.pi / 18))[:, None] % (2 * np.pi)
    error = np.nanmean(shape.distance(shape.decode(rates, preferred), heading[:, None]))
    middle = np.angle(np.exp(1j * heading).mean())  # a heading that hardly changes places no neuron
    if not error < min(MAX_HEADING_ERROR, np.mean(np.abs(np.angle(np.exp(1j * (heading - middle))))) - error):
        return places
    for even in (places, -places % (2 * np.pi)):
        off = np.exp(1j * (even - preferred))[tuning.any(1)]
        if np.abs(np.angle(off * off.sum().conj())).max() < max(0.2, 2 * np.pi / len(places)):
            return even
    return preferred


def decoding_error(rec, shape, places):
    """Mean distance of the decoded heading from the given one, each trial's offset aside. Returns: rad."""
    off = np.exp(1j * shape.difference(shape.decode(rec.rates, places), rec.heading[..., : shape.dimensions]))
    off[~rec.valid] = np.nan
    offset = np.nansum(off, 1, keepdims=True)
    return float(np.nanmean(np.linalg.norm(np.angle(off * offset.conj()), axis=-1)))


def of(rec):
    """The geometry of a recording's attractor: a torus where two velocities move three waves as they should, else a
    ring; `said` describes it. Returns: Torus, which knows the places of the recording's neurons, or Ring."""
    if rec.velocity.shape[-1] != 2 or rec.rates.shape[-1] < 7:
        return RING
    evidence = Evidence(rec)
    return Ring(f"a ring: no torus, since {evidence.against}") if evidence.against else evidence.torus()


class Evidence:
    """Evidence of a recording of two velocities for and against a torus."""

    def __init__(self, rec):
        """rec: Recording, of two velocities and at least seven neurons."""
        self.rec, self.rates, self.rng = rec, rec.rates[rec.valid], np.random.default_rng(0)
        variances, self.directions = plane_waves.leading(self.rates)
        self.ratio = variances[5] / max(variances[6], 1e-12)
        self.movement = plane_waves.by_velocity(rec.rates, rec.velocity, rec.dt, rec.valid, self.directions, self.rng)
        self.found, signs, _ = plane_waves.phases(self.movement.waves)
        self.vectors = None if self.movement.vectors is None else self.movement.vectors * signs[:, None]

    @cached_property
    def against(self):
        """Why it is no torus, in words, or "" where all tests for one pass."""
        if self.ratio < MIN_PAIR_RATIO:
            return f"the sixth principal component has {self.ratio:.2g} times the variance of the seventh"
        if self.movement.explained < MIN_EXPLAINED:
            return f"the velocity explains {max(0, self.movement.explained):.1%} of how the activity changes"
        k = self.vectors
        length = np.linalg.norm(k, axis=1)
        if length.max() > MAX_LENGTH_RATIO * length.min():
            return f"its waves are {' : '.join(f'{x / length.max():.2f}' for x in length)} in length"
        if np.linalg.norm(k[2] - k[1] + k[0]) > MAX_GAP * length.mean():
            return "its waves are not 60 degrees apart"
        return ""

    def torus(self):
        """The torus, its neurons placed by whatever of the rates, the velocity and the heading places them best."""
        places = self._by_heading()
        if places is None:
            guesses = [self.found, plane_waves.phases(plane_waves.by_modulus(self.directions, self.rng))[0]]
            places = max((plane_waves.refine(self.rates, guess) for guess in guesses), key=self._clear)
            vectors = self._vectors(places)
            symmetry = max(SYMMETRIES, key=lambda M: np.trace(np.linalg.inv(Torus.K) @ M @ vectors))
            places = TORUS.on_sheet(places @ symmetry.T)
        u, _, v = np.linalg.svd(np.linalg.inv(Torus.K) @ self._vectors(places))
        return Torus(places, (u @ v).T)

    def _by_heading(self):
        """Each neuron's place by the recorded heading, however unevenly neurons cover the torus, or None where there is
        none, or the activity does not follow it."""
        heading = self.rec.heading
        if heading is None or heading.shape[-1] != 2:
            return None
        heading = heading[self.rec.valid]
        places = plane_waves.phases(plane_waves.mean_phases(self.rates, np.exp(1j * plane_waves.third(heading))))[0]
        follows = np.exp(1j * (TORUS.decode(self.rates, places) - heading)).mean(0)
        return TORUS.on_sheet(places, anchored=True) if np.abs(follows).min() > MIN_FOLLOWING else None

    def _clear(self, places):
        """Agreement of the three waves of each moment. Returns: at most 1."""
        angle = np.angle(self.rates[::10] @ np.exp(1j * plane_waves.third(places)))
        return np.cos(angle[:, 2] - angle[:, 1] + angle[:, 0]).mean()

    def _vectors(self, places):
        """Wave vectors by regression of the phases' movements on the velocity's. Returns: (2, 2)."""
        driven, turned = _movements(self.rec, np.unwrap(TORUS.decode(self.rec.rates, places), axis=1))
        return np.linalg.lstsq(driven, turned)[0].T


def _movements(rec, path):
    """By how much the velocity says that it moves over SPAN_S, and a path does. path: (trials, steps, ...) rad.
    Returns: (samples, D), (samples, ...) rad."""
    span = max(1, min(round(SPAN_S / rec.dt), path.shape[1] // 4))
    driven = rec.dt * rec.velocity.cumsum(1, dtype=float)
    return [(a[:, span:] - a[:, :-span])[rec.valid[:, span:]] for a in (driven, path)]


def lacks_geometry(rec):
    """Whether nothing of a recording speaks for a ring or a torus: the activity's correlations do not follow from
    places on a ring (where velocity has three components they may: a ring has one, a torus two), it is mostly near the
    middle of its leading plane, and the velocity does not turn it. rec: Recording. Returns: bool."""
    rec = fill_missing(rec)
    rates = rec.rates[rec.valid]
    thin = slice(None, None, 1 + len(rates) // MAX_SAMPLES)
    rates, active = rates[thin], rates.std(0) > 0
    if active.sum() < MIN_NEURONS:
        return False
    z = ((rates - rates.mean(0)) / np.where(active, rates.std(0), 1))[:, active].astype(np.float64)
    if rec.measured is None:
        correlation = z.T @ z / len(z)
    else:  # of pairs that were recorded together
        together = rec.measured[rec.valid][thin][:, active].astype(np.float64)
        correlation = (z * together).T @ (z * together) / np.maximum(together.T @ together, 1)
    values, vectors = np.linalg.eigh(correlation)
    angle = np.angle(vectors[:, -1] + 1j * vectors[:, -2])
    off = ~np.eye(len(angle), dtype=bool) & (correlation != 0)
    terms = np.cos((angle[:, None] - angle)[off][:, None] * np.arange(4))
    left = correlation[off] - terms @ np.linalg.lstsq(terms, correlation[off])[0]
    if rec.velocity.shape[-1] < 3 and 1 - left.var() / correlation[off].var() > MIN_RING_R2:
        return False
    square = ((z @ vectors[:, -2:]) ** 2 / values[-2:]).sum(1)
    if np.mean(square**2) / np.mean(square) ** 2 < MAX_RING_MOMENT:
        return False
    return rec.decoded or (_correlate_turning(rec, vectors[:, -2:]) < MIN_TURNING_R and of(rec).dimensions < 2)


def _correlate_turning(rec, plane):
    """Largest correlation of the velocity with how the activity turns in a plane. plane: (n', 2), of the z scores of
    neurons that are active at all."""
    rates = rec.rates[rec.valid]
    active = rates.std(0) > 0
    x, y = np.moveaxis((rec.rates[..., active] - rates[:, active].mean(0)) / rates[:, active].std(0) @ plane, -1, 0)
    driven, turned = _movements(rec, np.unwrap(np.arctan2(y, x), axis=1))
    with np.errstate(invalid="ignore"):
        return max(np.nan_to_num(abs(np.corrcoef(turned, v)[0, 1])) for v in driven.T)
