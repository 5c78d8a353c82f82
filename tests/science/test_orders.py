"""Orders of the input-response relation: circuits whose orders are known, and what is read off."""

import numpy as np
import pytest

import cann
from nsi import circuits, network, orders, recordings
from nsi.geometry import RING

N = 40
SMALL = {"ring": {}, "even": {}, "saturating": {}, "holding": {}}


@pytest.fixture(scope="module")
def recorded():
    """Small recordings of the circuits of higher order. Returns: a function that makes each once."""
    made = {}

    def make(name, trials=10, steps=200):
        if name not in made:
            small = {"shifters": 20} if name in SMALL else {}
            circuit = circuits.CIRCUITS[name](N, **small)
            made[name] = circuit, cann.simulate_recording(circuit, seed=1, trials=trials, steps=steps)
        return made[name]

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
        np.testing.assert_allclose(s[point], u[:, N:], atol=1e-5)


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
