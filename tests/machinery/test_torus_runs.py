"""Runs on a torus: the file decides what it is, and every measure is one for each component of the velocity."""

import json

import numpy as np
import pytest

import cann
import train
from nsi import recordings
from nsi.simulation import circuits
from tests.tools import QUICK, TINY, call


@pytest.fixture(scope="module")
def torus(tmp_path_factory):
    """The file of a small recording of grid cells, and its arrays."""
    path = tmp_path_factory.mktemp("torus") / "grid.npz"
    data = cann.simulate_recording(circuits.grid(12), trials=60, steps=300)
    recordings.save(path, **data)
    return path, data


def test_a_torus_is_fitted_as_one(torus, tmp_path, monkeypatch, capsys):
    path, _ = torus
    monkeypatch.setattr("sys.argv", ["train.py", "--data", str(path), "--out", str(tmp_path / "run"), *TINY, *QUICK])
    train.main()
    assert "a torus; forcing 1" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 <= metrics["heterogeneity"] <= 1
    for measure in ("r_gate", "r_gate_effective", "gate_error", "gate_slope"):
        assert len(metrics[measure]) == 2, measure
    assert metrics["turning"]["slope"] == pytest.approx([1, 1], abs=0.1)
    assert min(metrics["turning"]["r"]) > 0.8
    assert metrics["shifter_left"] is None
    assert metrics["heading_error"]["1"]["integrator"] < metrics["heading_error"]["1"]["stay"]
    with np.load(tmp_path / "run" / "connectivity.npz") as file:
        assert file["gate"].shape == (2, 144, 144)
        assert np.abs(file["W"]).max() > 0


def test_input_units_and_forcing_are_options(torus, tmp_path, capsys):
    """What the file would decide is printed, and what an option does is not."""
    train.prepare_options(["--data", str(torus[0]), "--out", str(tmp_path / "run"), *TINY, "--set", "forcing=0.5"])
    said = capsys.readouterr().out
    assert "a torus\n" in said
    assert "forcing 1" not in said


def test_windows_of_a_torus_are_not_turned(torus, tmp_path, monkeypatch, capsys):
    status, said = call(train, monkeypatch, capsys, "--data", torus[0], "--out", tmp_path / "run", *TINY, "--rotate")
    assert status == 2
    assert "--rotate" in said
    assert "a torus" in said


def test_a_ring_of_two_velocities_is_fitted_as_a_ring(data, save, tmp_path, monkeypatch, capsys):
    """And what speaks against a torus is said."""
    other = np.random.default_rng(0).normal(size=data["velocity"].shape).astype(np.float32)
    two = {
        "velocity": np.concatenate([data["velocity"], other], -1), "heading": None,
        "true_W_in": np.pad(data["true_W_in"], ((0, 1), (0, 0))),
        "true_gate": np.concatenate([data["true_gate"], 0 * data["true_gate"]]),
    }  # fmt: skip
    monkeypatch.setattr("sys.argv", ["train.py", "--data", str(save(data, **two)), "--out", str(tmp_path / "run"),
                                     *TINY, *QUICK])  # fmt: skip
    train.main()
    assert "a ring: no torus, since" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(metrics["r_gate"]) == 2
    assert metrics["r_gate"][1] is None  # the second component moves nothing
    assert metrics["turning"]["slope"] == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_grid_cells_from_the_command_line(tmp_path, monkeypatch, capsys):
    t, path = np.arange(0, 8, 0.02), tmp_path / "path.csv"
    place = np.stack([t, np.sin(t), np.cos(t)], -1)
    np.savetxt(path, place, delimiter=",", header="t,x,y", comments="")
    monkeypatch.setattr("nsi.simulation.physiology.report", lambda *_: [])  # tested elsewhere, and slow
    out = tmp_path / "grid.npz"
    options = [
        "--circuit",
        "grid",
        "--trials",
        "3",
        "--steps",
        "200",
        "--stimulus",
        "1",
        "--jitter",
        "0.1",
        "--visualize",
    ]
    status, _ = call(cann, monkeypatch, capsys, "--trajectory", path, "--out", out, *options)
    assert status == 0
    rec = recordings.load(out)
    assert rec.rates.shape == (3, 200, 256)
    assert rec.velocity.shape == rec.heading.shape == (3, 200, 2)
    assert out.with_suffix(".gif").stat().st_size > 1000
    status, said = call(cann, monkeypatch, capsys, "--trajectory", path, "--out", out)
    assert status == 2
    assert "expected --circuit grid" in said
