"""The simulated circuit against its equations, and against what is claimed of it."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import analysis
import cann


def test_euler_converges_to_the_ode():
    v, start, seconds = 1.5, np.array([1.0]), 0.4
    net = cann.shifter_network()
    u0 = np.zeros(len(net.b))
    u0[:100] = np.maximum(0, np.cos(analysis.ring_angles(100) - start))

    def slope(_, u):
        return (-u + np.maximum(0, np.tanh(u @ net.W + net.b + v * net.W_in[0]))) / net.tau

    exact = solve_ivp(slope, (0, seconds), u0, rtol=1e-9, atol=1e-10).y[:, -1]
    errors = []
    for dt in (0.01, 0.005, 0.0025):
        fine, u = net._replace(dt=dt), u0[None]
        for _ in range(round(seconds / dt)):
            _, u = cann.step(fine, u, np.full((1, 1), v))
        errors.append(np.abs(u[0] - exact).max())
    assert errors[0] < 0.05
    assert 1.8 < errors[0] / errors[1] < 2.2  # first order
    assert 1.8 < errors[1] / errors[2] < 2.2


def test_gain_network_against_the_published_loop():
    net, n, rng = cann.gain_network(), 100, np.random.default_rng(0)
    W, W_gain = np.empty((n, n)), np.empty((n, n))
    for i in range(n):
        for j in range(n):
            ahead = (j - i) % n
            signed = ahead if ahead < n / 2 else ahead - n
            W[i, j] = 0.1 * np.cos(0.06 * abs(signed)) - 0.03
            W_gain[i, j] = 0.02 * 0.1 * 0.06 * np.sin(0.06 * abs(signed)) * signed
    np.testing.assert_allclose(net.W, W, atol=1e-12)
    np.testing.assert_allclose(net.W_gain, W_gain, atol=1e-12)
    velocity, start = cann.draw_velocity(rng, 1, 30, net.dt), np.array([2.0])
    rates = cann.simulate(net, velocity, start, settle=0)[0]
    r = np.maximum(0, np.cos(analysis.ring_angles(n) - start))
    for t in range(30):  # alpha 1: the state is the last rate
        r = np.array(
            [
                max(0, np.tanh(sum(r[i] * (W[i, j] + velocity[0, t, 0] * W_gain[i, j]) for i in range(n))))
                for j in range(n)
            ]
        )
        np.testing.assert_allclose(rates[t], r, atol=1e-6)


@pytest.mark.parametrize(
    "net", [cann.shifter_network(), cann.shifter_network(holding=True), cann.shifter_network(n=60, n_shifters=30)]
)
def test_ring_is_symmetric_and_gate_is_odd(net):
    n = len(net.W_gain)
    ring, gate = net.W[:n, :n], net.gate[0]
    np.testing.assert_allclose(ring, ring.T, atol=1e-12)
    np.testing.assert_allclose(gate, -gate.T, atol=1e-4 * np.abs(gate).max())
    assert np.abs(gate).max() > 1e-3


@pytest.mark.parametrize("holding", [False, True])
def test_bump_stays_and_integrates(holding):
    check = cann.physiology(cann.shifter_network(holding=holding), noise=0)
    assert check["gain"] == pytest.approx(1, abs=0.03)
    assert check["nonlinearity"] < 0.05
    assert check["drift"] < (0.02 if not holding else 0.03)
    assert 90 < np.degrees(check["width"]) < 150


def test_gain_network_integrates():
    check = cann.physiology(cann.gain_network(), noise=0.02)
    assert check["gain"] == pytest.approx(1, abs=0.03)
    assert 0 < check["diffusion"] < 1e-3


def test_shifters_are_silent_away_from_the_bump(data, net):
    assert (net.b[40:] + 10 * np.abs(net.W_in[0, 40:]) <= 0).all()  # no velocity of five s.d. exceeds the threshold
    bump = analysis.decode_heading(data["rates"], analysis.ring_angles(40))
    away = np.abs(analysis.angle_between(analysis.ring_angles(20), bump[..., None])) > 2
    hidden = data["hidden_rates"]
    assert (hidden[np.concatenate([away, away], -1)] > 0).mean() < 1e-3  # noise alone
    assert hidden.max() > 0.2


def test_recording_obeys_the_equation_it_is_documented_with(net):
    data = cann.simulate_recording(net, trials=3, steps=150, noise=0, amplitude=2.0)
    rates = np.concatenate([data["rates"], data["hidden_rates"]], -1).astype(float)
    u = analysis.synaptic_state(rates, data["dt"] / data["tau"])
    current = u @ data["true_W"] + data["true_b"] + data["velocity"] @ data["true_W_in"]
    current[..., :40] += data["stimulus"]
    expected = np.maximum(0, np.tanh(current))
    np.testing.assert_allclose(expected[:, 60:], rates[:, 60:], atol=2e-5)  # once the guess at u[0] is forgotten
    assert data["stimulus"].max() > 1
    assert (data["stimulus"] > 0).mean() == pytest.approx(0.3 * 0.2, rel=0.2)


def test_velocity_is_the_published_process():
    v = cann.draw_velocity(np.random.default_rng(0), 100, 4000, 0.025)[..., 0]
    assert v.std() == pytest.approx(2, rel=0.02)
    assert np.corrcoef(v[:, 1:].ravel(), v[:, :-1].ravel())[0, 1] == pytest.approx(0.8, abs=0.01)


def test_heading_is_the_integral_of_velocity_and_the_bump_follows(data):
    turned = np.diff(np.unwrap(data["heading"][..., 0], axis=1), axis=1)
    np.testing.assert_allclose(turned, data["dt"] * data["velocity"][:, 1:, 0], atol=1e-5)
    bump = analysis.decode_heading(data["rates"], analysis.ring_angles(40))
    assert np.abs(analysis.angle_between(bump, data["heading"][..., 0])).mean() < 0.15


def test_seed_decides(net):
    first, again, other = (cann.simulate_recording(net, seed, trials=2, steps=20) for seed in (3, 3, 4))
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["rates"], other["rates"])
