"""What an update costs: against its matrix products alone, against plain autograd, and as the problem grows.

    floor        6 * batch * window * units^2 operations (the forward, the backward and the weights' product of every
                 step that counts in the loss) at the rate of this machine's own matrix product, measured alongside
    autograd     the same loss of the same windows, as a loop that records every step

Run from the top folder, as `python -m benchmarks.speed`; nothing else should run beside it. Prints tables and writes
benchmarks/speed.json, benchmarks/speed.md and assets/speed.png.
"""

import argparse
import json
import os
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
import torch

import cann
import figures
import fitting
import recording
import train
from experiments import runs
from model import RNN, phi

DEFAULTS = {"units": 200, "window": 50, "batch": 50, "replicas": 1}
GROWING = {
    "units": (100, 200, 500, 1000, 2000, 4000),
    "window": (25, 50, 100, 200),
    "batch": (25, 50, 100, 200),
    "replicas": (1, 2, 4, 8),
}


def parts(units, window, batch, replicas):
    """A recording of noise and what fits it. Returns: model, fitting.Windows, optimiser, train.py's options."""
    n, generators = units // 2, [torch.Generator().manual_seed(k) for k in range(replicas)]
    args = train.parse(["--window", str(window), "--batch", str(batch), "--replicas", str(replicas)])
    models = [RNN(n, units - n, 1, 0.2, args.init_scale, generator) for generator in generators]
    model = RNN.stack(models) if replicas > 1 else models[0]
    rng = np.random.default_rng(0)
    rates, velocity = (rng.random((4, 100 + window, size), np.float32) for size in (n, 1))
    windows = fitting.Windows(
        recording.Recording(rates, velocity, 0.01), 0.2, args, generators, next(model.parameters()).device
    )
    return model, windows, torch.optim.Adam(model.parameters(), args.lr, fused=True), args


def update(follow, windows, optimiser, args):
    """One of train.py's updates."""
    follow(windows.draw(), args.forcing, args.drive_penalty, look=False)
    optimiser.step()


def autograd_update(model, windows, optimiser, args):
    """The same, by autograd through a loop; one replica."""
    v, u, r, _ = windows.at(windows.draw())
    n, loss = model.n_response, 0.0
    state = torch.cat([u[0], torch.zeros(u.shape[1], model.b.shape[-1] - n)], -1)
    for t in range(len(v)):
        a = state @ model.W + model.current(v[t])
        if t >= args.warmup:
            drive = state[:, n:] @ model.W[n:, :n]
            penalty = args.drive_penalty * drive.square().mean()
            loss = loss + (fitting.window_loss(a[None, :, :n], r[None, t]) + penalty) / args.window
        after = state + model.alpha * (phi(a) - state)
        if t + 1 < len(v):
            pull = 1.0 if t < args.warmup else args.forcing
            state = torch.cat([torch.lerp(after[:, :n], u[t + 1], pull), after[:, n:]], -1)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def products(units, window, batch, replicas):
    """The floor: three products of (batch, units) by (units, units) for every step and replica."""
    x, W, out = torch.rand(batch, units), torch.rand(units, units), torch.empty(batch, units)

    def run():
        for _ in range(3 * window * replicas):
            torch.mm(x, W, out=out)

    return run


def timed(functions, seconds=3.0):
    """Run functions in turn until the time is up. Returns: for each the shortest time of one call, ms."""
    best = dict.fromkeys(functions, np.inf)
    ends = time.perf_counter() + seconds
    rounds = 0
    while rounds < 3 or time.perf_counter() < ends:
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - began))
        rounds += 1
    return best


def compared(sizes, threads=1, rival=True, seconds=3.0):
    """One configuration, side by side in one process of its own.

    Returns: {"threads", the sizes, "floor", "update" and "autograd" (ms), "memory" (MiB that updating added)}.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.optim.Adam([torch.zeros(1)])  # loads much of torch, which is not the update's memory
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, windows, optimiser, args = parts(**sizes)
    follow = fitting.Gradient(model, windows, args, True, False)
    functions = {"floor": products(**sizes), "update": lambda: update(follow, windows, optimiser, args)}
    functions["update"]()
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if rival:
        functions["autograd"] = lambda: autograd_update(model, windows, optimiser, args)
    return {"threads": threads} | sizes | timed(functions, seconds) | {"memory": memory}


def simulated(neurons, trials=100, steps=1000):
    """Seconds that cann.py's integration takes, with neurons / 2 of them compass neurons."""
    torch.set_num_threads(1)
    net = cann.shifter_network(neurons // 2, neurons // 4)
    rng = np.random.default_rng(0)
    velocity, start = cann.draw_velocity(rng, trials, steps, net.dt), rng.uniform(-np.pi, np.pi, trials)
    began = time.perf_counter()
    cann.simulate(net, velocity, start, rng, 0.02, settle=0)
    return {"neurons": neurons, "trials": trials, "steps": steps, "seconds": time.perf_counter() - began}


def alone(function, *arguments):
    """function(*arguments) in a process of its own, so that its memory and threads are its own."""
    with ProcessPoolExecutor(1, mp_context=runs.PROCESSES) as pool:
        return pool.submit(function, *arguments).result()


def comparison(found):
    """The update side by side with its floor and with autograd, as Markdown."""
    lines = ["| units | batch | threads | floor, ms | this project, ms | autograd, ms | × floor | autograd / this |"]
    lines += ["|" + " --- |" * 8]
    for row in found["compared"]:
        lines.append(
            f"| {row['units']} | {row['batch']} | {row['threads']} | {row['floor']:.1f} | {row['update']:.1f} | "
            f"{row['autograd']:.0f} | {row['update'] / row['floor']:.2f} | {row['autograd'] / row['update']:.1f} |"
        )
    return "\n".join(lines)


def growth(found):
    """What an update and the simulator cost as they grow, as Markdown."""
    lines = ["| units | window | batch | replicas | floor, ms | update, ms | × floor | memory, MiB |"]
    lines += ["|" + " --- |" * 8]
    for row in found["growing"]:
        sizes = " | ".join(str(row[k]) for k in DEFAULTS)
        ratio = row["update"] / row["floor"]
        lines.append(f"| {sizes} | {row['floor']:.1f} | {row['update']:.1f} | {ratio:.2f} | {row['memory']:.0f} |")
    lines += ["", "| simulated neurons | trials | steps | seconds |", "|" + " --- |" * 4]
    for row in found["simulated"]:
        lines.append(f"| {row['neurons']} | {row['trials']} | {row['steps']} | {row['seconds']:.2f} |")
    return "\n".join(lines)


def figure(found):
    """Time of an update, and its memory, as one size grows, beside the floor; and the simulator's time."""
    drawn, axes = plt.subplots(2, len(GROWING) + 1, figsize=(12, 4.6))
    for (name, values), (top, bottom) in zip(GROWING.items(), axes.T[:-1], strict=True):
        others = {k: v for k, v in DEFAULTS.items() if k != name}
        rows = [row for row in found["growing"] if all(row[k] == v for k, v in others.items())]
        rows = sorted((row for row in rows if row[name] in values), key=lambda row: row[name])
        x = [row[name] for row in rows]
        top.loglog(x, [row["floor"] for row in rows], "o--", ms=3.5, color="grey", label="matrix products alone")
        top.loglog(x, [row["update"] for row in rows], "o-", ms=3.5, color=figures.FITTED, label="update")
        bottom.loglog(x, [row["memory"] for row in rows], "o-", ms=3.5, color=figures.FITTED)
        top.set_ylim(1, 5000)
        bottom.set(xlabel=name, ylim=(20, 1000))
        bottom.set_yticks((30, 100, 300, 1000), ("30", "100", "300", "1000"))
        for ax in (top, bottom):
            ax.set_xticks(x, [f"{v}" for v in x], fontsize=7)
            ax.minorticks_off()
    x, y = ([row[k] for row in found["simulated"]] for k in ("neurons", "seconds"))
    axes[0, -1].loglog(x, y, "o-", ms=3.5, color=figures.TRUE)
    axes[0, -1].set(xlabel="simulated neurons", ylabel="s for 100 x 1000 steps")
    axes[0, -1].set_xticks(x, [f"{v}" for v in x], fontsize=7)
    axes[0, -1].minorticks_off()
    axes[1, -1].set_axis_off()
    axes[0, 0].set_ylabel("update, ms")
    axes[1, 0].set_ylabel("memory, MiB")
    axes[0, 1].legend(loc="upper left")
    return drawn


def measure(args):
    """Everything, each configuration alone. Returns: what the tables and the figure take."""
    cores = os.cpu_count() or 1
    configurations = [(DEFAULTS | {"batch": batch}, threads) for threads in (1, cores) for batch in (50, 100)]
    growing = {tuple((DEFAULTS | {name: v}).values()) for name, values in GROWING.items() for v in values}
    neurons = (100, 200, 500, 1000)
    if args.small:
        configurations, growing, neurons = [({k: min(v, 20) for k, v in DEFAULTS.items()}, 1)], {(20, 5, 4, 2)}, (20,)
    return {
        "machine": f"{platform.machine()}, {cores} cores, torch {torch.__version__}",
        "compared": [alone(compared, sizes, threads, True, args.seconds) for sizes, threads in configurations],
        "growing": [
            alone(compared, dict(zip(DEFAULTS, sizes, strict=True)), 1, False, args.seconds)
            for sizes in sorted(growing)
        ],
        "simulated": [alone(simulated, n, *((4, 10) if args.small else ())) for n in neurons],
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=3.0, help="for each configuration")
    p.add_argument("--draw", action="store_true", help="only draw the results of the last run")
    p.add_argument("--small", action="store_true", help="one small configuration of each, to see that it runs")
    args = p.parse_args()
    folder = runs.ROOT / "benchmarks"
    found = json.loads((folder / "speed.json").read_text()) if args.draw else measure(args)
    print(f"{comparison(found)}\n\n{growth(found)}")
    if args.small:
        return
    runs.write(folder / "speed.json", found)
    (folder / "speed.md").write_text(f"{found['machine']}\n\n{comparison(found)}\n\n{growth(found)}\n")
    figures.style()
    with recording.whole(runs.ROOT / "assets" / "speed.png") as temporary:
        figure(found).savefig(temporary)


if __name__ == "__main__":
    main()
