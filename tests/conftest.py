"""Small circuits and recordings, made once."""

import argparse

import numpy as np
import pytest
import torch

import cann
import recording
import train


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
        return train.fit(rec, args, torch.device("cpu"), **more)[0]

    return run


@pytest.fixture
def save(tmp_path):
    """Write a data file with some keys changed (None: left out). Returns: its path."""

    def write(data, name="mine.npz", **changes):
        np.savez(tmp_path / name, **{k: v for k, v in (data | changes).items() if v is not None})
        return tmp_path / name

    return write
