"""Reading connectivity off a network: the path through the hidden units, as it acts while recorded units are clamped.

W[i, j] is the weight from neuron i to neuron j. The *gate* is what velocity adds to the weights: as a product of
weights, W[resp, input] diag(W_in) W[input, resp] (Network.gate), and *effective*, which counts an input unit only while
it is active.
"""

from typing import NamedTuple

import numpy as np

from nsi import response
from nsi.network import Network, run, synaptic_state
from nsi.sums import sum_products

TINY = 1e-30  # states of silent units decay to numbers that slow a CPU down


def unsigned_product(net):
    """The published reading of the same path, W[resp, input] @ W[input, resp]. Returns: (n, n)."""
    return net.W[: net.n, net.n :] @ net.W[net.n :, : net.n]


class Clamped(NamedTuple):
    """A network run with its recorded units clamped, after the first steps."""

    x: np.ndarray  # (trials, steps, n + input units + 1): state of both, and 1
    slopes: np.ndarray  # (trials, steps, input units): phi'
    known: np.ndarray  # (trials, steps, n): stimulus, and velocity's current where it enters recorded units
    velocity: np.ndarray  # (trials, steps, D)
    rates: np.ndarray  # (trials, steps, n)
    valid: np.ndarray  # (trials, steps) bool: recorded, not padding


def clamp(net, rec):
    """Run the input units, recorded units clamped to their recorded state. Returns: Clamped, from step 8 / alpha on."""
    n, size = net.n, len(net.b)
    u = synaptic_state(rec.rates, net.alpha)
    trials, steps, _ = u.shape
    first = min(int(np.ceil(8 / net.alpha)), steps // 4)
    settled = lambda a: a[:, first:]  # noqa: E731
    x = np.ones((trials, steps - first, size + 1), np.float32)
    x[..., :n] = silenced(settled(u))
    slopes = np.empty((trials, steps, size - n), np.float32)
    known = np.zeros_like(rec.rates) if rec.stimulus is None else rec.stimulus.copy()
    if net.W_in[:, :n].any():
        known += rec.velocity @ net.W_in[:, :n]
    if size > n:
        inputs = Network(net.W[n:, n:], net.W_in[:, n:], net.b[n:], net.alpha, 0, saturation=net.saturation)
        np.matmul(u, net.W[:n, n:], out=slopes)  # what they receive, until a step takes its place
        current = lambda t: slopes[:, t]  # noqa: E731
        start = np.zeros((trials, size - n), np.float32)
        for t, (s, r) in enumerate(run(inputs, rec.velocity, start, current)):
            slopes[:, t] = response.slope(r)
            if t >= first:
                x[:, t - first, n:-1] = silenced(s)
    return Clamped(x, *(settled(a) for a in (slopes, known, rec.velocity, rec.rates, rec.valid)))


def silenced(u):
    """A state without numbers so small that they slow a CPU down."""
    return np.where(np.abs(u) < TINY, 0.0, u)


def regress_on_state(u, y, ridge=1e-2):
    """The linear map that best takes the state u (..., n) to y (..., m), its unseen directions left at 0. (n, m)."""
    u, y = (a.reshape(int(np.prod(a.shape[:-1])), a.shape[-1]) for a in (u, y))
    cov = sum_products(u, u) / len(u)
    cov += ridge * np.linalg.eigvalsh(cov)[-1] * np.eye(len(cov))
    return np.linalg.solve(cov, sum_products(u, y) / len(u))


def hidden_path_map(clamped, n):
    """Mean state of the input units as a linear function of the response units' state. Returns: (n, input units)."""
    x = clamped.x[clamped.valid]
    return regress_on_state(x[:, :n], x[:, n:-1])


def gate_map(net, clamped):
    """Linear map from W[input, resp] to the effective gate. Returns: (D, n, input units)."""
    active = regress_on_state(clamped.x[clamped.valid][:, : net.n], clamped.slopes[clamped.valid])  # (n, input units)
    return active * net.W_in[:, None, net.n :]


def effective_gate(net, rec):
    """The effective gate: d current / d velocity as a linear function of the response units' state.

    Unlike the product of weights (`gate`) it counts an input unit only while it is active, so that its size can be
    compared between networks. Returns: (D, n, n).
    """
    return gate_map(net, clamp(net, rec)) @ net.W[net.n :, : net.n]
