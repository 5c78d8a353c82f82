"""Remake every experiment, its page and its figure, one after the other: `python -m experiments`, or `make pages`.

Those of real flies need data/fly.npz (`python -m experiments.flies.read FOLDER`) and are left out without it.
"""

import shutil
import subprocess
import sys

from experiments import runs

ORDER = (
    "reproduction", "connections", "findings", "limits", "orders", "perturbation", "design", "rivals", "estimator",
    "answer", "speed", "grid", "flies", "flies.models",
)  # fmt: skip


def main():
    for picture in (runs.ROOT / "runs" / "figures").glob("*.png"):  # the notebook's
        shutil.copy(picture, runs.ROOT / "experiments" / "reproduction")
    for name in ORDER:
        if name.startswith("flies") and not (runs.ROOT / "data" / "fly.npz").exists():
            print(f"{name}: left out, there is no data/fly.npz")
            continue
        print(f"{name}:", flush=True)
        subprocess.run([sys.executable, "-m", f"experiments.{name}"], cwd=runs.ROOT, check=True)


if __name__ == "__main__":
    main()
