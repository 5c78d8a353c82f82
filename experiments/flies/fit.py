"""The fit to real flies: networks that each draw flies with replacement, so that their spread counts flies.

python -m experiments.flies.fit      fits data/fly.npz into runs/fly; options are passed on to train.py
"""

import sys

import train
from experiments import runs
from nsi.run import cli

SETTINGS = (
    *("--data", "data/fly.npz", "--out", "runs/fly", "--overwrite", "--alpha", "0.5", "--input-units", "64"),
    *("--window", "20", "--batch", "80", "--updates", "800", "--lr", "2e-2", "--rotate"),
    *("--forcing", "0.1", "--set", "constraints=none"),
    *("--bootstrap", "--replicas", "16"),
)


def train_on_flies(rec, *options, bootstrap=True):
    """Train networks on a recording with these settings, and options after them. bootstrap: draw flies with
    replacement. Returns: list of Network."""
    extra = () if bootstrap else ("--set", "bootstrap=no")
    return runs.train_networks(rec, *SETTINGS, *options, *extra)


def main():
    sys.argv[1:1] = SETTINGS
    train.main()


if __name__ == "__main__":
    cli.run(main)
