"""The shape of an attractor: where its neurons are, how far apart, and which way the activity points.

Everything that knows it is here, in one class per shape: `Ring`, of heads' directions, and `Torus`, of grid cells.
Places and angles carry a last axis of as many phases as the attractor has dimensions, D.
"""

import itertools
from functools import cached_property

import numpy as np

from nsi import waves

HARMONICS = 30  # around a ring, of which a profile over distance is made at most
SHEET_WAVES = 5  # the same on a torus, the shortest wave vector being 1


class Ring:
    """A ring of neurons, each with a preferred heading: D = 1."""

    dimensions = 1
    NEAR = 0.6 * np.pi  # rad, pairs that one bump can hold
    LOOSE = None  # spread of the prior under which solve.py looks for the mean profile besides the chosen one

    def __init__(self, said="a ring"):
        """said: what a recording's activity was found to be, in words."""
        self.said = said

    def defaults(self, n):
        """What train.py chooses for n neurons where its options do not say. Returns: dict of options."""
        return {"forcing": 0.1, "rounds": 3}

    def movement(self, velocity):
        """How fast a velocity moves the activity. velocity: (..., any) rad/s. Returns: (..., 1) rad/s."""
        return velocity[..., :1]

    def displacement(self, difference):
        """A difference of places in the velocity's own components. difference: (..., 1) rad. Returns: the same."""
        return difference

    def places(self, n):
        """Preferred headings of n neurons in order around the ring. Returns: (n, 1) rad."""
        return (np.arange(n) * 2 * np.pi / n)[:, None]

    def find(self, rates):
        """Each neuron's place on the ring that the activity itself spans, whatever the neurons' order in the file.

        The two leading principal components of activity that circulates on a ring are its cosine and sine; they order
        the neurons, which are taken to tile the ring evenly. The angles increase with the neurons' index, and lie as
        near to `places` as a rotation can bring them: neurons in order around the ring get `places` itself.

        rates: (..., n). Returns: (n, 1) rad.
        """
        n = rates.shape[-1]
        angles = self.places(n)[:, 0]
        if n < 3:
            return angles[:, None]
        _, vectors = np.linalg.eigh(np.cov(rates.reshape(-1, n), rowvar=False))
        z = vectors[:, -1] + 1j * vectors[:, -2]
        if np.sum(np.imag(z[1:] * z[:-1].conj())) < 0:
            z = z.conj()
        rank = np.argsort(np.argsort(np.angle(z)))
        turns = [np.sum(np.cos(angles[(rank + s) % n] - angles)) for s in range(n)]
        return angles[(rank + np.argmax(turns)) % n][:, None]

    def decode(self, rates, places):
        """Population-vector angle. rates: (..., n); places: (n, 1) rad.

        Returns: (..., 1) rad in (-pi, pi], NaN where no neuron fires: silence has no angle.
        """
        x, y = (rates @ a.astype(np.result_type(rates, np.float32)) for a in (np.cos(places), np.sin(places)))
        return np.where(np.any(rates, -1)[..., None], np.arctan2(y, x), np.nan)

    def difference(self, a, b):
        """Signed smallest angle from b to a. Returns: rad in (-pi, pi], shaped like a - b."""
        return np.angle(np.exp(1j * (np.asarray(a) - b)))

    def distance(self, a, b):
        """How far a is from b. a, b: (..., 1) rad. Returns: (...) rad."""
        return np.linalg.norm(self.difference(a, b), axis=-1)

    def bump(self, places, start):
        """A first guess at the state of a bump. places: (n, 1) rad; start: (trials, 1) rad. Returns: (trials, n)."""
        return np.maximum(0, np.cos(places[:, 0] - start))

    def order(self, places):
        """Neurons in order around the ring. places: (n, 1) rad. Returns: (n,) indices."""
        return np.argsort(places[:, 0])

    def near(self, places):
        """Pairs of neurons at most NEAR apart. places: (n, 1) rad. Returns: (n, n) bool."""
        return self.distance(places[:, None], places) <= self.NEAR + 1e-9

    def profile(self, W):
        """Mean and s.d. of the weights at each signed distance, to minus from, of neurons in order around the ring.

        W: (n, n). Returns: distance (n,) rad from -pi, mean (n,), s.d. (n,).
        """
        n = len(W)
        steps = np.arange(n) - n // 2
        entries = np.stack([W[np.arange(n), (np.arange(n) + s) % n] for s in steps])  # (distance, i)
        return steps * 2 * np.pi / n, entries.mean(1), entries.std(1)

    def terms(self, places):
        """Fourier terms over the signed distance, to minus from, that a profile is a sum of.

        places: (n, 1) rad. Returns: (m, n, n), of unit mean square, and their frequency (m,) in periods around.
        """
        n, apart = len(places), (places.T - places).astype(np.float64)
        orders = np.arange(1, min(n // 2, HARMONICS) + 1)
        waves_ = [f(k * apart) * np.sqrt(2) for k in orders for f in (np.cos, np.sin)]
        return np.stack([np.ones_like(apart), *waves_]) / np.sqrt(n), np.concatenate([[0], np.repeat(orders, 2)])

    def mean_profile(self, W, places, mask):
        """W's mean at each distance, over the pairs of a mask, put back in the place of every pair.

        W: (n, n); places: (n, 1) rad, evenly spaced; mask: (n, n) bool. Returns: (n, n), 0 where no pair is.
        """
        n = len(W)
        apart = np.round(self.difference(places.T, places) * n / (2 * np.pi)).astype(int) % n  # (from, to)
        total = np.bincount(apart[mask], W[mask], n)
        return (total / np.maximum(np.bincount(apart[mask], minlength=n), 1))[apart]


class Torus:
    """A hexagonal torus of neurons, as of a module of grid cells: D = 2 phases, of which a third is the difference.

    An animal at x (2,) m has phases K x times rad per metre, K the wave vectors: unit vectors 60 degrees apart. So a
    pair of phases is a place in the plane, but for the lattice of the firing fields, and distances are those of the
    plane: in rad, a period being 4 pi / sqrt(3) = 7.26.
    """

    dimensions = 2
    NEAR = 2.2  # rad, pairs that one bump can hold
    LOOSE = 1.0
    K = np.array([[1, 0], [0.5, np.sqrt(0.75)]])
    ALL = np.array([[1, 0], [0.5, np.sqrt(0.75)], [-0.5, np.sqrt(0.75)]])  # the third is the second minus the first

    def __init__(self, known=None, axes=None, spacing=0.5, said="a torus"):
        """known: (n, 2) rad, the places of a recording's neurons, where they are known; axes: (2, 2) orthogonal,
        velocity @ axes being along the torus' own axes, where the recording's are turned; spacing: m, of the firing
        fields; said: what a recording's activity was found to be, in words.
        """
        self.known, self.axes = known, np.eye(2) if axes is None else axes
        self.spacing, self.said = spacing, said

    @property
    def per_metre(self):
        """rad of displacement per m."""
        return 4 * np.pi / (np.sqrt(3) * self.spacing)

    def defaults(self, n):
        """What train.py chooses for n neurons where its options do not say. Returns: dict of options."""
        return {"input_units": int(np.clip(n, 100, 196)), "forcing": 1.0, "rounds": 4}

    def movement(self, velocity):
        """How fast a velocity moves the activity. velocity: (..., 2) rad/s. Returns: (..., 2) rad/s of the phases."""
        return velocity @ self.axes @ self.K.T

    def phases(self, position):
        """Where the bump is while the animal is at a position. position: (..., 2) m. Returns: (..., 2) rad."""
        return self.movement(self.per_metre * position)

    def displacement(self, difference):
        """A difference of phases as a displacement in the velocity's own components. difference: (..., 2) rad.
        Returns: (..., 2) rad."""
        return difference @ np.linalg.inv(self.K).T @ self.axes.T

    def places(self, n):
        """Phases of n neurons on a rhombic sheet of equal sides, row by row. Returns: (n, 2) rad.

        Raises: ValueError where n is no square.
        """
        side = round(np.sqrt(n))
        if side**2 != n:
            raise ValueError(f"{n} neurons make no sheet of equal sides")
        phase = 2 * np.pi * np.arange(side) / side
        return np.stack(np.meshgrid(phase, phase, indexing="ij"), -1).reshape(-1, 2)

    def find(self, rates):
        """Each neuron's phases, as the activity has them, whatever the neurons' order in the file.

        Those of `known` where they are; else by `waves.by_modulus`, which leaves the torus' symmetries open.
        rates: (..., n). Returns: (n, 2) rad.
        """
        n = rates.shape[-1]
        if self.known is not None and len(self.known) == n:
            return self.known
        rates = rates.reshape(-1, n)
        planes = waves.by_modulus(waves.leading(rates)[1], np.random.default_rng(0))
        return self.on_sheet(waves.refine(rates, waves.phases(planes)[0]))

    def on_sheet(self, found, anchored=False):
        """Phases moved alike so that they lie as near to `places` as that can bring them, and, where each neuron then
        has one of these places for itself, these. Other numbers of neurons than squares stay as they are.

        found: (n, 2) rad; anchored: move them by no more than to the next place. Returns: (n, 2) rad.
        """
        side = round(np.sqrt(len(found)))
        if side**2 != len(found):
            return found
        sheet, step = self.places(len(found)), 2 * np.pi / side
        moved = found - np.angle(np.exp(1j * side * found).mean(0)) / side
        if not anchored:
            moved = moved + np.round(np.angle(np.exp(1j * (sheet - moved)).mean(0)) / step) * step
        index = np.round(moved / step).astype(int) % side @ [side, 1]
        return sheet[index] if len(np.unique(index)) == len(found) else found

    def decode(self, rates, places):
        """Population-vector phases. rates: (..., n); places: (n, 2) rad. Returns: (..., 2) rad in (-pi, pi]."""
        return waves.shared(np.angle(rates @ np.exp(1j * waves.third(places))))

    def difference(self, a, b):
        """Difference of phases, of all that differ by whole turns the one nearest in the plane. Returns: like a - b."""
        difference = np.angle(np.exp(1j * (np.asarray(a) - b)))
        turns = 2 * np.pi * np.array(list(itertools.product((-1, 0, 1), repeat=2)))
        nearest, least = difference, self._size(difference)
        for turn in turns:
            other = self._size(difference + turn)
            closer = other < least - 1e-12
            nearest, least = np.where(closer[..., None], difference + turn, nearest), np.where(closer, other, least)
        return nearest

    def distance(self, a, b):
        """How far a is from b in the plane. a, b: (..., 2) rad. Returns: (...) rad."""
        return self._size(self.difference(a, b))

    def _size(self, difference):
        return np.linalg.norm(difference @ np.linalg.inv(self.K).T, axis=-1)

    def bump(self, places, start):
        """A first guess at the state of a bump. places: (n, 2) rad; start: (trials, 2) rad. Returns: (trials, n)."""
        apart = waves.third(places) - waves.third(np.asarray(start))[:, None]
        return np.maximum(0, np.cos(apart).mean(-1))

    def order(self, places):
        """Neurons row by row, forth and back, so that neighbours follow. places: (n, 2) rad. Returns: (n,) indices."""
        rows = max(1, round(np.sqrt(len(places))))
        first, second = (places % (2 * np.pi)).T
        row = np.round(first * rows / (2 * np.pi)).astype(int) % rows
        return np.lexsort((second * (-1.0) ** row, row))

    def near(self, places):
        """Pairs of neurons at most NEAR apart. places: (n, 2) rad. Returns: (n, n) bool."""
        return self.distance(places[:, None], places) <= self.NEAR + 1e-9

    def profile(self, W):
        """Mean and s.d. of the weights at each difference of phases, to minus from, of neurons on a sheet row by row.

        W: (n, n). Returns: difference (n, 2) rad, mean (n,), s.d. (n,).
        """
        n = len(W)
        entries = np.take_along_axis(W, self._steps(self.places(n)).argsort(1), 1)  # (from, difference)
        return self.difference(self.places(n), 0), entries.mean(0), entries.std(0)

    def terms(self, places):
        """Fourier terms over the difference of phases, to minus from, that a profile is a sum of.

        places: (n, 2) rad. Returns: (m, n, n), of unit mean square, and their frequency (m,), that of the shortest
        waves being 1.
        """
        n, apart, most = len(places), places - places[:, None], range(-SHEET_WAVES, SHEET_WAVES + 1)
        orders = [(a, b) for a, b in itertools.product(most, repeat=2) if (a, b) > (0, 0)]
        length = {(a, b): np.linalg.norm(np.array([a, b]) @ self.K) for a, b in orders}
        orders = sorted((k for k in orders if length[k] <= SHEET_WAVES + 1e-9), key=length.get)[: (n - 1) // 2]
        angle = np.stack([a * apart[..., 0] + b * apart[..., 1] for a, b in orders])
        both = np.stack([np.cos(angle), np.sin(angle)], 1).reshape(-1, n, n) * np.sqrt(2)
        frequency = np.repeat([length[k] for k in orders], 2)
        return np.concatenate([np.ones_like(both[:1]), both]) / np.sqrt(n), np.concatenate([[0], frequency])

    def mean_profile(self, W, places, mask):
        """W's mean at each difference of phases, over the pairs of a mask, put back in the place of every pair.

        Of neurons that are not on a sheet it is the Fourier series of second order that is nearest to W over the mask.
        W: (n, n); places: (n, 2) rad; mask: (n, n) bool. Returns: (n, n), 0 where no pair is.
        """
        steps = self._steps(places)
        if steps is not None:
            total = np.bincount(steps[mask], W[mask], len(W))
            return (total / np.maximum(np.bincount(steps[mask], minlength=len(W)), 1))[steps]
        series = self._series(places)
        x = series[:, mask]
        square = x @ x.T
        coefficients = np.linalg.lstsq(square + 1e-9 * np.trace(square) * np.eye(len(x)), x @ W[mask])[0]
        return np.tensordot(coefficients, series, 1)

    def _steps(self, places):
        """The number of each pair's difference of places on a sheet, or None where neurons are not on one. (n, n)."""
        n, side = len(places), round(np.sqrt(len(places)))
        exact = places * side / (2 * np.pi)
        index = np.round(exact).astype(int)
        if side**2 != n or np.abs(exact - index).max() > 1e-6 or len(np.unique(index % side @ [side, 1])) < n:
            return None
        return (index - index[:, None]) % side @ [side, 1]

    def _series(self, places):
        """The terms of a Fourier series of second order in the differences of phases. Returns: (19, n, n)."""
        apart = places - places[:, None]
        orders = [(a, b) for a, b in itertools.product(range(-2, 3), repeat=2) if abs(a + b) <= 2 and (a, b) > (0, 0)]
        angle = np.stack([a * apart[..., 0] + b * apart[..., 1] for a, b in orders])
        return np.concatenate([np.ones_like(angle[:1]), np.cos(angle), np.sin(angle)])


RING, TORUS = Ring(), Torus()


# ---- which shape a recording's attractor has --------------------------------------------------------------------

PAIRS = 1.2  # the sixth principal component has so many times the variance of the seventh
ALIKE = 1.3  # the longest wave vector is at most so many times the shortest
CLOSED = 0.25  # and their sum, relative to their length, at most this
MOVED = 0.1  # of the leading components' change the velocity explains so much
FOLLOWS = 0.5  # mean resultant of decoded activity and recorded heading, from which the heading is of use
SPAN = 0.5  # s, over which movements are compared


TOLD = 0.8  # rad, error of the heading that neurons tell, below which they tell their places


def places_of(rec, shape):
    """The recorded neurons' places: those that the activity spans, unless the given heading tells them better.

    `find` takes neurons for evenly spaced, and may turn the ring over. Where a ring's heading is given, and the
    headings that neurons prefer decode it within TOLD, these are their places; but where evenly spaced ones agree with
    them, as they are or turned over, these are kept. Returns: (n, D) rad.
    """
    found = shape.find(rec.rates[rec.valid])
    if shape.dimensions > 1 or rec.heading is None:
        return found
    some = rec.trials(slice(None, None, 1 + len(rec.rates) // 20))
    rates, heading = some.rates[some.valid], some.heading[some.valid][:, 0]
    bins = np.floor(heading % (2 * np.pi) / (2 * np.pi) * 36).astype(int) % 36
    count = np.maximum(np.bincount(bins, minlength=36), 1)
    tuning = np.stack([np.bincount(bins, x, 36) / count for x in rates.T])  # (n, bins)
    preferred = np.angle(tuning @ np.exp(1j * (np.arange(36) + 0.5) * np.pi / 18))[:, None] % (2 * np.pi)
    error = np.nanmean(shape.distance(shape.decode(rates, preferred), heading[:, None]))
    middle = np.angle(np.exp(1j * heading).mean())  # a heading that hardly changes tells no neuron's place
    if not error < min(TOLD, np.mean(np.abs(np.angle(np.exp(1j * (heading - middle))))) - error):
        return found
    for even in (found, -found % (2 * np.pi)):
        off = np.exp(1j * (even - preferred))[tuning.any(1)]
        if np.abs(np.angle(off * off.sum().conj())).max() < max(0.2, 2 * np.pi / len(found)):
            return even
    return preferred


def decoding_error(rec, shape, places):
    """How far the decoded heading is from the given one, but for each trial's own offset. Returns: rad, mean angle."""
    off = np.exp(1j * shape.difference(shape.decode(rec.rates, places), rec.heading[..., : shape.dimensions]))
    off[~rec.valid] = np.nan
    offset = np.nansum(off, 1, keepdims=True)
    return float(np.nanmean(np.linalg.norm(np.angle(off * offset.conj()), axis=-1)))


def of(rec):
    """The geometry of a recording's attractor: a torus where two velocities move three waves as they should, else a
    ring. Returns: Torus, which knows the places of the recording's neurons, or Ring; `said` tells what was found."""
    if rec.velocity.shape[-1] != 2 or rec.rates.shape[-1] < 7:
        return RING
    evidence = Evidence(rec)
    return Ring(f"a ring: no torus, since {evidence.against}") if evidence.against else evidence.torus()


class Evidence:
    """What a recording of two velocities says for and against a torus."""

    def __init__(self, rec):
        """rec: Recording, of two velocities and at least seven neurons."""
        self.rec, self.rates, self.rng = rec, rec.rates[rec.valid], np.random.default_rng(0)
        variances, self.directions = waves.leading(self.rates)
        self.ratio = variances[5] / max(variances[6], 1e-12)
        self.movement = waves.by_velocity(rec.rates, rec.velocity, rec.dt, rec.valid, self.directions, self.rng)
        self.found, signs, _ = waves.phases(self.movement.waves)
        self.vectors = None if self.movement.vectors is None else self.movement.vectors * signs[:, None]

    @cached_property
    def against(self):
        """Why it is no torus, in words, or "" where nothing speaks against one."""
        if self.ratio < PAIRS:
            return f"the sixth principal component has {self.ratio:.2g} times the variance of the seventh"
        if self.movement.explained < MOVED:
            return f"the velocity explains {max(0, self.movement.explained):.1%} of how the activity changes"
        k = self.vectors
        length = np.linalg.norm(k, axis=1)
        if length.max() > ALIKE * length.min():
            return f"its waves are {' : '.join(f'{x / length.max():.2f}' for x in length)} in length"
        if np.linalg.norm(k[2] - k[1] + k[0]) > CLOSED * length.mean():
            return "its waves are not 60 degrees apart"
        return ""

    def torus(self):
        """The torus, its neurons placed by whatever of the rates, the velocity and the heading places them best."""
        places = self._by_heading()
        if places is None:
            guesses = [self.found, waves.phases(waves.by_modulus(self.directions, self.rng))[0]]
            places = max((waves.refine(self.rates, guess) for guess in guesses), key=self._clear)
            vectors = self._vectors(places)
            symmetry = max(SYMMETRIES, key=lambda M: np.trace(np.linalg.inv(Torus.K) @ M @ vectors))
            places = TORUS.on_sheet(places @ symmetry.T)
        u, _, v = np.linalg.svd(np.linalg.inv(Torus.K) @ self._vectors(places))
        return Torus(places, (u @ v).T)

    def _by_heading(self):
        """Each neuron's place by the recorded heading, or None where there is none, or the activity does not follow it.

        The mean over all moments does not depend on how evenly the recorded neurons cover the torus.
        """
        heading = self.rec.heading
        if heading is None or heading.shape[-1] != 2:
            return None
        heading = heading[self.rec.valid]
        places = waves.phases(waves.mean_phases(self.rates, np.exp(1j * waves.third(heading))))[0]
        follows = np.exp(1j * (TORUS.decode(self.rates, places) - heading)).mean(0)
        return TORUS.on_sheet(places, anchored=True) if np.abs(follows).min() > FOLLOWS else None

    def _clear(self, places):
        """How well the three waves of each moment agree. Returns: at most 1."""
        angle = np.angle(self.rates[::10] @ np.exp(1j * waves.third(places)))
        return np.cos(angle[:, 2] - angle[:, 1] + angle[:, 0]).mean()

    def _vectors(self, places):
        """Wave vectors by regression of the phases' movements on the velocity's. Returns: (2, 2)."""
        rec, span = self.rec, max(1, min(round(SPAN / self.rec.dt), self.rec.rates.shape[1] // 4))
        phases = np.unwrap(TORUS.decode(rec.rates, places), axis=1)
        moved, both = rec.dt * rec.velocity.cumsum(1, dtype=float), rec.valid[:, span:]
        driven, turned = ((a[:, span:] - a[:, :-span])[both] for a in (moved, phases))
        return np.linalg.lstsq(driven, turned)[0].T


SYMMETRIES = [
    M
    for M in (np.array(entries).reshape(2, 2) for entries in itertools.product((-1, 0, 1), repeat=4))
    if np.allclose((Q := np.linalg.inv(Torus.K) @ M @ Torus.K) @ Q.T, np.eye(2))
]  # of the torus, that leave all distances as they are, as matrices of the phases
