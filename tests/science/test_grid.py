"""The simulated torus of grid cells, its animal's paths, and its rate maps."""

import re

import numpy as np
import pytest

import cann
from nsi import network
from nsi.errors import BadInput
from nsi.geometry import TORUS, rate_maps
from nsi.recordings import paths
from nsi.simulation import circuits, physiology, simulate, stimulation
from nsi.simulation.heterogeneity import vary_weights
from tests.tools import call


@pytest.fixture(scope="module")
def grid():
    """A small sheet: 12 x 12 grid cells and 4 x 6 x 6 shifters."""
    return circuits.grid(12)


@pytest.fixture(scope="module")
def wide():
    """The default sheet."""
    return circuits.grid()


def test_weights_are_those_of_the_equations(grid):
    """Written out neuron by neuron."""
    net, rng = grid.network, np.random.default_rng(0)
    assert len(net.b) == 144 + 4 * 36
    wave = np.array([[1, 0], [0.5, np.sqrt(3) / 2], [-0.5, np.sqrt(3) / 2]])
    phase = lambda k, side: 2 * np.pi * np.array([k // side, k % side]) / side
    three = lambda p: np.array([p[0], p[1], p[1] - p[0]])
    for i, j in rng.integers(0, 144, (20, 2)):
        apart = three(phase(j, 12) - phase(i, 12))
        assert net.W[i, j] == pytest.approx((0.2 * np.cos(apart).mean() - 0.02) * 100 / 144)
    for sheet, e in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
        for k, j in zip(rng.integers(0, 36, 5), rng.integers(0, 144, 5), strict=True):
            back = three(phase(j, 12) - phase(k, 6))
            expected = 0.37 * (np.sin(back) * (wave @ e)).mean() * 50 / 36
            assert net.W[144 + 36 * sheet + k, j] == pytest.approx(expected)
            np.testing.assert_allclose(net.W_in[:, 144 + 36 * sheet + k], 0.04 * np.array(e))


def test_torus_is_symmetric_and_gate_is_odd(grid):
    net = grid.network
    W, gate = net.W[:144, :144], net.gate()
    np.testing.assert_allclose(W, W.T, atol=1e-12)
    for component in gate:
        np.testing.assert_allclose(component, -component.T, atol=2e-3 * np.abs(gate).max())
    np.testing.assert_allclose(net.W[:144, 144:].sum(0), 1)


def test_bump_stays_and_integrates_in_all_directions(wide):
    check = physiology.torus_physiology(wide, noise=0)
    assert check["gain"] == pytest.approx(1, abs=0.02)
    assert [mean for mean, _, _ in check["gains"]] == pytest.approx([1, 1, 1, 1], abs=0.03)
    assert check["across"] < 0.15  # 0.137 at the slowest speed, where the lattice of neurons is felt
    assert check["drift"] < 0.1
    assert check["diffusion"] == 0


def test_recording_obeys_the_equation_it_is_documented_with(grid):
    data = cann.simulate_recording(grid, trials=3, steps=150, noise=0, amplitude=1.0)
    rates = np.concatenate([data["rates"], data["hidden_rates"]], -1).astype(float)
    u = network.synaptic_state(rates, data["dt"] / data["tau"])
    current = u @ data["true_W"] + data["true_b"] + data["velocity"] @ data["true_W_in"]
    current[..., :144] += data["stimulus"]
    np.testing.assert_allclose(np.maximum(0, np.tanh(current))[:, 60:], rates[:, 60:], atol=2e-5)
    path = sum(np.multiply.outer(net_in[144 + k] * data["true_W"][:144, 144 + k], data["true_W"][144 + k, :144])
               for net_in in data["true_W_in"][:1] for k in range(144))  # fmt: skip
    np.testing.assert_allclose(data["true_gate"][0], path, atol=1e-12)


def test_heading_position_and_velocity_agree(grid):
    data = cann.simulate_recording(grid, trials=4, steps=100)
    assert data["velocity"].shape == data["heading"].shape == data["position"].shape == (4, 100, 2)
    moved = np.diff(data["position"], axis=1) * TORUS.per_metre / data["dt"]
    np.testing.assert_allclose(moved, data["velocity"][:, 1:], atol=1e-2)
    assert TORUS.distance(data["heading"], TORUS.phases(data["position"].astype(float))).max() < 1e-4
    bump = TORUS.decode(data["rates"], TORUS.places(144))
    assert TORUS.distance(bump, data["heading"]).mean() < 0.3


def test_random_walk_stays_in_its_box():
    walk = stimulation.random_walk(np.random.default_rng(0), 400, 500, 0.01, 0.3, box=1.0)
    assert walk.min() >= 0
    assert walk.max() <= 1
    assert walk.shape == (400, 501, 2)
    assert (np.diff(walk, axis=1) / 0.01).std() == pytest.approx(0.3, rel=0.03)
    counts, *_ = np.histogram2d(*walk.reshape(-1, 2).T, 4)
    assert counts.min() > 0.5 * counts.mean()  # everywhere


@pytest.mark.slow
def test_uneven_torus_moves_alike_when_balanced(grid):
    rng = np.random.default_rng(0)
    raw, balanced = (vary_weights(grid, np.random.default_rng(1), jitter=0.2, balance=b) for b in (False, True))
    assert np.std(raw.network.W[:144, :144] / grid.network.W[:144, :144]) == pytest.approx(0.2, rel=0.05)
    start, still = rng.uniform(-np.pi, np.pi, (20, 2)), np.zeros((20, 200, 2))

    def drift(circuit):
        phases = TORUS.decode(simulate(circuit, still, start)[..., :144], TORUS.places(144))
        return TORUS.distance(phases[:, -1], phases[:, 0]).mean()

    assert drift(balanced) < 0.5 * drift(raw)


def test_a_recorded_path_is_read_at_the_simulation_s_own_step(tmp_path):
    t = np.arange(0, 5, 0.02)
    x, y = np.sin(t), np.cos(t)
    np.savez(tmp_path / "a.npz", t=t + 7, x=x, y=y)
    np.savez(tmp_path / "b.npz", t=t, pos=np.stack([x, y], -1))
    np.savetxt(tmp_path / "c.csv", np.stack([t, x, y], -1), delimiter=",", header="t,x,y", comments="")
    for name in ("a.npz", "b.npz", "c.csv"):
        place = paths.read(tmp_path / name, 0.01, trials=10, steps=100)
        assert place.shape == (4, 101, 2)  # 4.98 s are four whole trials
        np.testing.assert_allclose(place[1:3].reshape(-1, 2)[5, 0], np.sin(1.05), atol=5e-3)
        np.testing.assert_array_equal(place[1, 0], place[0, -1])


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": [0, 1], "y": [0, 1]}, "no key 't'"),
        ({"t": [0, 1], "x": [0, 1]}, "no key 'y'"),
        ({"t": [0, 1, 1], "x": [0, 1, 2], "y": [0, 1, 2]}, "does not rise"),
        ({"t": [0, 0.1], "x": [0, 1], "y": [0, 1]}, "spans 0.1 s"),
        ({"t": [0, 1, 2], "pos": [[0, 1]]}, "pos|places"),
        ({"t": ["a", "b"], "x": [0, 1], "y": [0, 1]}, "real numbers"),
    ],
)
def test_a_faulty_path_is_answered_in_a_sentence(tmp_path, arrays, says):
    np.savez(tmp_path / "path.npz", **arrays)
    with pytest.raises(BadInput, match=says):
        paths.read(tmp_path / "path.npz", 0.01, 10, 100)


def test_a_faulty_csv_is_answered_in_a_sentence(tmp_path):
    (tmp_path / "path.csv").write_text("time,x,y\n0,0,0\n1,1,1\n")
    with pytest.raises(BadInput, match="t, x and y"):
        paths.read(tmp_path / "path.csv", 0.01, 10, 100)
    with pytest.raises(BadInput, match="cannot be read"):
        paths.read(tmp_path / "none.csv", 0.01, 10, 100)


T = np.arange(0, 30, 0.02)
PLACE = np.stack([0.5 + 0.4 * np.sin(T), 0.5 + 0.4 * np.cos(0.7 * T)], -1)


def table(delimiter=",", names="t,x,y", columns=(T, *PLACE.T), end="\n"):
    """A text file of some columns."""
    lines = [
        names.replace(",", delimiter),
        *(delimiter.join(f"{v:.7g}" for v in row) for row in zip(*columns, strict=True)),
    ]
    return end.join(lines) + end


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + table(),
        ("\ufeff" + table()).encode("utf-16-le"),
        table(";"),
        table(";").replace(".", ","),
        table("\t"),
        table(" ", "# t,x,y"),
        table(names=",t,x,y", columns=(np.arange(len(T)), T, *PLACE.T)),
        table(names="t,x,y", columns=(np.arange(len(T)), T, *PLACE.T)),
        table(names="y,T,x", columns=(PLACE[:, 1], T, PLACE[:, 0])),
        "# a rat\n\n% another line\n" + table().replace("\n5,", "\n# half a minute\n5,", 1),
        table(names='"t","x","y"', end="\r\n"),
        table(end=",\n"),
    ],
)
def test_text_files_as_programs_write_them_are_read(text, tmp_path, capsys):
    (tmp_path / "path.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    np.savez(tmp_path / "path.npz", t=T, pos=PLACE)
    place = paths.read(tmp_path / "path.csv", 0.01, 10, 100)
    np.testing.assert_allclose(place, paths.read(tmp_path / "path.npz", 0.01, 10, 100), atol=1e-5)
    out, error = capsys.readouterr()
    assert "a box of 0.8 x 0.8 m, mean speed 0.3" in out
    assert error == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; expected t, x and y"),
        ("t,x,y\n", "t has 0 samples"),
        (b"\xff\x00\x81" * 9, "not text in UTF-8"),
        (table() + "30,0.1\n", "line 1502 has 2 columns; expected the 3"),
        (table() + "30,0.1,lost\n", "line 1502 has 'lost'"),
        (table(names="t,x,y,y", columns=(T, *PLACE.T, T)), "each of them once"),
        (table(columns=(np.r_[T[:-1], 1e308], *PLACE.T)), r"t reaches 1e\+308"),
        (table(columns=(T, *1e300 * PLACE.T)), r"places 9e\+299"),
        (table(columns=(1000 * T, *PLACE.T)), "divide by 1000 if it is in ms"),
        (table(columns=(np.arange(len(T)), *PLACE.T)), "if it counts frames"),
    ],
)
def test_a_faulty_path_is_refused_before_anything_is_written(text, says, tmp_path, monkeypatch, capsys):
    (tmp_path / "path.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    options = "--trials", 2, "--steps", 50, "--out", tmp_path / "new" / "rat.npz"
    path = "--circuit", "grid", "--trajectory", tmp_path / "path.csv"
    status, error = call(cann, monkeypatch, capsys, *path, *options)
    assert status == 2
    assert re.search(says, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


LOST = (T > 5) & (T < 8) | (np.arange(len(T)) == 1000)


@pytest.mark.parametrize(
    ("t", "place", "says"),
    [
        (T, 100 * PLACE, "box of 80 x 80 m at 3.* cm or pixels"),
        (T, 640 * PLACE, "cm or pixels"),
        (T, 0 * PLACE, "box of 0 x 0 m at 0 m/s"),
        (T / 60, PLACE, "m/s in the mean"),
        (T, np.where(LOST[:, None], -1, PLACE), r"jump 4 times .* from or to \(-1, -1\), where it is in 150 samples"),
        (T, np.where(LOST[:, None], np.nan, PLACE), "missing once for up to 3 s, 10% of the time, first from 5 s"),
        (T[~LOST], PLACE[~LOST], "missing once"),
    ],
)
def test_implausible_paths_are_named(t, place, says, tmp_path, capsys):
    np.savez(tmp_path / "path.npz", t=t, pos=place)
    paths.read(tmp_path / "path.npz", 0.01, 2, 10)
    error = capsys.readouterr().err
    assert re.search(says, error)
    assert error.count("\n") == 1


def fields(lattice):
    """A smooth map of firing fields on a lattice (2, 2) m, over a box of 1.5 m, sampled at random."""
    where = np.random.default_rng(0).uniform(0, 1.5, (60000, 2))
    waves = where @ (2 * np.pi * np.linalg.inv(lattice))
    if lattice[0] @ lattice[1] != 0:  # hexagonal
        waves = np.concatenate([waves, waves[:, 1:] - waves[:, :1]], 1)
    return rate_maps.rate_maps(np.maximum(0, np.cos(waves).mean(1, keepdims=True)), where)


def test_grid_score_and_spacing():
    hexagonal, size = fields(0.5 * np.array([[1, 0], [-0.5, np.sqrt(0.75)]]))
    r = rate_maps.autocorrelogram(hexagonal[0])
    assert rate_maps.grid_score(r) > 1
    assert rate_maps.spacing(r) * size.mean() == pytest.approx(0.5, abs=0.02)
    assert r[len(r) // 2, len(r) // 2] == pytest.approx(1)
    square, _ = fields(0.5 * np.eye(2))
    assert rate_maps.grid_score(rate_maps.autocorrelogram(square[0])) < 0


def test_rate_maps_are_means_where_the_animal_was():
    where = np.repeat([[0.0, 0.0], [1, 1]], 20, 0)
    maps, size = rate_maps.rate_maps(np.r_[np.tile([1.0, 3], 10), np.full(20, 5.0)][:, None], where, bins=20)
    np.testing.assert_allclose([maps[0, 0, 0], maps[0, -1, -1]], [2, 5], rtol=1e-6)
    assert np.isnan(maps[0, 0, -1])
    np.testing.assert_allclose(size, 0.05)


def test_grid_cells_fire_on_a_grid(wide):
    data = cann.simulate_recording(wide, trials=30, steps=400)
    (line,) = physiology.field_report(data)
    assert "grid score" in line
    assert "spacing 0.5" in line
