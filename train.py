"""Fit an input-separated recurrent network (model.py) to a recording, and estimate its connections.

    prepare    read the recording, and what follows from it; refuse what cannot be fitted
    train      all weights of a network, by back-propagation through random windows: the publication's method
    estimate   the connections, by a regression that needs no network (nsi/estimation): connectivity.npz
    hidden     a second network, whose weights among recorded units are the estimate's: hidden neurons are read from it
    write      scores, files, figures; of the two networks model.pt has the one that predicts better

docs/method.md has the equations of each step. Ground truth is read for scores alone.
"""

import os
import time
from dataclasses import replace

if __name__ == "__main__":  # before numpy is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from nsi.run import cli
from nsi.run.settings import parse_options as parse
from nsi.run.setup import prepare

STARTED = time.perf_counter()
HIDDEN_UPDATES = 1.4  # updates of the second network, relative to the first one's


def start_network(rec, units, settings, device="cpu"):
    """Networks with random weights, one per replica, and the windows that they are trained on. rec: the training
    trials; units: Units. Returns: RNN, Windows."""
    n, alpha = rec.rates.shape[-1], settings.alpha_of_networks
    generators = [torch.Generator().manual_seed(settings.seed + k) for k in range(settings.replicas)]
    model = RNN(n, 0, rec.velocity.shape[-1], alpha, settings.init_scale, generators, units).to(device)
    return model, Windows(rec, alpha, generators, settings, device)


def fit(model, windows, settings, clamped=False, hook=None, training=None):
    """Train networks in place, by back-propagation through windows of a recording.

    model: RNN, on the windows' device; windows: Windows, with one generator per replica; settings: Settings, of which
    forcing and drive_penalty fade to 0; clamped: the recorded units are clamped throughout; hook: Watch; training: the
    state of a checkpoint, to continue. Returns: seconds of the training loop. Raises: BadInput where the loss or a
    gradient is not finite; interruption.Interrupted."""
    hook, updates, lr, penalty = hook or Watch(), settings.updates, settings.lr, settings.drive_penalty
    weights = [p.detach() for p in model.weights]
    optimiser = Adam(weights, updates, lr, settings.beta2, settings.schedule)
    objective = Objective(
        model.n_response, model.alpha, windows.warmup, model.driven, model.free, settings.loss, clamped
    )
    gradient = Gradient(weights, objective, windows, penalised=penalty > 0)
    project = constraints.Projection(model)
    if training:
        session.restore(training, optimiser, windows.generators)
    diverged = torch.zeros((), dtype=torch.long, device=windows.rates.device)
    started = time.perf_counter() - (training["seconds"] if training else 0.0)
    for update in range(optimiser.done + 1, updates + 1):
        left, logged = 1 - (update - 1) / updates, hook.logs(update, updates)
        lr_now = optimiser.lr_and_beta1()[0]
        losses, gradients = gradient(windows.draw(), left * settings.forcing, left * penalty, logged)
        optimiser.step(gradients)
        project()
        diverged, stop = session.first_divergence(diverged, update, gradients), hook.stopping()
        if logged or stop or hook.keeps(update, updates):
            session.refuse_divergence(int(diverged), "gradient", lr)
        if logged:
            hook.log(update, model, session.scalars_to_log(losses, gradients, update, lr_now, lr))
        if stop or hook.keeps(update, updates):
            states = [g.get_state() for g in windows.generators]
            hook.keep(model, optimiser.state() | {"seconds": time.perf_counter() - started, "generators": states})
        if stop:
            raise interruption.Interrupted(stop, f" after update {update} of {updates}")
    return time.perf_counter() - started


def train_networks(rec, settings, device="cpu", hook=None, restore=lambda model: None):
    """Train all weights of networks on a recording, the teacher forcing fading to 0: the publication's method. rec: the
    training trials; settings: Settings that leave nothing open; restore: called with the RNN, gives the state of
    training to continue, or None. Returns: list of Network, one per replica; seconds."""
    which = make_units(rec, settings)
    model, windows = start_network(rec, which, settings, device)
    if len(which.driven) == which.n:
        settings = replace(settings, drive_penalty=0.0)
    seconds = fit(model, windows, settings, hook=hook, training=restore(model))
    return model.networks(), seconds


def make_units(rec, settings):
    """The units of the networks that are trained. Returns: Units."""
    n = rec.rates.shape[-1]
    if settings.control:
        return units.make_units(n)
    driven = np.zeros(n, bool) if rec.driven is None else rec.driven
    return units.make_units(n, settings.response_units, settings.input_units, driven)


def fit_hidden(W, b, rec, settings, hook=None):
    """Train networks with given weights among recorded units, recorded units clamped, under constraints. W (n, n), b
    (n,): the given weights and thresholds, NaN where there are none; training starts from b, and changes it; rec: the
    training trials. Returns: list of Network, one per replica."""
    n, names = len(W), settings.constraints.split(",")
    which = units.make_units(n, settings.response_units, settings.input_units, rec.driven, names, W)
    model, windows = start_network(rec, which, settings)
    model.b.data[:, :n] = torch.as_tensor(np.nan_to_num(b))
    constraints.project(model)
    settings = replace(settings, updates=hidden_updates(settings), drive_penalty=0.0)
    fit(model, windows, settings, clamped=True, hook=hook)
    return model.networks()


def hidden_updates(settings):
    """Updates of the second network."""
    return max(1, round(HIDDEN_UPDATES * settings.updates))


def main(prepared=None):
    """Fit, and write the run's folder. prepared: options, Data and Settings, if the command line was read already."""
    started = STARTED if prepared else time.perf_counter()
    args, data, settings = prepared or prepare_options()
    device, alpha = session.choose_device(args.device), settings.alpha_of_networks
    torch.set_flush_denormal(True)  # silent units' states decay to numbers that slow a CPU down
    sizes = settings.warmup, settings.window
    print(f"{args.data}: {units.describe_units(make_units(data.rec, settings), settings.constraints)}")
    with session.open_run(args, settings, data) as run:
        with run.stage("checks"):
            warnings = quality.report_warnings(data.recording, args.data, alpha, sum(sizes), settings.bootstrap)
        run.metrics["warnings"] += warnings

        # train
        with run.training_hook() as hook:
            trained, seconds = train_networks(data.train, settings, device, hook, run.restore)
        run.metrics |= {"updates": settings.updates, "train_seconds": seconds}
        run.write_metrics(finished=False)

        # estimate
        found = None if settings.control else run.estimate()
        run.warn(connections.find_doubts(found, trained[0]) if found else ())

        # hidden neurons
        candidates, hidden = {"trained": trained}, trained
        if found:
            with run.stage("hidden units", hidden_updates(settings)) as hook:
                weights = connections.weights_for_networks(found, alpha)
                hidden = fit_hidden(*weights, data.train, settings, hook)
            candidates["hidden"] = hidden
        networks, names, errors = prediction.select_networks(candidates, data.train, *sizes)
        run.keep_networks(trained, networks, hidden if found else None)
        run.warn(diagnostics.find_doubts(data.held_out, alpha, data.geometry, settings.constraints, hidden, errors))

        # write
        arrays = run.write_connections(found, trained)
        run.measure(trained, networks, hidden, names, arrays, time.perf_counter() - started)
        if not args.no_report:
            run.write_report(networks, arrays)
    print(*(f"{args.out}: {line}" for line in [*session.summary(run.metrics), *describe_orders(run.metrics)]), sep="\n")


def prepare_options(arguments=None):
    """What the command line asks for, checked. Returns: options, Data, Settings."""
    args, settings = parse(arguments)
    return args, *prepare(args, settings)


PREPARED = cli.run(prepare_options) if __name__ == "__main__" else None  # importing torch takes seconds

import numpy as np
import torch

from model import RNN
from nsi.evaluation import prediction
from nsi.evaluation.metrics import describe_orders
from nsi.hidden import constraints, diagnostics, units
from nsi.recordings import quality
from nsi.run import connections, interruption, session
from nsi.run.watch import Watch
from nsi.training.adam import Adam
from nsi.training.bptt import Gradient, Objective
from nsi.training.windows import Windows

if __name__ == "__main__":
    cli.run(lambda: main(PREPARED))
