"""The shape of an attractor: where its neurons are, how far apart, and which way the activity points. `Ring`, of heads'
directions, and `Torus`, of grid cells; places and angles carry a last axis of as many phases as there are dimensions,
D."""

import itertools

import numpy as np

import nsi.geometry.plane_waves as plane_waves
from nsi.sums import sum_products

HARMONICS = 30  # around a ring, of which a profile over distance is made at most
SHEET_WAVES = 5  # the same on a torus, the shortest wave vector being 1
TURNS = 2 * np.pi * np.array(sorted(itertools.product((-1, 0, 1), repeat=2), key=np.linalg.norm))  # none comes first


class Shape:
    """Places and angles (..., D) are in rad, and distances from one neuron to another, to minus from.

    Each shape has

        dimensions, NEAR, said        D; rad, pairs that one bump can hold; what a recording's activity was found to be
        defaults(n)                   default settings of train.py for n neurons, a dict
        movement(velocity)            speed of the activity (..., D) rad/s at a velocity (..., any)
        displacement(difference)      a difference of places (..., D) in the velocity's own components
        places(n)                     of n neurons in order: (n, D)
        find(rates)                   each neuron's place as the activity (..., n) has it, whatever their order: (n, D)
        decode(rates, places)         population vector (..., D) in (-pi, pi]
        ALL                           wave vectors (m, D), in the plane, of the longest waves
        waves(largest)                those up to a size, the longest waves first, one of each two opposite ones
        phase(z)                      phases (..., D) in (-pi, pi] of population vectors (..., m), complex, by ALL
        PLANE                         (D, any), takes differences of places to the plane in which distances are taken
        difference(a, b)              from b to a, the shortest way
        bump(places, start)           a first guess at the state (trials, n) of bumps at start (trials, D)
        order(places)                 indices (n,) of neurons so that neighbours follow each other
        profile(W)                    of neurons in order: each distance, mean and s.d. (n,) of weights (n, n) there
        terms(places)                 Fourier terms over distance (m, n, n), whose squares add up to 1 over evenly
                                      placed neurons, that a profile is a sum of, and their frequency (m,)
        mean_profile(W, places, mask) W's mean at each distance over the pairs of a mask (n, n) bool, put back in the
                                      place of every pair: (n, n), 0 where no pair is
    """

    def distance(self, a, b):
        """Length of `difference`. Returns: (...)."""
        return np.linalg.norm(self.difference(a, b) @ self.PLANE, axis=-1)

    def near(self, places):
        """Pairs of neurons at most NEAR apart. places: (n, D) rad. Returns: (n, n) bool."""
        return self.distance(places[:, None], places) <= self.NEAR + 1e-9


def average_by(index, W, mask):
    """W's mean over the pairs of a mask that have the same index, put back in the place of every pair.

    index: (n, n) int below n; W: (n, n); mask: (n, n) bool. Returns: (n, n), 0 where no pair is."""
    total, count = (np.bincount(index[mask], weights, len(W)) for weights in (W[mask], None))
    return (total / np.maximum(count, 1))[index]


def fourier_series(apart, orders):
    """A constant, and the cosine and the sine of each order. apart: (n, n, 2) rad, differences of phases; orders: list
    of pairs of int. Returns: (1 + 2 orders, n, n)."""
    angle = np.stack([a * apart[..., 0] + b * apart[..., 1] for a, b in orders])
    waves = np.stack([np.cos(angle), np.sin(angle)], 1).reshape(-1, *angle.shape[1:])
    return np.concatenate([np.ones_like(angle[:1]), waves])


class Ring(Shape):
    """A ring of neurons, each with a preferred heading: D = 1."""

    dimensions, PLANE, ALL = 1, np.eye(1), np.eye(1)
    NEAR = 0.6 * np.pi  # rad, pairs that one bump can hold

    def __init__(self, said="a ring"):
        self.said = said

    def defaults(self, n):
        return {"forcing": 0.1}

    def movement(self, velocity):
        return velocity[..., :1]

    def displacement(self, difference):
        return difference

    def places(self, n):
        """Preferred headings."""
        return (np.arange(n) * 2 * np.pi / n)[:, None]

    def find(self, rates):
        """Neurons ordered by the two leading principal components, which are cosine and sine of activity that
        circulates on a ring, and taken to tile it evenly; turned to lie as near to `places` as a rotation can bring
        them, so that neurons in order around the ring get `places` itself."""
        n = rates.shape[-1]
        angles = self.places(n)[:, 0]
        if n < 3:
            return angles[:, None]
        flat = rates.reshape(-1, n)
        mean = flat.mean(0, dtype=float)
        _, vectors = np.linalg.eigh(sum_products(flat, flat) / max(len(flat), 1) - np.outer(mean, mean))
        z = vectors[:, -1] + 1j * vectors[:, -2]
        if np.sum(np.imag(z[1:] * z[:-1].conj())) < 0:
            z = z.conj()
        rank = np.argsort(np.argsort(np.angle(z)))
        turns = [np.sum(np.cos(angles[(rank + s) % n] - angles)) for s in range(n)]
        return angles[(rank + np.argmax(turns)) % n][:, None]

    def decode(self, rates, places):
        """NaN where no neuron fires: silence has no angle."""
        x, y = (rates @ a.astype(np.result_type(rates, np.float32)) for a in (np.cos(places), np.sin(places)))
        return np.where(np.any(rates, -1)[..., None], np.arctan2(y, x), np.nan)

    def waves(self, largest):
        return np.arange(1.0, largest + 1)[:, None]

    def phase(self, z):
        return np.angle(z)

    def difference(self, a, b):
        return np.angle(np.exp(1j * (np.asarray(a) - b)))

    def bump(self, places, start):
        return np.maximum(0, np.cos(places[:, 0] - start))

    def order(self, places):
        return np.argsort(places[:, 0])

    def profile(self, W):
        """Distances are signed, from -pi on."""
        n = len(W)
        steps, i = np.arange(n) - n // 2, np.arange(n)
        entries = W[i, (i + steps[:, None]) % n]  # (distance, i)
        return steps * 2 * np.pi / n, entries.mean(1), entries.std(1)

    def terms(self, places):
        """Frequencies are in periods around the ring."""
        n, apart = len(places), (places.T - places).astype(np.float64)
        orders = np.arange(1, min(n // 2, HARMONICS) + 1)
        terms = np.empty((1 + 2 * len(orders), n, n))
        terms[0] = np.sqrt(1 / n)
        for k in orders:
            for wave, part in ((np.cos, terms[2 * k - 1]), (np.sin, terms[2 * k])):
                wave(k * apart, out=part)
                part *= np.sqrt(2 / n)
        return terms, np.concatenate([[0], np.repeat(orders, 2)])

    def mean_profile(self, W, places, mask):
        """Of neurons that lie evenly."""
        n = len(W)
        apart = np.round(self.difference(places.T, places) * n / (2 * np.pi)).astype(int) % n  # (from, to)
        return average_by(apart, W, mask)


class Torus(Shape):
    """A hexagonal torus of neurons, as of a module of grid cells: D = 2 phases, of which a third is the difference.

    An animal at x (2,) m has phases K x times rad per metre, K the wave vectors: unit vectors 60 degrees apart.
    Distances are those of the plane, in rad, a period being 4 pi / sqrt(3) = 7.26.
    """

    dimensions = 2
    NEAR = 2.2  # rad, pairs that one bump can hold
    K = np.array([[1, 0], [0.5, np.sqrt(0.75)]])
    PLANE = np.linalg.inv(K).T
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
        return {"input_units": int(np.clip(n, 100, 196)), "forcing": 1.0}

    def movement(self, velocity):
        return velocity @ self.axes @ self.K.T

    def phases(self, position):
        """Place of the bump while the animal is at a position. position: (..., 2) m. Returns: (..., 2) rad."""
        return self.movement(self.per_metre * position)

    def displacement(self, difference):
        return difference @ self.PLANE @ self.axes.T

    def places(self, n):
        """On a rhombic sheet of equal sides, row by row. Raises: ValueError where n is no square."""
        side = round(np.sqrt(n))
        if side**2 != n:
            raise ValueError(f"{n} neurons make no sheet of equal sides")
        phase = 2 * np.pi * np.arange(side) / side
        return np.stack(np.meshgrid(phase, phase, indexing="ij"), -1).reshape(-1, 2)

    def find(self, rates):
        """Those of `known` where they are; else by `plane_waves.by_modulus`, which leaves the torus' symmetries
        open."""
        n = rates.shape[-1]
        if self.known is not None and len(self.known) == n:
            return self.known
        rates = rates.reshape(-1, n)
        planes = plane_waves.by_modulus(plane_waves.leading(rates)[1], np.random.default_rng(0))
        return self.on_sheet(plane_waves.refine(rates, plane_waves.phases(planes)[0]))

    def on_sheet(self, places, anchored=False):
        """Phases moved alike to lie as near to `places` as that can bring them, and, where each neuron then has one of
        these places for itself, these. Other numbers of neurons than squares stay as they are.

        places: (n, 2) rad; anchored: move them by no more than to the next place. Returns: (n, 2) rad.
        """
        side = round(np.sqrt(len(places)))
        if side**2 != len(places):
            return places
        sheet, step = self.places(len(places)), 2 * np.pi / side
        moved = places - np.angle(np.exp(1j * side * places).mean(0)) / side
        if not anchored:
            moved = moved + np.round(np.angle(np.exp(1j * (sheet - moved)).mean(0)) / step) * step
        index = np.round(moved / step).astype(int) % side @ [side, 1]
        return sheet[index] if len(np.unique(index)) == len(places) else places

    def decode(self, rates, places):
        return self.phase(rates @ np.exp(1j * plane_waves.third(places)))

    def waves(self, largest):
        return self._orders(largest) @ self.K

    def phase(self, z):
        return plane_waves.shared(np.angle(z))

    def difference(self, a, b):
        """Of all that differ by whole turns the one nearest in the plane."""
        difference = np.angle(np.exp(1j * (np.asarray(a) - b)))
        images = difference[..., None, :] + TURNS  # (..., 9, 2)
        nearest = np.round(np.linalg.norm(images @ self.PLANE, axis=-1), 9).argmin(-1)  # of those as near, the first
        return np.take_along_axis(images, nearest[..., None, None], -2)[..., 0, :]

    def bump(self, places, start):
        apart = plane_waves.third(places) - plane_waves.third(np.asarray(start))[:, None]
        return np.maximum(0, np.cos(apart).mean(-1))

    def order(self, places):
        """Row by row, forth and back."""
        rows = max(1, round(np.sqrt(len(places))))
        first, second = (places % (2 * np.pi)).T
        row = np.round(first * rows / (2 * np.pi)).astype(int) % rows
        return np.lexsort((second * (-1.0) ** row, row))

    def profile(self, W):
        """At each difference of phases (n, 2), of neurons on a sheet row by row."""
        n = len(W)
        entries = np.take_along_axis(W, self._steps(self.places(n)).argsort(1), 1)  # (from, difference)
        return self.difference(self.places(n), 0), entries.mean(0), entries.std(0)

    def terms(self, places):
        """The frequency of the longest waves is 1."""
        n, apart = len(places), places - places[:, None]
        orders = self._orders(SHEET_WAVES)[: (n - 1) // 2]
        terms = fourier_series(apart, orders) / np.sqrt(n)
        terms[1:] *= np.sqrt(2)
        return terms, np.concatenate([[0], np.repeat(np.linalg.norm(orders @ self.K, axis=1), 2)])

    def _orders(self, largest):
        """Orders (m, 2) of phases, of waves."""
        pairs = itertools.product(range(-largest, largest + 1), repeat=2)
        length = {k: np.linalg.norm(np.array(k) @ self.K) for k in pairs if k > (0, 0)}
        return np.array(sorted((k for k in length if length[k] <= largest + 1e-9), key=length.get))

    def mean_profile(self, W, places, mask):
        """Of neurons that are not on a sheet, the Fourier series of second order that is nearest to W over the mask."""
        steps = self._steps(places)
        if steps is not None:
            return average_by(steps, W, mask)
        orders = [(a, b) for a, b in itertools.product(range(-2, 3), repeat=2) if abs(a + b) <= 2 and (a, b) > (0, 0)]
        series = fourier_series(places - places[:, None], orders)
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


RING = Ring()
TORUS = Torus()
SYMMETRIES = [
    M
    for M in (np.array(entries).reshape(2, 2) for entries in itertools.product((-1, 0, 1), repeat=4))
    if np.allclose((Q := np.linalg.inv(Torus.K) @ M @ Torus.K) @ Q.T, np.eye(2))
]  # of the torus, that leave all distances as they are, as matrices of the phases
