"""Small circuits and recordings, made once."""

import argparse

import numpy as np
import pytest
import torch

import analysis
import cann
import fitting
import recording


@pytest.fixture(scope="session")
def net():
    """The default circuit with fewer neurons."""
    return cann.shifter_network(n=40, n_shifters=20)


@pytest.fixture(scope="session")
def data(net):
    """A recording of it, with its truth."""
    return cann.simulate_recording(net, seed=1, trials=20, steps=300)


@pytest.fixture(scope="session")
def rec(data):
    return recording.Recording(data["rates"], data["velocity"], data["dt"], data["heading"], data["tau"])


@pytest.fixture
def options():
    """train.py's options, small; keyword arguments change them."""

    def make(**changes):
        small = {
            "input_units": 40, "control": False, "updates": 4, "batch": 8, "window": 20, "warmup": 5, "lr": 6e-3,
            "beta2": 0.99, "schedule": "onecycle", "loss": "matching", "init_scale": 0.03, "drive_penalty": 0.003,
            "forcing": 0.1, "alpha": 0.2, "seed": 0, "replicas": 1, "bootstrap": False, "no_polish": False,
            "rotate": False,
        }  # fmt: skip
        assert not changes.keys() - small.keys()
        return argparse.Namespace(**small | changes)

    return make


@pytest.fixture
def fit():
    """Fit a recording without logging. Returns: model."""

    def run(rec, args, **more):
        return fitting.fit(rec, args, torch.device("cpu"), **more)[0]

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
        bump = lambda shift: 1 + np.exp(np.cos(analysis.ring_angles(16)[:, None] - heading - shift)) / 2  # noqa: E731
        ball = {"t": t, "OffsetRot": (np.rad2deg(rotation) + 180) % 360 - 180, "tVR": ticks, "tFrameGrab": grabs}
        noise = rng.normal(0, 0.01, (2, 16, volumes))
        return {"GROIaveMax": bump(0.7) + noise[0], "RROIaveMax": bump(0) + noise[1], "positionDat": ball}, rotation, t

    return make
