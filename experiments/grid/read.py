"""A module of grid cells of one session, as Gardner et al. 2022 (doi 10.1038/s41586-021-04268-7) released theirs.

    python -m experiments.grid.read FILE --module 1      # writes data/module.npz

Expected layout of the `.npz` file (the day's, of all sessions and modules of one rat):

    t             (samples,)   s, when the tracker saw the rat, every 10 ms
    x, y          (samples,)   m; NaN where it did not
    spikes_mod1   a dictionary {cell: (spikes,) s}, pickled by numpy; spikes_mod2, ... of further modules

*Time.* Bins of STEP_S from the first to the last moment asked for; those that are further than GAP_S from when the rat
was tracked are left out, and the session is cut there. *Rates*, *velocity* and *trials* are those of
sessions.cut_path: counts smoothed with a Gaussian and scaled cell by cell, the derivative of the place smoothed alike,
stretches of at most 10 s. *Spacing* is the median over cells whose rate map is a grid.
"""

import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np

from nsi import files, recordings
from nsi.errors import BadInput
from nsi.geometry import rate_maps
from nsi.recordings import clocks, paths, sessions
from nsi.run import cli

STEP_S = 0.02  # s, time step
SMOOTHING_S = 0.06  # s, s.d. of the Gaussian
GAP_S = 0.1  # s
MIN_SPIKES = 10  # spikes of a cell in the session, below which it is left out
ARRAY_MODULES = {"numpy", *(f"numpy.{core}.{part}" for core in ("core", "_core") for part in ("multiarray", "numeric"))}
MAX_TIME = 1e17  # no time in any unit that is read
MIN_GRID_SCORE = 0.3  # from which the spacing is measured in a cell's map
MAX_MAPPED_CELLS = 30  # whose maps are computed


def read(path, module=1, start=-np.inf, stop=np.inf, spacing=None, smooth=SMOOTHING_S):
    """One module in one session as the arrays of a data file.

    module: its number; start, stop: s, of the session; spacing: m, of the firing fields (default: as their maps have
    it); smooth: s.d. of the Gaussian, s.
    Returns: dict of arrays (see data/README.md), and the spacing in m. Raises: BadInput where it is another file, or no
    session is there, or no map shows the spacing.
    """
    key = f"spikes_mod{module}"
    with files.Archive(path) as file:
        file.require(("t", "x", "y", key), f"t, x, y and {key}")
        t, *place = (file[name] for name in ("t", "x", "y"))
    with files.naming(path):
        cells = list(_dictionary(path, key).values())
        if t.ndim != 1 or not all(a.shape == t.shape and a.dtype.kind in "fiu" for a in (t, *place)):
            raise BadInput(f"t, x and y have shapes {t.shape}, {place[0].shape} and {place[1].shape}; expected as many "
                           "numbers of each")  # fmt: skip
        if not all(isinstance(s, np.ndarray) and s.ndim == 1 and s.dtype.kind in "fiu" for s in cells):
            raise BadInput(f"{key} has something else than spike times; expected a dictionary of arrays, in s")
        place = np.stack(place, -1).astype(float)
        tracked = (np.abs(t) < MAX_TIME) & np.isfinite(place).all(-1) & (t >= start) & (t < stop)
        t, place = t[tracked].astype(float), place[tracked]
        new = np.diff(t, prepend=-np.inf) != 0  # a clock may stand still
        t, place = t[new], place[new]
        falls = np.flatnonzero(np.diff(t) < 0)
        if len(falls):
            raise BadInput(
                f"t falls {len(falls)} times, first from {t[falls[0]]:g} to {t[falls[0] + 1]:g} s, so that it is open "
                "when a spike was; expected one clock"
            )
        if len(t) < 2:
            raise BadInput(f"t has {len(t)} moments from {start:g} to {stop:g} s, or does not rise; expected a session")
        paths.check_range(t[:0], place)
        for sentence in paths.find_jumps(t, place)[1]:
            print(f"{Path(path).name}: {sentence}", file=sys.stderr)
        clocks.check_seconds(float(np.median(np.diff(t))), "t")
        bins = _bins(t)
        arrays = f"{len(bins)} bins of {len(cells)} cells"
        files.check_size(len(bins) * len(cells) * 8, arrays, "a shorter session: --start and --stop")
        counts = np.stack([_counts(s, t, bins) for s in cells], -1) if cells else np.zeros((len(bins), 0))
        counts = counts[:, counts.sum(0) >= MIN_SPIKES]
        if counts.shape[1] == 0:
            raise BadInput(f"no cell of {key} has {MIN_SPIKES} spikes from {start:g} to {stop:g} s; expected a session")
        middle = t[0] + (bins + 0.5) * STEP_S
        position = np.stack([np.interp(middle, t, along) for along in place.T], -1)
        spacing = measured_spacing(counts, position) if spacing is None else spacing
        return sessions.cut_path(middle, counts, position, spacing, smooth), spacing


def _dictionary(path, key):
    """A dictionary of arrays, which numpy stores as a pickle: only what arrays are made of is unpickled.

    Raises: BadInput where it is something else.
    """
    try:
        with zipfile.ZipFile(path) as file, file.open(f"{key}.npy") as stream:
            shape, _ = files.read_header(stream)
            found = _Arrays(stream).load().item() if shape == () else None
    except Exception:  # whatever zipfile, numpy and pickle make of damage
        found = None
    if not isinstance(found, dict):
        raise BadInput(f"{key} cannot be read; expected a dictionary of arrays, whole and pickled by numpy")
    return found


class _Arrays(pickle.Unpickler):
    """An unpickler of arrays and plain containers, whatever else is named being refused."""

    def find_class(self, module, name):
        numpys = module in ARRAY_MODULES and name in ("_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer")
        if not numpys and (module, name) != ("_codecs", "encode"):
            raise pickle.UnpicklingError
        return super().find_class(module, name)


def _bins(t):
    """Numbers of the bins, from t[0] on, whose middle is less than GAP_S from where the rat was tracked."""
    gap = np.flatnonzero(np.diff(t) > 2 * GAP_S)
    first = np.floor((t[np.r_[0, gap + 1]] - t[0] - GAP_S) / STEP_S + 0.5).astype(int)
    last = np.ceil((t[np.r_[gap, -1]] - t[0] + GAP_S) / STEP_S - 0.5).astype(int)
    most = int(np.ceil((t[-1] - t[0]) / STEP_S)) - 1
    return np.concatenate([np.arange(max(0, a), min(b, most)) for a, b in zip(first, last, strict=True)])


def _counts(spikes, t, bins):
    """Spikes in each bin. spikes: (any,) s; bins: of `_bins`."""
    inside = spikes[(spikes >= t[0]) & (spikes <= t[-1])]
    bin_ = np.floor((inside - t[0]) / STEP_S).astype(int)
    at = np.searchsorted(bins, bin_)
    at = at[(at < len(bins)) & (bins[np.minimum(at, len(bins) - 1)] == bin_)] if len(bins) else at[:0]
    return np.bincount(at, minlength=len(bins))


def measured_spacing(counts, position):
    """Median spacing (m) of the firing fields, over cells whose rate map is a grid. Raises: BadInput without any."""
    maps, size = rate_maps.rate_maps(counts[:, :: 1 + counts.shape[1] // MAX_MAPPED_CELLS], position)
    repeats = [rate_maps.autocorrelogram(one) for one in maps]
    apart = [rate_maps.spacing(r) for r in repeats if rate_maps.grid_score(r) > MIN_GRID_SCORE]
    apart = [x * size.mean() for x in apart if np.isfinite(x)]
    if not apart:
        raise BadInput("no cell's rate map is a grid of several fields; expected --spacing, in m")
    return float(np.median(apart))


def main():
    p, size = cli.Parser(__doc__.splitlines()[0]), cli.number
    p.add_argument("file", type=Path, help="the .npz file of a rat's day, as released")
    p.add_argument("--module", type=size(int, 1), default=1, help="its number")
    p.add_argument("--start", type=size(float, 0), default=-np.inf, help="of the session, s (default: the first)")
    p.add_argument("--stop", type=size(float, 0), default=np.inf, help="of the session, s (default: the last)")
    p.add_argument("--spacing", type=size(float, 0, above=True), help="of the fields, m (default: as the maps have it)")
    p.add_argument("--smooth", type=size(float, 0, above=True), default=SMOOTHING_S,
                   help="s.d. of the Gaussian that counts and place are smoothed with, s")  # fmt: skip
    p.add_argument("--out", type=Path, default="data/module.npz", help="the data file")
    args = p.parse_args()
    data, spacing = read(args.file, args.module, args.start, args.stop, args.spacing, args.smooth)
    recordings.save(args.out, **data)
    lengths = data["lengths"]
    size = f"{data['rates'].shape[-1]} cells, {len(lengths)} stretches, {lengths.sum() * data['dt']:.0f} s"
    print(f"{args.out}: {size}, spacing {spacing:.2f} m")


if __name__ == "__main__":
    cli.run(main)
