"""Rings of which each trial recorded other neurons, and samples that are missing."""

from pathlib import Path

import numpy as np
import pytest

import cann
import nsi
from nsi import geometry, recordings
from nsi.errors import BadInput
from nsi.estimation import estimate
from nsi.geometry import RING
from nsi.recordings import quality
from nsi.sums import correlation

N, TRIALS, SESSIONS = 24, 30, 6


@pytest.fixture(scope="module")
def whole():
    """A ring with pulses, and its truth."""
    circuit = cann.CIRCUITS["ring"](n=N, shifters=N // 2)
    data = cann.simulate_recording(circuit, seed=2, trials=TRIALS, steps=300, amplitude=2.0)
    return {k: v for k, v in data.items() if k != "heading"}


@pytest.fixture(scope="module")
def recorded():
    """Half of the neurons in each session, the others in the next, the first two never together. (trials, N)"""
    rng, sessions = np.random.default_rng(3), []
    for _ in range(SESSIONS // 2):
        half = np.isin(np.arange(N), rng.choice(np.arange(2, N), N // 2 - 1, False))
        half[0] = True
        sessions += [half, ~half]
    return np.repeat(sessions, TRIALS // SESSIONS, 0)


@pytest.fixture(scope="module")
def load(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("missing") / "half.npz"

    def run(**changes):
        recordings.save(path, **whole | changes)
        return nsi.load(path)

    return run


@pytest.fixture(scope="module")
def half(whole, load, recorded):
    """The recording of half of the neurons in each session."""
    return load(rates=np.where(recorded[:, None], whole["rates"], np.nan), recorded=recorded)


@pytest.fixture(scope="module")
def found(half):
    return nsi.estimate(half)


def near_weights(W, whole):
    """Correlation with the true weights of near pairs."""
    near = RING.near(RING.places(N))
    return correlation(W[near], whole["true_W"][:N, :N][near])


def test_weights_are_found_where_each_session_recorded_half_of_the_neurons(whole, found):
    assert near_weights(found.W, whole) > 0.99
    assert (found.verdicts["description"], found.verdicts["geometry"]) == ("fits", "a ring")
    for name, estimated in found.arrays().items():
        assert not np.isnan(estimated).any(), name


def test_pairs_that_were_never_recorded_together_have_infinite_intervals(whole, recorded, found):
    together = recorded.T.astype(float) @ recorded > 0
    assert together.sum() < N**2
    for se in (found.W_se, found.total_se, *found.gate_se):
        assert (np.isinf(se) == ~together).all()
    assert not (found.identifiable | found.resolved)[~together].any()
    claimed = together & ~np.eye(N, dtype=bool)
    inside = np.abs(found.W_unbiased - whole["true_W"][:N, :N]) < 1.96 * found.W_se
    assert inside[claimed].mean() > 0.8  # in so small a circuit they are too narrow


def test_single_samples_may_be_missing(whole, load, recorded):
    some = {k: whole[k][:15] for k in ("rates", "velocity", "stimulus", "hidden_rates")}
    lost = np.random.default_rng(4).random(some["rates"].shape) < 0.1
    rec = load(**some | {"rates": np.where(lost, np.nan, some["rates"])}, recorded=np.ones_like(recorded[:15]))
    assert (np.isnan(rec.rates) == lost).all()
    e = estimate(rec, calibrated=False)
    assert np.isfinite(e.W_se).all()
    assert near_weights(e.W, whole) > 0.99


def test_a_recording_with_missing_neurons_passes_the_checks(half):
    assert not geometry.lacks_geometry(half)
    assert not list(quality.find_warnings(half, Path("half.npz"), 0.2, 60))
    filled = geometry.fill_missing(half)
    assert np.isfinite(filled.rates).all()
    assert (filled.rates[filled.measured] == half.rates[filled.measured]).all()


def test_rates_of_neurons_that_were_not_recorded_are_not_read(whole, load, recorded, half):
    rates = np.where(recorded[:, None], whole["rates"], 0.7)
    assert np.array_equal(load(rates=rates, recorded=recorded).rates, half.rates, equal_nan=True)


def test_a_neuron_without_any_sample_and_infinite_rates_are_refused(whole, load, recorded):
    for value, where, said in ((np.nan, np.s_[..., 3], "neuron 3 is NaN throughout"), (np.inf, 7, "not finite")):
        rates = whole["rates"].copy()
        rates[where] = value
        with pytest.raises(BadInput, match=said):
            load(rates=rates, recorded=np.ones_like(recorded))
