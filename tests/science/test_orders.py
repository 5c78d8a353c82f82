"""Orders of the input-response relation: circuits whose orders are known, and what is read off."""

import numpy as np
import pytest

import cann
from nsi import expansion, network, recordings
from nsi.estimation import estimate
from nsi.estimation.copies import Currents, Setting, fit_copies
from nsi.estimation.estimator import build_network
from nsi.estimation.fitting import Fit, Pilot
from nsi.estimation.kinetics import choose_kinetics
from nsi.estimation.orders import extend, maps, sizes
from nsi.estimation.signals import Copies, state_of
from nsi.evaluation.metrics import describe_orders
from nsi.evaluation.scores import order_scores
from nsi.geometry import RING
from nsi.simulation import circuits, simulate

N = 40
SMALL = {"ring": {}, "even": {}, "saturating": {}, "holding": {}}


@pytest.fixture(scope="module")
def recorded():
    """Small recordings of the circuits of higher order. Returns: a function that makes each once."""
    made = {}

    def make(name, trials=10, steps=200):
        if (name, trials, steps) not in made:
            small = {"shifters": 20} if name in SMALL else {}
            circuit = circuits.CIRCUITS[name](N, **small)
            made[name, trials, steps] = circuit, cann.simulate_recording(circuit, seed=1, trials=trials, steps=steps)
        return made[name, trials, steps]

    return make


def true_sizes(circuit, data):
    """Each order's size relative to order 0, its monomial's r.m.s. included."""
    measure = expansion.measure_of(data["rates"], data["velocity"], circuit.network.alpha)
    each = np.linalg.norm(data["true_orders"], axis=(1, 2)) * measure.size
    return each / each[0]


def test_powers_are_those_of_one_input_and_the_products_of_two():
    assert expansion.powers_of(1).tolist() == [[0], [1], [2], [3]]
    assert expansion.powers_of(2).tolist() == [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    v = np.array([[2.0, 3.0]])
    np.testing.assert_array_equal(expansion.monomials(v, expansion.powers_of(2)), [[1, 2, 3, 4, 6, 9]])


@pytest.mark.parametrize(("name", "there"), [
    ("ring", [1]), ("even", [1, 2]), ("saturating", [1, 3]), ("quadratic", [1, 2]), ("product", [4])
])  # fmt: skip
def test_each_circuit_has_its_orders_and_no_others(recorded, name, there):
    size = true_sizes(*recorded(name))
    absent = np.setdiff1d(np.arange(1, len(size)), there)
    assert (size[there] > 0.02).all()
    assert (size[absent] < 0.006).all()


def test_orders_of_a_product_are_what_it_multiplies(recorded):
    """In the directions that the states take; the others are left at 0."""
    circuit, data = recorded("quadratic")
    measure = expansion.measure_of(data["rates"], data["velocity"], circuit.network.alpha)
    mean_map = measure.onto @ measure.states
    ((_, square),) = circuit.network.products
    np.testing.assert_allclose(data["true_orders"][1], mean_map @ circuit.network.W_gain, atol=1e-9)
    np.testing.assert_allclose(data["true_orders"][2], mean_map @ square, atol=1e-9)
    np.testing.assert_allclose(data["true_orders"][3], 0, atol=1e-9)


def test_hidden_units_are_in_equilibrium(recorded):
    """Stepped long enough at a held state and input, they are where `hidden_states` puts them; also with feedback."""
    circuit, data = recorded("even")
    rng, net = np.random.default_rng(0), circuit.network
    W = net.W.copy()
    W[N:, N:] = 0.05 * rng.standard_normal((len(W) - N,) * 2) / 9
    net = net._replace(W=W)
    measure = expansion.measure_of(data["rates"], data["velocity"], net.alpha)
    s = expansion.hidden_states(net, measure)
    for point in (0, 10, 15):
        u = np.concatenate([measure.states, np.zeros((len(measure.states), len(W) - N))], 1)
        for _ in range(200):
            u[:, :N] = measure.states
            _, u = network.step(net, u, np.repeat(measure.grid[point][None], len(u), 0))
        np.testing.assert_allclose(s[point], u[:, N:], atol=1e-4)


def test_saturating_drive_levels_off_and_product_needs_both(recorded):
    net = recorded("saturating")[0].network
    drive = net.drive(np.array([[0.01], [100.0]]))[:, -1] / net.W_in[0, -1]
    np.testing.assert_allclose(drive, [0.01, 2.0], rtol=1e-4)
    net, u = recorded("product")[0].network, RING.bump(RING.places(N), np.zeros((1, 1)))
    rate = lambda v, g: network.step(net, u, np.array([[v, g]]))[0]
    np.testing.assert_array_equal(rate(2.0, 0.0), rate(0.0, 1.0))
    np.testing.assert_allclose(rate(2.0, 1.0), rate(-1.0, -2.0))
    assert np.abs(rate(2.0, 1.0) - rate(0.0, 0.0)).max() > 0.01


def test_bump_rises_with_speed_whichever_way(recorded):
    circuit, _ = recorded("even")
    v = np.array([0.0, 1.5, -1.5])[:, None, None]
    rates = simulate(circuit, np.repeat(v, 100, 1), np.zeros((3, 1)))[:, -1, :N]
    size = np.abs(rates @ np.exp(1j * RING.places(N)))[:, 0]
    assert size[1] == pytest.approx(size[2], rel=0.01)
    assert size[1] > 1.05 * size[0]


def test_file_of_two_inputs_has_one_heading_and_loads(recorded, tmp_path):
    _, data = recorded("product")
    assert data["velocity"].shape[-1] == 2
    turned = np.diff(np.unwrap(data["heading"][..., 0], axis=1), axis=1)
    np.testing.assert_allclose(turned, data["dt"] * data["velocity"][:, 1:].prod(-1), atol=1e-5)
    recordings.save(tmp_path / "product.npz", **data)
    rec = recordings.load(tmp_path / "product.npz")
    assert rec.heading.shape[-1] == 1
    assert recordings.load_truth(tmp_path / "product.npz", rec)["orders"].shape == (6, N, N)


# ---- estimating them -------------------------------------------------------------------------------------------


def recording(data):
    return recordings.Recording(data["rates"], data["velocity"], data["dt"], None, data["tau"])


@pytest.fixture(scope="module")
def estimated(recorded):
    """Orders of a small recording, with their scores. Returns: a function of a circuit's name."""
    made = {}

    def once(name, trials=40, steps=300):
        if name not in made:
            _, data = recorded(name, trials, steps)
            found = estimate(recording(data), geometry=RING, orders=True)
            arrays = found.arrays()
            size, shown = sizes(arrays, RING, RING.find(data["rates"]))
            said = {"verdicts": found.verdicts, "orders_powers": arrays["orders_powers"].tolist(), "orders_size": size,
                    "orders_shown": shown}  # fmt: skip
            made[name] = found, said | order_scores(arrays, {"orders": data["true_orders"]})
        return made[name]

    return once


@pytest.mark.parametrize(("name", "there"), [("quadratic", [1, 2]), ("product", [4]), ("ring", [1])])
def test_orders_are_estimated_and_absent_ones_are_not_shown(estimated, name, there):
    found, said = estimated(name)
    assert found.verdicts["description"] == "fits"
    assert np.flatnonzero(said["orders_shown"]).tolist() == [0, *there]
    for k in (0, *there):
        assert said["r_orders"][k] > 0.95
        assert said["orders_slope"][k] == pytest.approx(1, abs=0.1)
    for k in set(range(1, len(said["orders_size"]))) - set(there):
        assert np.isnan(said["r_orders"][k])
        assert said["orders_size"][k] < 0.01


def test_intervals_of_orders_hold_the_truth(estimated):
    """On average over three small recordings; that of a single one scatters by 0.02."""
    each = [np.mean(estimated(name)[1]["orders_coverage"]) for name in ("quadratic", "product", "ring")]
    assert np.mean(each) == pytest.approx(0.95, abs=0.04)


def test_shown_orders_are_reported_and_none_where_no_interval_is_claimed(estimated):
    _, said = estimated("quadratic")
    (sentence,) = describe_orders(said)
    assert "velocity (" in sentence
    assert "velocity^2 (" in sentence
    assert "velocity^3" not in sentence
    (sentence,) = describe_orders(said | {"verdicts": {"description": "does not fit"}})
    assert "cannot tell" in sentence
    assert [*describe_orders({})] == []


def test_maps_of_the_orders_are_those_of_the_network_that_the_weights_are(recorded):
    """Recorded neurons and copies as a network, whose orders nsi/expansion.py measures by itself."""
    rec = recording(recorded("ring")[1])
    fit = Fit(rec, Pilot(rec, choose_kinetics(rec, 0.2), RING, RING.places(N)))
    fit.copies = Copies(1.2, 0.3, 0.3, 0.08, saturation=0.2)
    extended = extend(fit)
    rng = np.random.default_rng(0)
    weights = 0.1 * rng.standard_normal((extended.q, N))
    for block in extended.blocks:
        if block.name not in ("direct", "copies"):
            weights[block.columns] = 0
    net = build_network(extended, weights)
    true = expansion.expansion(net, extended.measure)
    for L, G in zip(maps(extended, extended.measure), true, strict=True):
        np.testing.assert_allclose(L @ weights, G, atol=2e-5)


def test_too_little_data_claim_no_order(recorded):
    _, data = recorded("ring", 2, 40)
    arrays = estimate(recording(data), geometry=RING, calibrated=False, orders=True).arrays()
    assert np.isinf(arrays["orders_se"]).all()
    assert not sizes(arrays, RING, RING.places(N))[1].any()


def test_orders_are_read_only_when_asked_for(recorded):
    found = estimate(recording(recorded("ring", 2, 40)[1]), geometry=RING, calibrated=False)
    assert not any("orders" in name for name in found.arrays())


@pytest.mark.parametrize("saturation", [0.0, 0.5])
def test_saturation_of_the_copies_drive_is_estimated(saturation):
    """From currents that copies with a drive that levels off, or does not, send."""
    rng, n, alpha = np.random.default_rng(1), 20, 0.2
    places, heading = RING.places(n), np.cumsum(0.05 * rng.standard_normal((12, 400)), 1)
    u = state_of(np.maximum(0, np.cos(heading[..., None] - places[:, 0])).astype(np.float32), alpha)
    v = (1.5 * state_of(rng.standard_normal((12, 400, 1)).astype(np.float32), 0.05) / 0.16).astype(np.float32)
    true = Copies(1.0, 0.5, 0.4, 0.1, saturation=saturation)
    sent = sum(state_of(r, alpha) @ (0.3 * sign * np.sin(places - places.T)).astype(np.float32)
               for (_, sign), r in true.rates(u, v, RING, places))  # fmt: skip
    currents = sent + u @ (0.1 * np.cos(places - places.T)).astype(np.float32)
    currents += np.float32(0.002) * rng.standard_normal(u.shape, np.float32)
    noise = np.zeros((*u.shape[:2], 0), np.float32)
    setting = Setting(alpha, RING, places)
    found = fit_copies(Currents(currents, np.ones(u.shape, bool), u, v, noise), setting)
    assert found.saturation == pytest.approx(saturation, abs=0.15)
    np.testing.assert_allclose(true.saturated(v), np.tanh(v * saturation**0.5) / saturation**0.5 if saturation else v)
