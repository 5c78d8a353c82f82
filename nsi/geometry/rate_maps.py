"""Where in a box neurons fire: rate maps, how they repeat, and how hexagonally (Sargolini et al. 2006)."""

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, rotate

BINS = 40  # along each side
SMOOTHING_BINS = 1.0  # s.d. of the smoothing
MIN_OVERLAP_BINS = 20  # bins that a correlation needs


def rate_maps(rates, position, bins=BINS):
    """Mean rate of each neuron by place.

    rates: (samples, N); position: (samples, 2) m. Returns: (N, bins, bins), x first, NaN where the animal never was;
    and the size of a bin (2,) m.
    """
    low, high = position.min(0), position.max(0)
    size = np.maximum(high - low, 1e-12) / bins
    place = np.minimum((position - low) / size, bins - 1).astype(int) @ [bins, 1]
    visits = np.bincount(place, minlength=bins**2).reshape(bins, bins).astype(float)
    sums = np.stack([np.bincount(place, r, bins**2) for r in rates.T]).reshape(-1, bins, bins)
    smooth = lambda x: gaussian_filter(x, SMOOTHING_BINS, mode="constant")
    visits = smooth(visits)
    return np.stack([smooth(s) for s in sums]) / np.where(visits > 0.5, visits, np.nan), size


def autocorrelogram(rate_map):
    """Correlation of a rate map with itself, shifted. rate_map: (bins, bins). Returns: (2 bins - 1, 2 bins - 1), NaN
    where fewer than MIN_OVERLAP_BINS bins overlap."""
    visited = np.isfinite(rate_map)
    x, size = np.where(visited, rate_map, 0.0), 2 * len(rate_map) - 1
    transform = lambda a: np.fft.rfft2(a, (size, size))
    across = lambda a, b: np.fft.fftshift(np.fft.irfft2(a * b.conj(), (size, size)))
    G, X, X2 = transform(visited.astype(float)), transform(x), transform(x * x)
    count = np.round(across(G, G))
    here, there = across(X, G), across(G, X)
    spread = (count * across(X2, G) - here**2) * (count * across(G, X2) - there**2)
    with np.errstate(all="ignore"):
        r = (count * across(X, X) - here * there) / np.sqrt(np.maximum(spread, 1e-12))
    r[count < MIN_OVERLAP_BINS] = np.nan
    return r


def _radius(r):
    """Distance of each bin of an autocorrelogram from its centre, and the radius of its central peak, in bins."""
    middle = len(r) // 2
    distance = np.hypot(*(np.mgrid[: len(r), : len(r)] - middle))
    filled = np.nan_to_num(r)
    mean = np.array([filled[np.abs(distance - k) <= 0.5].mean() for k in range(middle)])
    return distance, np.argmax(mean < 0.2) if (mean < 0.2).any() else 3


def grid_score(r):
    """How hexagonal an autocorrelogram is: the least correlation with itself turned by 60 or 120 degrees, minus the
    largest at 30, 90 or 150, over a ring without the central peak, at the ring's best outer radius. Above 0 for a grid;
    NaN where the map is too small.
    """
    distance, inner = _radius(r)
    filled, best = np.nan_to_num(r), np.nan
    turned = {angle: rotate(filled, angle, reshape=False, order=1) for angle in (30, 60, 90, 120, 150)}
    for outer in range(inner + 4, len(r) // 2):
        ring = (distance >= inner) & (distance <= outer) & np.isfinite(r)
        if not ring.any() or np.ptp(filled[ring]) == 0:
            continue
        with np.errstate(all="ignore"):
            c = {angle: np.corrcoef(r[ring], other[ring])[0, 1] for angle, other in turned.items()}
        best = np.fmax(best, min(c[60], c[120]) - max(c[30], c[90], c[150]))
    return best


def spacing(r):
    """Mean distance, in bins, of the six peaks next to an autocorrelogram's centre, or NaN where there are fewer."""
    distance, inner = _radius(r)
    filled = gaussian_filter(np.nan_to_num(r, nan=-1.0), 1)
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    peak = (filled >= maximum_filter(filled, footprint=around)) & (filled > 0.1)
    distance, peak = distance[1:-1, 1:-1], peak[1:-1, 1:-1]
    far = np.sort(distance[peak & (distance > inner)])
    return far[:6].mean() if len(far) >= 6 else np.nan
