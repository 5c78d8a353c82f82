"""What train.py reads, decides and refuses before it trains: nothing of torch, which takes seconds to import."""

import argparse
import sys
from typing import NamedTuple

import numpy as np

from nsi import geometry, recordings
from nsi.errors import BadInput
from nsi.geometry import Ring, Torus
from nsi.recordings import Recording
from nsi.run import folder, tracking


class Given(NamedTuple):
    """What there is to fit."""

    args: argparse.Namespace
    recording: Recording  # as in the file
    rec: Recording  # as fitted: where a null model is asked for, with the velocity of other trials
    truth: dict | None  # of the circuit, for scores alone
    shape: Ring | Torus
    alpha: float | None  # dt / tau, None where neither the command nor the recording gives it
    train: Recording
    held_out: Recording
    index: np.ndarray  # of the trials held out


def given(args):
    """Read the recording that the options name, and decide what they leave open. args: train.parse's, changed in place.

    Returns: Given. Raises: BadInput where the recording, an option or the run's folder will not do.
    """
    if args.bootstrap and args.replicas == 1:
        raise BadInput(
            "argument --bootstrap: expected --replicas of at least 2, as in `--replicas 4 --bootstrap`, since one "
            "replica has no spread; leave --bootstrap out to fit all trials once"
        )
    args.out = tracking.own_folder(args.out)
    recording = recordings.load(args.data)
    rec = recordings.shuffled(recording, args.seed) if args.shuffle_velocity else recording
    truth, shape, alpha = recordings.load_truth(args.data, rec), geometry.of(rec), decide_alpha(args, rec)
    train, held_out, index = recordings.split(rec)
    long_enough((train, held_out), args.data, rec, args.warmup + args.window)
    decide(args, shape, rec.rates.shape[-1])
    folder.refuse_earlier(args.out, args.resume, args.overwrite)
    if args.resume and not (args.out / "model.pt").exists():
        print(nothing_to_resume(args.out), file=sys.stderr)
    return Given(args, recording, rec, truth, shape, alpha, train, held_out, index)


def nothing_to_resume(out):
    """Say that a folder has no checkpoint, and which folders beside it have one. out: the run's folder."""
    begun = sorted(path.parent.name for path in out.parent.glob("*/model.pt"))
    names = f"; runs that can be resumed in {out.parent}: {', '.join(begun[:5])}" if begun else ""
    more = f" and {len(begun) - 5} more" if len(begun) > 5 else ""
    return f"{out}: has no checkpoint (model.pt) to --resume, so that the fit starts from the beginning{names}{more}"


def long_enough(parts, path, rec, shortest):
    """Raise BadInput unless the training and the held-out trials each have one of `shortest` steps."""
    longest = min(part.valid.sum(1).max(initial=0) for part in parts)
    if longest < shortest:
        raise BadInput(
            f"{path}: rates has at most {rec.valid.sum(1).max()} steps per trial, {longest} after setting "
            f"trials aside; expected at least --warmup + --window = {shortest}"
        )


def decide_alpha(args, rec):
    """Fill in the alpha, dt / tau, that networks are trained with: where neither the command nor the recording gives
    it, the published one. Returns: alpha, or None where it is not given, for the estimate to find."""
    given = args.alpha or (rec.dt / rec.tau if rec.tau else None)
    args.alpha = given or 0.2
    return given


def decide(args, shape, n):
    """Fill in the options that the file decides, and say so where it is not the usual ring.

    args: train.parse's, changed in place; shape: geometry.of's; n: number of neurons.
    Raises: BadInput where an option does not go with the shape.
    """
    defaults = {k: v for k, v in shape.defaults(n).items() if getattr(args, k) is None}
    vars(args).update(defaults)
    if args.rotate and shape.dimensions > 1:
        raise BadInput(f"argument --rotate: turns windows around a ring, but {args.data} is of {shape.said}")
    if shape.said != "a ring":
        chosen = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in defaults.items())
        print(f"{args.data}: {shape.said}{f'; {chosen}' if chosen else ''}")
