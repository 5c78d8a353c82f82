"""The fit to real flies: networks that each draw flies with replacement, so that their spread counts flies.

python -m experiments.flies.fit      fits data/fly.npz into runs/fly; options are passed on to train.py
"""

import sys

import torch

import train
from model import RNN
from nsi import units
from nsi.run import cli
from nsi.windows import Windows

SETTINGS = (
    *("--data", "data/fly.npz", "--out", "runs/fly", "--overwrite", "--alpha", "0.5", "--input-units", "64"),
    *("--window", "20", "--batch", "80", "--updates", "800", "--lr", "2e-2", "--rotate", "--rounds", "0"),
    *("--forcing", "0.1", "--assume", "none"),
    *("--bootstrap", "--replicas", "16"),
)


def fitted(rec, *options, bootstrap=True, settings=SETTINGS, steady=False):
    """Fit a recording with these settings, and options after them, without a folder.

    bootstrap: draw flies with replacement; steady: let the forcing stay as it is. Returns: list of Network.
    """
    args = train.parse([*settings, *options])
    generators = [torch.Generator().manual_seed(args.seed + k) for k in range(args.replicas)]
    n, d = rec.rates.shape[-1], rec.velocity.shape[-1]
    who = units.choose(args, n, rec.driven)
    model = RNN(n, args.input_units, d, args.alpha, args.init_scale, generators, who)
    windows = Windows(rec, args.alpha, generators, warmup=args.warmup, window=args.window, batch=args.batch,
                      rotate=args.rotate, bootstrap=bootstrap)  # fmt: skip
    penalty = args.drive_penalty if who.penalised else 0.0
    train.fit(model, windows, args.updates, args.lr, args.beta2, args.schedule, args.loss, args.forcing, penalty,
              steady=steady)  # fmt: skip
    return model.networks()


def main():
    sys.argv[1:1] = SETTINGS
    train.main()


if __name__ == "__main__":
    cli.run(main)
