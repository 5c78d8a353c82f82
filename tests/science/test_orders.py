"""Orders of the input-response relation: circuits whose orders are known, and what is read off."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cann
from nsi import connectivity, direct, network, orders, recordings, relations
from nsi.geometry import RING
from nsi.simulation import circuits

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


def sizes(circuit, data):
    """Each order's size relative to order 0, its monomial's r.m.s. included."""
    measure = orders.measure_of(data["rates"], data["velocity"], circuit.network.alpha)
    each = np.linalg.norm(data["true_orders"], axis=(1, 2)) * measure.size
    return each / each[0]


def test_powers_are_those_of_one_input_and_the_products_of_two():
    assert orders.powers_of(1).tolist() == [[0], [1], [2], [3]]
    assert orders.powers_of(2).tolist() == [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    v = np.array([[2.0, 3.0]])
    np.testing.assert_array_equal(orders.monomials(v, orders.powers_of(2)), [[1, 2, 3, 4, 6, 9]])


@pytest.mark.parametrize(("name", "there"), [
    ("ring", [1]), ("even", [1, 2]), ("saturating", [1, 3]), ("quadratic", [1, 2]), ("product", [4])
])  # fmt: skip
def test_each_circuit_has_its_orders_and_no_others(recorded, name, there):
    size = sizes(*recorded(name))
    absent = np.setdiff1d(np.arange(1, len(size)), there)
    assert (size[there] > 0.02).all()
    assert (size[absent] < 0.006).all()


def test_orders_of_a_product_are_what_it_multiplies(recorded):
    """In the directions that the states take; the others are left at 0."""
    circuit, data = recorded("quadratic")
    measure = orders.measure_of(data["rates"], data["velocity"], circuit.network.alpha)
    seen = measure.onto @ measure.states
    ((_, square),) = circuit.network.products
    np.testing.assert_allclose(data["true_orders"][1], seen @ circuit.network.W_gain, atol=1e-9)
    np.testing.assert_allclose(data["true_orders"][2], seen @ square, atol=1e-9)
    np.testing.assert_allclose(data["true_orders"][3], 0, atol=1e-9)


def test_hidden_units_are_in_equilibrium(recorded):
    """Stepped long enough at a held state and input, they are where `hidden_states` puts them; also with feedback."""
    circuit, data = recorded("even")
    rng, net = np.random.default_rng(0), circuit.network
    W = net.W.copy()
    W[N:, N:] = 0.05 * rng.standard_normal((len(W) - N,) * 2) / 9
    net = net._replace(W=W)
    measure = orders.measure_of(data["rates"], data["velocity"], net.alpha)
    s = orders.hidden_states(net, measure)
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
    rate = lambda v, g: network.step(net, u, np.array([[v, g]]))[0]  # noqa: E731
    np.testing.assert_array_equal(rate(2.0, 0.0), rate(0.0, 1.0))
    np.testing.assert_allclose(rate(2.0, 1.0), rate(-1.0, -2.0))
    assert np.abs(rate(2.0, 1.0) - rate(0.0, 0.0)).max() > 0.01


def test_bump_rises_with_speed_whichever_way(recorded):
    circuit, _ = recorded("even")
    v = np.array([0.0, 1.5, -1.5])[:, None, None]
    rates = cann.simulate(circuit, np.repeat(v, 100, 1), np.zeros((3, 1)))[:, -1, :N]
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


# ---- reading them off -------------------------------------------------------------------------------------------


def recording(data):
    return recordings.Recording(data["rates"], data["velocity"], data["dt"], None, data["tau"])


@pytest.fixture(scope="module")
def read(recorded):
    """Orders read off a circuit's own network, or off a net given, with their scores."""

    def once(name, net=None, trials=30, steps=300):
        circuit, data = recorded(name, trials, steps)
        rec, places = recording(data), RING.places(N)
        found = relations.read_off(net or circuit.network, rec, RING)
        return found, relations.scores(found, {"orders": data["true_orders"]}, RING, places)

    return once


def test_direct_description_finds_what_the_velocity_multiplies(recorded):
    circuit, data = recorded("quadratic", 30, 300)
    found = direct.fit(recording(data), circuit.network.alpha, orders.powers_of(1))
    measure = orders.measure_of(data["rates"], data["velocity"], circuit.network.alpha)
    fitted = orders.expansion(found.net, measure)
    for k in (0, 1, 2):
        assert connectivity.correlation(fitted[k], data["true_orders"][k]) > 0.9
    assert np.linalg.norm(fitted[3]) * measure.size[3] < 0.01 * np.linalg.norm(fitted[0])
    assert found.left.sd == pytest.approx(0.02, rel=0.1)
    assert found.left.noise == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("name", "there"), [("even", [1, 2]), ("saturating", [1, 3])])
def test_orders_of_a_circuit_are_read_off_its_own_network(read, name, there):
    found, scores = read(name)
    assert str(found["orders_description"]) == "hidden"
    assert float(found["orders_noise"]) == pytest.approx(0.02, rel=0.05)
    assert found["orders_shown"].tolist() == [k in (0, *there) for k in range(4)]
    for k in there:
        assert scores["r_orders"][k] > 0.9
        assert scores["orders_slope"][k] == pytest.approx(1, abs=0.03)
        assert scores["orders_coverage"][k] >= 0.9
        size, se = (np.sqrt(np.mean(found[name][k] ** 2)) for name in ("orders_profile", "orders_profile_se"))
        assert se < 0.35 * size
    for k in set(range(1, 4)) - set(there):
        assert np.isnan(scores["r_orders"][k])
        assert found["orders_size"][k] < 0.01


@pytest.mark.parametrize(("name", "there"), [("quadratic", [1, 2]), ("product", [4])])
def test_orders_of_what_the_velocity_multiplies_are_read_off_without_hidden_units(read, recorded, name, there):
    """Offered a network that lacks the product, the test chooses the direct description."""
    net = recorded(name, 30, 300)[0].network._replace(products=(), W_gain=None)
    found, scores = read(name, net)
    assert str(found["orders_description"]) == "direct"
    assert float(found["orders_noise"]) == pytest.approx(0.02, rel=0.05)
    assert np.flatnonzero(found["orders_shown"]).tolist() == [0, *there]
    for k in there:
        assert scores["r_orders"][k] > 0.95
        assert scores["orders_slope"][k] == pytest.approx(1, abs=0.1)
        assert scores["orders_coverage"][k] >= 0.9


def test_a_second_wave_of_the_weights_is_within_the_interval():
    """The prior that continues currents to silent neurons' states shrinks it, and the interval knows."""
    circuit, places = circuits.ring(N, 20, cosine=0.11), RING.places(N)[:, 0]
    W = circuit.network.W.copy()
    W[:N, :N] += 0.02 * np.cos(2 * (places - places[:, None])) * 100 / N
    circuit = circuit._replace(network=circuit.network._replace(W=W))
    data = cann.simulate_recording(circuit, seed=1, trials=30, steps=300)
    found = relations.read_off(circuit.network, recording(data), RING)
    wrong = np.abs(found["orders_profile"] - data["true_orders"])
    assert (wrong <= 1.96 * found["orders_profile_se"])[:2].mean() > 0.9


def test_a_network_without_the_order_is_told_apart_from_one_with_it(recorded, read):
    """Speed's own neurons taken away from the network, hidden units no longer fit, and this is said."""
    net = recorded("even", 30, 300)[0].network
    W = net.W.copy()
    W[N + 40 :, :N] = 0
    found, _ = read("even", net._replace(W=W))
    assert str(found["orders_description"]) == "neither"
    assert any("trust no order" in line for line in relations.told(found))


def test_what_changes_slowly_is_told_apart_from_noise():
    rng = np.random.default_rng(0)
    noise, slow = 0.02 * rng.standard_normal((40, 500, 5)), np.zeros((40, 500, 5))
    for t in range(1, 500):
        slow[:, t] = 0.9 * slow[:, t - 1] + 0.01 * np.sqrt(1 - 0.81) * rng.standard_normal((40, 5))
    used = torch.ones(40 * 500, 5, dtype=torch.bool)
    data = lambda e: SimpleNamespace(e=torch.as_tensor(e.reshape(-1, 5)), used=used)  # noqa: E731
    alone, both = (direct.residual(data(e), (40, 500)) for e in (noise, noise + slow))
    assert alone.sd == pytest.approx(0.02, rel=0.01)
    assert alone.noise == pytest.approx(0.02, rel=0.02)
    assert both.sd == pytest.approx(np.hypot(0.02, 0.01), rel=0.02)
    assert both.noise == pytest.approx(0.02, rel=0.03)
    assert np.isnan(direct.residual(data(0.2 * noise + 4 * slow), (40, 500)).noise)  # mostly slow: cannot tell


def test_too_little_data_claim_no_order(recorded):
    circuit, data = recorded("ring", 2, 40)
    found = relations.read_off(circuit.network, recording(data), RING)
    assert not found["orders_shown"][1:].any()
    assert not found["orders"][1:].any()
    assert np.isinf(found["orders_profile_se"][1:]).all()


def test_descriptions_that_leave_the_same_are_not_told_apart(recorded, monkeypatch):
    circuit, data = recorded("even", 30, 300)
    direct_fit = direct.fit
    same = lambda *a: direct_fit(*a)._replace(left=direct.Residual(0.0212, 0.02))  # noqa: E731
    monkeypatch.setattr(direct, "fit", same)
    found = relations.read_off(circuit.network, recording(data), RING)
    assert str(found["orders_description"]) == "either"
    assert any("cannot tell which" in line for line in relations.told(found))
