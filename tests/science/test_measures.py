"""What metrics.json says, against the definitions of docs/measures.md."""

import numpy as np
import pytest

import cann
from nsi import connectivity, measures, uncertainty
from nsi.geometry import RING
from nsi.network import Network
from nsi.recordings import Recording


@pytest.fixture(scope="module")
def data(circuit):
    """As in conftest.py, with enough trials for some weights to be identifiable."""
    return cann.simulate_recording(circuit, seed=1, trials=150, steps=300)


@pytest.fixture(scope="module")
def rec(data):
    return Recording(data["rates"], data["velocity"], data["dt"], data["heading"], data["tau"])


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
def found(circuit_itself, rec):
    return uncertainty.read_off([circuit_itself], rec, RING)


def of(net, rec, truth, found):
    result = measures.of_network(net, rec, rec.trials(slice(9, None, 10)), RING, truth, 10, 40)
    return result | ({} if found is None else measures.of_errors(net, rec, RING, truth, found))


def test_the_circuit_itself_scores_best(circuit_itself, rec, truth, found):
    scores = of(circuit_itself, rec, truth, found)
    for name in ("r_W", "r_W_near", "r_W_identifiable", "r_gate"):
        assert scores[name] == pytest.approx(1, abs=1e-5), name
    assert scores["frobenius_W"] == pytest.approx(0, abs=1e-6)
    assert scores["r_gate_effective"] > 0.98
    assert scores["gate_error"] < 0.2
    assert scores["shifter_fraction"] > 0.5  # two trials of 3 s
    assert np.isnan(scores["coverage"])  # no pulses: direct and even path look alike
    assert 0.9 <= scores["coverage_total"] <= 1
    assert 0.9 <= scores["coverage_gate"] <= 1
    assert scores["loss"] < 5e-4 < 0.1 * scores["variance"]
    assert scores["heading_error"]["1"]["error"] < 0.05
    assert scores["turning"]["slope"] == pytest.approx(1, abs=0.05)
    assert scores["heading_error_5s"] is None  # trials of 3 s


def test_without_truth_nothing_is_said_of_it(circuit_itself, rec, truth, found):
    whole, without = of(circuit_itself, rec, truth, found), of(circuit_itself, rec, {}, found)
    scored = whole.keys() - without.keys()
    assert scored >= {"r_W", "r_W_near", "r_W_identifiable", "frobenius_W", "r_gate", "r_product", "coverage", "r_dev"}
    same = {k: v for k, v in whole.items() if k in without}
    assert repr(same) == repr(without)
    bare = of(circuit_itself, rec, truth, None)
    assert not {"r_W_identifiable", "identifiable_fraction", "coverage", "direct_share"} & bare.keys()
    assert bare["r_W"] == whole["r_W"]


def test_coverage_counts_the_intervals_that_hold_the_truth():
    known = np.zeros((3, 3), bool)
    known[0] = True
    estimate, se = np.zeros((3, 3)), np.ones((3, 3))
    true = np.array([[1.9, 2.0, -1.0], [9, 9, 9], [0, 0, 0]])
    assert uncertainty.coverage(estimate, se, true, known) == pytest.approx(2 / 3)
    se = np.where(true == 2, np.inf, 1.0)  # an interval without end claims nothing
    assert uncertainty.coverage(estimate, se, true, known) == 1
    assert np.isnan(uncertainty.coverage(estimate, se, true, known & False))


def test_true_effective_gate_is_that_of_the_circuit_run_along_its_own_activity(circuit_itself, rec, truth):
    true = connectivity.true_effective_gate(truth, rec)
    assert true.shape == (1, 40, 40)
    again = connectivity.effective_gate(circuit_itself, rec)
    assert connectivity.correlation(again, true) > 0.99
    assert np.linalg.norm(again - true) / np.linalg.norm(true) < 0.2


def test_several_replicas_make_lists():
    assert measures.of_replicas([{"a": 1, "b": {"c": 2}}]) == {"a": 1, "b": {"c": 2}}
    assert measures.of_replicas([{"a": 1, "b": None}, {"a": 3, "b": 4}]) == {"a": [1, 3], "b": [None, 4]}


def test_velocity_of_two_components_is_measured_by_its_first(rec):
    rng = np.random.default_rng(0)
    W_in = np.concatenate([np.zeros((2, 40)), rng.normal(size=(2, 6))], 1)
    net = Network(*(np.float32(x) for x in (rng.normal(size=(46, 46)) / 20, W_in, np.zeros(46))), 0.2, 40)
    two = Recording(rec.rates, np.concatenate([rec.velocity, 0 * rec.velocity], -1), rec.dt, tau=rec.tau)
    scores = of(net, two, {}, uncertainty.read_off([net], two, RING))
    assert scores["turning"]["slope"] == pytest.approx(1, abs=0.05)
