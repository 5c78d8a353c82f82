"""What tests of several folders share: a small recording, the options of a small fit, and a way to call a script."""

import sys
from pathlib import Path

import numpy as np

from nsi.run import cli

ROOT = Path(__file__).parent.parent
GOOD = {
    "rates": np.random.default_rng(0).random((3, 40, 4), np.float32),
    "velocity": np.ones((3, 40, 1), np.float32),
    "dt": 0.01,
}
TINY = ["--updates", "2", "--window", "10", "--batch", "4", "--input-units", "3", "--wandb", "disabled", "--no-report"]
QUICK = ["--set", "calibrated=no"]  # without the recording simulated from the fit, which only intervals need


def call(script, monkeypatch, capsys, *arguments):
    """Run a script's main in this process. Returns: exit status, standard error."""
    monkeypatch.setattr(sys, "argv", [f"{script.__name__.split('.')[-1]}.py", *map(str, arguments)])
    try:
        cli.run(script.main)
        status = 0
    except SystemExit as stop:
        status = stop.code
    return status, capsys.readouterr().err
