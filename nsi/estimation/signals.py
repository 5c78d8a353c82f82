"""The signals from which the input current of a recorded neuron is a linear combination, all known from the recording.

    current_j = u @ W[:, j] + path_j + b_j + stimulus_j + noise

u is the recorded synaptic state. What reaches neuron j through hidden neurons, path_j, is described by blocks of
signals that one more synapse F has filtered: *copies*, hidden neurons that each receive the recorded activity around
one place, have a threshold, and are driven or inhibited by the velocity,

    F(phi(gain * u @ K(width) - threshold +- drive * s(v_d))) @ V @ C,      s(v) = tanh(v sqrt(c)) / sqrt(c)

(c is 0 where the drive does not level off; copies that excite each other receive excitation * F(h) @ K(reach) as well,
h being the rates of their own sheet), and, for what copies leave, the first terms of any smooth path, F(u V) and
F(v_d u V), and where the recording surely needs them F(v_d v_e u V). V has the leading directions of the recorded
states. Where the velocity multiplies connections there is no synapse between: v_d u V and v_d v_e u V.
The last block, F(e) V with the residuals e so far, is what hidden neurons' own noise still does to the current: their
synapses filter it, so that it is predictable from the residuals before (extended least squares).
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from nsi import response
from nsi.network import synaptic_state
from nsi.sums import sum_products

LEADING = 20  # directions of the recorded states in which all blocks but the direct one are described
MAX_DIRECT = 256  # neurons whose states are used one by one where only predictions matter; of more, leading directions
NEGLIGIBLE = 1e-12  # states of silent neurons decay to numbers that slow a processor down
SETTLE = 8  # synaptic time constants after which a trial's unknown first state is forgotten


def state_of(rates, alpha):
    """The synaptic state, without negligible numbers. rates: (trials, steps, n). Returns: float32 of that shape."""
    u = synaptic_state(rates.astype(np.float32, copy=False), alpha)
    np.copyto(u, np.float32(0.0), where=np.abs(u) < NEGLIGIBLE)
    return u


class Copies(NamedTuple):
    """Hidden neurons that copy the recorded activity: one at each place of some recorded neurons, for each sign of the
    velocity's components."""

    gain: float  # of what they receive
    width: float  # rad, s.d. of the recorded activity around a place that they receive
    threshold: float
    drive: float  # per rad/s
    centres: np.ndarray | None = None  # (n,) bool, recorded neurons that copies are centred on (None: all)
    saturation: float = 0.0  # c, (s/rad)^2: the drive levels off at drive / sqrt(c)
    excitation: float = 0.0  # sum of the weights that each receives from its own sheet
    reach: float = 0.0  # rad, s.d. of the places around its own from which it receives these
    senders: np.ndarray | None = None  # (n,) bool, recorded neurons that they receive from (None: all)

    def saturated(self, v):
        """The velocity as it drives them, s(v). v: any shape. Returns: the same."""
        if self.saturation * np.max(np.square(v), initial=0.0) < NEGLIGIBLE:
            return v
        root = np.sqrt(self.saturation).astype(v.dtype)
        return np.tanh(root * v) / root

    def kernel(self, geometry, places):
        """Weights from recorded neurons to copies, which sum to the gain. places: (n, D) rad. Returns: (n, n)."""
        distance = geometry.distance(places[:, None], places)
        near = np.exp(-0.5 * (distance / max(self.width, 1e-6)) ** 2)
        near[near < NEGLIGIBLE] = 0.0
        if self.senders is not None:
            near *= self.senders[:, None]
        if self.centres is not None:
            near *= self.centres
        return (self.gain * near / np.maximum(near.sum(0), NEGLIGIBLE)).astype(np.float32)

    def coupling(self, geometry, places):
        """Weights among a sheet's copies, which sum to the excitation. Returns: (n, n), or None without."""
        if not self.excitation:
            return None
        return self._replace(gain=self.excitation, width=self.reach, senders=self.centres).kernel(geometry, places)

    def rates(self, u, v, geometry, places, alpha=None, states=None):
        """Their rates, for each component of the velocity driven and inhibited.

        u: (..., n); v: (..., D). Of copies that excite each other u is (trials, steps, n), with alpha, dt / tau; or
        states: for each sheet (..., n), F of its rates. Yields: sign * component + 1 as (component, sign), rates
        (..., n).
        """
        received, v = u @ self.kernel(geometry, places) - np.float32(self.threshold), self.saturated(v)
        coupling = self.coupling(geometry, places)
        for k, (d, sign) in enumerate((d, sign) for d in range(v.shape[-1]) for sign in (1, -1)):
            current = received + np.float32(sign * self.drive) * v[..., d : d + 1]
            if coupling is not None and states is None:
                rates = excite(current, coupling, alpha)
            else:
                rates = response.phi(current if coupling is None else current + states[k] @ coupling)
            yield (d, sign), rates if self.centres is None else rates * self.centres


def excite(current, coupling, alpha):
    """Rates of neurons that excite each other. current: (trials, steps, n), all else that they receive; coupling:
    (n, n). Returns: (trials, steps, n)."""
    rates = np.empty_like(current)
    rates[:, 0] = state = response.phi(current[:, 0])
    for t in range(1, current.shape[1]):
        rates[:, t] = response.phi(current[:, t] + state @ coupling)
        state += np.float32(alpha) * (rates[:, t] - state)
    return rates


class Block(NamedTuple):
    """Some columns of the regressors that share a prior."""

    name: str  # direct, driven, copies, path, gate, products, noise
    columns: slice
    directions: np.ndarray | None  # (n, k) that the columns' signals are in, None: one column for each neuron
    group: str  # blocks of one group share the scales of their prior
    component: tuple = ()  # of the velocity, and sign, where there is one

    @property
    def size(self):
        return self.columns.stop - self.columns.start


class Signals(NamedTuple):
    """Regressors of a recording after the first steps of each trial; the last column is 1."""

    x: np.ndarray  # (trials, steps, q) float32
    blocks: tuple  # of Block
    first: int  # step at which they begin

    def with_block(self, name, signal, directions):
        """The same with one more block, put before the constant. signal: (trials, steps, k)."""
        end = self.x.shape[-1] - 1
        block = Block(name, slice(end, end + signal.shape[-1]), directions, name)
        x = np.concatenate([self.x[..., :-1], signal.astype(np.float32), self.x[..., -1:]], -1)
        return Signals(x, (*self.blocks, block), self.first)


def settled(alpha, steps):
    """The step after which a trial's first state no longer matters. Returns: at most a quarter of the steps."""
    return min(int(np.ceil(SETTLE / alpha)), steps // 4)


def leading_directions(u, valid, count=LEADING):
    """The directions of largest mean square of the recorded states. u: (trials, steps, n). Returns: (n, count)."""
    states = u[valid]
    return leading_eigenvectors(second_moment(states[:: max(1, len(states) // 50_000)]), count)


def leading_eigenvectors(square, count):
    """Those of a symmetric matrix with the largest eigenvalues. Returns: (n, count) float32, the largest first."""
    n = len(square)
    return eigh(square, subset_by_index=[max(0, n - count), n - 1])[1][:, ::-1].astype(np.float32)


def describe_states(u, valid):
    """The recorded states as regressors, of many neurons in as many leading directions. u: (trials, steps, n). Returns:
    (trials, steps, n or MAX_DIRECT)."""
    return u if u.shape[-1] <= MAX_DIRECT else u @ leading_directions(u, valid, MAX_DIRECT)


def second_moment(x, y=None):
    """x.T @ y / samples, summed in double precision. x: (samples, p); y: (samples, q), default: x."""
    return sum_products(x, y) / max(1, len(x))


def hidden_signals(u, v, alpha, directions, rates=(), driven=False, products=False):
    """All blocks of the description with hidden neurons.

    u: (trials, steps, n) state; v: (trials, steps, D); directions: (n, k); rates: of copies, `Copies.rates`'s; driven:
    whether some recorded neurons receive the velocity themselves; products: with F(v_d v_e u V) too. Returns: Signals.
    """
    filtered = lambda a: state_of(a, alpha)
    z = u @ directions
    parts = [("direct", u, None, "direct", ())]
    if driven:
        parts.append(("driven", v, None, "driven", ()))
    for component, r in rates:
        parts.append(("copies", filtered(r @ directions), directions, "copies", component))
    parts.append(("path", filtered(z), directions, "path", ()))
    for d in range(v.shape[-1]):
        parts.append(("gate", filtered(v[..., d : d + 1] * z), directions, "gate", (d, 1)))
    for d, e in pairs(v.shape[-1]) if products else ():
        parts.append(("products", filtered(v[..., d : d + 1] * v[..., e : e + 1] * z), directions, "products", (d, e)))
    return _assemble(parts, alpha)


def multiplied_signals(u, v, alpha, directions, driven=False):
    """All blocks of the description with connections that the velocity multiplies, products of its components in the
    first LEADING directions. Arguments as `hidden_signals`."""
    z, components = u @ directions, range(v.shape[-1])
    few = directions[:, :LEADING]
    parts = [("direct", u, None, "direct", ())]
    if driven:
        parts.append(("driven", v, None, "driven", ()))
    parts += [("gate", v[..., d : d + 1] * z, directions, "gate", (d, 1)) for d in components]
    for d, e in pairs(v.shape[-1]):
        product = v[..., d : d + 1] * v[..., e : e + 1] * z[..., :LEADING]
        parts.append(("products", product, few, "products", (d, e)))
    return _assemble(parts, alpha)


def pairs(components):
    """All pairs of components of the velocity, each with itself too."""
    return [(d, e) for d in range(components) for e in range(d, components)]


def _assemble(parts, alpha):
    first, blocks, start = settled(alpha, parts[0][1].shape[1]), [], 0
    for name, signal, directions, group, component in parts:
        blocks.append(Block(name, slice(start, start + signal.shape[-1]), directions, group, component))
        start += signal.shape[-1]
    trials, steps, _ = parts[0][1].shape
    x = np.empty((trials, steps - first, start + 1), np.float32)
    for block, (_, signal, *_) in zip(blocks, parts, strict=True):
        x[..., block.columns] = signal[:, first:]
    x[..., -1] = 1.0
    return Signals(x, tuple(blocks), first)
