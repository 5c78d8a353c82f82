"""Files that nobody vouches for: each is read correctly or refused in a sentence, in little time and memory."""

import functools
import io
import math
import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import train
from nsi import files, recordings
from nsi.errors import BadInput
from nsi.run import checkpoint as checkpoints
from tests.tools import GOOD, TINY, call

FUZZ = {
    "derandomize": True, "database": None, "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}  # fmt: skip
SECONDS, MEMORY = 2, 4 * 2**20  # of the processor, for one small file; its own stated memory is allowed twice on top


def npy(shape=(), dtype="<f4", order="False", body=b"", version=1, header=None):
    """A member of an .npz file with a header that may lie."""
    if header is None:
        header = f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}"
    text = header.encode("latin1", "replace")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + body


def archive(path, members, compression=zipfile.ZIP_STORED):
    """Write a zip file. members: (name, content) pairs."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


@functools.cache
def good_file(compressed=False):
    """The bytes of a sound recording."""
    content = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(content, **GOOD, tau=0.05, heading=GOOD["velocity"])
    return content.getvalue()


def stated(path):
    """The memory that a file says it takes: its own, and that of its members as float32."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as file:
            return size + 4 * sum(min(member.file_size, 1032 * size) for member in file.infolist())
    except Exception:
        return size


def load_or_refuse(path):
    """Load a recording within the bounds above; it comes out sound, or as one sentence. Returns: it, or None."""
    rec, refusal = None, f"{path}: "
    tracemalloc.start()
    began = time.process_time()
    try:
        rec = recordings.load(path)
        recordings.load_truth(path, rec)
    except BadInput as error:
        rec, refusal = None, str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - began < SECONDS
    assert refusal.startswith(f"{path}: ")
    assert "\n" not in refusal
    assert peak < 2 * stated(path) + MEMORY
    if rec is not None:
        arrays = [a for a in rec.arrays().values() if a is not None]
        assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays)
        assert rec.dt > 0
    return rec


damages = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "repeat", "number", "erase"]),
        st.integers(0, 1000),
        st.binary(max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def damaged(content, operations):
    """The bytes after each operation: (what, at which thousandth of the length, with what)."""
    for what, place, extra in operations:
        at = place * max(0, len(content) - 1) // 1000
        if what == "flip":
            content = content[:at] + bytes(b ^ 0xFF for b in content[at : at + 1]) + content[at + 1 :]
        elif what == "cut":
            content = content[:at]
        elif what == "insert":
            content = content[:at] + extra + content[at:]
        elif what == "repeat":
            content = content[:at] + content[at // 2 :]
        elif what == "number":
            content = content[:at] + extra + content[at + len(extra) :]
        else:
            content = content[:at] + bytes(len(extra)) + content[at + len(extra) :]
    return content


@settings(max_examples=1450, **FUZZ)
@given(compressed=st.booleans(), operations=damages)
def test_damaged_recordings(compressed, operations, tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(damaged(good_file(compressed), operations))
    load_or_refuse(path)


sizes = st.one_of(st.integers(-2, 50), st.sampled_from([2**31, 2**62, 2**63, 10**30]))
shapes = st.lists(sizes, max_size=5).map(tuple)
dtypes = st.sampled_from(
    [
        "<f4",
        ">f4",
        "<f8",
        ">f8",
        "<f2",
        "<i2",
        ">i8",
        "|b1",
        "|u1",
        "<f16",
        "<c8",
        "<M8[s]",
        "|O",
        "|S4",
        "<U3",
        "|V9",
        "x",
    ]
)


@settings(max_examples=600, **FUZZ)
@given(
    key=st.sampled_from(["rates", "velocity", "dt", "tau", "stimulus", "true_W", "true_gate"]),
    shape=st.one_of(shapes, st.sampled_from([(3, 40, 4), (3, 40, 1), ()])),
    dtype=dtypes,
    order=st.sampled_from(["True", "False", "None"]),
    version=st.sampled_from([1, 2, 3, 9]),
    missing=st.integers(-3, 3),
    compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]),
)
def test_headers_that_lie(key, shape, dtype, order, version, missing, compression, tmp_path):
    try:
        body = bytes(max(0, min(10**5, math.prod(shape) * np.dtype(dtype).itemsize - missing)))
    except TypeError:
        body = b""
    arrays = {k: npy(np.shape(v), np.asarray(v).dtype.str, body=np.asarray(v).tobytes()) for k, v in GOOD.items()}
    arrays[key] = npy(shape, dtype, order, body, version)
    load_or_refuse(archive(tmp_path / "mine.npz", [(f"{k}.npy", v) for k, v in arrays.items()], compression))


def test_a_length_beyond_any_array_is_refused_without_a_warning(tmp_path, recwarn):
    assert load_or_refuse(archive(tmp_path / "mine.npz", [("rates.npy", npy((2**63, 0, 1), body=b""))])) is None
    assert not recwarn


@pytest.mark.parametrize(
    "header",
    ["", "{", "(" * 9000, "-" * 9000 + "1", "[" * 900 + "]" * 900, "{'descr': '<f4'}", "exit()", "\0" * 500],
)
def test_headers_that_are_none(header, tmp_path):
    path = archive(tmp_path / "mine.npz", [("rates.npy", npy(header=header))])
    assert load_or_refuse(path) is None


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([("rates.npy", npy((2**40, 1, 1), body=b"")), ("dt.npy", b"")], "rates cannot be read"),
        ([("../rates.npy", npy())], "has no key 'rates'"),
        ([("a\\b.npy", npy())], "has no key 'rates'"),
        ([("rates.npy", npy()), ("rates", b"x")], "rates cannot be read"),
        ([("rates.npy", npy((1,), "|O", body=pickle.dumps([print])))], "rates cannot be read; expected a whole array"),
        ([("rates.npy", b"")], "rates cannot be read"),
        ([], "has no key 'rates'"),
    ],
)  # fmt: skip
def test_hostile_archive_is_refused_in_a_sentence(members, expected, tmp_path, monkeypatch, capsys):
    path = archive(tmp_path / "mine.npz", members)
    assert load_or_refuse(path) is None
    status, error = call(train, monkeypatch, capsys, "--data", path, "--out", tmp_path / "run", *TINY)
    assert (status, error.count("\n")) == (2, 1)
    assert expected in error


def test_bomb_is_not_expanded(tmp_path, monkeypatch):
    shape = (4, 2**20, 16)  # 256 MiB in some 260 KB
    path = archive(
        tmp_path / "mine.npz", [("rates.npy", npy(shape, body=bytes(4 * math.prod(shape))))], zipfile.ZIP_DEFLATED
    )
    monkeypatch.setattr(files, "MAX_BYTES", 2**27)
    tracemalloc.start()
    with pytest.raises(BadInput, match=r"takes more memory than is left of the 0\.125 GiB"):
        recordings.load(path)
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()


def test_other_kinds_of_file_are_refused(tmp_path):
    np.save(tmp_path / "rates.npy", GOOD["rates"])
    for path in (tmp_path / "rates.npy", tmp_path, Path("/dev/zero"), tmp_path / "missing.npz"):
        with pytest.raises(BadInput, match="expected a"):
            recordings.load(path)


def test_sound_arrays_of_any_layout_are_read_correctly(tmp_path):
    np.save(tmp_path / "mapped.npy", GOOD["rates"].astype(np.float64))
    layouts = [
        GOOD["rates"].astype(">f8"),
        np.asfortranarray(GOOD["rates"]),
        GOOD["rates"][:, ::-1][:, ::-1],
        np.load(tmp_path / "mapped.npy", mmap_mode="r"),
        np.longdouble(GOOD["rates"]),
    ]
    for rates in layouts:
        for write in (np.savez, np.savez_compressed):
            write(tmp_path / "mine.npz", **GOOD | {"rates": rates})
            np.testing.assert_array_equal(recordings.load(tmp_path / "mine.npz").rates, GOOD["rates"])
    for kind in ("f2", "u1", "i8", "?"):
        rates = (5 * GOOD["rates"]).astype(kind)
        np.savez(tmp_path / "mine.npz", **GOOD | {"rates": rates})
        np.testing.assert_array_equal(recordings.load(tmp_path / "mine.npz").rates, rates.astype(np.float32))


# ---- checkpoints ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The path of a small run's checkpoint, and the arguments that made it."""
    folder = tmp_path_factory.mktemp("run")
    np.savez(folder / "mine.npz", **GOOD)
    arguments = ["--data", folder / "mine.npz", "--out", folder, "--set", "calibrated=no", *TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", *map(str, arguments)])
        train.main()
    return folder / "model.pt", arguments


@settings(max_examples=300, **FUZZ)
@given(operations=damages)
def test_damaged_checkpoints(operations, checkpoint, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(damaged(checkpoint[0].read_bytes(), operations))
    refusal, began = f"{path}: ", time.process_time()
    try:
        networks, _ = checkpoints.networks(path)
        assert all(np.isfinite(x).all() for net in networks for x in (net.W, net.W_in, net.b))
    except BadInput as error:
        refusal = str(error)
    assert time.process_time() - began < SECONDS
    assert refusal.startswith(f"{path}: ")
    assert "\n" not in refusal


def weights(**changes):
    """Those of 4 response and 3 input units, some of them changed."""
    return {"W": torch.zeros(7, 7), "W_in": torch.zeros(1, 7), "b": torch.zeros(7)} | changes


class Evil:
    """Executes when unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


WHOLE = "is not a whole checkpoint"
DAMAGED = "the checkpoint's optimiser or generators are damaged"


@pytest.mark.parametrize(
    ("change", "training", "expected"),
    [
        ({"version": 99}, {}, "is a checkpoint of version 99; expected version 2"),
        ({"version": 1}, {}, "is a checkpoint of version 1; expected version 2: train anew"),
        ({"version": "2"}, {}, "is a checkpoint of version '2'; expected version 2"),
        ({"model": weights(b=torch.zeros(9))}, {}, "b has shape (9,); expected (7,)"),
        ({"model": weights(W_in=torch.zeros(1, 3))}, {}, "W_in has shape (1, 3); expected (1, 7)"),
        ({"model": weights(W=torch.ones(9, 9), b=torch.ones(9), W_in=torch.ones(1, 9))}, {}, "expected (1, 7, 7)"),
        ({"model": weights(W=torch.zeros(9, 9), b=torch.zeros(9))}, {}, "expected (1, 9)"),
        ({"model": weights(W=torch.zeros(1, 1).expand(7, 7))}, {}, "not the memory for its shape"),
        ({"model": weights(W=torch.full((7, 7), torch.nan))}, {}, "W has values that are not finite"),
        ({"model": {}}, {}, WHOLE),
        ({"model": weights() | {"W": "zeros"}}, {}, WHOLE),
        ({"training": 3}, {}, WHOLE),
        ({}, {"trained": {}}, WHOLE),
        ({}, {"trained": weights(W=torch.full((7, 7), torch.inf))}, "W has values that are not finite"),
        ({"args": 3}, {}, WHOLE),
        ({"args": {}}, {}, WHOLE),
        ({}, {"wandb": Evil()}, WHOLE),
        ({}, {"moments": None}, DAMAGED),
        ({}, {"moments": []}, DAMAGED),
        ({}, {"moments": [[torch.zeros(7)] * 2] * 3}, DAMAGED),
        ({}, {"generators": [torch.zeros(3)]}, DAMAGED),
        ({}, {"generators": []}, DAMAGED),
        ({}, {"updates": "many"}, "has no count of updates"),
        ({}, {"updates": -5}, "has no count of updates"),
        ({}, {"seconds": None}, "has no count of updates and seconds"),
    ],
)  # fmt: skip
def test_hostile_checkpoint_is_refused_in_a_sentence(
    change, training, expected, checkpoint, monkeypatch, capsys, tmp_path
):
    path, arguments = checkpoint
    monkeypatch.chdir(tmp_path)
    before = path.read_bytes()
    state = torch.load(path, weights_only=True)
    state["training"].pop("trained", None)
    state["training"] |= training
    torch.save(state | change, path)
    status, error = call(train, monkeypatch, capsys, *arguments, "--resume")
    path.write_bytes(before)
    assert (status, error.count("\n")) == (2, 1)
    assert expected in error
    assert not Path("executed").exists()


@pytest.mark.parametrize("key", ["moments", "generators", "updates", "seconds"])
def test_checkpoint_without_the_state_of_training_is_read_but_not_resumed(key, checkpoint, monkeypatch, capsys):
    path, arguments = checkpoint
    before = path.read_bytes()
    state = torch.load(path, weights_only=True)
    del state["training"][key]
    torch.save(state, path)
    networks, _ = checkpoints.networks(path)
    status, error = call(train, monkeypatch, capsys, *arguments, "--resume")
    path.write_bytes(before)
    assert networks[0].n == 4
    assert (status, error.count("\n")) == (2, 1)
    assert f"has no {key}; expected a checkpoint of train.py to --resume" in error


def test_resuming_another_run_says_what_differs(checkpoint, monkeypatch, capsys):
    path, arguments = checkpoint
    np.savez(path.parent / "other.npz", **GOOD | {"dt": 0.02})
    changed = [*arguments, "--resume", "--lr", "0.1", "--seed", "3", "--data", path.parent / "other.npz"]
    status, error = call(train, monkeypatch, capsys, *changed)
    assert status == 2
    for difference in ("lr 0.01, not 0.1", "seed 0, not 3", "data 'mine.npz', not 'other.npz'", "data_sha256"):
        assert difference in error
