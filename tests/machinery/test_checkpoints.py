"""Checkpoints are as documented, and training still gives the weights that it gave at first."""

import numpy as np
import pytest
import torch

import cann
import train
from model import RNN
from nsi.errors import BadInput
from nsi.run import checkpoint
from nsi.simulation import circuits
from tests.tools import GOOD, TINY, call

STORED = {
    "W": [
        0.009692, 0.056254, -0.034749, -0.000617, -0.003161, -0.020179, -0.008050, 0.026825, 0.034166, 0.033493,
        0.023639, 0.024297, 0.038515, 0.044630, 0.021797, -0.019458, -0.036762, -0.041974, -0.026090, 0.019821,
        0.027782, 0.024776, -0.017781, 0.036168, -0.011642, 0.040208
    ],
    "W_in": [
        -0.147495, -0.051993, 0.657545, -0.276159, 0.835757, -0.645262
    ],
    "b": [
        0.014986, 0.019959, 0.024362, 0.025922, 0.027256, 0.028629, 0.029319, 0.030014, 0.029429, 0.028411,
        0.026943, 0.026915, 0.026943, 0.027290, 0.028353, 0.027649, 0.027474, 0.027676, 0.027993, 0.017842,
        0.010208, 0.016539, 0.021187, 0.022524, 0.022558, 0.028494
    ],
}  # fmt: skip


def test_training_gives_the_stored_weights(save, tmp_path, monkeypatch, capsys):
    """STORED are weights that autograd and torch's optimiser gave with these options, W times the cosines of its
    columns' numbers: the initial weights, the windows, the gradients and the updates are still the same."""
    path = save(cann.simulate_recording(circuits.ring(20, 10), seed=0, trials=6, steps=100))
    options = ["--updates", 12, "--batch", 4, "--window", 20, "--input-units", 6, "--lr", 6e-3]
    out, options = tmp_path / "run", [*options, "--wandb", "disabled"]
    status, error = call(train, monkeypatch, capsys, "--data", path, "--out", out, *options)
    assert status == 0, error
    trained = torch.load(out / "model.pt", weights_only=True)["training"]["trained"]
    W, W_in, b = (trained[name][0].double().numpy() for name in ("W", "W_in", "b"))
    found = {"W": W @ np.cos(np.arange(26)), "W_in": W_in[0, 20:], "b": b}  # units that receive the velocity
    for name, expected in STORED.items():
        np.testing.assert_allclose(found[name], expected, atol=1e-5, rtol=1e-4, err_msg=name)


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
