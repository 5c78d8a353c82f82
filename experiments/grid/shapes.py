"""Recordings of a ring, a torus, two rings, a sheet of place cells, and noise, for a verdict on each."""

import numpy as np

from nsi.geometry import TORUS
from nsi.geometry.classify import classify_shape
from nsi.recordings import Recording
from nsi.simulation import circuits, simulate, stimulation

TRIALS = 40
STEPS = 400


def simulated(circuit, velocity, rng):
    """Rates of a circuit's recorded neurons that a velocity moves from anywhere. velocity: (trials, steps, D)."""
    start = rng.uniform(-np.pi, np.pi, (len(velocity), circuit.geometry.dimensions))
    return simulate(circuit, velocity, start, rng, noise=0.02, settle=200)[..., : circuit.network.n]


def ring(rng, v):
    """Heads' directions, which the first component turns."""
    return simulated(circuits.ring(40, 20), v[..., :1], rng), v


def slanting_ring(rng, v):
    """A ring that both components turn."""
    return simulated(circuits.ring(40, 20), v.sum(-1, keepdims=True) / 2, rng), v


def two_rings(rng, v):
    """Two rings that know nothing of each other, one for each component."""
    return np.concatenate([simulated(circuits.ring(40, 20), v[..., k : k + 1], rng) for k in (0, 1)], -1), v


def torus(rng, v):
    """All cells of a sheet of grid cells."""
    return simulated(circuits.grid(12), v, rng), v


def some_of_a_torus(rng, v):
    """Fifty of them."""
    rates, v = torus(rng, v)
    return rates[..., rng.permutation(rates.shape[-1])[:50]], v


def place_sheet(rng, v):
    """Place cells of a box of 1 m."""
    position = stimulation.random_walk(rng, *v.shape[:2], 0.01, 0.3, box=1.0)
    distance = np.linalg.norm(position[:, 1:, None] - rng.uniform(0, 1, (80, 2)), axis=-1)
    rates = np.exp(-((distance / 0.15) ** 2)) + 0.02 * rng.random(distance.shape)
    return rates, np.diff(position, axis=1) / 0.01 * TORUS.per_metre


def noise(rng, v):
    """Neurons that fluctuate, each for itself."""
    slow = [stimulation.random_velocity(rng, *v.shape[:2], 0.01, 0.3, 0.3) for _ in range(60)]
    return np.maximum(0, np.concatenate(slow, -1)), v


def shifted_torus(rng, v):
    """Grid cells, each shifted in time: the same single cells, no common bump."""
    rates, v = some_of_a_torus(rng, v)
    return np.stack([np.roll(rates[..., k], 7 * k, 1) for k in range(rates.shape[-1])], -1), v


def velocity_of_others(rng, v):
    """Grid cells, with the velocity of another trial."""
    rates, v = torus(rng, v)
    return rates, np.roll(v, 1, 0)


CASES = {
    "ring": ("ring", ring), "ring, turned by both components": ("ring", slanting_ring),
    "two rings": ("two rings", two_rings), "torus": ("torus", torus), "torus, 50 cells": ("torus", some_of_a_torus),
    "place cells": ("place sheet", place_sheet), "noise": ("cannot tell", noise),
    "torus, cells shifted in time": ("cannot tell", shifted_torus),
    "torus, another trial's velocity": ("cannot tell", velocity_of_others),
}  # fmt: skip


def recording(name, seed):
    """A recording of one of CASES. Returns: Recording."""
    rng = np.random.default_rng(seed)
    v = np.concatenate([stimulation.random_velocity(rng, TRIALS, STEPS, 0.01) for _ in range(2)], -1)
    rates, velocity = CASES[name][1](rng, v)
    return Recording(rates.astype(np.float32), velocity.astype(np.float32), 0.01)


def called(name, seed):
    """The verdict on it, in a word or two."""
    return classify_shape(recording(name, seed)).shape
