"""A mouse's head-direction cells: spikes of Peyrache et al. 2015, awake, as a data file.

    python -m experiments.mouse.read dataHD.mat      # writes data/mouse.npz

Nineteen cells of the anterodorsal thalamic nucleus, recorded at once. Publication: Nat Neurosci 18:569, doi
10.1038/nn.3968; recordings: CRCNS th-1; this reduced file was released as `PeyracheLab/Class-Decoding` on GitHub. It
holds

    Qrun     (bins, cells)   spikes in bins of 10 ms while it forages
    angRun   (bins, 2)       s and rad: heading, tracked every 25.6 ms and held in between, with gaps

*Time.* Bins follow each other by 10 ms between gaps of the tracking, where nsi/recordings/sessions.py cuts the session.
The heading of each bin is interpolated between the moments at which it was tracked, unwrapped.
*Rates.* Counts are smoothed with a Gaussian, taken every STEP_BINS bins, and scaled cell by cell, so that the 99th
percentile comes to 0.8. *Velocity* is the derivative of the heading smoothed by the same Gaussian. *Trials* are
stretches of at most MAX_TRIAL_S.
"""

from pathlib import Path

import numpy as np

from experiments import matlab
from nsi import files, recordings
from nsi.errors import BadInput
from nsi.recordings import sessions
from nsi.run import cli

BIN_S = 0.01  # s
STEP_BINS = 2  # bins of a time step
SMOOTHING_S = 0.06  # s, s.d. of the Gaussian
MAX_TRIAL_S = 10.0
MIN_TRIAL_S = 2.0


def read_file(path):
    """The arrays of the file. Raises: BadInput where it is another."""
    names = "Qrun", "angRun"
    file = matlab.read_variables(path, names)
    try:
        arrays = {k: np.asarray(file[k], float) for k in names}
        whole = arrays["Qrun"].ndim == 2 and arrays["angRun"].shape == (len(arrays["Qrun"]), 2)
    except (KeyError, IndexError, TypeError, ValueError):
        whole = False
    if not whole or not all(np.isfinite(a).all() for a in arrays.values()):
        raise BadInput(f"{path}: expected {', '.join(names)} in it, of as many bins, as in dataHD.mat")
    return arrays


def read(path, smooth=SMOOTHING_S):
    """The mouse as a data file. smooth: s.d. of the Gaussian, s. Returns: dict of arrays (see data/README.md). Raises:
    BadInput."""
    file, options = read_file(path), (smooth, MAX_TRIAL_S, MIN_TRIAL_S)
    time, angle = file["angRun"].T
    with files.naming(path):
        return sessions.cut_heading(time, file["Qrun"], angle, options, BIN_S, STEP_BINS)[0]


def main():
    p = cli.Parser(__doc__.splitlines()[0])
    p.add_argument("file", type=Path, help="dataHD.mat, as released as PeyracheLab/Class-Decoding")
    p.add_argument("--out", type=Path, default="data/mouse.npz", help="the data file")
    p.add_argument("--smooth", type=cli.number(float, 0, above=True), default=SMOOTHING_S,
                   help="s.d. of the Gaussian that counts and heading are smoothed with, s")  # fmt: skip
    args = p.parse_args()
    data = read(args.file, args.smooth)
    recordings.save(args.out, **data)
    lengths = data["lengths"]
    print(f"{args.out}: {data['rates'].shape[-1]} cells, {len(lengths)} stretches, {lengths.sum() * data['dt']:.0f} s")


if __name__ == "__main__":
    cli.run(main)
