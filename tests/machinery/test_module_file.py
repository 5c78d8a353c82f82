"""A module of grid cells: the reader, on a session made up in the file's layout, and on files that are none."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from experiments.grid import read
from nsi import geometry, recordings
from nsi.errors import BadInput
from nsi.geometry import TORUS
from nsi.recordings import quality
from tests.tools import call


@pytest.fixture
def path(tmp_path, module_session):
    np.savez(tmp_path / "day.npz", **module_session()[0])
    return tmp_path / "day.npz"


def test_reader_counts_cuts_and_finds_the_spacing(path, module_session, tmp_path, monkeypatch, capsys):
    phases, out = module_session()[1], tmp_path / "module.npz"
    monkeypatch.setattr("sys.argv", ["read.py", str(path), "--start", "1000", "--stop", "1500", "--out", str(out)])
    read.main()
    said = capsys.readouterr().out
    assert "80 cells" in said
    assert "spacing 0.5" in said
    rec = recordings.load(out)
    assert list(quality.find_warnings(rec, out, 0.2, 60)) == []
    assert rec.dt == pytest.approx(0.02)
    assert rec.heading is None
    assert rec.valid.sum() * rec.dt == pytest.approx(490, abs=12)  # 10 s without a rat, and what is cut beside them
    assert np.quantile(rec.rates[rec.valid], 0.99, axis=0) == pytest.approx(0.8, abs=0.01)
    shape = geometry.of(rec)
    assert shape.dimensions == 2, shape.said
    errors = []
    for M in geometry.SYMMETRIES:
        turned = shape.known @ M.T
        offset = np.angle(np.exp(1j * (phases - turned)).mean(0))
        errors.append(TORUS.distance(turned + offset, phases).mean())
    assert min(errors) < 0.3


def test_module_and_spacing_are_options(path):
    data, spacing = read.read(path, module=2, spacing=0.7)
    assert spacing == 0.7
    assert data["rates"].shape[-1] == 1  # cells without spikes are left out
    other = read.read(path, module=2, spacing=0.35)[0]
    np.testing.assert_allclose(2 * data["velocity"], other["velocity"], rtol=1e-5)


class Harm:
    """What a pickle can do."""

    def __reduce__(self):
        return print, ("harm",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"spikes_mod1": None}, "no key 'spikes_mod1'"),
        ({"x": None}, "no key 'x'"),
        ({"x": np.zeros(3)}, r"shapes .* \(3,\)"),
        ({"t": np.zeros(50000)}, "does not rise"),
        ({"spikes_mod1": np.array({0: Harm()}, dtype=object)}, "spikes_mod1 cannot be read"),
        ({"spikes_mod1": np.array([{}, {}], dtype=object)}, "spikes_mod1 cannot be read"),
        ({"spikes_mod1": np.array({0: ["a"]}, dtype=object)}, "something else than spike times"),
        ({"spikes_mod1": np.array({0: np.array([9e9])}, dtype=object)}, "no cell of spikes_mod1"),
    ],
)
def test_other_files_are_refused_in_a_sentence(change, says, module_session, tmp_path, capsys):
    arrays = {k: v for k, v in (module_session()[0] | change).items() if v is not None}
    np.savez(tmp_path / "day.npz", **arrays)
    with pytest.raises(BadInput, match=says):
        read.read(tmp_path / "day.npz")
    assert "harm" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t * 1000, "t goes on by 10 .* divide by 1000 if it is in ms$"),
        (lambda t: np.r_[t[:25000], t[:25000]], "t falls 1 times, first from 1249.99 to 1000 s"),
        (lambda t: t * 1e300, "expected a session"),
        (lambda t: t * np.nan, "0 moments"),
    ],
)
def test_clocks_of_other_units_or_that_start_again_are_refused(change, says, module_session, tmp_path):
    arrays = module_session()[0]
    np.savez(tmp_path / "day.npz", **arrays | {"t": change(arrays["t"])})
    with pytest.raises(BadInput, match=says):
        read.read(tmp_path / "day.npz", spacing=0.5)


def test_a_stray_time_takes_no_memory_and_repeated_times_are_read(module_session, path, tmp_path):
    arrays = module_session()[0]
    whole = read.read(path, spacing=0.5)[0]
    t = arrays["t"].copy()
    t[-1] = 1e15
    np.savez(tmp_path / "stray.npz", **arrays | {"t": t})
    stray = read.read(tmp_path / "stray.npz", spacing=0.5)[0]
    assert stray["lengths"].sum() == pytest.approx(whole["lengths"].sum(), abs=10)
    np.savez(tmp_path / "held.npz", **{k: np.repeat(v, 2) if v.dtype != object else v for k, v in arrays.items()})
    paused = read.read(tmp_path / "held.npz", spacing=0.5)[0]
    np.testing.assert_array_equal(paused["rates"], whole["rates"])


def test_impossible_places_are_named_before_the_maps_are_asked(module_session, tmp_path, capsys):
    arrays = module_session()[0]
    x, y = arrays["x"].copy(), arrays["y"].copy()
    x[3000:3100] = y[3000:3100] = -1
    np.savez(tmp_path / "day.npz", **arrays | {"x": x, "y": y})
    data = read.read(tmp_path / "day.npz", spacing=0.5)[0]
    assert data["position"].min() > -0.1
    assert "jump 2 times by up to 2.86 m from one sample to the next, from or to (-1, -1)" in capsys.readouterr().err
    x[5] = 1e300
    np.savez(tmp_path / "day.npz", **arrays | {"x": x})
    with pytest.raises(BadInput, match=r"places 1e\+300"):
        read.read(tmp_path / "day.npz")


def test_another_session_is_asked_for(path):
    with pytest.raises(BadInput, match="0 moments from 3000"):
        read.read(path, start=3000)


def test_cells_without_a_grid_show_no_spacing(path, tmp_path, module_session, monkeypatch, capsys):
    arrays = module_session()[0]
    spikes = {0: np.random.default_rng(0).uniform(1000, 1500, 3000)}
    np.savez(tmp_path / "other.npz", **arrays | {"spikes_mod1": np.array(spikes, dtype=object)})
    status, error = call(read, monkeypatch, capsys, tmp_path / "other.npz", "--out", tmp_path / "module.npz")
    assert status == 2
    assert "expected --spacing" in error
    assert error.count("\n") == 1


def test_pickles_of_older_protocols_are_read(module_session, tmp_path):
    arrays = dict(module_session()[0])
    spikes = arrays.pop("spikes_mod1")
    np.savez(tmp_path / "day.npz", **arrays)
    for protocol in (2, 5):
        content = io.BytesIO()
        npy.write_array_header_1_0(content, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(spikes, content, protocol=protocol)
        old = tmp_path / f"old{protocol}.npz"
        old.write_bytes((tmp_path / "day.npz").read_bytes())
        with zipfile.ZipFile(old, "a") as file:
            file.writestr("spikes_mod1.npy", content.getvalue())
        assert read.read(old, spacing=0.5)[0]["rates"].shape[-1] == 80
