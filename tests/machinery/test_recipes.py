"""The recipes of docs/own_data.md, run on recordings whose answer is known: what they write is clean, and turns."""

import re

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from nsi import geometry, recordings
from nsi.errors import BadInput
from nsi.recordings import quality, sessions
from nsi.recordings.turning import measure_turning
from tests.tools import ROOT

RECIPES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own_data.md").read_text(), re.DOTALL)


def recipe(words):
    """The one recipe that has these words."""
    (found,) = [code for code in RECIPES if words in code]
    return found


def walk(seconds=240, dt=0.02, n=24, seed=0):
    """A session that turns by 2 rad/s, r.m.s.: time, heading (unwrapped), and unequal rates in spikes/s (steps, n)."""
    rng = np.random.default_rng(seed)
    time = np.arange(0, seconds, dt)
    speed = gaussian_filter1d(rng.normal(0, 1, len(time)), 0.15 / dt) * 2 * np.sqrt(0.15 / dt * 2 * np.sqrt(np.pi))
    heading = 1 + np.cumsum(speed) * dt
    peak = rng.uniform(15, 60, n)
    return time, heading, peak * np.exp(4 * (np.cos(heading[:, None] - np.arange(n) * 2 * np.pi / n) - 1))


def assert_clean(path, tmp_path):
    rec = recordings.load(path)
    assert list(quality.find_warnings(rec, path, 0.2, 60)) == []
    places = geometry.places_of(rec, geometry.RING)
    found = measure_turning(rec, geometry.RING, places)
    assert abs(found["slope"]) == pytest.approx(1, abs=0.1)
    assert abs(found["r"]) > 0.7
    return rec


def trials_of(x, steps=500):
    return x[: len(x) // steps * steps].reshape(-1, steps, *x.shape[1:])


def test_spikes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    time, heading, rates = walk(dt=0.01)
    spikes = np.random.default_rng(1).poisson(rates * 0.01)
    exec(recipe("spikes per bin"), {"r": trials_of(spikes), "v": trials_of(np.gradient(heading, time))})
    assert_clean(tmp_path / "spikes.npz", tmp_path)


def test_calcium(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    time, heading, rates = walk(1200, dt=0.0876)
    light = 100 + 3 * rates + np.random.default_rng(1).normal(0, 2, rates.shape)
    exec(recipe("fluorescence"), {"r": trials_of(light, 600), "v": trials_of(np.gradient(heading, time), 600)})
    assert_clean(tmp_path / "calcium.npz", tmp_path)


def still(seconds=300, dt=0.02, n=24):
    """Trials in which an animal turns little, so that some neurons are silent throughout: light, velocity."""
    heading = np.repeat(np.arange(30) * 2.4, seconds / dt / 30) + np.tile(np.sin(np.arange(0, 10, dt) * 2), 30)
    rates = np.exp(6 * (np.cos(heading[:, None] - np.arange(n) * 2 * np.pi / n) - 1))
    light = 1 + 2 * rates + 0.03 * np.random.default_rng(0).normal(size=rates.shape)
    return trials_of(light), trials_of(np.tile(2 * np.cos(np.arange(0, 10, dt) * 2), 30))


def test_calcium_scaled_by_trial_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    light, v = still()
    exec(recipe("fluorescence"), {"r": light, "v": v, "np": np})
    path = tmp_path / "calcium.npz"
    with np.load(path) as file:
        data = dict(file) | {"dt": 0.02}
    np.savez(path, **data)
    before = lambda: list(quality.find_warnings(recordings.load(path), path, 0.2, 60))
    assert before() == []
    for name, low, high in (("99th percentile, 0.8,", 5, 99), ("largest value, 0.8,", 0, 100)):
        low, high = np.percentile(light, [low, high], axis=1, keepdims=True)
        np.savez(path, **data | {"rates": np.clip(0.8 * (light - low) / (high - low), 0, 0.96)})
        (found,) = before()
        assert f"the same {name} in every trial" in found
        assert "axis=(0, 1)" in found


@pytest.mark.parametrize("words", ["fluorescence", "spikes per bin", 'savez("mine.npz"'])
def test_silent_neurons_are_left_out(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    time, heading, rates = walk(dt=0.01)
    r = np.random.default_rng(1).poisson(rates * 0.01) * 1.0
    r[:, 4] = 0  # one that never fires,
    r[:, 7] = np.arange(len(r)) % 5000 == 99  # and one that hardly does
    with np.errstate(all="raise"):
        exec(recipe(words), {"r": trials_of(r), "v": trials_of(np.gradient(heading, time)), "np": np})
    (path,) = tmp_path.glob("*.npz")
    kept = recordings.load(path).rates
    assert kept.shape[-1] < 24
    assert np.quantile(kept, 0.99, (0, 1)) == pytest.approx(0.8, rel=0.1)


def test_session_with_gaps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    time, heading, rates = walk()
    there = (time % 37 < 30) & (np.abs(time - 50) > 0.1)
    spikes = np.random.default_rng(1).poisson(rates * 0.02)
    session = time[there], spikes[there], heading[there] % (2 * np.pi)
    exec(recipe("sessions.cut(time"), {"session": session})
    rec = assert_clean(tmp_path / "session.npz", tmp_path)
    assert rec.lengths.max() == 500
    assert np.abs(rec.velocity).max() < 9  # no gap is turned across
    assert np.quantile(rec.rates[rec.valid], 0.99, axis=0) == pytest.approx(0.8, abs=0.01)


def test_session_is_cut_where_time_jumps():
    time = np.r_[np.arange(0, 5, 0.1), np.arange(7, 8, 0.1), np.arange(20, 42.05, 0.1)]
    data = sessions.cut(time, np.ones((len(time), 3)) * time[:, None], time % (2 * np.pi))
    assert data["lengths"].tolist() == [50, 100, 100, 21]  # that of 1 s is too short
    assert data["velocity"][data["rates"][..., :1] > 0] == pytest.approx(1, abs=1e-4)
    with pytest.raises(BadInput, match="do not agree"):
        sessions.cut(time, np.ones((5, 3)), time)
    with pytest.raises(BadInput, match="no stretch of 2 s"):
        sessions.cut(np.arange(0, 1, 0.1), np.ones((10, 3)), np.zeros(10))


def pynapple_session(nap, seed=0):
    """A session as pynapple has it: spike times, a heading tracked at other times, wrapped, and two epochs."""
    rng = np.random.default_rng(seed)
    time, heading, rates = walk(dt=0.002)
    epochs = nap.IntervalSet(start=[1.0, 130.0], end=[110.0, 230.0])
    times = [np.sort(time[rng.random(len(time)) < r * 0.002] + rng.uniform(0, 0.002)) for r in rates.T]
    units = nap.TsGroup({k: nap.Ts(t) for k, t in enumerate(times)})
    return units, nap.Tsd(time[::13], heading[::13] % (2 * np.pi)), epochs


def test_pynapple(tmp_path, monkeypatch):
    nap = pytest.importorskip("pynapple", reason="pip install -r docs/requirements-pynapple.txt")
    monkeypatch.chdir(tmp_path)
    units, angle, awake = pynapple_session(nap)
    code = recipe("units.count")
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 6
    exec(code, {"units": units, "angle": angle, "awake": awake})
    rec = assert_clean(tmp_path / "pynapple.npz", tmp_path)
    assert rec.rates.shape[-1] == 24
    assert rec.dt == pytest.approx(0.02)
    assert rec.valid.sum() * rec.dt == pytest.approx(209, abs=6)


def test_nwb(tmp_path, monkeypatch):
    nap = pytest.importorskip("pynapple", reason="pip install -r docs/requirements-pynapple.txt")
    import datetime

    import pynwb

    monkeypatch.chdir(tmp_path)
    units, angle, epochs = pynapple_session(nap)
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)  # noqa: UP017
    file = pynwb.NWBFile("a mouse", "one", start)
    for k in units:
        file.add_unit(spike_times=units[k].t)
    for a, b in zip(epochs.start, epochs.end, strict=True):
        file.add_epoch(float(a), float(b))
    module = file.create_processing_module("behavior", "heading")
    series = pynwb.behavior.SpatialSeries(
        "heading", data=angle.d, timestamps=angle.t, reference_frame="north", unit="rad"
    )
    module.add(pynwb.behavior.CompassDirection(spatial_series=series, name="heading"))
    with pynwb.NWBHDF5IO(str(tmp_path / "mine.nwb"), "w") as io:
        io.write(file)
    exec(recipe("load_file") + recipe("units.count"), {})
    assert_clean(tmp_path / "pynapple.npz", tmp_path)
