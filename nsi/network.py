"""A network, simulated or fitted, and its one step.

    r[t]   = phi(u[t] @ W + b + v[t] @ W_in + v[t] * (u[t] @ W_gain) + current[t])      phi(x) = max(0, tanh(x))
    u[t+1] = u[t] + alpha * (r[t] - u[t])                                               alpha = dt / tau

W[i, j] is the weight from neuron i to neuron j. Two things may be of higher order in v: `saturation` s puts
s * tanh(v / s) in the place of v where it enters through W_in, and `products` of powers of v's components multiply
further matrices, as v does W_gain.
"""

from typing import NamedTuple

import numpy as np

from nsi import response

PUBLISHED_ALPHA = 0.2  # of the publication's networks, taken where nothing says another
PIECE = 32  # steps of the synaptic state that are worked out at a time


class Network(NamedTuple):
    """M neurons, the n that are recorded first: compass neurons of a circuit, response units of a fit."""

    W: np.ndarray  # (M, M)
    W_in: np.ndarray  # (D, M), per rad/s, 0 where the velocity does not enter
    b: np.ndarray  # (M,)
    alpha: float
    n: int
    W_gain: np.ndarray | None = None  # (n, n), per rad/s
    products: tuple = ()  # of pairs: powers of v's components, (D,) int, and what their product multiplies, (n, n)
    saturation: float | None = None  # rad/s at which the drive through W_in levels off

    @property
    def driven_hidden(self):
        """Which hidden neurons the velocity enters. (M - n,) bool."""
        return (self.W_in[:, self.n :] != 0).any(0)

    def cast(self, dtype):
        """The same network, its weights of another type."""
        W, W_in, b, W_gain = (a if a is None else a.astype(dtype) for a in (self.W, self.W_in, self.b, self.W_gain))
        products = tuple((powers, G.astype(dtype)) for powers, G in self.products)
        return self._replace(W=W, W_in=W_in, b=b, W_gain=W_gain, products=products)

    def drive(self, v):
        """Current of each neuron from the velocity v (..., D) through W_in. Returns: (..., M)."""
        return (v if self.saturation is None else self.saturation * np.tanh(v / self.saturation)) @ self.W_in

    def gate(self):
        """The velocity-signed path among recorded neurons, through hidden ones or by gain. Returns: (D, n, n)."""
        n = self.n
        through = np.stack([(self.W[:n, n:] * w_in) @ self.W[n:, :n] for w_in in self.W_in[:, n:]])
        return through if self.W_gain is None else through + self.W_gain


def step(net, u, v, current=0.0):
    """One Euler step.

    u: (trials, M) synaptic state; v: (trials, D) rad/s; current: (trials, M), stimulus and noise.
    Returns: r (trials, M) now, u (trials, M) a step later.
    """
    x = u @ net.W + net.b + net.drive(v) + current
    if net.W_gain is not None:
        x[:, : net.n] += v[:, :1] * (u[:, : net.n] @ net.W_gain)
    for powers, G in net.products:
        x[:, : net.n] += np.prod(v**powers, -1, keepdims=True) * (u[:, : net.n] @ G)
    r = response.phi(x)
    return r, u + net.alpha * (r - u)


def run(net, velocity, u, current=None, recorded=None, clamped=0):
    """Step through time, the first neurons clamped to their recorded state up to and with step `clamped`.

    velocity: (trials, steps, D) rad/s; u: (trials, M) first state; current: called with the step, what to add to the
    currents, or None; recorded: (trials, steps, n) state or None.
    Yields: u (trials, M), the state that a step started from, and r (trials, M), its rates.
    """
    for t in range(velocity.shape[1]):
        if recorded is not None and t <= clamped:
            u[:, : recorded.shape[-1]] = recorded[:, t]
        r, after = step(net, u, velocity[:, t], 0.0 if current is None else current(t))
        yield u, r
        u = after


def predict(net, rec, warmup=None, start=0, steps=None):
    """Run a network on a recording, free after `warmup` steps (None: recorded units clamped throughout).

    net: Network; rec: Recording. Returns: rates (trials, steps, units) float32, from step `start` on.
    """
    steps = rec.rates.shape[1] - start if steps is None else steps
    return predict_from(net, rec, steps if warmup is None else warmup, [start], steps)[0]


def predict_from(net, rec, warmup, starts, steps):
    """Run a network from several moments of a recording at once, as `predict` does from one.

    starts: the steps to begin at, each with `steps` after it. Returns: rates (starts, trials, steps, units) float32.
    """
    state = synaptic_state(rec.rates[:, : max(starts) + steps], net.alpha)
    pieces = lambda a: np.concatenate([a[:, start : start + steps] for start in starts])
    u = np.zeros((len(starts) * len(state), len(net.b)), np.float32)
    rates = np.empty((len(u), steps, len(net.b)), np.float32)
    current = None
    if rec.stimulus is not None:
        wide, stimulus = np.zeros_like(u), pieces(rec.stimulus)

        def current(t):
            wide[:, : net.n] = stimulus[:, t]
            return wide

    for t, (_, r) in enumerate(run(net, pieces(rec.velocity), u, current, pieces(state), warmup)):
        rates[:, t] = r
    return rates.reshape(len(starts), len(state), *rates.shape[1:])


def predict_hidden(net, rec, state=None):
    """The hidden units' rates while the recorded units are clamped, as `predict` has them beside all others.

    state: of the recorded neurons, if it is known already. Returns: (trials, steps, hidden units) float32.
    """
    n, among = net.n, net.W[net.n :, net.n :]
    a = (synaptic_state(rec.rates, net.alpha) if state is None else state) @ net.W[:n, n:]
    a += net._replace(W_in=net.W_in[:, n:]).drive(rec.velocity) + net.b[n:]
    if not among.any():  # then nothing depends on the step before
        return response.phi(a)
    u = np.zeros_like(a[:, 0])
    for t in range(a.shape[1]):
        a[:, t] = response.phi(a[:, t] + u @ among)
        u += net.alpha * (a[:, t] - u)
    return a


def synaptic_state(rates, alpha):
    """The state u that the rates imply: u[t+1] = u[t] + alpha * (r[t] - u[t]), starting at u[0] = r[0].

    Worked out in pieces of PIECE steps, each a product with a triangular matrix, to which the state before is added.
    rates: (trials, steps, n). Returns: (trials, steps, n). The start is forgotten after some 1 / alpha steps.
    """
    steps, u = rates.shape[1], np.empty_like(rates, order="C")
    if steps == 0:
        return u
    u[:, 0] = rates[:, 0]
    kept = (1.0 - alpha) ** np.arange(1, PIECE + 1)  # of the state before a piece
    lag = np.arange(PIECE)[:, None] - np.arange(PIECE)
    added = np.where(lag >= 0, alpha * (1.0 - alpha) ** np.maximum(lag, 0), 0.0)
    kept, added = kept.astype(u.dtype)[:, None], added.astype(u.dtype)
    for start in range(1, steps, PIECE):
        stop = min(start + PIECE, steps)
        size = stop - start
        np.matmul(added[:size, :size], rates[:, start - 1 : stop - 1], out=u[:, start:stop])
        u[:, start:stop] += kept[:size] * u[:, start - 1 : start]
    return u
