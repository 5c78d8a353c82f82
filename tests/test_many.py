"""Many fits: a W&B sweep's commands, and replicas shared out to processes."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

import replicas
import tracking
import train

ROOT = Path(__file__).parent.parent


def test_every_combination_of_the_sweep_is_a_command_that_train_accepts(monkeypatch):
    sweep = yaml.safe_load((ROOT / "sweep.yaml").read_text())
    choices = {k: v.get("values", [v.get("value")]) for k, v in sweep["parameters"].items()}
    seen = set()
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        macros = create_sweep_command_args({"args": {k: {"value": v} for k, v in chosen.items()}})  # as an agent does
        filled = {f"${{{k}}}": v for k, v in macros.items()}
        filled |= {"${env}": ["/usr/bin/env"], "${interpreter}": ["python"], "${program}": [sweep["program"]]}
        command = [word for part in create_sweep_command(sweep["command"]) for word in filled.get(part, [part])]
        assert command[:3] == ["/usr/bin/env", "python", "train.py"]
        args = train.parse(command[3:])
        for option, value in chosen.items():
            assert getattr(args, option.replace("-", "_")) == type(getattr(args, option.replace("-", "_")))(value)
        seen.add(tuple(command))
    assert len(seen) == 2 * 3 * 3 * 3
    for name, value in (("WANDB_SWEEP_ID", "s"), ("WANDB_RUN_ID", "a1")):
        monkeypatch.setenv(name, value)
    assert tracking.own_folder(Path("runs/sweep")) == Path("runs/sweep/a1")
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert tracking.own_folder(Path("runs/sweep")) == Path("runs/sweep")


def test_replicas_of_two_processes_are_those_of_one(data, save, tmp_path):
    options = ["--data", save(data), "--replicas", "4", "--bootstrap", "--updates", "3", "--batch", "4"]
    options += ["--input-units", "10", "--no-errors", "--wandb", "disabled", "--device", "cpu"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in (("one", []), ("two", torchrun)):
        command = [sys.executable, *launcher, ROOT / "train.py", *options, "--out", tmp_path / name]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ, timeout=120)
        assert done.returncode == 0, done.stderr
    states = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("one", "two")]
    for part in ("model", "trained"):
        for k, p in states[0][part].items():
            assert len(p) == 4
            torch.testing.assert_close(p, states[1][part][k])
    torch.testing.assert_close(*(state["optimiser"]["state"] for state in states))
    assert all(map(torch.equal, *(state["generators"] for state in states)))
    scores = [json.loads((tmp_path / name / "metrics.json").read_text())["r_W"] for name in ("one", "two")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.parametrize("count", [2, 3])
def test_a_checkpoint_is_cut_for_each_process_and_put_together_again(count, monkeypatch):
    torch.manual_seed(0)
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.rand(7, 2), "exp_avg_sq": torch.rand(7, 2)}}
    state = {
        "model": {"W": torch.rand(7, 2, 2)},
        "optimiser": {"state": moments, "param_groups": [{"lr": 0.1}]},
        "generators": [torch.Generator().manual_seed(k).get_state() for k in range(7)],
        "updates": 3,
    }
    monkeypatch.setenv("WORLD_SIZE", str(count))
    parts = []
    for rank in range(count):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(replicas.scatter(state, 7))
    assert sum(len(part["generators"]) for part in parts) == 7

    def meet(into, _):
        into[:] = parts

    monkeypatch.setattr(replicas.dist, "all_gather_object", meet)
    whole = replicas.gather(parts[0])
    torch.testing.assert_close(whole, state, atol=0, rtol=0)
