"""Effective connectivity as a function of the input, and its expansion in the input's powers.

    J(v) = W + v G1 + v^2 G2 + v^3 G3        of two inputs: W + v1 G10 + v2 G01 + v1^2 G20 + v1 v2 G11 + v2^2 G02

J(v) is what one recorded neuron does to another while the input is v, directly and through hidden neurons. It is
measured in the same way on circuits and on fitted networks: recorded units are clamped to recorded states, and the
input to each value of a grid, until the hidden units are in equilibrium; the linear map from the states to the currents
that they cause is J(v), and the orders are its regression on the powers of v, weighted by how often v has such a value.
"""

from itertools import product
from typing import NamedTuple

import numpy as np

from nsi import response
from nsi.network import synaptic_state

STATES = 400  # recorded states at which J is measured
GRID_REACH_SD = 2.5  # s.d. of the input that the grid covers to either side
GRID_POINTS = {1: 21, 2: 9}  # of the grid along each input
MAX_DEGREE = {1: 3, 2: 2}  # highest order
RIDGE = 1e-2  # of the states' leading eigenvalue: directions with less variance are left at 0


class Measure(NamedTuple):
    """States, grid and regressions that measure orders, the same for a circuit and for the fits to its recording."""

    states: np.ndarray  # (STATES, n)
    grid: np.ndarray  # (points, D), values of the input
    onto: np.ndarray  # (n, STATES), takes currents at the states to the linear map from states to currents
    fit: np.ndarray  # (K + 1, points), takes J over the grid to its orders
    powers: np.ndarray  # (K + 1, D) int, of each order's monomial
    size: np.ndarray  # (K + 1,), r.m.s. of each monomial


def powers_of(dimensions):
    """The powers of each input in each order, the lower degrees first. Returns: (K + 1, D) int."""
    top = MAX_DEGREE.get(dimensions, 1)
    every = [p for p in product(range(top + 1), repeat=dimensions) if sum(p) <= top]
    return np.array(sorted(every, key=lambda p: (sum(p), [-k for k in p])))


def monomials(v, powers):
    """The inputs' monomials. v: (..., D); powers: (K + 1, D). Returns: (..., K + 1)."""
    return np.prod(v[..., None, :] ** powers, -1)


def spread_of(velocity):
    """S.d. of each component, 1 where it does not vary. velocity: (samples, D). Returns: (D,)."""
    sd = velocity.astype(np.float64).std(0)
    return np.where(sd > 0, sd, 1.0)


def measure_of(rates, velocity, alpha, valid=None):
    """Prepare the measurement of orders from a recording.

    rates: (trials, steps, n); velocity: (trials, steps, D); alpha: dt / tau; valid: (trials, steps) bool, or None.
    Returns: Measure.
    """
    late = slice(min(int(np.ceil(8 / alpha)), rates.shape[1] // 4), None)  # the first states are guesses
    valid = np.ones(rates.shape[:2], bool) if valid is None else valid
    u = synaptic_state(rates, alpha)[:, late][valid[:, late]].astype(np.float64)
    states = u[np.linspace(0, len(u) - 1, STATES).round().astype(int)]
    d = velocity.shape[-1]
    sd = spread_of(velocity[valid])
    line = np.linspace(-GRID_REACH_SD, GRID_REACH_SD, GRID_POINTS.get(d, 3))
    z = np.stack(np.meshgrid(*[line] * d, indexing="ij"), -1).reshape(-1, d)
    weight = np.exp(-(z**2).sum(-1) / 2)
    powers, root = powers_of(d), np.sqrt(weight / weight.sum())
    terms = monomials(z * sd, powers)
    cov = states.T @ states / len(states)
    cov += RIDGE * np.linalg.eigvalsh(cov)[-1] * np.eye(len(cov))
    onto = np.linalg.solve(cov, states.T) / len(states)
    fit = np.linalg.pinv(terms * root[:, None]) * root
    return Measure(states, z * sd, onto, fit, powers, np.sqrt(((terms * root[:, None]) ** 2).sum(0)))


def hidden_states(net, measure):
    """The hidden units in equilibrium at each state and input. Returns: (points, STATES, M - n)."""
    n, among = net.n, net.W[net.n :, net.n :].astype(np.float32)
    from_state = measure.states @ net.W[:n, n:] + net.b[n:]
    drive = net.drive(measure.grid)[:, n:]
    if not among.any():
        return response.phi((from_state + drive[:, None]).astype(np.float32))
    every, s = [], np.zeros_like(from_state, np.float32)
    for k, point in enumerate(drive):  # each from where the last two, continued in a line, came to rest
        fixed = (from_state + point).astype(np.float32)
        s = np.maximum(0, 2 * s - every[-2]) if k > 1 else s
        for _ in range(100):
            before, s = s, s + 0.3 * (response.phi(fixed + s @ among) - s)
            if np.abs(s - before).max() < 1e-5:
                break
        every.append(s)
    return np.stack(every)


def effective(net, measure):
    """J over the grid. Thresholds count, since a bump's sum is constant and a uniform inhibition equals a threshold.

    net: Network, a circuit or a fitted one. Returns: (points, n, n).
    """
    n, u = net.n, measure.states
    J = np.repeat((measure.onto @ (u @ net.W[:n, :n] + net.b[:n]))[None], len(measure.grid), 0)
    J += measure.onto.sum(1)[:, None] * net.drive(measure.grid)[:, None, :n]
    if len(net.b) > n:
        J += np.einsum("is,gsk->gik", measure.onto, hidden_states(net, measure), optimize=True) @ net.W[n:, :n]
    if net.W_gain is not None:
        J += measure.grid[:, :1, None] * (measure.onto @ (u @ net.W_gain))
    for powers, G in net.products:
        J += monomials(measure.grid, np.array([powers]))[..., None] * (measure.onto @ (u @ G))
    return J


def expansion(net, measure):
    """The orders of a network's effective connectivity. Returns: (K + 1, n, n), per power of the input's unit."""
    return np.einsum("kg,gij->kij", measure.fit, effective(net, measure))


def of_circuit(net, rates, velocity):
    """A circuit's true orders, at the states of a recording of it. Returns: (K + 1, n, n)."""
    return expansion(net, measure_of(rates, velocity, net.alpha))
