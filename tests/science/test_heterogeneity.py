"""Uneven circuits: other wiring, the same behaviour."""

import numpy as np
import pytest

from nsi.geometry import RING
from nsi.simulation import circuits, physiology
from nsi.simulation.heterogeneity import travelling_states, vary_weights

N = 40


@pytest.fixture(scope="module")
def even():
    return circuits.ring(N, 20)


def rng():
    return np.random.default_rng(3)


def test_weights_are_jittered_and_left_out_by_option(even):
    W = even.network.W
    jittered = vary_weights(even, rng(), jitter=0.2).network.W
    ratio = jittered[:N, :N] / W[:N, :N] - 1
    assert ratio.std() == pytest.approx(0.2, rel=0.1)
    np.testing.assert_array_equal(jittered[N:], W[N:])
    np.testing.assert_array_equal(jittered[:, N:], W[:, N:])
    sparse = vary_weights(even, rng(), sparse=0.5).network.W[:N, :N]
    assert (sparse == 0).mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(sparse[sparse != 0], 2 * W[:N, :N][sparse != 0])
    hidden = vary_weights(even, rng(), jitter_hidden=0.1).network.W
    np.testing.assert_array_equal(hidden[:N, :N], W[:N, :N])
    assert np.std(hidden[N:, :N] / W[N:, :N] - 1) == pytest.approx(0.1, rel=0.1)
    np.testing.assert_array_equal(vary_weights(even, rng()).network.W, W)


@pytest.mark.parametrize("changes", [{"jitter": 0.2}, {"jitter": 0.2, "jitter_hidden": 0.2, "sparse": 0.5}])
def test_balance_keeps_the_currents_of_the_travelling_bump_and_what_is_absent(even, changes):
    raw, balanced = (vary_weights(even, rng(), **changes, balance=b).network.W for b in (False, True))
    assert ((raw == 0) <= (balanced == 0)).all()
    u, v = travelling_states(even)
    net = even.network
    active = u @ net.W + net.b + v @ net.W_in > 0.1
    missed = [np.abs(u @ (W - net.W))[active].mean() for W in (raw, balanced)]
    assert missed[1] < 0.1 * missed[0]


@pytest.mark.parametrize("name", ["ring", "holding", "gain"])
def test_balanced_circuits_behave_alike(name):
    """Drift over 2 s at rest from 36 headings: balanced small, and far below that of the same weights left as drawn."""
    even = circuits.CIRCUITS[name]()
    drift = {}
    for balance in (False, True):
        circuit = vary_weights(even, rng(), jitter=0.2, balance=balance)
        still = np.zeros((36, round(2 / circuit.dt), 1))
        moved, _ = physiology.bump_movement(circuit, still, RING.places(36))
        drift[balance] = np.abs(moved[:, -1] - moved[:, 0]).max()
    assert drift[True] < 0.05
    assert drift[False] > 2 * drift[True]
