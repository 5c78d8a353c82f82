"""Ctrl-C and SIGTERM: raised, handled, or put off until an update has ended."""

import contextlib
import signal
import time


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. number: the signal's; done: what was done before, and how to go on, for the user."""

    def __init__(self, number, done=""):
        self.number, self.done = number, done


@contextlib.contextmanager
def handle(handler):
    """Have Ctrl-C and SIGTERM call handler(number, frame) for the length of the block."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handler) for number in signals]
    try:
        yield
    finally:
        for number, previous in zip(signals, before, strict=True):
            signal.signal(number, previous)


def interrupt(number, _):
    """Raise Interrupted: the handler of a script that has nothing to finish."""
    raise Interrupted(number)


@contextlib.contextmanager
def postponed():
    """Put Ctrl-C and SIGTERM off for the length of the block, once.

    Gives: a function that returns the signal that has come, or 0. A second signal raises Interrupted, unless it comes
    within a second: a terminal and a shell script may both pass on one Ctrl-C.
    """
    came = []

    def note(number, frame):
        if came and time.monotonic() > came[1] + 1:
            interrupt(number, frame)
        came.extend((number, time.monotonic()))

    with handle(note):
        yield lambda: came[0] if came else 0
