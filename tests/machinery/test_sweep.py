"""The W&B sweep's commands."""

import itertools
from pathlib import Path

import yaml

import train
from nsi.run import tracking
from tests.tools import ROOT


def sweeps():
    """The one sweep that the project has, wherever it lies."""
    return [p for p in ROOT.rglob("sweep.yaml") if ".venv" not in p.parts]


def test_every_combination_of_the_sweep_is_a_command_that_train_accepts(monkeypatch):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args  # slow to import

    (path,) = sweeps()
    sweep = yaml.safe_load(path.read_text())
    choices = {k: v.get("values", [v.get("value")]) for k, v in sweep["parameters"].items()}
    commands = set()
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        macros = create_sweep_command_args({"args": {k: {"value": v} for k, v in chosen.items()}})  # as an agent does
        filled = {f"${{{k}}}": v for k, v in macros.items()}
        filled |= {"${env}": ["/usr/bin/env"], "${interpreter}": ["python"], "${program}": [sweep["program"]]}
        command = [word for part in create_sweep_command(sweep["command"]) for word in filled.get(part, [part])]
        assert command[:3] == ["/usr/bin/env", "python", "train.py"]
        args, settings = train.parse(command[3:])
        assert settings.calibrated is False
        for option, value in {k: v for k, v in chosen.items() if k != "set"}.items():
            name = option.replace("-", "_")
            parsed = getattr(settings if hasattr(settings, name) else args, name)
            assert parsed == type(parsed)(value)
        commands.add(tuple(command))
    assert len(commands) == 2 * 3 * 3 * 3
    for name, value in (("WANDB_SWEEP_ID", "s"), ("WANDB_RUN_ID", "a1")):
        monkeypatch.setenv(name, value)
    assert tracking.own_folder(Path("runs/sweep")) == Path("runs/sweep/a1")
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert tracking.own_folder(Path("runs/sweep")) == Path("runs/sweep")
