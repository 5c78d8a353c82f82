"""The regression of a clamped network's weights: its matrices, and the path through shifters that it looks at."""

import numpy as np
import pytest
import torch

import cann
from nsi import circuits, connectivity, solve, uncertainty
from nsi.geometry import RING
from nsi.recordings import Recording


def as_fit(net):
    """The circuit that made the data, its shifters in the place of input units."""
    return net._replace(W=np.float32(net.W), W_in=np.float32(net.W_in), b=np.float32(net.b))


def observed(circuit, **settings):
    data = cann.simulate_recording(circuit, trials=30, steps=400, **settings)
    return Recording(data["rates"], data["velocity"], data["dt"], None, data["tau"], data.get("stimulus"))


@pytest.fixture(scope="module")
def passive(circuit):
    return observed(circuit, seed=11)


def test_effective_gate_is_the_truths_in_shape(net, passive):
    gate = connectivity.effective_gate(as_fit(net), passive)
    assert gate.shape == (1, 40, 40)
    assert connectivity.correlation(gate, connectivity.gate(net)) > 0.98


def test_even_path_of_shifters_that_cancel_is_small_and_of_holding_ones_is_not(circuit, passive):
    def size(circuit, rec):
        net = circuit.network
        even = connectivity.even_map(connectivity.hold(as_fit(net), rec), 40) @ net.W[40:, :40]
        return np.linalg.norm(even) / np.linalg.norm(net.W[:40, :40])

    holding = circuits.holding(n=40, shifters=20)
    assert size(circuit, passive) < 0.1
    assert size(holding, observed(holding, seed=13)) > 0.3


def test_an_inverse_is_one(net, passive):
    held = connectivity.hold(as_fit(net), passive)
    x = torch.as_tensor(held.x[held.valid]).double()
    covariance = uncertainty.inverse(uncertainty.factored((x.T @ x).numpy()))
    torch.testing.assert_close(covariance @ (x.T @ x), torch.eye(81, dtype=torch.float64), atol=1e-2, rtol=0)


def test_least_squares_about_the_circuit_hardly_moves_it(net, passive):
    """An independent solution: the plain least squares of one neuron on its active samples."""
    fit = as_fit(net)
    held = connectivity.hold(fit, passive)
    about = np.concatenate([fit.W[:, :40], fit.b[None, :40]])
    data = uncertainty.regress(about, held.x, held)
    score = data.scores()
    for index, factors in data.factors():
        if 7 in index:
            step = uncertainty.solve_each(factors, score[:, index])[:, index.index(7)].numpy()
    used = data.used[:, 7].numpy()
    x, e = data.x.numpy()[used].astype(float), data.e[:, 7].numpy()[used].astype(float)
    ridge = 1e-9 * np.trace(x.T @ x) / x.shape[1] * np.eye(x.shape[1])
    np.testing.assert_allclose(step, np.linalg.solve(x.T @ x + ridge, x.T @ e), atol=1e-3)
    assert 0.018 < np.std(e - x @ step) < 0.022  # the circuit's noise


def test_matrices_that_are_not_kept_are_the_same(net, passive, monkeypatch):
    fit = as_fit(net)
    kept = solve.solve(fit, passive, RING, every=2)
    monkeypatch.setattr(uncertainty, "ROOM", 0.0)
    again = solve.solve(fit, passive, RING, every=2)
    np.testing.assert_allclose(again.net.W, kept.net.W, atol=1e-7)
    assert again.spread == kept.spread
