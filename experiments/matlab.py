"""Arrays of MATLAB files, of versions 5 to 7, whole and undamaged."""

import contextlib
import struct
import zlib
from pathlib import Path

from scipy.io import loadmat

from nsi import files
from nsi.errors import BadInput

COMPRESSED_TYPE = 15  # of an element that zlib compressed, with a checksum
CHUNK_BYTES = 2**24  # expanded at a time


def read_variables(path, names, squeeze=False):
    """Some variables of a file. squeeze: leave axes of one out. Returns: dict of those of `names` that it has.

    Raises: BadInput where it is no such file, or damaged.
    """
    path = Path(path)
    with files.naming(path):
        try:
            _check_whole(path)
            return loadmat(path, squeeze_me=squeeze, variable_names=names, appendmat=False)
        except OSError as error:
            raise BadInput(f"cannot be read ({error.strerror or error})") from None
        except BadInput:
            raise
        except Exception:  # scipy raises anything on damaged files
            raise BadInput(f"cannot be read as a MATLAB file; expected {', '.join(names)} in it") from None


def _check_whole(path):
    """Raise BadInput where a file is of MATLAB 7.3, ends before its last array does, or fails a checksum."""
    if not path.is_file():  # a pipe or a device may never end
        raise BadInput(f"{'is not a file' if path.exists() else 'no such file'}; expected a MATLAB file")
    with open(path, "rb") as file:
        head, size = file.read(128), path.stat().st_size
        if head.startswith(b"MATLAB 7.3") or b"\x89HDF" in head:
            raise BadInput("is a MATLAB 7.3 file, which is not read; in MATLAB, save it with -v7")
        if not head.startswith(b"MATLAB 5"):
            return
        order, end, expanded = "<" if head[126:128] == b"IM" else ">", 128, 0
        while end < size:
            file.seek(end)
            tag = file.read(8)
            kind, length = struct.unpack(order + "II", tag) if len(tag) == 8 else (0, 1)
            end += 8 + length
            if end > size:
                raise BadInput(f"is not whole, as after a download that was cut off; expected {end} bytes or more")
            if kind == COMPRESSED_TYPE:
                expanded += _count_expanded(file.read(length), files.MAX_BYTES - expanded)
                files.check_size(expanded, "its arrays", "less")


def _count_expanded(data, most):
    """Bytes that a compressed element expands to, counted as far as `most`. Raises: BadInput where it is damaged."""
    stream, count = zlib.decompressobj(), 0
    with contextlib.suppress(zlib.error):
        while data and count <= most:
            count += len(stream.decompress(data, CHUNK_BYTES))
            data = stream.unconsumed_tail
    if not stream.eof and count <= most:
        raise BadInput("is damaged, a checksum of its compressed arrays is wrong; expected it as released")
    return count
