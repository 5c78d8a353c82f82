"""What a physiologist would check of a simulated bump: gain, drift, diffusion, width, and where it likes to stay.

The functions take the simulator, cann.simulate, for an argument: nothing here knows how a circuit is integrated.
"""

import numpy as np

from nsi.stimulation import random_velocity


def bump_movement(simulate, circuit, velocity, start, rng=None, noise=0.0):
    """The bump's unwrapped heading (trials, steps) rad and the compass rates (trials, steps, N), other inputs at 1."""
    further = len(circuit.network.W_in) - velocity.shape[-1]
    velocity = np.concatenate([velocity, np.ones((*velocity.shape[:-1], further))], -1)
    rates = simulate(circuit, velocity, start, rng, noise)[..., : circuit.network.n]
    places = circuit.geometry.places(circuit.network.n)
    return np.unwrap(circuit.geometry.decode(rates, places)[..., 0]), rates


def physiology(simulate, circuit, noise, seed=0):
    """What a physiologist would check of the bump.

    Returns: dict with `gain` (least-squares slope of the bump's speed against v in -3..3 rad/s), `nonlinearity` (the
    largest |speed / (gain * v) - 1| there), `drift` and `drift_2s` (rad, largest over 5 and 2 s at rest from 360
    headings, no noise), `occupancy` (of 36 bins of heading the least over the mean, while it turns), `diffusion`
    (rad^2/s at rest with noise, or 0) and `width` (rad, full width at half maximum).
    """
    v, every = np.r_[-3:0:0.5, 0.5:3.5:0.5], circuit.geometry.places(360)
    seconds = lambda s: round(s / circuit.dt)  # noqa: E731
    moved, _ = bump_movement(simulate, circuit, np.repeat(v[:, None, None], seconds(4), 1), np.zeros((len(v), 1)))
    speed = (moved[:, -1] - moved[:, seconds(1)]) / ((seconds(4) - 1 - seconds(1)) * circuit.dt)
    gain, rng = speed @ v / (v @ v), np.random.default_rng(seed)
    rest, rates = bump_movement(simulate, circuit, np.zeros((360, seconds(5), 1)), every)
    result = {"gain": gain, "nonlinearity": np.abs(speed / (gain * v) - 1).max(), "diffusion": 0.0}
    result |= {"drift": np.abs(rest - rest[:, :1]).max(), "drift_2s": np.abs(rest[:, seconds(2)] - rest[:, 0]).max()}
    if noise:
        moved, _ = bump_movement(simulate, circuit, np.zeros((100, seconds(5), 1)), every[:100], rng, noise)
        result["diffusion"] = np.var(moved[:, -1] - moved[:, 0]) / 5
    velocity = random_velocity(rng, 180, seconds(5), circuit.dt)
    moved, _ = bump_movement(simulate, circuit, velocity, every[::2], rng, noise)
    where, _ = np.histogram(moved % (2 * np.pi), 36, (0, 2 * np.pi))
    half = rates[:, 0] > rates[:, 0].max(-1, keepdims=True) / 2
    return result | {"occupancy": where.min() / where.mean(), "width": half.mean() * 2 * np.pi}
