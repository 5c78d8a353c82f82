"""Real flies: the reader of the authors' files, on files made up in their layout."""

import numpy as np
import pytest
from scipy.io import savemat

from experiments.flies import read
from nsi import recordings
from nsi.geometry import RING
from tests.tools import ROOT, call

GREEN_IS_PEN = "Fly1_9day_6fx37F06_jRGC1ax60D05_Dark_00001.mat"
EARLY = {"t": np.arange(3.0), "OffsetRot": np.zeros(3), "tVR": np.array([1e6, 2e6]), "tFrameGrab": np.arange(180.0)}
BACK = EARLY | {"t": np.array([0.0, 1.0, 0.5])}
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
    pen, places = recordings.load_truth(path, rec)["held_out_rates"], RING.places(16)
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
    data, left = read.read_folder(folder)
    assert not left
    assert {"rates", "velocity", "dt", "heading", "lengths", "animal", "held_out_rates"} == data.keys()
    assert data["animal"].tolist() == ["20160423_Fly1", "20160423_Fly2"]


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("trial.mat", {}, "expected a name like"),
        (GREEN_IS_PEN.replace("60D05", "37F06"), {}, "expected a name like"),
        (GREEN_IS_PEN, {"GROIaveMax": None}, "expected GROIaveMax, RROIaveMax, "),
        (GREEN_IS_PEN, {"positionDat": {"t": np.arange(3.0)}}, "expected GROIaveMax, RROIaveMax, "),
        (GREEN_IS_PEN, {"GROIaveMax": np.ones((16, 59))}, "do not agree"),
        (GREEN_IS_PEN, {"RROIaveMax": np.full((16, 60), np.nan)}, "expected finite numbers"),
        (GREEN_IS_PEN, {"positionDat": BACK}, "t does not rise at 1 of its"),
        (GREEN_IS_PEN, {"positionDat": EARLY}, "while the ball was not recorded"),
        (GREEN_IS_PEN, None, "expected GROIaveMax, RROIaveMax, "),
        (GREEN_IS_PEN, b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(500), "is a MATLAB 7.3 file"),
        (GREEN_IS_PEN.replace("Dark", "1x"), {}, "has no files of condition Dark; it has 1 of condition 1x"),
        (GREEN_IS_PEN.replace("37F06", "VT020739"), {}, "it has 1 of lines VT020739 and 60D05"),
    ],
)
def test_other_files_are_refused_in_a_sentence(name, change, expected, fly_trial, tmp_path, monkeypatch, capsys):
    path = tmp_path / name
    if change is None:
        path.write_bytes(b"not MATLAB's")
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        savemat(path, {k: v for k, v in (fly_trial()[0] | change).items() if v is not None})
    status, error = call(read, monkeypatch, capsys, tmp_path, "--out", tmp_path / "fly.npz")
    assert status == 2
    assert expected in error
    assert str(path if "condition" not in expected and "lines" not in expected else tmp_path) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "fly.npz").exists()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_file_that_was_cut_off_is_reported_as_incomplete(share, compressed, fly_trial, tmp_path, monkeypatch, capsys):
    path = tmp_path / GREEN_IS_PEN
    savemat(path, fly_trial()[0], do_compression=compressed)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    status, error = call(read, monkeypatch, capsys, tmp_path, "--out", tmp_path / "fly.npz")
    assert status == 2
    assert f"{path}: is not whole" in error
    assert error.count("\n") == 1


def test_release_as_it_is(folder, fly_trial, tmp_path, monkeypatch, capsys):
    """Conditions and lines beside each other, both spellings of the red indicator, a Mac's files."""
    day = folder / "20160501"
    day.mkdir()
    for name in (GREEN_IS_PEN.replace("Dark", "1x"), GREEN_IS_PEN.replace("Dark", "2x"), GREEN_IS_EPG.replace(
            "jRGC1ax", "jRGECO1ax"), GREEN_IS_PEN.replace("37F06", "VT20739")):  # fmt: skip
        savemat(day / name, fly_trial(seed=len(name))[0])
    (day / f"._{GREEN_IS_PEN}").write_bytes(b"\x00\x05\x16\x07")
    out = tmp_path / "fly.npz"
    said = {}
    for options in ((), ("--condition", "1x"), ("--days", "20160423")):
        monkeypatch.setattr("sys.argv", ["read.py", str(folder), "--out", str(out), *options])
        read.main()
        said[options[-1] if options else "all"] = capsys.readouterr().out
    assert "3 trials of 3 flies" in said["all"]
    assert "1 of condition 1x, 1 of condition 2x, 1 of lines VT20739 and 60D05" in said["all"]
    assert "days 20160423 (2 flies), 20160501 (1 flies)" in said["all"]
    assert "1 trials of 1 flies" in said["1x"]
    assert "2 trials of 2 flies" in said["20160423"]
    assert "4 of other days" in said["20160423"]
    status, error = call(read, monkeypatch, capsys, folder, "--days", "20160401")
    assert (status, "has no folder 20160401" in error) == (2, True)


def test_trials_of_another_time_step(folder, fly_trial, tmp_path, monkeypatch, capsys):
    """Refused, left out, or resampled to the step of the others."""
    slow, *_ = fly_trial(60, planes=4, seed=1)
    savemat(folder / "20160423" / GREEN_IS_PEN.replace("Fly1", "Fly3"), slow)
    out = tmp_path / "fly.npz"
    status, error = call(read, monkeypatch, capsys, folder, "--out", out)
    assert status == 2
    assert "but 1 of 0.1200 s a step" in error
    assert "--other-steps" in error
    assert error.count("\n") == 1
    assert call(read, monkeypatch, capsys, folder, "--out", out, "--other-steps", "leave")[0] == 0
    assert len(recordings.load(out).rates) == 2
    assert call(read, monkeypatch, capsys, folder, "--out", out, "--other-steps", "resample")[0] == 0
    rec = recordings.load(out)
    assert rec.dt == pytest.approx(0.09)
    v = rec.velocity[2, 2 : rec.lengths[2] - 2, 0]
    assert len(v) > 40
    assert np.abs(np.diff(v)).max() < 0.6  # 4 cos(t) + 1, sampled every 0.09 s
    assert v.min() > -3.2
    assert v.max() < 5.1


def test_folder_without_recordings(tmp_path, monkeypatch, capsys):
    status, error = call(read, monkeypatch, capsys, tmp_path / "empty")
    assert status == 2
    assert "has no .mat files" in error


def test_reader_agrees_with_an_independent_conversion():
    shared = ROOT.parent / "shared" / "fly"
    if not shared.exists():
        pytest.skip("the real recordings are not here (../shared/fly)")
    trials = [read.read_trial(path) for path in sorted((shared / "PEN1-EB").rglob("*.mat"))[::12]]
    with np.load(shared / "epg_dark.npz") as theirs:
        for k, trial in enumerate(read.assemble(trials)["rates"]):
            assert np.abs(trial[:720] - theirs["rates"][12 * k, :720]).mean() < 0.01
