"""Fit an input-separated recurrent network to a recording, and say how far to trust what comes out.

Training (fitting.py) is followed by a convex last step that refines the weights onto the response units, and by a
second training, held at the record throughout, which prepares their standard errors (uncertainty.py). A run is a
folder: model.pt, errors.npz, metrics.json and Weights & Biases' files.

Only rates, velocity and stimulus enter the fit; the truth, where the recording has it, is for scores alone.
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
from tqdm import tqdm

import analysis
import files
import recording
import replicas
import tracking
import uncertainty
from fitting import fit
from model import VERSION, load, read


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
