"""What the experiment on limits adds to a recording, and what it counts as a false claim."""

import numpy as np
import pytest

from experiments.limits.__main__ import ALL, FACTORS, UNEVEN, Settings, false_claims, simulated
from nsi import recordings

SETTINGS = {name: FACTORS[name].default for name in ("noise", "observed", "strength", "speed", "memory")}
SMALL = SETTINGS | {"ring": 40, "trials": 2, "steps": 60}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uneven circuit's recording with pulses: its file, itself and its truth."""
    return read(tmp_path_factory.mktemp("whole") / "recording.npz")


def read(path, **changes):
    simulated(path, 0, Settings(**SMALL | UNEVEN | changes))
    rec = recordings.load(path)
    return path, rec, recordings.load_truth(path, rec)


def test_noise_on_the_rates_leaves_the_circuit_as_it_was(whole, tmp_path):
    (_, a, true), (_, b, also) = whole, read(tmp_path / "noisy.npz", measurement=0.05)
    assert (b.rates - a.rates)[a.rates > 0.3].std() == pytest.approx(0.05, rel=0.1)
    assert b.rates.min() == 0
    np.testing.assert_array_equal(a.stimulus, b.stimulus)
    np.testing.assert_array_equal(true["W"], also["W"])
    np.testing.assert_array_equal(true["hidden_rates"], also["hidden_rates"])


def test_neurons_not_recorded_take_their_pulses_with_them(whole, tmp_path):
    (_, a, true), (_, b, also) = whole, read(tmp_path / "part.npz", observed=0.5)
    assert b.rates.shape[-1] == b.stimulus.shape[-1] == 20
    keep = [int(np.flatnonzero(np.diag(true["W"])[:40] == w)[0]) for w in np.diag(also["W"])[:20]]
    np.testing.assert_array_equal(a.rates[..., keep], b.rates)
    np.testing.assert_array_equal(a.stimulus[..., keep], b.stimulus)
    np.testing.assert_array_equal(true["W"][np.ix_(keep, keep)], also["W"][:20, :20])


def test_false_claims_are_those_of_the_wrong_side(whole, tmp_path):
    path, W, pairs = whole[0], whole[2]["W"][:40, :40], ~np.eye(40, dtype=bool)

    def share(W, se, resolved=pairs):
        found = {"W_unbiased": W, "W_se": np.full_like(W, se), "resolved": resolved, "identifiable": pairs}
        np.savez(tmp_path / "connectivity.npz", **found)
        return false_claims(path, tmp_path)

    assert share(W, 1e-9) == 0
    assert share(-W, 1e-9) > 0.99
    assert share(-W, 1e3) == 0
    assert share(W, 1e-9, np.zeros_like(pairs)) is None


def test_every_factor_has_its_default_among_its_values():
    assert all(factor.default in factor.values for factor in ALL.values())
