"""A run's folder: what an earlier fit left in it, and the measures of a finished one.

From the moment a run begins, nothing of an earlier fit lies in its folder: whatever stops it then, no file there is
another fit's.
"""

import contextlib
import json
import os

from nsi.run.files import BadInput, remove_parts

FILES = "model.pt", "hidden.pt", "metrics.json", "connectivity.npz", "report.html"  # and figures/*.png
MAX_METRICS_BYTES = 2**26


def read_metrics(folder):
    """The content of a folder's metrics.json. Returns: dict, or None where there is no such file, or a damaged one."""
    path = folder / "metrics.json"
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.is_file() and path.stat().st_size <= MAX_METRICS_BYTES:  # a pipe would be waited for
            metrics = json.loads(path.read_text(encoding="utf-8"))
            return metrics if isinstance(metrics, dict) else None
    return None


def refuse_earlier(out, resume, overwrite):
    """Raise BadInput where a folder holds the measures of an earlier fit, unless it goes on or is to be replaced."""
    if resume or overwrite or not os.path.lexists(out / "metrics.json"):
        return
    metrics = read_metrics(out)
    if metrics is None:
        raise BadInput(
            f"{out}: holds a metrics.json that cannot be read; expected another --out, or --overwrite to fit anew"
        )
    if metrics.get("finished", True):
        raise BadInput(f"{out}: holds a finished run; expected --resume, another --out, or --overwrite to fit anew")
    raise BadInput(
        f"{out}: holds a run that was stopped before its connections were estimated; "
        "expected --resume to finish it, another --out, or --overwrite to fit anew"
    )


def clear(out, keep=()):
    """Remove an earlier fit's files from a folder. keep: names that stay. Raises: BadInput where one cannot be."""
    figures = out / "figures"
    try:
        for name in {*FILES} - {*keep}:
            (out / name).unlink(missing_ok=True)
            remove_parts(out / name)
        for path in figures.glob("*.png"):
            path.unlink()
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be removed ({error.strerror or error})") from None
    with contextlib.suppress(OSError):  # there is none, or the user keeps more in it
        figures.rmdir()
