"""What happens to a fit that runs overnight: it is stopped, killed, repeated, diverges, finds no room or no server."""

import contextlib
import getpass
import http.server
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from PIL import Image

import cann
import train
from nsi import files, recordings
from nsi.estimation import estimate
from nsi.evaluation import metrics
from nsi.recordings import quality
from nsi.run import checkpoint, connections, folder, session, tracking, watch
from nsi.simulation import circuits, simulator
from nsi.training import bptt
from tests.tools import GOOD, ROOT, call

SMALL = [
    "--updates",
    "12",
    "--batch",
    "4",
    "--window",
    "20",
    "--input-units",
    "6",
    "--no-report",
    "--wandb",
    "disabled",
]


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """A small recording, in a folder with a space and a letter beyond ASCII."""
    path = tmp_path_factory.mktemp("a fly ü") / "ring.npz"
    recordings.save(path, **cann.simulate_recording(circuits.ring(n=14, shifters=7), trials=24, steps=160))
    return path


@pytest.fixture
def fitted(ring, monkeypatch, capsys):
    """Fit `ring` small into a folder. Returns: exit status, standard error."""

    def run(out, *options):
        return call(train, monkeypatch, capsys, "--data", ring, "--out", out, *SMALL, *options)

    return run


@pytest.fixture(scope="module")
def whole(ring, tmp_path_factory):
    """The folder of a fit to `ring` that nothing has stopped, for tests to compare with or to copy."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", "--data", str(ring), "--out", str(out), *SMALL])
        train.main()
    return out


def results(out):
    """What a run leaves, times aside: weights and errors as bytes, measures as text."""
    weights = torch.load(out / "model.pt", weights_only=True)["model"]
    measured = json.loads((out / "metrics.json").read_text())
    return {
        "weights": b"".join(weights[k].numpy().tobytes() for k in ("W", "W_in", "b")),
        "errors": (out / "connectivity.npz").read_bytes(),
        "metrics": json.dumps({k: v for k, v in measured.items() if not k.endswith("seconds")}),
    }


# ---- interruption -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "during", "call_number"),
    [
        (signal.SIGINT, "first_divergence", 1),
        (signal.SIGTERM, "first_divergence", 7),
        (signal.SIGINT, "first_divergence", 12),
        (signal.SIGTERM, "estimate", 1),
        (signal.SIGINT, "first_divergence", 15),  # in the training of hidden units
        (signal.SIGTERM, "of_network", 1),
        (signal.SIGINT, "score", 1),
    ],
)
def test_interrupted_fit_goes_on_to_the_same_bytes(number, during, call_number, whole, fitted, tmp_path, monkeypatch):
    where = {"first_divergence": session, "estimate": session, "of_network": metrics, "score": connections}
    module = where[during]
    original, calls = getattr(module, during), []

    def interrupted(*args, **more):
        calls.append(args)
        if len(calls) == call_number:
            os.kill(os.getpid(), number)
        return original(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(module, during, interrupted)
        status, error = fitted(tmp_path / "cut")
    assert status == 128 + number
    assert f"train.py: stopped by {number.name}" in error
    assert "the same command with --resume goes on" in error
    if during == "first_divergence" and call_number < 12:
        assert f"after update {call_number} of 12;" in error
        assert checkpoint.read(tmp_path / "cut" / "model.pt")["training"]["updates"] == call_number
    trained = during != "first_divergence" or call_number > 12
    assert (tmp_path / "cut" / "metrics.json").exists() == trained
    if trained:
        measured = [json.loads((out / "metrics.json").read_text()) for out in (tmp_path / "cut", whole)]
        assert [one["finished"] for one in measured] == [False, True]
        assert "coverage_total" in measured[1].keys() - measured[0].keys()
    assert (tmp_path / "cut" / "connectivity.npz").exists() == (during in ("of_network", "score"))
    assert fitted(tmp_path / "cut", "--resume") == (0, "")
    assert results(tmp_path / "cut") == results(whole)


def test_killed_fit_goes_on_from_its_last_checkpoint_to_the_same_bytes(whole, fitted, tmp_path, monkeypatch):
    child = os.fork()
    if not child:
        original = session.first_divergence
        monkeypatch.setattr(watch, "CHECKPOINT_EVERY", 3)
        monkeypatch.setattr(
            session,
            "first_divergence",
            lambda before, update, *more: (
                os.kill(os.getpid(), signal.SIGKILL) if update == 8 else original(before, update, *more)
            ),
        )
        fitted(tmp_path / "killed")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert checkpoint.read(tmp_path / "killed" / "model.pt")["training"]["updates"] == 6
    assert fitted(tmp_path / "killed", "--resume") == (0, "")
    assert results(tmp_path / "killed") == results(whole)


def test_interrupted_simulation_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(simulator, "simulate", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    status, error = call(cann, monkeypatch, capsys, "--out", tmp_path / "ring.npz")
    assert (status, error) == (143, "cann.py: stopped by SIGTERM\n")
    assert list(tmp_path.iterdir()) == []


def write_for_ever(folder, first):
    """Write a recording and a checkpoint over and over, each time with other numbers, from `first` on."""
    for k in range(first, 10**9):
        recordings.save(
            folder / "ring.npz", rates=np.full((4, 50, 200), k, np.float32), velocity=GOOD["velocity"], dt=k
        )
        with files.whole(folder / "model.pt") as temporary:
            torch.save({"k": torch.full((40000,), k)}, temporary)


def test_kill_leaves_the_old_whole_file_or_the_new(tmp_path):
    rng, found, left = np.random.default_rng(0), set(), []
    for first in range(1, 120_001, 1000):
        if first > 60_000 and left:  # at least 60 kills, the last of them while it wrote
            break
        child = os.fork()
        if not child:
            write_for_ever(tmp_path, first)
        time.sleep(rng.uniform(0.01, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for path in tmp_path.glob("[!.]*"):
            if path.suffix == ".npz":
                with files.Archive(path) as archive:
                    assert (archive["rates"] == archive["dt"]).all()
                    found.add(float(archive["dt"]))
            else:
                assert len(torch.load(path, weights_only=True)["k"].unique()) == 1
        left = list(tmp_path.glob(".*.part*"))
    assert len(found) > 1
    assert left  # some were killed while they wrote
    for name in ("ring.npz", "model.pt"):
        with files.whole(tmp_path / name) as temporary:
            Path(temporary).write_bytes(b"next")
    assert not list(tmp_path.glob(".*.part*"))


@pytest.mark.parametrize("name", ["model.pt", "connectivity.npz", "metrics.json"])
def test_full_disk_is_a_sentence_and_the_files_of_the_same_fit_remain(name, whole, fitted, tmp_path, monkeypatch):
    out = shutil.copytree(whole, tmp_path / "run")
    if name == "model.pt":  # written only where training goes on
        state = checkpoint.read(out / name)
        weights, training = checkpoint.with_replicas(state["model"]), state["training"] | {"updates": 6}
        checkpoint.write(out / name, weights, state["args"], training)
    before = (out / name).read_bytes()
    original = files.whole

    @contextlib.contextmanager
    def full(path):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            with original(path) as temporary:
                if Path(path).name == name:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
                yield temporary
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    for module in (files, checkpoint, recordings):
        monkeypatch.setattr(module, "whole", full)
    status, error = fitted(out, "--resume")
    assert (status, error) == (2, f"train.py: {out / name}: cannot be written (File too large)\n")
    assert (out / name).read_bytes() == before
    assert not list(out.glob(".*.part*"))


def test_second_run_in_a_folder_is_refused(fitted, tmp_path):
    with folder.alone(tmp_path / "run"):
        status, error = fitted(tmp_path / "run")
    assert (status, error) == (
        2,
        f"train.py: {tmp_path / 'run'}: another run is writing here; expected a folder of its own\n",
    )
    assert fitted(tmp_path / "run")[0] == 0


# ---- divergence and outliers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, 3])
def test_divergence_is_reported_at_its_update_and_the_last_good_checkpoint_stays(
    fitted, tmp_path, monkeypatch, replicas
):
    original, calls = bptt.gradient, []

    def broken(*args, **settings):
        loss, found = original(*args, **settings)
        calls.append(loss)
        if len(calls) == 7 * replicas:  # one call for each, on a CPU
            found[0][..., -1, -1] = np.inf
        return loss, found

    monkeypatch.setattr(bptt, "gradient", broken)
    monkeypatch.setattr(watch, "CHECKPOINT_EVERY", 3)
    status, error = fitted(tmp_path / "run", "--replicas", replicas)
    assert status == 2
    assert "the fit diverged at update 7: the gradient is not finite; try a smaller --lr than 0.01" in error
    assert checkpoint.read(tmp_path / "run" / "model.pt")["training"]["updates"] == 6
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_outliers_are_reported_before_the_fit(small, save, tmp_path, monkeypatch, capsys):
    assert list(quality.check_outliers(recordings.load(save(small)))) == []
    rates, velocity = small["rates"].copy(), small["velocity"].copy()
    rates[3, 20, 5] = 1000
    velocity[:3, 7, 0] = [-4000, 3000, 2000]
    path = save(small, rates=rates, velocity=velocity)
    status, error = call(train, monkeypatch, capsys, "--data", path, "--out", tmp_path / "run", *SMALL)
    assert re.search(
        r"rates has 1 of 61600 values beyond 10 times .* largest is rates\[3, 20, 5\], 1\d{3} times", error
    )
    assert "velocity has 3 of 4400 values" in error
    assert "velocity[0, 7, 0]" in error
    assert status == 0


# ---- repetition -------------------------------------------------------------------------------------------------


def test_same_seed_same_bytes_of_every_file(fitted, circuit, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "estimate", estimate)  # anew each time
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        recordings.save(
            tmp_path / f"{name}.npz", **cann.simulate_recording(circuit, seed, trials=3, steps=30, amplitude=1.0)
        )
        assert fitted(tmp_path / name, "--seed", seed)[0] == 0
    first, again, other = ((tmp_path / f"{name}.npz").read_bytes() for name in "abc")
    assert first == again != other
    first, again, other = (results(tmp_path / name) for name in "abc")
    assert first == again
    assert first.pop("errors") == other.pop("errors")  # the estimate has no seed
    assert all(first[k] != other[k] for k in first)


# ---- Weights & Biases away --------------------------------------------------------------------------------------

KEY = "0123456789abcdef" * 3
TRACK = """
import pathlib, numpy
from nsi.run import tracking
tracking.ANSWER = 1
with tracking.tracked("auto", pathlib.Path("run"), {"lr": 0.006}) as run:
    tracking.log(run, 10, {"loss": 1.0}, numpy.eye(2), 10)
    tracking.summarise(run, {"loss": 1.0})
"""


class Refusal(http.server.BaseHTTPRequestHandler):
    """A server that answers every request with an error."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_error(self.server.status)

    do_GET = do_PUT = do_POST

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def server(status):
    """A server on this machine that answers with an error status, or accepts and never replies (None). Gives: URL."""
    if status is None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield f"http://127.0.0.1:{silent.getsockname()[1]}"
    else:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as refusing:
            refusing.status = status
            threading.Thread(target=refusing.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{refusing.server_port}"
            refusing.shutdown()


def python(folder, *command, **environment):
    """Run Python in a folder without a home. Returns: what it printed; it must succeed and complain of nothing."""
    inside = {"PATH": os.environ["PATH"], "HOME": "/dev/null/nobody", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=inside | environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("status", [None, 500])
def test_server_that_fails_is_waited_for_only_so_long(status, tmp_path):
    (tmp_path / "run").mkdir()
    began = time.perf_counter()
    with server(status) as url:
        said = python(tmp_path, "-c", TRACK, WANDB_API_KEY=KEY, WANDB_BASE_URL=url)
    assert time.perf_counter() - began < 15
    assert said.startswith("W&B: offline, since online failed")
    assert "wandb sync" in said
    assert said.count("\n") == 1
    assert list(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize(("mode", "said"), [("bogus", "W&B: disabled"), ("disabled", ""), ("offline", "W&B: offline")])
def test_users_mode_is_heeded_and_cannot_stop_a_run(mode, said, tmp_path):
    (tmp_path / "run").mkdir()
    heard = python(tmp_path, "-c", TRACK, WANDB_MODE=mode)
    assert heard.startswith(said)
    assert heard.count("\n") == bool(said)
    assert bool(list(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))) == (mode == "offline")


def test_a_run_in_two_parts_is_uploaded_whole(tmp_path):
    """The command names the folders of both parts, the first one first, of this run alone."""
    (tmp_path / "a run").mkdir()
    track = """
import pathlib, sys
from nsi.run import tracking
with tracking.tracked("offline", pathlib.Path("a run"), {}, sys.argv[1]) as run:
    tracking.log(run, 10, {"loss": 1.0}, [[1.0]], 20)
"""
    for run_id in ("one", "two", "one"):
        time.sleep(1.1)  # the folders' names tell seconds
        said = python(tmp_path, "-c", track.replace("[[1.0]]", "__import__('numpy').eye(2)"), run_id)
    (command,) = re.findall("`(.*)`", said)
    folders = [Path(word) for word in shlex.split(command)[2:]]
    assert command.startswith("wandb sync ")
    assert [path.name.rsplit("-", 1)[1] for path in folders] == ["one", "one"]
    assert folders == sorted(folders)
    assert all((tmp_path / path).is_dir() for path in folders)


def test_users_project_and_name_are_heeded(tmp_path, monkeypatch):
    for project, name, expected in ((None, None, ("nsi", "run")), ("flies", "first", ("flies", "first"))):
        for key, value in (("WANDB_PROJECT", project), ("WANDB_NAME", name)):
            monkeypatch.delenv(key, raising=False)
            if value:
                monkeypatch.setenv(key, value)
        passed_options = {}

        def init(passed_options=passed_options, **options):
            passed_options |= options
            raise OSError

        with monkeypatch.context() as patch:
            patch.setattr(wandb, "init", init)
            assert tracking.start("offline", tmp_path / "run", {}, None).disabled
        assert (passed_options["project"], passed_options["name"]) == expected


def test_reader_that_goes_away_is_no_traceback(tmp_path):
    """`python cann.py | head -1`, where Python holds back what it prints until its end."""
    script = "import sys; from nsi.run import cli; cli.run(lambda: print('x' * 100))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


def test_fit_with_a_wrong_key_and_no_home_finishes_and_keeps_secrets(ring, tmp_path):
    out = tmp_path / "ein Lauf ü"
    with server(401) as url:
        command = (ROOT / "train.py", "--data", ring, "--out", out, *SMALL[:-2], "--wandb", "auto")
        said = python(tmp_path, *command, WANDB_API_KEY=KEY, WANDB_BASE_URL=url)
    assert said.count("W&B: offline, since online failed") == said.count("W&B") == 1
    for name in ("metrics.json", "model.pt", "connectivity.npz"):
        content = (out / name).read_bytes()
        assert not [secret for secret in (KEY, str(tmp_path), str(Path.home())) if secret.encode() in content]
    written = (out / "metrics.json").read_text() + repr(checkpoint.read(out / "model.pt")["args"])
    assert socket.gethostname() not in written
    assert getpass.getuser() not in written


def test_figures_contain_nothing_of_their_maker():
    for path in [*(ROOT / "assets").glob("*.png"), *(ROOT / "experiments").rglob("*.png")]:
        with Image.open(path) as image:
            assert image.info.keys() <= {"Software", "dpi"}, path
