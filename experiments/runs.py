"""What the experiments share: simulate, fit, collect, several at a time, one core each."""

import contextlib
import importlib
import io
import json
import multiprocessing
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import recording

ROOT = Path(__file__).parent.parent
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below
PROCESSES = multiprocessing.get_context("forkserver")  # it imports what is slow to import once for all
PROCESSES.set_forkserver_preload(["__main__", "cann", "train", "torch._dynamo"])


def script(name, *arguments):
    """Run one of the project's scripts on one core; its error, if any, is raised with what it printed."""
    arguments = [str(argument) for argument in arguments]
    receive, send = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_main, args=(Path(name).stem, arguments, send))
    process.start()
    send.close()
    try:
        said = receive.recv()
    except EOFError:  # killed
        said = ""
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{name} {' '.join(arguments)}: {said.strip() or f'ended with {process.exitcode}'}")


def _main(module, arguments, send):
    """In a process of its own: the script's main function, as from the command line."""
    sys.argv, said = [f"{module}.py", *arguments], io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            recording.run(importlib.import_module(module).main)
        finally:
            send.send(said.getvalue())


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
