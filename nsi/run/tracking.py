"""Weights & Biases: loss curves, gradient norm and images of W for a run; offline unless a key is configured.

Nothing here asks a question, and nothing leaves the machine without a key: an offline run lies in the run's folder,
and `wandb sync` uploads it later.
"""

import contextlib
import netrc
import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else a server that hangs delays the end

EVERY = 25  # updates between two logs of the loss, the only ones that wait for the device
IMAGES = 5  # pictures of W over a run
ANSWER, UPLOAD = 10, 30  # s, how long a server is waited for at the start and at the end


class Disabled:
    """A run of which nothing is kept."""

    disabled, id = True, None


@contextlib.contextmanager
def tracked(mode, out, config, run_id=None):
    """A run for the length of the block, which no server, key or home directory can keep from going on.

    mode: of --wandb; out: the run's folder; config: what it was started with; run_id: of the run to continue.
    Gives: a wandb run, or Disabled.
    """
    run = start(mode, out, config, run_id)
    status = 1
    try:
        yield run
        status = 0
    finally:
        try:
            if not run.disabled:
                run.finish(exit_code=status)
        except Exception as error:
            print(f"W&B: not all is uploaded ({brief(error)}); to do so, `{upload_command(run)}`")


def start(mode, out, config, run_id):
    """Begin a run, offline where the server refuses or does not answer, and disabled where that fails too."""
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if key_configured() else "offline")
    if mode == "disabled":
        return Disabled()
    import wandb  # slow to import

    os.environ.setdefault("WANDB_CACHE_DIR", str(out.absolute() / "wandb" / "cache"))  # there may be no home
    why = ""
    for possible in dict.fromkeys((mode, "offline")):
        try:
            run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or "nsi", name=os.environ.get("WANDB_NAME") or out.name,
                dir=str(out), config=config, mode=possible, id=run_id, resume="allow",
                settings=wandb.Settings(
                    silent=True, console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True,
                    init_timeout=ANSWER, login_timeout=ANSWER, finish_timeout=UPLOAD, finish_timeout_raises=True,
                ),
            )  # fmt: skip
        except Exception as error:  # its own errors, its settings', its service's
            why = f", since {possible} failed ({brief(error)})"
        else:
            if run.settings.mode == "offline":
                print(f"W&B: offline{why}; to upload, `{upload_command(run)}`")
            return run
    print(f"W&B: disabled{why}")
    return Disabled()


def upload_command(run):
    """The command that uploads a run: the folders of all of its parts, in the order in which they were written."""
    last = Path(run.settings.sync_dir)
    parts = sorted({*last.parent.glob(f"offline-run-*-{run.id}"), last}, key=lambda part: part.name.split("run-", 1)[1])
    return shlex.join(["wandb", "sync", *map(str, parts)])


def brief(error):
    """An error in a few words."""
    return " ".join(str(error).split())[:90] or type(error).__name__


def own_folder(out):
    """The folder of a run: below `out`, one for each run of a W&B sweep, whose agent tells the run's id."""
    run_id = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    return out / run_id if run_id else out


def key_configured():
    """Whether this user has a key for the W&B server, in the environment or where `wandb login` keeps it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    with contextlib.suppress(OSError, RuntimeError, ValueError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    return False


def log(run, update, scalars, W, last):
    """Log scalars at an update, and W as an image IMAGES times between the first update and `last`."""
    images = {}
    if update == last or update % max(EVERY, last // IMAGES // EVERY * EVERY) == 0:
        x = W / (np.abs(W).max() or 1.0)  # red positive, blue negative, symmetric limits
        images["W"] = (255 * np.stack([1 + x.clip(max=0), 1 - np.abs(x), 1 - x.clip(min=0)], -1)).astype(np.uint8)
    _send(run, scalars, images, step=update)


def show(run, paths):
    """Add PNG files to the run, as they are."""
    _send(run, {}, {f"figures/{path.stem}": str(path) for path in paths})


def _send(run, scalars, images, **step):
    """Log numbers and images: arrays or files. A service that has died is reported at the end."""
    if not run.disabled:
        import wandb

        with contextlib.suppress(Exception):
            run.log(scalars | {name: wandb.Image(image) for name, image in images.items()}, **step)


def summarise(run, metrics):
    """Put the final measures into the run's summary."""
    if not run.disabled:
        with contextlib.suppress(Exception):
            run.summary.update(metrics)
