"""Remake every experiment, its page and its figure, one after the other: `python -m experiments`, or `make pages`.

Those of real animals need data/fly.npz and data/mouse.npz (`python -m experiments.flies.read FOLDER`,
`python -m experiments.mouse.read FILE`), and are left out without them.
"""

import shutil
import subprocess
import sys

from experiments import runs

ORDER = (
    "reproduction", "benchmark", "unrecorded", "findings", "orders", "design",
    "speed", "grid", "flies", "mouse",
)  # fmt: skip


def main():
    for picture in (runs.ROOT / "runs" / "figures").glob("*.png"):  # the notebook's
        shutil.copy(picture, runs.ROOT / "experiments" / "reproduction")
    for name in ORDER:
        needed = {"flies": "fly.npz", "mouse": "mouse.npz"}.get(name)
        if needed and not (runs.ROOT / "data" / needed).exists():
            print(f"{name}: left out, there is no data/{needed}")
            continue
        print(f"{name}:", flush=True)
        subprocess.run([sys.executable, "-m", f"experiments.{name}"], cwd=runs.ROOT, check=True)


if __name__ == "__main__":
    main()
