"""The torus: each measure on a case whose answer is known, and neurons placed from activity alone."""

import itertools
import re

import numpy as np
import pytest

from nsi import geometry
from nsi.evaluation.scores import per_component
from nsi.geometry import RING, SYMMETRIES, TORUS, Torus, plane_waves
from nsi.recordings import Recording
from nsi.simulation import stimulation
from nsi.sums import correlation

SIDE = 14
N, PERIOD = SIDE**2, 4 * np.pi / np.sqrt(3)


def activity(phases, places):
    """Rates of neurons at some places while the bump is at some phases. phases: (..., 2). Returns: (..., n)."""
    apart = plane_waves.third(places) - plane_waves.third(phases)[..., None, :]
    return np.maximum(0, np.cos(apart).mean(-1) - 0.25).astype(np.float32)


@pytest.fixture(scope="module")
def walk():
    """A bump that wanders over the torus: velocity and phases (trials, steps, 2)."""
    rng = np.random.default_rng(0)
    v = np.concatenate([stimulation.random_velocity(rng, 30, 500, 0.01) for _ in range(2)], -1)
    return v, rng.uniform(-np.pi, np.pi, (30, 1, 2)) + 0.01 * TORUS.movement(v).cumsum(1)


def recording(walk, places, heading=False):
    noise = 0.01 * np.random.default_rng(1).random((*walk[0].shape[:2], len(places)))
    rates = (activity(walk[1], places) + noise).astype(np.float32)
    return Recording(rates, walk[0].astype(np.float32), 0.01, walk[1].astype(np.float32) if heading else None)


def misplaced(found, places):
    """Mean distance (rad) of found places from the true ones, but for the torus' own symmetries and a shift."""
    errors = []
    for M in SYMMETRIES:
        turned = found @ M.T
        offset = np.angle(np.exp(1j * (places - turned)).mean(0))
        errors.append(TORUS.distance(turned + offset, places).mean())
    return min(errors)


def test_places_tile_the_sheet():
    np.testing.assert_allclose(TORUS.places(4), [[0, 0], [0, np.pi], [np.pi, 0], [np.pi, np.pi]])
    with pytest.raises(ValueError, match="60 neurons"):
        TORUS.places(60)


def test_distances_are_those_of_the_nearest_image_in_the_plane():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-10, 10, (2, 200, 2))
    turns = 2 * np.pi * np.array(list(itertools.product(range(-5, 6), repeat=2)))
    images = np.linalg.norm((a - b + turns[:, None]) @ np.linalg.inv(Torus.K).T, axis=-1)
    np.testing.assert_allclose(TORUS.distance(a, b), images.min(0), atol=1e-9)
    six = 2 * np.pi * np.array([[1, 0], [0, 1], [1, 1], [-1, 0], [0, -1], [-1, -1]])
    np.testing.assert_allclose(np.linalg.norm(TORUS.displacement(six), axis=-1), PERIOD)  # the six neighbours


def test_movement_and_displacement_undo_each_other():
    v = np.random.default_rng(0).normal(size=(5, 2))
    turn = Torus(axes=np.array([[0.6, 0.8], [-0.8, 0.6]]))
    for shape in (TORUS, turn):
        np.testing.assert_allclose(shape.displacement(shape.movement(v)), v)
    field = TORUS.displacement(np.array([2 * np.pi, 0])) / TORUS.per_metre  # the next one
    assert np.linalg.norm(field) == pytest.approx(TORUS.spacing)
    np.testing.assert_allclose(TORUS.phases(field), [2 * np.pi, 0], atol=1e-9)


def test_phases_are_decoded(walk):
    decoded = TORUS.decode(activity(walk[1], TORUS.places(N)), TORUS.places(N))
    assert TORUS.distance(decoded, walk[1]).max() < 0.03


def test_neighbours_follow_in_order():
    shuffled = np.random.default_rng(0).permutation(N)
    places = TORUS.places(N)[shuffled]
    order = TORUS.order(places)
    assert sorted(order) == list(range(N))
    assert TORUS.distance(places[order[1:]], places[order[:-1]]).max() < 1.01 * 2 * np.pi / SIDE * 2


def test_near_pairs_and_profile():
    places = TORUS.places(N)
    near = TORUS.near(places)
    assert (near == near.T).all()
    assert near.mean() == pytest.approx(np.pi * TORUS.NEAR**2 / (PERIOD**2 * np.sqrt(0.75)), rel=0.1)  # of the area
    W = activity(places, places)
    difference, mean, sd = TORUS.profile(W)
    assert sd.max() < 1e-5
    np.testing.assert_allclose(mean, activity(np.zeros(2), difference), atol=1e-5)


def test_mean_profile_is_the_mean_at_each_difference():
    rng, side = np.random.default_rng(0), 4
    places, n = TORUS.places(side**2), side**2
    W, mask = rng.normal(size=(n, n)), rng.random((n, n)) < 0.6
    found, step = TORUS.mean_profile(W, places, mask), 2 * np.pi / side
    alike = np.round((places - places[:, None]) / step).astype(int) % side
    for i, j in itertools.product(range(n), repeat=2):
        same = (alike == alike[i, j]).all(-1) & mask
        assert found[i, j] == pytest.approx(W[same].mean() if same.any() else 0)
    order = rng.permutation(n)
    some = np.ix_(order, order)
    np.testing.assert_allclose(TORUS.mean_profile(W[some], places[order], mask[some]), found[some], atol=1e-9)


def test_profile_of_neurons_off_the_sheet_is_a_series_of_second_order():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 2 * np.pi, (50, 2))
    a, b = np.moveaxis(places - places[:, None], -1, 0)
    true = 0.3 + np.cos(a - 0.2) + 0.5 * np.sin(b - a) + 0.2 * np.cos(2 * a - b) + 0.1 * np.cos(2 * b)
    mask = rng.random(true.shape) < 0.5
    np.testing.assert_allclose(TORUS.mean_profile(true, places, mask), true, atol=1e-4)


@pytest.mark.parametrize(("count", "heading", "most"), [(N, False, 0.03), (N, True, 0.03), (60, False, 0.15),
                                                        (60, True, 0.03)])  # fmt: skip
def test_neurons_are_placed_in_any_order(walk, count, heading, most):
    order = np.random.default_rng(2).permutation(N)[:count]
    places = TORUS.places(N)[order]
    shape = geometry.of(recording(walk, places, heading))
    assert isinstance(shape, Torus)
    assert misplaced(shape.find(np.zeros((1, count))), places) < most
    np.testing.assert_allclose(shape.axes, np.eye(2), atol=0.03)  # along the velocity's axes
    if heading:
        assert TORUS.distance(shape.known, places).mean() < most  # and no symmetry is left open


def test_activity_alone_places_neurons(walk):
    order = np.random.default_rng(2).permutation(N)
    places = TORUS.places(N)[order]
    assert misplaced(TORUS.find(recording(walk, places).rates), places) < 0.03


def test_neurons_in_order_keep_their_places(walk):
    np.testing.assert_allclose(geometry.of(recording(walk, TORUS.places(N))).known, TORUS.places(N))


def test_a_turned_lattice_is_found(walk):
    """An animal whose velocity is given in other axes than the lattice's."""
    angle = 0.3
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    rec = recording(walk, TORUS.places(N))
    rec.velocity = (walk[0] @ turn).astype(np.float32)
    shape = geometry.of(rec)
    moved = TORUS.difference(walk[1][:, 100], walk[1][:, 90])
    expected = rec.velocity[:, 91:101].sum(1) * 0.01
    np.testing.assert_allclose(np.linalg.norm(shape.displacement(moved) - expected, axis=-1), 0, atol=0.02)


def test_what_is_no_torus_is_reported_as_none(walk):
    rng = np.random.default_rng(3)
    heading = walk[1][..., :1]
    ring = np.maximum(0, np.cos(heading - RING.places(40)[:, 0]) - 0.2).astype(np.float32)
    where = (walk[1] / 3) % 2
    cells = np.exp(-((where[:, :, None] - rng.uniform(0, 2, (80, 2))) ** 2).sum(-1) / 0.1).astype(np.float32)
    torus = recording(walk, TORUS.places(N)).rates
    cases = {
        "ring": (ring, "length|degrees|component"),
        "place cells": (cells, "component|velocity|length"),
        "neurons rolled in time apart": (
            np.stack([np.roll(x, 37 * k, 1) for k, x in enumerate(np.moveaxis(torus, -1, 0)[::3])], -1),
            "component|velocity",
        ),
        "velocity of others": (np.roll(torus, 1, 0), "velocity explains"),
    }
    for name, (rates, why) in cases.items():
        shape = geometry.of(Recording(rates, walk[0].astype(np.float32), 0.01))
        assert shape.dimensions == 1, name
        assert re.search(why, shape.said), (name, shape.said)
    assert geometry.of(Recording(ring, walk[0][..., :1], 0.01)) is RING


def test_uninformative_recordings_are_of_a_ring():
    rng = np.random.default_rng(0)
    still, random = np.zeros((3, 60, 2), np.float32), rng.random((3, 60, 9), np.float32)
    for rates, v in ((random, still), (0 * random + 0.5, still + 1), (random[:, :20], still[:, :20] + 1),
                     (random[:, :4], still[:, :4]), (random[..., :7], rng.normal(size=still.shape))):  # fmt: skip
        assert geometry.of(Recording(rates, v.astype(np.float32), 0.01)).dimensions == 1


def test_gate_is_scored_by_component():
    rng = np.random.default_rng(0)
    gate = rng.normal(size=(2, 9, 9))
    assert per_component(correlation, gate, gate * [[[2]], [[-1]]]) == pytest.approx([1, -1])
    assert per_component(correlation, gate[:1], gate[:1]) == pytest.approx(1)
