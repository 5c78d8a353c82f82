"""The three functions of a user's own script, as README and nsi/__init__.py show them."""

import subprocess
import sys

import numpy as np
import pytest

import cann
import nsi
from nsi.errors import BadInput
from nsi.estimation import intervals
from nsi.recordings import Recording
from nsi.simulation import circuits
from tests.tools import ROOT

CLEAN = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # of a user without any other variable
SCRIPT = """
import sys
import nsi
rec = nsi.simulate("ring", trials=8, steps=100, seed=0)
e = nsi.estimate(rec, calibrated=False)
e.save("connectivity.npz")
assert e.W.shape == e.W_se.shape == (100, 100)
assert "torch" not in sys.modules
"""


def test_a_script_of_a_few_lines_estimates_without_torch(tmp_path):
    assert len(SCRIPT.strip().splitlines()) <= 12
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, check=True, env=CLEAN, timeout=120)
    with np.load(tmp_path / "connectivity.npz", allow_pickle=False) as file:
        assert {"W", "W_unbiased", "W_se", "total", "gate", "gate_se", "identifiable", "alpha"} <= set(file)


def test_importing_the_package_imports_nothing_slow():
    code = "import sys, nsi; sys.exit(bool({'numpy', 'scipy', 'torch', 'matplotlib'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_simulation_by_name_is_the_scripts(tmp_path):
    rec = nsi.simulate("ring", trials=3, steps=40, seed=4)
    data = cann.simulate_recording(circuits.ring(), seed=4, trials=3, steps=40)
    assert isinstance(rec, Recording)
    np.testing.assert_array_equal(rec.rates, data["rates"])
    np.savez(tmp_path / "mine.npz", **data)
    again = nsi.load(tmp_path / "mine.npz")
    for name in ("rates", "velocity", "heading"):
        np.testing.assert_array_equal(getattr(again, name), getattr(rec, name))
    with pytest.raises(BadInput, match="expected one of ring"):
        nsi.simulate("rings")


def test_a_circuit_that_diverges_when_simulated_leaves_no_interval(monkeypatch):
    """As estimates of real recordings may."""
    data = cann.simulate_recording(circuits.ring(n=14, shifters=7), trials=24, steps=160)
    rec = Recording(data["rates"], data["velocity"], data["dt"], tau=data["tau"])
    monkeypatch.setattr(intervals, "MAX_RATE", 0.5)
    one, two = nsi.estimate(rec), nsi.estimate(rec, calibrated=False)
    assert one.verdicts["description"] == "does not fit"
    assert np.isinf(one.W_se).all()
    np.testing.assert_array_equal(one.W, two.W)
