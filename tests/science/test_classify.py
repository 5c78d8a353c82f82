"""Which attractor made these rates: right on simulated cases of each, and "cannot tell" on noise."""

import numpy as np
import pytest

from experiments.grid import shapes
from nsi.geometry.classify import classify_shape
from nsi.recordings import Recording
from nsi.simulation import circuits, stimulation


@pytest.mark.parametrize("name", shapes.CASES)
def test_verdict(name):
    found = classify_shape(shapes.recording(name, seed=5))
    assert found.shape == shapes.CASES[name][0], found


def test_a_ring_of_one_velocity():
    rng = np.random.default_rng(6)
    v = stimulation.random_velocity(rng, 30, 300, 0.01)
    rates = shapes.simulated(circuits.ring(40, 20), v, rng)
    assert classify_shape(Recording(rates, v.astype(np.float32), 0.01)).shape == "ring"
    assert classify_shape(Recording(rates, np.roll(v, 1, 0).astype(np.float32), 0.01)).shape == "cannot tell"


def test_too_few_neurons():
    rng = np.random.default_rng(0)
    assert classify_shape(Recording(rng.random((3, 50, 5)), rng.random((3, 50, 2)), 0.01)).shape == "cannot tell"
