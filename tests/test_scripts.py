"""The three commands, tiny, in a folder of their own; the notebook; every command of the README."""

import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from scipy.io import savemat

import model
from benchmarks import answer, rivals, speed
from experiments import findings, fly, results

ROOT = Path(__file__).parent.parent
SMALL = {
    "cann.py": "--trials 10 --steps 150",
    "train.py": "--updates 20 --batch 4 --window 20 --input-units 12",
    "train.sh": "--updates 30 --batch 4 --window 20",
    "fly.py": "",
    "fly.sh": "--updates 3 --replicas 2",
    "experiments.fly": "--updates 3 --replicas 2",
    "experiments.results": "--circuits shifters --seeds 1 --updates 5 --trials 10 --steps 150 "
    "--least-squares-samples 2000",
    "experiments.findings": "--seeds 1 --updates 5 --trials 10 --steps 150",
    "experiments.limits": "--seeds 1 --updates 5 --trials 10 --steps 150 --factors strength",
    "experiments.perturbation": "--amplitudes 4 --seeds 1 --updates 5 --trials 10 --steps 150",
    "benchmarks.rivals": "--seeds 1 --updates 5 --trials 10 --steps 150 --samples 500 --force-passes 1 "
    "--published-updates 3",
    "benchmarks.kills": "--kills 1 --only cann.py",
    "benchmarks.estimator": "--only forcing --circuits gain --small",
    "benchmarks.speed": "--small --seconds 0.1",
    "benchmarks.answer": "--small --updates 3",
}
RUN_FIRST = "python cann.py --visualize", "sh train.sh"  # of the README's commands, for all other tests


def run(folder, command, **environment):
    """Run a shell command of the README in a folder. Returns: what it printed."""
    inside = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "DISPLAY"}
    inside |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)} | environment
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=inside, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, fly_trial):
    """The project's files in a folder with a space, after the commands have run small there."""
    folder = tmp_path_factory.mktemp("a copy")
    for name in [*ROOT.glob("*.py"), *ROOT.glob("*.sh"), *ROOT.glob("*.ipynb")]:
        shutil.copy(name, folder)
    for name in ("experiments", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "said").mkdir()
    simulate, train = RUN_FIRST
    said = run(folder, f"{simulate} {SMALL['cann.py']}")
    (folder / "said" / "cann").write_text(said)
    said = run(folder, f"{train} {SMALL['train.sh']}")
    (folder / "said" / "train").write_text(said)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    arrays = "import numpy as np\nr = np.random.default_rng(0).random((3, 80, 16))\nv = r[..., 0] - 0.5\n"
    (folder / "example.py").write_text(arrays + example)
    run(folder, "python example.py")
    made_up_flies(folder, fly_trial)
    return folder


def made_up_flies(folder, fly_trial):
    """Files like those of the real flies and their connectome, where the README has them."""
    (folder / "PEN1-EB" / "20160423").mkdir(parents=True)
    for k in range(6):
        name = f"Fly{k // 2 + 1}_9day_6fx60D05_jRGC1ax37F06_Dark_0000{k % 2}.mat"
        savemat(folder / "PEN1-EB" / "20160423" / name, fly_trial(130, seed=k)[0])
    rng, glomeruli = np.random.default_rng(0), [f"{side}{k}" for side in "LR" for k in range(1, 9)] * 2
    population = np.repeat(["EPG", "D7"], [32, 4])
    np.savez(
        folder / "data" / "hemibrain_hd_152.npz",
        W=rng.integers(0, 9, (36, 36)),
        pop=population,
        glom=np.array([*glomeruli, *["L1"] * 4]),
    )


def test_simulation_prints_what_a_physiologist_would_check(checkout):
    said = (checkout / "said" / "cann").read_text()
    for measure in ("angular gain", "linear within", "bump width", "drift at rest", "diffusion"):
        assert measure in said
    with np.load(checkout / "data" / "ring.npz", allow_pickle=False) as data:
        assert data["rates"].shape == (10, 150, 100)
        assert data["rates"].dtype == data["velocity"].dtype == np.float32
        assert data["hidden_rates"].shape == (10, 150, 100)
        assert data["true_W"].shape == (200, 200)
        assert data["true_gate"].shape == (1, 100, 100)
    assert (checkout / "data" / "ring.gif").read_bytes().startswith(b"GIF89a")


def test_training_leaves_two_self_describing_runs(checkout):
    for name, inputs in (("separated", 100), ("control", 0)):
        folder = checkout / "runs" / name
        checkpoint = torch.load(folder / "model.pt", weights_only=True)
        assert checkpoint["model"]["W"].shape == (100 + inputs, 100 + inputs)
        assert checkpoint["model"]["W_in"].shape == (1, 100)
        assert checkpoint["model"]["b"].shape == (100 + inputs,)
        assert checkpoint["args"]["updates"] == 30
        assert checkpoint["args"]["alpha"] == pytest.approx(0.2)
        metrics = json.loads((folder / "metrics.json").read_text())
        assert {"r_W", "r_W_identifiable", "identifiable_fraction", "heading_error_5s", "loss"} <= metrics.keys()
        assert {"updates", "train_seconds", "polished"} <= metrics.keys()
        with np.load(folder / "errors.npz", allow_pickle=False) as found:
            assert found["W_se"].shape == found["W"].shape == found["identifiable"].shape == (100, 100)
            if inputs:
                assert found["gate_se"].shape == found["gate"].shape == (1, 100, 100)
            assert found["identifiable"].mean() == pytest.approx(metrics["identifiable_fraction"])
        assert ("r_gate" in metrics) == ("r_product" in metrics) == ("shifter_fraction" in metrics) == bool(inputs)
        assert metrics["held_out_trials"] == [9]
        loaded, args = model.load(folder / "model.pt")
        assert torch.equal(loaded.W, checkpoint["model"]["W"])
        assert (loaded.n_response, loaded.alpha, args["control"]) == (100, args["alpha"], not inputs)


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
    assert json.loads(config["lr"]) == 6e-3
    assert json.loads(summary["heading_error_5s"]) == pytest.approx(
        json.loads((checkout / "runs" / "separated" / "metrics.json").read_text())["heading_error_5s"]
    )


def test_resume_of_a_finished_run_gives_the_same_weights(checkout):
    before = torch.load(checkout / "runs" / "control" / "model.pt", weights_only=True)["model"]
    run(checkout, f"python train.py --out runs/control --control --resume {SMALL['train.sh']}")
    after = torch.load(checkout / "runs" / "control" / "model.pt", weights_only=True)["model"]
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_replicas_gain_a_leading_axis(checkout):
    run(
        checkout,
        "python train.py --out runs/two --replicas 2 --bootstrap --updates 3 --batch 4 --window 20 --input-units 6",
        WANDB_MODE="disabled",
    )
    weights = torch.load(checkout / "runs" / "two" / "model.pt", weights_only=True)["model"]
    assert weights["W"].shape == (2, 106, 106)
    assert weights["W_in"].shape == (2, 1, 6)
    assert len(json.loads((checkout / "runs" / "two" / "metrics.json").read_text())["r_W"]) == 2
    with np.load(checkout / "runs" / "two" / "errors.npz", allow_pickle=False) as found:
        assert found["W_replicas_se"].shape == (100, 100)
        assert found["gate_replicas_se"].shape == (1, 100, 100)


def test_fly_notebook_runs_from_top_to_bottom(checkout, outcomes, monkeypatch):
    monkeypatch.chdir(checkout)
    notebook = nbformat.read("fly.ipynb", 4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(checkout)}}).execute()
    drawn = sum("image/png" in out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", []))
    assert drawn == 7


def test_notebook_runs_from_top_to_bottom(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    began = time.time()
    notebook = nbformat.read("test.ipynb", 4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(checkout)}}).execute()
    drawn = sum("image/png" in out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", []))
    assert drawn == 6
    for name in ("connectivity", "tuning", "profiles", "integration", "shifters", "trust"):
        assert (checkout / "assets" / f"{name}.png").stat().st_mtime > began


@pytest.mark.parametrize(("name", "drawn"), [("test.ipynb", 6), ("fly.ipynb", 7)])
def test_committed_notebook_has_its_outputs(name, drawn):
    cells = [c for c in nbformat.read(ROOT / name, 4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert not any(out.output_type == "error" for c in cells for out in c.outputs)
    assert sum("image/png" in out.get("data", {}) for c in cells for out in c.outputs) == drawn


def test_readme_tables_are_the_measured_ones():
    readme = (ROOT / "README.md").read_text()
    measured = {
        p.stem: json.loads(p.read_text()) for p in [*ROOT.glob("experiments/*.json"), *ROOT.glob("bench*/*.json")]
    }
    rows = measured["results"]
    assert len(rows["shifters, separated"]["r_W"]) == len(rows["gain, separated"]["r_W"]) == 10
    assert len(rows["stimulated, separated"]["coverage"]) == 5
    assert results.table(rows) in readme
    assert results.trust_table(rows) in readme
    assert findings.table(measured["findings"]) in readme
    assert rivals.table(measured["rivals"]) in readme
    assert speed.comparison(measured["speed"]) in readme
    assert answer.table(measured["answer"]) in readme
    assert fly.table(measured["fly"]) in readme
    for figure in ("limits", "perturbation", "speed", "fly"):
        assert measured[figure]
        assert f"assets/{figure}.png" in readme


def readme_commands():
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [
        line for line in lines if line and not line.startswith(("git ", "cd ", "make", ". ", "pip ", "python -m venv"))
    ]


@pytest.fixture(scope="module")
def outcomes(checkout):
    """The README's commands run small, simulations first, two at a time. Returns: {command: error or None}."""

    def attempt(command):
        words = shlex.split(command)
        if command in RUN_FIRST:
            return None
        if words[0] not in ("python", "sh", "torchrun"):
            return f"no test runs {command!r}"
        name = words[2] if words[1] == "-m" else next(w for w in words if w.endswith((".py", ".sh")))
        try:
            run(checkout, f"{command} {SMALL[name]}", WANDB_MODE="disabled", OMP_NUM_THREADS="1")
        except AssertionError as error:
            return str(error)

    commands = [c for c in readme_commands() if not c.startswith("jupyter")]  # the notebook has a test of its own
    simulations = [c for c in commands if "cann.py" in c or "fly.py" in c]
    with ThreadPoolExecutor(2) as pool:
        done = dict(zip(simulations, pool.map(attempt, simulations), strict=True))
        rest = [c for c in commands if c not in done]
        return done | dict(zip(rest, pool.map(attempt, rest), strict=True))


@pytest.mark.parametrize("command", [c for c in readme_commands() if not c.startswith("jupyter")])
def test_readme_command(command, outcomes):
    assert outcomes[command] is None


def test_own_recording_of_the_readme_gets_no_invented_measures(checkout):
    run(checkout, "python train.py --data mine.npz --out runs/own --updates 3 --wandb disabled")
    metrics = json.loads((checkout / "runs" / "own" / "metrics.json").read_text())
    assert "loss" in metrics
    assert not {"r_W", "r_gate", "r_product", "frobenius_W"} & metrics.keys()


def test_fly_recording_is_fitted_like_any_other(checkout):
    fly = ROOT.parent / "shared" / "fly" / "epg_dark.npz"
    if not fly.exists():
        pytest.skip("the real recordings are not here (../shared/fly)")
    run(checkout, f"python train.py --data '{fly}' --out runs/fly --input-units 32 --updates 5 --wandb disabled")
    metrics = json.loads((checkout / "runs" / "fly" / "metrics.json").read_text())
    assert "r_W" not in metrics
    assert metrics["alpha"] == 0.2
    assert 0 < metrics["heading_error_5s"] < np.pi
    assert metrics["heading_error_steps"] == 500
