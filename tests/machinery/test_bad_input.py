"""Whatever a user gives: one sentence that names the file, the key and what was expected, and exit status 2."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cann
import train
from nsi import files, recordings
from tests.tools import GOOD, ROOT, TINY, call


def nan(array):
    array = array.copy()
    array.flat[5] = np.nan
    return array


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rates": None}, "no key 'rates'"),
        ({"dt": None}, "no key 'dt'"),
        ({"rates": GOOD["rates"][0]}, "rates has shape (40, 4); expected 3 axes (trials, steps, N)"),
        ({"velocity": GOOD["velocity"][..., 0]}, "velocity has shape (3, 40); expected 3 axes (trials, steps, D)"),
        ({"rates": nan(GOOD["rates"])}, "rates has values that are not finite"),
        ({"velocity": nan(GOOD["velocity"])}, "velocity has values that are not finite"),
        ({"velocity": GOOD["velocity"][:2]}, "velocity has shape (2, 40, 1); expected (3, 40, 'any')"),
        ({"velocity": GOOD["velocity"][:, :39]}, "velocity has shape (3, 39, 1)"),
        ({"rates": -GOOD["rates"]}, "rates has negative values"),
        ({"rates": GOOD["rates"][:0]}, "rates is empty"),
        ({"rates": 0 * GOOD["rates"]}, "rates is 0 everywhere; expected neurons that fire"),
        ({"velocity": GOOD["velocity"][..., :0]}, "velocity is empty"),
        ({"rates": np.full((3, 40, 4), "fast")}, "rates has type <U4; expected real numbers"),
        ({"rates": np.array([{}], object)}, "rates cannot be read; expected a whole array without pickles"),
        ({"dt": -0.01}, "dt is -0.01; expected seconds > 0"),
        ({"dt": 0.0}, "dt is 0; expected seconds > 0"),
        ({"dt": np.array([0.01, 0.02])}, "dt has shape (2,); expected 0 axes"),
        ({"tau": 0.001}, "tau is 0.001 s, shorter than dt"),
        ({"heading": np.zeros((3, 40, 2))}, "heading has shape (3, 40, 2); expected (3, 40, 1)"),
        ({"stimulus": np.zeros((3, 40, 5))}, "stimulus has shape (3, 40, 5); expected (3, 40, 4)"),
        ({"lengths": np.array([40, 40])}, "lengths has shape (2,)"),
        ({"lengths": np.array([40, 0, 40])}, "expected 3 of them, from 1 to 40"),
        ({"lengths": np.array([40, 41, 40])}, "expected 3 of them, from 1 to 40"),
        ({"lengths": np.array([40, 20.5, 40])}, "lengths has values that are not whole"),
        ({"lengths": np.array([10, 10, 10])}, "rates has at most 10 steps per trial"),
        ({"animal": np.array(["a", "b"])}, "animal has shape (2,); expected (3,)"),
        ({"fly": np.array(["a", "b"])}, "fly has shape (2,); expected (3,)"),
        ({"true_W": np.zeros((3, 3))}, "true_W has shape (3, 3); expected"),
        ({"true_gate": np.zeros((4, 4))}, "true_gate has shape (4, 4); expected"),
    ],
)
def test_bad_recording(changes, expected, save, tmp_path, monkeypatch, capsys):
    path = save(GOOD, **changes)
    status, error = call(train, monkeypatch, capsys, "--data", path, "--out", tmp_path / "run", *TINY)
    assert status == 2
    assert expected in error
    assert str(path) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 not quite a zip", b"\x93NUMPY", b"{}"])
def test_not_a_recording(content, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.npz"
    if content is not None:
        path.write_bytes(content)
    status, error = call(train, monkeypatch, capsys, "--data", path)
    assert status == 2
    assert f"{path}: " in error
    assert "expected" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        (cann, ["--trials", "0"], "--trials: expected a whole number of at least 1, not '0'"),
        (cann, ["--steps", "many"], "--steps: expected a whole number"),
        (cann, ["--noise", "nan"], "--noise: expected a number of at least 0, not 'nan'"),
        (cann, ["--noise", "-1"], "--noise: expected a number"),
        (cann, ["--circuit", "sideways"], "--circuit: invalid choice"),
        (cann, ["--stimulus-every", "0"], "--stimulus-every: expected a number above 0"),
        (cann, ["--stimulus-share", "1.5"], "--stimulus-share: expected a number of at least 0 and at most 1"),
        (cann, ["--out", "ring.txt"], "--out: expected a name that ends in .npz"),
        (train, ["--updates", "0"], "--updates: expected a whole number of at least 1"),
        (train, ["--alpha", "0"], "--alpha: expected a number above 0 and at most 1"),
        (train, ["--alpha", "1.5"], "--alpha: expected a number above 0 and at most 1"),
        (train, ["--lr", "inf"], "--lr: expected a number above 0"),
        (train, ["--input-units", "0"], "--input-units: expected a whole number of at least 1"),
        (train, ["--replicas", "0"], "--replicas: expected a whole number of at least 1"),
        (train, ["--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_impossible_option(script, arguments, expected, monkeypatch, capsys):
    status, error = call(script, monkeypatch, capsys, *arguments)
    assert status == 2
    assert expected in error
    assert error.count("\n") == 1


def test_trials_shorter_than_a_window(save, monkeypatch, capsys, tmp_path):
    path = save(GOOD)
    status, error = call(train, monkeypatch, capsys, "--data", path, "--out", tmp_path / "run")
    assert status == 2
    assert "expected at least --warmup + --window = 60" in error


def test_cuda_where_there_is_none(save, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = "--data", save(GOOD), "--out", tmp_path / "run", "--device", "cuda", *TINY
    status, error = call(train, monkeypatch, capsys, *options)
    assert status == 2
    assert "--device: expected cpu or auto" in error


@pytest.mark.parametrize("script", [cann, train])
def test_output_that_cannot_be_written(script, save, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / ("ring.npz" if script is cann else "run")
    more = ["--trials", 2, "--steps", 10] if script is cann else ["--data", save(GOOD), *TINY]
    status, error = call(script, monkeypatch, capsys, "--out", out, *more)
    assert status == 2
    assert "cannot be written" in error
    assert error.count("\n") == 1
    assert (tmp_path / "file").read_text() == "in the way"


def test_what_was_there_survives_a_failed_write(tmp_path):
    path = tmp_path / "ring.npz"
    path.write_bytes(b"precious")

    def fail():
        with files.whole(path) as temporary:
            Path(temporary).write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_diverging_fit_stops_with_a_sentence(save, monkeypatch, capsys, tmp_path):
    path = save(GOOD | {"rates": 1e30 * GOOD["rates"]})
    status, error = call(train, monkeypatch, capsys, "--data", path, "--out", tmp_path / "run", *TINY)
    assert status == 2
    assert "the fit diverged at update 1: the gradient is not finite" in error
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_own_recording_of_any_number_type_is_accepted(save, tmp_path, monkeypatch, capsys):
    mine = {
        "rates": np.asfortranarray(GOOD["rates"] * 10).astype(">i2"),
        "velocity": GOOD["velocity"].astype(">f8"),
        "dt": 1,
        "other": "x",
    }
    rec = recordings.load(save(mine))
    assert rec.rates.dtype == np.float32
    np.testing.assert_array_equal(rec.rates, np.asarray(mine["rates"], np.float32))
    status, error = call(train, monkeypatch, capsys, "--data", save(GOOD, dt=0.05), "--out", tmp_path / "run", *TINY)
    assert status == 0, error
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("key", ["animal", "fly"])
def test_animals_are_read_under_either_name(key, save):
    rec = recordings.load(save(GOOD, **{key: np.array(["b", "a", "b"])}))
    assert rec.animal.tolist() == [1, 0, 1]


@pytest.mark.parametrize("words", [["cann.py", "--help"], ["train.py", "--help"], ["train.py", "--data", "none.npz"]])
def test_help_and_refusals_do_not_wait_for_torch(words):
    code = (
        f"import runpy, sys\nsys.argv = {words}\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit as end:\n    status = end.code\n"
        "print(status or 0, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.split()[-2:] == ["0" if "--help" in words else "2", "False"]
