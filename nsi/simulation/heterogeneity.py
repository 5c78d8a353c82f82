"""Circuits whose connections are not alike from pair to pair, with the behaviour of those that are: on a symmetric ring
any smooth estimate resembles the connectivity."""

import numpy as np

from nsi import network

SPEEDS = (-4, -2, -1, 0, 1, 2, 4)  # rad/s, at which a balanced circuit's currents are the even one's
HEADINGS = 72  # places around the ring, likewise
SHEET_PLACES = 144  # on a torus
SHEET_SPEEDS = 2, 4  # besides 0
SHEET_DIRECTIONS = 6
MIN_SINGULAR_VALUE = 1e-3  # relative singular value below which a balance is not sought
REST_STEPS, TRAVEL_STEPS = 200, 260  # of a bump at rest, and with those in which it travels
SILENT_WEIGHT = 0.1  # weight of states in which a neuron is silent


def vary_weights(circuit, rng, jitter=0.0, jitter_hidden=0.0, sparse=0.0, balance=False):
    """A circuit with weights changed pair by pair.

    rng: numpy Generator; jitter: relative s.d. of the weights among recorded neurons; jitter_hidden: of those to and
    from hidden ones; sparse: share of the weights among recorded neurons that is absent, the others making up for it;
    balance: then change each neuron's incoming weights, of those it has, as little as makes its current along the
    travelling bump the even circuit's. Returns: Circuit.
    """
    net, n = circuit.network, circuit.network.n
    W, size = net.W.copy(), len(net.b)
    W[:n, :n] *= 1 + jitter * rng.standard_normal((n, n))
    if sparse:
        W[:n, :n] *= (rng.random((n, n)) >= sparse) / (1 - sparse)
    if jitter_hidden:
        W[:n, n:] *= 1 + jitter_hidden * rng.standard_normal((n, size - n))
        W[n:, :n] *= 1 + jitter_hidden * rng.standard_normal((size - n, n))
    if balance:
        W = _balanced(circuit, W)
    return circuit._replace(network=net._replace(W=W))


def travelling_states(circuit):
    """States of the noiseless circuit while its bump travels. Returns: u (samples, M) and v (samples, D)."""
    net, d = circuit.network, circuit.geometry.dimensions
    places, moving = circuit.geometry.places(HEADINGS if d == 1 else SHEET_PLACES), np.array(SPEEDS)[:, None]
    if d > 1:
        angle = np.arange(SHEET_DIRECTIONS) * 2 * np.pi / SHEET_DIRECTIONS
        around = np.stack([np.cos(angle), np.sin(angle)], -1)
        moving = np.concatenate([np.zeros((1, d)), *(speed * around for speed in SHEET_SPEEDS)])
    states, velocities = [], []
    for v in moving:
        velocity = np.ones((len(places), TRAVEL_STEPS, len(net.W_in)))  # further inputs at 1
        velocity[:, :REST_STEPS, :d], velocity[:, REST_STEPS:, :d] = 0, v
        u = np.zeros((len(places), len(net.b)))
        u[:, : net.n] = circuit.geometry.bump(circuit.geometry.places(net.n), places)
        for before, _ in network.run(net, velocity, u):
            last = before
        states.append(last)
        velocities.append(velocity[:, -1])
    return np.concatenate(states), np.concatenate(velocities)


def _balanced(circuit, W):
    """W with each changed neuron's existing incoming weights adjusted, by least squares relative to their sizes."""
    net = circuit.network
    u, v = travelling_states(circuit)
    current = u @ net.W + net.b + net.drive(v)
    weight = np.where(current > -0.15, 1.0, SILENT_WEIGHT)  # (samples, M)
    balanced = W.copy()
    for j in np.flatnonzero((W != net.W).any(0)):
        there = np.flatnonzero(W[:, j])
        missing = u @ (net.W[:, j] - W[:, j]) * weight[:, j]
        size = np.abs(net.W[there, j])
        size = size + 0.1 * size.max()
        change, *_ = np.linalg.lstsq(u[:, there] * size * weight[:, j, None], missing, rcond=MIN_SINGULAR_VALUE)
        balanced[there, j] += size * change
    return balanced
