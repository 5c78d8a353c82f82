"""A run from its options to its folder: what train.py needs besides the fit."""

import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from nsi import files, recordings
from nsi.errors import BadInput
from nsi.estimation import estimate
from nsi.evaluation import metrics as measures
from nsi.geometry import lacks_geometry
from nsi.hidden import matching
from nsi.run import checkpoint, connections, folder, interruption, tracking
from nsi.run.watch import Stage, TrainingHook

UNIFORM = 0.1  # heterogeneity below which W may be taken for a function of distance


def choose_device(name):
    """A torch device by the name of --device, `auto` being a GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("argument --device: expected cpu or auto, since torch finds no CUDA device here")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def checkpoint_options(args, settings, rec):
    """What a checkpoint says of how it was fitted: settings, and the recording's name and hash. rec: Recording."""
    source = {"data": args.data.name, "data_sha256": recordings.digest(rec)}
    return dataclasses.asdict(settings) | {"alpha": settings.alpha_of_networks} | source


def read_checkpoint(path, options):
    """The checkpoint to continue, or None if there is none yet; it must be of a run with the same options."""
    if not path.exists():
        return None
    state = checkpoint.read(path)
    training = state.get("training", {})
    if missing := {"moments", "generators", "updates", "seconds"} - training.keys():
        raise BadInput(f"{path}: has no {min(missing)}; expected a checkpoint of train.py to --resume")
    if not (
        isinstance(training["updates"], int) and training["updates"] >= 0 and isinstance(training["seconds"], float)
    ):
        raise BadInput(f"{path}: has no count of updates and seconds; expected those of train.py")
    before = options | state["args"]  # a setting younger than the checkpoint has nothing to differ from
    if differ := [f"{k} {before[k]!r}, not {options[k]!r}" for k in options if before[k] != options[k]]:
        raise BadInput(f"{path}: was trained with {' and '.join(differ)}; expected the same options to --resume")
    return state


@contextlib.contextmanager
def open_run(args, settings, data):
    """A run's folder, its own for the length of the block, without files of an earlier fit. args: of
    settings.parse_options; settings: Settings; data: setup.Data. Gives: Run. Raises: BadInput where another run is in
    the folder, or one that does not go on with these options."""
    out, options = args.out, checkpoint_options(args, settings, data.recording)
    with folder.alone(out):
        folder.refuse_earlier(out, args.resume, args.overwrite)  # another run may have finished since it was looked at
        state = read_checkpoint(out / "model.pt", options) if args.resume else None
        if state is None or state["training"]["updates"] < settings.updates:
            folder.clear(out, keep=["model.pt"] if state else [])
        before = state["training"].get("wandb") if state else None
        config = options | {"out": out.name, "data_shape": list(data.rec.rates.shape)}
        with tracking.tracked(args.wandb, out, config, before) as wandb:
            try:
                yield Run(out, settings, data, options, state, wandb)
            except interruption.Interrupted as stop:
                stop.done += "; the same command with --resume goes on"
                raise


class Run:
    """A fit's folder while it is fitted: bars, checkpoints, W&B, metrics.json (`metrics`, a dict that grows)."""

    def __init__(self, out, settings, data, options, state, wandb):
        self.out, self.settings, self.data, self.options = out, settings, data, options
        self.state, self.wandb, self.metrics = state, wandb, {"warnings": [], "fit_warnings": [], "options": options}
        self.metrics["stage_seconds"] = {"start": time.process_time()}

    @contextlib.contextmanager
    def stage(self, name, count=None):
        """A bar for a part of the fit besides its training, a hook of `train.fit` as well. count: of updates."""
        with Stage(f"{self.out.name}, {name}", count) as hook:
            yield hook
        self.add_stage(name)

    def add_stage(self, name):
        """Count the CPU seconds since the last stage as this stage's."""
        self.metrics["stage_seconds"][name] = time.process_time() - sum(self.metrics["stage_seconds"].values())

    def warn(self, sentences):
        """Print warnings about the fit, and keep them for metrics.json."""
        for sentence in sentences:
            print(sentence, file=sys.stderr)
            self.metrics["warnings"].append(sentence)
            self.metrics["fit_warnings"].append(sentence)

    @contextlib.contextmanager
    def training_hook(self):
        """The training's hook, a watch.TrainingHook."""
        with interruption.postponed() as stopping, TrainingHook(self, stopping) as hook:
            yield hook
        self.add_stage("training")

    def restore(self, model):
        """Give a model the weights of the checkpoint, if there is one. Returns: the state of training that goes with
        them, or None. Raises: BadInput, saying what does not fit."""
        if self.state is None:
            return None
        training = self.state["training"]
        weights = training.get("trained") or checkpoint.with_replicas(self.state["model"])
        for name, p in zip(checkpoint.NAMES, model.weights, strict=True):
            if weights[name].shape != p.shape:
                has, expected = tuple(weights[name].shape), tuple(p.shape)
                raise BadInput(f"the checkpoint's {name} has shape {has}; expected {expected} to --resume")
            p.data.copy_(weights[name])
        return training

    def keep_networks(self, trained, predicting, hidden):
        """Write model.pt, the networks that predict, with the trained ones beside them, and hidden.pt. Each: list of
        Network."""
        path = self.out / "model.pt"
        stack = lambda nets: {k: torch.as_tensor(np.stack([getattr(net, k) for net in nets])) for k in checkpoint.NAMES}
        training = checkpoint.read(path)["training"] | {"trained": stack(trained)}
        checkpoint.write(path, stack(predicting), self.options, training)
        if hidden:
            checkpoint.write(self.out / "hidden.pt", stack(hidden), self.options, {"updates": training["updates"]})

    def estimate(self):
        """Estimate the connections, without a network. Returns: Estimate."""
        data, started = self.data, time.perf_counter()
        shape = None if lacks_geometry(data.train) else data.geometry
        with self.stage("estimate"):
            found = estimate(data.train, data.alpha, shape, self.settings.calibrated, orders=True)
        self.metrics |= connections.describe(found) | {"estimate_seconds": time.perf_counter() - started}
        return found

    def write_connections(self, found, trained):
        """Write connectivity.npz. found: Estimate, or None of a control. Returns: its arrays."""
        arrays = connections.collect_arrays(found, trained)
        recordings.save(self.out / "connectivity.npz", **arrays)
        return arrays

    def measure(self, trained, networks, hidden, names, arrays, seconds):
        """Score networks and connectivity.npz, and write metrics.json. trained, networks, hidden: lists of Network, as
        trained, those that predict, and those of hidden neurons; names: where the second are from; arrays: of
        connectivity.npz; seconds: since the start."""
        data, settings = self.data, self.settings
        with self.stage("measures"):
            replicas = zip(trained, networks, hidden, strict=True)
            each = [measures.of_network(*nets, data, settings) for nets in replicas]
            scored = connections.score(arrays, data.rec, data.geometry, data.places, data.truth)
        self.metrics |= {"alpha": settings.alpha_of_networks} | self.metrics | measures.of_replicas(each) | scored | {
            "running": names if len(names) > 1 else names[0], "alpha_known": bool(data.alpha),
            "held_out_trials": data.held_out_index, "data_sha256": self.options["data_sha256"],
            "shuffle_velocity": settings.shuffle_velocity, "hidden_assumed": settings.constraints,
            "response_units": settings.response_units, "seconds": seconds,
            "hidden_agreement": matching.agreement(hidden, data.held_out),
        }  # fmt: skip
        self.metrics = measures.valid_json(self.metrics)
        self.write_metrics(finished=True)
        tracking.summarise(self.wandb, self.metrics)

    def write_metrics(self, finished):
        """Write metrics.json, whole or not at all. finished: whether all is measured."""
        with files.whole(self.out / "metrics.json") as temporary:
            content = measures.valid_json(self.metrics | {"finished": finished})
            Path(temporary).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def write_report(self, networks, arrays):
        """Draw the fit's figures and its page, and show W&B the figures; what fails here has cost nothing else.
        networks: list of Network, those that predict; arrays: of connectivity.npz."""
        try:
            from nsi.figures import report  # matplotlib is slow to import

            with self.stage("report"):
                paths = report.write(self.out, self.data, networks, arrays, self.metrics, self.options)
        except Exception as error:
            reason = f"no report, since drawing it failed ({tracking.brief(error)})"
            print(f"{self.out}: {reason}; the same command with --resume tries again", file=sys.stderr)
            return
        self.write_metrics(finished=True)  # with the seconds that the report took
        tracking.show(self.wandb, paths)
        print(f"{self.out}: report.html says what was found, how far to trust it, and what is not determined")


def restore(training, optimiser, generators):
    """Put an optimiser and generators back to where a fit saved them. Raises: BadInput."""
    try:
        optimiser.restore(training)
        for generator, saved in zip(generators, training["generators"], strict=True):
            generator.set_state(saved)
    except Exception:  # whatever torch makes of damage
        wrong = "the checkpoint's optimiser or generators are damaged; expected those of train.py to --resume"
        raise BadInput(wrong) from None


def first_divergence(before, update, gradients):
    """The first update whose gradient was not finite, or 0, on the device, which is not waited for. before: the same,
    one update ago; update: this one's number."""
    finite = torch.stack([g.sum() for g in gradients]).sum().isfinite()
    return torch.where(finite | (before > 0), before, update)


def refuse_divergence(update, what, lr):
    """Raise BadInput if there is an update at which something was not finite; 0 is none."""
    if update:
        raise BadInput(
            f"the fit diverged at update {update}: the {what} is not finite; "
            f"try a smaller --lr than {lr:g}, and look for outliers in the recording"
        )


def scalars_to_log(losses, gradients, update, lr_now, lr):
    """What is logged of an update. lr_now, lr: learning rate, and its peak. Returns: {"loss", "gradient_norm", "lr"}.
    Raises: BadInput where the loss is not finite."""
    loss = losses.mean().item()
    refuse_divergence(0 if np.isfinite(loss) else update, "loss", lr)
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
    return {"loss": loss, "gradient_norm": norm, "lr": lr_now}


def summary(metrics):
    """The lines that a run ends with: what is measured, of several replicas the mean and the range; whether there is a
    gate, and what else the recording shows; and whether single weights differ from the mean at their distance."""
    names = "r_W", "r_gate_effective", "network_r_W", "heading_error_5s", "loss", "train_seconds", "estimate_seconds"
    show = {k: measures.values_of(metrics, k) for k in names if k in metrics}
    spread = {k: f" ({min(v):.3g} to {max(v):.3g})" if len(v) > 1 else "" for k, v in show.items()}
    yield ", ".join(f"{k} {np.mean(v):.3g}{spread[k]}" for k, v in show.items() if v)
    if verdicts := metrics.get("verdicts"):
        gate = f"gate: {verdicts['gate']} (p {metrics['gate_p']:.2g})"
        yield f"{gate}; mechanism: {verdicts['mechanism']}; response: {verdicts['response']}; report.html says more"
    spread = [x for x in np.ravel(metrics.get("heterogeneity")) if x is not None]
    if spread:
        may, part = "may" if np.mean(spread) < UNIFORM else "may not", f"{np.mean(spread):.0%} of the r.m.s. weight"
        yield f"single weights lie {part} about their mean at a distance: W {may} be taken for a function of distance"
