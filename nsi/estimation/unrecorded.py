"""States of neurons that a session lacks, predicted from those that it recorded (filter: Kalman 1960,
doi 10.1115/1.3662552).

With the weights so far, and the same circuit in all sessions,

    x = u W + v W_in + b + stimulus + s e,      r = phi(x),      u' = u + alpha (r - u)

Before each step the missing states are N(m, P); what recorded neurons' currents differ from those that m predicts, d,
corrects them. With H the weights from missing to recorded neurons,

    S = H' P H + s^2,    K = P H S^-1,    m <- m + d K,    P <- P - K H' P      and then one step on, E phi(x) for r

Rates are linearised by each neuron's mean slope, so that K and P settle. The prediction u^ rests on earlier samples
alone, so that its error is uncorrelated with it, and y = u^ W + (u - u^) W + s e is a regression without bias.
"""

from typing import NamedTuple

import numpy as np

from nsi.estimation.censored import hazard
from nsi.estimation.signals import settled, state_of

NODES, NODE_WEIGHTS = np.array([-1.0, 0.0, 1.0]) * np.sqrt(3), np.array([1.0, 4.0, 1.0]) / 6  # Gauss-Hermite
SETTLING = 2  # times as many steps as forget a trial's first state, after which P has settled


class Circuit(NamedTuple):
    """What predicts states: weights so far."""

    weights: np.ndarray  # (n + D + 1, n), from neurons, inputs and 1
    centre: np.ndarray  # (n + D + 1,), that these are relative to
    variance: np.ndarray  # (n,), s^2
    slope: np.ndarray  # (n,), mean of phi'


def predict_states(rec, recorded, circuit, alpha, response):
    """Predict the states of one session. rec: its Recording, rates NaN where a neuron is not recorded; recorded: (n,)
    bool; circuit: Circuit, or None where nothing is known yet. Returns: states (trials, steps, n) float32, recorded
    ones as they are and the others predicted, or 0; what the error of these adds to the variance of each recorded
    neuron's current (n,)."""
    o, h = np.flatnonzero(recorded), np.flatnonzero(~recorded)
    rates = np.float32(response.scale) * rec.rates[..., o]
    states, added = np.zeros(rec.rates.shape, np.float32), np.zeros(len(recorded))
    states[..., o] = state_of(rates, alpha)
    if circuit is None or not len(h):
        return states, added
    W, inputs = np.split(circuit.weights, [len(recorded)])
    H, across, s2, slope = W[np.ix_(h, o)], W[np.ix_(h, h)], circuit.variance, circuit.slope[h]
    onward, fresh = (1 - alpha) * np.eye(len(h)) + alpha * across * slope, np.diag((alpha * slope) ** 2 * s2[h])
    after = P = fresh / (1 - (1 - alpha) ** 2)
    for _ in range(SETTLING * settled(alpha, rates.shape[1])):
        P = onward.T @ after @ onward + fresh
        S = H.T @ P @ H + np.diag(s2[o])
        K = np.linalg.solve(S, H.T @ P)  # (o, h)
        after = P - P @ H @ K
    added[o] = np.diag(S) - s2[o]
    sd_o, sd_h = np.sqrt(np.diag(S)), np.sqrt(np.einsum("ab,ac,cb->b", across, after, across) + s2[h])
    v = rec.velocity[..., : len(inputs) - 1]
    known = states[..., o] @ W[o] + v @ inputs[:-1] + inputs[-1] - circuit.centre @ circuit.weights
    known += 0.0 if rec.stimulus is None else rec.stimulus
    current, shown = response.current(rates), response.usable(rates)
    side = np.where(rates > 0, -1.0, 1.0)  # of the bound that a current is beyond, where it is not shown
    bound, complete, spread = np.where(rates > 0, current, 0.0), shown.all((0, 2)), NODES[:, None, None] * sd_h
    m = np.broadcast_to(response.phi(known[..., h].mean((0, 1))), (len(rates), len(h)))
    for t in range(rates.shape[1]):
        states[:, t, h] = m
        x = known[:, t, o] + m @ H
        apart = bound[:, t] - x
        if not complete[t]:
            z = np.clip(side[:, t] * apart / sd_o, -50, 12)
            apart = np.where(shown[:, t], apart, -side[:, t] * sd_o * hazard(z))
        after = m + apart @ K
        rate = response.phi(known[:, t, h] + after @ across + spread)
        m = after + alpha * (np.tensordot(NODE_WEIGHTS, rate, 1) - after)
    return states, added
