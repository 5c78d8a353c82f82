"""Turn a mouse's head-direction cells into a data file: `python -m experiments.mouse.read dataHD.mat`."""

from pathlib import Path

import numpy as np

from nsi import recordings
from nsi.recordings import mouse
from nsi.run import cli


def main():
    p = cli.Parser("Turn a mouse's head-direction cells, Peyrache et al. 2015, into a data file.")
    p.add_argument("file", type=Path, help="dataHD.mat, as released as PeyracheLab/Class-Decoding")
    p.add_argument("--out", type=Path, default="data/mouse.npz", help="the data file; asleep.npz goes beside it")
    p.add_argument("--smooth", type=cli.number(float, 0, above=True), default=mouse.SMOOTHING_S,
                   help="s.d. of the Gaussian that counts and heading are smoothed with, s")  # fmt: skip
    args = p.parse_args()
    data, asleep = mouse.read(args.file, args.smooth)
    recordings.save(args.out, **data)
    recordings.save(args.out.with_name("asleep.npz"), **asleep)
    lengths = data["lengths"]
    print(f"{args.out}: {data['rates'].shape[-1]} cells, {len(lengths)} stretches, {lengths.sum() * data['dt']:.0f} s")
    for name, rates in asleep.items():
        print(f"  {name}: {len(rates) * data['dt']:.0f} s, mean rate {np.mean(rates):.3f}")


if __name__ == "__main__":
    cli.run(main)
