"""What the experiment on limits changes of a recording."""

import numpy as np
import pytest

from experiments.benchmark.tasks import loaded
from experiments.limits.__main__ import FACTORS, UNEVEN, default_of, settings_of, simulated

SMALL = UNEVEN._replace(ring=40, trials=2, steps=60)


def recorded(**changes):
    """A recording of a small uneven ring with pulses, and its truth."""
    return loaded(simulated(SMALL._replace(**changes), 0))


def test_noise_on_the_rates_leaves_the_circuit_as_it_was():
    (a, true), (b, also) = recorded(), recorded(measurement=0.05)
    assert (b.rates - a.rates).std() == pytest.approx(0.05, rel=0.1)
    np.testing.assert_array_equal(a.stimulus, b.stimulus)
    np.testing.assert_array_equal(true["W"], also["W"])
    np.testing.assert_array_equal(true["hidden_rates"], also["hidden_rates"])


def test_neurons_not_recorded_take_their_pulses_with_them():
    (a, true), (b, also) = recorded(), recorded(observed=0.5)
    assert b.rates.shape[-1] == b.stimulus.shape[-1] == 20
    keep = [int(np.flatnonzero(np.diag(true["W"])[:40] == w)[0]) for w in np.diag(also["W"])[:20]]
    np.testing.assert_array_equal(a.rates[..., keep], b.rates)
    np.testing.assert_array_equal(a.stimulus[..., keep], b.stimulus)
    np.testing.assert_array_equal(true["W"][np.ix_(keep, keep)], also["W"][:20, :20])


def test_every_factor_has_its_default_among_its_values():
    for name, factor in FACTORS.items():
        assert default_of(name) in factor.values
        others = [settings_of(name, value, UNEVEN.trials, 20) for value in factor.values]
        assert len(set(others)) == len(factor.values)
