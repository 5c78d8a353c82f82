"""The benchmark: scores against hand-made ones, the oracle, what is worked out anew, and a newcomer's row."""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import measures, methods, tasks
from experiments.benchmark.methods import METHODS, Method
from experiments.benchmark.oracle import oracle
from experiments.benchmark.page import Results, coverage_of, main_table
from experiments.benchmark.tasks import TASKS, Absent
from nsi.estimation.indicator import deconvolve
from nsi.simulation import circuits
from nsi.simulation.heterogeneity import vary_weights
from nsi.sums import correlation

SIZE = 20, 200
SMALL = partial(circuits.ring, 24, 12)


@pytest.fixture(scope="module")
def data():
    """A small uneven, sparse ring with pulses."""
    circuit = vary_weights(SMALL(), np.random.default_rng(0), **tasks.SPARSE)
    return tasks.simulate(100, *SIZE, lambda: circuit, amplitude=tasks.PULSES)


def run(monkeypatch, folder, **changes):
    """`python -m experiments.benchmark` in a folder, without a page. Returns: the rows."""
    monkeypatch.setattr(benchmark, "FOLDER", folder)
    monkeypatch.setattr(benchmark.runs, "apart", lambda module, function, *arguments: measures.measure(*arguments))
    args = {"trials": 20, "steps": 200, "updates": None, "methods": ["correlation"], "again": False} | changes
    rows = json.loads((folder / "results.json").read_text()) if (folder / "results.json").exists() else []
    benchmark.put(rows, "ring", 100, SimpleNamespace(**args), changes.get("since", 0))
    return json.loads((folder / "results.json").read_text())


def test_scores_are_those_by_hand(data):
    rng, true = np.random.default_rng(0), data.true["W"]
    W = true + 0.1 * rng.standard_normal(true.shape)
    unbiased, se = W + 0.05, np.where(rng.random(true.shape) < 0.9, 0.1, np.inf)
    found = measures.score({"W": W, "W_unbiased": unbiased, "W_se": se}, data)
    off = ~np.eye(len(true), dtype=bool)
    claimed = off & np.isfinite(se)
    assert found["r_W"] == pytest.approx(np.corrcoef(W.ravel(), true.ravel())[0, 1])
    assert found["error_W"] == pytest.approx(np.linalg.norm(W - true) / np.linalg.norm(true))
    assert found["coverage_W"] == np.mean(np.abs(unbiased - true)[claimed] < 0.196)
    connected = claimed & (true != 0)
    assert found["coverage_W_connected"] == np.mean(np.abs(unbiased - true)[connected] < 0.196)
    rms = np.sqrt(np.mean(true[off & (true != 0)] ** 2))
    assert found["width_W_connected"] == pytest.approx(0.196 / rms)
    assert "r_gate" not in found
    gate = {"gate": 2 * data.true["gate"], "gate_se": np.ones_like(data.true["gate"])}
    gate = measures.score(gate | {"W": W}, data)
    assert gate["r_gate"] == pytest.approx(1)
    assert gate["slope_gate"] == pytest.approx(2)


def test_of_a_half_the_truth_is_that_of_its_neurons():
    """The others are hidden neurons. A misstated tau is wrong by the factor."""
    whole, half = tasks.simulate(100, *SIZE, SMALL), tasks.record_half(100, *SIZE, SMALL)
    n = whole.rec.rates.shape[-1]
    neurons = np.flatnonzero([(whole.rec.rates[..., j, None] == half.rec.rates).all((0, 1)).any() for j in range(n)])
    assert len(neurons) == n // 2
    np.testing.assert_array_equal(half.rec.rates, whole.rec.rates[..., neurons])
    np.testing.assert_array_equal(half.true["W"], whole.true["W"][np.ix_(neurons, neurons)])
    np.testing.assert_array_equal(half.known.places, whole.known.places[neurons])
    assert len(half.known.truth["b"]) == len(whole.known.truth["b"])
    assert tasks.misstate_tau(100, *SIZE, SMALL, 0.5).rec.tau == 0.5 * whole.rec.tau


def test_truth_of_a_task_with_other_trials_velocity_is_unknown():
    found = tasks.take_others_velocity(100, *SIZE, SMALL)
    own = tasks.simulate(100, *SIZE, SMALL)
    assert found.true == {}
    assert not np.array_equal(found.rec.velocity, own.rec.velocity)
    assert np.array_equal(found.rec.rates, own.rec.rates)


def test_oracle_errs_least_and_its_intervals_hold(data):
    found = measures.score(oracle(data.rec, data.known), data)
    plain = measures.score(methods.by_least_squares(data.rec, data.known), data)
    assert found["r_dev"] > max(0.95, plain["r_dev"])
    assert found["error_W"] < plain["error_W"]
    assert 0.9 < found["coverage_W"] < 0.99


def test_null_knows_the_mean_at_each_distance_and_nothing_of_single_connections(data):
    W = methods.mean_profile(data.rec, data.known)["W"]
    shift = np.roll(W, (1, 1), (0, 1))
    np.testing.assert_allclose(W, shift, atol=1e-12)
    assert W.sum() == pytest.approx(data.true["W"].sum())


def test_one_step_ridge_finds_who_drives_whom():
    rng, n = np.random.default_rng(0), 8
    W = np.where(rng.random((n, n)) < 0.3, rng.standard_normal((n, n)), 0) * 0.3
    r = np.zeros((10, 500, n), np.float32)
    for t in range(1, 500):
        r[:, t] = 0.5 * r[:, t - 1] + r[:, t - 1] @ W + rng.standard_normal((10, n))
    rec = SimpleNamespace(rates=r, valid=np.ones(r.shape[:2], bool))
    found = methods.one_step_ridge(rec, None)["W"] * r.std((0, 1))[None] / r.std((0, 1))[:, None]
    off = ~np.eye(n, dtype=bool)
    assert correlation(found[off], W[off]) > 0.99


def test_what_is_there_is_kept_and_what_changed_is_worked_out_anew(monkeypatch, tmp_path):
    monkeypatch.setitem(TASKS, "ring", tasks.simulated(SMALL))
    monkeypatch.setattr(benchmark.runs, "commit_of", lambda paths=(): "aaaaaaa")
    first = run(monkeypatch, tmp_path)
    assert [benchmark.key(row) for row in first] == [("ring", "correlation", 100, "aaaaaaa", [20, 200, None])]
    assert run(monkeypatch, tmp_path) == first
    again = run(monkeypatch, tmp_path, again=True, since=first[0]["when"] + 1)
    assert len(again) == 1
    monkeypatch.setattr(benchmark.runs, "commit_of", lambda paths=(): "bbbbbbb")
    both = run(monkeypatch, tmp_path)
    assert [row["commit"] for row in both] == ["aaaaaaa", "bbbbbbb"]
    both[1]["when"] += 10
    small = [dict(both[1], size=[5, 50, None], when=both[1]["when"] + 10)]
    assert Results(both + small).values("ring", "correlation", "commit") == ["bbbbbbb"]


def test_a_newcomer_gets_a_row_and_one_that_fails_stops_nobody(monkeypatch, tmp_path):
    def broken(rec, known):
        raise ValueError("no luck")

    monkeypatch.setitem(TASKS, "ring", tasks.simulated(SMALL))
    monkeypatch.setitem(METHODS, "zero", Method(lambda rec, known: {"W": np.zeros((24, 24))}, "zero"))
    monkeypatch.setitem(METHODS, "broken", Method(broken, "broken"))
    rows = run(monkeypatch, tmp_path, methods=["broken", "zero"])
    by_method = {row["method"]: (row.get("failed"), row.get("error_W")) for row in rows}
    assert by_method == {"zero": (None, 1.0), "broken": ("ValueError: no luck", None)}


def test_a_task_gets_methods_that_give_what_it_asks():
    args = SimpleNamespace(methods=list(METHODS), trials=100, steps=1000, updates=None, again=False)
    of = lambda task: {name for name, _ in benchmark.wanted([], task, 100, args, 0)}
    assert of("ring") == METHODS.keys() - {"anatomy"}
    assert of("uniform, passive") == {"estimate", "least-squares", "oracle"}
    assert of("no shifters") == {"estimate"}
    assert of("larva, tanh") == METHODS.keys()
    assert "published" not in {name for name, _ in benchmark.wanted([], "ring", 101, args, 0)}


def test_tasks_whose_files_are_not_there_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(tasks, "OTHERS", tmp_path)
    with pytest.raises(Absent, match="not here"):
        TASKS["larva, tanh"].make(100, *SIZE)
    monkeypatch.setattr(tasks.runs, "ROOT", tmp_path)
    with pytest.raises(Absent, match=r"data/fly\.npz"):
        TASKS["flies"].make(100, *SIZE)


@pytest.mark.skipif(not tasks.OTHERS.exists(), reason="the circuits of others are not in the repository")
def test_circuit_of_others_has_its_truth_and_no_geometry():
    data = tasks.circuit_of_others(0, *SIZE, "zebrafish", "neurons=20", "phi=tanh", "pulses=0.5")
    found = measures.score(oracle(data.rec, data.known), data)
    assert data.known.geometry is None
    assert not data.pairs.diagonal().any()
    assert found["r_W"] > max(0.9, measures.score(methods.correlate(data.rec, data.known), data)["r_W"])


def rows_of(task, method, measure, values):
    meta = {"size": [100, 1000, None], "when": 0, "commit": "aaaaaaa"}
    return [{"task": task, "method": method, "seed": k, measure: value} | meta for k, value in enumerate(values)]


def test_a_difference_within_its_spread_is_no_better_and_means_out_of_the_band_are_named():
    rows = rows_of("ring", "estimate", "r_W", [0.97, 0.99, 0.98]) + rows_of("ring", "trained", "r_W", [0.979])
    rows += rows_of("gain", "estimate", "r_W", [0.97, 0.99, 0.98]) + rows_of("gain", "trained", "r_W", [0.97])
    better = Results(rows).better("estimate", ["trained", "cornn"], lambda task: "r_W")
    assert better == "1 of 2 (not *ring*)"
    rows = rows_of("ring", "estimate", "coverage_W", [0.95, 0.99]) + rows_of("gain", "estimate", "coverage_W", [0.9])
    assert coverage_of(Results(rows), "estimate") == "weights 0.900 to 0.970: 1 of 2 (not *gain*)"


def test_observed_tasks_hide_the_rates_alone():
    plain = tasks.simulate(100, *SIZE, SMALL)
    noisy, spikes = (tasks.observe(100, *SIZE, SMALL, **how) for how in ({"noise": 0.1}, {"hz": 40.0}))
    apart = noisy.rec.rates - plain.rec.rates
    assert apart.std() == pytest.approx(0.1, rel=0.02)
    assert spikes.rec.spikes.mean() == pytest.approx(40 * plain.rec.dt * plain.rec.rates.mean(), rel=0.03)
    calcium = tasks.observe(100, *SIZE, SMALL, decay=0.2)
    deconvolved = deconvolve(calcium.rec.rates, np.exp(-calcium.rec.dt / calcium.rec.decay))
    assert np.allclose(deconvolved, plain.rec.rates, atol=1e-4)
    for data in (noisy, spikes, calcium):
        assert all(np.array_equal(data.true[key], plain.true[key]) for key in plain.true)
        assert np.array_equal(data.rec.velocity, plain.rec.velocity)
        assert data.rec.tau == pytest.approx(plain.rec.tau)


def test_an_estimate_given_anatomy_has_a_row_of_its_own():
    row = {"task": "zebrafish, tanh", "seed": 100, "when": 0, "size": [100, 1000, None], "r_W": 0.5}
    table = main_table([row | {"method": "estimate"}, row | {"method": "anatomy", "r_W": 0.75}])
    names, weights = zip(*(line.split("|")[1:3] for line in table.splitlines()[2:]), strict=True)
    assert [name.strip() for name in names] == ["zebrafish, tanh (n 1)", "zebrafish, tanh, anatomy given (n 1)"]
    assert [float(r) for r in weights] == [0.5, 0.75]
