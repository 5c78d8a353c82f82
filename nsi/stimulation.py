"""What a simulated experiment does to a circuit: velocities, and known currents into recorded neurons."""

import numpy as np

VELOCITY_SD = 2.0  # rad/s
VELOCITY_TAU = 0.112  # s, correlation time: the published momentum of 0.8 per 25 ms
BOX = 1.5  # m, each side of the box that an animal walks in


def pulses(rng, trials, steps, n, dt, amplitude, every=0.25, lasting=0.05, fraction=0.3):
    """Current pulses into random compass neurons, uniform in 0..amplitude. Returns: (trials, steps, N)."""
    period, width = max(1, round(every / dt)), max(1, round(lasting / dt))
    stimulus = np.zeros((trials, steps, n))
    for t in range(0, steps, period):
        pulse = rng.uniform(0, amplitude, (trials, n)) * (rng.random((trials, n)) < fraction)
        stimulus[:, t : t + width] = pulse[:, None]
    return stimulus


def random_velocity(rng, trials, steps, dt, sd=VELOCITY_SD, tau=VELOCITY_TAU):
    """A stationary first-order autoregressive velocity. Returns: (trials, steps, 1) rad/s."""
    momentum = np.exp(-dt / tau)
    velocity = sd * rng.standard_normal((trials, steps))
    for t in range(1, steps):
        velocity[:, t] = momentum * velocity[:, t - 1] + np.sqrt(1 - momentum**2) * velocity[:, t]
    return velocity[..., None]


def random_walk(rng, trials, steps, dt, sd, tau=VELOCITY_TAU, box=BOX):
    """Paths of an animal in a square box, from anywhere in it, each component of its velocity a random one's.

    Where a path meets a wall it is folded back. sd: m/s; box: m. Returns: position (trials, steps + 1, 2) m, between
    which it walks.
    """
    velocity = np.concatenate([random_velocity(rng, trials, steps, dt, sd, tau) for _ in range(2)], -1)
    start = rng.uniform(0, box, (trials, 1, 2))
    free = start + np.pad(dt * velocity.cumsum(1), ((0, 0), (1, 0), (0, 0)))
    return box - np.abs(free % (2 * box) - box)
