"""What metrics.json says, against the definitions of docs/measures.md."""

from types import SimpleNamespace

import numpy as np
import pytest

import cann
from nsi.estimation import estimate
from nsi.evaluation import metrics
from nsi.evaluation.scores import coverage, true_effective_gate, true_total
from nsi.evaluation.weights import effective_gate
from nsi.geometry import RING
from nsi.network import Network
from nsi.recordings import Recording
from nsi.sums import correlation


@pytest.fixture(scope="module")
def data(circuit):
    """As in conftest.py, with enough trials for some weights to be identifiable."""
    return cann.simulate_recording(circuit, seed=1, trials=150, steps=300)


@pytest.fixture(scope="module")
def truth(data):
    """The ground truth, as recordings.load_truth gives it."""
    names = {"W": "true_W", "W_in": "true_W_in", "b": "true_b", "gate": "true_gate", "hidden_rates": "hidden_rates"}
    return {k: np.float32(data[v]) for k, v in names.items()}


@pytest.fixture(scope="module")
def circuit_itself(truth):
    """The circuit in the place of a fitted network."""
    return Network(truth["W"], truth["W_in"], truth["b"], 0.2, 40)


@pytest.fixture(scope="module")
def found(rec):
    return estimate(rec, calibrated=False).arrays()


def of(net, rec, truth, found):
    data = SimpleNamespace(
        rec=rec, held_out=rec.trials(slice(9, None, 10)), geometry=RING, places=RING.places(40), truth=truth
    )
    result = metrics.of_network(net, net, net, data, SimpleNamespace(warmup=10, window=40))
    return result | ({} if found is None else metrics.of_connections(found, rec, RING, RING.places(40), truth))


def test_the_circuit_itself_scores_best(circuit_itself, rec, truth):
    scores = of(circuit_itself, rec, truth, None)
    for name in ("network_r_W", "network_r_W_near", "r_gate"):
        assert scores[name] == pytest.approx(1, abs=1e-5), name
    assert scores["network_frobenius_W"] == pytest.approx(0, abs=1e-6)
    assert scores["network_r_gate_effective"] > 0.98
    assert scores["network_gate_error"] < 0.2
    assert scores["shifter_fraction"] > 0.5  # two trials of 3 s
    assert scores["loss"] < 5e-4 < 0.1 * scores["variance"]
    assert scores["heading_error"]["1"]["error"] < 0.05
    assert scores["turning"]["slope"] == pytest.approx(1, abs=0.05)
    assert scores["heading_error_5s"] is None  # trials of 3 s


def test_the_truth_itself_scores_best_as_an_estimate(rec, truth, found):
    """W, total and gate in the place of the estimate's, with intervals about them."""
    total, gate = true_total(truth, rec.rates, 0.2), true_effective_gate(truth, rec)
    perfect = found | {"W": truth["W"][:40, :40], "total": total, "gate": gate}
    perfect |= {f"{name}_unbiased": perfect[name] for name in ("W", "total", "gate")}
    perfect |= {f"{name}_se": np.full_like(perfect[name], 1e-3) for name in ("W", "total", "gate")}
    scores = metrics.of_connections(perfect, rec, RING, RING.places(40), truth)
    for name in ("r_W", "r_W_near", "r_W_identifiable", "r_total", "r_gate_effective", "gate_slope"):
        assert scores[name] == pytest.approx(1, abs=1e-6), name
    for name in ("frobenius_W", "frobenius_total", "gate_error"):
        assert scores[name] == pytest.approx(0, abs=1e-6), name
    assert scores["coverage"] == scores["coverage_total"] == scores["coverage_gate"] == 1
    off = perfect | {"total": 1.1 * total, "gate": 1.1 * gate}  # ten percent too large is seen
    scores = metrics.of_connections(off, rec, RING, RING.places(40), truth)
    assert scores["frobenius_total"] == pytest.approx(0.1, abs=1e-6)
    assert scores["gate_slope"] == pytest.approx(1.1, abs=1e-6)


def test_true_total_is_what_recorded_and_hidden_neurons_send_together():
    """Of hidden neurons that are a linear map of the recorded ones, exactly: W and the map times what they send."""
    rng = np.random.default_rng(0)
    rates, W, A = rng.standard_normal((10, 200, 4)), rng.standard_normal((7, 7)), rng.standard_normal((4, 3))
    total = true_total({"W": W, "hidden_rates": rates @ A}, rates, 0.2)
    expected = W[:4, :4] + A @ W[4:, :4]
    assert np.linalg.norm(total - expected) < 0.03 * np.linalg.norm(A @ W[4:, :4])  # a ridge of 1 %


def test_without_truth_no_warning_about_it(circuit_itself, rec, truth, found):
    whole, without = of(circuit_itself, rec, truth, found), of(circuit_itself, rec, {}, found)
    scored = whole.keys() - without.keys()
    assert scored >= {"r_W", "r_W_near", "r_W_identifiable", "frobenius_W", "r_gate", "r_product", "coverage", "r_dev"}
    assert scored >= {"network_r_W", "network_r_gate_effective", "r_total", "coverage_total", "coverage_gate"}
    same = {k: v for k, v in whole.items() if k in without}
    assert repr(same) == repr(without)
    control = metrics.of_connections({"W": circuit_itself.W[:40, :40]}, rec, RING, RING.places(40), truth)
    assert control.keys() == {"r_W", "r_W_near", "frobenius_W"}


def test_coverage_counts_the_intervals_that_hold_the_truth():
    known = np.zeros((3, 3), bool)
    known[0] = True
    estimate, se = np.zeros((3, 3)), np.ones((3, 3))
    true = np.array([[1.9, 2.0, -1.0], [9, 9, 9], [0, 0, 0]])
    assert coverage(estimate, se, true, known) == pytest.approx(2 / 3)
    se = np.where(true == 2, np.inf, 1.0)  # an interval without end claims nothing
    assert coverage(estimate, se, true, known) == 1
    assert np.isnan(coverage(estimate, se, true, known & False))


def test_true_effective_gate_is_that_of_the_circuit_run_along_its_own_activity(circuit_itself, rec, truth):
    true = true_effective_gate(truth, rec)
    assert true.shape == (1, 40, 40)
    again = effective_gate(circuit_itself, rec)
    assert correlation(again, true) > 0.99
    assert np.linalg.norm(again - true) / np.linalg.norm(true) < 0.2


def test_several_replicas_make_lists():
    assert metrics.of_replicas([{"a": 1, "b": {"c": 2}}]) == {"a": 1, "b": {"c": 2}}
    assert metrics.of_replicas([{"a": 1, "b": None}, {"a": 3, "b": 4}]) == {"a": [1, 3], "b": [None, 4]}


def test_velocity_of_two_components_is_measured_by_its_first(rec):
    rng = np.random.default_rng(0)
    W_in = np.concatenate([np.zeros((2, 40)), rng.normal(size=(2, 6))], 1)
    net = Network(*(np.float32(x) for x in (rng.normal(size=(46, 46)) / 20, W_in, np.zeros(46))), 0.2, 40)
    two = Recording(rec.rates, np.concatenate([rec.velocity, 0 * rec.velocity], -1), rec.dt, tau=rec.tau)
    scores = of(net, two, {}, None)
    assert scores["turning"]["slope"] == pytest.approx(1, abs=0.05)
