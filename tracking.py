"""Weights & Biases: loss curves, gradient norm and images of W for a run; offline unless a key is configured.

Nothing here asks a question, and nothing leaves the machine without a key: an offline run lies in the run's folder,
and `wandb sync` uploads it later.
"""

import hashlib
import netrc
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("WANDB_SILENT", "true")
import wandb

EVERY = 25  # updates between two looks at the loss, the only ones that wait for the device
IMAGES = 5  # pictures of W over a run


def start(args, rec, run_id=None):
    """Begin a run. args: train.py's options; rec: the recording. Returns: a wandb run (disabled ones too)."""
    mode = args.wandb
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if key_configured() else "offline")
    config = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    config["data_sha256"] = hashlib.sha256(Path(args.data).read_bytes()).hexdigest()
    config["data_shape"] = list(rec.rates.shape)
    quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True)
    return wandb.init(
        project="nsi",
        name=args.out.name,
        dir=str(args.out),
        config=config,
        mode=mode,
        id=run_id,
        resume="allow",
        settings=quiet,
    )


def own_folder(out):
    """The folder of a run: below `out`, one for each run of a W&B sweep, whose agent tells the run's id."""
    run_id = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    return out / run_id if run_id else out


def key_configured():
    """Whether this user has a key for the W&B server, in the environment or where `wandb login` keeps it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = (
        os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
        .removeprefix("https://")
        .removeprefix("http://")
        .strip("/")
    )
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return False


def log(run, update, scalars, W, last):
    """Log scalars at an update, and W as an image IMAGES times between the first update and `last`."""
    if run.disabled:
        return
    row = dict(scalars)
    if update == last or update % max(EVERY, last // IMAGES // EVERY * EVERY) == 0:
        row["W"] = wandb.Image(picture(W))
    run.log(row, step=update)


def picture(W):
    """W (units, units) as an image, red positive, blue negative, symmetric limits. Returns: (units, units, 3) uint8."""
    from matplotlib import colormaps

    limit = np.abs(W).max() or 1.0
    return (colormaps["RdBu_r"](W / limit / 2 + 0.5)[..., :3] * 255).astype(np.uint8)


def finish(run, metrics):
    """Put the final measures into the run's summary and close it."""
    run.summary.update(metrics)
    run.finish()


def advise(run, out):
    """Say how to upload an offline run."""
    if run.settings.mode == "offline":
        print(f"W&B: offline; to upload, `wandb sync {Path(run.settings.sync_dir)}`")
