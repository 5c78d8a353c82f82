"""A run from its options to its folder: what train.py needs besides the fit."""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

from nsi import files, measures, recordings
from nsi.errors import BadInput
from nsi.run import checkpoint, folder, interruption, tracking
from nsi.run.watch import Run, Stage

BEFORE = {"response_units": 0, "assume": "", "assume_hidden": "", "favour": "direct"}  # before there were these options
ALIKE = 0.1  # heterogeneity below which W may be taken for a function of distance
PASSING = "out", "resume", "overwrite", "wandb", "device", "no_report"  # options that do not change what is fitted


# ---- before the fit ---------------------------------------------------------------------------------------------


def choose_device(name):
    """A torch device by the name of --device, `auto` being a GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("argument --device: expected cpu or auto, since torch finds no CUDA device here")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def told(options, rec):
    """The options that a checkpoint tells, of which none names a folder, and the recording's hash."""
    kept = {k: v.name if isinstance(v, Path) else v for k, v in options.items() if k not in PASSING}
    return kept | {"data_sha256": recordings.digest(rec)}


def as_begun(args):
    """Have a run go on with the assumptions it was begun with, none if it is older than they are, unless some are
    given. args: with resume, out, assume and assume_hidden."""
    path = args.out / "model.pt"
    if args.resume and path.exists():
        begun = checkpoint.read(path)["args"]
        for name in ("assume", "assume_hidden"):
            if getattr(args, name) is None:
                setattr(args, name, begun.get(name, ""))


def resume(path, options, data, rec):
    """The checkpoint to continue, or None if there is none yet; it must be of a run with the same options.

    options: `told`'s; data: the recording's file; rec: Recording, as in the file.
    """
    if not path.exists():
        return None
    state = checkpoint.read(path)
    training = state.get("training", {})
    missing = {"moments", "generators", "updates", "seconds"} - training.keys()
    if missing:
        raise BadInput(f"{path}: has no {min(missing)}; expected a checkpoint of train.py to --resume")
    done, spent = training["updates"], training["seconds"]
    if not (isinstance(done, int) and done >= 0 and isinstance(spent, float)):
        raise BadInput(f"{path}: has no count of updates and seconds; expected those of train.py")
    before = options | BEFORE | state["args"]  # an option younger than the checkpoint has nothing to differ from
    if recordings.has_digest(data, rec, before["data_sha256"]):
        before["data_sha256"] = options["data_sha256"]
    differ = [f"{k} {before[k]!r}, not {options[k]!r}" for k in options if before[k] != options[k]]
    if differ:
        raise BadInput(f"{path}: was trained with {' and '.join(differ)}; expected the same options to --resume")
    return state


@contextlib.contextmanager
def opened(args, options, rec):
    """A run's folder, its own for the length of the block, without files of an earlier fit.

    args: train.parse's; options: `told`'s; rec: Recording, as in the file. Gives: the checkpoint to continue, or None;
    W&B's run.
    Raises: BadInput where another run is in the folder, or one that does not go on with these options.
    """
    out = args.out
    with folder.alone(out):
        folder.refuse_earlier(out, args.resume, args.overwrite)  # another run may have finished since it was looked at
        state = resume(out / "model.pt", options, args.data, rec) if args.resume else None
        if state is None or state["training"]["updates"] < args.updates:
            folder.clear(out, keep=["model.pt"] if state else [])
        before = state["training"].get("wandb") if state else None
        config = options | {"out": out.name, "data_shape": list(rec.rates.shape)}
        with tracking.tracked(args.wandb, out, config, before) as run:
            try:
                yield state, run
            except interruption.Interrupted as stop:
                stop.done += "; the same command with --resume goes on"
                raise


# ---- during the fit ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(out, updates, done, options, run, scores):
    """The training's hook, a watch.Run. run: W&B's; updates, done, scores: as Run's."""
    write = lambda weights, training: checkpoint.write(out / "model.pt", weights, options, training)  # noqa: E731
    with interruption.postponed() as stopping, Run(out.name, updates, done, run, scores, write, stopping) as watch:
        yield watch


def go_on(state, model):
    """Give a model the weights of a checkpoint. state: the checkpoint, or None.

    Returns: the state of training that goes with them, or None. Raises: BadInput, saying what does not fit.
    """
    if state is None:
        return None
    training = state["training"]
    weights = training.get("trained") or checkpoint.with_replicas(state["model"])
    for name, p in zip(checkpoint.NAMES, model.weights, strict=True):
        if weights[name].shape != p.shape:
            has, expected = tuple(weights[name].shape), tuple(p.shape)
            raise BadInput(f"the checkpoint's {name} has shape {has}; expected {expected} to --resume")
        p.data.copy_(weights[name])
    return training


def restore(training, optimiser, generators):
    """Put an optimiser and generators back to where a fit saved them. Raises: BadInput."""
    try:
        optimiser.restore(training)
        for generator, saved in zip(generators, training["generators"], strict=True):
            generator.set_state(saved)
    except Exception:  # whatever torch makes of damage
        raise BadInput(
            "the checkpoint's optimiser or generators are damaged; expected those of train.py to --resume"
        ) from None


def first_divergence(before, update, gradients):
    """The first update whose gradient was not finite, or 0, on the device, which is not waited for.

    before: the same, one update ago; update: this one's number.
    """
    finite = torch.stack([g.sum() for g in gradients]).sum().isfinite()
    return torch.where(finite | (before > 0), before, update)


def refuse_divergence(update, what, lr):
    """Raise BadInput if there is an update at which something was not finite; 0 is none."""
    if update:
        raise BadInput(
            f"the fit diverged at update {update}: the {what} is not finite; "
            f"try a smaller --lr than {lr:g}, and look for outliers in the recording"
        )


def seen(losses, gradients, update, lr_now, lr):
    """What is logged of an update. losses, gradients: its; update: its number; lr_now, lr: learning rate, and its peak.

    Returns: {"loss", "gradient_norm", "lr"}. Raises: BadInput where the loss is not finite.
    """
    loss = losses.mean().item()
    refuse_divergence(0 if np.isfinite(loss) else update, "loss", lr)
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
    return {"loss": loss, "gradient_norm": norm, "lr": lr_now}


# ---- after the fit ----------------------------------------------------------------------------------------------


def keep_refined(path, options, trained, refined):
    """Put refined networks in the place of the trained ones, which stay in the file for a resumed run.

    trained, refined: lists of Network.
    """
    stacked = lambda nets: {k: torch.as_tensor(np.stack([getattr(net, k) for net in nets])) for k in checkpoint.NAMES}  # noqa: E731
    training = checkpoint.read(path)["training"] | {"trained": stacked(trained)}
    checkpoint.write(path, stacked(refined), options, training)


def write_metrics(out, metrics, finished):
    """Write metrics.json into a run's folder, whole or not at all.

    finished: whether all is measured; else standard errors follow, and a run that had them before keeps its file.
    """
    if finished or not (out / "connectivity.npz").exists():
        with files.whole(out / "metrics.json") as temporary:
            content = json.dumps(metrics | {"finished": finished}, indent=2, allow_nan=False) + "\n"
            Path(temporary).write_text(content, encoding="utf-8")


def reported(out, rec, held_out, networks, found, metrics, options, run):
    """Draw a fit's figures and its page, and show W&B the figures; what fails here has cost nothing else.

    Arguments as for `report.write`; options: `told`'s; run: W&B's.
    """
    try:
        from nsi import report  # matplotlib is slow to import

        with Stage(f"{out.name}, report"):
            paths = report.write(out, rec, held_out, networks, found, metrics, options)
    except Exception as error:
        said = f"no report, since drawing it failed ({tracking.brief(error)})"
        print(f"{out}: {said}; the same command with --resume tries again", file=sys.stderr)
        return
    tracking.show(run, paths)
    print(f"{out}: report.html says what was found, how far to trust it, and what is not determined")


def summary(metrics):
    """The lines that a run ends with: what is measured, of several replicas the mean and the range; whether there is a
    gate, and what else the recording shows; and whether single weights differ from the mean at their distance."""
    names = "r_W", "r_gate_effective", "network_r_W", "heading_error_5s", "loss", "train_seconds", "estimate_seconds"
    show = {k: measures.values_of(metrics, k) for k in names if k in metrics}
    spread = {k: f" ({min(v):.3g} to {max(v):.3g})" if len(v) > 1 else "" for k, v in show.items()}
    yield ", ".join(f"{k} {np.mean(v):.3g}{spread[k]}" for k, v in show.items() if v)
    if "verdicts" in metrics:
        verdicts = metrics["verdicts"]
        yield (
            f"gate: {verdicts['gate']} (p {metrics['gate_p']:.2g}); mechanism: {verdicts['mechanism']}; response: "
            f"{verdicts['response']}; report.html says more"
        )
    spread = [x for x in np.ravel(metrics.get("heterogeneity")) if x is not None]
    if spread:
        may, part = "may" if np.mean(spread) < ALIKE else "may not", f"{np.mean(spread):.0%} of the r.m.s. weight"
        yield f"single weights lie {part} about their mean at a distance: W {may} be taken for a function of distance"
