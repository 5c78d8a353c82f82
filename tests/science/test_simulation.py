"""The simulated circuit against its equations, and against what is claimed of it."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import cann
from nsi import network
from nsi.geometry import RING
from nsi.simulation import circuits, physiology, simulate, stimulation


def test_euler_converges_to_the_ode():
    v, start, seconds = 1.5, np.array([[1.0]]), 0.4
    circuit = circuits.ring()
    net = circuit.network
    u0 = np.zeros(len(net.b))
    u0[:100] = np.maximum(0, np.cos(RING.places(100)[:, 0] - start[0]))

    def slope(_, u):
        return (-u + np.maximum(0, np.tanh(u @ net.W + net.b + v * net.W_in[0]))) / circuit.tau

    exact = solve_ivp(slope, (0, seconds), u0, rtol=1e-9, atol=1e-10).y[:, -1]
    errors = []
    for dt in (0.01, 0.005, 0.0025):
        fine, u = net._replace(alpha=dt / circuit.tau), u0[None]
        for _ in range(round(seconds / dt)):
            _, u = network.step(fine, u, np.full((1, 1), v))
        errors.append(np.abs(u[0] - exact).max())
    assert errors[0] < 0.05
    assert 1.8 < errors[0] / errors[1] < 2.2  # first order
    assert 1.8 < errors[1] / errors[2] < 2.2


def test_gain_network_against_the_published_loop():
    circuit, n, rng = circuits.gain(), 100, np.random.default_rng(0)
    W, W_gain = np.empty((n, n)), np.empty((n, n))
    for i in range(n):
        for j in range(n):
            ahead = (j - i) % n
            signed = ahead if ahead < n / 2 else ahead - n
            W[i, j] = 0.1 * np.cos(0.06 * abs(signed)) - 0.03
            W_gain[i, j] = 0.02 * 0.1 * 0.06 * np.sin(0.06 * abs(signed)) * signed
    np.testing.assert_allclose(circuit.network.W, W, atol=1e-12)
    np.testing.assert_allclose(circuit.network.W_gain, W_gain, atol=1e-12)
    velocity, start = stimulation.random_velocity(rng, 1, 30, circuit.dt), np.array([[2.0]])
    rates = simulate(circuit, velocity, start, settle=0)[0]
    r = np.maximum(0, np.cos(np.arange(n) * 2 * np.pi / n - start[0]))
    for t in range(30):  # alpha 1: the state is the last rate
        r = np.array(
            [
                max(0, np.tanh(sum(r[i] * (W[i, j] + velocity[0, t, 0] * W_gain[i, j]) for i in range(n))))
                for j in range(n)
            ]
        )
        np.testing.assert_allclose(rates[t], r, atol=1e-6)


@pytest.mark.parametrize("circuit", [circuits.ring(), circuits.holding(), circuits.ring(n=60, shifters=30)])
def test_ring_is_symmetric_and_gate_is_odd(circuit):
    net = circuit.network
    ring, gate = net.W[: net.n, : net.n], net.gate()[0]
    np.testing.assert_allclose(ring, ring.T, atol=1e-12)
    np.testing.assert_allclose(gate, -gate.T, atol=1e-4 * np.abs(gate).max())
    assert np.abs(gate).max() > 1e-3


@pytest.mark.parametrize("name", ["ring", "holding", "inhibited", "coupled", "mixed"])
def test_bump_stays_and_integrates(name):
    """From headings at nine places between one neuron and the next, which are all alike; one circuit needs more."""
    headings = 360 if name == "holding" else 90
    check = physiology.physiology(circuits.CIRCUITS[name](), noise=0, headings=headings)
    assert check["gain"] == pytest.approx(1, abs=0.03)
    assert check["nonlinearity"] < 0.05
    assert check["drift"] < (0.03 if name == "holding" else 0.02)
    assert 90 < np.degrees(check["width"]) < 150


def test_gain_network_integrates():
    check = physiology.physiology(circuits.gain(), noise=0.02)
    assert check["gain"] == pytest.approx(1, abs=0.03)
    assert 0 < check["diffusion"] < 1e-3


def test_shifters_are_silent_away_from_the_bump(data, net):
    assert (net.b[40:] + 10 * np.abs(net.W_in[0, 40:]) <= 0).all()  # no velocity of five s.d. exceeds the threshold
    bump = RING.decode(data["rates"], RING.places(40))
    away = np.abs(RING.difference(RING.places(20)[:, 0], bump)) > 2
    hidden = data["hidden_rates"]
    assert (hidden[np.concatenate([away, away], -1)] > 0).mean() < 1e-3  # noise alone
    assert hidden.max() > 0.2


def test_recording_obeys_the_equation_it_is_documented_with(circuit):
    data = cann.simulate_recording(circuit, trials=3, steps=150, noise=0, amplitude=2.0)
    rates = np.concatenate([data["rates"], data["hidden_rates"]], -1).astype(float)
    u = network.synaptic_state(rates, data["dt"] / data["tau"])
    current = u @ data["true_W"] + data["true_b"] + data["velocity"] @ data["true_W_in"]
    current[..., :40] += data["stimulus"]
    expected = np.maximum(0, np.tanh(current))
    np.testing.assert_allclose(expected[:, 60:], rates[:, 60:], atol=2e-5)  # once the guess at u[0] is forgotten
    assert data["stimulus"].max() > 1
    assert (data["stimulus"] > 0).mean() == pytest.approx(0.3 * 0.2, rel=0.2)


@pytest.mark.parametrize("make", [circuits.ring, circuits.holding, circuits.gain])
def test_true_gate_is_the_path_that_velocity_takes(make):
    """Written out neuron by neuron: through each hidden one by its velocity weight, and what velocity multiplies."""
    circuit = make(n=40)
    net, data = circuit.network, cann.simulate_recording(circuit, trials=1, steps=5)
    path = sum(np.outer(net.W[:40, k] * net.W_in[0, k], net.W[k, :40]) for k in range(40, len(net.b)))
    np.testing.assert_allclose(data["true_gate"][0], path + (0 if net.W_gain is None else net.W_gain), atol=1e-12)


def test_velocity_is_the_published_process():
    v = stimulation.random_velocity(np.random.default_rng(0), 100, 4000, 0.025)[..., 0]
    assert v.std() == pytest.approx(2, rel=0.02)
    assert np.corrcoef(v[:, 1:].ravel(), v[:, :-1].ravel())[0, 1] == pytest.approx(0.8, abs=0.01)


def test_stimulus_comes_as_often_and_to_as_many_as_asked():
    pulses = stimulation.Pulses(3.0, every=0.5, share=0.1).draw(np.random.default_rng(0), 50, 400, range(40), 0.01)
    assert pulses.max() == pytest.approx(3, rel=0.01)
    on = (pulses > 0).any((0, 2))
    np.testing.assert_array_equal(np.flatnonzero(on), [t for t in range(400) if t % 50 < 5])
    assert (pulses[:, on] > 0).mean() == pytest.approx(0.1, rel=0.1)


def test_heading_is_the_integral_of_velocity_and_the_bump_follows(data):
    turned = np.diff(np.unwrap(data["heading"][..., 0], axis=1), axis=1)
    np.testing.assert_allclose(turned, data["dt"] * data["velocity"][:, 1:, 0], atol=1e-5)
    bump = RING.decode(data["rates"], RING.places(40))
    assert RING.distance(bump, data["heading"]).mean() < 0.15


def test_seed_decides(circuit):
    first, again, other = (cann.simulate_recording(circuit, seed, trials=2, steps=20) for seed in (3, 3, 4))
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["rates"], other["rates"])


def test_a_fitted_network_is_stepped_as_the_simulator_steps(circuit, net):
    """network.run, without noise, gives what simulate gives."""
    rng = np.random.default_rng(0)
    velocity = stimulation.random_velocity(rng, 3, 40, circuit.dt)
    rates = simulate(circuit, velocity, np.zeros((3, 1)), settle=0)
    u = np.zeros((3, len(net.b)))
    u[:, :40] = RING.bump(RING.places(40), np.zeros((3, 1)))
    stepped = [r for _, r in network.run(net, velocity, u)]
    np.testing.assert_allclose(np.stack(stepped, 1), rates, atol=1e-6)


FIRST_MADE = {  # sums of a recording's values times the cosines of their numbers
    "rates": 0.2143553,
    "velocity": 11.7841696,
    "dt": 0.0100000,
    "heading": -8.7583317,
    "true_W": 0.8016271,
    "true_W_in": 0.1443915,
    "true_b": -0.1535611,
    "true_gate": -0.0030527,
    "hidden_rates": 1.5196500,
    "tau": 0.0500000,
}


def test_recording_is_the_one_that_was_always_made():
    """FIRST_MADE was simulated by the code before this one."""
    now = cann.simulate_recording(circuits.ring(n=20, shifters=10), trials=6, steps=100)
    assert now.keys() == FIRST_MADE.keys() | {"true_orders"}
    for key, expected in FIRST_MADE.items():
        values = np.ravel(now[key]).astype(float)
        assert values @ np.cos(np.arange(values.size)) == pytest.approx(expected, abs=1e-6), key
