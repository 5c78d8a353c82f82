"""A linear model of the neurons' rates, by which missing ones are filled in.

    r = m + L z + e,      z ~ N(0, I),  e ~ N(0, psi I)

Probabilistic principal component analysis (Tipping and Bishop 1999, doi 10.1111/1467-9868.00196), whose likelihood of
the recorded samples alone is maximised by EM; a missing rate is its expectation given the step's other neurons.
"""

from dataclasses import replace

import numpy as np

FACTORS = 20
SAMPLES = 5_000  # steps, evenly thinned, that the model is fitted to
ITERATIONS = 10  # of EM
RIDGE = 1e-6  # of a neuron's loadings
MIN_UNEXPLAINED = 1e-3  # of the rates' variance, by an interpolation
HIGHEST = 0.99  # of a neuron's highest recorded rate, that it is filled in with: more would look cut off
PIECE = 10_000  # steps that are filled in at once


def fill_missing(rec):
    """The recording with rates that are NaN filled in, from 0 to the neuron's highest one, and `measured`, or the
    recording itself where there are none. rec: Recording. Returns: Recording."""
    measured = np.isfinite(rec.rates)
    if measured.all():
        return rec
    x = rec.rates[rec.valid]
    return _filled(replace(rec, measured=measured), Factors.fit(x[:: max(1, len(x) // SAMPLES)]), HIGHEST)


def interpolate(rec, shape, places):
    """The same of a recording that was filled in, by a covariance of the rates that depends on the distance of neurons'
    places alone. shape: Ring or Torus; places: (n, D) rad. Returns: Recording."""
    return _filled(rec, Factors.by_distance(rec.rates[rec.valid], rec.measured[rec.valid], shape, places))


def _filled(rec, model, highest=1.0):
    x = np.where(rec.measured, rec.rates, np.float32(np.nan))[rec.valid]
    expected = np.concatenate([model.expect(x[k : k + PIECE]) for k in range(0, len(x), PIECE)])
    filled = np.zeros_like(rec.rates)
    filled[rec.valid] = np.where(np.isfinite(x), x, np.clip(expected, 0, highest * np.nanmax(x, 0)))
    return replace(rec, rates=filled)


class Factors:
    """The model: m (n,), L (n, k) and psi."""

    def __init__(self, mean, loadings, psi):
        self.mean, self.loadings, self.psi = mean, loadings, psi

    @classmethod
    def fit(cls, x):
        """The likeliest model of some samples, from their covariance. x: (samples, n), NaN where missing."""
        n, k = x.shape[1], max(1, min(FACTORS, x.shape[1] // 2))
        present = np.isfinite(x)
        self = cls(np.where(present, x, 0.0).sum(0, dtype=np.float64) / np.maximum(present.sum(0), 1), None, None)
        z, present = self._centre(x)
        C = z.T @ z / np.maximum(present.T @ present, 1)
        values, vectors = np.linalg.eigh(C)
        self.loadings = vectors[:, -k:] * np.sqrt(np.maximum(values[-k:], 1e-9))
        self.psi = 0.1 * np.trace(C) / n + 1e-12
        for _ in range(ITERATIONS):
            s, V = self._scores(z, present)
            second = present.T @ (V + s[:, :, None] * s[:, None]).reshape(len(s), -1)
            G = second.reshape(n, k, k) + RIDGE * np.eye(k)
            self.loadings = np.linalg.solve(G, (z.T @ s)[..., None])[..., 0]
            unexplained = (((z - s @ self.loadings.T) * present) ** 2).sum()
            spread = present.T @ V.reshape(len(V), -1)
            unexplained += np.einsum("nkl,nk,nl->", spread.reshape(n, k, k), self.loadings, self.loadings)
            self.psi = unexplained / present.sum() + 1e-12
        return self

    @classmethod
    def by_distance(cls, x, present, shape, places):
        """The model with one mean, and the mean covariance of all pairs at the same distance. x: (samples, n);
        present: (samples, n) bool; shape: Ring or Torus; places: (n, D) rad."""
        thin = slice(None, None, max(1, len(x) // SAMPLES))
        x, present = x[thin], present[thin].astype(np.float64)
        mean = (x * present).sum() / max(present.sum(), 1)
        z, together = (x - mean) * present, present.T @ present
        C = shape.mean_profile(z.T @ z / np.maximum(together, 1), places, together > 0)
        values, vectors = np.linalg.eigh((C + C.T) / 2)
        k = min(FACTORS, len(C) // 2)
        loadings = vectors[:, -k:] * np.sqrt(np.maximum(values[-k:], 0))
        psi = max((np.trace(C) - (loadings**2).sum()) / len(C), MIN_UNEXPLAINED * np.trace(C) / len(C)) + 1e-12
        return cls(np.full(len(C), mean), loadings, psi)

    def _centre(self, x):
        present = np.isfinite(x)
        return np.where(present, x - self.mean, 0.0), present.astype(np.float64)

    def _scores(self, z, present):
        """The posterior mean (samples, k) and covariance (samples, k, k) of each sample's factors."""
        n, k = self.loadings.shape
        outer = (self.loadings[:, :, None] * self.loadings[:, None]).reshape(n, -1)
        V = np.linalg.inv((present @ outer).reshape(-1, k, k) / self.psi + np.eye(k))
        return np.einsum("skl,sl->sk", V, z @ self.loadings) / self.psi, V

    def expect(self, x):
        """All rates given those that are not missing. x: (samples, n). Returns: the same."""
        return self.mean + self._scores(*self._centre(x))[0] @ self.loadings.T
