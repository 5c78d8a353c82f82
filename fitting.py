"""The training: back-propagation through windows of a recording.

    loss = mean(log cosh(max(a, 0)) - a * r) + drive_penalty * mean((u[inp] @ W[inp, resp])^2)

a is the input current that the network sends to its response units and r the rate recorded there. The first term is
the loss that matches phi: its gradient with respect to a is phi(a) - r, which, unlike that of a squared error, does
not vanish where the network predicts silence. The second lets the direct path explain all that it can.

Each window starts with `warmup` steps in which the response units are held at their recorded state, outside the loss,
so that the input units find theirs; then the network runs on, its response units' state pulled towards the record by
the fraction `forcing` at every step. Running freely, a network is blamed for noise that nobody can foresee, and W
takes the blame; held tightly, it never learns to keep its bump in place. So the forcing fades to 0 over the updates,
and the penalty, which makes the bump lag behind, with it.

`args` are train.py's options throughout. Only rates, velocity and stimulus enter.
"""

import time

import numpy as np
import torch
import torch.nn.functional as F

import analysis
import files
import recording
import replicas
import tracking
from model import RNN, Buffers, phi, unroll, unroll_backward

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
