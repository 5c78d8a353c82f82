"""A mouse's head-direction cells: the reader, on a session made up in the file's layout, and on the real one."""

import numpy as np
import pytest
from scipy.io import savemat

from experiments.mouse import __main__ as experiment
from experiments.mouse import read
from nsi import check, geometry, recordings
from nsi.recordings import mouse
from tests.tools import ROOT, call


@pytest.fixture
def path(tmp_path, mouse_session):
    savemat(tmp_path / "dataHD.mat", mouse_session()[0])
    return tmp_path / "dataHD.mat"


def test_reader_cuts_scales_and_derives(path, mouse_session, tmp_path, monkeypatch, capsys):
    out = tmp_path / "mouse.npz"
    monkeypatch.setattr("sys.argv", ["read.py", str(path), "--out", str(out)])
    read.main()
    said = capsys.readouterr().out
    assert "12 cells, 24 stretches, 240 s" in said
    assert "REM: 120 s" in said
    rec = recordings.load(out)
    assert list(check.before(rec, out, 0.2, 60)) == []
    assert rec.dt == pytest.approx(0.02)
    assert np.quantile(rec.rates[rec.valid], 0.99, axis=0) == pytest.approx(0.8, abs=0.01)
    time = 0.015 + np.arange(500) * 0.02  # of the first stretch: the middle bin of each pair
    truth = 3 * np.sin(0.7 * time) + 0.4 * time
    off = np.angle(np.exp(1j * (rec.heading[0, 20:480, 0] - truth[20:480])))
    assert np.abs(off - off.mean()).max() < 0.03
    assert abs(off.mean()) < 0.05
    assert np.abs(rec.velocity[0, 20:480, 0] - (2.1 * np.cos(0.7 * time) + 0.4)[20:480]).max() < 0.15
    places = geometry.places_of(rec, geometry.RING)
    wrong = np.angle(np.exp(1j * (places[:, 0] - np.arange(12) * np.pi / 6)))
    assert np.abs(wrong).max() < 0.2
    with np.load(tmp_path / "asleep.npz") as asleep:
        assert {k: v.shape for k, v in asleep.items()} == {"REM": (6000, 12), "SWS": (6000, 12)}


@pytest.mark.parametrize(
    "change", [{"Qrun": None}, {"angRun": np.ones((5, 2))}, {"Qrem": np.ones((9, 3))}, b"not MATLAB's"]
)
def test_other_files_are_refused_in_a_sentence(change, mouse_session, tmp_path, monkeypatch, capsys):
    path = tmp_path / "dataHD.mat"
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        savemat(path, {k: v for k, v in (mouse_session(4000)[0] | change).items() if v is not None})
    status, error = call(read, monkeypatch, capsys, path, "--out", tmp_path / "mouse.npz")
    assert status == 2
    assert f"{path}: expected Qrun, Qrem, Qsws, angRun in it" in error
    assert error.count("\n") == 1


def test_null_models_keep_what_they_should(path):
    data = mouse.read(path)[0]
    rec = recordings.Recording(**{k: data[k] for k in ("rates", "velocity", "dt", "heading", "lengths")})
    found = experiment.nulls(rec, np.random.default_rng(0))
    for one in found.values():
        assert one.rates.sum() == pytest.approx(rec.rates.sum(), rel=1e-5)
        assert not one.rates[~rec.valid].any()
    apart = found["each cell of another stretch"].rates
    assert np.sort(apart[..., 3], None) == pytest.approx(np.sort(rec.rates[..., 3], None))
    assert np.abs(experiment.pairs(apart)).mean() < 0.5 * np.abs(experiment.pairs(rec.rates)).mean()


def test_the_authors_preferred_headings_are_found():
    shared = ROOT.parent / "shared" / "mouse" / "dataHD.mat"
    if not shared.exists():
        pytest.skip("the mouse's recording is not here (../shared/mouse)")
    data = mouse.read(shared)[0]
    rec = recordings.Recording(**{k: data[k] for k in ("rates", "velocity", "dt", "heading", "lengths")})
    places = geometry.places_of(rec, geometry.RING)
    theirs = mouse.loadmat(shared)["prefHD"]
    assert geometry.RING.distance(places, theirs).mean() < 0.15
    assert geometry.RING.distance(geometry.RING.find(rec.rates[rec.valid]), theirs).mean() > 0.8
