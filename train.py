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

Only rates, velocity and stimulus enter the fit.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import analysis
import recording
import tracking
from model import RNN, phi

LOG_EVERY = 10  # updates between two looks at the loss, the only ones that wait for the device
CHECKPOINT_EVERY = 100


class MatchingLoss(torch.autograd.Function):
    """mean over a window of log cosh(max(a, 0)) - a * r, summed over replicas. a, r: (T, ..., B, N)."""

    @staticmethod
    def forward(ctx, a, r, count):
        error = phi(a).sub_(r)
        ctx.save_for_backward(error)
        ctx.count = count
        positive = a.clamp(min=0)
        log_cosh = positive + torch.nn.functional.softplus(-2 * positive) - np.log(2)
        return (log_cosh - a * r).sum() / count

    @staticmethod
    def backward(ctx, grad):
        return ctx.saved_tensors[0] * (grad / ctx.count), None, None


def window_loss(model, v, u, r, stimulus, args, progress=0.0):
    """The loss of a batch of windows, all arrays time first: (warmup + window, [replicas,] batch, ...).

    progress: share of the updates done, for the forcing and the drive penalty to fade with.
    """
    n, fade = model.n_response, 1 - progress
    a, state = model(v, u, args.warmup, fade * args.forcing, stimulus)
    a, state, r = a[args.warmup :, ..., :n], state[args.warmup :, ..., n:], r[args.warmup :]
    count = a[:, 0].numel() if a.ndim == 4 else a.numel()  # of one replica
    loss = MatchingLoss.apply(a, r, count) if args.loss == "matching" else (phi(a) - r).square().sum() / count
    if args.drive_penalty and not args.control:
        loss = loss + fade * args.drive_penalty * (state @ model.W[..., n:, :n]).square().sum() / count
    return loss


class Windows:
    """Random windows of a recording, resident on the device, drawn by one generator per replica."""

    def __init__(self, rec, alpha, args, generators, device):
        flat = lambda x: torch.as_tensor(x, device=device).flatten(0, 1)  # noqa: E731
        self.length = args.warmup + args.window
        self.trials, self.steps, _ = rec.rates.shape
        self.first = min(int(np.ceil(3 / alpha)), self.steps - self.length)  # u[0] is a guess, soon forgotten
        self.batch, self.generators = args.batch, generators
        self.rates, self.velocity = flat(rec.rates), flat(rec.velocity)  # (trials * steps, ...)
        self.u = flat(analysis.synaptic_state(rec.rates, alpha))
        self.stimulus = None if rec.stimulus is None else flat(rec.stimulus)

    def draw(self):
        """Returns: velocity, state, rates and stimulus (or None), each (length, [replicas,] batch, ...)."""
        starts = []
        for g in self.generators:
            trial = torch.randint(self.trials, (self.batch,), generator=g)
            starts.append(
                trial * self.steps + torch.randint(self.first, self.steps - self.length + 1, (self.batch,), generator=g)
            )
        start = torch.stack(starts) if len(starts) > 1 else starts[0]
        rows = (torch.arange(self.length).view(-1, *[1] * start.ndim) + start).to(self.rates.device)
        pick = lambda x: x.index_select(0, rows.flatten()).view(*rows.shape, -1)  # noqa: E731
        return (
            pick(self.velocity),
            pick(self.u),
            pick(self.rates),
            None if self.stimulus is None else pick(self.stimulus),
        )


def split_trials(rec):
    """Set every tenth trial aside (the last one of fewer than ten; a single trial is cut into ten first).

    Returns: the recording to train on, the held-out one, and the held-out trials' indices.
    """
    if len(rec.rates) == 1:
        length = rec.rates.shape[1] // 10
        cut = {k: a if a is None else a[0, : 10 * length].reshape(10, length, -1) for k, a in rec.arrays().items()}
        rec = recording.Recording(dt=rec.dt, tau=rec.tau, **cut)
    index = np.arange(len(rec.rates))
    held_out = index[9::10] if len(index) >= 10 else index[-1:]
    return rec.trials(np.setdiff1d(index, held_out)), rec.trials(held_out), held_out


def fit(rec, args, device, log, state=None, save=lambda state: None):
    """Train on a recording.

    rec: recording.Recording, training trials only; args: this script's options; log: called with the update, the
    model and the scalars every LOG_EVERY updates; state: a checkpoint's, to continue; save: called with a new one.
    Returns: model, seconds of the training loop.
    """
    alpha = args.alpha
    generators = [torch.Generator().manual_seed(args.seed + k) for k in range(args.replicas)]
    inputs = 0 if args.control else args.input_units
    n, d = rec.rates.shape[-1], rec.velocity.shape[-1]
    model = RNN.stack([RNN(n, inputs, d, alpha, args.init_scale, g) for g in generators]).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, args.beta2), fused=True)
    scheduled = args.schedule == "onecycle"
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, args.updates) if scheduled else None
    done, seconds = 0, 0.0
    if state:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        if scheduled:
            schedule.load_state_dict(state["schedule"])
        for g, saved in zip(generators, state["generators"], strict=True):
            g.set_state(saved)
        done, seconds = state["updates"], state["seconds"]
    windows = Windows(rec, alpha, args, generators, device)
    began = time.perf_counter() - seconds
    for update in range(done + 1, args.updates + 1):
        v, u, r, stimulus = windows.draw()
        loss = window_loss(model, v, u, r, stimulus, args, progress=(update - 1) / args.updates)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if scheduled:
            schedule.step()
        if update % LOG_EVERY == 0 or update == args.updates:
            norm = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
            scalars = {
                "loss": loss.item() / args.replicas,
                "gradient_norm": norm.item(),
                "lr": optimiser.param_groups[0]["lr"],
            }
            if not np.isfinite(scalars["loss"] + scalars["gradient_norm"]):
                raise recording.BadInput(
                    f"the fit diverged by update {update}: the loss is not finite; try a smaller --lr than {args.lr:g}"
                )
            log(update, model, scalars)
        if update % CHECKPOINT_EVERY == 0 or update == args.updates:
            save({
                "model": model.state_dict(), "optimiser": optimiser.state_dict(), "updates": update,
                "schedule": schedule.state_dict() if scheduled else {}, "seconds": time.perf_counter() - began,
                "generators": [g.get_state() for g in generators],
            })  # fmt: skip
    return model, time.perf_counter() - began


def measures(fit, held_out, angles, truth, args):
    """What metrics.json says of one fitted network; the truth, where there is one, is read here and only here."""
    rates, n = held_out.rates, fit.n
    u = analysis.synaptic_state(rates, fit.alpha)
    determined = analysis.identifiable(rates, u)
    result = analysis.connectivity_scores(fit, truth, determined)
    result["identifiable_fraction"] = float(determined.mean())
    result["loss"] = analysis.window_error(fit, held_out, args.warmup, args.window)
    errors, steps = analysis.heading_error(fit, held_out, angles)
    result["heading_error_5s"], result["heading_error_steps"] = float(errors.mean()), steps
    if len(fit.b) > n:
        result |= analysis.shifter_measures(fit, held_out, angles)
    return result


def main():
    args = parse()
    rec = recording.load(args.data)
    truth = recording.load_truth(args.data, rec)
    args.alpha = choose_alpha(args, rec)
    train, held_out, index = split_trials(rec)
    shortest = args.warmup + args.window
    if train.rates.shape[1] < shortest or len(train.rates) == 0:
        raise recording.BadInput(
            f"{args.data}: rates has {rec.rates.shape[1]} steps per trial, {train.rates.shape[1]} after setting trials "
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
    angles = analysis.place_on_ring(rec.rates)
    each = [measures(one, held_out, angles, truth, args) for one in analysis.fits(model)]
    metrics = each[0] if args.replicas == 1 else {k: [m[k] for m in each] for k in each[0]}
    metrics |= {
        "updates": args.updates,
        "train_seconds": seconds,
        "alpha": args.alpha,
        "held_out_trials": index.tolist(),
    }
    with recording.whole(args.out / "metrics.json") as temporary:
        Path(temporary).write_text(json.dumps(metrics, indent=2) + "\n")
    tracking.finish(run, metrics)
    show = {k: metrics[k] for k in ("r_W", "r_gate", "heading_error_5s", "loss", "train_seconds") if k in metrics}
    print(f"{args.out}: " + ", ".join(f"{k} {np.mean(v):.3g}" for k, v in show.items()))
    tracking.advise(run, args.out)


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


def parse():
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
    add("--updates",       type=count, default=550,  help="gradient updates")
    add("--batch",         type=count, default=100,  help="windows per update")
    add("--window",        type=count, default=50,   help="steps of a window that count in the loss")
    add("--warmup",        type=number(int, 0), default=10, help="steps before them, response units held at the record")
    add("--lr",            type=rate,  default=6e-3, help="Adam's learning rate, at the schedule's peak")
    add("--beta2",         type=number(float, 0, 0.9999), default=0.99, help="Adam's memory of squared gradients")
    add("--schedule",      choices=["onecycle", "constant"], default="onecycle", help="learning rate over the updates")
    add("--loss",          choices=["matching", "mse"], default="matching", help="mse: mean squared error of the rates")
    add("--init-scale",    type=size,  default=0.03, help="initial W relative to Glorot's")
    add("--drive-penalty", type=size,  default=0.003, help="on the input units' drive to the response, fading to 0")
    add("--forcing",       type=share, default=0.1,  help="pull per step towards the recorded state, fading to 0")
    add("--alpha",         type=alpha,               help="dt / tau (default: the recording's, else 0.2)")
    add("--seed",          type=number(int, 0), default=0, help="of initial weights and windows")
    add("--replicas",      type=count, default=1,    help="networks fitted at once, with seeds seed, seed + 1, ...")
    add("--device",        choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU where there is one")
    add("--wandb",         choices=["auto", "online", "offline", "disabled"], default="auto",
                                                     help="auto: online if a key is configured, else offline")
    add("--resume",        action="store_true",      help="continue the run in --out from its last checkpoint")
    # fmt: on
    return p.parse_args()


if __name__ == "__main__":
    recording.run(main)
