"""A run's folder: measures that are valid JSON, whatever the data, and a finished run that no accident replaces."""

import json
import math
import re

import numpy as np
import pytest
import torch

import cann
import train
from nsi.evaluation import metrics
from nsi.evaluation.scores import true_effective_gate, true_total
from nsi.recordings import Recording
from nsi.simulation import circuits
from tests.tools import GOOD, ROOT, TINY, call


def strict(path):
    """The content of a JSON file, which holds no NaN and no infinity."""
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.fixture
def run(save, tmp_path, monkeypatch, capsys):
    """Fit a data file into a folder. Returns: status, standard error, what metrics.json says."""

    def fitted(data, *options, out="run"):
        path = save(data)
        status, error = call(train, monkeypatch, capsys, "--data", path, "--out", tmp_path / out, *TINY, *options)
        metrics = tmp_path / out / "metrics.json"
        return status, error, strict(metrics) if metrics.exists() else None

    return fitted


NAMES = {"loss", "variance", "heading_error", "heading_error_5s", "turning", "updates", "train_seconds",
         "seconds", "running", "alpha", "alpha_known", "held_out_trials", "warnings"}  # fmt: skip
ESTIMATED = {"identifiable_fraction", "resolved_fraction", "verdicts", "gate_p", "alpha_se", "scale", "noise",
             "calibration", "estimate_seconds"}  # fmt: skip
EXPLAINED = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("replicas", [1, 2])
def test_metrics_are_valid_json(control, replicas, run):
    updates = ["--updates", 5, "--replicas", replicas]
    status, error, metrics = run(GOOD, *updates, *(["--control"] if control else []))
    assert status == 0, error
    assert EXPLAINED >= metrics.keys() >= NAMES
    assert ("shifter_fraction" in metrics) == (not control)
    assert (metrics.keys() >= ESTIMATED) == (not control)
    assert not {"r_W", "r_gate", "frobenius_W", "coverage", "r_dev"} & metrics.keys()  # there is no truth
    each = [metrics["loss"]] if replicas == 1 else metrics["loss"]
    assert len(each) == replicas
    assert all(isinstance(value, float) for value in each)
    one = metrics["heading_error"] if replicas == 1 else metrics["heading_error"][1]
    assert list(one) == ["0.25", "0.5", "1", "2", "5"]
    assert all(row.keys() == {"error", "integrator", "stay", "samples"} for row in one.values())
    assert metrics["heading_error_5s"] == (None if replicas == 1 else [None, None])  # trials of 0.4 s
    assert metrics["updates"] == 5
    assert metrics["held_out_trials"] == [2]
    several = replicas > 1 and not control  # after five updates networks agree on nothing hidden
    expected = ["the estimate says nothing"] * (not control) + ["from other starts"] * several
    assert len(metrics["warnings"]) == len(expected)
    assert all(part in sentence for part, sentence in zip(expected, metrics["warnings"], strict=True))
    assert (metrics["hidden_agreement"] is not None) == several


def test_metrics_of_a_simulated_recording(data, run, rec):
    status, error, metrics = run(data, "--window", 20, "--set", "calibrated=no")
    assert status == 0, error
    scored = {"r_W", "r_W_near", "r_W_identifiable", "frobenius_W", "r_dev", "dev_slope", "dev_error", "coverage",
              "r_gate", "r_product", "r_gate_effective", "gate_error", "coverage_total", "coverage_gate", "r_total",
              "network_r_W", "network_r_W_near", "network_r_gate_effective"}  # fmt: skip
    assert EXPLAINED >= metrics.keys() >= NAMES | ESTIMATED | scored
    assert metrics["turning"]["slope"] == pytest.approx(1, abs=0.05)
    held_out = rec.rates[[9, 19]]
    assert metrics["variance"] == pytest.approx(held_out.reshape(-1, 40).var(0).mean(), rel=1e-4)
    assert metrics["seconds"] >= metrics["train_seconds"]
    stages = ["start", "checks", "training", "estimate", "hidden units", "measures"]
    assert list(metrics["stage_seconds"]) == stages  # and the report, which is not drawn here
    assert all(seconds >= 0 for seconds in metrics["stage_seconds"].values())
    assert metrics["heading_error"]["1"]["samples"] >= 4


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_silent_and_constant_neurons_leave_valid_json(small, run):
    data, silent = small, small["rates"].copy()
    silent[..., 3:9] = 0
    still = data | {"rates": silent, "velocity": np.zeros_like(data["velocity"]), "true_gate": 0 * data["true_gate"]}
    status, error, metrics = run(still, "--window", 20)
    assert status == 0, error
    assert metrics["r_gate"] is None
    assert metrics["turning"] == {"slope": None, "r": None, "lag": None}


def test_outliers_are_among_the_warnings(small, run):
    data, rates = small, small["rates"].copy()
    rates[3, 20, 5] = 1000
    status, error, metrics = run(data | {"rates": rates}, "--window", 20, "--set", "calibrated=no")
    assert status == 0
    warning = metrics["warnings"][0]  # the estimate may find another response function for it
    assert warning in error
    assert "rates[3, 20, 5]" in warning


def test_valid_json_at_any_depth():
    value = {"a": [np.nan, {"b": (math.inf, np.float32(1), np.array([1, np.nan]))}], "c": np.int64(3), "d": True}
    assert metrics.valid_json(value) == {"a": [None, {"b": [None, 1.0, [1.0, None]]}], "c": 3, "d": True}
    assert json.dumps(metrics.valid_json(value), allow_nan=False)


def test_finished_run_is_not_replaced_by_accident(run, tmp_path):
    assert run(GOOD)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    status, error, _ = run(GOOD, "--seed", 1)
    assert status == 2
    assert error.count("\n") == 1
    assert f"{tmp_path / 'run'}: holds a finished run" in error
    assert "--overwrite" in error
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before
    status, error, _ = run(GOOD, "--seed", 1, "--overwrite")
    assert status == 0, error
    assert torch.load(tmp_path / "run" / "model.pt", weights_only=True)["args"]["seed"] == 1
    assert (tmp_path / "run" / "model.pt").read_bytes() != before["model.pt"]
    assert run(GOOD, "--overwrite", out="new")[0] == 0  # where there is nothing to overwrite
    assert (tmp_path / "run" / "connectivity.npz").exists()
    assert run(GOOD, "--seed", 1, "--resume", out="another")[0] == 0  # and nothing to resume


def test_connectivity_file_is_as_documented(small, run, tmp_path):
    status, error, metrics = run(small, "--window", 20, "--replicas", 2, "--bootstrap", "--set", "calibrated=no")
    assert status == 0, error
    with np.load(tmp_path / "run" / "connectivity.npz", allow_pickle=False) as file:
        found = dict(file)
    square = ("W", "W_unbiased", "W_se", "total", "total_unbiased", "total_se", "identifiable", "W_replicas_se")
    assert {k: found[k].shape for k in square} == dict.fromkeys(square, (14, 14))
    assert found["gate"].shape == found["gate_se"].shape == found["gate_replicas_se"].shape == (1, 14, 14)
    assert found["gate_unbiased"].shape == (1, 14, 14)
    assert found["identifiable"].dtype == bool
    assert found["identifiable"].mean() == pytest.approx(metrics["identifiable_fraction"])
    assert np.isfinite(found["W"]).all()
    assert run(small, "--window", 20, "--control", out="control")[0] == 0
    with np.load(tmp_path / "control" / "connectivity.npz", allow_pickle=False) as file:
        assert set(file) == {"W"}  # as trained: a control is no estimate
        saved = torch.load(tmp_path / "control" / "model.pt", weights_only=True)["model"]
        np.testing.assert_array_equal(file["W"], saved["W"])


def test_the_file_is_what_is_scored(run, tmp_path):
    """metrics.json against the arrays that a user reads, by formulas of this test's own."""
    data = cann.simulate_recording(circuits.ring(n=12, shifters=6), seed=1, trials=20, steps=200)
    status, error, metrics = run(data, "--window", 20)
    assert status == 0, error
    with np.load(tmp_path / "run" / "connectivity.npz", allow_pickle=False) as file:
        found = dict(file)
    true, off = data["true_W"][:12, :12], ~np.eye(12, dtype=bool)
    names = {"W": "true_W", "W_in": "true_W_in", "gate": "true_gate", "hidden_rates": "hidden_rates"}
    truth, rec = {k: data[v] for k, v in names.items()}, Recording(data["rates"], data["velocity"], 0.01, tau=0.05)
    total, gate = true_total(truth, rec.rates, 0.2), true_effective_gate(truth, rec)

    def r(a, b):
        return pytest.approx(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1], abs=1e-4)

    def coverage_of(name, true, some=True):
        centre, se = found[f"{name}_unbiased"], found[f"{name}_se"]
        claimed = np.isfinite(se) & some
        return pytest.approx((np.abs(centre - true) < 1.96 * se)[claimed].mean(), abs=1e-6)

    known = found["identifiable"]
    assert 0 < known.mean() < 1
    assert metrics["r_W"] == r(found["W"], true)
    assert metrics["r_W_identifiable"] == r(found["W"][known], true[known])
    assert metrics["r_gate_effective"] == r(found["gate"], gate)
    assert metrics["gate_slope"] == pytest.approx(np.sum(found["gate"] * gate) / np.sum(gate**2), abs=1e-4)
    error = np.linalg.norm(found["total"] - total) / np.linalg.norm(total)
    assert metrics["frobenius_total"] == pytest.approx(error, abs=1e-4)
    near = np.abs((np.arange(12)[:, None] - np.arange(12) + 6) % 12 - 6) <= 0.3 * 12
    assert metrics["r_total"] == r(found["total"][near], total[near])
    assert metrics["r_W_near"] == r(found["W"][near], true[near])
    assert metrics["coverage"] == coverage_of("W", true, off)
    assert metrics["coverage_total"] == coverage_of("total", total, off)
    assert metrics["coverage_gate"] == coverage_of("gate", gate)
    assert metrics["identifiable_fraction"] == pytest.approx(known.mean())
    assert metrics["resolved_fraction"] == pytest.approx(found["resolved"].mean())
    assert metrics["alpha"] == pytest.approx(found["alpha"])
    assert metrics["verdicts"]["gate"] == "found"
    assert metrics["network_r_W"] < 0.5 < metrics["r_W"]  # two updates train no network, and the estimate needs none
    np.testing.assert_array_equal(known, 1.96 * found["W_se"] < np.sqrt(np.mean(found["W"] ** 2)))
    quick = run(data, "--window", 20, "--set", "calibrated=no", out="quick")[2]  # the same without calibration
    assert quick["calibration"] == {} != metrics["calibration"]
    with np.load(tmp_path / "quick" / "connectivity.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["W"], found["W"])
        for name, factor in metrics["calibration"]["factors"].items():
            np.testing.assert_allclose(file[f"{name}_se"] * factor, found[f"{name}_se"], rtol=1e-6)


def test_trials_of_half_a_second_are_scored_against_their_truth(run):
    """Hidden neurons' paths are measured after the state has settled; short trials have no time left for that."""
    rng = np.random.default_rng(0)
    rates, hidden, v = (rng.random((4, 40, size), np.float32) for size in (5, 4, 1))
    truth = {"true_W": rng.random((9, 9)), "true_W_in": rng.random((1, 9)), "true_gate": rng.random((1, 5, 5))}
    status, error, metrics = run({"rates": rates, "velocity": v, "dt": 0.01, "hidden_rates": hidden} | truth)
    assert status == 0, error
    assert {"r_W", "r_gate", "r_gate_effective", "frobenius_total"} <= metrics.keys()
