"""A copy of the project in which the commands have run small, and what the pages say to run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.io import savemat

from tests.commands.pages import ALREADY, LAST, MAKES, PAGES, RUN, SMALL, SMALL_PAIR, SMALL_SIMULATION, name_of, small
from tests.tools import ROOT

LITTLE = (
    ("nsi/simulation/circuits.py", r"\bn=100\b", "n=30"),
    ("nsi/simulation/circuits.py", r"\bshifters=50\b", "shifters=15"),
    ("experiments/benchmark/tasks.py", r"\b84, 42\b", "30, 15"),
    ("nsi/hidden/units.py", r"POPULATION = 100", "POPULATION = 30"),
    ("experiments/limits/__main__.py", r'(input units|as many shifters)", 100,', r'\1", 30,'),
)


@pytest.fixture(scope="session")
def run():
    """Run a shell command in a folder, without a display or an account. Returns: what it printed."""

    def command(folder, line, **environment):
        inside = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "DISPLAY"}
        inside |= {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}", "HOME": str(folder)} | environment
        done = subprocess.run(
            ["sh", "-c", line], cwd=folder, env=inside, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return command


def copied(folder):
    """Copy the project's files to a folder. Returns: it."""
    for name in [*ROOT.glob("*.py"), *ROOT.glob("*.sh"), *ROOT.glob("*.ipynb")]:
        shutil.copy(name, folder)
    for name in ("nsi", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory, run):
    """The project's files in a folder with a space, after the three commands but the notebook have run small there."""
    folder = copied(tmp_path_factory.mktemp("a copy"))
    (folder / "said").mkdir()
    (folder / "said" / "cann").write_text(run(folder, f"python cann.py --visualize {SMALL_SIMULATION}"))
    (folder / "said" / "train").write_text(run(folder, f"sh train.sh {SMALL_PAIR}"))
    return folder


@pytest.fixture(scope="session")
def little(tmp_path_factory, run):
    """A copy in which circuits have 30 neurons by default, and networks as many units of a kind.

    Whether a page's command runs does not hang on their number; how long it runs does.
    """
    folder = copied(tmp_path_factory.mktemp("a little copy"))
    for name, pattern, few in LITTLE:
        path = folder / name
        text, count = re.subn(pattern, few, path.read_text())
        assert count, f"nothing in {name} is {pattern}"
        path.write_text(text)
    run(folder, f"python cann.py {SMALL_SIMULATION} --no-report")
    run(folder, f"sh train.sh {SMALL_PAIR} --no-report", WANDB_MODE="disabled")
    return folder


@pytest.fixture(scope="session")
def examples(little, run):
    """The pages' Python examples, run where r (trials, steps, N) and v (trials, steps) are someone's. Returns: them."""
    found = [
        code
        for page in PAGES
        for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        if "pynapple" not in code
    ]  # these have a test of their own
    arrays = "import numpy as np\nr = np.random.default_rng(0).random((3, 80, 16))\nv = r[..., 0] - 0.5\n"
    arrays += "session = np.arange(800) / 50, r[0, :1].repeat(800, 0), np.linspace(0, 9, 800)\n"
    for k, code in enumerate(found):
        (little / f"example{k}.py").write_text(arrays + code)
        run(little, f"python example{k}.py")
    return found


@pytest.fixture(scope="session")
def flies(little, fly_trial):
    """Files like those of the real flies and their connectome, where the pages have them."""
    for folder in ("PEN1-EB/20160423", "PEN1-PB/20160621"):
        (little / folder).mkdir(parents=True)
    for k in range(6):
        name = f"Fly{k // 2 + 1}_9day_6fx60D05_jRGC1ax37F06_Dark_0000{k % 2}.mat"
        one = fly_trial(130, seed=k)[0]
        savemat(little / "PEN1-EB" / "20160423" / name, one)
        bridge = {key: np.concatenate([one[key], one[key][:2]]) for key in ("GROIaveMax", "RROIaveMax")}  # 18 glomeruli
        savemat(little / "PEN1-PB" / "20160621" / name, one | bridge)
    rng, glomeruli = np.random.default_rng(0), [f"{side}{k}" for side in "LR" for k in range(1, 9)] * 2
    population = np.repeat(["EPG", "D7"], [32, 4])
    np.savez(
        little / "data" / "hemibrain_hd_152.npz",
        W=rng.integers(0, 9, (36, 36)),
        pop=population,
        glom=np.array([*glomeruli, *["L1"] * 4]),
    )


@pytest.fixture(scope="session")
def mouse(little, mouse_session):
    """A file like that of the mouse's head-direction cells, where the page has it."""
    savemat(little / "dataHD.mat", mouse_session()[0])


@pytest.fixture(scope="session")
def module(little, module_session):
    """A file like those of the real modules of grid cells, where the pages have it."""
    np.savez(little / "rat_q_grid_modules_1_2.npz", **module_session()[0])


@pytest.fixture(scope="session")
def worms(little):
    """A file like that of the worms' recordings and references, where the page has it."""
    rng, n = np.random.default_rng(0), 9
    some = lambda share: (rng.random((n, n)) < share) * 1.0  # noqa: E731
    (little / "data").mkdir(exist_ok=True)
    np.savez(little / "data" / "worm.npz", traces_f_f20=1 + rng.random((2, 800, n)), recorded=np.ones((2, n), bool),
             chemical=some(0.2), gap=some(0.1), atlas_q=rng.random((n, n)), atlas_trials=some(0.9), dt=0.6)  # fmt: skip


@pytest.fixture(scope="session")
def outcomes(little, examples, flies, mouse, worms, module, run):
    """The pages' commands run small, two at a time, those first that others read, and those of LAST one by one.

    Returns: {command: error or None}.
    """
    locks = defaultdict(threading.Lock)  # of the folders and pages that are written

    def attempt(command):
        words, name = shlex.split(command), name_of(command)
        if command in ALREADY:
            return None
        if words[0] not in ("python", "sh") or name not in SMALL:
            return f"no test runs {command!r}"
        out = words[words.index("--out") + 1] if "--out" in words else ".".join(name.split(".")[:2])
        try:
            with locks[out]:
                run(little, f"{command} {small(command)}", WANDB_MODE="disabled", OMP_NUM_THREADS="1")
        except AssertionError as error:
            return str(error)

    order = {name: k for k, name in enumerate(MAKES)}
    done, early = {}, [c for c in RUN if not any(what in c for what in LAST)]
    with ThreadPoolExecutor(2) as pool:
        for stage in range(len(MAKES) + 1):
            some = [c for c in early if order.get(name_of(c), len(MAKES)) == stage]
            done |= dict(zip(some, pool.map(attempt, some), strict=True))
    return done | {c: attempt(c) for c in RUN if c not in early}
