"""Reading connectivity off a network: the path through the hidden units, as it acts while recorded units are clamped.

W[i, j] is the weight from neuron i to neuron j. The *gate* is what velocity adds to the weights: as a product of
weights, W[resp, input] diag(W_in) W[input, resp] (Network.gate), and *effective*, which counts an input unit only while
it is active.
"""

from typing import NamedTuple

import numpy as np

from nsi import response
from nsi.network import predict_hidden, synaptic_state
from nsi.sums import draw_samples, sum_products

MAX_SAMPLES = 30_000  # samples that a map from the state is found from, drawn of all


def unsigned_product(net):
    """The published reading of the same path, W[resp, input] @ W[input, resp]. Returns: (n, n)."""
    return net.W[: net.n, net.n :] @ net.W[net.n :, : net.n]


class Clamped(NamedTuple):
    """A network run with its recorded units clamped, after the first steps."""

    u: np.ndarray  # (trials, steps, n): state of the recorded units
    hidden: np.ndarray  # (trials, steps, hidden units): rates
    valid: np.ndarray  # (trials, steps) bool: recorded, not padding


def clamp(net, rec):
    """Run the hidden units, recorded units clamped to their own state. Returns: Clamped, from step 8 / alpha on."""
    u = synaptic_state(rec.rates, net.alpha)
    first = min(int(np.ceil(8 / net.alpha)), u.shape[1] // 4)
    return Clamped(*(a[:, first:] for a in (u, predict_hidden(net, rec, u), rec.valid)))


def regress_on_state(u, y, ridge=1e-2, valid=None):
    """The linear map that best takes the state u (..., n) to y (..., m), its unseen directions left at 0. (n, m).

    valid: (...) bool, samples that count, of which MAX_SAMPLES are drawn where there are more."""
    u, y = (a.reshape(int(np.prod(a.shape[:-1])), a.shape[-1]) for a in (u, y))
    rows = draw_samples(np.ones(len(u), bool) if valid is None else valid, MAX_SAMPLES)
    u, y = u[rows], y[rows]
    cov = sum_products(u, u) / len(u)
    cov += ridge * np.linalg.eigvalsh(cov)[-1] * np.eye(len(cov))
    return np.linalg.solve(cov, sum_products(u, y) / len(u))


def hidden_path_map(net, clamped):
    """Mean state of the hidden units as a linear function of the response units' state. Returns: (n, hidden units)."""
    return regress_on_state(clamped.u, synaptic_state(clamped.hidden, net.alpha), valid=clamped.valid)


def gate_map(net, clamped):
    """Linear map from W[hidden, resp] to the effective gate. Returns: (D, n, hidden units)."""
    active = regress_on_state(clamped.u, response.slope(clamped.hidden), valid=clamped.valid)  # (n, hidden units)
    return active * net.W_in[:, None, net.n :]


def effective_gate(net, rec):
    """The effective gate: d current / d velocity as a linear function of the response units' state.

    Unlike the product of weights (`gate`) it counts an input unit only while it is active, so that its size can be
    compared between networks. Returns: (D, n, n).
    """
    return gate_map(net, clamp(net, rec)) @ net.W[net.n :, : net.n]
