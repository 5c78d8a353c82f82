"""What train.py reads, decides and refuses before it trains: nothing of torch, which takes seconds to import."""

import dataclasses
import sys
from typing import NamedTuple

import numpy as np

from nsi import geometry, recordings
from nsi.errors import BadInput
from nsi.geometry import Ring, Torus
from nsi.hidden import units
from nsi.recordings import Recording
from nsi.recordings.arrays import list_some
from nsi.run import folder, tracking

DRIVE_PENALTY = 0.003  # of the hidden units' drive, where most neurons that the velocity does not drive are recorded


class Data(NamedTuple):
    """A recording with all that is worked out from it once."""

    recording: Recording  # as in the file
    rec: Recording  # as fitted: with the velocity of other trials where a null model is asked for
    truth: dict | None  # of the circuit, for scores alone
    geometry: Ring | Torus
    places: np.ndarray  # (N, D) rad, of the training trials
    alpha: float | None  # dt / tau, None where neither the command nor the recording gives it
    train: Recording
    held_out: Recording
    held_out_index: np.ndarray


def prepare(args, settings):
    """Read the recording that the options name, and decide what the settings leave open. args: of
    settings.parse_options; settings: Settings. Returns: Data, Settings. Raises: BadInput where the recording, a setting
    or the run's folder will not do."""
    if settings.bootstrap and settings.replicas == 1:
        raise BadInput(
            "argument --bootstrap: expected --replicas of at least 2, as in `--replicas 4 --bootstrap`, since one "
            "replica has no spread; leave --bootstrap out to fit all trials once"
        )
    args.out = tracking.own_folder(args.out)
    recording = recordings.load(args.data)
    rec = recordings.shuffled(recording, settings.seed) if settings.shuffle_velocity else recording
    if not np.isfinite(rec.rates).all():
        raise BadInput(
            f"{args.data}: recorded says that neurons are missing in trials; expected all of them for a network to be "
            "trained on: `nsi.estimate` reads such a file, without a network"
        )
    truth, shape = recordings.load_truth(args.data, rec), geometry.of(rec)
    train, held_out, index = recordings.split(rec)
    refuse_short_trials((train, held_out), args.data, rec, settings.warmup + settings.window)
    alpha = settings.alpha or (rec.dt / rec.tau if rec.tau else None)
    chosen = choose_settings(settings, rec, shape, args.data)
    folder.refuse_earlier(args.out, args.resume, args.overwrite)
    if args.resume and not (args.out / "model.pt").exists():
        print(describe_missing_checkpoint(args.out), file=sys.stderr)
    places = geometry.places_of(train, shape)
    data = Data(recording, rec, truth, shape, places, alpha, train, held_out, index)
    return data, dataclasses.replace(chosen, alpha=alpha)


def choose_settings(settings, rec, shape, path):
    """Settings with what they leave to the recording; prints what a torus changes. shape: Ring or Torus; path: the
    recording's. Returns: Settings. Raises: BadInput where a setting does not go with the shape."""
    if settings.rotate and shape.dimensions > 1:
        raise BadInput(f"argument --rotate: turns windows around a ring, but {path} is of {shape.said}")
    n = rec.rates.shape[-1]
    by_shape = shape.defaults(n) | {"drive_penalty": DRIVE_PENALTY if units.few_driven(n, rec.driven) else 0.0}
    if shape.said != "a ring":
        chosen = [k for k in ("input_units", "forcing") if k in by_shape and getattr(settings, k) is None]
        remarks = [shape.said, ", ".join(f"{k.replace('_', ' ')} {by_shape[k]:g}" for k in chosen)]
        print(f"{path}: {'; '.join(filter(None, remarks))}")
    settings = settings.fill_in(by_shape)
    return dataclasses.replace(settings, **units.choose_units(n, rec.driven, rec.velocity.shape[-1], settings))


def describe_missing_checkpoint(out):
    """Say that a folder has no checkpoint, and which folders beside it have one. out: the run's folder."""
    others = sorted(path.parent.name for path in out.parent.glob("*/model.pt"))
    names = f"; runs that can be resumed in {out.parent}: {list_some(others)}" if others else ""
    return f"{out}: has no checkpoint (model.pt) to --resume, so that the fit starts from the beginning{names}"


def refuse_short_trials(parts, path, rec, shortest):
    """Raise BadInput unless the training and the held-out trials each have one of `shortest` steps."""
    longest = min(part.valid.sum(1).max(initial=0) for part in parts)
    if longest < shortest:
        raise BadInput(
            f"{path}: rates has at most {rec.valid.sum(1).max()} steps per trial, {longest} after setting "
            f"trials aside; expected at least --warmup + --window = {shortest}"
        )
