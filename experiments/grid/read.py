"""Turn a module of grid cells into a data file: `python -m experiments.grid.read FILE --module 1`."""

from pathlib import Path

import numpy as np

from nsi import recordings
from nsi.recordings import modules
from nsi.run import cli


def main():
    p, size = cli.Parser("Turn a module of grid cells, Gardner et al. 2022, into a data file."), cli.number
    p.add_argument("file", type=Path, help="the .npz file of a rat's day, as released")
    p.add_argument("--module", type=size(int, 1), default=1, help="its number")
    p.add_argument("--start", type=size(float, 0), default=-np.inf, help="of the session, s (default: the first)")
    p.add_argument("--stop", type=size(float, 0), default=np.inf, help="of the session, s (default: the last)")
    p.add_argument("--spacing", type=size(float, 0, above=True), help="of the fields, m (default: as the maps have it)")
    p.add_argument("--smooth", type=size(float, 0, above=True), default=modules.SMOOTHING_S,
                   help="s.d. of the Gaussian that counts and place are smoothed with, s")  # fmt: skip
    p.add_argument("--out", type=Path, default="data/module.npz", help="the data file")
    args = p.parse_args()
    data, spacing = modules.read(args.file, args.module, args.start, args.stop, args.spacing, args.smooth)
    recordings.save(args.out, **data)
    lengths = data["lengths"]
    size = f"{data['rates'].shape[-1]} cells, {len(lengths)} stretches, {lengths.sum() * data['dt']:.0f} s"
    print(f"{args.out}: {size}, spacing {spacing:.2f} m")


if __name__ == "__main__":
    cli.run(main)
