"""Solving for the response weights: single connections where they differ, a clean profile where they do not."""

from dataclasses import replace

import numpy as np
import pytest

import cann
from nsi import circuits, connectivity
from nsi.estimation import resolved
from nsi.geometry import RING
from nsi.network import synaptic_state
from nsi.recordings import Recording
from nsi.solve import onto_hidden, solve
from nsi.uneven import uneven

N = 40
EVERYONE = ~np.eye(N, dtype=bool)


def recorded(circuit, **settings):
    data = cann.simulate_recording(circuit, trials=30, steps=400, **settings)
    return Recording(data["rates"], data["velocity"], data["dt"], None, data["tau"], data.get("stimulus"))


@pytest.fixture(scope="module")
def even():
    return circuits.ring(N, 20)


@pytest.fixture(scope="module")
def jittered(even):
    return uneven(even, np.random.default_rng(0), jitter=0.2, balance=True)


def start(circuit, rng):
    """The circuit with its weights among compass neurons lost, as a fit has them before: smooth and too small."""
    net = circuit.network
    W = net.W.astype(np.float32)
    places = RING.places(N)
    smooth = RING.mean_profile(net.W[:N, :N], places, np.ones((N, N), bool))
    W[:N, :N] = 0.7 * smooth + 0.002 * rng.standard_normal((N, N))
    return net._replace(W=W, W_in=net.W_in.astype(np.float32), b=net.b.astype(np.float32))


def test_single_connections_are_found_with_pulses(jittered):
    rec = recorded(jittered, seed=1, amplitude=4.0)
    found = solve(start(jittered, np.random.default_rng(1)), rec, RING)
    W, true = found.net.W[:N, :N], jittered.network.W[:N, :N]
    r, slope, error = connectivity.deviation(W, true, EVERYONE, RING, RING.places(N))
    assert r > 0.88
    assert slope == pytest.approx(1, abs=0.25)
    assert error < 0.5
    assert found.noise == pytest.approx(0.02, rel=0.15)
    matrix = np.corrcoef(rec.rates.reshape(-1, N), rowvar=False)
    assert abs(connectivity.deviation(matrix, true, EVERYONE, RING, RING.places(N))[0]) < 0.15


def test_spread_is_what_the_circuit_has(even, jittered):
    spreads = {}
    for name, circuit in (("even", even), ("jittered", jittered)):
        rec = recorded(circuit, seed=2, amplitude=4.0)
        spreads[name] = solve(start(circuit, np.random.default_rng(2)), rec, RING).spread
    assert spreads["even"] <= 0.04
    assert 0.1 <= spreads["jittered"] <= 0.3


def test_even_ring_comes_out_even_from_passive_data(even):
    rec = recorded(even, seed=3)
    before = start(even, np.random.default_rng(3))
    found = solve(before, rec, RING)
    near, true = RING.near(RING.places(N)), even.network.W[:N, :N]
    assert connectivity.correlation(found.net.W[:N, :N][near], true[near]) > 0.99
    error = lambda net: np.linalg.norm((net.W[:N, :N] - true)[near])  # noqa: E731
    assert error(found.net) < 0.5 * error(before)
    np.testing.assert_array_equal(found.net.W[:, N:], before.W[:, N:])  # the input units' tuning is given


def test_too_little_data_leave_the_network_as_it_is(even):
    rec = recorded(even, seed=4).trials(slice(None, 1))
    before = start(even, np.random.default_rng(4))
    found = solve(before, rec, RING, every=50)
    np.testing.assert_array_equal(found.net.W, before.W)
    assert np.isnan(found.spread)


def test_resolved_are_those_whose_error_is_small_beside_the_scatter():
    rng, places = np.random.default_rng(5), RING.places(N)
    se = np.where(rng.random((N, N)) < 0.5, 0.01, 0.2)
    even_W = np.cos(RING.difference(places.T, places))
    known = np.ones((N, N), bool)
    W = even_W + 0.1 * rng.standard_normal((N, N)) + se * rng.standard_normal((N, N))
    found = resolved(W, se, known, RING, places)
    assert (found == ((se < 0.05) & EVERYONE)).all()
    assert not resolved(even_W + 0.9 * se * rng.standard_normal((N, N)), se, known, RING, places).any()


def test_weights_onto_hidden_units_are_0_where_nothing_tells_of_them(even):
    """And what hidden units receive from the record stays as it is."""
    rec, rng = recorded(even, seed=3), np.random.default_rng(3)
    net = start(even, rng)
    u = synaptic_state(rec.rates, net.alpha)[rec.valid]
    values, directions = np.linalg.eigh(u.T @ u / len(u))
    unseen = directions[:, values < 1e-5 * values[-1]]
    assert unseen.shape[1] > 5
    W = net.W.copy()
    W[:N, N:] += 0.1 * unseen @ rng.standard_normal((unseen.shape[1], W.shape[1] - N))
    found = onto_hidden(net._replace(W=W), rec).W
    assert np.abs(unseen.T @ found[:N, N:]).max() < 0.02 * np.abs(unseen.T @ W[:N, N:]).max()
    given, kept = u @ W[:N, N:], u @ found[:N, N:]
    assert np.sqrt(np.mean((kept - given) ** 2)) < 0.03 * given.std()
    np.testing.assert_array_equal(found[:, :N], W[:, :N])
    stimulated = replace(rec, stimulus=np.zeros_like(rec.rates))  # pulses tell of every direction
    np.testing.assert_array_equal(onto_hidden(net._replace(W=W), stimulated).W, W)
