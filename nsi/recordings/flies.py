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

*Channels.* The file name tells which line drives which indicator: 60D05 labels E-PG and 37F06 P-EN1 (the publication's
Methods); the line after `6fx` has GCaMP6f, which is green, the one after `jRGC1ax` jRGECO1a, which is red.
*Time.* A volume is taken at its first frame, t[0] + (tFrameGrab - tVR[0]) / 1e4; volumes before the ball's first and
after its last sample are left out. Heading is interpolated there, unwrapped; velocity is its derivative (central
differences). All trials get the same time step, since their volumes' differ by less than 1e-4 s.
*Scale.* Each wedge is scaled in each trial so that its 5th to 99th percentile spans 0 to 0.8, the range of the
network's rates, and clipped at 0 and 0.96: baseline and gain of each wedge are not known otherwise.
*Trials* differ in length by a few volumes: `lengths` says by how many, and no data are lost. `animal` names the flies.
P-EN1, scaled alike, goes to `held_out_rates`, which no fit reads.
"""

import re

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from nsi.run.files import BadInput

NAME = re.compile(r"(Fly\d+)_.*6fx(37F06|60D05)_jRGC1ax(37F06|60D05)_Dark")
LOW, HIGH, TOP, CLIP = 5, 99, 0.8, 0.96  # percentiles, what the higher becomes, and where rates are cut off
TICK = 1e-4  # s
BALL = "t", "OffsetRot", "tVR", "tFrameGrab"  # of positionDat


def read_file(path):
    """What a .mat file holds. Returns: green, red (16, volumes), and the ball's arrays, a dict.

    Raises: BadInput where it is not such a recording.
    """
    try:
        file = loadmat(path, squeeze_me=True, variable_names=("GROIaveMax", "RROIaveMax", "positionDat"))
        green, red = (np.asarray(file[k], float) for k in ("GROIaveMax", "RROIaveMax"))
        ball = {k: np.ravel(file["positionDat"][k].item()).astype(float) for k in BALL}
    except (KeyError, IndexError, TypeError, ValueError, NotImplementedError, OSError, MatReadError):
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
    return green, red, ball


def read_trial(path, together=False):
    """One trial, aligned in time. path: of the .mat file; together: one baseline and gain for all its wedges.

    Returns: dict of fly (str), time (T,) s, heading (T,) rad, unwrapped, and rates and held_out_rates (T, 16).
    Raises: BadInput where it is not such a recording.
    """
    name = NAME.match(path.name)
    if not name or name[2] == name[3]:
        raise BadInput(f"{path}: expected a name like Fly1_9day_6fx37F06_jRGC1ax60D05_Dark_00001.mat")
    green, red, ball = read_file(path)
    planes = len(ball["tFrameGrab"]) // green.shape[1]
    time = ball["t"][0] + (ball["tFrameGrab"][::planes] - ball["tVR"][0]) * TICK
    seen = (time >= ball["t"][0]) & (time <= ball["t"][-1])
    if seen.sum() < 2:
        raise BadInput(f"{path}: was imaged while the ball was not recorded; expected them at the same time")
    channel = {name[2]: green, name[3]: red}
    return {
        "fly": f"{path.parent.name}_{name[1]}",
        "time": time[seen],
        "heading": np.interp(time[seen], ball["t"], np.unwrap(np.deg2rad(ball["OffsetRot"]))),
        "rates": scaled(channel["60D05"].T[seen], together),
        "held_out_rates": scaled(channel["37F06"].T[seen], together),
    }


def scaled(fluorescence, together=False):
    """Each wedge, or all together, from LOW to HIGH percentile onto 0 to TOP, within 0 and CLIP. (T, 16) to (T, 16)."""
    low, high = np.percentile(fluorescence, [LOW, HIGH], axis=None if together else 0)
    return np.clip(TOP * (fluorescence - low) / np.maximum(high - low, 1e-12), 0, CLIP)


def assemble(trials):
    """Trials of `read_trial` as a data file, padded with zeros. Returns: dict of arrays (see data/README.md)."""
    dt = float(np.median([np.median(np.diff(t["time"])) for t in trials]))
    lengths = np.array([len(t["time"]) for t in trials])
    for t in trials:
        t["velocity"] = np.gradient(t["heading"], t["time"])[:, None]
        t["heading"] = (t["heading"] % (2 * np.pi))[:, None]
    pad = lambda x: np.pad(x, ((0, lengths.max() - len(x)), (0, 0))).astype(np.float32)  # noqa: E731
    arrays = {k: np.stack([pad(t[k]) for t in trials]) for k in ("rates", "velocity", "heading", "held_out_rates")}
    return arrays | {"dt": dt, "lengths": lengths, "animal": np.array([t["fly"] for t in trials])}


def read_folder(folder):
    """All trials under a folder. Returns: dict of arrays (see recordings). Raises: BadInput."""
    paths = sorted(folder.rglob("*.mat"))
    if not paths:
        raise BadInput(f"{folder}: has no .mat files; expected the folder PEN1-EB of the authors' release")
    return assemble([read_trial(path) for path in paths])
