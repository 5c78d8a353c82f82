"""Fit an input-separated recurrent network to a recording, by back-propagation through windows of its activity.

    loss = mean(log cosh(max(a, 0)) - a * r) + drive_penalty * mean((u[inp] @ W[inp, resp])^2)

a is the input current that the network sends to its response units and r the rate recorded there. The first term is
the loss that matches phi: its gradient with respect to a is phi(a) - r, which, unlike that of a squared error, does
not vanish where the network predicts silence. The second lets the direct path explain all that it can.

Each window starts with `warmup` steps in which the response units are held at their recorded state, outside the loss,
so that the input units find theirs; then the network runs on, its response units' state pulled towards the record by
the fraction `forcing` at every step. Running freely, a network is blamed for noise that nobody can foresee, and W
takes the blame; held tightly, it never learns to keep its bump in place. So the forcing fades to 0 over the updates,
and the penalty, which makes the bump lag behind, with it.

A convex last step refines the weights onto the response units, and a second training, held at the record throughout,
prepares their standard errors (uncertainty.py); these go to errors.npz, beside model.pt and metrics.json.

Only rates, velocity and stimulus enter the fit.
"""

import argparse
import contextlib
import copy
import hashlib
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import analysis
import files
import recording
import replicas
import tracking
import uncertainty
from model import RNN, VERSION, Buffers, load, phi, read, unroll, unroll_backward

CHECKPOINT_EVERY = 100


def window_loss(a, r, loss="matching"):
    """The first term of the loss above, of each replica, or the mean squared error of the rates.

    a, r: (steps, [replicas,] batch, n) input currents and recorded rates. Returns: (replicas,) or scalar.
    """
    each = (phi(a) - r).square()
    if loss == "matching":
        positive = a.clamp(min=0)
        each = positive + F.softplus(-2 * positive) - np.log(2) - a * r
    return each.mean((0, -2, -1))


@torch.no_grad()
def gradient(model, v, u, r, stimulus, args, buffers, forcing=0.0, drive_penalty=None, held=False, look=True):
    """Set the gradients of the loss of a batch of windows, summed over replicas. All arrays are time first.

    v: (warmup + window, [replicas,] batch, D); u, r, stimulus: the same of n, recorded states, rates and known
    current or None; forcing, drive_penalty: at this update, numbers or tensors without axes, the latter None for
    none; held: hold the response units at the record beyond the warm-up; look: whether to work out the loss itself.
    Returns: the loss, (replicas,) or scalar, or None.
    """
    n, start, parameters = model.n_response, args.warmup, (model.W, model.b, model.W_in)
    W, b, W_in = (p.detach() for p in parameters)
    a = buffers.like("a", v[..., :1].expand(*v.shape[:-1], b.shape[-1]))
    a.copy_(b.unsqueeze(-2))
    a[..., b.shape[-1] - W_in.shape[-1] :] += v @ W_in
    if stimulus is not None:
        a[..., :n] += stimulus
    along = (len(v) if held else args.warmup), forcing, model.alpha
    rates, states = unroll(W, a, u, *along, buffers, keep=look)
    loss = window_loss(a[start:, ..., :n], r[start:], args.loss) if look else None

    g, count = buffers.like("g", a), args.window * args.batch * n
    g.zero_()
    response = g[start:, ..., :n]
    torch.sub(rates[start:, ..., :n], r[start:], out=response).div_(count)
    if args.loss == "mse":
        response.mul_(2 * (1 - rates[start:, ..., :n].square()) * (rates[start:, ..., :n] > 0))
    from_u = None
    if drive_penalty is not None:  # of the drive u[inp] @ out, by u.T @ u and out @ out.T
        sent, out, from_u = states[start:, ..., n:], W[..., n:, :n], buffers.like("from_u", a)
        each = drive_penalty / count
        torch.matmul(sent, 2 * each * out @ out.mT, out=from_u[start:, ..., n:])
        flat = sent.movedim(0, -3).flatten(-3, -2)  # (..., T * B, input units)
        pull = each * (flat.mT @ flat) @ out
        loss = loss + (pull * out).sum((-2, -1)) if look else None
    W_grad = unroll_backward(g, from_u, W, rates, states, n, *along)
    if drive_penalty is not None:
        W_grad[..., n:, :n] += 2 * pull
    flat = [x.movedim(0, -3).flatten(-3, -2) for x in (v, g)]  # (..., T * B, D or units)
    W_in_grad = flat[0].mT @ flat[1][..., b.shape[-1] - W_in.shape[-1] :]
    for p, grad in zip(parameters, (W_grad, flat[1].sum(-2), W_in_grad), strict=True):
        p.grad = grad
    return loss


class Windows:
    """Random windows of a recording, resident on the device, drawn by one generator per replica.

    Trials shorter than a window are left out. With args.bootstrap each replica draws from trials, or, where the
    recording says whose they are, from flies that were themselves drawn with replacement.
    """

    def __init__(self, rec, alpha, args, generators, device):
        flat = lambda x: torch.as_tensor(x, device=device).flatten(0, 1)  # noqa: E731
        self.length = args.warmup + args.window
        self.trials, self.steps, _ = rec.rates.shape
        self.batch, self.generators = args.batch, generators
        self.stacked, self.rotate = args.replicas > 1, args.rotate
        last = torch.as_tensor(rec.valid.sum(1)) - self.length  # step at which a trial's last window starts
        self.first = last.clamp(0, int(np.ceil(3 / alpha)))  # u[0] is a guess, soon forgotten
        self.span = last - self.first + 1  # (trials,), below 1 where no window fits
        whole = torch.arange(self.trials) if rec.fly is None else torch.as_tensor(rec.fly)
        flies = [torch.nonzero((whole == k) & (self.span > 0))[:, 0] for k in whole[self.span > 0].unique()]
        resample = lambda g: [flies[k] for k in torch.randint(len(flies), (len(flies),), generator=g)]  # noqa: E731
        self.pools = [torch.cat(resample(g) if args.bootstrap else flies) for g in generators]
        self.rates, self.velocity = flat(rec.rates), flat(rec.velocity)  # (trials * steps, ...)
        self.u = flat(analysis.synaptic_state(rec.rates, alpha))
        self.stimulus = None if rec.stimulus is None else flat(rec.stimulus)

    def draw(self):
        """The next windows' first rows and, to `rotate` them, turns. Returns: ([replicas,] 1 or 2, batch)."""
        windows = []
        for g, pool in zip(self.generators, self.pools, strict=True):
            trial = pool[torch.randint(len(pool), (self.batch,), generator=g)]
            step = torch.randint(self.span.max(), (self.batch,), generator=g) * self.span[trial] // self.span.max()
            drawn = [trial * self.steps + self.first[trial] + step]
            if self.rotate:
                drawn.append(torch.randint(self.rates.shape[-1], (self.batch,), generator=g))
            windows.append(torch.stack(drawn))
        windows = torch.stack(windows) if self.stacked else windows[0]
        return windows.to(self.rates.device, non_blocking=True)

    def at(self, windows):
        """Returns: velocity, state, rates and stimulus (or None), each (length, [replicas,] batch, ...)."""
        start, *turn = windows.unbind(-2)
        rows = torch.arange(self.length, device=start.device).view(-1, *[1] * start.ndim) + start
        pick = lambda x: x.index_select(0, rows.flatten()).view(*rows.shape, -1)  # noqa: E731
        velocity, *ring = (None if x is None else pick(x) for x in (self.velocity, self.u, self.rates, self.stimulus))
        if turn:  # each window by its own number of neurons
            n = self.rates.shape[-1]
            order = (torch.arange(n, device=start.device) + turn[0][..., None]) % n  # ([replicas,] batch, n)
            ring = [x if x is None else x.gather(-1, order.expand_as(x)) for x in ring]
        return velocity, *ring


class Gradient:
    """`gradient` of the next windows; on a GPU captured once, as a CUDA graph, and replayed, so that Python is idle.

    A captured graph finds its inputs where they lay when it was captured; they are copied there, and nothing waits
    for the device. On a CPU replicas do best one after the other, in the same arrays.
    """

    EAGER = 3  # updates before the capture, while libraries choose their kernels and the buffers are made

    def __init__(self, model, windows, args, penalised, held):
        self.model, self.windows, self.args, self.penalised, self.held = model, windows, args, penalised, held
        self.captures, self.buffers = windows.rates.is_cuda, Buffers()
        self.networks = model.unstack() if args.replicas > 1 and not self.captures else [model]
        self.graph, self.inputs, self.done = None, None, 0

    def __call__(self, drawn, forcing, penalty, look=True):
        """drawn: Windows.draw's; forcing, penalty: at this update. Returns: the loss of each replica, if `look`."""
        if not self.captures:
            return self.run(drawn, forcing, penalty, look)
        if self.inputs is None:
            self.inputs = drawn.clone(), *(torch.zeros((), device=drawn.device) for _ in range(2))
        self.inputs[0].copy_(drawn)
        self.inputs[1].fill_(forcing)
        self.inputs[2].fill_(penalty)
        self.done += 1
        if self.done <= self.EAGER:
            return self.run(*self.inputs)
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss = self.run(*self.inputs)
        self.graph.replay()
        return self.loss

    def run(self, drawn, forcing, penalty, look=True):
        penalty, losses = penalty if self.penalised else None, []
        for one, its in zip(self.networks, drawn if len(self.networks) > 1 else [drawn], strict=True):
            batch = self.windows.at(its)
            losses.append(gradient(one, *batch, self.args, self.buffers, forcing, penalty, self.held, look))
        if len(self.networks) > 1:
            for p, *parts in zip(self.model.parameters(), *(one.parameters() for one in self.networks), strict=True):
                p.grad = torch.stack([part.grad for part in parts])
        return torch.stack(losses) if look else None


def split_trials(rec):
    """Set every tenth trial aside (the last one of fewer than ten; a single trial is cut into ten first).

    Returns: the recording to train on, the held-out one, and the held-out trials' indices.
    """
    if len(rec.rates) == 1:
        length = int(rec.valid.sum()) // 10
        cut = {k: a[0, : 10 * length].reshape(10, length, -1) for k, a in rec.arrays().items() if np.ndim(a) == 3}
        rec = recording.Recording(dt=rec.dt, tau=rec.tau, **cut)
    index = np.arange(len(rec.rates))
    held_out = index[9::10] if len(index) >= 10 else index[-1:]
    return rec.trials(np.setdiff1d(index, held_out)), rec.trials(held_out), held_out


def restore(state, model, optimiser, schedule, generators):
    """Put a checkpoint's state back where a fit saved it from. Raises: BadInput, saying what does not fit."""
    weights = state.get("trained", state["model"])
    for name, p in model.named_parameters():
        if weights[name].shape != p.shape:
            has, expected = tuple(weights[name].shape), tuple(p.shape)
            raise recording.BadInput(f"the checkpoint's {name} has shape {has}; expected {expected} to --resume")
    try:
        model.load_state_dict(weights)
        optimiser.load_state_dict(state["optimiser"])
        if any(optimiser.state[p][k].shape != p.shape for p in model.parameters() for k in ("exp_avg", "exp_avg_sq")):
            raise ValueError
        if schedule:
            schedule.load_state_dict(state["schedule"])
        for generator, saved in zip(generators, state["generators"], strict=True):
            generator.set_state(saved)
    except Exception:  # whatever torch makes of damage
        raise recording.BadInput(
            "the checkpoint's optimiser, schedule or generators are damaged; expected those of train.py to --resume"
        ) from None


def first_divergence(before, update, model):
    """The first update whose gradient was not finite, or 0, on the device, which is not waited for.

    before: the same, one update ago; update: this one's number.
    """
    finite = torch.stack([p.grad.sum() for p in model.parameters()]).sum().isfinite()
    return torch.where(finite | (before > 0), before, update)


def refuse_divergence(update, what, args):
    """Raise BadInput if there is an update at which something was not finite; 0 is none."""
    if update:
        raise recording.BadInput(
            f"the fit diverged at update {update}: the {what} is not finite; "
            f"try a smaller --lr than {args.lr:g}, and look for outliers in the recording"
        )


def fit(rec, args, device, log=None, state=None, save=None, start=None, stopping=lambda: 0):
    """Train on a recording.

    rec: recording.Recording, training trials only; args: this script's options; log: called with the update, the
    model and the scalars every tracking.EVERY updates; state: a checkpoint's, to continue; save: called with a new one;
    start: a model to train on for half the updates at half the learning rate, with the response units held at the
    record throughout and no penalty, which is what the standard errors are taken about; stopping: asked after every
    update for the signal that should end the fit, or 0.
    Returns: model, seconds of the training loop.
    Raises: BadInput where the loss or a gradient is not finite; files.Interrupted.
    """
    alpha, held = args.alpha, start is not None
    updates, lr = (max(1, args.updates // 2), args.lr / 2) if held else (args.updates, args.lr)
    generators = [torch.Generator().manual_seed(args.seed + k) for k in replicas.mine(args.replicas)]
    inputs = 0 if args.control else args.input_units
    n, d = rec.rates.shape[-1], rec.velocity.shape[-1]
    models = [RNN(n, inputs, d, alpha, args.init_scale, g) for g in generators]
    model = (RNN.stack(models) if args.replicas > 1 else models[0]).to(device)
    if held:
        model.load_state_dict(start.state_dict())
    optimiser = torch.optim.Adam(model.parameters(), lr, (0.9, args.beta2), fused=True)
    scheduled = args.schedule == "onecycle" and updates > 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, updates) if scheduled else None
    windows = Windows(rec, alpha, args, generators, device)  # draws its trials, if it does, before any window
    done, seconds = 0, 0.0
    if state:
        restore(replicas.scatter(state, args.replicas), model, optimiser, schedule, generators)
        done, seconds = state["updates"], state["seconds"]
    penalty = 0.0 if args.control or held else args.drive_penalty
    follow = Gradient(model, windows, args, penalty > 0, held)
    diverged = torch.zeros((), dtype=torch.long, device=device)
    began = time.perf_counter() - seconds
    for update in range(done + 1, updates + 1):
        fade = 1 - (update - 1) / updates
        look = update % tracking.EVERY == 0 or update == updates
        loss = follow(windows.draw(), fade * args.forcing, fade * penalty, look)
        optimiser.step()
        if scheduled:
            schedule.step()
        diverged, stop = first_divergence(diverged, update, model), stopping()
        keep = save and (update % CHECKPOINT_EVERY == 0 or update == updates or stop)
        if look or keep:
            refuse_divergence(int(diverged), "gradient", args)
        if look:
            norm = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
            scalars = {
                "loss": loss.mean().item(),
                "gradient_norm": norm.item(),
                "lr": optimiser.param_groups[0]["lr"],
            }
            refuse_divergence(0 if np.isfinite(scalars["loss"]) else update, "loss", args)
            if log:
                log(update, model, scalars)
        if keep:
            save({
                "model": model.state_dict(), "optimiser": optimiser.state_dict(), "updates": update,
                "schedule": schedule.state_dict() if scheduled else {}, "seconds": time.perf_counter() - began,
                "generators": [g.get_state() for g in generators],
            })  # fmt: skip
        if stop:
            raise files.Interrupted(stop, f" after update {update} of {updates}")
    return model, time.perf_counter() - began


def polished(model, rec, args):
    """Refine each replica's response weights (uncertainty.polish), where running freely it does not lose by it.

    rec: the training trials. Returns: the model, and for each replica whether it was refined.
    """
    some, kept = rec.trials(slice(None, 20)), []
    weights = [list(replica) for replica in zip(*_by_replica(model), strict=True)]
    for replica, before in zip(weights, analysis.fits(model), strict=True):
        after = uncertainty.polish(before, rec)
        errors = [analysis.window_error(one, some, args.warmup, args.window) for one in (before, after)]
        kept.append(bool(errors[1] <= errors[0]))
        if kept[-1]:
            replica[0], replica[2] = (torch.as_tensor(x, dtype=torch.float32) for x in (after.W, after.b))
    result = copy.deepcopy(model)
    for p, values in zip((result.W, result.W_in, result.b), zip(*weights, strict=True), strict=True):
        p.data.copy_(torch.stack(values) if p.data.ndim > values[0].ndim else values[0])
    return result, kept


def _by_replica(model):
    parts = [p.detach().cpu() for p in (model.W, model.W_in, model.b)]
    return parts if model.W.ndim == 3 else [p[None] for p in parts]


def errors(model, rec, args, device):
    """Standard errors, of the first replica and, of several, their spread. Returns: dict of arrays for errors.npz.

    W and W_se: the unbiased estimate that intervals are centred on, and its standard error; total, total_se: the same
    of the direct path and the even path together; gate, gate_se: of the effective gate; identifiable: (n, n) bool. With
    replicas W_replicas_se and gate_replicas_se, the s.d. over them of W and of the gate as a product of weights, which
    with --bootstrap are standard errors too.
    """
    one = model
    if args.replicas > 1:
        one = model.unstack()[0]
    alone = argparse.Namespace(**vars(args) | {"replicas": 1, "bootstrap": False})
    about = analysis.fits(fit(rec, alone, device, start=one)[0])[0]
    found, first = uncertainty.estimate(about, rec)._asdict(), analysis.fits(one)[0]
    found["identifiable"] = uncertainty.identifiable(first.W[: first.n, : first.n], found["W_se"])
    several = analysis.fits(model)
    if args.replicas > 1:
        found["W_replicas_se"] = np.std([f.W[: f.n, : f.n] for f in several], 0, ddof=1)
    if args.control:  # no path through input units, no gate
        del found["gate"], found["gate_se"]
    elif args.replicas > 1:
        found["gate_replicas_se"] = np.std([analysis.gate(f) for f in several], 0, ddof=1)
    return found


def measures(fit, rec, held_out, angles, truth, args, found):
    """What metrics.json says of one fitted network; the truth, where there is one, is read here and only here.

    rec, held_out: all trials and the held-out ones; angles: (n,) rad; found: what `errors` returns, or None.
    """
    determined = None if found is None else found["identifiable"]
    result = analysis.connectivity_scores(fit, truth, determined)
    if determined is not None:
        result["identifiable_fraction"] = float(determined.mean())
    result["loss"] = analysis.window_error(fit, held_out, args.warmup, args.window)
    wrong, steps = analysis.heading_error(fit, held_out, angles)
    result["heading_error_5s"], result["heading_error_steps"] = float(np.nanmean(wrong)), steps
    if len(fit.b) > fit.n:
        result |= analysis.shifter_measures(fit, held_out, angles)
        result |= uncertainty.path_measures(fit, rec, truth, found)
    return result


def main():
    args = parse()
    args.out = tracking.own_folder(args.out)
    rec = recording.load(args.data)
    for warning in recording.outliers(rec):
        print(f"{args.data}: {warning}", file=sys.stderr)
    truth = recording.load_truth(args.data, rec)
    args.alpha = choose_alpha(args, rec)
    parts = split_trials(rec)
    shortest, longest = args.warmup + args.window, min(part.valid.sum(1).max(initial=0) for part in parts[:2])
    if longest < shortest:
        raise recording.BadInput(
            f"{args.data}: rates has at most {rec.valid.sum(1).max()} steps per trial, {longest} after setting trials "
            f"aside; expected at least --warmup + --window = {shortest}"
        )
    device = replicas.start(args.replicas, choose_device(args.device))
    options = {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items()}  # folders may name their owner
    for key in ("resume", "wandb", "device"):
        del options[key]
    with open(args.data, "rb") as file:
        options["data_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    torch.set_flush_denormal(True)  # silent units' states decay to numbers that slow a CPU down
    if replicas.rank():  # the first process does all but a share of the training
        state = resume(args.out / "model.pt", options) if args.resume else None
        fit(parts[0], args, device, state=state, save=replicas.gather)
        return replicas.finish()
    with files.alone(args.out):
        state = resume(args.out / "model.pt", options) if args.resume else None
        config = options | {"data_shape": list(rec.rates.shape)}
        with tracking.tracked(args.wandb, args.out, config, (state or {}).get("wandb")) as run:
            try:
                metrics = work(args, options, rec, parts, truth, device, state, run)
            except files.Interrupted as stop:
                stop.done += "; the same command with --resume goes on"
                raise
    show = {k: metrics[k] for k in ("r_W", "r_gate", "heading_error_5s", "loss", "train_seconds") if k in metrics}
    print(f"{args.out}: " + ", ".join(f"{k} {np.mean(v):.3g}" for k, v in show.items() if v is not None))
    if "direct_share" in metrics:
        print(f"{args.out}: {told(metrics['direct_share'])}")


def work(args, options, rec, parts, truth, device, state, run):
    """Fit, polish, measure, and fill the run's folder.

    options: what the checkpoint says of args; parts: split_trials' of rec; state: of the checkpoint to continue, or
    None; run: tracking's. Returns: what metrics.json says, a dict.
    """
    train, held_out, index = parts
    checkpoint = args.out / "model.pt"
    shows_truth = {k: truth[k] for k in ("W", "gate") if k in truth}
    everything = np.ones((rec.rates.shape[-1],) * 2, bool)
    bar = tqdm(total=args.updates, initial=(state or {}).get("updates", 0), desc=args.out.name, unit="update",
               disable=None)  # fmt: skip

    def log(update, model, scalars):
        one = analysis.fits(model)[0]
        scores = analysis.connectivity_scores(one, shows_truth, everything) if shows_truth else {}
        shown = {"loss": scalars["loss"]} | {k: scores[k] for k in ("r_W", "r_gate") if k in scores}
        bar.set_postfix({k: f"{v:.3f}" for k, v in shown.items()}, refresh=False)
        bar.update(update - bar.n)
        tracking.log(run, update, scalars | shown, one.W, last=args.updates)

    def save(state):
        if not all(value.isfinite().all() for value in state["model"].values()):
            raise recording.BadInput(f"the fit diverged at update {state['updates']}: a weight is not finite")
        content = io.BytesIO()  # of a full disk, torch itself says nothing that a user could act on
        torch.save(state | {"version": VERSION, "args": options, "wandb": run.id}, content)
        with recording.whole(checkpoint) as temporary:
            Path(temporary).write_bytes(content.getbuffer())

    # several processes are stopped at once, by whoever started them, and go on from the last checkpoint
    postponed = files.postponed() if replicas.processes() == 1 else contextlib.nullcontext(lambda: 0)
    with bar, postponed as stopping:
        model, seconds = fit(train, args, device, log, state, lambda own: save(replicas.gather(own)), stopping=stopping)
    if replicas.processes() > 1:
        model = load(checkpoint)[0]
        replicas.finish()
    began = time.perf_counter()
    if not (args.control or args.no_polish):
        trained = model.state_dict()
        model, refined = polished(model, train, args)
        save(read(checkpoint) | {"model": model.state_dict(), "trained": trained})
    polish_seconds = time.perf_counter() - began
    found = None
    if not args.no_errors:
        found = errors(model, train, args, device)
        recording.save(args.out / "errors.npz", **found)
    angles = analysis.place_on_ring(rec.rates[rec.valid])
    each = [measures(one, rec, held_out, angles, truth, args, found) for one in analysis.fits(model)]
    metrics = each[0] if args.replicas == 1 else {k: [m[k] for m in each] for k in each[0]}
    metrics |= {
        "polished": False if args.control or args.no_polish else refined[0] if args.replicas == 1 else refined,
        "updates": args.updates,
        "train_seconds": seconds,
        "polish_seconds": polish_seconds,
        "alpha": args.alpha,
        "held_out_trials": index.tolist(),
    }
    metrics = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in metrics.items()}
    with recording.whole(args.out / "metrics.json") as temporary:
        Path(temporary).write_text(json.dumps(metrics, indent=2) + "\n")
    tracking.summarise(run, metrics)
    return metrics


def told(share):
    """What the recording says of direct connections against paths through hidden neurons, in a sentence."""
    if share is None or np.any(np.equal(share, None)):
        return "without a stimulus, connections and paths through hidden neurons cannot be told apart: trust their sum"
    return f"the pulses put {np.mean(share):.0%} of what neurons do to each other into direct connections"


def choose_alpha(args, rec):
    """--alpha, else dt / tau where the recording has tau, else the published 0.2."""
    if args.alpha is not None:
        return args.alpha
    return rec.dt / rec.tau if rec.tau else 0.2


def choose_device(name):
    """A torch device by the name of --device, `auto` being a GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise recording.BadInput("argument --device: expected cpu or auto, since torch finds no CUDA device here")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def resume(checkpoint, options):
    """The state in a checkpoint, or None if there is none yet; it must be of a run with the same options."""
    if not checkpoint.exists():
        return None
    state = read(checkpoint)
    missing = {"optimiser", "schedule", "generators", "updates", "seconds"} - state.keys()
    if missing:
        raise recording.BadInput(f"{checkpoint}: has no {min(missing)}; expected a checkpoint of train.py to --resume")
    if not (isinstance(state["updates"], int) and isinstance(state["seconds"], float)):
        raise recording.BadInput(f"{checkpoint}: has no count of updates and seconds; expected those of train.py")
    differ = [
        f"{k} {state['args'].get(k)!r}, not {options[k]!r}" for k in options if state["args"].get(k) != options[k]
    ]
    if differ:
        raise recording.BadInput(
            f"{checkpoint}: was trained with {' and '.join(differ)}; expected the same options to --resume"
        )
    return state


def parse(arguments=None):
    """This script's options, from the command line or a list of strings. Returns: argparse.Namespace."""
    p = recording.Parser("Fit an input-separated recurrent network to a recording.")
    add, number = p.add_argument, recording.number
    count, size = number(int, 1), number(float, 0)
    rate, share = number(float, 0, above=True), number(float, 0, 1)
    alpha = number(float, 0, 1, above=True)
    # fmt: off
    add("--data",          type=Path,  default="data/ring.npz",  help="the recording (recording.py has the format)")
    add("--out",           type=Path,  default="runs/separated", help="the run's folder")
    add("--input-units",   type=count, default=100,  help="hidden units that receive the velocity")
    add("--control",       action="store_true",      help="no input units: velocity drives the response units")
    add("--updates",       type=count, default=1100,  help="gradient updates")
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
    add("--no-polish",     action="store_true",      help="leave the weights as trained, without the convex last step")
    add("--no-errors",     action="store_true",      help="skip the standard errors, and the measures that need them")
    add("--bootstrap",     action="store_true",      help="each replica draws flies, or trials, with replacement")
    add("--replicas",      type=count, default=1,    help="networks fitted at once, with seeds seed, seed + 1, ...")
    add("--device",        choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU where there is one")
    add("--wandb",         choices=["auto", "online", "offline", "disabled"], default="auto",
                                                     help="auto: online if a key is configured, else offline")
    add("--resume",        action="store_true",      help="continue the run in --out from its last checkpoint")
    # fmt: on
    return p.parse_args(arguments)


if __name__ == "__main__":
    recording.run(main)
