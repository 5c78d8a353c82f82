"""The files of one fit: nothing of an earlier one in a run's folder, one run at a time, and a page whatever lies beside
it and however this machine is set up."""

import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot

import cann
import train
from nsi import files, recordings
from nsi.errors import BadInput
from nsi.figures import run as portrait
from nsi.run import checkpoint, connections, folder, interruption, owners, session
from nsi.simulation import circuits
from tests.tools import ROOT, TINY, call

DRAWN = [option for option in TINY if option != "--no-report"]
QUICK = "--set", "calibrated=no"
RESULTS = {"hidden.pt", "metrics.json", "connectivity.npz", "report.html", "figures"}


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """A small recording, and a finished fit to it with all its files, as a folder that tests copy."""
    path = tmp_path_factory.mktemp("ring") / "ring.npz"
    recordings.save(path, **cann.simulate_recording(circuits.ring(n=14, shifters=7), trials=24, steps=160))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", "--data", str(path), "--out", str(path.parent / "run"), *DRAWN])
        train.main()
    return path


@pytest.fixture
def out(ring, tmp_path):
    """A copy of the finished run's folder."""
    return shutil.copytree(ring.parent / "run", tmp_path / "run")


@pytest.fixture
def fitted(ring, out, monkeypatch, capsys):
    """Fit small in that folder. Returns: exit status, standard error."""

    def run(*options, drawn=True):
        arguments = ["--data", ring, "--out", out, *(DRAWN if drawn else TINY), *options]
        return call(train, monkeypatch, capsys, *arguments)

    return run


def names(out):
    """What lies in a run's folder, hidden files aside."""
    return {path.name for path in out.iterdir() if not path.name.startswith(".")}


def stop(*_, **__):
    raise interruption.Interrupted(15)


# ---- nothing of an earlier fit ----------------------------------------------------------------------------------


def test_a_finished_fit_says_so_and_leaves_all_its_files(out):
    assert names(out) == RESULTS | {"model.pt"}
    assert json.loads((out / "metrics.json").read_text())["finished"] is True


@pytest.mark.parametrize(
    ("module", "function", "left"),
    [
        (train, "fit", set()),
        (session, "estimate", {"model.pt", "metrics.json"}),
        (train, "fit_hidden", {"model.pt", "metrics.json"}),
        (connections, "score", RESULTS - {"report.html", "figures"} | {"model.pt"}),
    ],
)
def test_overwriting_leaves_nothing_of_the_earlier_fit(out, module, function, left, fitted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, function, stop)
        assert fitted("--overwrite", "--seed", 1, *QUICK)[0] == 143
    assert names(out) == left
    if left:
        assert checkpoint.read(out / "model.pt")["args"]["seed"] == 1


def test_overwriting_without_a_report_leaves_none(out, fitted):
    assert fitted("--overwrite", *QUICK, drawn=False) == (0, "")
    assert names(out) == {"model.pt", "hidden.pt", "metrics.json", "connectivity.npz"}


def test_a_report_that_fails_leaves_none_and_is_drawn_when_resumed(out, fitted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(portrait, "draw_figures", lambda *_: 1 / 0)
        status, error = fitted("--overwrite", *QUICK)
    assert status == 0
    assert "no report, since drawing it failed (division by zero); the same command with --resume tries again" in error
    assert "report.html" not in names(out)
    assert json.loads((out / "metrics.json").read_text())["finished"] is True
    monkeypatch.setattr(portrait, "draw_figures", lambda *_: [("one", "of several", pyplot.figure())])
    assert fitted("--resume", *QUICK) == (0, "")
    assert names(out) == RESULTS | {"model.pt"}
    assert (out / "figures" / "one.png").exists()


def test_results_without_the_training_that_led_to_them_go_when_it_goes_on(out, fitted, monkeypatch):
    """As older versions left them: a checkpoint of a fit that was stopped, beside the results of another."""
    state = checkpoint.read(out / "model.pt")
    weights = checkpoint.with_replicas(state["model"])
    checkpoint.write(out / "model.pt", weights, state["args"], state["training"] | {"updates": 1})
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", stop)
        assert fitted("--resume")[0] == 143
    assert names(out) == {"model.pt"}


def test_what_is_refused_loses_nothing(out, fitted):
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for options in (["--seed", 1], ["--resume", "--seed", 1], ["--overwrite", "--window", 5000]):
        assert fitted(*options)[0] == 2
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    with folder.alone(out):
        assert fitted("--overwrite")[0] == 2
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_run_stopped_in_its_errors_is_not_finished(out, fitted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(session, "estimate", stop)
        assert fitted("--overwrite", *QUICK)[0] == 143
    status, error = fitted(*QUICK)
    assert json.loads((out / "metrics.json").read_text())["finished"] is False
    assert status == 2
    assert "stopped before its connections were estimated; expected --resume to finish it" in error
    assert "finished run" not in error
    assert fitted("--resume", *QUICK, drawn=False) == (0, "")
    assert json.loads((out / "metrics.json").read_text())["finished"] is True


def test_a_run_that_finishes_while_another_starts_is_not_replaced(out, fitted, monkeypatch):
    """The second looked before there was anything to see, and got the folder after the first had gone."""
    looked = []
    original = folder.refuse_earlier
    monkeypatch.setattr(folder, "refuse_earlier", lambda *a: original(*a) if looked else looked.append(a))
    status, error = fitted()
    assert (status, "holds a finished run" in error) == (2, True)
    assert names(out) == RESULTS | {"model.pt"}


@pytest.mark.parametrize("content", [b"", b"[1]", b"[" * 100_000, b'{"loss": NaN', b"\xff\xfe", None])
def test_measures_that_cannot_be_read_are_refused_in_a_sentence(out, content, fitted, monkeypatch):
    path = out / "metrics.json"
    path.unlink()
    os.mkfifo(path) if content is None else path.write_bytes(content)
    status, error = fitted()
    assert (status, error.count("\n")) == (2, 1)
    assert "holds a metrics.json that cannot be read; expected another --out, or --overwrite" in error
    monkeypatch.setattr(train, "fit", stop)
    assert fitted("--overwrite")[0] == 143
    assert names(out) == set()


# ---- the page ---------------------------------------------------------------------------------------------------


def test_the_page_is_written_whatever_other_folders_hold(out, fitted, monkeypatch):
    """Neighbours: damaged, a list, of another version, of a pipe that nobody writes to, without what is compared."""
    mine = json.loads((out / "metrics.json").read_text())
    other = {"shuffle_velocity": True, "data_sha256": mine["data_sha256"], "shifter_fraction": 0.5}
    beside = {"damaged": "{", "list": "[]", "deep": "[" * 100_000, "binary": b"\xff",
              "old": json.dumps(other), "null": json.dumps(other | {"heading_error": None, "loss": "x"}),
              **{f"a{k}": json.dumps(other) for k in range(4)},
              "unfinished": json.dumps(mine | other | {"finished": False})}  # fmt: skip
    for name, content in beside.items():
        (out.parent / name).mkdir()
        path = out.parent / name / "metrics.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (out.parent / "pipe").mkdir()
    os.mkfifo(out.parent / "pipe" / "metrics.json")
    (out.parent / "good").mkdir()
    (out.parent / "good" / "metrics.json").write_text(json.dumps(mine | other))
    monkeypatch.setattr(portrait, "draw_figures", lambda *_: ())  # tested elsewhere, and slow
    assert fitted("--resume") == (0, "")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "good was fitted to the velocity of other trials" in page
    assert "unfinished was fitted" not in page


LOCALES = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_the_page_is_written_whatever_the_locale_the_folders_name_and_matplotlibrc(ring, tmp_path):
    """An ASCII locale, a name that is no text, and a matplotlibrc that asks for LaTeX and a font that nobody has."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.family: nobody\nbackend: qtagg\n")
    out = os.fsencode(tmp_path) + b"/runs/fl\xffy \xc3\xbc"
    command = [sys.executable, ROOT / "train.py", "--data", ring, "--out", out, *DRAWN, "--set", "calibrated=no"]
    environment = os.environ | LOCALES | {"PATH": "/nowhere"}  # where no LaTeX is
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    with open(out + b"/report.html", encoding="utf-8") as file:
        assert "What was found" in file.read()


# ---- one run at a time ------------------------------------------------------------------------------------------


@pytest.fixture(params=[errno.ENOSYS, None])
def no_locks(request, monkeypatch):
    """A file system without locks, or with locks that anybody gets."""

    def flock(*_):
        if request.param:
            raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def without_locks(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_second_run_is_refused_where_file_locks_do_not_work(out, no_locks, fitted):
    with folder.alone(out):
        status, error = fitted("--overwrite")
    assert (status, error) == (2, f"train.py: {out}: another run is writing here; expected a folder of its own\n")
    assert names(out) == RESULTS | {"model.pt"}
    assert not (out / ".owner").exists()


def test_second_process_is_refused_and_a_killed_one_lets_go(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", without_locks)
    script = f"""
import fcntl, sys, time
sys.path.insert(0, {str(ROOT)!r})
def flock(*_): raise OSError(38, "not implemented")
fcntl.flock = flock
from nsi.run import folder
with folder.alone({str(tmp_path)!r}):
    print("in", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "in\n"
    with pytest.raises(BadInput, match="another run is writing here"), folder.alone(tmp_path):
        pass
    process.kill()
    process.wait()
    assert (tmp_path / ".owner").exists()
    with folder.alone(tmp_path):
        pass
    assert not (tmp_path / ".owner").exists()


def test_an_owner_on_another_host_is_refused_where_locks_do_not_work(tmp_path, monkeypatch):
    (tmp_path / ".owner").write_text(json.dumps(owners.Owner(1, "5", "elsewhere")))
    with folder.alone(tmp_path):  # it would hold the lock if it lived
        pass
    (tmp_path / ".owner").write_text(json.dumps(owners.Owner(1, "5", "elsewhere")))
    monkeypatch.setattr(fcntl, "flock", without_locks)
    said = "process 1 of elsewhere may be writing here, .* is removed"
    with pytest.raises(BadInput, match=said), folder.alone(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "[]", "nonsense", json.dumps(["x", 1, 2])])
def test_an_owners_file_without_a_name_is_taken_over(content, tmp_path, monkeypatch):
    (tmp_path / ".owner").write_text(content)
    monkeypatch.setattr(owners, "SETTLED", 0)
    with folder.alone(tmp_path):
        assert json.loads((tmp_path / ".owner").read_text())[0] == os.getpid()


def test_another_process_of_the_same_number_is_no_owner(tmp_path):
    me = owners.Owner(os.getpid(), owners.start_of(os.getpid()), owners.here())
    assert me.lives()
    if me.started:
        assert not me._replace(started="1").lives()
    assert socket.gethostname() in me.host


def test_a_pipe_in_the_place_of_the_lock_is_no_wait(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(BadInput, match="cannot be written"), folder.alone(tmp_path):
        pass


def test_parts_that_another_process_is_writing_stay_where_locks_do_not_work(tmp_path, monkeypatch):
    part, path = tmp_path / ".model.pt.x.part.pt", tmp_path / "model.pt"
    part.write_text("half")
    monkeypatch.setattr(fcntl, "flock", without_locks)
    files.remove_parts(path)
    assert part.exists()
    os.utime(part, (0, 0))
    files.remove_parts(path)
    assert not part.exists()


# ---- the recording's identity -----------------------------------------------------------------------------------


def test_a_recordings_identity_is_of_what_a_fit_reads(data, save):
    digest = lambda name="mine.npz", **changes: recordings.digest(recordings.load(save(data, name, **changes)))
    same = digest()
    gate = np.nextafter(data["true_gate"], np.inf)  # another processor's last bit
    assert same == digest(true_gate=gate, true_W=None, held_out_rates=data["rates"], note=np.array("a note"))
    rates = data["rates"].copy()
    rates[0, 0, 0] = np.nextafter(rates[0, 0, 0], np.float32(1))
    changed = [{"rates": rates}, {"velocity": -data["velocity"]}, {"dt": 0.011}, {"tau": None}, {"heading": None},
               {"lengths": np.full(20, 300)}, {"animal": np.arange(20)}, {"stimulus": 0 * data["rates"]},
               {"driven": np.arange(40) == 3}, {"velocity": None}]  # fmt: skip
    assert len({same, *(digest(**change) for change in changed)}) == 1 + len(changed)
    lengths = np.full(20, 200)
    padded = {"lengths": lengths, "rates": data["rates"].copy()}
    padded["rates"][:, 200:] = 1.0
    assert digest(**padded) == digest(lengths=lengths)


def test_resuming_takes_the_same_data_of_another_processor(out, fitted, ring, tmp_path, monkeypatch, capsys):
    with np.load(ring) as file:
        arrays = {k: np.nextafter(file[k], np.inf) if k == "true_gate" else file[k] for k in file}
    path = tmp_path / "ring.npz"
    recordings.save(path, **arrays)
    assert path.read_bytes() != ring.read_bytes()
    assert call(train, monkeypatch, capsys, "--data", path, "--out", out, *TINY, "--resume") == (0, "")


# ---- threads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "used"), [(None, "1"), ("2", "2")])
def test_one_thread_unless_the_environment_says_otherwise(setting, used, tmp_path):
    """By hand as by train.sh, which leaves it to train.py."""
    assert "OMP_NUM_THREADS" not in (ROOT / "train.sh").read_text()
    code = (
        "import runpy, sys, os; sys.argv = ['train.py', '--help']\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit: print(os.environ['OMP_NUM_THREADS'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": setting} if setting else {}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == used
