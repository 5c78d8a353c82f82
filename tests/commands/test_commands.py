"""The three commands, small, in a folder of their own: what they print and leave."""

import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from nsi.hidden import units
from nsi.run import checkpoint
from nsi.simulation import circuits
from tests.commands.pages import SMALL_PAIR
from tests.commands.test_notebooks import DRAWN, executed
from tests.tools import ROOT

N = 30  # compass neurons, shifters and input units each, in the copy
FIGURES = "connectivity", "tuning", "profiles", "integration", "shifters", "trust"


def test_simulation_prints_what_a_physiologist_would_check(checkout):
    said = (checkout / "said" / "cann").read_text()
    for measure in ("angular gain", "linear within", "bump width", "drift at rest", "diffusion"):
        assert measure in said
    with np.load(checkout / "data" / "ring.npz", allow_pickle=False) as data:
        assert data["rates"].shape == (10, 150, N)
        assert data["rates"].dtype == data["velocity"].dtype == np.float32
        assert data["hidden_rates"].shape == (10, 150, N)
        assert data["true_W"].shape == (2 * N, 2 * N)
        assert data["true_gate"].shape == (1, N, N)
    with Image.open(checkout / "data" / "ring.gif") as movie:
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(movie)]
    assert len(frames) == 30
    assert all((a != b).any() for a, b in pairwise(frames))  # the bump moves


def test_circuits_and_networks_have_the_published_size_by_default():
    network = circuits.CIRCUITS["ring"]().network
    assert (network.n, network.W.shape, units.POPULATION) == (100, (200, 200), 100)


def test_training_leaves_two_self_describing_runs(checkout):
    for name, inputs in (("separated", N), ("control", 0)):
        folder = checkout / "runs" / name
        saved = torch.load(folder / "model.pt", weights_only=True)
        assert saved["version"] == 2
        assert saved["model"]["W"].shape == (N + inputs, N + inputs)
        assert saved["model"]["W_in"].shape == (1, N + inputs)
        assert (saved["model"]["W_in"] != 0).sum() == N
        assert saved["model"]["b"].shape == (N + inputs,)
        assert saved["args"]["updates"] == 30
        assert saved["args"]["alpha"] == pytest.approx(0.2)
        metrics = json.loads((folder / "metrics.json").read_text())
        assert {"r_W", "network_r_W", "heading_error_5s", "loss"} <= metrics.keys()
        assert {"updates", "train_seconds", "seconds", "running"} <= metrics.keys()
        assert metrics["heading_error_5s"] is None  # trials of 1.5 s
        assert metrics["heading_error"]["0.5"]["samples"] >= 1
        with np.load(folder / "connectivity.npz", allow_pickle=False) as found:
            arrays = ("W", "W_unbiased", "W_se", "total", "total_se", "identifiable")
            assert {found[k].shape for k in (arrays if inputs else ["W"])} == {(N, N)}
            if inputs:
                assert found["gate_se"].shape == found["gate"].shape == (1, N, N)
                assert found["identifiable"].mean() == pytest.approx(metrics["identifiable_fraction"])
        assert ("r_gate" in metrics) == ("r_product" in metrics) == ("shifter_fraction" in metrics) == bool(inputs)
        assert metrics["held_out_trials"] == [9]
        (net,), args = checkpoint.networks(folder / "model.pt")
        np.testing.assert_array_equal(net.W, saved["model"]["W"])
        assert (net.n, net.alpha, args["control"]) == (N, args["alpha"], not inputs)


def wandb_records(content):
    """The records of an offline run: a log in LevelDB's format, blocks of 32 KiB, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    assert content.startswith(b":W&B")
    whole, last, at, block = {1, 4}, b"", 7, 32768  # record types: 1 full, 2 first, 3 middle, 4 last part
    while at + 7 <= len(content):
        if block - at % block < 7:  # no room for another header
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        part, at = content[at + 7 : at + 7 + length], at + 7 + length
        last = part if kind in (1, 2) else last + part
        if kind in whole:
            record = Record()
            record.ParseFromString(last)
            yield record


def test_offline_wandb_file_holds_the_history(checkout):
    assert "wandb sync" in (checkout / "said" / "train").read_text()
    (path,) = (checkout / "runs" / "separated").glob("wandb/offline-run-*/*.wandb")
    losses, logged, summary, config = [], set(), {}, {}
    for record in wandb_records(path.read_bytes()):
        items = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
        if "loss" in items:
            losses.append(json.loads(items["loss"]))
        logged |= {name.split("/")[0] for name in items}
        summary |= {i.key: i.value_json for i in record.summary.update}
        config |= {i.key: i.value_json for i in record.run.config.update}
    assert len(losses) == 2  # every 25 updates, and at the end
    assert np.isfinite(losses).all()
    assert {"loss", "gradient_norm", "lr", "r_W", "r_gate", "W"} <= logged
    assert len(json.loads(config["data_sha256"])) == 64
    assert json.loads(config["lr"]) == 1e-2
    metrics = json.loads((checkout / "runs" / "separated" / "metrics.json").read_text())
    for key in ("heading_error_5s", "loss", "r_W_identifiable"):
        assert json.loads(summary[key]) == (metrics[key] if metrics[key] is None else pytest.approx(metrics[key]))


def test_resume_of_a_finished_run_gives_the_same_weights(checkout, run):
    before = torch.load(checkout / "runs" / "control" / "model.pt", weights_only=True)["model"]
    run(checkout, f"python train.py --out runs/control --control --resume --no-report {SMALL_PAIR}")
    after = torch.load(checkout / "runs" / "control" / "model.pt", weights_only=True)["model"]
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_replicas_gain_a_leading_axis(checkout, run):
    run(
        checkout,
        "python train.py --out runs/two --replicas 2 --bootstrap --updates 3 --batch 4 --window 20 --input-units 6"
        " --no-report",
        WANDB_MODE="disabled",
    )
    weights = torch.load(checkout / "runs" / "two" / "model.pt", weights_only=True)["model"]
    assert weights["W"].shape == (2, N + 6, N + 6)
    assert weights["W_in"].shape == (2, 1, N + 6)
    assert len(json.loads((checkout / "runs" / "two" / "metrics.json").read_text())["network_r_W"]) == 2
    with np.load(checkout / "runs" / "two" / "connectivity.npz", allow_pickle=False) as found:
        assert found["W_replicas_se"].shape == (N, N)
        assert found["gate_replicas_se"].shape == (1, N, N)


def test_the_pair_can_be_fitted_again_and_nothing_else_by_accident(checkout, run):
    with pytest.raises(AssertionError, match="runs/separated: holds a finished run"):
        run(checkout, f"python train.py {SMALL_PAIR}", WANDB_MODE="disabled")
    folders = [checkout / "runs" / name for name in ("separated", "control")]
    before = [torch.load(folder / "model.pt", weights_only=True)["model"] for folder in folders]
    for folder in folders:
        (folder / "model.pt").unlink()
    run(checkout, f"sh train.sh {SMALL_PAIR} --no-report", WANDB_MODE="disabled")
    for old, folder in zip(before, folders, strict=True):
        new = torch.load(folder / "model.pt", weights_only=True)["model"]
        assert all(torch.equal(old[k], new[k]) for k in old)


@pytest.mark.slow
def test_interruption_stops_both_fits(checkout, tmp_path):
    """Ctrl-C, as a terminal sends it to the script and to all that it has started."""
    for name in ("train.py", "model.py", "train.sh"):
        shutil.copy(checkout / name, tmp_path)
    shutil.copytree(ROOT / "nsi", tmp_path / "nsi", ignore=shutil.ignore_patterns("__pycache__"))
    line = ["sh", "train.sh", "--data", checkout / "data" / "ring.npz", *shlex.split(SMALL_PAIR)]
    line += ["--updates", "100000", "--wandb", "disabled"]
    inside = os.environ | {"PYTHON": sys.executable, "PYTHONUNBUFFERED": "1"}
    pair = subprocess.Popen(
        line, cwd=tmp_path, env=inside, start_new_session=True, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    while not all((tmp_path / "runs" / name / "model.pt").exists() for name in ("separated", "control")):
        assert pair.poll() is None
        time.sleep(0.1)
    os.killpg(pair.pid, signal.SIGINT)
    said, _ = pair.communicate(timeout=60)
    assert pair.returncode == 130
    assert said.count("stopped by SIGINT after update") == 2


def test_fly_recording_is_fitted_like_any_other(checkout, run):
    """Of the first four trials, each of a minute."""
    fly = ROOT.parent / "shared" / "fly" / "epg_dark.npz"
    if not fly.exists():
        pytest.skip("the real recordings are not here (../shared/fly)")
    with np.load(fly) as file:
        some = {k: file[k] if file[k].ndim == 0 else file[k][:4] for k in file}
    np.savez(checkout / "fly.npz", **some)
    run(
        checkout,
        "python train.py --data fly.npz --out runs/epg --input-units 32 --updates 5 --wandb disabled --no-report"
        " --set calibrated=no",
    )
    metrics = json.loads((checkout / "runs" / "epg" / "metrics.json").read_text())
    assert "r_W" not in metrics
    assert not metrics["alpha_known"]
    assert 0 < metrics["alpha"] <= 1  # estimated, since the file has no tau
    assert 0 < metrics["heading_error_5s"] < np.pi
    assert metrics["heading_error"]["5"]["samples"] >= 20
    assert metrics["heading_error"]["5"]["error"] == metrics["heading_error_5s"]


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(checkout, monkeypatch):
    """Here, since it draws what the commands have made, and `pytest -n` gives each file to one process."""
    began = time.time()
    assert executed(checkout, "test.ipynb", monkeypatch) == DRAWN["test.ipynb"]
    for name in FIGURES:
        assert (checkout / "runs" / "figures" / f"{name}.png").stat().st_mtime > began
