"""Files that survive what happens to a run, and files that a run survives.

Written: beside their place and renamed, so that a kill, a full disk or a second run leaves the old whole file or the
new one. What a kill leaves half written is called `.NAME.*.part*`, and goes when NAME is next written.
Read: arrays without pickles, by numpy, and no more of them than a recording may take.
"""

import contextlib
import errno
import fcntl
import math
import os
import signal
import stat
import tempfile
import time
import zipfile
from glob import escape
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from nsi.run import owners

LIMIT = 4 * 2**30  # bytes, what may be read of one file, once expanded
NUMPYS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # compressions that numpy writes; others may claim any memory
ABANDONED = 3600  # s since it was last written to: a half-written file that nobody is writing any more


class BadInput(Exception):
    """Something the user gave cannot be used; the message is one sentence for them."""


# ---- reading ----------------------------------------------------------------------------------------------------


class Archive:
    """The arrays of an `.npz` file, each read when it is asked for, without pickles, and at most LIMIT bytes in all."""

    def __init__(self, path):
        """Raises: BadInput where the file is not a `.npz` file."""
        if not Path(path).exists():
            raise BadInput(f"{path}: no such file; expected a recording (.npz), as `python cann.py` writes")
        if not Path(path).is_file():  # a pipe or a device may never end
            raise BadInput(f"{path}: is not a file; expected a recording (.npz)")
        try:
            self._arrays = np.load(path, allow_pickle=False)
            self._members = {member.filename.removesuffix(".npy"): member for member in self._arrays.zip.infolist()}
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from None
        except Exception:  # whatever numpy and zipfile make of damage
            raise BadInput(f"{path}: is not a recording; expected a .npz file of arrays without pickles") from None
        self.path, self._left = path, LIMIT

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._arrays.close()

    def __iter__(self):
        return iter(self._members)

    def __getitem__(self, key):
        """The whole array. Raises: BadInput where it is damaged, or takes more memory than it may."""
        try:
            shape, size = self._stated(key)
            self._left -= size
            array = self._arrays[key] if self._left >= 0 else None
        except Exception:  # whatever zipfile, zlib and numpy make of damage
            raise BadInput(f"{self.path}: {key} cannot be read; expected a whole array without pickles") from None
        if array is None:
            raise BadInput(
                f"{self.path}: {key} has shape {shape}, which takes more memory than is left of the "
                f"{LIMIT / 2**30:g} GiB that a recording may take"
            )
        return array

    def _stated(self, key):
        """Shape and bytes of an array by its header. Raises: ValueError where the file does not hold that many."""
        member = self._members[key]
        if member.compress_type not in NUMPYS:
            raise ValueError
        with self._arrays.zip.open(member) as stream:
            read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
            shape, _, dtype = read_header[npy.read_magic(stream)](stream)
        size = math.prod(shape) * dtype.itemsize
        if size > member.file_size:
            raise ValueError
        return shape, size


# ---- writing ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def whole(path):
    """Give a temporary path beside `path`, and rename it there only if the block succeeds.

    Raises: BadInput where the folder cannot be written or the disk is full; `path` is then as it was.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_parts(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=f".part{path.suffix}")
        with os.fdopen(handle) as mine:
            _lock(mine)
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def remove_parts(path):
    """Remove what killed runs left half written beside `path`. A living run holds a lock on its own part, or, where
    locks do not work, has written it lately."""
    for left in path.parent.glob(f".{escape(path.name)}.*.part*"):
        with contextlib.suppress(OSError), _open_regular(left) as file:
            locked = _lock(file)
            if locked or (locked is None and time.time() - os.fstat(file.fileno()).st_mtime > ABANDONED):
                left.unlink()


def _lock(file):
    """Lock an open file, until it is closed. Returns: whether nobody else had; None where locks do not work."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _open_regular(path, flags=os.O_RDONLY):
    """Open a file by its number. Raises: OSError where it is a pipe, which would be waited for, or a device."""
    file = os.fdopen(os.open(path, flags | os.O_NONBLOCK, 0o666))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, f"{Path(path).name} is not a regular file")
    return file


def writable(folder):
    """Make `folder` and check that files can be written in it, before hours are spent on filling it."""
    with whole(Path(folder) / ".writable"):
        pass
    (Path(folder) / ".writable").unlink(missing_ok=True)  # another run may have been as quick


@contextlib.contextmanager
def alone(folder):
    """Make `folder` and keep other runs out of it for the length of the block; a kill lets go of it.

    Raises: BadInput where another run is in it, or where it cannot be written, before hours are spent on filling it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock = _open_regular(Path(folder) / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror or error})") from None
    with lock:
        locked = _lock(lock)
        if locked is False:
            raise BadInput(f"{folder}: another run is writing here; expected a folder of its own")
        owner = Path(folder) / ".owner"
        try:
            other = owners.claim(owner, locks_work=bool(locked))
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written ({error.strerror or error})") from None
        if other and other.is_here():
            raise BadInput(f"{folder}: another run is writing here; expected a folder of its own")
        if other:
            raise BadInput(
                f"{folder}: process {other.pid} of {other.host} may be writing here, which cannot be checked without "
                f"file locks; expected a folder of its own, or, if that run has ended, that {owner} is removed"
            )
        try:
            yield
        finally:
            owners.release(owner)


# ---- interruption -----------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. number: the signal's; done: what was done before, and how to go on, for the user."""

    def __init__(self, number, done=""):
        super().__init__(number, done)
        self.number, self.done = number, done


@contextlib.contextmanager
def on_interruption(handler):
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

    with on_interruption(note):
        yield lambda: came[0] if came else 0
