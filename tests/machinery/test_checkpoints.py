"""Checkpoints: of version 2 as documented, and of version 1, made by the code before it, read and gone on with.

tests/data holds a recording and three checkpoints of version 1: v1_model.pt after 6 of 12 updates, v1_finished.pt, the
same run at its end, and v1_replicas.pt, two replicas of a control.
"""

import shlex
import shutil

import numpy as np
import pytest
import torch

import train
from model import RNN
from nsi.network import Network
from nsi.run import checkpoint
from nsi.run.files import BadInput
from tests.tools import GOOD, ROOT, TINY, call

DATA = ROOT / "tests" / "data"


def stored(name):
    return torch.load(DATA / name, weights_only=True)


@pytest.fixture
def resumed(tmp_path, monkeypatch, capsys):
    """Go on in a folder that holds a copy of a checkpoint of version 1. Returns: status, standard error, folder."""

    def run(name, *options):
        out = tmp_path / name.removesuffix(".pt")
        out.mkdir(exist_ok=True)
        if not (out / "model.pt").exists():
            shutil.copy(DATA / name, out / "model.pt")
        same = shlex.split((DATA / "v1_options.txt").read_text())
        more = ("--data", DATA / "v1_ring.npz", "--out", out, "--resume")
        return *call(train, monkeypatch, capsys, *more, *same, *options), out

    return run


@pytest.mark.parametrize("name", ["v1_model.pt", "v1_finished.pt", "v1_replicas.pt"])
def test_version_1_is_read_as_version_2(name):
    old, new = stored(name), checkpoint.read(DATA / name)
    control = old["args"]["control"]
    assert old["version"] == 1
    assert new["version"] == checkpoint.VERSION == 2
    assert new["args"] == old["args"]
    for part, before in ((new["model"], old["model"]), (new["training"].get("trained"), old.get("trained"))):
        assert (part is None) == (before is None)
        if part is None:
            continue
        for k in ("W", "b"):
            torch.testing.assert_close(part[k].reshape(before[k].shape), before[k], atol=0, rtol=0)
        driven = before["W_in"].shape[-1]
        wide = part["W_in"].reshape(*before["W_in"].shape[:-1], -1)
        assert wide.shape[-1] == before["W"].shape[-1]
        assert torch.equal(wide[..., wide.shape[-1] - driven :], before["W_in"])
        assert control or (wide[..., : wide.shape[-1] - driven] == 0).all()
    assert new["training"]["updates"] == old["updates"]
    assert new["training"]["seconds"] == old["seconds"]
    assert all(map(torch.equal, new["training"]["generators"], old["generators"]))
    for (mean, square), moments in zip(new["training"]["moments"], old["optimiser"]["state"].values(), strict=True):
        for mine, theirs in ((mean, moments["exp_avg"]), (square, moments["exp_avg_sq"])):
            assert torch.equal(mine[..., mine.shape[-1] - theirs.shape[-1] :].reshape(theirs.shape), theirs)


@pytest.mark.parametrize(("name", "replicas", "inputs"), [("v1_model.pt", 1, 6), ("v1_replicas.pt", 2, 0)])
def test_version_1_gives_networks(name, replicas, inputs):
    networks, args = checkpoint.networks(DATA / name)
    old = checkpoint.with_replicas(stored(name)["model"])
    assert len(networks) == replicas
    assert args["control"] == (not inputs)
    for k, net in enumerate(networks):
        assert isinstance(net, Network)
        assert (net.n, len(net.b), net.alpha) == (20, 20 + inputs, pytest.approx(0.2))
        np.testing.assert_array_equal(net.W, old["W"][k])
        np.testing.assert_array_equal(net.W_in[:, net.n if inputs else 0 :], old["W_in"][k])
        np.testing.assert_array_equal(net.b, old["b"][k])
        assert not inputs or (net.W_in[:, :20] == 0).all()


def close(found, expected, atol=1e-5):
    """Weights of a file of version 2 against those of version 1, whose optimiser added up in another order."""
    found, expected = checkpoint.with_replicas(found), checkpoint.with_replicas(expected)
    for k in ("W", "W_in", "b"):
        mine, theirs = found[k], expected[k]
        torch.testing.assert_close(mine[..., mine.shape[-1] - theirs.shape[-1] :], theirs, atol=atol, rtol=1e-4)


def test_run_of_version_1_goes_on_to_where_the_old_code_came(resumed):
    status, error, out = resumed("v1_model.pt")
    assert status == 0, error
    state, expected = torch.load(out / "model.pt", weights_only=True), stored("v1_finished.pt")
    assert state["version"] == 2
    assert state["training"]["updates"] == 12
    close(state["training"]["trained"], expected["trained"])
    assert state["training"]["seconds"] > stored("v1_model.pt")["seconds"]
    assert (out / "metrics.json").exists()
    assert (out / "connectivity.npz").exists()


def test_finished_run_of_version_1_keeps_what_was_trained(resumed):
    status, error, out = resumed("v1_finished.pt")
    assert status == 0, error
    state, expected = torch.load(out / "model.pt", weights_only=True), stored("v1_finished.pt")
    close(state["training"]["trained"], expected["trained"], atol=0)
    again = resumed("v1_finished.pt")  # by now of version 2
    assert again[0] == 0, again[1]
    after = torch.load(out / "model.pt", weights_only=True)["model"]
    assert all(torch.equal(after[k], state["model"][k]) for k in after)


def test_replicas_of_version_1_go_on(resumed):
    status, error, out = resumed("v1_replicas.pt", "--control", "--replicas", 2)
    assert status == 0, error
    old, state = stored("v1_replicas.pt")["model"], torch.load(out / "model.pt", weights_only=True)["model"]
    assert all(torch.equal(old[k], state[k]) for k in old)


def test_a_new_training_is_that_of_the_old_code(tmp_path, monkeypatch, capsys):
    """Weights drawn, windows drawn, gradients and updates: what the old code made from the same seed."""
    same = shlex.split((DATA / "v1_options.txt").read_text())
    out = tmp_path / "run"
    status, error = call(train, monkeypatch, capsys, "--data", DATA / "v1_ring.npz", "--out", out, *same)
    assert status == 0, error
    state, expected = torch.load(out / "model.pt", weights_only=True), stored("v1_finished.pt")
    close(state["training"]["trained"], expected["trained"])


def test_other_options_than_those_of_version_1_are_refused(resumed):
    status, error, _ = resumed("v1_model.pt", "--lr", "0.1")
    assert status == 2
    assert "was trained with lr 0.006, not 0.1; expected the same options to --resume" in error


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("replicas", [1, 3])
def test_version_2_is_as_documented(control, replicas, save, tmp_path, monkeypatch, capsys):
    path = save(GOOD | {"velocity": np.repeat(GOOD["velocity"], 2, -1)})
    out, units = tmp_path / "run", 4 if control else 7
    options = ["--data", path, "--out", out, "--replicas", replicas, *TINY, *(["--control"] if control else [])]
    status, error = call(train, monkeypatch, capsys, *options)
    assert status == 0, error
    state = torch.load(out / "model.pt", weights_only=True)
    axis = (replicas,) if replicas > 1 else ()
    assert {"version", "model", "args"} <= state.keys()
    assert state["version"] == 2
    shapes = {k: tuple(v.shape) for k, v in state["model"].items()}
    assert shapes == {"W": (*axis, units, units), "W_in": (*axis, 2, units), "b": (*axis, units)}
    assert all(v.dtype == torch.float32 for v in state["model"].values())
    assert control or (state["model"]["W_in"][..., :4] == 0).all()
    assert (state["model"]["W_in"][..., 0 if control else 4 :] != 0).all()
    networks, args = checkpoint.networks(out / "model.pt")
    assert (len(networks), args["control"], args["input_units"]) == (replicas, control, 3)
    assert args["alpha"] == 0.2
    np.testing.assert_array_equal(np.squeeze([net.W for net in networks]), state["model"]["W"])


def test_file_holds_no_more_than_its_weights(tmp_path):
    """Of one replica, the leading axis is left out, and not the memory of others kept along."""
    model = RNN(30, 30, generators=(None, None, None))
    weights = {k: getattr(model, k).detach()[:1] for k in checkpoint.NAMES}
    checkpoint.write(tmp_path / "model.pt", weights, {"alpha": 0.2, "control": False, "input_units": 30}, {})
    assert (tmp_path / "model.pt").stat().st_size < 1.3 * 4 * (60 * 60 + 2 * 60) + 4096
    assert checkpoint.read(tmp_path / "model.pt")["model"]["W"].shape == (60, 60)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    model = RNN(3, 2)
    weights = {k: getattr(model, k).detach() for k in checkpoint.NAMES}
    weights["b"][0, 1] = torch.nan
    with pytest.raises(BadInput, match="diverged at update 5: a weight is not finite"):
        checkpoint.write(tmp_path / "model.pt", weights, {}, {"updates": 5})
    assert not (tmp_path / "model.pt").exists()
