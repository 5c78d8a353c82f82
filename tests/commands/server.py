"""A stand-in for `python`, which tests of commands put first in PATH: what is slow to import is imported once.

A server imports it, and forks a child for each command. The child imports the project's own modules from where the
command runs, as a new Python does. The stand-in passes on a command's arguments, folder, environment and standard
streams, and ends with its exit status.
"""

import atexit
import contextlib
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from concurrent.futures import thread
from multiprocessing import util
from pathlib import Path

SLOW = (
    "torch", "numpy", "scipy.io", "scipy.linalg", "scipy.ndimage", "scipy.optimize", "scipy.signal", "scipy.sparse",
    "scipy.special", "scipy.stats", "matplotlib.animation", "matplotlib.pyplot", "tqdm", "wandb",
)  # fmt: skip
CLIENT = f"""#!{sys.executable} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(%r)
    request = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    sys.exit(int(server.makefile().read() or 1))
"""


def start(folder):
    """Start the server, with its stand-in `python` in a folder. Returns: Popen, to be terminated."""
    address, python = folder / "socket", folder / "python"
    python.write_text(CLIENT % str(address))
    python.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "DISPLAY"}
    environment |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    server = subprocess.Popen([sys.executable, __file__, address], env=environment, stdin=subprocess.DEVNULL)
    while not address.exists():
        assert server.poll() is None, "the server of commands has ended"
        time.sleep(0.05)
    return server


def serve(address):
    """Answer commands until terminated, each in a child of its own."""
    for name in SLOW:
        importlib.import_module(name)
    util.spawnv_passfds = fork_instead
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen(64)
        os.rename(f"{address}.new", address)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
        while True:
            client, _ = listener.accept()
            if not os.fork():
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(client)
                os._exit(0)
            client.close()


def fork_instead(_, arguments, passed):
    """Have multiprocessing fork its own server of processes where it would start a new Python. Returns: its number."""
    child = os.fork()
    if child:
        return child
    thread._threads_queues.clear()  # threads of a pool, which the child does not have
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number not in passed:
            with contextlib.suppress(OSError):  # the listing's own is closed already
                os.close(number)
    try:
        exec(arguments[-1], {})
    finally:
        os._exit(0)


def answer(client):
    """Run a client's command, and send it the exit status."""
    length, streams, _, _ = socket.recv_fds(client, 8, 3)
    arguments, folder, environment = json.loads(client.makefile("rb").read(int.from_bytes(length, "big")))
    child = os.fork()
    if child:
        client.sendall(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
        return
    client.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    random.seed()
    importlib.import_module("wandb.sdk.data_types._private").MEDIA_TMP.__init__("wandb-media")  # which a child removes
    os._exit(execute(*arguments))


def execute(python, kind, *rest):
    """Do what `python KIND REST` does, KIND being a script, or -m and then REST a module. Returns: its exit status."""
    sys.stdin, sys.stdout, sys.stderr = (open(k, mode, closefd=False) for k, mode in enumerate("rww"))  # noqa: SIM115
    sys.executable, sys.modules["__main__"] = python, type(sys)("__main__")
    try:
        if kind == "-m":
            sys.argv, sys.path[0] = list(rest), os.getcwd()
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = [kind, *rest], str(Path(kind).resolve().parent)
            runpy.run_path(kind, run_name="__main__")
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status


if __name__ == "__main__":
    serve(sys.argv[1])
