"""Real flies: turn the recordings of Turner-Evans et al. 2017 into a data file.

    python -m experiments.flies.read FOLDER      # reads FOLDER/**/*.mat, writes data/fly.npz

Two-photon calcium imaging of the ellipsoid body of flies that walk on a ball in the dark: E-PG (compass) and P-EN1
(shifter) neurons at once, in two colours. Publication: eLife 2017;6:e23496, doi 10.7554/eLife.23496; recordings as the
authors released them: github.com/DanTurner-Evans/AngularVelocityData. A file holds

    GROIaveMax, RROIaveMax   (16, volumes)   F / F0 of 16 wedges of the ellipsoid body, green and red channel
    positionDat   t          (samples,)      s, of the ball's samples, some 120 a second
                  OffsetRot  (samples,)      degrees, the heading that the ball's rotation adds up to, wrapped
                  tVR        (any,)          clock ticks, 1e-4 s, of the ball's samples; the first belongs to t[0]
                  tFrameGrab (frames,)       the same clock's ticks of the imaged frames; several make one volume

*Channels.* The file name says which line drives which indicator: 60D05 labels E-PG and 37F06 P-EN1 (the publication's
Methods); the line after `6fx` has GCaMP6f, which is green, the one after `jRGC1ax` (or `jRGECO1ax`) jRGECO1a, which is
red. It ends in the condition (`Dark`; in `1x` and `2x` a visible scene turns with the fly) and the
trial's number. Of the authors' whole release `select` takes one condition and the two lines above.
*Time.* A volume is taken at its first frame, t[0] + (tFrameGrab - tVR[0]) / 1e4; volumes before the ball's first and
after its last sample are left out. Heading is interpolated there, unwrapped; velocity is its derivative (central
differences). All trials get the same time step: those of another than the most have are refused, left out or resampled.
*Scale.* Each wedge is scaled in each trial so that its 5th to 99th percentile spans 0 to 0.8, the range of the
network's rates, and clipped at 0 and 0.96: baseline and gain of each wedge are not known otherwise.
*Trials* differ in length by a few volumes: `lengths` says by how many, and no data are lost. `animal` names the flies.
P-EN1, scaled alike, goes to `held_out_rates`, which no fit reads.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np

from experiments import matlab
from nsi import recordings
from nsi.errors import BadInput
from nsi.recordings import HIGH_RATE
from nsi.recordings.arrays import pad_trials
from nsi.run import cli

NAME = re.compile(r"(Fly\d+)_.*?6fx([A-Za-z0-9]+)_jRG(?:C|ECO)1ax([A-Za-z0-9]+)_([A-Za-z0-9.]+?)(?:_\d+)?\.mat")
COMPASS, SHIFTERS = "60D05", "37F06"
STEP_TOLERANCE = 0.01  # share by which trials' time steps may differ and still be one
LOW_PERCENTILE = 5  # that becomes a rate of 0
HIGH_PERCENTILE = 99  # that becomes HIGH_RATE
MAX_RATE = 0.96  # where rates are cut off
TICK_S = 1e-4  # s
BALL = "t", "OffsetRot", "tVR", "tFrameGrab"  # of positionDat


def read_file(path):
    """Read a .mat file. Returns: green, red (16, volumes), and the ball's arrays, a dict.

    Raises: BadInput where it is not such a recording.
    """
    file = matlab.read_variables(path, ("GROIaveMax", "RROIaveMax", "positionDat"), squeeze=True)
    try:
        green, red = (np.asarray(file[k], float) for k in ("GROIaveMax", "RROIaveMax"))
        ball = {k: np.ravel(file["positionDat"][k].item()).astype(float) for k in BALL}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise BadInput(f"{path}: expected {', '.join(('GROIaveMax', 'RROIaveMax', *BALL))} in it") from None
    frames, sizes = len(ball["tFrameGrab"]), {x.shape for x in (green, red)}
    if sizes != {(16, green.shape[-1])} or frames == 0 or frames % green.shape[-1]:
        raise BadInput(
            f"{path}: GROIaveMax {green.shape}, RROIaveMax {red.shape} and {frames} frames do not agree; "
            "expected (16, volumes) twice and the same number of frames for each volume"
        )
    if len(ball["t"]) != len(ball["OffsetRot"]) or len(ball["tVR"]) == 0:
        raise BadInput(f"{path}: t, OffsetRot and tVR do not agree; expected one heading for each time")
    if not all(np.isfinite(x).all() for x in (green, red, *ball.values())):
        raise BadInput(f"{path}: has values that are not finite; expected finite numbers")
    for key in ("t", "tFrameGrab"):
        if (np.diff(ball[key]) <= 0).any():
            raise BadInput(f"{path}: {key} does not rise at {(np.diff(ball[key]) <= 0).sum()} of its {len(ball[key])} "
                           "values; expected one clock")  # fmt: skip
    return green, red, ball


def read_trial(path):
    """One trial, aligned in time. path: of the .mat file.

    Returns: dict of fly (str), time (T,) s, heading (T,) rad, unwrapped, and rates and held_out_rates (T, 16).
    Raises: BadInput where it is not such a recording.
    """
    name = named(path)
    if {name[2], name[3]} != {COMPASS, SHIFTERS}:
        raise BadInput(f"{path}: is of lines {name[2]} and {name[3]}; expected {COMPASS} and {SHIFTERS}")
    green, red, ball = read_file(path)
    planes = len(ball["tFrameGrab"]) // green.shape[1]
    time = ball["t"][0] + (ball["tFrameGrab"][::planes] - ball["tVR"][0]) * TICK_S
    tracked = (time >= ball["t"][0]) & (time <= ball["t"][-1])
    if tracked.sum() < 2:
        raise BadInput(f"{path}: was imaged while the ball was not recorded; expected them at the same time")
    channel = {name[2]: green, name[3]: red}
    return {
        "fly": f"{path.parent.name}_{name[1]}",
        "time": time[tracked],
        "heading": np.interp(time[tracked], ball["t"], np.unwrap(np.deg2rad(ball["OffsetRot"]))),
        "rates": scaled(channel[COMPASS].T[tracked]),
        "held_out_rates": scaled(channel[SHIFTERS].T[tracked]),
    }


def scaled(fluorescence):
    """Each wedge from LOW_PERCENTILE to HIGH_PERCENTILE onto 0 to HIGH_RATE, within 0 and MAX_RATE.

    fluorescence: (steps, 16). Returns: the same."""
    low, high = np.percentile(fluorescence, [LOW_PERCENTILE, HIGH_PERCENTILE], axis=0)
    return np.clip(HIGH_RATE * (fluorescence - low) / np.maximum(high - low, 1e-12), 0, MAX_RATE)


def assemble(trials):
    """Trials of `read_trial` as a data file, padded with zeros. Returns: dict of arrays (see data/README.md)."""
    dt = float(np.median([np.median(np.diff(t["time"])) for t in trials]))
    for t in trials:
        t["velocity"] = np.gradient(t["heading"], t["time"])[:, None]
        t["heading"] = (t["heading"] % (2 * np.pi))[:, None]
    arrays = pad_trials(trials, ["rates", "velocity", "heading", "held_out_rates"])
    return arrays | {"dt": dt, "animal": np.array([t["fly"] for t in trials])}


def named(path):
    """Parse a file's name: fly, the green and the red line, condition. Returns: a match. Raises: BadInput."""
    name = NAME.fullmatch(path.name)
    if not name or name[2] == name[3]:
        raise BadInput(f"{path}: expected a name like Fly1_9day_6fx37F06_jRGC1ax60D05_Dark_00001.mat")
    return name


def select(folder, condition="Dark", days=None):
    """The files of one condition, of the lines that are read, and of some days (folders' names), or of all.

    A Mac's `._` files are left out. Returns: paths, and {why: count} of the files left out.
    Raises: BadInput where none is left, or a day is not there.
    """
    paths, chosen, left = [p for p in sorted(folder.rglob("*.mat")) if not p.name.startswith("._")], [], Counter()
    if not paths:
        raise BadInput(f"{folder}: has no .mat files; expected the folder PEN1-EB of the authors' release")
    missing = set(days or ()) - {path.parent.name for path in paths}
    if missing:
        raise BadInput(f"{folder}: has no folder {min(missing)}; expected one for each of --days")
    for path in paths:
        name = named(path)
        if days and path.parent.name not in days:
            left["of other days"] += 1
        elif {name[2], name[3]} != {COMPASS, SHIFTERS}:
            left[f"of lines {name[2]} and {name[3]}"] += 1
        elif name[4] != condition:
            left[f"of condition {name[4]}"] += 1
        else:
            chosen.append(path)
    if not chosen:
        raise BadInput(f"{folder}: has no files of condition {condition}; it has {format_counts(left)}")
    return chosen, left


def format_counts(counts):
    """Counts in words."""
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def of_one_step(trials, others="refuse"):
    """Trials of the time step that the most have, and what becomes of the others. trials: of `read_trial`.

    others: "refuse"; "leave" them out; or "resample", linearly. Returns: trials, {why: count}. Raises: BadInput.
    """
    steps = np.array([np.median(np.diff(t["time"])) for t in trials])
    alike = np.abs(steps / steps[:, None] - 1) < STEP_TOLERANCE
    usual = alike[np.argmax(alike.sum(1))]
    dt, kinds = float(np.median(steps[usual])), Counter(f"of {s:.4f} s a step" for s in steps[~usual])
    if kinds and others == "refuse":
        raise BadInput(
            f"trials of {usual.sum()} files have {dt:.4f} s a step, but {format_counts(kinds)}; expected one time step "
            "for all: --other-steps leave, or --other-steps resample"
        )
    if others == "leave":
        return [t for t, same in zip(trials, usual, strict=True) if same], kinds
    return [t if same else _resampled(t, dt) for t, same in zip(trials, usual, strict=True)], kinds


def _resampled(trial, dt):
    time = np.arange(trial["time"][0], trial["time"][-1], dt)
    at = lambda x: np.interp(time, trial["time"], x)
    columns = {k: np.stack([at(x) for x in trial[k].T], -1) for k in ("rates", "held_out_rates")}
    return trial | columns | {"time": time, "heading": at(trial["heading"])}


def read_folder(folder, condition="Dark", days=None, others="refuse"):
    """All trials under a folder that `select` and `of_one_step` take. Returns: dict of arrays (see recordings), and
    {why: count} of the files left out or resampled. Raises: BadInput."""
    paths, left = select(folder, condition, days)
    trials, changed = of_one_step([read_trial(path) for path in paths], others)
    return assemble(trials), left + changed


def main():
    p = cli.Parser(__doc__.splitlines()[0])
    p.add_argument("folder", type=Path, help="with the authors' .mat files, one folder per day, as in PEN1-EB")
    p.add_argument("--out", type=Path, default="data/fly.npz", help="the data file")
    p.add_argument("--condition", default="Dark", help="of the trials: Dark, 1x or 2x")
    p.add_argument("--days", nargs="+", metavar="DAY", help="folders to read (default: all), e.g. those of the page")
    p.add_argument("--other-steps", choices=["refuse", "leave", "resample"], default="refuse",
                   help="what becomes of trials of another time step than the most have")  # fmt: skip
    args = p.parse_args()
    data, left = read_folder(args.folder, args.condition, args.days, args.other_steps)
    recordings.save(args.out, **data)
    lengths, count = data["lengths"], len(set(data["animal"]))
    steps = f"{lengths.min()} to {lengths.max()} steps of {data['dt']:.4f} s"
    print(f"{args.out}: {len(lengths)} trials of {count} flies, {steps}")
    days = Counter(name.rsplit("_", 1)[0] for name in sorted(set(data["animal"])))
    print(f"  condition {args.condition}, days " + ", ".join(f"{day} ({k} flies)" for day, k in days.items()))
    if left:
        verb = "resampled" if args.other_steps == "resample" else "left out"
        print(f"  left out, or of another time step and {verb}: {format_counts(left)}")


if __name__ == "__main__":
    cli.run(main)
