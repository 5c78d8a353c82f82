"""What is read off real flies: each measure on a case whose answer is known."""

import numpy as np
import pytest

from experiments.flies import __main__ as flies
from experiments.flies import estimate, neurons
from experiments.orders import flies as orders
from nsi.geometry import RING
from nsi.network import Network
from nsi.recordings import Recording
from tests.tools import ROOT


@pytest.fixture(scope="module")
def bumps():
    """A recording of three flies whose bump moves with 0.9 of the velocity, one step late."""
    rng = np.random.default_rng(0)
    v = np.repeat(rng.normal(0, 1.5, (6, 30)), 5, axis=1)
    moved = 0.9 * 0.09 * np.cumsum(np.roll(v, 1, 1), 1) + rng.uniform(0, 6, (6, 1))
    rates = np.exp(2 * np.cos(moved[..., None] - RING.places(16)[:, 0]) - 2).astype(np.float32)
    return Recording(rates, v[..., None].astype(np.float32), 0.09, animal=np.repeat([0, 1, 2], 2))


def test_integrator_finds_gain_and_delay_on_the_other_flies(bumps):
    cut, trial = flies.pieces(bumps)
    assert flies.missed(flies.integrated(cut, 0.9, lag=1), cut).max() < 1e-3
    options = [(g, 1.0, lag) for g in flies.GAINS for lag in flies.LAGS]
    assert flies.missed(flies.integrators(cut, bumps.animal[trial], options), cut).max() < 1e-3
    assert flies.missed(flies.integrated(cut, 0.0), cut).mean() > 0.3


def test_displacement_of_input_units_that_send_aside():
    angles = RING.places(16)[:, 0]
    side = np.tile([1, -1], 16)
    place = np.repeat(angles, 2)
    W, W_in = np.zeros((48, 48), np.float32), np.zeros((1, 48))
    W[:16, 16:] = np.cos(angles[:, None] - place)
    W[16:, :16] = np.cos(angles - (place + side * np.deg2rad(55))[:, None])
    W_in[:, 16:] = 0.1 * side
    assert flies.displacement(Network(W, W_in, np.zeros(48), 0.5, 16)) == pytest.approx(55, abs=1e-3)


def test_lead_and_share_of_a_bump_ahead(bumps):
    v = bumps.velocity[..., 0]
    ahead = flies.vector(bumps.rates) * np.exp(1j * np.deg2rad(15) * np.sign(v))
    lead = flies.leads(ahead, bumps)
    np.testing.assert_allclose(lead["right"], 15, atol=1e-4)
    np.testing.assert_allclose(lead["left"], -15, atol=1e-4)
    other = np.random.default_rng(0).random((*v.shape, 16))
    assert min(flies.share(bumps.rates, 2 * bumps.rates + 1, bumps)) > 0.99
    assert max(flies.share(other, bumps.rates, bumps)) < 0.05


def test_share_on_a_fly_left_out_is_of_a_map_fitted_on_the_others(bumps):
    other, fly = bumps.animal != 1, bumps.animal == 1
    twice = 2 * bumps.rates + 1
    assert neurons.mapped(bumps.rates, twice, bumps, other, fly) > 0.99
    turned = np.where(fly[:, None, None], -twice, twice)  # a map that holds for the others alone
    assert neurons.mapped(bumps.rates, turned, bumps, other, fly) < 0


def test_null_models_keep_what_they_should(bumps):
    null = flies.nulls(bumps, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(null["randomised phases"].rates, 1), np.sort(bumps.rates, 1))
    np.testing.assert_array_equal(null["reversed rates"].rates[:, ::-1], bumps.rates)
    assert not (null["shuffled velocity"].velocity == bumps.velocity).all(1).any()
    for name, one in null.items():
        alike = np.corrcoef(one.rates.reshape(-1, 16), rowvar=False)[0, 1]
        assert (alike > 0.5) == (name != "randomised phases")


def test_connectome_profile():
    path = ROOT.parent / "shared" / "fly" / "hemibrain_hd_152.npz"
    if not path.exists():
        pytest.skip("the connectome is not here (../shared/fly)")
    direct, delta7 = flies.connectome(path)
    np.testing.assert_allclose(direct[:5], [31, 16, 2.8, 0.4, 0.4], rtol=0.05)
    np.testing.assert_allclose(delta7, [633, 511, 521, 755, 1224, 1715, 2069, 2220, 2212], rtol=0.01)
    r, ratio = flies.match(direct - 0.01 * delta7, direct, delta7)
    assert r > 0.999
    assert ratio == pytest.approx(0.01, rel=0.1)


def test_bump_that_rises_with_speed_is_detected_whichever_way_it_turns():
    rng = np.random.default_rng(0)
    v = orders.filtered(rng.standard_normal((6, 600)), 0.1, 0.5) * 2
    size = 2 + 0.6 * orders.filtered(np.abs(v), 0.1, orders.FILTER_S) - 0.2 * orders.filtered(v, 0.1, orders.FILTER_S)
    valid, animal = np.ones(v.shape, bool), np.arange(6) // 2
    found = orders.rise(size, v, valid, animal, 0.1)
    mean = size.mean(1).reshape(3, 2)
    np.testing.assert_allclose(found["recording"]["speed"], (0.6 / mean).mean(1))
    np.testing.assert_allclose(found["recording"]["signed"], (-0.2 / mean).mean(1))
    assert np.abs(found["another trial"]["speed"]).max() < 0.5 * np.min(found["recording"]["speed"])


def test_order_two_predicts_a_bump_that_speed_raises_and_nothing_else_does():
    rng, animal = np.random.default_rng(1), np.arange(9) // 3
    v = orders.filtered(rng.standard_normal((9, 400)), 0.1, 0.3) * 3
    size = 0.4 + 0.2 * orders.filtered(v**2, 0.1, 0.5) / np.mean(v**2)
    arguments = size, v, np.ones(v.shape, bool), animal, 0.1
    found, null = orders.predicted(*arguments), orders.predicted(*arguments, "another trial")
    assert (np.array(found["order two"]) > np.array(found["order one"]) + 0.2).all()
    assert (np.mean(null["order two"], 0) < np.mean(found["order two"], 0) - 0.2).all()


def test_samples_chosen_one_step_before_do_not_bend_the_response():
    """Rates chosen by their own size have their noise cut off, which looks like another response."""
    rng, n = np.random.default_rng(0), 8
    W, mean = 0.8 * np.roll(np.eye(n), 1, 0), 0.4
    rates = [np.full((6, n), mean)]
    for _ in range(400):
        rates.append(mean + (rates[-1] - mean) @ W + 0.07 * rng.standard_normal((6, n)))
    v = rng.standard_normal((6, 401, 1)).astype(np.float32)
    rec = Recording(np.clip(np.stack(rates, 1), 0, None).astype(np.float32), v, 0.1)
    before, itself = (estimate.kinetics_of(rec, (0.2, 0.97, lag)) for lag in (1, 0))
    assert estimate.likeliest([before]) == "rectified linear"
    assert estimate.likeliest([itself]) != "rectified linear"


def test_the_estimate_s_signals_predict_a_bump_that_turns():
    """A linear circuit whose bump turns by itself at 0.7 rad/s, which direct weights do."""
    start, steps = np.random.default_rng(0).uniform(0, 6, (4, 1)), 0.7 * 0.09 * np.arange(180)
    bump = 0.45 + 0.3 * np.cos((start + steps)[..., None] - RING.places(16)[:, 0])
    v = np.random.default_rng(1).standard_normal((4, 180, 1)).astype(np.float32)
    rec = Recording(bump.astype(np.float32), v, 0.09, animal=np.repeat([0, 1], 2))
    cut, _ = flies.pieces(rec)
    assert flies.missed(np.angle(estimate.leave_one_out(rec, [0.5, 0.5])), cut).max() < 0.05
