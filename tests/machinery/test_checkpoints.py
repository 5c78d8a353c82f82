"""Checkpoints are as documented, and training still gives the weights that it gave at first."""

import numpy as np
import pytest
import torch

import train
from model import RNN
from nsi.errors import BadInput
from nsi.run import checkpoint
from tests.tools import GOOD, ROOT, TINY, call

DATA = ROOT / "tests" / "data"


def test_training_gives_the_stored_weights(tmp_path, monkeypatch, capsys):
    """tests/data/trained.npz was trained on tests/data/ring.npz by autograd and torch's optimiser, with these options:
    the initial weights, the windows, the gradients and the updates are still the same."""
    options = ["--updates", 12, "--batch", 4, "--window", 20, "--input-units", 6, "--lr", 6e-3]
    out, options = tmp_path / "run", [*options, "--wandb", "disabled"]
    status, error = call(train, monkeypatch, capsys, "--data", DATA / "ring.npz", "--out", out, *options)
    assert status == 0, error
    trained = torch.load(out / "model.pt", weights_only=True)["training"]["trained"]
    with np.load(DATA / "trained.npz") as stored:
        for name, expected in stored.items():  # W_in of the units that receive the velocity
            np.testing.assert_allclose(trained[name][0][..., -expected.shape[-1] :], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("replicas", [1, 3])
def test_checkpoint_is_as_documented(control, replicas, save, tmp_path, monkeypatch, capsys):
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
