"""Fit an input-separated recurrent network (model.py) to a recording, and estimate its connections.

A free training comes first. Then, clamped to the recording, the input units are trained and the weights onto recorded
neurons solved for in turn (nsi/solve.py); of the networks trained, solved and fine-tuned the one with the lowest error
is kept. connectivity.npz is estimated apart, by regression (nsi/estimation). Truth is for scores alone.
"""

import os
import time
from pathlib import Path

if __name__ == "__main__":  # before numpy is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from nsi import units
from nsi.run import cli, interruption, opening

BEGAN = time.perf_counter()
FREE = {"updates": 550, "batch": 25, "lr": 1e-2}  # the free training's schedule
CONTROL = {"updates": 1100, "batch": 50, "lr": 6e-3}  # that of the control, which has nothing else
HELD, TUNED = (0.7, 0.3), (0.2, 0.1)  # updates and lr of the trainings after it, relative to its own
EVERY = 4  # a solution that another follows does with every so-manieth step


def parse(arguments=None):
    """This script's options, from the command line or a list of strings. Returns: argparse.Namespace."""
    p = cli.Parser("Fit an input-separated recurrent network to a recording.")
    add, number = p.add_argument, cli.number
    count, size, rate = number(int, 1), number(float, 0), number(float, 0, above=True)
    share, names = number(float, 0, 1), cli.assumptions
    told = lambda name: f"{FREE[name]:g}; control {CONTROL[name]:g}"  # noqa: E731
    # fmt: off
    add("--data",          type=Path,  default="data/ring.npz",  help="the recording (data/README.md has the format)")
    add("--out",           type=Path,  default="runs/separated", help="the run's folder")
    add("--input-units",   type=count,               help="hidden units that receive the velocity (by the file)")
    add("--response-units", type=number(int, 0),     help="hidden units that do not (by the file)")
    add("--assume",        type=names,               help=f"constraints on hidden units: {units.CHOICES} (by the file)")
    add("--assume-hidden", type=names,               help="the same in a second network, for these alone (by the file)")
    add("--favour",        choices=["direct", "even", "neither"], help="which of two paths that could do the same")
    add("--control",       action="store_true",      help="no input units: velocity drives the response units")
    add("--updates",       type=count,               help=f"gradient updates (default: {told('updates')})")
    add("--batch",         type=count,               help=f"windows per update (default: {told('batch')})")
    add("--window",        type=count, default=50,   help="steps of a window that count in the loss")
    add("--warmup",        type=number(int, 0), default=10, help="steps before them, response units held at the record")
    add("--lr",            type=rate,                help=f"Adam's learning rate, at its peak (default: {told('lr')})")
    add("--beta2",         type=number(float, 0, 0.9999), default=0.99, help="Adam's memory of squared gradients")
    add("--schedule",      choices=["onecycle", "constant"], default="onecycle", help="learning rate over the updates")
    add("--loss",          choices=["matching", "mse"], default="matching", help="mse: mean squared error of the rates")
    add("--init-scale",    type=size,  default=0.03, help="initial W relative to Glorot's")
    add("--drive-penalty", type=size,  default=0.003, help="on the input units' drive to the response, fading to 0")
    add("--rotate",        action="store_true",      help="turn windows around the ring, taken to be alike all around")
    add("--forcing",       type=share,               help="pull per step to the record, fading to 0 (by the file)")
    add("--alpha",         type=number(float, 0, 1, above=True), help="dt / tau (default: the recording's, else 0.2)")
    add("--seed",          type=number(int, 0), default=0, help="of initial weights and windows")
    add("--rounds",        type=number(int, 0),     help="of training input units and solving for W (by the file)")
    add("--no-errors",     action="store_true",      help="do not calibrate intervals: half the estimate's time")
    add("--bootstrap",     action="store_true",      help="each replica draws animals, or trials, with replacement")
    add("--replicas",      type=count, default=1,    help="networks fitted at once, with seeds seed, seed + 1, ...")
    add("--shuffle-velocity", action="store_true",   help="a null model: fit the velocity of other trials")
    add("--no-report",     action="store_true",      help="draw no figures and no page")
    add("--device",        choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU where there is one")
    add("--wandb", choices=["auto", "online", "offline", "disabled"], default="auto", help="auto: online with a key")
    add("--resume",        action="store_true",      help="continue the run in --out from its last checkpoint")
    add("--overwrite",     action="store_true",      help="fit anew where --out holds a finished run")
    # fmt: on
    args = p.parse_args(arguments)
    for name, value in (CONTROL if args.control else FREE).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


# so soon since what follows takes seconds to import
BEGUN = cli.run(lambda: opening.given(parse())) if __name__ == "__main__" else None

import torch

from model import RNN
from nsi import assumed, check, doubts, geometry, measures, prediction, relations, unrecorded
from nsi.connectivity import scores
from nsi.gradient import Gradient
from nsi.optimiser import Adam
from nsi.run import connections, second, session, tracking
from nsi.run.watch import Stage, Watch
from nsi.solve import ROUNDS, onto_hidden, solve
from nsi.windows import Windows


def fit(model, windows, updates, lr, beta2=0.99, schedule="onecycle", loss="matching", forcing=0.1, penalty=0.003,
        held=False, steady=False, watch=None, training=None):  # fmt: skip
    """Train a network in place, by back-propagation through windows of a recording.

    model: RNN, on the windows' device; windows: Windows, with one generator per replica; forcing, penalty: at the
    first update, fading to 0; held: hold the response units at the record throughout; steady: let the forcing stay as
    it is; watch: Watch; training: the state of a checkpoint, to continue. Returns: seconds of the training loop.
    Raises: BadInput where the loss or a gradient is not finite; interruption.Interrupted.
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
        losses, gradients = follow(windows.draw(), (1.0 if steady else fade) * forcing, fade * penalty, look)
        optimiser.step(gradients)
        assumed.constrain(model)
        diverged, stop = session.first_divergence(diverged, update, gradients), watch.stopping()
        if look or stop or watch.keeps(update, updates):
            session.refuse_divergence(int(diverged), "gradient", lr)
        if look:
            watch.log(update, model, session.seen(losses, gradients, update, lr_now, lr))
        if stop or watch.keeps(update, updates):
            states = [g.get_state() for g in windows.generators]
            watch.keep(model, optimiser.state() | {"seconds": time.perf_counter() - began, "generators": states})
        if stop:
            raise interruption.Interrupted(stop, f" after update {update} of {updates}")
    return time.perf_counter() - began


def refine(model, windows, rec, shape, rounds, stage, bootstrap=False, *, updates, lr, **loop):
    """After the free training: train the input units, held at the record, and solve for the response weights in turn,
    then run freely for a little longer.

    model: RNN, freely trained, which is changed in place; windows: Windows; rec: the training trials; shape: Ring;
    updates, lr: of the free training; stage: called with a name and a count, gives a Stage; bootstrap: each replica has
    trials of its own. Returns: the networks solved for, and run on, and spreads.
    """
    parts = [rec.trials(pool.numpy()) if bootstrap else rec for pool in windows.pools]
    count = max(1, round(HELD[0] * updates))
    for k in range(rounds):
        model.become([onto_hidden(net, part, model.who) for net, part in zip(model.networks(), parts, strict=True)])
        with stage(f"round {k + 1} of {rounds}", count) as watch:
            slower = HELD[1] * lr * (1 - k / rounds)
            fit(model, windows, updates=count, lr=slower, held=True, penalty=0.0, watch=watch, **loop)
        every, each = EVERY if k + 1 < rounds else 1, zip(model.networks(), parts, strict=True)
        with stage(f"solving {k + 1} of {rounds}", ROUNDS * len(parts) * rec.rates.shape[-1], "neuron") as watch:
            solutions = [solve(net, part, shape, every, who=model.who, seen=watch.seen) for net, part in each]
        model.become([solution.net for solution in solutions])
    solved, count = model.networks(), max(1, round(TUNED[0] * updates))
    with stage("running freely", count) as watch:
        fit(model, windows, updates=count, lr=TUNED[1] * lr, forcing=0.0, penalty=0.0, watch=watch, **loop)
    return solved, model.networks(), [solution.spread for solution in solutions]


def main(begun=None):
    """Fit, and write the run's folder. begun: what there is to fit, if the command line was read already."""
    began = BEGAN if begun else time.perf_counter()
    args, given, rec, truth, shape, alpha, train, held_out, index = begun or opening.given(parse())
    device = session.choose_device(args.device)
    torch.set_flush_denormal(True)  # silent units' states decay to numbers that slow a CPU down
    n, d = rec.rates.shape[-1], rec.velocity.shape[-1]
    session.as_begun(args)
    who = units.choose(args, n, rec.driven, d)
    print(f"{args.data}: {units.told(who, args.assume, args.assume_hidden)}")
    loop = {"updates": args.updates, "lr": args.lr, "beta2": args.beta2, "schedule": args.schedule, "loss": args.loss}
    free = {"forcing": args.forcing, "penalty": args.drive_penalty if who.penalised else 0.0}
    places = geometry.places_of(train, shape)
    options, checkpoint_path = session.told(vars(args), given), args.out / "model.pt"
    stage = lambda name, *count: Stage(f"{args.out.name}, {name}", *count)  # noqa: E731

    def started(numbers):  # as many networks, and the windows that they are to see
        generators = [torch.Generator().manual_seed(args.seed + k) for k in numbers]
        model = RNN(n, len(who.driven) - n, d, args.alpha, args.init_scale, generators, who).to(device)
        batches = {"warmup": args.warmup, "window": args.window, "batch": args.batch, "rotate": args.rotate}
        return model, Windows(train, args.alpha, generators, device, bootstrap=args.bootstrap, **batches)

    with session.opened(args, options, given) as (state, wandb):
        warnings = check.told(given, args.data, args.alpha, args.warmup + args.window, args.bootstrap)
        model, windows = started(range(args.replicas))
        training = session.go_on(state, model)
        progress, done = lambda net: scores(net, truth, shape, places), training["updates"] if training else 0
        with session.watched(args.out, args.updates, done, options, wandb, progress) as watch:
            seconds = fit(model, windows, **loop, **free, watch=watch, training=training)
        spent, spreads, trained = time.perf_counter(), [None] * args.replicas, model.networks()
        candidates = {"trained": trained}
        if args.rounds and not args.control:
            model, windows = started(range(args.replicas))  # with windows drawn anew
            model.become(trained)
            *refined, spreads = refine(model, windows, train, shape, args.rounds, stage, args.bootstrap, **loop)
            candidates |= zip(("solved", "tuned"), refined, strict=True)
        networks, running, lost = prediction.best(candidates, train, args.warmup, args.window)
        read = candidates.get("solved", trained)  # whose connections and hidden units are looked at
        if set(running) != {"trained"}:
            session.keep_refined(checkpoint_path, options, trained, networks)
        after = time.perf_counter()
        hidden, of_hidden = second.infer(fit, RNN, args, who, read, windows, options)
        of_fit = doubts.told(held_out, args.alpha, shape, of_hidden["hidden_assumed"], hidden, lost)
        with stage("measures"):
            each = [measures.of_network(net, rec, held_out, shape, truth, args.warmup, args.window, its, other)
                    for net, its, other in zip(networks, read, hidden, strict=True)]  # fmt: skip
        metrics = measures.valid_json(measures.of_replicas(each) | {
            "running": running if args.replicas > 1 else running[0], "updates": args.updates, "train_seconds": seconds,
            "heterogeneity": spreads if args.replicas > 1 else spreads[0], "solve_seconds": after - spent,
            "alpha": args.alpha, "alpha_known": bool(alpha), "held_out_trials": index, "options": options, **of_hidden,
            "warnings": warnings + of_fit, "fit_warnings": of_fit, "data_sha256": options["data_sha256"],
            "shuffle_velocity": args.shuffle_velocity, "hidden_agreement": unrecorded.agreement(hidden, held_out),
        })  # fmt: skip
        session.write_metrics(args.out, metrics, finished=False)  # what follows takes long with many neurons
        found, said, doubted = connections.write_connections(args, read, train, shape, places, alpha, stage)
        metrics |= said | connections.score(found, rec, shape, places, truth) | {"seconds": time.perf_counter() - began}
        metrics |= {name: metrics[name] + doubted for name in ("warnings", "fit_warnings")}
        session.write_metrics(args.out, metrics, finished=True)
        tracking.summarise(wandb, metrics)
        if not args.no_report:
            session.reported(args.out, rec, held_out, networks, found, metrics, options, wandb)
    print(*(f"{args.out}: {line}" for line in [*session.summary(metrics), *relations.told(found)]), sep="\n")


if __name__ == "__main__":
    cli.run(lambda: main(BEGUN))
