"""What the experiment on limits adds to a recording, and what it counts as a false claim."""

import numpy as np
import pytest

from experiments.limits.__main__ import ALL, FACTORS, UNEVEN, false_claims, simulated
from nsi import recordings

SETTINGS = {name: FACTORS[name].default for name in ("noise", "observed", "strength", "speed", "memory")}
SMALL = SETTINGS | {"ring": 40, "trials": 2, "steps": 60}


def test_noise_on_the_rates_and_pulses_leave_the_circuit_as_it_was(tmp_path):
    quiet, noisy = tmp_path / "quiet.npz", tmp_path / "noisy.npz"
    simulated(quiet, 0, **SMALL | UNEVEN)
    simulated(noisy, 0, **SMALL | UNEVEN | {"measurement": 0.05})
    a, b = recordings.load(quiet), recordings.load(noisy)
    apart = (b.rates - a.rates)[a.rates > 0.3]
    assert apart.std() == pytest.approx(0.05, rel=0.1)
    assert b.rates.min() == 0
    np.testing.assert_array_equal(a.stimulus, b.stimulus)
    true = [recordings.load_truth(path, rec) for path, rec in ((quiet, a), (noisy, b))]
    np.testing.assert_array_equal(true[0]["W"], true[1]["W"])
    np.testing.assert_array_equal(true[0]["hidden_rates"], true[1]["hidden_rates"])


def test_neurons_not_recorded_take_their_pulses_with_them(tmp_path):
    whole, part = tmp_path / "whole.npz", tmp_path / "part.npz"
    simulated(whole, 0, **SMALL | UNEVEN)
    simulated(part, 0, **SMALL | UNEVEN | {"observed": 0.5})
    a, b = recordings.load(whole), recordings.load(part)
    assert b.rates.shape[-1] == b.stimulus.shape[-1] == 20
    keep = [int(np.flatnonzero((a.rates == b.rates[..., [k]]).all((0, 1)))[0]) for k in range(20)]
    np.testing.assert_array_equal(a.stimulus[..., keep], b.stimulus)
    W = [recordings.load_truth(path, rec)["W"] for path, rec in ((whole, a), (part, b))]
    np.testing.assert_array_equal(W[0][np.ix_(keep, keep)], W[1][:20, :20])


def test_false_claims_are_those_of_the_wrong_side(tmp_path):
    path = tmp_path / "recording.npz"
    simulated(path, 0, **SMALL | UNEVEN)
    W = recordings.load_truth(path, recordings.load(path))["W"][:40, :40]
    pairs = ~np.eye(40, dtype=bool)

    def share(W, se):
        found = {"W_unbiased": W, "W_se": np.full_like(W, se), "resolved": pairs, "identifiable": pairs}
        np.savez(tmp_path / "connectivity.npz", **found)
        return false_claims(path, tmp_path)

    assert share(W, 1e-9) == 0
    assert share(-W, 1e-9) > 0.99
    assert share(-W, 1e3) == 0
    pairs = np.zeros_like(pairs)
    assert share(W, 1e-9) is None


def test_every_factor_has_its_default_among_its_values():
    assert all(factor.default in factor.values for factor in ALL.values())
