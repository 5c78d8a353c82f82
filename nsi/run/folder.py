"""A run's folder: what an earlier fit left in it, and the measures of a finished one.

From the moment a run begins, nothing of an earlier fit lies in its folder: whatever stops it then, no file there is
another fit's.
"""

import contextlib
import os
from pathlib import Path

from nsi.errors import BadInput
from nsi.files import lock_file, open_regular, read_json, remove_parts
from nsi.run import owners

FILES = "model.pt", "hidden.pt", "metrics.json", "connectivity.npz", "report.html"  # and figures/*.png


def refuse_earlier(out, resume, overwrite):
    """Raise BadInput where a folder holds the measures of an earlier fit, unless it goes on or is to be replaced."""
    if resume or overwrite or not os.path.lexists(out / "metrics.json"):
        return
    metrics, expected = read_json(out / "metrics.json"), "another --out, or --overwrite to fit anew"
    if metrics is None:
        raise BadInput(f"{out}: holds a metrics.json that cannot be read; expected {expected}")
    if metrics.get("finished", True):
        raise BadInput(f"{out}: holds a finished run; expected --resume, {expected}")
    stopped = "a run that was stopped before its connections were estimated"
    raise BadInput(f"{out}: holds {stopped}; expected --resume to finish it, {expected}")


def clear(out, keep=()):
    """Remove an earlier fit's files from a folder. keep: names that stay. Raises: BadInput where one cannot be."""
    try:
        for path in (out / name for name in {*FILES} - {*keep}):
            path.unlink(missing_ok=True)
            remove_parts(path)
        for path in out.glob("figures/*.png"):
            path.unlink()
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be removed ({error.strerror or error})") from None
    with contextlib.suppress(OSError):  # there is none, or the user keeps more in it
        (out / "figures").rmdir()


@contextlib.contextmanager
def alone(folder):
    """Make `folder` and keep other runs out of it for the length of the block; a kill lets go of it.

    Raises: BadInput where another run is in it, or where it cannot be written, before hours are spent on filling it.
    """
    path, other = Path(folder) / ".owner", None
    with contextlib.ExitStack() as stack:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open_regular(Path(folder) / ".lock", os.O_RDWR | os.O_CREAT))
            locked = lock_file(lock)
            if locked is not False:
                other = owners.claim(path, locks_work=bool(locked))
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written ({error.strerror or error})") from None
        if locked is False or (other and other.host == owners.here()):
            raise BadInput(f"{folder}: another run is writing here; expected a folder of its own")
        if other:
            raise BadInput(
                f"{folder}: process {other.pid} of {other.host} may be writing here, which cannot be checked without "
                f"file locks; expected a folder of its own, or, if that run has ended, that {path} is removed"
            )
        stack.callback(path.unlink, missing_ok=True)
        yield
