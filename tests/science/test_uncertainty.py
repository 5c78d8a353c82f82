"""Standard errors: calibrated where the answer is known, wide where the data do not reach, and blind to the truth."""

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


@pytest.fixture(scope="module")
def stimulated(circuit):
    return observed(circuit, seed=12, amplitude=4.0)


@pytest.mark.parametrize("which", ["passive", "stimulated"])
def test_intervals_of_the_circuit_itself_hold_the_truth(net, which, request):
    rec = request.getfixturevalue(which)
    fit, W = as_fit(net), net.W[:40, :40]
    found = uncertainty.estimate(fit, rec)
    known = uncertainty.identifiable(W, found.W_se)
    z = ((found.W - W) / found.W_se)[known]
    assert known.sum() > 300
    assert 0.9 <= np.mean(np.abs(z) < 1.96) <= 0.985  # one recording, whose errors go together
    assert abs(z.mean()) < 0.2
    off = fit._replace(W=np.where(np.arange(80) < 40, np.float32(1.01) * fit.W, fit.W))
    again = uncertainty.estimate(off, rec)  # the estimate hardly depends on where it is taken about
    assert np.median(np.abs((again.W - found.W) / found.W_se)[known]) < 0.3
    assert np.isfinite(found.total_se[known]).all()
    assert (found.gate_se[:, known] >= 0).all()


def test_neurons_never_active_together_are_not_identifiable(net, passive, stimulated):
    apart = np.abs((np.arange(40)[:, None] - np.arange(40) + 20) % 40 - 20)
    fit = as_fit(net)
    known = uncertainty.identifiable(net.W[:40, :40], uncertainty.estimate(fit, passive).W_se)
    assert not known[apart > 18].any()
    assert known[apart < 6].mean() > 0.9
    assert uncertainty.identifiable(net.W[:40, :40], uncertainty.estimate(fit, stimulated).W_se).all()


def test_standard_errors_shrink_with_the_square_root_of_the_data(net, passive):
    whole = uncertainty.estimate(as_fit(net), passive).W_se
    half = uncertainty.estimate(as_fit(net), passive.trials(slice(None, 15))).W_se
    known = uncertainty.identifiable(net.W[:40, :40], whole)
    assert np.median((half / whole)[known]) == pytest.approx(np.sqrt(2), rel=0.15)


def test_too_little_data_is_said_to_be_so(net, passive):
    found = uncertainty.estimate(as_fit(net), passive.trials(slice(None, 1)))
    assert uncertainty.identifiable(net.W[:40, :40], found.W_se).mean() < 0.05
    assert np.isinf(found.W_se).any()
    assert np.isfinite(found.W).all()


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


def test_standard_errors_are_those_of_the_whole_covariance(net, passive):
    fit = as_fit(net)
    held = connectivity.hold(fit, passive)
    onto = torch.as_tensor(np.stack([connectivity.even_map(held, 40), *connectivity.gate_map(fit, held)]))
    x = torch.as_tensor(held.x[held.valid]).double()
    covariance = uncertainty.inverse(uncertainty.factored((x.T @ x).numpy()))
    torch.testing.assert_close(covariance @ (x.T @ x), torch.eye(81, dtype=torch.float64), atol=1e-2, rtol=0)
    rows = uncertainty.mapped(torch.eye(81, dtype=torch.float64), onto)  # (3, 40, 81)
    whole = ((rows @ covariance) * rows).sum(-1)
    torch.testing.assert_close(uncertainty.variances(covariance, onto), whole, rtol=1e-6, atol=0)


def test_matrices_that_are_not_kept_are_the_same(net, passive, monkeypatch):
    fit = as_fit(net)
    kept = solve.solve(fit, passive, RING, every=2)
    monkeypatch.setattr(uncertainty, "ROOM", 0.0)
    again = solve.solve(fit, passive, RING, every=2)
    np.testing.assert_allclose(again.net.W, kept.net.W, atol=1e-7)
    assert again.spread == kept.spread
    few = uncertainty.estimate(fit, passive)  # as few neurons at a time as there may be
    monkeypatch.undo()
    many = uncertainty.estimate(fit, passive)
    np.testing.assert_allclose(few.W_se, many.W_se, rtol=1e-5)


def test_an_inverse_speaks_for_neurons_that_are_active_with_its_own(monkeypatch):
    many = circuits.ring(160, 20)
    fit, rec = as_fit(many.network), observed(many, seed=14)
    inverted = []
    monkeypatch.setattr(uncertainty, "inverse", lambda factor, of=uncertainty.inverse: inverted.append(1) or of(factor))
    shared = uncertainty.estimate(fit, rec)
    assert 50 < len(inverted) <= 110
    monkeypatch.setattr(uncertainty, "NEAR", 0.0)
    exact = uncertainty.estimate(fit, rec)
    assert len(inverted) > 210
    for name in ("W", "total", "gate"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(exact, name))
        ratio = getattr(shared, f"{name}_se") / getattr(exact, f"{name}_se")
        assert np.sqrt(np.mean(np.log(ratio) ** 2)) < 0.05
        assert np.median(ratio) == pytest.approx(1, abs=0.01)


def test_what_lies_between_is_continued_by_the_logarithm():
    found = dict(uncertainty.between({7: np.array([1.0, 4.0]), 2: np.array([100.0, 4.0])}, [7, 5, 2]))
    np.testing.assert_allclose([found[7], found[5], found[2]], [[1, 4], [10, 4], [100, 4]])
