"""Which process a folder belongs to, where file locks do not work, or only seem to.

The owner is named in a file that only one process can create. A run that was killed leaves it behind, and the next one
takes it over where it can see that the process has ended.
"""

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

SETTLED = 2  # s after which a file that still names no process is one that a killed run left


class Owner(NamedTuple):
    """A process, anywhere."""

    pid: int
    started: str  # on Linux, so that another process of the same number is not mistaken for it
    host: str

    def lives(self):
        """Whether it is still running; True where it is of another host, so that one cannot see."""
        if self.host != here():
            return True
        with contextlib.suppress(PermissionError):  # another user's
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return False
        return start_of(self.pid) in (self.started, "")


def here():
    """This host, and where processes have numbers of their own, as in a container, which of these."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def start_of(pid):
    """When a process started, in the kernel's ticks; "gone" where it has ended, "" where that cannot be known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "gone" if state in "ZX" else rest[18]
    return ""


def claim(path, locks_work):
    """Make this process the owner. path: the owner's file; locks_work: whether a file lock has just been obtained, so
    that an owner on another host, which would hold it, has ended. Returns: None, or the Owner that has it. Raises:
    OSError."""
    me = Owner(os.getpid(), start_of(os.getpid()), here())
    while True:
        with contextlib.suppress(FileExistsError), open(path, "x") as file:
            json.dump(me, file)
            return None
        before, owner = read(path)
        if owner and owner.lives() and (owner.host == me.host or not locks_work):
            return owner
        take_away(path, before)


def read(path):
    """The text of an owner's file, and the Owner; None where a killed run left it without a name."""
    end = time.monotonic() + SETTLED
    while True:
        text = ""
        with contextlib.suppress(OSError, ValueError, TypeError):
            text = path.read_text(errors="replace") if path.is_file() else ""
            pid, started, host = json.loads(text)
            return text, Owner(int(pid), str(started), str(host))
        if time.monotonic() > end:
            return text, None
        time.sleep(0.1)  # it is just being written


def take_away(path, text):
    """Remove the file of an owner that has ended, unless another process has just replaced it. text: what it held."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        same = not aside.is_file() or aside.read_text(errors="replace") == text
        aside.unlink() if same else os.rename(aside, path)
