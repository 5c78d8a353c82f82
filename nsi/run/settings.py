"""What a fit depends on besides the recording: one frozen dataclass, whose fields are train.py's settings."""

import argparse
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from nsi.hidden import units
from nsi.network import PUBLISHED_ALPHA
from nsi.run import cli

SWITCHES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
count, size = cli.number(int, 1), cli.number(int, 0)
rate, share = cli.number(float, 0, above=True), cli.number(float, 0, 1)
switch = cli.value(lambda text: SWITCHES[text.lower()], "yes or no")
constraints = cli.value(units.parse_constraints, units.CHOICES)
_setting = lambda default, parse, about: field(default=default, metadata={"parse": parse, "help": about})


@dataclass(frozen=True)
class Settings:
    """Settings of a fit. None: chosen from the recording, or, for updates, batch and lr, from SCHEDULES."""

    control: bool = _setting(False, switch, "no input units: velocity drives the recorded units themselves")
    input_units: int | None = _setting(None, count, "hidden units that receive the velocity")
    response_units: int | None = _setting(None, size, "hidden units that do not receive the velocity")
    alpha: float | None = _setting(None, cli.number(float, 0, 1, above=True), "dt / tau")
    updates: int | None = _setting(None, count, "gradient updates of the free training")
    seed: int = _setting(0, size, "of initial weights and windows")
    replicas: int = _setting(1, count, "networks trained at once, with seeds seed, seed + 1, ...")
    bootstrap: bool = _setting(False, switch, "each replica draws animals, or trials, with replacement")
    shuffle_velocity: bool = _setting(False, switch, "a null model: fit the velocity of other trials")
    batch: int | None = _setting(None, count, "windows per update")
    window: int = _setting(50, count, "steps of a window that count in the loss")
    warmup: int = _setting(10, size, "steps before them, in which recorded units are clamped")
    lr: float | None = _setting(None, rate, "Adam's peak learning rate")
    beta2: float = _setting(0.99, cli.number(float, 0, 0.9999), "Adam's decay of squared gradients")
    schedule: str = _setting("onecycle", cli.one_of("onecycle", "constant"), "of the learning rate")
    loss: str = _setting("matching", cli.one_of("matching", "mse"), "matching (model.py) or mse, of the rates")
    init_scale: float = _setting(0.03, cli.number(float, 0), "initial W relative to Glorot's")
    drive_penalty: float | None = _setting(None, cli.number(float, 0), "on the hidden units' drive, fading to 0")
    forcing: float | None = _setting(None, share, "partial teacher forcing at the first update, fading to 0")
    rotate: bool = _setting(False, switch, "rotate windows by random numbers of neurons; assumes a uniform ring")
    constraints: str | None = _setting(None, constraints, "on hidden units, in hidden.pt")
    calibrated: bool = _setting(True, switch, "calibrate the intervals by a simulated recording")

    def fill_in(self, values):
        """The same with values for those settings that are None. values: dict. Returns: Settings."""
        return dataclasses.replace(self, **{k: v for k, v in values.items() if getattr(self, k) is None})

    @property
    def alpha_of_networks(self):
        """The alpha of networks where the recording does not give it: the published one."""
        return self.alpha or PUBLISHED_ALPHA


SCHEDULES = {  # of the free training, and of the control, which has nothing else
    False: {"updates": 550, "batch": 25, "lr": 1e-2},
    True: {"updates": 1100, "batch": 50, "lr": 6e-3},
}
PRESETS = {
    "published": {
        "loss": "mse", "warmup": 0, "forcing": 0.0, "init_scale": 1.0, "drive_penalty": 0.0, "lr": 1e-4,
        "beta2": 0.999, "schedule": "constant", "updates": 10_000, "batch": 100,
    },
}  # fmt: skip
SHOWN = ("control", "input_units", "response_units", "alpha", "updates", "seed", "replicas", "bootstrap",
         "shuffle_velocity")  # fmt: skip
FIELDS = {f.name: f for f in dataclasses.fields(Settings)}


def parse_assignment(text):
    """A setting from NAME=VALUE. Returns: (name, value). Raises: argparse.ArgumentTypeError."""
    name, _, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in FIELDS:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE with a NAME of {', '.join(FIELDS)}, not {text!r}")
    return name, FIELDS[name].metadata["parse"](value.strip())


def _add_setting(parser, name, about):
    """Add a setting as an option of its own, absent (None) where it is not given."""
    chosen, kind = FIELDS[name], {"action": "store_true", "default": None}
    if chosen.type is not bool:
        kind = {"type": chosen.metadata["parse"], "metavar": name.upper()}
        about = about and about + ("" if chosen.default is None else f" (default: {chosen.default})")
    parser.add_argument(f"--{name.replace('_', '-')}", help=about or argparse.SUPPRESS, **kind)


def parse_options(arguments=None):
    """train.py's command line. arguments: list of strings (default: the command line's). Returns: argparse.Namespace of
    the options that do not change what is fitted, Settings."""
    p = cli.Parser("Fit an input-separated recurrent network to a recording, and estimate its connections.")
    add = p.add_argument
    # fmt: off
    add("--data", type=Path, default="data/ring.npz",  help="the recording (data/README.md has the format)")
    add("--out",  type=Path, default="runs/separated", help="the run's folder")
    for name in SHOWN:
        _add_setting(p, name, FIELDS[name].metadata["help"])
    add("--preset", choices=PRESETS, default=None, help="the publication's own settings")
    add("--set", metavar="NAME=VALUE", action="append", type=parse_assignment,
        help=f"any other setting: {', '.join(name for name in FIELDS if name not in SHOWN)}")
    add("--resume", action="store_true", help="continue the run in --out from its last checkpoint")
    add("--overwrite", action="store_true", help="fit anew where --out holds a finished run")
    add("--no-report", action="store_true", help="draw no figures and no page")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU where there is one")
    add("--wandb", nargs="?", const="auto", choices=["auto", "online", "offline", "disabled"], default="disabled",
        help="log to Weights & Biases; auto: online with a key, else offline")
    # fmt: on
    for name in FIELDS.keys() - {*SHOWN}:
        _add_setting(p, name, None)  # `--window 20` is `--set window=20`
    args = p.parse_args(arguments)
    chosen = PRESETS.get(args.preset, {}) | {k: v for k in FIELDS if (v := vars(args).pop(k)) is not None}
    chosen |= dict(vars(args).pop("set") or [])
    return args, Settings(**chosen).fill_in(SCHEDULES[chosen.get("control", False)])
