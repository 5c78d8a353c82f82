"""Reading weights: each score on a network whose answer is known."""

import numpy as np
import pytest

from nsi.evaluation.scores import deviation, network_scores, true_effective_gate, true_total, weight_scores
from nsi.evaluation.weights import clamp, regress_on_state, unsigned_product
from nsi.geometry import RING, plane_waves
from nsi.hidden import matching
from nsi.network import Network, predict, predict_from, synaptic_state
from nsi.recordings import Recording
from nsi.sums import correlation, draw_samples, sum_products


def weights(n=4, units=7, d=2, seed=0):
    """A network of random weights, the velocity in its last three units."""
    rng = np.random.default_rng(seed)
    W_in = np.concatenate([np.zeros((d, units - 3)), rng.normal(size=(d, 3))], 1)
    return Network(rng.normal(size=(units, units)), W_in, np.zeros(units), 0.2, n)


def test_gate_and_product():
    net = weights()
    expected = np.einsum("ik,dk,kj->dij", net.W[:4, 4:], net.W_in[:, 4:], net.W[4:, :4])
    np.testing.assert_allclose(net.gate(), expected)
    product = np.einsum("ik,kj->ij", net.W[:4, 4:], net.W[4:, :4])
    np.testing.assert_allclose(unsigned_product(net), product)


def test_scores_need_truth():
    net = Network(np.eye(4), np.array([[0, 0, 0, 1.0]]), np.zeros(4), 0.2, 3)
    more = RING, RING.places(3)
    assert network_scores(net, {}, *more) == {}
    scores = network_scores(net, {"W": np.eye(5)}, *more)
    assert scores["r_W"] == pytest.approx(1)
    assert scores["frobenius_W"] == 0
    assert np.isnan(correlation(np.ones(4), np.arange(4)))


def test_scores_against_their_definitions():
    net, true = weights(n=10, units=13, d=1), np.random.default_rng(1).normal(size=(12, 12))
    W, known = net.W[:10, :10], np.random.default_rng(2).random((10, 10)) < 0.5
    gate, places = np.random.default_rng(3).normal(size=(1, 10, 10)), RING.places(10)
    truth = {"W": true, "gate": gate}
    without, t = network_scores(net, truth, RING, places), true[:10, :10]
    scores = without | weight_scores(W, t, RING, places, known)
    r = lambda a, b: np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]
    index = np.arange(10)
    near = np.abs((index[:, None] - index + 5) % 10 - 5) <= 3
    assert scores["r_W"] == pytest.approx(r(W, t))
    assert scores["r_W_near"] == pytest.approx(r(W[near], t[near]))
    assert scores["r_W_identifiable"] == pytest.approx(r(W[known], t[known]))
    assert scores["frobenius_W"] == pytest.approx(np.linalg.norm(W - t) / np.linalg.norm(t))
    assert scores["r_gate"] == pytest.approx(r(net.gate(), gate))
    assert scores["r_product"] == pytest.approx(r(unsigned_product(net), gate[0]))
    assert scores["r_dev"] == pytest.approx(deviation(W, t, known, RING, places)[0])
    assert not {"r_W_identifiable", "r_dev", "dev_slope", "dev_error"} & without.keys()
    assert without["r_W"] == scores["r_W"]


def test_deviation_is_from_the_mean_profile():
    """A circulant part, whatever it is, changes nothing; a scaled deviation has the scale for its slope."""
    rng = np.random.default_rng(0)
    places = RING.places(12)
    true = rng.normal(size=(12, 12))
    circulant = np.cos(places - places[:, 0])
    some = rng.random((12, 12)) < 0.7
    for mask in (some, np.ones((12, 12), bool)):
        r, slope, error = deviation(0.5 * true + circulant, true, mask, RING, places)
        assert (r, slope, error) == (pytest.approx(1), pytest.approx(0.5), pytest.approx(0.5))
    r, slope, _ = deviation(rng.normal(size=(12, 12)), true, some, RING, places)
    assert abs(r) < 0.3
    assert abs(slope) < 0.3
    changed = true + 100 * np.diag(rng.normal(size=12))  # weights of neurons onto themselves do not count
    found = deviation(changed, true, np.ones((12, 12), bool), RING, places)
    np.testing.assert_allclose(found, (1, 1, 0), atol=1e-9)
    assert np.isnan(deviation(true, circulant, some, RING, places)).all()  # the truth does not deviate


@pytest.mark.parametrize("among", [True, False])
def test_clamped_hidden_units_are_those_that_predict_runs(rec, among):
    """With connections among hidden units, and without, where all steps are worked out at once."""
    rng = np.random.default_rng(0)
    W_in = np.concatenate([np.zeros((1, 40)), rng.normal(size=(1, 5))], 1)
    W = rng.normal(size=(45, 45)) / 7
    W[40:, 40:] *= among
    net = Network(*(np.float32(x) for x in (W, W_in, rng.normal(size=45))), 0.2, 40)
    np.testing.assert_allclose(clamp(net, rec).hidden, predict(net, rec)[:, 40:, 40:], atol=1e-5)


def test_windows_that_are_run_together_are_those_run_one_by_one(rec):
    rng = np.random.default_rng(0)
    W_in = np.concatenate([np.zeros((1, 40)), rng.normal(size=(1, 5))], 1)
    net = Network(*(np.float32(x) for x in (rng.normal(size=(45, 45)) / 7, W_in, np.zeros(45))), 0.2, 40)
    some = Recording(rec.rates[:3], rec.velocity[:3], rec.dt, stimulus=rec.rates[:3] - 0.3)
    together = predict_from(net, some, 5, (0, 40, 90), 60)
    for start, rates in zip((0, 40, 90), together, strict=True):
        np.testing.assert_allclose(rates, predict(net, some, 5, start, 60), atol=1e-5)


def test_samples_are_drawn_where_there_are_more():
    valid = np.arange(60).reshape(3, 20) % 20 < 15
    assert np.array_equal(draw_samples(valid, 45), np.flatnonzero(valid))
    drawn = draw_samples(valid, 44)
    assert len(np.unique(drawn)) == 44
    assert valid.ravel()[drawn].all()


def test_linear_map_onto_the_state():
    rng = np.random.default_rng(0)
    u, M = rng.normal(size=(50, 30, 6)), rng.normal(size=(6, 4))
    np.testing.assert_allclose(regress_on_state(u, u @ M, ridge=1e-9), M, atol=1e-6)
    assert regress_on_state(u, (u @ M)[..., :0]).shape == (6, 0)


def test_sums_over_samples_are_taken_in_double_precision():
    """Of numbers stored in single precision, so that they agree between processors: in single precision they are off
    by 1e-7 to 1e-5."""
    rng = np.random.default_rng(0)
    x, y = rng.random((9001, 5), np.float32), rng.random((9001, 3), np.float32)
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    np.testing.assert_allclose(sum_products(x, y), x64.T @ y64, rtol=1e-13)
    exact = regress_on_state(x64, y64)
    np.testing.assert_allclose(regress_on_state(x, y), exact, rtol=1e-12)
    moments = np.exp(1j * plane_waves.third(rng.uniform(0, 6, (len(x), 2))))
    np.testing.assert_allclose(plane_waves.mean_phases(x, moments), plane_waves.mean_phases(x64, moments), rtol=1e-9)
    predicted = [matching._map(a, b)(a) for a, b in ((x, y), (x64, y64))]
    np.testing.assert_allclose(*predicted, rtol=1e-12)


def test_effective_gate_of_the_truth_is_its_product_where_all_shifters_are_active(rec):
    """Hidden neurons of slope 1 throughout that copy the state: nothing is lost by the projection onto it."""
    rng = np.random.default_rng(0)
    W, hidden = rng.normal(size=(44, 44)), np.full((*rec.rates.shape[:2], 4), 1e-6, np.float32)
    truth = {"W": W, "W_in": np.concatenate([np.zeros((1, 40)), rng.normal(size=(1, 4))], 1), "hidden_rates": hidden}
    found = true_effective_gate(truth, rec)
    u = synaptic_state(rec.rates, 0.2)[:, 50:]
    ones = regress_on_state(u, np.ones((*u.shape[:2], 1)))
    expected = (ones * truth["W_in"][0, 40:]) @ W[40:, :40]
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6)
    none = truth | {"hidden_rates": hidden[..., :0], "gate": np.ones((1, 40, 40))}
    assert true_effective_gate(none, rec) is none["gate"]


def test_true_total_and_effective_gate_against_least_squares_by_hand():
    """Hidden neurons of other rates than the recorded ones: the state by a loop, the map by rows of a ridge."""
    rng, n, m, steps = np.random.default_rng(0), 6, 4, 120
    rates, hidden = rng.random((8, steps, n)), np.maximum(0, rng.random((8, steps, m)) - 0.3)
    W, W_in = rng.normal(size=(n + m, n + m)), np.concatenate([np.zeros((2, n)), rng.normal(size=(2, m))], 1)
    lengths = np.array([steps] * 7 + [80])
    rec = Recording(rates, rng.normal(size=(8, steps, 2)), 0.01, tau=0.03, lengths=lengths)

    def late_states(r):
        u = [r[:, 0]]
        for t in range(steps - 1):
            u.append(u[-1] + (r[:, t] - u[-1]) / 3)
        return np.stack(u, 1)[:, 30:]

    def onto(u, y):
        """Least squares with a ridge of 1e-2 of the largest eigenvalue of the states' second moment."""
        weight = np.sqrt(1e-2 * np.linalg.norm(u, 2) ** 2)
        rows = np.concatenate([u, weight * np.eye(n)])
        return np.linalg.lstsq(rows, np.concatenate([y, np.zeros((n, y.shape[1]))]), rcond=None)[0]

    flat = lambda a: a.reshape(-1, a.shape[-1])
    u, s = late_states(rates), late_states(hidden)
    truth = {"W": W, "W_in": W_in, "hidden_rates": hidden}
    total = true_total(truth, rates, 1 / 3)
    np.testing.assert_allclose(total, W[:n, :n] + onto(flat(u), flat(s)) @ W[n:, :n], rtol=1e-6)
    valid, slope = rec.valid[:, 30:], np.where(hidden > 0, 1 - hidden**2, 0)[:, 30:]
    active = onto(u[valid], slope[valid])
    expected = [active @ np.diag(W_in[d, n:]) @ W[n:, :n] for d in range(2)]
    np.testing.assert_allclose(true_effective_gate(truth, rec), expected, rtol=1e-6)
    none = truth | {"hidden_rates": hidden[..., :0]}
    np.testing.assert_array_equal(true_total(none, rates, 1 / 3), W[:n, :n])
