"""How it grows: error bars and whole fits with neurons and trials, and the rivals' seconds.

    error bars    nsi.estimate of a recording, with calibrated intervals; no network is trained
    whole fit     train.py, from its start to metrics.json, without the report
    torus         the same on grid cells, error bars and all
    rivals        those of experiments/connections, on the default circuit's recording

Seconds are of one core at work; the slope is that of log time on log size between the last two
sizes. Updates are those of `python -m experiments.speed`. Nothing else should run beside it.
Writes growth.json, growth.png and the page's tables. Run it from the top folder, as
`python -m experiments.speed.growth`.
"""

import argparse
import contextlib
import io
import resource
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import cann
from experiments import runs
from experiments.connections.__main__ import CORRELATION, LEAST_SQUARES, PROJECT, trainable, true_alpha
from experiments.estimate.baselines import least_squares
from experiments.speed.__main__ import DEFAULTS
from nsi import circuits, figures, files, recordings
from nsi.estimation import estimate

HERE, FOLDER = "experiments.speed.growth", runs.folder_of(__file__)
SIZES = {
    "error bars, neurons": (50, 100, 200, 500, 1000),
    "error bars, trials": (30, 60, 120),
    "whole fit, neurons": (50, 100, 200),
    "whole fit, trials": (25, 50, 100, 200),
}
TORUS = 14, 50  # cells along a side, trials
SMALL = dict(zip(SIZES, ((8, 12), (4, 8), (8, 12), (4, 8)), strict=True))
EXPECTED = {
    "update, units": ("2", "two of them for every weight"),
    "update, window": ("1", "a step after the other"),
    "update, batch": ("1", "as many products"),
    "update, replicas": ("1", "one after the other"),
    "error bars, neurons": ("4", "a matrix to factor, the cube of its size, for each"),
    "error bars, trials": ("0 to 1", "factors do not grow, sums over samples do"),
    "whole fit, neurons": ("2 to 4", "of an update, and of error bars"),
    "whole fit, trials": ("0 to 1", "updates do not grow, sums over samples do"),
}
LABELS = {"update": "update, ms", "error bars": "error bars, s", "whole fit": "whole fit, s"}


def simulated(neurons, trials, steps, seed=0):
    """A recording of a ring with so many compass neurons, and as many shifters, and what made it."""
    circuit = circuits.ring(neurons, neurons // 2)
    return circuit.network, cann.simulate_recording(circuit, seed, trials, steps)


def error_bars(neurons, trials, steps):
    """The estimate of a recording. Returns: {"seconds", "memory" (MiB, of the whole process at most)}."""
    one_core()
    data = simulated(neurons, trials, steps)[1]
    rec = recordings.Recording(data["rates"].copy(), data["velocity"], data["dt"], None, data["tau"])
    began = time.process_time()
    estimate(rec)
    return {"seconds": time.process_time() - began, "memory": peak()}


def whole_fit(neurons, trials, steps, *options):
    """train.py on a recording of a ring. Returns: {"seconds", "memory"}, imports and all."""
    return fitted(simulated(neurons, trials, steps)[1], neurons, *options)


def torus(side, trials, steps, *options):
    """train.py on a recording of side x side grid cells. Returns: as `whole_fit`."""
    return fitted(cann.simulate_recording(circuits.grid(side), 0, trials, steps), side**2, *options)


def fitted(data, neurons, *options):
    """train.py on the arrays of a data file, with as many input units as neurons. Returns: as `whole_fit`."""
    one_core()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.npz"
        recordings.save(path, **data)
        began = time.process_time()
        sys.argv = ["train.py", *map(str, ("--data", path, "--out", Path(folder) / "fit", *fitting(neurons), *options))]
        import train

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            train.main()
    return {"seconds": time.process_time() - began, "memory": peak()}


def fitting(neurons):
    """train.py's options for a ring of so many neurons, with as many input units."""
    return "--input-units", neurons, "--wandb", "disabled", "--no-report"


def one_core():
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def peak():
    """The most memory that this process has had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def others(neurons, trials, steps, lint_updates):
    """The rivals, one after the other. Returns: {name: seconds}."""
    one_core()
    data, found = simulated(neurons, trials, steps)[1], {}
    rec = recordings.Recording(data["rates"], data["velocity"], data["dt"], None, data["tau"])
    train, alpha = recordings.split(rec)[0], true_alpha(rec)
    estimators = trainable(train, alpha, 0, lint_updates) | {
        LEAST_SQUARES: lambda: least_squares(train, alpha, 20000),
        CORRELATION: lambda: np.corrcoef(train.rates[train.valid], rowvar=False),
    }
    for name, estimator in estimators.items():
        began = time.process_time()
        estimator()
        found[name] = time.process_time() - began
    return found


def measure(small):
    """Everything, each in a process of its own. Returns: {row: {size: {"seconds", "memory"}}}."""
    found, steps, options = {}, 60 if small else 1000, ["--updates", 4] if small else []
    for name, sizes in (SMALL if small else SIZES).items():
        found[name] = {}
        for size in sizes:
            neurons, trials = (size, 30) if name.endswith("neurons") else (100, size)
            neurons, trials = (min(neurons, 12), min(trials, 8)) if small else (neurons, trials)
            call = ["error_bars", neurons, trials, steps]
            if name.startswith("whole fit"):
                call = ["whole_fit", *call[1:], *options]
            found[name][str(size)] = runs.apart(HERE, *call)
            print(f"  {name} {size}: {found[name][str(size)]}", flush=True)
    side, trials = (6, 8) if small else TORUS
    row = runs.apart(HERE, "torus", side, trials, steps, *options)
    found["torus"] = {"side": side, "trials": trials} | row
    print(f"  torus: {row}", flush=True)
    found["rivals"] = runs.apart(HERE, "others", *((12, 8, steps, 3) if small else (100, 100, steps, 400)))
    return found


def slope(sizes, times):
    """Of log time on log size, between the last two."""
    return float(np.log(times[-1] / times[-2]) / np.log(sizes[-1] / sizes[-2]))


def curves(found):
    """Times against size, of updates (ms) too. Yields: name, sizes, times."""
    rows = runs.read(FOLDER)["growing"]
    for name in DEFAULTS:
        some = [row for row in rows if all(row[k] == v for k, v in DEFAULTS.items() if k != name)]
        some = sorted(some, key=lambda row: row[name])
        yield f"update, {name}", [row[name] for row in some], [row["update"] for row in some]
    for name in SIZES:
        yield name, [int(size) for size in found[name]], [row["seconds"] for row in found[name].values()]


def slopes(found):
    """Measured growth against the expected, as Markdown."""
    rows = []
    for name, sizes, times in curves(found):
        unit = "ms" if name.startswith("update") else "s"
        each = ", ".join(f"{size}: {time:.{0 if time >= 100 else 1}f}" for size, time in zip(sizes, times, strict=True))
        rows.append([name, f"{each} {unit}", f"{slope(sizes, times):.2f}", *EXPECTED[name]])
    return runs.markdown(["", "size: time", "slope", "expected", "why"], rows)


def memory(found):
    """Memory of error bars and whole fits, as Markdown."""
    rows = [
        [name, ", ".join(f"{size}: {row['memory']:.0f}" for size, row in found[name].items())] for name in SIZES
    ]  # fmt: skip
    return runs.markdown(["", "size: MiB at most"], rows)


def on_torus(found):
    """A whole fit to a torus, as Markdown."""
    row = found["torus"]
    cells = [f"{row['side']} × {row['side']} cells, {row['trials']} trials", f"{row['seconds']:.0f}"]
    return runs.markdown(["", "s", "MiB at most"], [[*cells, f"{row['memory']:.0f}"]])


def rivals(found):
    """Seconds of this project and of others on such a recording, as Markdown."""
    fits = found["whole fit, trials"]
    seconds = {PROJECT: fits.get("100", fits[max(fits, key=int)])["seconds"], **found["rivals"]}
    return runs.markdown(["estimator", "s"], [[name, f"{value:.1f}"] for name, value in seconds.items()])


def figure(found):
    """Every curve, with its slope."""
    drawn, axes = plt.subplots(2, 4, figsize=(11, 4.8))
    for ax, (name, sizes, times) in zip(axes.flat, curves(found), strict=True):
        ax.loglog(sizes, times, "o-", ms=3.5, color=figures.FITTED)
        ax.set_xticks(sizes, [f"{size}" for size in sizes], fontsize=7)
        ax.set_yticks(times, [f"{time:.3g}" if time < 1000 else f"{time:.0f}" for time in times], fontsize=7)
        ax.minorticks_off()
        kind, of = name.split(", ")
        ax.set(xlabel=of, ylabel=LABELS[kind], title=f"slope {slope(sizes, times):.2f}")
    return drawn


TABLES = {
    "slopes": slopes,
    "memory": memory,
    "torus": on_torus,
    "rivals": rivals,
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    p.add_argument("--small", action="store_true", help="small sizes, to see that it runs; nothing is written")
    args = p.parse_args()
    found = runs.read(FOLDER, "growth.json") if args.draw else measure(args.small)
    tables = {name: table(found) for name, table in TABLES.items()}
    print("\n\n".join(tables.values()))
    if args.small:
        return
    runs.write(FOLDER, found, "growth.json")
    runs.page(FOLDER, **tables)
    figures.style()
    with files.whole(FOLDER / "growth.png") as temporary:
        figure(found).savefig(temporary)


if __name__ == "__main__":
    main()
