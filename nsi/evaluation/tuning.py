"""Tuning of units: maps over heading and velocity, and shifters."""

import numpy as np

from nsi.network import predict_hidden

SIDES = (
    "Right turns are those of positive velocity, left turns those of negative velocity; which of them is clockwise, "
    "the file does not say."
)
SHUFFLES = 20
TUNED_ABOVE_SHUFFLED = 0.99  # quantile of the shuffled statistic that a tuned unit must exceed


def tuning_maps(rates, heading, velocity, bins=(16, 36), speed=4.0):
    """Mean rate of each unit over velocity x heading.

    rates: (..., units); heading: (...) rad; velocity: (...) rad/s, drawn within +-speed.
    Returns: (units, velocity bins, heading bins), NaN where there is no data.
    """
    inside, size = np.abs(velocity.ravel()) < speed, bins[0] * bins[1]
    values, angle = rates.reshape(-1, rates.shape[-1])[inside].T, np.angle(np.exp(1j * heading.ravel()[inside]))
    turned = velocity.ravel()[inside] / (2 * speed) + 0.5, angle / (2 * np.pi) + 0.5  # from 0 to 1
    place = [np.minimum((x * count).astype(int), count - 1) for x, count in zip(turned, bins, strict=True)]
    where = np.ravel_multi_index(place, bins)
    sums = np.stack([np.bincount(where, a, size) for a in values])
    with np.errstate(invalid="ignore"):
        return (sums / np.bincount(where, minlength=size)).reshape(-1, *bins)


def preferred_heading(maps):
    """Angle of the mean over a tuning map. maps: (units, velocity bins, heading bins). Returns: (units,) rad."""
    bins = maps.shape[-1]
    centres = (np.arange(bins) + 0.5) * 2 * np.pi / bins - np.pi
    return np.angle(np.nanmean(maps, 1) @ np.exp(1j * centres))


def direction_selectivity(maps):
    """(R - L) / (R + L) of the mean rates in right (v > 0) and left turns: 0 for a compass neuron, +-1 for a shifter.

    maps: (units, velocity bins, heading bins). Returns: (units,) in [-1, 1].
    """
    half = maps.shape[1] // 2
    right, left = (np.nanmean(m, (1, 2)) for m in (maps[:, -half:], maps[:, :half]))
    return (right - left) / np.maximum(right + left, 1e-12)


def sort_units(maps):
    """Left units by preferred heading, then right units by preferred heading. Returns: (units,) an order."""
    return np.lexsort((preferred_heading(maps) % (2 * np.pi), direction_selectivity(maps) >= 0))


def shifter_tuning(rates, heading, velocity, bins=24):
    """Find units that are tuned to heading and modulated by velocity more than in shuffled data.

    Heading tuning is the variance that the mean rate per heading bin explains; velocity modulation is the correlation
    of what it leaves with velocity, of several components the root of the sum of their squares. Both are compared with
    the same statistic after heading or velocity was shifted in time by large steps, at the TUNED_ABOVE_SHUFFLED
    quantile over units and shifts.

    rates: (trials, steps, units); heading, velocity: (trials, steps, D); bins: of each of D angles.
    Returns: dict of arrays: `active`, `shifter` (units,) bool, `modulation` (D, units), correlations with velocity.
    """
    x = rates.reshape(-1, rates.shape[-1]).astype(np.float64)
    active = (x > 0.05).mean(0) > 0.005
    x = x - x.mean(0)
    angles, d = heading.reshape(len(x), -1), heading.shape[-1]
    where = np.floor((angles % (2 * np.pi)) / (2 * np.pi) * bins).astype(int) % bins @ bins ** np.arange(d)
    bins = bins**d
    v = velocity.reshape(len(x), -1).T
    v = v - v.mean(1, keepdims=True)  # (D, samples)
    total = (x**2).sum(0) + 1e-12

    def explained(where):
        counts = np.bincount(where, minlength=bins)
        means = (np.arange(bins)[:, None] == where) @ x / np.maximum(counts, 1)[:, None]
        return means, (counts[:, None] * means**2).sum(0) / total

    means, tuning = explained(where)
    rest = x - means[where]
    scale = np.sqrt((rest**2).sum(0) * (v**2).sum(1, keepdims=True)) + 1e-12
    shifts = [len(x) * (k + 1) // (SHUFFLES + 1) for k in range(SHUFFLES)]
    beyond = lambda shuffled: np.quantile(np.array(shuffled)[:, active], TUNED_ABOVE_SHUFFLED) if active.any() else 0
    shuffled_tuning = beyond([explained(np.roll(where, s))[1] for s in shifts])
    shuffled_modulation = beyond([np.linalg.norm(np.roll(v, s, 1) @ rest / scale, axis=0) for s in shifts])
    modulation = v @ rest / scale
    modulated = np.linalg.norm(modulation, axis=0) > shuffled_modulation
    return {"active": active, "shifter": active & (tuning > shuffled_tuning) & modulated, "modulation": modulation}


def shifter_measures(net, rec, geometry, places):
    """Shifters among the input units, the response units clamped, by as many of the velocity's components as the
    geometry has dimensions.

    Returns: dict with `shifter_fraction` (of the active input units), `shifter_left`, `shifter_right` (of those that
    prefer either turning direction; None on a torus, which has no left) and `active_input_units` (a count).
    """
    inputs, d = predict_hidden(net, rec)[..., net.driven_hidden], geometry.dimensions
    inputs, rates, velocity = (a[rec.valid][None] for a in (inputs, rec.rates, rec.velocity))
    heading = geometry.decode(rates, places)
    known = np.isfinite(heading[0]).all(-1)  # silence has no heading
    tuning = shifter_tuning(inputs[:, known], heading[:, known], velocity[:, known, :d], 24 if d == 1 else 10)
    count = max(1, int(tuning["active"].sum()))
    right = tuning["modulation"][0] > 0
    side = lambda which: float((tuning["shifter"] & which).sum() / count) if d == 1 else None
    return {
        "shifter_fraction": float(tuning["shifter"].sum() / count),
        "shifter_left": side(~right), "shifter_right": side(right),
        "active_input_units": int(tuning["active"].sum()),
    }  # fmt: skip
