"""Many fits: a W&B sweep's commands, and replicas shared out to processes."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

import train
from nsi.run import processes, tracking
from tests.tools import ROOT, TINY, call


def sweeps():
    """The one sweep that the project has, wherever it lies."""
    return [p for p in ROOT.rglob("sweep.yaml") if ".venv" not in p.parts]


def test_every_combination_of_the_sweep_is_a_command_that_train_accepts(monkeypatch):
    (path,) = sweeps()
    sweep = yaml.safe_load(path.read_text())
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


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    """Fit four replicas small, by one process or two. Returns: the checkpoint and the measures."""
    folder = tmp_path_factory.mktemp("replicas")
    np.savez(folder / "mine.npz", **data)
    options = ["--data", folder / "mine.npz", "--replicas", "4", "--bootstrap", "--updates", "3", "--batch", "4"]
    options += ["--input-units", "10", "--no-errors", "--no-report", "--wandb", "disabled", "--device", "cpu"]

    def run(name, launcher, *more):
        command = [sys.executable, *launcher, ROOT / "train.py", *options, "--out", folder / name, *more]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=os.environ, timeout=120)
        assert done.returncode == 0, done.stderr
        state = torch.load(folder / name / "model.pt", weights_only=True)
        return state, json.loads((folder / name / "metrics.json").read_text())

    return run


@pytest.fixture(scope="module")
def alone(fitted):
    """The fit by one process, as run "one"."""
    return fitted("one", [])


def assert_alike(states, metrics):
    """Weights, as they are and as trained, moments and generators of four replicas, and their scores."""
    for parts in (
        [state["model"] for state in states],
        [state["training"].get("trained", state["model"]) for state in states],
    ):
        for k, p in parts[0].items():
            assert len(p) == 4
            torch.testing.assert_close(p, parts[1][k])
    torch.testing.assert_close(*(state["training"]["moments"] for state in states))
    assert all(map(torch.equal, *(state["training"]["generators"] for state in states)))
    assert metrics[0]["r_W"] == pytest.approx(metrics[1]["r_W"], abs=1e-4)
    assert len(metrics[0]["loss"]) == 4


@pytest.mark.slow
def test_replicas_of_two_processes_are_those_of_one(fitted, alone):
    assert_alike(*zip(alone, fitted("two", TORCHRUN), strict=True))


@pytest.mark.slow
def test_a_finished_run_resumed_by_two_processes_keeps_all_its_replicas(fitted, alone):
    """As after a kill while the measures were taken: all updates are done, and perhaps other weights run."""
    assert_alike(*zip(alone, fitted("one", TORCHRUN, "--resume"), strict=True))


@pytest.mark.parametrize("count", [2, 3])
def test_a_checkpoint_is_cut_for_each_process_and_put_together_again(count, monkeypatch):
    torch.manual_seed(0)
    weights = {"W": torch.rand(7, 2, 2), "W_in": torch.rand(7, 1, 2), "b": torch.rand(7, 2)}
    training = {
        "moments": [[torch.rand_like(p), torch.rand_like(p)] for p in weights.values()],
        "generators": [torch.Generator().manual_seed(k).get_state() for k in range(7)],
        "updates": 3,
        "seconds": 1.5,
    }
    monkeypatch.setenv("WORLD_SIZE", str(count))
    parts = []
    for rank in range(count):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(list(processes.scatter(weights, training, 7)))
    assert sum(len(part[1]["generators"]) for part in parts) == 7
    assert sum(len(part[0]["W"]) for part in parts) == 7

    def meet(into, _):
        into[:] = parts

    monkeypatch.setattr("torch.distributed.all_gather_object", meet)
    whole = processes.gather(*parts[0])
    torch.testing.assert_close(whole, (weights, training), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"RANK": "1"}, "RANK is '1' and WORLD_SIZE is absent"),
        ({"RANK": "0"}, "WORLD_SIZE is absent"),
        ({"WORLD_SIZE": "2"}, "RANK is absent and WORLD_SIZE is '2'"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is ''"),
        ({"RANK": "", "WORLD_SIZE": "1"}, "RANK is ''"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is '2' and WORLD_SIZE is '2'"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is absent"),
    ],
)
def test_half_of_what_torchrun_sets_is_refused(given, said, data, save, tmp_path, monkeypatch, capsys):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    options = ["--data", save(data), "--out", tmp_path / "run", "--replicas", "2", *TINY]
    status, error = call(train, monkeypatch, capsys, *options)
    assert status == 2
    assert said in error
    assert "`unset RANK WORLD_SIZE`" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_one_process_has_nothing_to_share(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    weights, training = {"W": torch.rand(2, 3, 3)}, {"updates": 1}
    assert processes.gather(weights, training) == processes.scatter(weights, training, 2) == (weights, training)
    assert list(processes.mine(5)) == list(range(5))
    assert list(processes.mine(1)) == [0]
