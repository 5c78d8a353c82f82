"""Diagnostics: evidence of a recording against the constraints on hidden units, or against the estimate, in sentences.

`apart` (driven units do not connect to each other) predicts that the velocity acts through one synapse: later where
driven neurons excite each other. The velocity moves the activity's bump relative to its synaptic state's. This shift is
regressed on the velocity filtered by one synapse, and by faster and slower filters, on held-out trials.

`excited`, `types` and `copies` predict nothing about the recorded activity that other hidden neurons could not produce
as well: a compass that inhibits its shifters is fitted as well by one that excites others on the far side.
"""

import numpy as np

from nsi.hidden import matching
from nsi.network import synaptic_state

FILTER_SPEEDS = 4.0, 2.8, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25  # how fast, relative to the synapse
MIN_GAIN = 0.3  # of the variance that one synapse leaves, what a slower filter must explain for a warning
MIN_EXPLAINED = 0.5  # of the shift's variance, what the best filter must explain for any filter to be named
MIN_AGREEMENT = 0.8  # correlation of the hidden units of several networks, below which a warning is given
MAX_ERROR_RATIO = 5  # of the constrained network to the trained one; on circuits that are described well 0.5 to 2
MIN_SAMPLES = 20  # of the bump's shift, that a share of its variance is worth
MIN_NEURONS = 8  # undriven ones, in whose rates a bump can be decoded


def find_doubts(rec, alpha, geometry, constraints, networks, errors):
    """Warnings about the constraints on hidden units, and about the estimate.

    rec: held-out trials; alpha: dt / tau; constraints: names in a text; networks: replicas, of the hidden units;
    errors: of prediction.select_networks. Yields: sentences."""
    yield from poorly_predicting(errors)
    yield from late(rec, alpha, geometry, constraints)
    yield from disagreeing(networks, rec, constraints)


def poorly_predicting(errors):
    """Warn where networks with the estimated weights run far worse than the trained ones.

    errors: {"trained", "hidden": mean squared errors of replicas}. Yields: sentences."""
    if "hidden" not in errors:
        return
    ratio = [a / max(b, 1e-300) for a, b in zip(errors["hidden"], errors["trained"], strict=True)]
    if min(ratio) > MAX_ERROR_RATIO:
        yield (
            f"a network with the estimated weights runs with {min(ratio):.0f} times the error of the trained network: "
            "the estimated weights, or the constraints on hidden units, do not describe this recording"
        )


def late(rec, alpha, geometry, assumed):
    """Warn where velocity acts later than through one synapse, under the constraint `apart`. Yields: sentences."""
    if "apart" not in assumed or rec.decoded:
        return
    explained = speed(rec, alpha, geometry)
    if not explained:
        return
    best = max(explained, key=explained.get)
    left = 1 - explained[1.0]
    if best < 1 and explained[best] > MIN_EXPLAINED and explained[best] - explained[1.0] > MIN_GAIN * left:
        yield (
            f"velocity acts as through a synapse {1 / best:.2g} times as slow as the recorded neurons' (which explains "
            f"{explained[best]:.1%} of how the bump moves on held-out trials, one synapse {explained[1.0]:.1%}); "
            "hidden driven neurons that excite each other do that, and then the assumption that they do not connect to "
            "each other (`apart`) is wrong, and what is said of hidden neurons with it; so do a velocity that is "
            "recorded early and an alpha that is too large"
        )


def speed(rec, alpha, geometry):
    """Share of the variance of the shift between the bump and its state that the filtered velocity explains, by filter.

    Returns: {speed relative to one synapse: share of the variance}, of the first component; {} with too few
    neurons or samples.
    """
    still = np.ones(rec.rates.shape[-1], bool) if rec.driven is None else ~rec.driven
    if still.sum() < MIN_NEURONS or not rec.velocity.any():
        return {}
    rates = rec.rates[..., still]
    places = geometry.find(rates[rec.valid])
    angle, state = (geometry.decode(x, places) for x in (rates, synaptic_state(rates, alpha)))
    shift = geometry.displacement(geometry.difference(angle, state))[..., 0]
    late = min(matching.SETTLING_STEPS, rec.rates.shape[1] // 4)
    known = rec.valid & np.isfinite(shift) & (np.arange(shift.shape[1]) >= late)
    if known.sum() < MIN_SAMPLES:
        return {}
    explained = {}
    for relative in (speed for speed in FILTER_SPEEDS if alpha * speed <= 1):
        v = synaptic_state(rec.velocity, alpha * relative)[..., 0]  # at a step, of the velocity before it
        explained[relative] = float(np.corrcoef(v[known], shift[known])[0, 1] ** 2)
    return explained


def disagreeing(networks, rec, assumed):
    """Warn where networks from other initial weights have other hidden units. Yields: sentences."""
    alike = matching.agreement(networks, rec) if assumed else None
    if alike is not None and alike < MIN_AGREEMENT:
        yield (
            f"hidden units of networks from other starts correlate at {alike:.2f} one to one; neither the recording "
            "nor the assumptions determine what single hidden neurons do"
        )
