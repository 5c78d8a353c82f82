"""The pages, the commands on them, and what makes each command small."""

import re
import shlex

from tests.tools import ROOT

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("data/*.md")), *sorted(ROOT.glob("docs/*.md")),
         *sorted(ROOT.glob("experiments/*/README.md"))]  # fmt: skip
SMALL_SIMULATION, SMALL_PAIR = "--trials 10 --steps 150", "--updates 30 --batch 4 --window 20"
FLIES = "--updates 3 --replicas 2"
CIRCUIT = "--seeds 1 --updates 5 --trials 10 --steps 150"
SMALL = {
    "cann.py": f"{SMALL_SIMULATION} --no-report",
    "train.py": "--updates 20 --batch 4 --window 20 --input-units 12 --overwrite --no-report",
    "train.sh": SMALL_PAIR,
    "experiments/flies/fit.sh": f"{FLIES} --no-report",
    "experiments.flies": FLIES,
    "experiments.flies.read": "",
    "experiments.mouse.read": "",
    "experiments.mouse": "--updates 3 --seeds 1",
    "experiments.reproduction": f"--circuits ring {CIRCUIT}",
    "experiments.design": f"--most 10 --disturbance 4 {CIRCUIT}",
    "experiments.unrecorded": f"--recorded 'shifters: constrained' {CIRCUIT}",
    "experiments.findings": CIRCUIT,
    "experiments.orders": f"--circuits quadratic --flies none {CIRCUIT}",
    "experiments.speed.estimate": "--most 2500 --steps 100",
    "experiments.speed.stages": "--small",
    "experiments.benchmark": "--tasks ring 'ring, own velocity' flies --seeds 1 --updates 5 --trials 20 --steps 300",
    "experiments.speed": "--small --seconds 0.1",
    "experiments.grid.read": "",
    "experiments.grid": f"--cases uniform --side 10 --shapes 1 {CIRCUIT}",
    "experiments.worm": "--draws 3",
    "nsi.design": "--trials 10 --steps 150 --disturbance 4",
}
PILOT = "--updates 150 --batch 8 --window 20 --input-units 30 --overwrite --no-report"  # a fit to plan pulses from
ALREADY = "python cann.py --visualize", "sh train.sh"  # run for other tests, by fixtures
BY_HAND = "git ", "cd ", "make", ". ", "pip ", "python -m venv", "wandb "  # what sets up, or needs an account
MAKES = (
    "cann.py",
    "experiments.flies.read",
    "experiments.mouse.read",
    "experiments.grid.read",
    "experiments/flies/fit.sh",
)  # what other commands read
ANEW = "experiments.findings"  # runs with a new Python, and processes of its own, as the others do by hand
AFTER = {"nsi.design": "--out runs/pilot", "--stimulus runs/": "nsi.design"}  # what reads a fit, and what reads that


def commands(page):
    """The lines of a page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines = [re.sub(r"\s+", " ", line) for line in lines if line and not line.startswith("#")]
    return [line for line in lines if not line.startswith(BY_HAND)]


EVERY = list(dict.fromkeys(line for page in PAGES for line in commands(page)))
RUN = [line for line in EVERY if not line.startswith("jupyter")]  # notebooks have tests of their own


EXAMPLES = [
    code
    for page in PAGES
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    if "pynapple" not in code
]  # pynapple's have a test of their own


def small(command):
    """The options that make a command small."""
    if "--out data/pilot.npz" in command:
        return "--trials 20 --steps 400 --no-report"  # enough to estimate from
    return PILOT if "--out runs/pilot" in command else SMALL[name_of(command)]


def read_by(command):
    """The commands that make what a command reads."""
    order = {name: k for k, name in enumerate(MAKES)}
    stage = order.get(name_of(command), len(MAKES))
    made = [what for reader, what in AFTER.items() if reader in command]
    if made:
        return [c for c in RUN if any(what in c for what in made) and c != command]
    return [c for c in RUN if order.get(name_of(c), len(MAKES)) < stage and not any(reader in c for reader in AFTER)]


def name_of(command):
    """The script or module that a command runs."""
    words = shlex.split(command)
    if words[1] == "-m":
        return words[2]
    return next((w for w in words if w.endswith((".py", ".sh"))), None)
