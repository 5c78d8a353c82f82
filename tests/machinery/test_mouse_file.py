"""A mouse's head-direction cells: the reader, on a session made up in the file's layout, and on the real one."""

import numpy as np
import pytest
from scipy.io import savemat

from experiments import matlab
from experiments.mouse import __main__ as experiment
from experiments.mouse import read
from nsi import geometry, recordings
from nsi.errors import BadInput
from nsi.recordings import quality, sessions
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
    rec = recordings.load(out)
    assert list(quality.find_warnings(rec, out, 0.2, 60)) == []
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


@pytest.mark.parametrize("change", [{"Qrun": None}, {"angRun": np.ones((5, 2))}, b"not MATLAB's"])
def test_other_files_are_refused_in_a_sentence(change, mouse_session, tmp_path, monkeypatch, capsys):
    path = tmp_path / "dataHD.mat"
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        savemat(path, {k: v for k, v in (mouse_session(4000)[0] | change).items() if v is not None})
    status, error = call(read, monkeypatch, capsys, path, "--out", tmp_path / "mouse.npz")
    assert status == 2
    assert f"{path}: " in error
    assert "expected Qrun, angRun in it" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_is_refused_in_a_sentence(seed, mouse_session, tmp_path, capsys):
    savemat(tmp_path / "whole.mat", mouse_session(4000)[0], do_compression=True)
    rng, content = np.random.default_rng(seed), bytearray((tmp_path / "whole.mat").read_bytes())
    if seed % 3 == 0:
        content = content[: rng.integers(200, len(content))]
    else:  # beyond the header, which has a free text
        content[rng.integers(136, len(content))] ^= 1 << rng.integers(8)
    (tmp_path / "damaged.mat").write_bytes(content)
    with pytest.raises(BadInput, match=r"is damaged|is not whole") as refusal:
        read.read(tmp_path / "damaged.mat")
    assert "\n" not in str(refusal.value)


def test_short_sessions_and_silent_cells_are_read(mouse_session, tmp_path, capsys):
    session = mouse_session(8000)[0]
    session["Qrun"][:, 3] = 0
    session["Qrun"][:, 4] = np.arange(8000) == 500
    savemat(tmp_path / "short.mat", session)
    data = read.read(tmp_path / "short.mat")
    assert not data["rates"][..., 3].any()
    assert all(np.isfinite(x).all() for x in data.values())
    assert data["rates"][..., 4].max() == pytest.approx(0.8)
    savemat(tmp_path / "short.mat", mouse_session(100)[0])
    with pytest.raises(BadInput, match="no stretch of 2 s"):
        read.read(tmp_path / "short.mat")


def test_users_may_cut_the_mouse_s_session_themselves(mouse_session):
    session = mouse_session(8000)[0]
    theirs = sessions.cut(*session["angRun"][:, :1].T, session["Qrun"], session["angRun"][:, 1], smooth=0.06)
    assert theirs["dt"] == pytest.approx(0.01, rel=1e-3)
    assert theirs["lengths"].tolist() == [1000] * 8


def test_null_models_keep_what_they_should(path):
    data = read.read(path)
    rec = recordings.Recording(**{k: data[k] for k in ("rates", "velocity", "dt", "heading", "lengths")})
    found = experiment.nulls(rec, np.random.default_rng(0))
    for one in found.values():
        assert one.rates.sum() == pytest.approx(rec.rates.sum(), rel=1e-5)
        assert not one.rates[~rec.valid].any()
    apart = found["each cell of another stretch"].rates
    assert np.sort(apart[..., 3], None) == pytest.approx(np.sort(rec.rates[..., 3], None))
    alike = lambda rates: np.abs(np.nan_to_num(np.corrcoef(rates.reshape(-1, 12), rowvar=False)) - np.eye(12)).mean()
    assert alike(apart) < 0.5 * alike(rec.rates)


def test_the_authors_preferred_headings_are_found():
    shared = ROOT.parent / "shared" / "mouse" / "dataHD.mat"
    if not shared.exists():
        pytest.skip("the mouse's recording is not here (../shared/mouse)")
    data = read.read(shared)
    rec = recordings.Recording(**{k: data[k] for k in ("rates", "velocity", "dt", "heading", "lengths")})
    places = geometry.places_of(rec, geometry.RING)
    theirs = matlab.read_variables(shared, ["prefHD"])["prefHD"]
    assert geometry.RING.distance(places, theirs).mean() < 0.15
    assert geometry.RING.distance(geometry.RING.find(rec.rates[rec.valid]), theirs).mean() > 0.8
