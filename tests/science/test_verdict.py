"""Which attractor made these rates: right on simulated cases of each, and "cannot tell" on noise."""

import numpy as np
import pytest

import cann
from nsi import circuits, stimulation
from nsi.recordings import Recording
from nsi.verdict import verdict


def two_velocities(rng, trials=40, steps=400):
    return np.concatenate([stimulation.random_velocity(rng, trials, steps, 0.01) for _ in range(2)], -1)


def simulated(circuit, velocity, rng):
    start = rng.uniform(-np.pi, np.pi, (len(velocity), circuit.geometry.dimensions))
    return cann.simulate(circuit, velocity, start, rng, noise=0.02, settle=200)[..., : circuit.network.n]


def ring(rng, v):
    return simulated(circuits.ring(40, 20), v[..., :1], rng), v


def slanting_ring(rng, v):
    """A ring that is turned by the sum of both components."""
    return simulated(circuits.ring(40, 20), v.sum(-1, keepdims=True) / 2, rng), v


def two_rings(rng, v):
    return np.concatenate([simulated(circuits.ring(40, 20), v[..., k : k + 1], rng) for k in (0, 1)], -1), v


def torus(rng, v):
    return simulated(circuits.grid(12, 6), v, rng), v


def some_of_a_torus(rng, v):
    rates, v = torus(rng, v)
    return rates[..., rng.permutation(rates.shape[-1])[:50]], v


def place_sheet(rng, v):
    """Place cells of a box of 1 m, the velocity in the units that it has for grid cells of 0.5 m."""
    position = stimulation.random_walk(rng, *v.shape[:2], 0.01, 0.3, box=1.0)
    centres = rng.uniform(0, 1, (80, 2))
    distance = np.linalg.norm(position[:, 1:, None] - centres, axis=-1)
    rates = np.exp(-((distance / 0.15) ** 2)) + 0.02 * rng.random(distance.shape)
    return rates, np.diff(position, axis=1) / 0.01 * 14.5


def noise(rng, v):
    """Neurons that fluctuate as slowly as the others, each for itself."""
    slow = [stimulation.random_velocity(rng, *v.shape[:2], 0.01, 0.3, 0.3) for _ in range(60)]
    return np.maximum(0, np.concatenate(slow, -1)), v


def rolled_torus(rng, v):
    """Grid cells, each shifted in time: the same single neurons, no common bump."""
    rates, v = some_of_a_torus(rng, v)
    return np.stack([np.roll(rates[..., k], 7 * k, 1) for k in range(rates.shape[-1])], -1), v


def velocity_of_others(rng, v):
    rates, v = torus(rng, v)
    return rates, np.roll(v, 1, 0)


CASES = [
    ("ring", ring), ("ring", slanting_ring), ("two rings", two_rings), ("torus", torus), ("torus", some_of_a_torus),
    ("place sheet", place_sheet), ("cannot tell", noise), ("cannot tell", rolled_torus),
    ("cannot tell", velocity_of_others),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "make"), CASES, ids=[make.__name__ for _, make in CASES])
def test_verdict(shape, make):
    rng = np.random.default_rng(5)
    rates, velocity = make(rng, two_velocities(rng))
    found = verdict(Recording(rates.astype(np.float32), velocity.astype(np.float32), 0.01))
    assert found.shape == shape, found


def test_a_ring_of_one_velocity():
    rng = np.random.default_rng(6)
    v = two_velocities(rng)[..., :1]
    rates = simulated(circuits.ring(40, 20), v, rng)
    assert verdict(Recording(rates, v.astype(np.float32), 0.01)).shape == "ring"
    assert verdict(Recording(rates, np.roll(v, 1, 0).astype(np.float32), 0.01)).shape == "cannot tell"


def test_too_few_neurons():
    rng = np.random.default_rng(0)
    assert verdict(Recording(rng.random((3, 50, 5)), rng.random((3, 50, 2)), 0.01)).shape == "cannot tell"
