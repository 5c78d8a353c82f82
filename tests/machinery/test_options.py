"""Options that cannot be used: each error is one sentence that names the choices, or what is done in their place."""

import dataclasses
import os
import subprocess

import pytest

import cann
import train
from nsi import design
from nsi.run import cli, setup
from tests.tools import GOOD, ROOT, TINY, call


def refusal(script, monkeypatch, capsys, *arguments):
    """The sentence with which a script refuses its options."""
    status, error = call(script, monkeypatch, capsys, *arguments)
    assert status == 2
    assert error.count("\n") == 1
    return error


def typed_options(script, monkeypatch):
    """The options of a script whose values are parsed by a function or are among choices, by name."""
    caught = []

    def catch(parser, *_):
        caught.append(parser)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(cli.Parser, "parse_args", catch)
        with pytest.raises(SystemExit):
            getattr(script, "parse", script.main)()
    of_text = lambda action: getattr(action.type, "__name__", None) in (None, "Path") and not action.choices
    return [a.option_strings[0] for a in caught[0]._actions if a.option_strings and a.nargs != 0 and not of_text(a)]


@pytest.mark.parametrize("script", [cann, train, design])
def test_a_mistaken_value_is_answered_with_what_was_expected(script, monkeypatch, capsys):
    before = ["run"] if script is design else []
    for name in typed_options(script, monkeypatch):
        error = refusal(script, monkeypatch, capsys, *before, name, "foo")
        assert f"argument {name}" in error
        assert "expected " in error or "choose from" in error
        assert "'foo'" in error


def test_choices_are_named(monkeypatch, capsys):
    for value in ("foo", "0", "3.5"):
        error = refusal(cann, monkeypatch, capsys, "--record", value)
        assert "expected compass, shifters, half (of each), or a number of shifters" in error
    for options in (["--constraints", "excitd"], ["--set", "constraints=excitd"]):
        error = refusal(train, monkeypatch, capsys, *options)
        assert "expected none, or, with commas between, any of excited, apart, types, copies, inhibition" in error
    assert train.parse(["--set", "constraints=types, excited"])[1].constraints == "excited,types"
    error = refusal(train, monkeypatch, capsys, "--set", "windo=3")
    assert "expected NAME=VALUE with a NAME of control, input_units" in error


def test_settings_are_the_preset_then_options_then_assignments():
    published = train.parse(["--preset", "published"])[1]
    assert (published.loss, published.updates, published.schedule) == ("mse", 10_000, "constant")
    mixed = train.parse(["--preset", "published", "--updates", "7", "--set", "batch=3", "--set", "batch=4"])[1]
    assert (mixed.loss, mixed.updates, mixed.batch) == ("mse", 7, 4)
    control = train.parse(["--control"])[1]
    assert (control.updates, control.batch, control.lr) == (1100, 50, 6e-3)
    assert train.parse(["--set", "calibrated=no"])[1].calibrated is False
    with pytest.raises(dataclasses.FrozenInstanceError):
        control.lr = 1.0


def test_more_shifters_than_there_are(tmp_path, monkeypatch, capsys):
    few = "--trials", "2", "--steps", "20", "--no-report", "--out", tmp_path / "x.npz"
    assert "a number up to 100, not 500" in refusal(cann, monkeypatch, capsys, "--record", "500", *few)
    none = refusal(cann, monkeypatch, capsys, "--record", "shifters", "--circuit", "gain", *few)
    assert "expected compass, not shifters, since the circuit has 0 hidden neurons" in none
    assert not (tmp_path / "x.npz").exists()


def test_a_mistyped_option_is_answered_with_the_one_that_was_meant(monkeypatch, capsys):
    assert "did you mean --updates?" in refusal(train, monkeypatch, capsys, "--updats", "5")
    assert "--help lists all options" in refusal(train, monkeypatch, capsys, "--qwx", "5")


def test_bootstrap_of_one_replica_is_refused(save, tmp_path, monkeypatch, capsys):
    arguments = ["--data", save(GOOD), "--out", tmp_path / "run", *TINY, "--bootstrap"]
    error = refusal(train, monkeypatch, capsys, *arguments)
    assert "expected --replicas of at least 2" in error
    assert "leave --bootstrap out" in error
    assert not (tmp_path / "run").exists()


def test_resume_without_a_checkpoint_says_so_and_which_runs_there_are(save, tmp_path, monkeypatch, capsys):
    arguments = ["--data", save(GOOD), *TINY, "--resume", "--out"]
    status, error = call(train, monkeypatch, capsys, *arguments, tmp_path / "first")
    assert status == 0
    assert f"{tmp_path / 'first'}: has no checkpoint (model.pt) to --resume, so that the fit starts from" in error
    assert "can be resumed" not in error
    assert "runs that can be resumed in here: a, b" in _nothing_to_resume(tmp_path, monkeypatch, "a", "b")
    status, error = call(train, monkeypatch, capsys, *arguments, tmp_path / "first")
    assert status == 0
    assert "no checkpoint" not in error


def _nothing_to_resume(folder, monkeypatch, *names):
    for name in names:
        (folder / "here" / name).mkdir(parents=True)
        (folder / "here" / name / "model.pt").touch()
    monkeypatch.chdir(folder)
    return setup.describe_missing_checkpoint(type(folder)("here/frist"))


@pytest.fixture
def pair(tmp_path):
    """Run train.sh with a stand-in for Python that writes down where it runs and with which arguments. Returns: the
    lines, one for each fit, and the finished process."""
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(f'#!/bin/sh\necho "$PWD $*" >> {calls}\n')
    python.chmod(0o755)

    def run(script, *options, cwd):
        calls.write_text("")
        environment = os.environ | {"PYTHON": str(python)}
        done = subprocess.run(["sh", script, *options], cwd=cwd, env=environment, capture_output=True, text=True)
        return sorted(calls.read_text().splitlines(), key=lambda line: "--control" in line), done

    return run


def test_the_pair_takes_paths_from_where_it_is_called(pair, tmp_path):
    """Relative paths are the caller's; what is written lies beside the script."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = os.path.relpath(ROOT / "train.sh", elsewhere)
    here = script.removesuffix("train.sh")
    lines, done = pair(script, "--data", "mine.npz", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert len(lines) == 2
    for line, name in zip(lines, ("separated", "control"), strict=True):
        assert line.startswith(f"{elsewhere} {here}train.py --data {here}data/ring.npz --out {here}runs/{name} ")
        assert line.endswith("--overwrite --wandb auto --data mine.npz")  # of two the last counts
    lines, _ = pair("train.sh", "--seed", "1", cwd=ROOT)
    assert lines[0] == f"{ROOT} train.py --data data/ring.npz --out runs/separated --overwrite --wandb auto --seed 1"
    args = train.parse(["--data", "first", "--data", "second"])[0]
    assert str(args.data) == "second"


@pytest.mark.parametrize("option", ["--out", "--out=runs/x", "--control"])
def test_the_pair_refuses_options_of_one_fit(option, pair):
    lines, done = pair("train.sh", option, "runs/x", cwd=ROOT)
    assert lines == []
    assert done.returncode == 2
    assert f"argument {option}: expected only options of both fits" in done.stderr
    assert done.stderr.count("\n") == 1
