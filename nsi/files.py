"""Files: written whole or not at all, and read without executing what is in them.

Written: under a temporary name, then renamed, so that a kill, a full disk or a second run leaves the old file or the
new one. What a kill leaves half written is called `.NAME.*.part*`, and goes when NAME is next written.
Read: arrays without pickles, by numpy, and no more of them than a recording may take.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import stat
import tempfile
import time
import zipfile
from glob import escape
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from nsi.errors import BadInput

MAX_BYTES = 4 * 2**30  # bytes, what may be read of one file, once expanded
NUMPY_COMPRESSIONS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # others may claim any memory
MAX_JSON_BYTES = 2**26
ABANDONED_S = 3600  # s since it was last written to: a half-written file that no process writes any more


@contextlib.contextmanager
def naming(path):
    """Name the file in whatever BadInput says of it within the block."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def check_size(size, arrays, remedy):
    """Raise BadInput where arrays take more bytes of memory than MAX_BYTES. arrays: their name, in the plural."""
    if size > MAX_BYTES:
        raise BadInput(f"{arrays} take more than {MAX_BYTES / 2**30:g} GiB; expected {remedy}")


def read_header(stream):
    """Shape and type of an array in the format of numpy, of which the header is read."""
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, _, dtype = read[npy.read_magic(stream)](stream)
    return shape, dtype


class Archive:
    """The arrays of an `.npz` file, each read when it is asked for, without pickles, and at most MAX_BYTES in all. As a
    context it names the file in whatever BadInput says within the block."""

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
        self.path, self._left = path, MAX_BYTES

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self._arrays.close()
        if isinstance(error, BadInput):
            raise BadInput(f"{self.path}: {error}") from None

    def __iter__(self):
        return iter(self._members)

    def __getitem__(self, key):
        """The whole array. Raises: BadInput where it is damaged, or takes more memory than it may."""
        try:
            shape, size = self._read_size(key)
            self._left -= size
            if self._left >= 0:
                return self._arrays[key]
        except Exception:  # whatever zipfile, zlib and numpy make of damage
            raise BadInput(f"{key} cannot be read; expected a whole array without pickles") from None
        left = f"is left of the {MAX_BYTES / 2**30:g} GiB that a recording may take"
        raise BadInput(f"{key} has shape {shape}, which takes more memory than {left}")

    def require(self, keys, expected):
        """Raise BadInput where one of some keys is missing. expected: what was, in words."""
        for key in keys:
            if key not in self:
                has = ", ".join(map(repr, list(self)[:9])) or "none"
                raise BadInput(f"has no key {key!r}; expected {expected} (it has {has})")

    def _read_size(self, key):
        """Shape and bytes of an array by its header. Raises: ValueError where the file does not hold that many."""
        member = self._members[key]
        if member.compress_type not in NUMPY_COMPRESSIONS:
            raise ValueError
        with self._arrays.zip.open(member) as stream:
            shape, dtype = read_header(stream)
        size = math.prod(shape) * dtype.itemsize
        if size > member.file_size or max(shape, default=0) >= 2**63:  # the latter where another length is 0
            raise ValueError
        return shape, size


def read_json(path):
    """A JSON file's dictionary, or None where there is no such file, or a damaged one."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.is_file() and path.stat().st_size <= MAX_JSON_BYTES:  # a pipe would be waited for
            content = json.loads(path.read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else None
    return None


@contextlib.contextmanager
def whole(path):
    """Give a temporary path beside `path`, and rename it there only if the block succeeds. Raises: BadInput where the
    folder cannot be written or the disk is full; `path` is then as it was."""
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_parts(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=f".part{path.suffix}")
        with os.fdopen(handle) as mine:
            lock_file(mine)
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
        with contextlib.suppress(OSError), open_regular(left) as file:
            locked = lock_file(file)
            if locked or (locked is None and time.time() - os.fstat(file.fileno()).st_mtime > ABANDONED_S):
                left.unlink()


def lock_file(file):
    """Lock an open file, until it is closed. Returns: whether no other process had; None where locks do not work."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def open_regular(path, flags=os.O_RDONLY):
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
