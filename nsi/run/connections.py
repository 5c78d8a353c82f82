"""The connections of a recording: estimated, written to connectivity.npz, scored, and what speaks against the estimate.

The estimate is nsi/estimation's and takes nothing of the trained networks; relations of higher order are still read
with the first network's hidden units. A control, which the publication fits without input units, is no estimate: its
connectivity.npz holds the trained W alone.
"""

import sys
import time

import numpy as np

from nsi import measures, recordings, relations
from nsi.connectivity import gate
from nsi.estimation import estimate

SCALE_TOLERANCE = 0.02  # relative difference from 1 beyond which the estimated scale of the rates is worth a warning


def write_connections(args, networks, train, shape, places, alpha, stage):
    """Write connectivity.npz. args: with out, control and no_errors; networks: the replicas, of which a control reports
    the first one's W; train: the training trials; shape: of nsi.geometry; places: (n, D) rad; alpha: dt / tau, None
    where it is not known; stage: called with a name and a count, gives a watch.Stage.

    Returns: the file's arrays; what metrics.json says of the estimate itself; warnings, which are printed, too.
    """
    net, said, warnings = networks[0], {}, []
    arrays = {"W": net.W[: net.n, : net.n]}
    if not args.control:
        began = time.perf_counter()
        with stage("estimate"):
            found = estimate(train, alpha, shape, calibrated=not args.no_errors)
        said = describe(found) | {"estimate_seconds": time.perf_counter() - began}
        warnings = list(doubts(found, net))
        with stage("orders", net.n, "neuron") as watch:
            arrays = found.arrays() | relations.read_off(net, train, shape, places, seen=watch.seen)
    arrays |= spread_over_replicas(networks)
    recordings.save(args.out / "connectivity.npz", **arrays)
    for sentence in warnings:
        print(sentence, file=sys.stderr)
    return arrays, measures.valid_json(said), warnings


def score(arrays, rec, shape, places, truth):
    """What metrics.json says of connectivity.npz's arrays. rec: all trials; places: as given to `write_connections`;
    truth: recordings.load_truth's. Returns: dict, valid JSON."""
    orders = relations.scores(arrays, truth, shape, places)
    return measures.valid_json(measures.of_connections(arrays, rec, shape, truth) | orders)


def describe(found):
    """What metrics.json says of an estimate besides its scores. found: Estimate. Returns: dict."""
    return {name: getattr(found, name) for name in (
        "verdicts", "gate_p", "alpha", "alpha_se", "alpha_known", "scale", "noise", "calibration", "prior"
    )}  # fmt: skip


def doubts(found, net):
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
    if description == "cannot tell":
        yield (
            "neurons that the velocity drives were recorded, and hidden neurons that it does not drive may act on "
            "them, which the estimate does not describe: no interval is claimed"
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


def spread_over_replicas(networks):
    """S.d. over replicas of the networks' own weights, and of their gates as products of weights. Returns: dict."""
    n, several = networks[0].n, len(networks) > 1
    spread = {"W_replicas_se": np.std([net.W[:n, :n] for net in networks], 0, ddof=1)} if several else {}
    if several and len(networks[0].b) > n:
        spread["gate_replicas_se"] = np.std([gate(net) for net in networks], 0, ddof=1)
    return spread
