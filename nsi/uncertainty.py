"""The regression that a clamped network's weights onto recorded neurons are: what nsi/solve.py solves with a prior, and
nsi/relations.py, nsi/direct.py and nsi/design.py without one.

Where neuron j is active the recording gives its input current, arctanh(r_j), and with the response units clamped to the
recording that current is linear in what j receives:

    arctanh(r_j) = u @ W[:n, j] + s @ W[n:, j] + b_j + stimulus_j + noise        s: the input units' state

So, the input units' tuning given, least squares on the active samples has its information matrix at hand. Samples are
chosen by the predicted current, never by the recorded rate, which would favour positive noise. The connections that are
reported do not come from here, but from signals that need no trained network (nsi/estimation).
"""

from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import cho_solve
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotri

from nsi.estimation.regression import factorise as factored
from nsi.estimation.regression import neighbours, symmetric
from nsi.training import losses

LOW, HIGH = 0.1, 2.0  # predicted currents between which arctanh(r) is trusted
CLUSTERS = 20  # at least; fewer trials are cut
LEAST, BLOCK = 4, 100  # neurons treated at a time, as many as their matrices have room for in a quarter of
ROOM = 1e9  # bytes
SEEN = 5000  # samples by which neurons' activities are compared


class Regression(NamedTuple):
    """Least squares of arctanh(r) on x, one neuron at a time, about given coefficients (see `regress`).

    Samples are kept in single precision, and sums over them taken in double: weak directions of x need it.
    """

    x: torch.Tensor  # (samples, q) float32, samples in the order of trials and steps
    used: torch.Tensor  # (samples, n) bool: active, so that arctanh(r) tells the current
    e: torch.Tensor  # (samples, n) float32, residuals about the coefficients, 0 where not used
    starts: np.ndarray  # (clusters,), first sample of each piece of a trial
    order: np.ndarray  # (n,), neurons that are active together following each other

    def lowers(self):
        """Yields: each neuron j, in order, and the lower triangle of its information matrix, x[used[:, j]].T @
        x[used[:, j]], which is overwritten by the next.

        Neighbours are active together, so each matrix is the last one with the samples added or taken away that
        only one of the two has: a tenth of the work for a ring, a third for a torus.
        """
        x, used, q = self.x.numpy(), self.used.numpy(), self.x.shape[1]
        G, before = np.zeros((q, q), order="F"), np.zeros(len(x), bool)
        for j in self.order:
            now = used[:, j]
            if np.count_nonzero(now != before) > np.count_nonzero(now):
                G[:], before = 0.0, np.zeros(len(x), bool)
            for sign, changed in ((1.0, now & ~before), (-1.0, before & ~now)):
                dsyrk(sign, x[changed].astype(np.float64).T, beta=1.0, c=G, lower=True, overwrite_c=True)
            before = now
            yield j, G

    def informations(self):
        """Yields: each neuron j, in order, and its information matrix, (q, q) float64."""
        for j, G in self.lowers():
            yield j, torch.as_tensor(symmetric(G))

    def kept(self, fewest):
        """The information matrices of neurons that have so many samples, to go through more than once: kept where they
        take no more than ROOM bytes, else worked out anew. Returns: a function that yields each neuron and its matrix,
        (q, q) float64 arrays."""
        count, q = self.used.sum(0).numpy(), self.x.shape[1]
        every = lambda: ((j, G.numpy()) for j, G in self.informations() if count[j] >= fewest)  # noqa: E731
        if 8 * np.count_nonzero(count >= fewest) * q**2 > ROOM:
            return every
        kept = list(every())
        return lambda: iter(kept)

    def factors(self, fewest=0):
        """Yields: some neurons of those that have so many samples, as a list, and what `factored` makes of their
        matrices."""
        count, size = self.used.sum(0), int(np.clip(ROOM / 4 // (8 * self.x.shape[1] ** 2), LEAST, BLOCK))
        some = ((j, factored(G)) for j, G in self.lowers() if count[j] >= fewest)
        while block := list(islice(some, size)):
            yield [j for j, _ in block], [factor for _, factor in block]

    def scores(self):
        """x.T @ e, (q, n) float64."""
        return self.clusters(self.e).sum(0)

    def left(self, neurons, steps):
        """Residuals of some neurons (samples, k) after a step (q, k) of their coefficients, 0 where not used."""
        return torch.where(self.used[:, neurons], self.e[:, neurons] - self.x @ steps.float(), 0.0)

    def clusters(self, a):
        """Sums of x.T @ a within each cluster. a: (samples, k). Returns: (clusters, q, k) float64."""
        # numpy's products of so few columns take a quarter of torch's time
        pieces = zip(*(np.split(b.numpy(), self.starts[1:]) for b in (self.x, a)), strict=True)
        sums = [part.T.astype(np.float64) @ x.astype(np.float64) for x, part in pieces]
        return torch.as_tensor(np.stack(sums)).mT


def regress(coefficients, x, held):
    """Set up the regressions. coefficients: (regressors, n); x: (trials, steps, regressors). Returns: Regression."""
    trials, steps, q = x.shape
    pieces = max(1, -(-CLUSTERS // trials))
    starts = np.arange(trials)[:, None] * steps + np.arange(pieces) * steps // pieces
    x, r = torch.as_tensor(x.reshape(-1, q)).float(), torch.as_tensor(held.rates).flatten(0, 1).float()
    a = x @ torch.as_tensor(coefficients).float() + torch.as_tensor(held.known).flatten(0, 1)
    # above LOW noise does not silence a neuron; one that is silent all the same has no arctanh to offer
    used = (a > LOW) & (a < HIGH) & (r > 0) & (r < 0.9999) & torch.as_tensor(held.valid).flatten()[:, None]
    e = torch.where(used, losses.inverse(r) - a, 0.0)
    return Regression(x, used, e, starts.ravel(), neighbours(used[:: max(1, len(used) // SEEN)].numpy()))


def solve_each(factors, sums):
    """The solutions of as many systems. factors: `factored`'s; sums: (q, ..., k), one side for each. Returns: the
    same."""
    each = [cho_solve(factor, sums[..., k].numpy(), check_finite=False) for k, factor in enumerate(factors)]
    return torch.as_tensor(np.stack(each, -1))


def inverse(factor):
    """The inverse of the matrix that `factored` has taken. Returns: (q, q) float64."""
    return torch.as_tensor(symmetric(dpotri(factor[0], lower=True)[0]))
