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
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import analysis
import recording
import tracking
import uncertainty
from model import RNN, Buffers, phi, unroll, unroll_backward

LOG_EVERY = 10  # updates between two looks at the loss, the only ones that wait for the device
CHECKPOINT_EVERY = 100


def window_loss(a, r, drive=None, drive_penalty=0.0, loss="matching"):
    """The loss above, of each replica, or the mean squared error of the rates.

    a: (steps, [replicas,] batch, n) input currents; r, drive: likewise, recorded rates and u[inp] @ W[inp, resp].
    Returns: (replicas,) or scalar.
    """
    each = (phi(a) - r).square()
    if loss == "matching":
        positive = a.clamp(min=0)
        each = positive + F.softplus(-2 * positive) - np.log(2) - a * r
    if drive is not None:
        each = each + drive_penalty * drive.square()
    return each.mean((0, -2, -1))


@torch.no_grad()
def gradient(model, v, u, r, stimulus, args, buffers, forcing=0.0, drive_penalty=0.0):
    """Set the gradients of the loss of a batch of windows, summed over replicas. All arrays are time first.

    v: (warmup + window, [replicas,] batch, D); u, r, stimulus: the same of n, recorded states, rates and known
    current or None; forcing, drive_penalty: at this update.
    Returns: a function that gives the loss itself, for whoever wants to see it.
    """
    n, start, parameters = model.n_response, args.warmup, (model.W, model.b, model.W_in)
    W, b, W_in = (p.detach() for p in parameters)
    current = buffers.like("current", v[..., :1].expand(*v.shape[:-1], b.shape[-1]))
    current.copy_(b.unsqueeze(-2))
    current[..., b.shape[-1] - W_in.shape[-1] :] += v @ W_in
    if stimulus is not None:
        current[..., :n] += stimulus
    a, rates, states = unroll(W, current, u, args.warmup, forcing, model.alpha, buffers)

    g, count = buffers.like("g", a), args.window * args.batch * n
    g.zero_()
    response = g[start:, ..., :n]
    torch.sub(rates[start:, ..., :n], r[start:], out=response).div_(count)
    if args.loss == "mse":
        response.mul_(2 * (1 - rates[start:, ..., :n].square()) * (rates[start:, ..., :n] > 0))
    from_u, drive = None, None
    if drive_penalty:
        sent = states[start:, ..., n:]
        drive = sent @ W[..., n:, :n]
        pull = drive * (2 * drive_penalty / count)
        from_u = buffers.like("from_u", a)
        torch.matmul(pull, W[..., n:, :n].mT, out=from_u[start:, ..., n:])
    W_grad = unroll_backward(g, from_u, W, rates, states, n, args.warmup, forcing, model.alpha)
    if drive_penalty:
        flat = [x.movedim(0, -3).flatten(-3, -2) for x in (sent, pull)]
        W_grad[..., n:, :n] += flat[0].mT @ flat[1]
    flat = [x.movedim(0, -3).flatten(-3, -2) for x in (v, g)]  # (..., T * B, D or units)
    W_in_grad = flat[0].mT @ flat[1][..., b.shape[-1] - W_in.shape[-1] :]
    for p, grad in zip(parameters, (W_grad, flat[1].sum(-2), W_in_grad), strict=True):
        p.grad = grad
    return lambda: window_loss(a[start:, ..., :n], r[start:], drive, drive_penalty, args.loss)


class Windows:
    """Random windows of a recording, resident on the device, drawn by one generator per replica.

    Trials shorter than a window are left out. With args.bootstrap each replica draws from trials, or, where the
    recording says whose they are, from flies that were themselves drawn with replacement.
    """

    def __init__(self, rec, alpha, args, generators, device):
        flat = lambda x: torch.as_tensor(x, device=device).flatten(0, 1)  # noqa: E731
        self.length = args.warmup + args.window
        self.trials, self.steps, _ = rec.rates.shape
        self.batch, self.generators, self.rotate = args.batch, generators, args.rotate
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
        """Returns: velocity, state, rates and stimulus (or None), each (length, [replicas,] batch, ...)."""
        starts = []
        for g, pool in zip(self.generators, self.pools, strict=True):
            trial = pool[torch.randint(len(pool), (self.batch,), generator=g)]
            step = torch.randint(self.span.max(), (self.batch,), generator=g) * self.span[trial] // self.span.max()
            starts.append(trial * self.steps + self.first[trial] + step)
        start = torch.stack(starts) if len(starts) > 1 else starts[0]
        rows = (torch.arange(self.length).view(-1, *[1] * start.ndim) + start).to(self.rates.device)
        pick = lambda x: x.index_select(0, rows.flatten()).view(*rows.shape, -1)  # noqa: E731
        velocity, *ring = (None if x is None else pick(x) for x in (self.velocity, self.u, self.rates, self.stimulus))
        return velocity, *(self.turned(ring) if self.rotate else ring)

    def turned(self, arrays):
        """Each window turned around the ring by its own random number of neurons. arrays: (..., batch, n) or None."""
        n, shape = arrays[0].shape[-1], arrays[0].shape[1:-1]
        turn = torch.stack([torch.randint(n, (self.batch,), generator=g) for g in self.generators]).view(shape)
        order = ((torch.arange(n) + turn[..., None]) % n).to(arrays[0].device)  # ([replicas,] batch, n)
        return [x if x is None else x.gather(-1, order.expand_as(x)) for x in arrays]


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


def fit(rec, args, device, log=None, state=None, save=None, start=None):
    """Train on a recording.

    rec: recording.Recording, training trials only; args: this script's options; log: called with the update, the
    model and the scalars every LOG_EVERY updates; state: a checkpoint's, to continue; save: called with a new one;
    start: a model to train on for half the updates at half the learning rate, with the response units held at the
    record throughout and no penalty, which is what the standard errors are taken about.
    Returns: model, seconds of the training loop.
    """
    alpha, held = args.alpha, start is not None
    updates, lr = (max(1, args.updates // 2), args.lr / 2) if held else (args.updates, args.lr)
    generators = [torch.Generator().manual_seed(args.seed + k) for k in range(args.replicas)]
    inputs = 0 if args.control else args.input_units
    n, d = rec.rates.shape[-1], rec.velocity.shape[-1]
    model = RNN.stack([RNN(n, inputs, d, alpha, args.init_scale, g) for g in generators]).to(device)
    if held:
        model.load_state_dict(start.state_dict())
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, args.beta2), fused=True)
    scheduled = args.schedule == "onecycle" and updates > 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, updates) if scheduled else None
    windows = Windows(rec, alpha, args, generators, device)  # draws its trials, if it does, before any window
    done, seconds = 0, 0.0
    if state:
        model.load_state_dict(state.get("trained", state["model"]))
        optimiser.load_state_dict(state["optimiser"])
        if scheduled:
            schedule.load_state_dict(state["schedule"])
        for g, saved in zip(generators, state["generators"], strict=True):
            g.set_state(saved)
        done, seconds = state["updates"], state["seconds"]
    buffers, penalty = Buffers(), 0.0 if args.control else args.drive_penalty
    began = time.perf_counter() - seconds
    for update in range(done + 1, updates + 1):
        fade = 1 - (update - 1) / updates
        forcing, penalised = (1.0, 0.0) if held else (fade * args.forcing, fade * penalty)
        loss = gradient(model, *windows.draw(), args, buffers, forcing, penalised)
        optimiser.step()
        if scheduled:
            schedule.step()
        if update % LOG_EVERY == 0 or update == updates:
            norm = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
            scalars = {
                "loss": loss().mean().item(),
                "gradient_norm": norm.item(),
                "lr": optimiser.param_groups[0]["lr"],
            }
            if not np.isfinite(scalars["loss"] + scalars["gradient_norm"]):
                raise recording.BadInput(
                    f"the fit diverged by update {update}: the loss is not finite; try a smaller --lr than {args.lr:g}"
                )
            if log:
                log(update, model, scalars)
        if save and (update % CHECKPOINT_EVERY == 0 or update == updates):
            save({
                "model": model.state_dict(), "optimiser": optimiser.state_dict(), "updates": update,
                "schedule": schedule.state_dict() if scheduled else {}, "seconds": time.perf_counter() - began,
                "generators": [g.get_state() for g in generators],
            })  # fmt: skip
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
        one = RNN(1, 0, alpha=model.alpha)
        one.n_response = model.n_response
        for name, p in model.named_parameters():
            setattr(one, name, torch.nn.Parameter(p.detach()[0].clone()))
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
    rec = recording.load(args.data)
    truth = recording.load_truth(args.data, rec)
    args.alpha = choose_alpha(args, rec)
    train, held_out, index = split_trials(rec)
    shortest, longest = args.warmup + args.window, min(part.valid.sum(1).max(initial=0) for part in (train, held_out))
    if longest < shortest:
        raise recording.BadInput(
            f"{args.data}: rates has at most {rec.valid.sum(1).max()} steps per trial, {longest} after setting trials "
            f"aside; expected at least --warmup + --window = {shortest}"
        )
    device = choose_device(args.device)
    checkpoint = args.out / "model.pt"
    options = {
        k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("resume", "wandb", "device")
    }
    state = resume(checkpoint, options) if args.resume else None
    recording.writable(args.out)
    torch.set_flush_denormal(True)  # silent units' states decay to numbers that slow a CPU down

    run = tracking.start(args, rec, run_id=(state or {}).get("wandb"))
    bar = tqdm(
        total=args.updates, initial=(state or {}).get("updates", 0), desc=args.out.name, unit="update", disable=None
    )
    shows_truth = {k: truth[k] for k in ("W", "gate") if k in truth}
    everything = np.ones((rec.rates.shape[-1],) * 2, bool)

    def log(update, model, scalars):
        one = analysis.fits(model)[0]
        scores = analysis.connectivity_scores(one, shows_truth, everything) if shows_truth else {}
        shown = {"loss": scalars["loss"]} | {k: scores[k] for k in ("r_W", "r_gate") if k in scores}
        bar.set_postfix({k: f"{v:.3f}" for k, v in shown.items()}, refresh=False)
        bar.update(update - bar.n)
        tracking.log(run, update, scalars | shown, one.W, last=args.updates)

    def save(state):
        with recording.whole(checkpoint) as temporary:
            torch.save(state | {"args": options, "wandb": run.id}, temporary)

    model, seconds = fit(train, args, device, log, state, save)
    bar.close()
    began = time.perf_counter()
    if not (args.control or args.no_polish):
        trained = model.state_dict()
        model, refined = polished(model, train, args)
        state = torch.load(checkpoint, weights_only=True)
        save(state | {"model": model.state_dict(), "trained": trained})
    polish_seconds = time.perf_counter() - began
    found = None
    if not args.no_errors:
        found = errors(model, train, args, device)
        with recording.whole(args.out / "errors.npz") as temporary:
            np.savez(temporary, **found)
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
    tracking.finish(run, metrics)
    show = {k: metrics[k] for k in ("r_W", "r_gate", "heading_error_5s", "loss", "train_seconds") if k in metrics}
    print(f"{args.out}: " + ", ".join(f"{k} {np.mean(v):.3g}" for k, v in show.items() if v is not None))
    if "direct_share" in metrics:
        print(f"{args.out}: {told(metrics['direct_share'])}")
    tracking.advise(run, args.out)


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
    try:
        state = torch.load(checkpoint, weights_only=True)
        differ = [k for k in options if state["args"].get(k) != options[k]]
        state["updates"], state["optimiser"]
    except Exception:
        raise recording.BadInput(
            f"{checkpoint}: is not a whole checkpoint of train.py; expected one to --resume from"
        ) from None
    if differ:
        k = differ[0]
        raise recording.BadInput(
            f"{checkpoint}: was trained with {k} {state['args'].get(k)!r}, not {options[k]!r}; "
            "expected the same options to --resume"
        )
    return state


def parse(argv=None):
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
    return p.parse_args(argv)


if __name__ == "__main__":
    recording.run(main)
