"""Fit an input-separated recurrent network (model.py) to a recording, and say how far to trust what comes out.

The training is followed by a convex last step that refines the weights onto the response units, and by a second
training, held at the record throughout, which prepares their standard errors (nsi/uncertainty.py). A run is a folder:
model.pt, connectivity.npz, metrics.json and Weights & Biases' files.

Only rates, velocity and stimulus enter the fit; the truth, where the recording has it, is for scores alone.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from model import RNN
from nsi import geometry, measures, prediction, recordings, uncertainty, units, unrecorded
from nsi.connectivity import scores
from nsi.gradient import Gradient
from nsi.optimiser import Adam
from nsi.run import checkpoint, command, files, processes, session, tracking
from nsi.run.watch import Watch
from nsi.solve import solve
from nsi.windows import Windows

ROUND, LAST = (
    (0.6, 0.4, 4),
    (0.9, 0.3, 1),
)  # updates and lr relative to the free training's; solve with every so-manieth step


def parse(arguments=None):
    """This script's options, from the command line or a list of strings. Returns: argparse.Namespace."""
    p = command.Parser("Fit an input-separated recurrent network to a recording.")
    add, number = p.add_argument, command.number
    count, size = number(int, 1), number(float, 0)
    rate, share = number(float, 0, above=True), number(float, 0, 1)
    alpha = number(float, 0, 1, above=True)
    # fmt: off
    add("--data",          type=Path,  default="data/ring.npz",  help="the recording (data/README.md has the format)")
    add("--out",           type=Path,  default="runs/separated", help="the run's folder")
    add("--input-units",   type=count,               help="hidden units that receive the velocity (default: 100)")
    add("--response-units", type=number(int, 0),     help="hidden units that do not (default: 0, unless input neurons "
                                                     "were recorded)")
    add("--assume",        type=units.assumptions,   help="some of excited,apart,types,copies,inhibition, "
                                                     "or none (nsi/units.py; default: by who was recorded)")
    add("--favour",        choices=["direct", "even", "neither"], help="which of two paths that could do the same")
    add("--control",       action="store_true",      help="no input units: velocity drives the response units")
    add("--updates",       type=count, default=1100, help="gradient updates")
    add("--batch",         type=count, default=50,   help="windows per update")
    add("--window",        type=count, default=50,   help="steps of a window that count in the loss")
    add("--warmup",        type=number(int, 0), default=10, help="steps before them, response units held at the record")
    add("--lr",            type=rate,  default=6e-3, help="Adam's learning rate, at the schedule's peak")
    add("--beta2",         type=number(float, 0, 0.9999), default=0.99, help="Adam's memory of squared gradients")
    add("--schedule",      choices=["onecycle", "constant"], default="onecycle", help="learning rate over the updates")
    add("--loss",          choices=["matching", "mse"], default="matching", help="mse: mean squared error of the rates")
    add("--init-scale",    type=size,  default=0.03, help="initial W relative to Glorot's")
    add("--drive-penalty", type=size,  default=0.003, help="on the input units' drive to the response, fading to 0")
    add("--rotate",        action="store_true",      help="turn windows around the ring, taken to be alike all around")
    add("--forcing",       type=share, default=0.1,  help="pull per step towards the recorded state, fading to 0")
    add("--alpha",         type=alpha,               help="dt / tau (default: the recording's, else 0.2)")
    add("--seed",          type=number(int, 0), default=0, help="of initial weights and windows")
    add("--rounds",        type=number(int, 0), default=0,
                                                     help="of solving for weights between trainings, instead of polish")
    add("--no-polish",     action="store_true",      help="leave the weights as trained, without the convex last step")
    add("--no-errors",     action="store_true",      help="skip the standard errors, and the measures that need them")
    add("--bootstrap",     action="store_true",      help="each replica draws animals, or trials, with replacement")
    add("--replicas",      type=count, default=1,    help="networks fitted at once, with seeds seed, seed + 1, ...")
    add("--device",        choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU where there is one")
    add("--wandb",         choices=["auto", "online", "offline", "disabled"], default="auto",
                                                     help="auto: online if a key is configured, else offline")
    add("--resume",        action="store_true",      help="continue the run in --out from its last checkpoint")
    add("--overwrite",     action="store_true",      help="fit anew where --out holds a finished run")
    # fmt: on
    return p.parse_args(arguments)


def fit(model, windows, updates, lr, beta2=0.99, schedule="onecycle", loss="matching", forcing=0.1, penalty=0.003,
        held=False, watch=None, training=None):  # fmt: skip
    """Train a network in place, by back-propagation through windows of a recording.

    model: RNN, on the windows' device; windows: Windows, with one generator per replica; forcing, penalty: at the
    first update, fading to 0; held: hold the response units at the record throughout; watch: Watch; training: the
    state of a checkpoint, to continue. Returns: seconds of the training loop.
    Raises: BadInput where the loss or a gradient is not finite; files.Interrupted.
    """
    watch = watch or Watch()
    optimiser = Adam([p.detach() for p in model.weights], updates, lr, beta2, schedule)
    follow = Gradient([p.detach() for p in model.weights], model.n_response, model.alpha, windows, model.driven,
                      penalised=penalty > 0, loss=loss, held=held, doubted=model.who.doubted,
                      free=model.free)  # fmt: skip
    if training:
        session.restore(training, optimiser, windows.generators)
    diverged = torch.zeros((), dtype=torch.long, device=windows.rates.device)
    began = time.perf_counter() - (training["seconds"] if training else 0.0)
    for update in range(optimiser.done + 1, updates + 1):
        fade, look = 1 - (update - 1) / updates, watch.looks(update, updates)
        lr_now = optimiser.pace()[0]
        losses, gradients = follow(windows.draw(), fade * forcing, fade * penalty, look)
        optimiser.step(gradients)
        units.constrain(model)
        diverged, stop = session.first_divergence(diverged, update, gradients), watch.stopping()
        if look or stop or watch.keeps(update, updates):
            session.refuse_divergence(int(diverged), "gradient", lr)
        if look:
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            scalars = {"loss": losses.mean().item(), "gradient_norm": norm.item(), "lr": lr_now}
            session.refuse_divergence(0 if np.isfinite(scalars["loss"]) else update, "loss", lr)
            watch.log(update, model, scalars)
        if stop or watch.keeps(update, updates):
            spent = {"seconds": time.perf_counter() - began, "generators": [g.get_state() for g in windows.generators]}
            watch.keep(model, optimiser.state() | spent)
        if stop:
            raise files.Interrupted(stop, f" after update {update} of {updates}")
    return time.perf_counter() - began


def alternate(model, windows, rec, shape, rounds, updates, lr, **loop):
    """Train the input units and solve for the response weights in turn, the response units held at the record.

    model: RNN, freely trained, which is changed in place; windows: Windows; rec: the training trials; updates, lr: of
    the free training, of which each round takes a share. Returns: the networks.
    """
    for share, pace, every in [ROUND] * (rounds - 1) + [LAST]:
        fit(model, windows, updates=max(1, round(share * updates)), lr=pace * lr, held=True, **loop)
        networks = [solve(net, rec, shape, every, who=model.who).net for net in model.networks()]
        model.become(networks)
    return networks


def main():
    began, args = time.perf_counter(), parse()
    args.out = tracking.own_folder(args.out)
    rec = recordings.load(args.data)
    warnings = list(recordings.outliers(rec))
    for warning in warnings:
        print(f"{args.data}: {warning}", file=sys.stderr)
    truth, shape = recordings.load_truth(args.data, rec), geometry.of(rec)
    alpha = args.alpha = args.alpha or (rec.dt / rec.tau if rec.tau else 0.2)  # the published one
    train, held_out, index = recordings.split(rec)
    session.long_enough((train, held_out), args.data, rec, args.warmup + args.window)
    device = processes.start(args.replicas, session.choose_device(args.device))
    torch.set_flush_denormal(True)  # silent units' states decay to numbers that slow a CPU down

    n, d = rec.rates.shape[-1], rec.velocity.shape[-1]
    session.as_begun(args)
    who = units.choose(args, n, rec.driven)
    inputs = len(who.driven) - n
    print(f"{args.data}: {units.told(who, args.assume)}")
    loop = {"lr": args.lr, "updates": args.updates, "beta2": args.beta2, "schedule": args.schedule, "loss": args.loss,
            "forcing": args.forcing, "penalty": args.drive_penalty if who.penalised else 0.0}  # fmt: skip
    batches = {"warmup": args.warmup, "window": args.window, "batch": args.batch, "rotate": args.rotate}
    places = shape.find(rec.rates[rec.valid])
    progress = lambda net: scores(net, truth, shape, places)  # noqa: E731
    options, checkpoint_path = session.told(vars(args), args.data), args.out / "model.pt"
    about = {"data_shape": list(rec.rates.shape)}
    with session.opened(args.out, options, args.wandb, args.resume, args.overwrite, about) as (state, wandb):
        generators = [torch.Generator().manual_seed(args.seed + k) for k in processes.mine(args.replicas)]
        model = RNN(n, inputs, d, alpha, args.init_scale, generators, who)
        training = session.go_on(state, model, args.replicas)
        windows = Windows(train, alpha, generators, device, bootstrap=args.bootstrap, **batches)
        done = training["updates"] if training else 0
        with session.watched(args.out, args.updates, done, options, wandb, progress) as watch:
            seconds = fit(model.to(device), windows, **loop, watch=watch, training=training)
        processes.finish()
        if processes.rank():  # the first process does all but a share of the training
            return
        several, refined, spent = processes.processes() > 1, [False] * args.replicas, time.perf_counter()
        networks = checkpoint.networks(checkpoint_path, trained=True)[0] if several else model.networks()
        trained, read = networks, None  # read: what connectivity.npz says, where it is not of the network that runs
        again = lambda count: [torch.Generator().manual_seed(args.seed + k) for k in range(count)]  # noqa: E731
        loop["penalty"] = 0.0
        if args.rounds and not args.control:
            generators = again(args.replicas)
            solving = RNN(n, inputs, d, alpha, args.init_scale, generators, who)
            solving.become(trained)
            windows = Windows(train, alpha, generators, device, bootstrap=args.bootstrap, **batches)
            read = alternate(solving.to(device), windows, train, shape, args.rounds, **loop)
            networks, refined = prediction.better(trained, read, train, args.warmup, args.window)
        elif not (args.control or args.no_polish):
            after = [uncertainty.polish(net, train) for net in trained]
            networks, refined = prediction.better(trained, after, train, args.warmup, args.window)
        if any(refined):
            session.keep_refined(checkpoint_path, options, trained, networks)
        polish_seconds, found = time.perf_counter() - spent, None
        if not args.no_errors:
            about = read and read[0]
            if about is None:
                one = again(1)
                held = RNN(n, inputs, d, alpha, args.init_scale, one, who)
                held.become(networks[:1])
                half = loop | {"lr": args.lr / 2, "updates": max(1, args.updates // 2)}
                fit(held.to(device), Windows(train, alpha, one, device, **batches), **half, held=True)
                about = held.networks()[0]
            found = uncertainty.read_off(read or networks, about, train, shape)
            recordings.save(args.out / "connectivity.npz", **found)
        each = [measures.of_network(net, rec, held_out, shape, truth, found, args.warmup, args.window, best.W[:n, :n])
                for net, best in zip(networks, read or networks, strict=True)]  # fmt: skip
        metrics = measures.valid_json(measures.of_replicas(each) | {
            "polished": measures.of_replicas([{"it": r} for r in refined])["it"], "updates": args.updates,
            "train_seconds": seconds, "polish_seconds": polish_seconds, "seconds": time.perf_counter() - began,
            "alpha": alpha, "held_out_trials": index, "warnings": warnings,
            "hidden_agreement": unrecorded.agreement(networks, held_out),
        })  # fmt: skip
        session.write_json(args.out / "metrics.json", metrics)
        tracking.summarise(wandb, metrics)
    show = {k: metrics[k] for k in ("r_W", "r_gate", "heading_error_5s", "loss", "train_seconds") if k in metrics}
    show = {k: [x for x in np.ravel(v) if x is not None] for k, v in show.items()}
    print(f"{args.out}: " + ", ".join(f"{k} {np.mean(v):.3g}" for k, v in show.items() if v))
    if "direct_share" in metrics:
        print(f"{args.out}: {session.told_share(metrics['direct_share'])}")


if __name__ == "__main__":
    command.run(main)
