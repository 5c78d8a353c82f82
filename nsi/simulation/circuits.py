"""The circuits that can be simulated, one function each. `CIRCUITS` names them for the command line.

A ring attractor of compass neurons holds a bump of activity; what moves it with the velocity v differs. In the shifter
circuits (after Turner-Evans et al. 2017, doi 10.7554/eLife.23496) v excites right and inhibits left shifter neurons,
which copy the bump and send it back displaced to either side. In the gain network (the published simulation) there are
no shifters: v multiplies a second matrix. Grid cells hold a bump on a torus, and the velocity has two components.

`even`, `saturating`, `product` and `quadratic` answer the velocity in a higher order; `inhibited`, `coupled` and
`mixed` break what a fit may assume of hidden neurons (nsi/hidden/units.py).
"""

from typing import NamedTuple

import numpy as np

from nsi.geometry import RING, TORUS, Ring, Torus
from nsi.geometry.plane_waves import third
from nsi.network import Network
from nsi.simulation.stimulation import random_velocity

DT_S = 0.01  # s, time step of all circuits but the published one
GAIN_DT_S = 0.025  # s, of the published one
TAU_S = 0.05  # s, synaptic time constant, likewise


class Circuit(NamedTuple):
    """A network, the shape of its attractor, and its time step."""

    network: Network
    geometry: Ring | Torus
    dt: float  # s
    modulation: tuple | None = None  # of a second input that multiplies the velocity: s.d., and correlation time in s

    def inputs(self, rng, velocity):
        """The velocity (trials, steps, D) and, drawn at random, the second input, if any, as a further component."""
        if self.modulation is None:
            return velocity
        trials, steps, _ = velocity.shape
        second = random_velocity(rng, trials, steps, self.dt, *self.modulation)
        return np.concatenate([velocity, second], -1)

    def turning(self, inputs):
        """Turning of the heading, rad/s. inputs: (..., D), `inputs`'s. Returns: (..., geometry.dimensions) rad/s."""
        return self.geometry.movement(inputs) if self.modulation is None else inputs.prod(-1, keepdims=True)

    @property
    def tau(self):
        """Synaptic time constant, s."""
        return self.dt / self.network.alpha


def ring(n=100, shifters=50, cosine=0.12, displacement=np.pi / 2, amplitude=0.179, threshold=0.4, drive=0.04):
    """n compass neurons, then `shifters` left and as many right shifter neurons: the default circuit.

    At rest left and right cancel, and the compass ring alone holds the bump. Weights scale as 1 / n. The angular gain
    is 1 within 3 % at every speed up to 3 rad/s.

    cosine: of the ring's weights; displacement (rad) and amplitude: of what shifters send; threshold: above any
    velocity's drive (five s.d.), so that shifters are silent away from the bump; drive: velocity weight, per rad/s.
    """
    compass, shifter = RING.places(n)[:, 0], RING.places(shifters)[:, 0]
    left, right = slice(n, n + shifters), slice(n + shifters, None)
    size = n + 2 * shifters
    W, b, W_in = np.zeros((size, size)), np.zeros(size), np.zeros((1, size))
    W[:n, :n] = (cosine * np.cos(compass[:, None] - compass) - 0.03) * 100 / n
    width = 0.8 * 2 * np.pi / shifters  # s.d. of a narrow patch, wide enough for the shifters to tile the ring
    copy = np.exp((np.cos(compass[:, None] - shifter) - 1) / width**2)
    W[:n, left] = W[:n, right] = copy / copy.sum(0)
    W[left, :n] = amplitude * np.cos(compass - shifter[:, None] + displacement) * 50 / shifters
    W[right, :n] = amplitude * np.cos(compass - shifter[:, None] - displacement) * 50 / shifters
    b[n:] = -threshold
    W_in[0, left], W_in[0, right] = -drive, drive
    return Circuit(Network(W, W_in, b, DT_S / TAU_S, n), RING, DT_S)


def holding(n=100, shifters=50, tau=TAU_S, **settings):
    """A weaker ring whose shifters, displaced by 60 degrees, help to hold the bump, as in the fly.

    tau: synaptic time constant, s; settings: of `ring`.
    """
    defaults = {"cosine": 0.08, "displacement": np.pi / 3, "amplitude": 0.178, "drive": 0.065}
    circuit = ring(n, shifters, **defaults | settings)
    return circuit._replace(network=circuit.network._replace(alpha=DT_S / tau))


def inhibited(n=100, shifters=50):
    """The default circuit with a sign turned: compass neurons inhibit shifters, which fire by themselves away from the
    bump, and what they send is turned too, so that they move the bump as ever."""
    circuit = ring(n, shifters, amplitude=0.167, threshold=-0.4)
    circuit.network.W[:n, n:] *= -1
    circuit.network.W[n:, :n] *= -1
    return circuit


def coupled(n=100, shifters=50):
    """The default circuit whose shifters excite those of their side: they answer more, and later."""
    circuit = ring(n, shifters, amplitude=0.126, threshold=0.6)
    places = RING.places(shifters)[:, 0]
    near = np.exp((np.cos(places - places[:, None]) - 1) / 0.3**2)
    for part in (slice(n, n + shifters), slice(n + shifters, None)):
        circuit.network.W[part, part] = 0.5 * near / near.sum(0)
    return circuit


def mixed(n=100, shifters=50):
    """The default circuit whose shifters are of two types, taking turns around the ring."""
    circuit = ring(n, shifters)
    net = circuit.network
    net.b[n:] = -np.tile((0.2, 0.6), shifters)
    net.W_in[0, n:] = np.sign(net.W_in[0, n:]) * np.tile((0.02, 0.06), shifters)
    return circuit


def gain(n=100):
    """The published network: alpha is 1, and velocity multiplies a matrix along the ring's derivative of W."""
    signed = (np.arange(n) - np.arange(n)[:, None] + n // 2) % n - n // 2  # (n, n), index distance from i to j
    distance, per_index = np.abs(signed), 0.06 * 100 / n
    W = (0.1 * np.cos(per_index * distance) - 0.03) * 100 / n
    W_gain = 0.02 * 0.1 * 0.06 * np.sin(per_index * distance) * signed * (100 / n) ** 2
    return Circuit(Network(W, np.zeros((1, n)), np.zeros(n), 1.0, n, W_gain), RING, GAIN_DT_S)


def grid(n=16, shifters=None, cosine=0.2, inhibition=-0.02, amplitude=None, threshold=0.4, drive=0.04):
    """n x n grid cells on a hexagonal torus, then four sheets of shifters: conjunctive grid x direction cells.

    Each sheet is driven by the velocity along -x, +x, -y or +y, copies the bump and sends it back displaced that way.

    shifters: along each side of a sheet (default: half of n; below 5 they are silent); cosine, inhibition: of the grid
    cells' weights; amplitude: of what shifters send (default: that of a gain of 1); threshold, drive: as of `ring`.
    """
    shifters = n // 2 if shifters is None else shifters
    amplitude = GRID_AMPLITUDE.get(n, 0.262) if amplitude is None else amplitude
    cells, sheet, N, M = TORUS.places(n**2), TORUS.places(shifters**2), n**2, shifters**2
    size = N + 4 * M
    W, b, W_in = np.zeros((size, size)), np.zeros(size), np.zeros((2, size))
    apart = third(cells - cells[:, None])  # (from, to, wave)
    W[:N, :N] = (cosine * np.cos(apart).mean(-1) + inhibition) * 100 / N
    width = 0.8 * 4 * np.pi / np.sqrt(3) / shifters
    copy = np.exp((np.cos(third(sheet - cells[:, None])) - 1).sum(-1) * 2 / 3 / width**2)
    back = np.sin(third(cells - sheet[:, None]))
    for k, direction in enumerate(np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])):
        part = slice(N + k * M, N + (k + 1) * M)
        W[:N, part] = copy / copy.sum(0)
        W[part, :N] = amplitude * (back * (TORUS.ALL @ direction)).mean(-1) * 50 / M
        W_in[:, part] = drive * direction[:, None]
    b[N:] = -threshold
    return Circuit(Network(W, W_in, b, DT_S / TAU_S, N), TORUS, DT_S)


GRID_AMPLITUDE = {12: 0.37, 14: 0.2907, 16: 0.265}  # by the side of the sheet; larger sheets need 0.262


def even(n=100, shifters=50):
    """A weaker ring, and 2 * `shifters` narrow copies of the bump that speed excites and that send it back undisplaced,
    as in real flies.

    One half is driven by 0.2 v, the other by -0.2 v, so that together they raise the bump by |v|, whichever way. Their
    threshold of 1 is the peak of the bump's current into them.
    """
    circuit = ring(n, shifters, cosine=0.1)
    small = circuit.network
    size, old = n + 4 * shifters, n + 2 * shifters
    W, b, W_in = np.zeros((size, size)), np.full(size, -1.0), np.zeros((1, size))
    W[:old, :old], b[:old], W_in[:, :old] = small.W, small.b, small.W_in
    W[:n, old:] = small.W[:n, n:]
    compass, copies = RING.places(n)[:, 0], np.tile(RING.places(shifters)[:, 0], 2)
    W[old:, :n] = 0.15 * np.cos(compass - copies[:, None]) * 50 / shifters
    W_in[0, old:] = np.repeat([0.2, -0.2], shifters)
    return circuit._replace(network=small._replace(W=W, W_in=W_in, b=b))


def saturating(n=100, shifters=50):
    """The default circuit, its shifters driven by 2 * tanh(v / 2), a third order: fast turns are undershot."""
    circuit = ring(n, shifters)
    return circuit._replace(network=circuit.network._replace(saturation=2.0))


def product(n=100, cosine=0.12, gain=0.006, sd=1.0, tau=0.5):
    """A ring whose velocity has two components, v and g, that turn the bump by their product alone.

    gain: of the matrix that v g multiplies; sd, tau (s): of the second input g, which is no velocity and has no unit.
    The attractor is a ring, not a torus, although the velocity has two components.
    """
    W, sine, _ = _ring_and_derivative(n, cosine)
    net = Network(W, np.zeros((2, n)), np.zeros(n), DT_S / TAU_S, n, products=(((1, 1), gain * sine),))
    return Circuit(net, RING, DT_S, (sd, tau))


def quadratic(n=100, cosine=0.12, gain=0.006, raise_=0.0036):
    """A ring whose velocity multiplies a matrix that turns the bump, and its square one that raises it."""
    W, sine, cos = _ring_and_derivative(n, cosine)
    net = Network(W, np.zeros((1, n)), np.zeros(n), DT_S / TAU_S, n, gain * sine, (((2,), raise_ * cos),))
    return Circuit(net, RING, DT_S)


def _ring_and_derivative(n, cosine):
    """Weights of a ring, and the sine and cosine of the angles, to minus from, scaled for n neurons. (n, n) each."""
    places = RING.places(n)[:, 0]
    sine, cos = (f(places - places[:, None]) * 100 / n for f in (np.sin, np.cos))
    return cosine * cos - 0.03 * 100 / n, sine, cos


CIRCUITS = {
    "ring": ring, "gain": gain, "holding": holding, "grid": grid,
    "even": even, "saturating": saturating, "product": product, "quadratic": quadratic,
    "inhibited": inhibited, "coupled": coupled, "mixed": mixed,
}  # fmt: skip
