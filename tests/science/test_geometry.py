"""The ring: each measure on a case whose answer is known."""

import numpy as np
import pytest

from nsi.geometry import RING, of


@pytest.fixture(scope="module")
def bump():
    """A bump that goes round: its heading (trials, steps, 1) rad, and rates of 30 neurons in order."""
    rng = np.random.default_rng(0)
    v = np.repeat(rng.normal(0, 2, (10, 40)), 10, axis=1)
    heading = (rng.uniform(0, 6, (10, 1)) + 0.03 * v.cumsum(1))[..., None]
    return heading, np.maximum(0, np.cos(heading - RING.places(30)[:, 0]) - 0.3)


def test_places_go_once_around():
    places = RING.places(8)
    assert places.shape == (8, RING.dimensions) == (8, 1)
    np.testing.assert_allclose(places[:, 0], np.arange(8) * np.pi / 4)


def test_ring_is_found_in_any_order(bump):
    places = RING.places(30)
    np.testing.assert_allclose(RING.find(bump[1]), places)
    order = np.random.default_rng(1).permutation(30)
    found = RING.find(bump[1][..., order])
    apart = [RING.distance(a[:, None], a) for a in (found, places[order])]  # but for turn and reflection
    np.testing.assert_allclose(*apart, atol=1e-9)


def test_heading_is_decoded(bump):
    decoded = RING.decode(bump[1], RING.places(30))
    assert decoded.shape == bump[0].shape
    assert RING.distance(decoded, bump[0]).max() < 0.02
    assert (np.abs(decoded) <= np.pi).all()


def test_differences_wrap():
    a, b = np.array([[3.0], [-3.0], [0.1], [7.0]]), np.array([[-3.0], [3.0], [0.3], [0.0]])
    expected = np.array([6 - 2 * np.pi, 2 * np.pi - 6, -0.2, 7 - 2 * np.pi])
    np.testing.assert_allclose(RING.difference(a, b), expected[:, None], atol=1e-12)
    np.testing.assert_allclose(RING.distance(a, b), np.abs(expected), atol=1e-12)


@pytest.mark.parametrize("n", [16, 25, 40, 100])
def test_near_pairs_are_three_tenths_of_the_ring_apart_at_most(n):
    index = np.arange(n)
    apart = np.abs((index[:, None] - index + n // 2) % n - n // 2)
    np.testing.assert_array_equal(RING.near(RING.places(n)), apart <= 0.3 * n)


def test_order_goes_around():
    order = np.random.default_rng(0).permutation(12)
    np.testing.assert_array_equal(order[RING.order(RING.places(12)[order])], np.arange(12))


def test_bump_is_a_cosine_above_zero():
    bump = RING.bump(RING.places(4), np.array([[0.0], [np.pi / 4]]))
    np.testing.assert_allclose(bump, [[1, 0, 0, 0], [np.sqrt(0.5), np.sqrt(0.5), 0, 0]], atol=1e-12)


def test_profile_of_a_ring():
    angles = RING.places(20)[:, 0]
    distance, mean, sd = RING.profile(np.sin(angles - angles[:, None]))
    np.testing.assert_allclose(mean, np.sin(distance), atol=1e-12)
    assert sd.max() < 1e-12


def test_mean_profile_is_the_mean_over_the_mask_at_each_distance():
    rng = np.random.default_rng(0)
    places = RING.places(9)
    W, mask = rng.normal(size=(9, 9)), rng.random((9, 9)) < 0.6
    found = RING.mean_profile(W, places, mask)
    for i in range(9):
        for j in range(9):
            alike = [W[k, (k + j - i) % 9] for k in range(9) if mask[k, (k + j - i) % 9]]
            assert found[i, j] == pytest.approx(np.mean(alike) if alike else 0)
    circulant = np.cos(places - places[:, 0] + 0.3)
    np.testing.assert_allclose(RING.mean_profile(circulant, places, np.ones((9, 9), bool)), circulant, atol=1e-12)
    order = rng.permutation(9)  # in whatever order the neurons are
    some = np.ix_(order, order)
    np.testing.assert_allclose(RING.mean_profile(W[some], places[order], mask[some]), found[some], atol=1e-12)


def test_a_recording_is_of_a_ring(rec):
    assert of(rec) is RING
