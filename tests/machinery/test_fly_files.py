"""Real flies: the reader of the authors' files, on files made up in their layout."""

import numpy as np
import pytest
from scipy.io import savemat

from experiments.flies import read
from nsi import recordings
from nsi.geometry import RING
from nsi.recordings import flies
from tests.tools import ROOT, call

GREEN_IS_PEN = "Fly1_9day_6fx37F06_jRGC1ax60D05_Dark_00001.mat"
EARLY = {"t": np.arange(3.0), "OffsetRot": np.zeros(3), "tVR": np.array([1e6, 2e6]), "tFrameGrab": np.arange(180.0)}
GREEN_IS_EPG = "Fly2_8-10day_6fx60D05_jRGC1ax37F06_Dark_00003.mat"


@pytest.fixture
def folder(tmp_path, fly_trial):
    """Two files, of different lengths, of different flies."""
    day = tmp_path / "release" / "20160423"
    day.mkdir(parents=True)
    savemat(day / GREEN_IS_PEN, fly_trial()[0])
    other, *_ = fly_trial(50, seed=1)
    savemat(day / GREEN_IS_EPG, other | {"GROIaveMax": other["RROIaveMax"], "RROIaveMax": other["GROIaveMax"]})
    return day.parent


def test_reader_aligns_assigns_and_scales(folder, fly_trial, tmp_path, monkeypatch, capsys):
    path = tmp_path / "fly.npz"
    monkeypatch.setattr("sys.argv", ["read.py", str(folder), "--out", str(path)])
    read.main()
    assert "2 trials of 2 flies, 48 to 58 steps of 0.0900 s" in capsys.readouterr().out  # two volumes come too early
    rec = recordings.load(path)
    pen, places = recordings.load_held_out(path, rec), RING.places(16)
    assert rec.lengths.tolist() == [58, 48]
    assert rec.animal.tolist() == [0, 1]
    assert rec.dt == pytest.approx(0.09)
    assert np.quantile(rec.rates[0], 0.99, axis=0) == pytest.approx(0.8, abs=0.02)
    assert not rec.rates[~rec.valid].any()
    heading = rec.heading[rec.valid]
    epg, ahead = (RING.decode(x[rec.valid], places) for x in (rec.rates, pen))
    assert RING.distance(epg, heading).max() < 0.15
    assert RING.difference(ahead, epg) == pytest.approx(0.7, abs=0.15)
    _, rotation, t = fly_trial()
    time = 3 + (19000 + 900 * np.arange(2, 60) - 20000) / 1e4
    np.testing.assert_allclose(np.cos(rec.heading[0, :, 0]), np.cos(np.interp(time, t, rotation)), atol=1e-5)
    np.testing.assert_allclose(rec.velocity[0, 1:-1, 0], (4 * np.cos(time) + 1)[1:-1], atol=0.02)


def test_folder_is_read_as_a_data_file(folder):
    """The arrays that a script writes, animals named by day and fly."""
    data = flies.read_folder(folder)
    assert {"rates", "velocity", "dt", "heading", "lengths", "animal", "held_out_rates"} == data.keys()
    assert data["animal"].tolist() == ["20160423_Fly1", "20160423_Fly2"]


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("trial.mat", {}, "expected a name like"),
        (GREEN_IS_PEN.replace("60D05", "37F06"), {}, "expected a name like"),
        (GREEN_IS_PEN, {"GROIaveMax": None}, "expected GROIaveMax, RROIaveMax, t"),
        (GREEN_IS_PEN, {"positionDat": {"t": np.arange(3.0)}}, "expected GROIaveMax, RROIaveMax, t"),
        (GREEN_IS_PEN, {"GROIaveMax": np.ones((16, 59))}, "do not agree"),
        (GREEN_IS_PEN, {"RROIaveMax": np.full((16, 60), np.nan)}, "expected finite numbers"),
        (GREEN_IS_PEN, {"positionDat": EARLY}, "while the ball was not recorded"),
        (GREEN_IS_PEN, None, "expected GROIaveMax, RROIaveMax, t"),
    ],
)
def test_other_files_are_refused_in_a_sentence(name, change, expected, fly_trial, tmp_path, monkeypatch, capsys):
    path = tmp_path / name
    if change is None:
        path.write_bytes(b"not MATLAB's")
    else:
        savemat(path, {k: v for k, v in (fly_trial()[0] | change).items() if v is not None})
    status, error = call(read, monkeypatch, capsys, tmp_path, "--out", tmp_path / "fly.npz")
    assert status == 2
    assert expected in error
    assert str(path) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "fly.npz").exists()


def test_folder_without_recordings(tmp_path, monkeypatch, capsys):
    status, error = call(read, monkeypatch, capsys, tmp_path / "empty")
    assert status == 2
    assert "has no .mat files" in error


def test_reader_agrees_with_an_independent_conversion():
    shared = ROOT.parent / "shared" / "fly"
    if not shared.exists():
        pytest.skip("the real recordings are not here (../shared/fly)")
    trials = [flies.read_trial(path) for path in sorted((shared / "PEN1-EB").rglob("*.mat"))[::12]]
    with np.load(shared / "epg_dark.npz") as theirs:
        for k, trial in enumerate(flies.assemble(trials)["rates"]):
            assert np.abs(trial[:720] - theirs["rates"][12 * k, :720]).mean() < 0.01
