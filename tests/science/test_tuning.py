"""Tuning: each measure on units whose tuning is known."""

import numpy as np
import pytest

from nsi.evaluation import tuning
from nsi.geometry import RING
from nsi.hidden.matching import match_units


@pytest.fixture(scope="module")
def turning():
    """A bump that goes round, its velocity, and left and right shifters over it."""
    rng = np.random.default_rng(0)
    v = np.repeat(rng.normal(0, 2, (10, 40)), 10, axis=1)
    heading = rng.uniform(0, 6, (10, 1)) + 0.03 * v.cumsum(1)
    bump = np.maximum(0, np.cos(heading[..., None] - RING.places(30)[:, 0]) - 0.3)
    right, left = (bump * np.clip(0.5 + s * 0.2 * v, 0, 1)[..., None] for s in (1, -1))
    return heading, v, bump, left, right


def test_shifters_are_distinguished_from_compass_neurons_and_noise(turning):
    heading, v, bump, left, right = turning
    noise = np.random.default_rng(2).random((*v.shape, 30))
    silent = np.zeros_like(noise)
    found = tuning.shifter_tuning(
        np.concatenate([bump, left, right, noise, silent], -1), heading[..., None], v[..., None]
    )
    assert found["shifter"][30:90].all()
    assert (np.sign(found["modulation"][0, 30:90]) == np.repeat([-1, 1], 30)).all()
    assert not found["shifter"][90:].any()
    assert found["shifter"][:30].mean() < 0.2
    assert not found["active"][120:].any()


def test_tuning_maps_and_their_order(turning):
    heading, v, bump, left, right = turning
    maps = tuning.tuning_maps(np.concatenate([right, left], -1), heading, v)
    assert maps.shape == (60, 16, 36)
    order = tuning.sort_units(maps)
    assert set(order[:30]) == set(range(30, 60))  # left first
    assert (np.abs(np.diff(order[:30])) == 1).sum() >= 28  # by heading
    selectivity = tuning.direction_selectivity(maps)
    assert selectivity[:30].min() > 0.2
    assert selectivity[30:].max() < -0.2
    assert np.abs(tuning.direction_selectivity(tuning.tuning_maps(bump, heading, v))).mean() < 0.1


def test_preferred_heading_is_where_a_unit_fires(turning):
    heading, v, bump, *_ = turning
    preferred = tuning.preferred_heading(tuning.tuning_maps(bump, heading, v))
    assert np.abs(RING.difference(preferred, RING.places(30)[:, 0])).max() < 0.2


def test_units_are_matched_to_neurons(turning):
    *_, left, right = turning
    neurons = np.concatenate([left, right], -1)
    order = np.random.default_rng(3).permutation(60)
    units, matched, r = match_units(2 * neurons[..., order] + 1, neurons)
    assert (matched == order[units]).all()
    assert r.min() > 0.999
