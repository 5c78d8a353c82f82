"""Sums over samples, and correlations. Sums are in double precision whatever the samples are stored in.

In single precision the result depends on the processor: OpenBLAS's kernels for AVX-512 add up all samples of a product
of small matrices in one accumulator, others in several, and the errors differ tenfold.
"""

import numpy as np

ROWS = 4096  # samples that are converted at once, so that no copy of all of them is made


def sum_products(x, y=None):
    """The matrix x.T @ y. x: (samples, n); y: (samples, m), both real (default: x). Returns: (n, m) float64."""
    total = np.zeros((x.shape[1], (x if y is None else y).shape[1]))
    for first in range(0, len(x), ROWS):
        rows = slice(first, first + ROWS)
        some = x[rows].astype(np.float64)
        total += some.T @ (some if y is None else y[rows].astype(np.float64))
    return total


def draw_samples(valid, most):
    """Indices of the samples that are valid, counted over all axes, or, where these are more, of `most` of them drawn
    at random, always the same ones. valid: (...) bool. Returns: (samples,) int, rising."""
    rows = np.flatnonzero(valid)
    return rows if len(rows) <= most else np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def correlation(fitted, true):
    """Pearson r over all entries, or NaN where either does not vary."""
    fitted, true = np.ravel(fitted), np.ravel(true)
    if len(true) < 2 or np.ptp(true) == 0 or np.ptp(fitted) == 0:
        return np.nan
    return np.corrcoef(fitted, true)[0, 1]
