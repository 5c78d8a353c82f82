"""The estimated connections in a run: what connectivity.npz holds, its scores, and what speaks against the estimate."""

import numpy as np

from nsi.estimation.orders import sizes
from nsi.evaluation import metrics
from nsi.evaluation.scores import order_scores

SCALE_TOLERANCE = 0.02  # relative difference from 1 beyond which the estimated scale of the rates is worth a warning
ALPHA_TOLERANCE = 0.1  # relative difference between alphas beyond which weights of one do not suit the other


def weights_for_networks(found, alpha):
    """The estimated weights that a network of hidden units is given, NaN where it is not: onto neurons of which nothing
    is estimated, and throughout where the estimate does not describe the recording as such a network does.

    found: Estimate; alpha: dt / tau of the network. Returns: W (n, n), b (n,)."""
    described = found.verdicts["description"] == "fits" and found.network is not None
    same = abs(found.scale - 1) < SCALE_TOLERANCE and abs(found.alpha / alpha - 1) < ALPHA_TOLERANCE
    usable = found.W.any(0) & (described and same)
    b = found.network.b[: len(found.W)] if described else np.nan
    return np.where(usable, found.W, np.nan), np.where(usable, b, np.nan)


def collect_arrays(found, networks):
    """The arrays of connectivity.npz. found: Estimate, or None of a control, whose trained W is all that there is;
    networks: list of Network, the trained ones. Returns: dict."""
    n = networks[0].n
    arrays = {"W": networks[0].W[:n, :n]} if found is None else found.arrays()
    if len(networks) > 1:  # the spread over replicas of their own weights, and of gates as products of weights
        arrays["W_replicas_se"] = np.std([net.W[:n, :n] for net in networks], 0, ddof=1)
        if len(networks[0].b) > n:
            arrays["gate_replicas_se"] = np.std([net.gate() for net in networks], 0, ddof=1)
    return arrays


def score(arrays, rec, shape, places, truth):
    """What metrics.json says of connectivity.npz's arrays. rec: all trials; places: (n, D) rad, of the training trials;
    truth: recordings.load_truth's. Returns: dict, valid JSON."""
    scores = metrics.of_connections(arrays, rec, shape, places, truth)
    if "orders" in arrays:
        scores["orders_powers"] = arrays["orders_powers"]
        scores["orders_size"], scores["orders_shown"] = sizes(arrays, shape, places)
        scores |= order_scores(arrays, truth)
    return metrics.valid_json(scores)


def describe(found):
    """What metrics.json says of an estimate besides its scores. found: Estimate. Returns: dict."""
    names = (
        "verdicts", "gate_p", "alpha", "alpha_se", "alpha_known", "scale", "noise", "measurement_noise", "calibration",
        "prior", "decay", "decay_se", "turning_lag",
    )  # fmt: skip
    to_profile = found.prior.get("heterogeneity", {}).get("direct")  # relative to the r.m.s. profile
    to_weight = (
        None if to_profile is None or not np.isfinite(to_profile) else float(to_profile / np.hypot(1.0, to_profile))
    )
    return {name: getattr(found, name) for name in names} | {"heterogeneity": to_weight}


def find_doubts(found, net):
    """What speaks against the estimate, or against the network where the estimate says how the recording was made.
    found: Estimate; net: the trained Network. Yields: sentences."""
    silent, description = ~found.W.any(0), found.verdicts["description"]
    if silent.all():
        yield "the estimate says nothing: no neuron is active in enough samples; record more or longer trials"
        return
    if description == "does not fit":
        yield (
            "the estimate's signals do not describe the recording: what they leave of the currents is no noise (it "
            "comes back steps later), or a recording simulated from them is unlike this one; no interval is claimed, "
            "and the weights may be wrong by any amount"
        )
    if found.decay:
        yield (
            f"rates are fluorescence of an indicator: where neurons fall silent, they fall with a decay of "
            f"{found.decay:.3g} s (s.e. {found.decay_se:.2g}), with which the estimate deconvolves them; the trained "
            "network takes them as they are: give the indicator's `decay` in the file if it is known"
        )
    if found.turning_lag:
        yield (
            f"the activity turns {found.turning_lag:.2g} s after the velocity, later than by a synapse, as rates do "
            "through an indicator: no interval is claimed; give the indicator's `decay` in the file, or align clocks"
        )
    elif description == "cannot tell" and found.measurement_noise:
        yield (
            "the rates' own noise, with a stimulus, is not described; or the recording is too noisy, or too short, to "
            "tell the best estimate; or its neurons differ in their numbers of spikes, which the estimate takes to be "
            "alike; or it is fluorescence without `tau`, which its noise hides: no interval is claimed"
        )
    elif description == "cannot tell":
        yield (
            "no interval is claimed: neurons that the velocity drives were recorded, on which hidden neurons that it "
            "does not drive may act; or missing rates are not determined well enough; or hidden neurons excite each "
            "other, whose lasting noise only known pulses (`stimulus`) separate"
        )
    if found.measurement_noise:
        yield (
            f"rates have noise of their own, at the highest rates of s.d. {found.measurement_noise:.2g}, which the "
            "estimate takes into account (the highest mean counts of spikes for a rate near saturation, .97: where "
            "neurons do not saturate, the weights are wrong); the trained network takes the rates, or smoothed counts, "
            "as they are, and its own weights are biased"
        )
    if silent.any():
        yield (
            f"nothing is estimated of the connections onto {silent.sum()} of {len(silent)} neurons, which are active "
            "in too few samples: their weights are 0 and their intervals without end"
        )
    fitted = "the trained network has the rectified tanh and the rates as they are, the estimate has not"
    if found.verdicts["response"] not in ("rectified tanh", "cannot tell"):
        yield f"the neurons' response is likelier a {found.verdicts['response']} than a rectified tanh: {fitted}"
    elif abs(found.scale - 1) > SCALE_TOLERANCE:
        yield f"the rates are likeliest {found.scale:.3g} times as large as in the file: {fitted}"
    if found.verdicts["mechanism"] == "multiplied connections" and len(net.b) > net.n:
        yield (
            "the velocity likelier multiplies connections than acts through hidden neurons' synapses: what is said of "
            "the network's input units, which are such neurons, does not hold then"
        )
