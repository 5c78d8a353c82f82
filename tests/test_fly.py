"""Real flies: the reader of the authors' files, on files made up in their layout."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import analysis
import fly
import recording
from experiments import fly as tests

ROOT = Path(__file__).parent.parent
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


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["fly.py", *map(str, arguments)])
    recording.run(fly.main)


def test_reader_aligns_assigns_and_scales(folder, fly_trial, tmp_path, monkeypatch, capsys):
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
    _, rotation, t = fly_trial()
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


@pytest.fixture(scope="module")
def bumps():
    """A recording of three flies whose bump moves with 0.9 of the velocity, one step late."""
    rng = np.random.default_rng(0)
    v = np.repeat(rng.normal(0, 1.5, (6, 30)), 5, axis=1)
    moved = 0.9 * 0.09 * np.cumsum(np.roll(v, 1, 1), 1) + rng.uniform(0, 6, (6, 1))
    rates = np.exp(2 * np.cos(moved[..., None] - analysis.ring_angles(16)) - 2).astype(np.float32)
    return recording.Recording(rates, v[..., None].astype(np.float32), 0.09, fly=np.repeat([0, 1, 2], 2))


def test_integrator_finds_gain_and_delay_on_the_other_flies(bumps):
    cut, trial = tests.pieces(bumps)
    assert tests.missed(tests.integrated(cut, 0.9, lag=1), cut).max() < 1e-3
    options = [(g, 1.0, lag) for g in tests.GAINS for lag in tests.LAGS]
    assert tests.missed(tests.integrators(cut, bumps.fly[trial], options), cut).max() < 1e-3
    assert tests.missed(tests.integrated(cut, 0.0), cut).mean() > 0.3


def test_displacement_of_input_units_that_send_aside():
    angles = analysis.ring_angles(16)
    side = np.tile([1, -1], 16)
    place = np.repeat(angles, 2)
    W = np.zeros((48, 48), np.float32)
    W[:16, 16:] = np.cos(angles[:, None] - place)
    W[16:, :16] = np.cos(angles - (place + side * np.deg2rad(55))[:, None])
    fit = analysis.Fit(W, 0.1 * side[None], np.zeros(48), 0.5, 16)
    assert tests.displacement(fit) == pytest.approx(55, abs=1e-3)


def test_lead_and_share_of_a_bump_ahead(bumps):
    v = bumps.velocity[..., 0]
    ahead = tests.vector(bumps.rates) * np.exp(1j * np.deg2rad(15) * np.sign(v))
    lead = tests.leads(ahead, bumps)
    np.testing.assert_allclose(lead["right"], 15, atol=1e-4)
    np.testing.assert_allclose(lead["left"], -15, atol=1e-4)
    other = np.random.default_rng(0).random((*v.shape, 16))
    assert min(tests.share(bumps.rates, 2 * bumps.rates + 1, bumps)) > 0.99
    assert max(tests.share(other, bumps.rates, bumps)) < 0.05


def test_null_models_keep_what_they_should(bumps):
    null = tests.nulls(bumps, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(null["randomised phases"].rates, 1), np.sort(bumps.rates, 1))
    np.testing.assert_array_equal(null["reversed rates"].rates[:, ::-1], bumps.rates)
    assert not (null["shuffled velocity"].velocity == bumps.velocity).all(1).any()
    for name, one in null.items():
        alike = np.corrcoef(one.rates.reshape(-1, 16), rowvar=False)[0, 1]
        assert (alike > 0.5) == (name != "randomised phases")


def test_connectome_profile():
    path = ROOT.parent / "shared" / "fly" / "hemibrain_hd_152.npz"
    if not path.exists():
        pytest.skip("the connectome is not here (../shared/fly)")
    direct, delta7 = tests.connectome(path)
    np.testing.assert_allclose(direct[:5], [31, 16, 2.8, 0.4, 0.4], rtol=0.05)
    np.testing.assert_allclose(delta7, [633, 511, 521, 755, 1224, 1715, 2069, 2220, 2212], rtol=0.01)
    r, ratio = tests.match(direct - 0.01 * delta7, direct, delta7)
    assert r > 0.999
    assert ratio == pytest.approx(0.01, rel=0.1)
