"""A copy of the project in which the commands have run small, and what the pages say to run."""

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy.io import savemat

from tests.commands import pages
from tests.commands.server import start
from tests.tools import ROOT

LITTLE = (
    ("nsi/simulation/circuits.py", r"\bn=100\b", "n=30"),
    ("nsi/simulation/circuits.py", r"\bshifters=50\b", "shifters=15"),
    ("experiments/benchmark/tasks.py", r"\b84, 42\b", "30, 15"),
    ("nsi/hidden/units.py", r"POPULATION = 100", "POPULATION = 30"),
)


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """A folder with the stand-in for `python` that forks (server.py)."""
    folder = tmp_path_factory.mktemp("python")
    server = start(folder)
    yield folder
    server.terminate()
    server.wait()


@pytest.fixture(scope="session")
def run(python):
    """Run a shell command in a folder, without a display or an account. Returns: what it printed."""

    def command(folder, line, anew=False, **environment):
        """anew: with a new Python, not the stand-in."""
        path = os.path.dirname(sys.executable) if anew else python
        inside = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "DISPLAY"}
        inside |= {"PATH": f"{path}:{os.environ['PATH']}", "HOME": str(folder)} | environment
        done = subprocess.run(
            ["sh", "-c", line], cwd=folder, env=inside, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return command


@contextlib.contextmanager
def locked(path, wait=True):
    """Take a lock of all processes. Yields: whether it was taken, as it always is if one waits for it."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@pytest.fixture(scope="session")
def once(shared):
    """Make a folder once for all processes of pytest. Returns: a function of its name and of what fills it, that
    returns the folder; keyword `wait` leaves it where another process fills it just then."""

    def make(name, fill, wait=True):
        folder, made = shared / name, shared / f"{name}.made"
        with locked(shared / f"{name}.lock", wait) as is_mine:
            if is_mine and not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # where another process failed
                folder.mkdir()
                fill(folder)
                made.touch()
        return folder

    return make


def copied(folder):
    """Copy the project's files to a folder. Returns: it."""
    for name in [*ROOT.glob("*.py"), *ROOT.glob("*.sh"), *ROOT.glob("*.ipynb")]:
        shutil.copy(name, folder)
    for name in ("nsi", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="session")
def made(once, run):
    """A copy in which circuits have 30 neurons by default, and networks as many units of a kind, after the three
    commands but the notebook have run small there. Tests change copies of it.

    What a command prints and leaves does not hang on the number of neurons; how long it runs does.
    """

    def fill(folder):
        copied(folder)
        for name, pattern, few in LITTLE:
            text, count = re.subn(pattern, few, (folder / name).read_text())
            assert count, f"nothing in {name} is {pattern}"
            (folder / name).write_text(text)
        (folder / "said").mkdir()
        simulation = f"python cann.py --visualize {pages.SMALL_SIMULATION}"
        (folder / "said" / "cann").write_text(run(folder, simulation, anew=True))
        (folder / "said" / "train").write_text(run(folder, f"sh train.sh {pages.SMALL_PAIR}"))

    return once("as the commands leave it", fill)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory, made):
    """The project's files after the commands, in a folder with a space."""
    return shutil.copytree(made, tmp_path_factory.mktemp("a copy"), dirs_exist_ok=True)


@pytest.fixture(scope="session")
def little(once, made, run, fly_trial, mouse_session, module_session):
    """A copy of what the commands leave, with the files that pages read, and with what the pages' Python examples make
    of someone's r (trials, steps, N) and v (trials, steps)."""

    def fill(folder):
        shutil.copytree(made, folder, dirs_exist_ok=True)
        write_flies(folder, fly_trial)
        savemat(folder / "dataHD.mat", mouse_session()[0])
        np.savez(folder / "rat_q_grid_modules_1_2.npz", **module_session(seconds=150, cells=40)[0])
        write_worms(folder)
        arrays = "import numpy as np\nr = np.random.default_rng(0).random((3, 80, 16))\nv = r[..., 0] - 0.5\n"
        arrays += "session = np.arange(800) / 50, r[0, :1].repeat(800, 0), np.linspace(0, 9, 800)\n"
        for k, code in enumerate(pages.EXAMPLES):
            (folder / f"example{k}.py").write_text(arrays + code)
            run(folder, f"python example{k}.py")

    return once("a little copy", fill)


def write_flies(folder, fly_trial):
    """Write files like those of the real flies and their connectome, where the pages have them."""
    for name in ("PEN1-EB/20160423", "PEN1-PB/20160621"):
        (folder / name).mkdir(parents=True)
    for k in range(6):
        name = f"Fly{k // 2 + 1}_9day_6fx60D05_jRGC1ax37F06_Dark_0000{k % 2}.mat"
        one = fly_trial(130, seed=k)[0]
        savemat(folder / "PEN1-EB" / "20160423" / name, one)
        bridge = {key: np.concatenate([one[key], one[key][:2]]) for key in ("GROIaveMax", "RROIaveMax")}  # 18 glomeruli
        savemat(folder / "PEN1-PB" / "20160621" / name, one | bridge)
    rng, glomeruli = np.random.default_rng(0), [f"{side}{k}" for side in "LR" for k in range(1, 9)] * 2
    population = np.repeat(["EPG", "D7"], [32, 4])
    np.savez(
        folder / "data" / "hemibrain_hd_152.npz",
        W=rng.integers(0, 9, (36, 36)),
        pop=population,
        glom=np.array([*glomeruli, *["L1"] * 4]),
    )


def write_worms(folder):
    """Write a file like that of the worms' recordings and references, where the page has it."""
    rng, n = np.random.default_rng(0), 9
    some = lambda share: (rng.random((n, n)) < share) * 1.0
    np.savez(folder / "data" / "worm.npz", traces_f_f20=1 + rng.random((2, 800, n)), recorded=np.ones((2, n), bool),
             chemical=some(0.2), gap=some(0.1), atlas_q=rng.random((n, n)), atlas_trials=some(0.9), dt=0.6)  # fmt: skip


@pytest.fixture(scope="session")
def outcome(once, shared, little, run):
    """Run a page's command small, once, after those that make what it reads: both processes of pytest share the work.

    Returns: a function of the command, that returns its error or None.
    """

    def attempt(command, wait=True):
        words, name = shlex.split(command), pages.name_of(command)
        if command in pages.ALREADY:
            return None
        if words[0] not in ("python", "sh") or name not in pages.SMALL:
            return f"no test runs {command!r}"
        out = words[words.index("--out") + 1] if "--out" in words else ".".join(name.split(".")[:2])

        def fill(folder):
            for patient in (False, True):  # first those that the other process has not begun
                for earlier in pages.read_by(command):
                    attempt(earlier, patient)
            error = ""
            with locked(shared / f"{out.replace('/', ' ')}.lock"):  # the folder or page that is written
                try:
                    run(little, f"{command} {pages.small(command)}", anew=name == pages.ANEW, WANDB_MODE="disabled")
                except AssertionError as failed:
                    error = str(failed)
            (folder / "error").write_text(error)

        folder = once(f"command {pages.RUN.index(command)}", fill, wait)
        return ((folder / "error").read_text() or None) if wait else None

    return attempt
