"""Checkpoints: the network that runs, and what a fit needs to go on.

A file of version 2 is a dictionary:

    version   2
    model     W (units, units), W_in (D, units), b (units,): float32, units in the order recorded, hidden
              response, hidden input; with several replicas all with a leading replica axis
    args      the options it was trained with, alpha, control, input_units and response_units among them
    training  updates, seconds, moments (of Adam, for W, W_in and b), generators, and the weights as trained, where the
              last step has changed those of `model` since; wandb, the run's name there
"""

import io
import zipfile
from pathlib import Path

import torch

from nsi.errors import BadInput
from nsi.files import whole
from nsi.network import Network

VERSION = 2
NAMES = "W", "W_in", "b"
AXES = {"W": 2, "W_in": 2, "b": 1}  # without the replicas'


def write(path, weights, args, training):
    """Write a checkpoint, whole or not at all. weights: {name: tensor with its replica axis}, which is left out of
    the file where there is one replica alone. Raises: BadInput where a weight is not finite, or the disk is full."""
    if not all(value.isfinite().all() for value in weights.values()):
        raise BadInput(f"the fit diverged at update {training['updates']}: a weight is not finite")
    model = {k: v[0].clone() if len(v) == 1 else v for k, v in weights.items()}
    content = io.BytesIO()  # of a full disk, torch itself says nothing that a user could act on
    torch.save({"version": VERSION, "model": model, "args": args, "training": training}, content)
    with whole(path) as temporary:
        Path(temporary).write_bytes(content.getbuffer())


def read(path):
    """A checkpoint, read without executing what is pickled in it. Raises: BadInput where it is none, is damaged, is of
    another version, or has weights that do not fit each other."""
    if not Path(path).is_file():
        raise BadInput(f"{path}: no such file; expected a checkpoint, as `python train.py` writes")
    try:
        _inspect(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        version, weights = state.get("version", 1), state["model"]
        wrong = f"is a checkpoint of version {version!r}; expected version {VERSION}: train anew"
        if version == VERSION:
            trained = state.get("training", {}).get("trained", weights)
            wrong = _find_misfit(weights, state["args"]) or _find_misfit(trained, state["args"])
    except Exception:  # whatever torch makes of damage
        raise BadInput(f"{path}: is not a whole checkpoint; expected one that train.py wrote") from None
    if wrong:
        raise BadInput(f"{path}: {wrong}")
    return state


def networks(path, trained=False):
    """The networks in a checkpoint, or these as `trained`, before the last step. Returns: list of Network, one per
    replica, and the options. Raises: BadInput."""
    state = read(path)
    args, as_trained = state["args"], state.get("training", {}).get("trained")
    weights = with_replicas(as_trained if trained and as_trained else state["model"])
    n = weights["b"].shape[-1] - _count_hidden(args)
    arrays = zip(*(weights[name].numpy() for name in NAMES), strict=True)
    return [Network(*each, args["alpha"], n) for each in arrays], args


def with_replicas(weights):
    """Weights of a file with their replica axis, whether the file has it or not."""
    return {k: v if v.ndim > AXES[k] else v[None] for k, v in weights.items()}


def _count_hidden(args):
    """How many units stand for no recorded neuron; options of older runs name input units alone."""
    return 0 if args["control"] else args["input_units"] + args.get("response_units", 0)


def _inspect(path):
    """Raise ValueError where a file is damaged, which torch does not look for, or expands to more than it holds."""
    with zipfile.ZipFile(path) as file:
        if sum(member.file_size for member in file.infolist()) > Path(path).stat().st_size:
            raise ValueError("compressed, as torch never does")
        if file.testzip():
            raise ValueError("does not agree with its checksums")


def _find_misfit(weights, args):
    """What is wrong with a checkpoint's weights, in a clause, or nothing."""
    *replicas, size, _ = weights["W"].shape
    hidden, components = _count_hidden(args), weights["W_in"].shape[-2]
    if not 0 < args["alpha"] <= 1 or hidden > size - 1:
        return f"has {hidden} hidden units of {size} units and alpha {args['alpha']!r}; expected fewer"
    for name, axes in (("W", (size, size)), ("W_in", (components, size)), ("b", (size,))):
        value, shape = weights[name], (*replicas, *axes)
        if value.shape != shape:
            return f"{name} has shape {tuple(value.shape)}; expected {shape}"
        if value.dtype != torch.float32 or value.numel() * 4 > value.untyped_storage().nbytes():
            return f"{name} has type {value.dtype}, or not the memory for its shape; expected whole float32 tensors"
        if not value.isfinite().all():
            return f"{name} has values that are not finite; expected the weights of a fit that did not diverge"
    return ""
