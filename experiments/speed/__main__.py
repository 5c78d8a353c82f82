"""What an update costs: against its matrix products alone, against plain autograd, and as the problem grows.

    its products    all matrix products that an update makes, alone
    autograd        the same loss of the same windows, as a loop that records every step

Run from the top folder, as `python -m experiments.speed`; nothing else should run beside it. Writes results.json,
speed.png, tables.md and the page.
"""

import argparse
import os
import resource
import time

import matplotlib.pyplot as plt
import numpy as np
import torch

from experiments import runs
from model import RNN
from nsi import figures, recordings
from nsi.run.settings import Settings
from nsi.training.adam import Adam
from nsi.training.bptt import Gradient, Objective
from nsi.training.windows import Windows

HERE = "experiments.speed.__main__"
DEFAULTS = {"units": 200, "window": 50, "batch": 50, "replicas": 1}
GROWING = {
    "units": (100, 200, 500, 1000, 2000, 4000),
    "window": (25, 50, 100, 200),
    "batch": (25, 50, 100, 200),
    "replicas": (1, 2, 4, 8),
}


def parts(units, window, batch, replicas):
    """A recording of noise and what fits it. Returns: model, Windows, optimiser."""
    n, generators = units // 2, [torch.Generator().manual_seed(k) for k in range(replicas)]
    model = RNN(n, units - n, generators=generators)
    rng = np.random.default_rng(0)
    rates, velocity = (rng.random((4, 100 + window, size), np.float32) for size in (n, 1))
    sizes = Settings(window=window, batch=batch)
    windows = Windows(recordings.Recording(rates, velocity, 0.01), 0.2, generators, sizes)
    return model, windows, Adam([p.detach() for p in model.weights], 1100, 6e-3)


def update(follow, windows, optimiser):
    """One of train.py's updates."""
    _, gradients = follow(windows.draw(), 0.1, 0.003, log=False)
    optimiser.step(gradients)


def autograd_update(model, windows, optimiser):
    """The same, by autograd through model.py's loop."""
    loss = model.loss(windows.at(windows.draw()), warmup=windows.warmup, forcing=0.1, penalty=0.003).sum()
    optimiser.step(torch.autograd.grad(loss, model.weights))


def shapes_of(units, window, batch, replicas, warmup):
    """The products that an update makes, half of the units being recorded: rows, inner, columns, how many."""
    n, clamped_steps, steps = units // 2, warmup + 1, warmup + window
    return [
        (batch, units, units, 2 * (steps - clamped_steps) * replicas),  # each step, and each back
        (units, steps * batch, units, replicas),  # the weights' gradient
        (window * batch, n, n, replicas), (n, window * batch, n, replicas),  # the penalty
        (clamped_steps * batch, n, units, replicas), (clamped_steps * batch, n, n, 2 * replicas),  # the warm-up
        (batch, n, n, 2 * clamped_steps * replicas),
    ]  # fmt: skip


def products(shapes):
    """A function that multiplies matrices of these shapes."""
    every = [(torch.rand(a, b), torch.rand(b, c), torch.empty(a, c), times) for a, b, c, times in shapes]

    def run():
        for x, W, out, times in every:
            for _ in range(times):
                torch.mm(x, W, out=out)

    return run


def measure_seconds(functions, seconds=3.0):
    """Run functions in turn until the time is up. Returns: for each the shortest time of one call, ms."""
    best, ends, rounds = dict.fromkeys(functions, np.inf), time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < ends:
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - began))
        rounds += 1
    return best


def compared(sizes, threads=1, rival=True, seconds=3.0):
    """One configuration, side by side in one process of its own.

    Returns: {"threads", the sizes, "own", "update" and "autograd" (ms), "memory" (MiB that updating added)}.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, windows, optimiser = parts(**sizes)
    objective = Objective(model.n_response, 0.2, windows.warmup, model.driven)
    follow = Gradient([p.detach() for p in model.weights], objective, windows)
    update(follow, windows, optimiser)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    functions = {"own": products(shapes_of(**sizes, warmup=windows.warmup))}
    functions["update"] = lambda: update(follow, windows, optimiser)
    if rival:
        functions["autograd"] = lambda: autograd_update(model, windows, optimiser)
    return {"threads": threads} | sizes | measure_seconds(functions, seconds) | {"memory": memory}


def named(row):
    """The size of an update in words."""
    return f"{row['units']} units, batch {row['batch']}, {row['threads']} thread{'s' * (row['threads'] > 1)}"


def table(results):
    """The update side by side with its products and with autograd, as Markdown."""
    rows = [[named(row), f"{row['own']:.1f}", f"{row['update']:.1f}", f"{row['autograd']:.0f}",
             f"{row['autograd'] / row['update']:.1f}"] for row in results["compared"]]  # fmt: skip
    return runs.markdown(["", "its products, ms", "update, ms", "autograd, ms", "autograd / update"], rows)


def made(results):
    """What runs the results are of, as a sentence."""
    return f"{runs.made(results)[:-1]}; {results['machine']}."


def tables(results):
    """What an update costs as it grows, as the text of tables.md."""
    rows = [[", ".join(f"{row[k]} {k}" for k in DEFAULTS), f"{row['own']:.1f}", f"{row['update']:.1f}",
             f"{row['update'] / row['own']:.2f}", f"{row['memory']:.0f}"] for row in results["growing"]]  # fmt: skip
    growing = runs.markdown(["", "its products, ms", "update, ms", "update / products", "memory, MiB"], rows)
    return runs.sections("speed", {"An update": ("One thread.", growing)})


def figure(results):
    """Time of an update as one size grows, beside its products."""
    drawn, axes = plt.subplots(1, len(GROWING), figsize=(10, 2.6))
    for (name, values), ax in zip(GROWING.items(), axes, strict=True):
        others = {k: v for k, v in DEFAULTS.items() if k != name}
        rows = [row for row in results["growing"] if all(row[k] == v for k, v in others.items())]
        rows = sorted((row for row in rows if row[name] in values), key=lambda row: row[name])
        x = [row[name] for row in rows]
        ax.loglog(x, [row["own"] for row in rows], "o--", ms=3.5, color="grey", label="its matrix products alone")
        ax.loglog(x, [row["update"] for row in rows], "o-", ms=3.5, color=figures.FITTED, label="update")
        ax.set(xlabel=name, ylim=(1, 20_000) if name == "units" else (3, 400))
        ax.set_xticks(x, x, fontsize=7)
        ax.minorticks_off()
    axes[0].set_ylabel("time of an update, ms")
    axes[0].legend(loc="upper left", fontsize=7)
    return drawn


def measure(args):
    """Everything, each configuration alone. Returns: what the tables and the figure take."""
    one = lambda sizes, threads=1, rival=False: runs.apart(HERE, "compared", sizes, threads, rival, args.seconds)
    sizes = [(DEFAULTS | {"batch": batch}, threads) for threads in (1, os.cpu_count() or 1) for batch in (25, 50, 100)]
    sizes.append((DEFAULTS | {"units": 392}, 1))
    growing = sorted({tuple((DEFAULTS | {name: v}).values()) for name, values in GROWING.items() for v in values})
    if args.small:
        sizes, growing = [({k: min(v, 20) for k, v in DEFAULTS.items()}, 1)], [(20, 5, 4, 2)]
    return {
        "machine": f"torch {torch.__version__}", "made": runs.source(),
        "compared": [one(*size, True) for size in sizes],
        "growing": [one(dict(zip(DEFAULTS, size, strict=True))) for size in growing],
    }  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=3.0, help="for each configuration")
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    p.add_argument("--small", action="store_true", help="one small configuration of each, to see that it runs")
    args = p.parse_args()
    folder = runs.folder_of(__file__)
    found = runs.read(folder) if args.draw else measure(args)
    if args.small:
        print(f"{table(found)}\n\n{tables(found)}")
        return
    runs.write(folder, found)
    runs.publish(folder, found, table, made, tables=tables, speed=figure)


if __name__ == "__main__":
    main()
