"""A run's folder: measures that are valid JSON, whatever the data, and a finished run that no accident replaces."""

import json
import math

import numpy as np
import pytest
import torch

import train
from nsi import measures
from tests.tools import GOOD, TINY, call


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


NAMES = {"loss", "variance", "heading_error", "heading_error_5s", "turning", "identifiable_fraction", "updates",
         "train_seconds", "solve_seconds", "seconds", "running", "alpha", "held_out_trials", "warnings"}  # fmt: skip


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("replicas", [1, 2])
def test_metrics_are_valid_json(control, replicas, run):
    updates = ["--updates", 5, "--replicas", replicas]
    status, error, metrics = run(GOOD, *updates, *(["--control"] if control else []))
    assert status == 0, error
    assert metrics.keys() >= NAMES
    assert ("shifter_fraction" in metrics) == (not control)
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
    assert len(metrics["warnings"]) == several
    assert all("from other starts" in sentence for sentence in metrics["warnings"])
    assert (metrics["hidden_agreement"] is not None) == several


def test_metrics_of_a_simulated_recording(data, run, rec):
    status, error, metrics = run(data, "--window", 20)
    assert status == 0, error
    scored = {"r_W", "r_W_near", "r_W_identifiable", "frobenius_W", "r_dev", "dev_slope", "dev_error", "coverage",
              "r_gate", "r_product", "r_gate_effective", "gate_error", "direct_share"}  # fmt: skip
    assert metrics.keys() >= NAMES | scored
    assert metrics["turning"]["slope"] == pytest.approx(1, abs=0.05)
    held_out = rec.rates[[9, 19]]
    assert metrics["variance"] == pytest.approx(held_out.reshape(-1, 40).var(0).mean(), rel=1e-4)
    assert metrics["seconds"] >= metrics["train_seconds"]
    assert metrics["heading_error"]["1"]["samples"] >= 4


def test_silent_neurons_and_others_that_say_nothing_leave_valid_json(data, run):
    silent = data["rates"].copy()
    silent[..., 3:9] = 0
    still = data | {"rates": silent, "velocity": np.zeros_like(data["velocity"]), "true_gate": 0 * data["true_gate"]}
    status, error, metrics = run(still, "--window", 20)
    assert status == 0, error
    assert metrics["r_gate"] is None
    assert metrics["turning"] == {"slope": None, "r": None, "lag": None}


def test_outliers_are_among_the_warnings(data, run):
    rates = data["rates"].copy()
    rates[3, 20, 5] = 1000
    status, error, metrics = run(data | {"rates": rates}, "--window", 20, "--no-errors")
    assert status == 0
    (warning,) = metrics["warnings"]
    assert warning in error
    assert "rates[3, 20, 5]" in warning


def test_valid_json_at_any_depth():
    value = {"a": [np.nan, {"b": (math.inf, np.float32(1), np.array([1, np.nan]))}], "c": np.int64(3), "d": True}
    assert measures.valid_json(value) == {"a": [None, {"b": [None, 1.0, [1.0, None]]}], "c": 3, "d": True}
    assert json.dumps(measures.valid_json(value), allow_nan=False)


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
    assert run(GOOD, "--overwrite", "--no-errors")[0] == 0
    assert not (tmp_path / "run" / "connectivity.npz").exists()  # it was of another fit
    assert run(GOOD, "--seed", 1, "--resume", out="another")[0] == 0  # and nothing to resume


def test_connectivity_file_is_as_documented(data, run, tmp_path):
    status, error, metrics = run(data, "--window", 20, "--replicas", 2, "--bootstrap")
    assert status == 0, error
    with np.load(tmp_path / "run" / "connectivity.npz", allow_pickle=False) as file:
        found = dict(file)
    square = ("W", "W_unbiased", "W_se", "total", "total_se", "identifiable", "W_replicas_se")
    assert {k: found[k].shape for k in square} == dict.fromkeys(square, (40, 40))
    assert found["gate"].shape == found["gate_se"].shape == found["gate_replicas_se"].shape == (1, 40, 40)
    assert found["identifiable"].dtype == bool
    assert found["identifiable"].mean() == pytest.approx(metrics["identifiable_fraction"][0])
    assert np.isfinite(found["W"]).all()
    assert run(data, "--window", 20, "--control", out="control")[0] == 0
    with np.load(tmp_path / "control" / "connectivity.npz", allow_pickle=False) as file:
        assert not {"gate", "gate_se", "gate_se_at_alpha"} & set(file)  # no path through input units, no gate


def test_trials_of_half_a_second_are_scored_against_their_truth(run):
    """Hidden neurons' paths are looked at after the state has settled; short trials have no time left for that."""
    rng = np.random.default_rng(0)
    rates, hidden, v = (rng.random((4, 40, size), np.float32) for size in (5, 4, 1))
    truth = {"true_W": rng.random((9, 9)), "true_W_in": rng.random((1, 9)), "true_gate": rng.random((1, 5, 5))}
    status, error, metrics = run({"rates": rates, "velocity": v, "dt": 0.01, "hidden_rates": hidden} | truth)
    assert status == 0, error
    assert {"r_W", "r_gate", "r_gate_effective", "frobenius_total"} <= metrics.keys()
