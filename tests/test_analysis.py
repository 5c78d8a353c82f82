"""Reading a network: each measure on a case whose answer is known."""

import numpy as np
import pytest

import analysis


@pytest.fixture(scope="module")
def turning():
    """A bump that goes round, its velocity, and left and right shifters over it."""
    rng = np.random.default_rng(0)
    v = np.repeat(rng.normal(0, 2, (10, 40)), 10, axis=1)
    heading = rng.uniform(0, 6, (10, 1)) + 0.03 * v.cumsum(1)
    angles = analysis.ring_angles(30)
    bump = np.maximum(0, np.cos(heading[..., None] - angles) - 0.3)
    right, left = (bump * np.clip(0.5 + s * 0.2 * v, 0, 1)[..., None] for s in (1, -1))
    return heading, v, bump, left, right


def test_ring_is_found_in_any_order(turning):
    _, _, bump, *_ = turning
    angles = analysis.ring_angles(30)
    np.testing.assert_allclose(analysis.place_on_ring(bump), angles)
    order = np.random.default_rng(1).permutation(30)
    found = analysis.place_on_ring(bump[..., order])
    apart = [
        np.abs(analysis.angle_between(a[:, None], a)) for a in (found, angles[order])
    ]  # but for turn and reflection
    np.testing.assert_allclose(*apart, atol=1e-9)


def test_heading_is_decoded(turning):
    heading, _, bump, *_ = turning
    decoded = analysis.decode_heading(bump, analysis.ring_angles(30))
    assert np.abs(analysis.angle_between(decoded, heading)).max() < 0.02


def test_shifters_are_told_from_compass_neurons_and_noise(turning):
    heading, v, bump, left, right = turning
    noise = np.random.default_rng(2).random((*v.shape, 30))
    silent = np.zeros_like(noise)
    tuning = analysis.shifter_tuning(np.concatenate([bump, left, right, noise, silent], -1), heading, v)
    assert tuning["shifter"][30:90].all()
    assert (np.sign(tuning["modulation"][30:90]) == np.repeat([-1, 1], 30)).all()
    assert not tuning["shifter"][90:].any()
    assert tuning["shifter"][:30].mean() < 0.2
    assert not tuning["active"][120:].any()


def test_tuning_maps_and_their_order(turning):
    heading, v, bump, left, right = turning
    maps = analysis.tuning_maps(np.concatenate([right, left], -1), heading, v)
    assert maps.shape == (60, 16, 36)
    order = analysis.sort_units(maps)
    assert set(order[:30]) == set(range(30, 60))  # left first
    assert (np.abs(np.diff(order[:30])) == 1).sum() >= 28  # by heading
    selectivity = analysis.direction_selectivity(maps)
    assert selectivity[:30].min() > 0.2
    assert selectivity[30:].max() < -0.2
    assert np.abs(analysis.direction_selectivity(analysis.tuning_maps(bump, heading, v))).mean() < 0.1


def test_units_are_matched_to_neurons(turning):
    *_, left, right = turning
    neurons = np.concatenate([left, right], -1)
    order = np.random.default_rng(3).permutation(60)
    units, matched, r = analysis.match_units(2 * neurons[..., order] + 1, neurons)
    assert (matched == order[units]).all()
    assert r.min() > 0.999


def test_gate_and_product():
    rng = np.random.default_rng(0)
    fit = analysis.Fit(rng.normal(size=(7, 7)), rng.normal(size=(2, 3)), np.zeros(7), 0.2, 4)
    expected = np.einsum("ik,dk,kj->dij", fit.W[:4, 4:], fit.W_in, fit.W[4:, :4])
    np.testing.assert_allclose(analysis.gate(fit), expected)
    np.testing.assert_allclose(analysis.unsigned_product(fit), np.einsum("ik,kj->ij", fit.W[:4, 4:], fit.W[4:, :4]))


def test_profile_of_a_ring():
    angles = analysis.ring_angles(20)
    distance, mean, sd = analysis.ring_profile(np.sin(angles - angles[:, None]))
    np.testing.assert_allclose(mean, np.sin(distance), atol=1e-12)
    assert sd.max() < 1e-12


def test_scores_need_truth():
    fit = analysis.Fit(np.eye(4), np.ones((1, 1)), np.zeros(4), 0.2, 3)
    assert analysis.connectivity_scores(fit, {}, np.ones((3, 3), bool)) == {}
    scores = analysis.connectivity_scores(fit, {"W": np.eye(5)}, np.ones((3, 3), bool))
    assert scores["r_W"] == pytest.approx(1)
    assert scores["frobenius_W"] == 0
    assert np.isnan(analysis.correlation(np.ones(4), np.arange(4)))
