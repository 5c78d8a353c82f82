"""What the experiments share: simulate, fit, collect, several at a time, one core each."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent


def script(name, *arguments):
    """Run one of the project's scripts on one core; its error, if any, is raised with what it printed."""
    command = [sys.executable, str(ROOT / name), *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def fit(data, out, *options):
    """Run train.py on a recording. Returns: its metrics.json as a dictionary."""
    script("train.py", "--data", data, "--out", out, "--wandb", "disabled", *options)
    return json.loads((Path(out) / "metrics.json").read_text())


def each(function, items, workers=None):
    """[function(item) for item in items], `workers` (default: one per core) at a time, with a line for each."""
    items = list(items)

    def one(item):
        result = function(item)
        print(f"  {item}", flush=True)
        return result

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return list(pool.map(one, items))


def spread(values, digits=3):
    """'mean ± s.d.' over seeds."""
    values = np.asarray(values, float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=min(1, len(values) - 1)):.{digits}f}"


def write(path, results):
    """Results as JSON beside the script that made them, for the tables and figures to be drawn from."""
    Path(path).write_text(json.dumps(results, indent=1) + "\n")
