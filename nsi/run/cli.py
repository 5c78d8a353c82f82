"""The command line: options whose errors are one sentence, and what a script's end tells the shell."""

import argparse
import difflib
import os
import signal
import sys
from pathlib import Path

import numpy as np

from nsi.errors import BadInput
from nsi.run import interruption


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that names defaults, where there is one."""

    def _get_help_string(self, action):
        silent = action.default is None or action.default is False
        return action.help if silent else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and exit status 2."""

    def __init__(self, description):
        super().__init__(description=description, formatter_class=Help)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")

    def parse_args(self, args=None, namespace=None):
        """Parse the command line; an unknown option's error names the options that are spelled much like it."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            names = [name for action in self._actions for name in action.option_strings]
            like = difflib.get_close_matches(unknown[0].split("=")[0], names, 3, 0.75)
            hint = f"; did you mean {' or '.join(like)}?" if like else "; --help lists all options"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed


def value(parse, expected):
    """An argparse type: parse(text), a ValueError or KeyError becoming a sentence. expected: the values, in words."""

    def parse_value(text):
        try:
            return parse(text)
        except (ValueError, KeyError):
            raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}") from None

    return parse_value


def one_of(*names):
    """An argparse type: one of some texts."""
    return value(dict(zip(names, names, strict=True)).__getitem__, " or ".join(names))


def number(kind, low=-np.inf, high=np.inf, above=False):
    """An argparse type: an int or float within [low, high], or (low, high] if `above`."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = np.nan
        if not (low < value <= high if above else low <= value <= high) or not np.isfinite(value):
            name = "a whole number" if kind is int else "a number"
            bound = f" {'above' if above else 'of at least'} {low:g}" if np.isfinite(low) else ""
            bound += f"{' and' if bound else ''} at most {high:g}" if np.isfinite(high) else ""
            raise argparse.ArgumentTypeError(f"expected {name}{bound}, not {text!r}")
        return value

    return parse


def stimulus(text):
    """An argparse type: the amplitude of pulses, a number of at least 0, or the path of a stimulus, .npz."""
    amplitude = value(float, "a number of at least 0, or the name of a file that ends in .npz")
    return Path(text) if text.endswith(".npz") else number(amplitude, 0)(text)


def recorded_neurons(text):
    """An argparse type: compass, shifters, half, or a number of shifters to record with the compass."""

    def parse(text):
        if text in ("compass", "shifters", "half"):
            return text
        if int(text) < 1:
            raise ValueError(text)
        return int(text)

    return value(parse, "compass, shifters, half (of each), or a number of shifters of at least 1")(text)


def run(main):
    """Call a script's main function, and return what it does; a BadInput becomes one sentence and exit status 2, an
    interruption 130 or 143."""
    name = Path(sys.argv[0]).name
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a folder's name, or a dash, that the locale does not have
    try:
        with interruption.handle(interruption.interrupt):
            result = main()
            sys.stdout.flush()  # here, since what fails when Python ends is a traceback
            return result
    except BadInput as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever was reading has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except interruption.Interrupted as stop:
        print(f"{name}: stopped by {signal.Signals(stop.number).name}{stop.done}", file=sys.stderr)
        sys.exit(128 + stop.number)
