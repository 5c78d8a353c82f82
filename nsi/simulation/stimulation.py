"""Inputs of a simulated experiment: velocities, and known currents into recorded neurons."""

from typing import NamedTuple

import numpy as np

from nsi import files
from nsi.errors import BadInput

VELOCITY_SD = 2.0  # rad/s
VELOCITY_TAU = 0.112  # s, correlation time: the published momentum of 0.8 per 25 ms
BOX_M = 1.5  # m, each side of the box that an animal walks in
PULSE_S = 0.05  # s, how long a pulse lasts


class Pulses(NamedTuple):
    """Current pulses into recorded neurons, chosen anew for each pulse, uniform in weakest * amplitude..amplitude."""

    amplitude: float  # the largest
    every: float = 0.25  # s
    share: float = 0.3  # of the neurons
    weakest: float = 0.0  # amplitude of the weakest pulse relative to the largest
    spread: bool = False  # one of each few neighbours, not any

    def draw(self, rng, trials, steps, order, dt):
        """The stimulus. rng: numpy Generator; order: (N,) indices, neighbours following each other; dt: s.

        Returns: (trials, steps, N)."""
        period, width = max(1, round(self.every / dt)), max(1, round(PULSE_S / dt))
        stimulus = np.zeros((trials, steps, len(order)))
        for t in range(0, steps, period):
            pulse = rng.uniform(self.weakest * self.amplitude, self.amplitude, (trials, len(order)))
            if self.spread:
                chosen = choose_spread(rng, trials, order, self.share)
            else:
                chosen = rng.random(pulse.shape) < self.share
            stimulus[:, t : t + width] = (pulse * chosen)[:, None]
        return stimulus

    def describe(self):
        """The pulses as cells of a table."""
        kind = "spread" if self.spread else "random"
        return f"{self.amplitude:9.2f} {self.every:7.2f} {self.share:6.2f}  {kind}"


def choose_spread(rng, trials, order, share):
    """Choose one of each few neighbours, at random, so that no side of an attractor gets more than another.

    order: (N,) indices, neighbours following each other; share: of the neurons. Returns: (trials, N) bool.
    """
    n = len(order)
    few, rest = min(share, 1 - share), share > 0.5  # of more than half, those are chosen that get none
    groups = max(1, round(few * n))
    starts = np.arange(groups) * n // groups
    draw = rng.random((trials, n))
    first = np.minimum.reduceat(draw, starts, 1)
    chosen = draw == np.repeat(first, np.diff(np.append(starts, n)), 1)
    turned = (np.arange(n) + rng.integers(n, size=(trials, 1))) % n  # groups begin anywhere
    result = np.empty_like(chosen)
    result[:, order] = np.take_along_axis(chosen, turned, 1) != rest
    return result


def from_file(path, shape, dt):
    """A stimulus to play. path: .npz with `stimulus`, of the shape (trials, steps, N), and `dt` (s, the circuit's) or
    none. Returns: float32. Raises: BadInput, naming what was expected.
    """
    with files.Archive(path) as file:
        if "stimulus" not in file:
            raise BadInput("has no key 'stimulus'; expected one, as `python -m nsi.design` writes")
        stimulus, step = file["stimulus"], file["dt"] if "dt" in file else np.array(dt)
        if stimulus.shape != shape or stimulus.dtype.kind not in "fiu":
            raise BadInput(
                f"stimulus has shape {stimulus.shape} and type {stimulus.dtype.str}; expected numbers of shape "
                f"{shape}, --trials, --steps and the circuit's recorded neurons"
            )
        if step.shape != () or step.dtype.kind not in "fiu" or not np.isclose(step, dt, rtol=1e-6):
            has = f"{float(step):g} s" if step.shape == () and step.dtype.kind in "fiu" else f"of shape {step.shape}"
            raise BadInput(f"dt is {has}; expected the circuit's, {dt:g} s, since the pulses of another time step "
                           "would be shorter or longer")  # fmt: skip
        if not np.isfinite(stimulus).all():
            raise BadInput("stimulus has values that are not finite; expected finite currents")
    return stimulus.astype(np.float32)


class Velocity(NamedTuple):
    """How a random velocity varies."""

    sd: float = VELOCITY_SD  # rad/s
    tau: float = VELOCITY_TAU  # s, correlation time


def random_velocity(rng, trials, steps, dt, sd=VELOCITY_SD, tau=VELOCITY_TAU):
    """A stationary first-order autoregressive velocity. Returns: (trials, steps, 1) rad/s."""
    momentum = np.exp(-dt / tau)
    velocity = sd * rng.standard_normal((trials, steps))
    for t in range(1, steps):
        velocity[:, t] = momentum * velocity[:, t - 1] + np.sqrt(1 - momentum**2) * velocity[:, t]
    return velocity[..., None]


def random_walk(rng, trials, steps, dt, sd, tau=VELOCITY_TAU, box=BOX_M):
    """Paths of an animal in a square box, from anywhere in it, each component of its velocity a random one's.

    Where a path meets a wall it is folded back. sd: m/s; box: m. Returns: position (trials, steps + 1, 2) m, between
    which it walks.
    """
    velocity = np.concatenate([random_velocity(rng, trials, steps, dt, sd, tau) for _ in range(2)], -1)
    start = rng.uniform(0, box, (trials, 1, 2))
    free = start + np.pad(dt * velocity.cumsum(1), ((0, 0), (1, 0), (0, 0)))
    return box - np.abs(free % (2 * box) - box)
