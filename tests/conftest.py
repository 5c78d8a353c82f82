"""Small circuits, recordings and fits."""

import functools
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import cann
import train
from model import RNN
from nsi import files
from nsi.estimation import estimate
from nsi.geometry import RING, TORUS
from nsi.geometry.plane_waves import third
from nsi.recordings import Recording
from nsi.run.settings import Settings
from nsi.simulation.circuits import ring
from nsi.simulation.stimulation import random_walk
from nsi.training.windows import Windows


@pytest.fixture(scope="session")
def circuit():
    """The default circuit with fewer neurons."""
    return ring(n=40, shifters=20)


@pytest.fixture(scope="session")
def net(circuit):
    """Its network."""
    return circuit.network


@pytest.fixture(scope="session")
def data(circuit):
    """A recording of it, with its truth."""
    return cann.simulate_recording(circuit, seed=1, trials=20, steps=300)


@pytest.fixture(scope="session")
def small():
    """The least recording in which intervals are claimed of all weights, with its truth: estimated in a second."""
    return cann.simulate_recording(ring(n=14, shifters=7), seed=1, trials=20, steps=220)


@pytest.fixture(scope="module")
def rec(data):
    return Recording(data["rates"], data["velocity"], data["dt"], data["heading"], data["tau"])


@pytest.fixture(scope="session")
def windows():
    """Windows of a recording, small. Returns: a function that makes them; keyword arguments change them."""

    def make(rec, *, alpha=0.2, seeds=(0,), warmup=5, window=20, batch=8, rotate=False, bootstrap=False):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = Settings(warmup=warmup, window=window, batch=batch, rotate=rotate, bootstrap=bootstrap)
        return Windows(rec, alpha, generators, shape)

    return make


@pytest.fixture(scope="session")
def fit(windows):
    """Fit a recording, small, without logging. Returns: a function that gives the RNN; keyword arguments change it."""

    def run(
        rec, *, input_units=40, alpha=0.2, init_scale=0.03, seed=0, replicas=1, warmup=5, window=20, batch=8,
        updates=4, lr=6e-3, forcing=0.1, drive_penalty=0.003, weights=None, **more,
    ):  # fmt: skip
        drawn = windows(rec, alpha=alpha, seeds=range(seed, seed + replicas), warmup=warmup, window=window, batch=batch)
        model = RNN(rec.rates.shape[-1], input_units, rec.velocity.shape[-1], alpha, init_scale, drawn.generators)
        if weights:
            model.load_state_dict(weights)
        settings = Settings(updates=updates, lr=lr, forcing=forcing, drive_penalty=drive_penalty)
        train.fit(model, drawn, settings, **more)
        return model

    return run


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder of all processes of pytest."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def estimate_once(shared):
    """The estimate, made once of the same signals, for tests of what is done with it; headings are not among them."""

    def run(rec, *settings, **more):
        signals = {name: array for name, array in vars(rec).items() if name != "heading"}
        key = hashlib.sha256(pickle.dumps((signals, settings, more))).hexdigest()
        path = shared / f"{key}.estimate"
        if not path.exists():
            found = estimate(rec, *settings, **more)
            with files.whole(path) as temporary:
                Path(temporary).write_bytes(pickle.dumps(found))
        return pickle.loads(path.read_bytes())

    return run


@pytest.fixture
def save(tmp_path):
    """Write a data file with some keys changed (None: left out). Returns: its path."""

    def write(data, name="mine.npz", **changes):
        np.savez(tmp_path / name, **{k: v for k, v in (data | changes).items() if v is not None})
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def fly_trial():
    """One trial in the layout of the real flies' files: a bump in both channels, P-EN1's 40 degrees ahead.

    Returns: a function that gives the file's arrays, the ball's rotation (samples,) rad, and its times (samples,) s.
    """

    def make(volumes=60, planes=3, seed=0):
        rng = np.random.default_rng(seed)
        t = 3 + np.arange(9 * volumes) / 100
        rotation = 4 * np.sin(t + seed) + t  # rad
        ticks = 20000 + np.arange(len(t)) * 100  # of the ball's samples
        grabs = 19000 + np.arange(volumes * planes) * 300  # the first volumes before the ball's first sample
        heading = np.interp(3 + (grabs[::planes] - ticks[0]) / 1e4, t, rotation)
        bump = lambda shift: 1 + np.exp(np.cos(RING.places(16) - heading - shift)) / 2
        ball = {"t": t, "OffsetRot": (np.rad2deg(rotation) + 180) % 360 - 180, "tVR": ticks, "tFrameGrab": grabs}
        noise = rng.normal(0, 0.01, (2, 16, volumes))
        return {"GROIaveMax": bump(0.7) + noise[0], "RROIaveMax": bump(0) + noise[1], "positionDat": ball}, rotation, t

    return make


@pytest.fixture(scope="session")
def mouse_session():
    """A session in the layout of the mouse's file: twelve cells on a ring, tracked every 25.6 ms, with a gap.

    Returns: a function that gives the file's arrays, and the heading (bins,) rad, unwrapped.
    """

    def make(bins=24000, seed=0):
        rng = np.random.default_rng(seed)
        time = 100 + np.arange(bins) * 0.01
        time[bins // 2 :] += 3.0  # the tracking was lost
        heading = 3 * np.sin(0.7 * (time - 100)) + 0.4 * (time - 100)
        repeated = 100 + np.floor((time - 100) / 0.0256) * 0.0256
        tracked = 3 * np.sin(0.7 * (repeated - 100)) + 0.4 * (repeated - 100)
        rate = lambda angle: 40 * np.exp(3 * (np.cos(angle[:, None] - np.arange(12) * np.pi / 6) - 1))
        asleep = np.cumsum(rng.normal(0, 0.1, bins // 2))
        spikes = lambda angle: rng.poisson(rate(angle) * 0.01).astype(np.uint8)
        arrays = {"Qrun": spikes(heading), "Qrem": spikes(asleep), "Qsws": spikes(3 * asleep)}
        return arrays | {"angRun": np.stack([repeated, tracked % (2 * np.pi)], -1)}, heading

    return make


@pytest.fixture(scope="session")
def module_session():
    """A day in the layout of the released modules of grid cells: cells of a rat in a box of 1.5 m, and one of a
    second module, with ten seconds in which the tracker lost the rat.

    Returns: a function that gives the file's arrays, and the cells' phases (cells, 2) rad.
    """

    @functools.cache
    def make(seconds=500, seed=0, cells=80):
        rng, steps = np.random.default_rng(seed), seconds * 100
        t, phases = 1000 + np.arange(steps) * 0.01, rng.uniform(0, 2 * np.pi, (cells, 2))
        place = random_walk(rng, 1, steps - 1, 0.01, 0.3, tau=0.5, box=1.5)[0]
        apart = third(TORUS.phases(place))[:, None] - third(phases)
        rate = 25 * np.maximum(0, np.cos(apart).mean(-1))
        there = rng.random(rate.shape) < rate * 0.01
        spikes = {k: t[fired] + 0.003 for k, fired in enumerate(there.T)}
        place[20000:21000] = np.nan
        one = {0: t[::50], 1: np.zeros(0)}
        objects = {f"spikes_mod{k + 1}": np.array(s, dtype=object) for k, s in enumerate((spikes, one))}
        return {"t": t, "x": place[:, 0], "y": place[:, 1]} | objects, phases

    return make
