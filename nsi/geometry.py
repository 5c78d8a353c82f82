"""The shape of an attractor: where its neurons are, how far apart, and which way the activity points.

Everything that knows it is here, in one class per shape; a ring is the only one so far. Places and angles carry a last
axis of as many phases as the attractor has dimensions, D.
"""

import numpy as np


class Ring:
    """A ring of neurons, each with a preferred heading: D = 1."""

    dimensions = 1
    NEAR = 0.6 * np.pi  # rad, pairs that one bump can hold

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

    def mean_profile(self, W, places, mask):
        """W's mean at each distance, over the pairs of a mask, put back in the place of every pair.

        W: (n, n); places: (n, 1) rad, evenly spaced; mask: (n, n) bool. Returns: (n, n), 0 where no pair is.
        """
        n = len(W)
        apart = np.round(self.difference(places.T, places) * n / (2 * np.pi)).astype(int) % n  # (from, to)
        total = np.bincount(apart[mask], W[mask], n)
        return (total / np.maximum(np.bincount(apart[mask], minlength=n), 1))[apart]


RING = Ring()


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
    if not np.nanmean(shape.distance(shape.decode(rates, preferred), heading[:, None])) < TOLD:
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
    """The geometry of a recording's attractor: a ring."""
    return RING
