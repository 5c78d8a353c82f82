"""Real flies: the reader of the authors' files, on files made up in their layout."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import analysis
import fly
import recording

ROOT = Path(__file__).parent.parent
GREEN_IS_PEN = "Fly1_9day_6fx37F06_jRGC1ax60D05_Dark_00001.mat"
GREEN_IS_EPG = "Fly2_8-10day_6fx60D05_jRGC1ax37F06_Dark_00003.mat"


def made_up(volumes=60, planes=3, seed=0):
    """One trial in the layout of the release: a bump in both channels, P-EN's 40 degrees ahead. Ball at 100 Hz."""
    rng = np.random.default_rng(seed)
    t = 3 + np.arange(700) / 100
    rotation = 4 * np.sin(t) + t  # rad
    ticks = 20000 + np.arange(len(t)) * 100  # of the ball's samples
    grabs = 19000 + np.arange(volumes * planes) * 300  # the first volumes before the ball's first sample
    heading = np.interp(3 + (grabs[::planes] - ticks[0]) / 1e4, t, rotation)
    bump = lambda shift: 1 + np.exp(np.cos(analysis.ring_angles(16)[:, None] - heading - shift)) / 2  # noqa: E731
    ball = {"t": t, "OffsetRot": (np.rad2deg(rotation) + 180) % 360 - 180, "tVR": ticks, "tFrameGrab": grabs}
    noise = rng.normal(0, 0.01, (2, 16, volumes))
    return {"GROIaveMax": bump(0.7) + noise[0], "RROIaveMax": bump(0) + noise[1], "positionDat": ball}, rotation, t


@pytest.fixture
def folder(tmp_path):
    """Two files, of different lengths, of different flies."""
    day = tmp_path / "release" / "20160423"
    day.mkdir(parents=True)
    savemat(day / GREEN_IS_PEN, made_up()[0])
    other, *_ = made_up(50, seed=1)
    savemat(day / GREEN_IS_EPG, other | {"GROIaveMax": other["RROIaveMax"], "RROIaveMax": other["GROIaveMax"]})
    return day.parent


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["fly.py", *map(str, arguments)])
    recording.run(fly.main)


def test_reader_aligns_assigns_and_scales(folder, tmp_path, monkeypatch, capsys):
    path = tmp_path / "fly.npz"
    call(monkeypatch, folder, "--out", path)
    assert "2 trials of 2 flies, 48 to 58 steps of 0.0900 s" in capsys.readouterr().out  # two volumes come too early
    rec = recording.load(path)
    pen, angles = recording.load_held_out(path, rec), analysis.ring_angles(16)
    assert rec.lengths.tolist() == [58, 48]
    assert rec.fly.tolist() == [0, 1]
    assert rec.dt == pytest.approx(0.09)
    assert np.quantile(rec.rates[0], 0.99, axis=0) == pytest.approx(0.8, abs=0.02)
    assert not rec.rates[~rec.valid].any()
    heading = rec.heading[rec.valid][:, 0]
    epg, ahead = (analysis.decode_heading(x[rec.valid], angles) for x in (rec.rates, pen))
    assert np.abs(analysis.angle_between(epg, heading)).max() < 0.15
    assert analysis.angle_between(ahead, epg) == pytest.approx(0.7, abs=0.15)
    _, rotation, t = made_up()
    time = 3 + (19000 + 900 * np.arange(2, 60) - 20000) / 1e4
    np.testing.assert_allclose(np.cos(rec.heading[0, :, 0]), np.cos(np.interp(time, t, rotation)), atol=1e-5)
    np.testing.assert_allclose(rec.velocity[0, 1:-1, 0], (4 * np.cos(time) + 1)[1:-1], atol=0.02)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("trial.mat", {}, "expected a name like"),
        (GREEN_IS_PEN.replace("60D05", "37F06"), {}, "expected a name like"),
        (GREEN_IS_PEN, {"GROIaveMax": None}, "expected GROIaveMax, RROIaveMax, t"),
        (GREEN_IS_PEN, {"positionDat": {"t": np.arange(3.0)}}, "expected GROIaveMax, RROIaveMax, t"),
        (GREEN_IS_PEN, {"GROIaveMax": np.ones((16, 59))}, "do not agree"),
        (GREEN_IS_PEN, {"RROIaveMax": np.full((16, 60), np.nan)}, "expected finite numbers"),
        (GREEN_IS_PEN, None, "expected GROIaveMax, RROIaveMax, t"),
    ],
)
def test_other_files_are_refused_in_a_sentence(name, change, expected, tmp_path, monkeypatch, capsys):
    path = tmp_path / name
    if change is None:
        path.write_bytes(b"not MATLAB's")
    else:
        savemat(path, {k: v for k, v in (made_up()[0] | change).items() if v is not None})
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, tmp_path, "--out", tmp_path / "fly.npz")
    error = capsys.readouterr().err
    assert expected in error
    assert str(path) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "fly.npz").exists()


def test_folder_without_recordings(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, tmp_path / "empty")
    assert "has no .mat files" in capsys.readouterr().err


def test_reader_agrees_with_an_independent_conversion():
    shared = ROOT.parent / "shared" / "fly"
    if not shared.exists():
        pytest.skip("the real recordings are not here (../shared/fly)")
    trials = [fly.read_trial(path) for path in sorted((shared / "PEN1-EB").rglob("*.mat"))[::12]]
    with np.load(shared / "epg_dark.npz") as theirs:
        for k, trial in enumerate(fly.assemble(trials)["rates"]):
            assert np.abs(trial[:720] - theirs["rates"][12 * k, :720]).mean() < 0.01
