"""The zygote: a process that has imported what scripts need, and forks on request.

    python -m dbml.worker.zygote CELL FD [SITE]

CELL is its sandbox (`dbml.worker.sandbox.Cell`, JSON), FD its end of a socket pair with the router, SITE the site-packages
of an environment other than the worker's own.  A fork of it is ready in milliseconds where a new interpreter with
scikit-learn takes seconds.  It is started with a clean environment, never sees a DSN or a secret, has no threads (a fork
copies only one), and runs no user code itself.  Its children die with it.

    router -> zygote  {"tag": "fork", "id", "role": "satellite" | "scorer" | "inspector", "language", "limits", "scratch"}
                      with a descriptor
                      {"tag": "kill", "id"}
    zygote -> router  {"tag": "ready", "threads"} and {"tag": "forked", "id"}, each with a descriptor of the process: its id
                      may differ on the two sides
                      {"tag": "warm"}: what is imported while it serves already is there
                      {"tag": "failed", "id", "message"}
                      {"tag": "exited", "id", "status", "peak_memory_mb", "cpu_seconds"}
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import importlib
import importlib.util
import json
import os
import random
import select
import signal
import site
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dbml.worker.sandbox import SOCKET, Cell, Limits, adopt, conceal, enter, settle
from dbml.worker.sandbox.namespaces import Births

PRELOADED = (
    "numpy", "pandas", "pyarrow", "pyarrow.pandas_compat", "cloudpickle", "pickle", "importlib.metadata", "threadpoolctl",
    "dbml.columns", "dbml.engines.python", "dbml.worker.satellite", "dbml.worker.scorer",
    "dbml.worker.inspector",
)  # fmt: skip
PRELOADED_IF_THERE = (
    # In small steps: a request waits for the one at hand.
    "scipy.linalg", "scipy.special", "scipy.spatial", "scipy.optimize", "scipy.stats", "joblib", "sklearn", "sklearn.utils",
    "sklearn.linear_model", "sklearn.ensemble", "sklearn.tree", "sklearn.preprocessing", "sklearn.pipeline", "sklearn.compose",
    "sklearn.impute", "sklearn.metrics", "sklearn.model_selection", "sklearn.cluster", "sklearn.svm", "sklearn.naive_bayes",
    "sklearn.neighbors", "sklearn.decomposition", "sklearn.feature_selection", "sklearn.datasets",
)  # fmt: skip
PRELOADED_LAST = ("matplotlib.pyplot", "matplotlib.backends.backend_agg", "skops.io")  # for which nobody waits
LARGEST_MESSAGE = 1 << 16
SWEEPS = 100  # a millisecond each, where there is anything to sweep
QUIET_MS = 1  # without a request, before the next module is imported
IDLE_MS = 100  # before the next of those for which nobody waits
MADV_COLLAPSE = 25
HUGE_PAGE = 2 << 20


class Zygote:
    """The process: answers the router until its socket closes."""

    def __init__(self, control: socket.socket, cell: Cell, site_packages: str | None = None) -> None:
        self._control = control
        self._cell = cell
        self._births = Births() if cell.layer == "bubblewrap" else None
        self._firsts: dict[int, int] = {}  # by child: the first process of its namespace
        self._site_packages = site_packages  # where a child has .pth files to process
        self._children: dict[int, str] = {}  # by process id: the id that the router gave
        self._controllers: list[Any] = []  # of the libraries that have threads of their own
        self._more: list[str] = []  # modules that are still to be imported
        self._last: list[str] = []  # and those that come when all others are there

    def prepare(self) -> None:
        """Import what children cannot do without; the rest is imported between requests."""
        gc.disable()
        for name in PRELOADED:
            importlib.import_module(name)
        self._more = [name for name in PRELOADED_IF_THERE if _is_there(name)]
        self._last = [name for name in PRELOADED_LAST if _is_there(name)]
        sys.modules["dbml.worker.satellite"].rehearse()
        self._settle()

    def _settle(self) -> None:
        """Make it cheap to fork: what is here once is shared by all children."""
        self._controllers = sys.modules["threadpoolctl"].ThreadpoolController().lib_controllers
        _end_threads()
        gc.collect()
        gc.freeze()
        _collapse_pages()

    def _warm(self) -> None:
        """Import one more module; a child that is forked before it is there imports it when it needs it."""
        stage = self._more or self._last
        with contextlib.suppress(Exception):  # a package that is broken fails the script that uses it
            importlib.import_module(stage.pop(0))
        if not stage:
            self._settle()
            if stage is self._more:
                self._say({"tag": "warm"})

    def serve(self) -> None:
        """Answer the router until its socket closes, then end every child."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the router, which then closes the socket
        own = os.pidfd_open(os.getpid())
        self._say({"tag": "ready", "threads": len(list(Path("/proc/self/task").iterdir()))}, own)
        os.close(own)
        poll = select.poll()
        for number in (self._control.fileno(), wake_read):
            poll.register(number, select.POLLIN)
        if not self._more:
            self._say({"tag": "warm"})
        while True:
            ready = {number for number, _ in poll.poll(QUIET_MS if self._more else IDLE_MS if self._last else None)}
            if not ready:
                self._warm()
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 4096)
                self._reap()
            if self._control.fileno() in ready:
                try:
                    message, descriptors, _, _ = socket.recv_fds(self._control, LARGEST_MESSAGE, 1)
                except ConnectionResetError:
                    message = b""
                if not message:
                    return self._end()
                for number in descriptors:
                    os.set_inheritable(number, False)
                self._answer(json.loads(message), descriptors)
                for number in descriptors:
                    os.close(number)

    def _answer(self, request: dict[str, Any], descriptors: list[int]) -> None:
        if request["tag"] == "kill":
            for pid, identity in self._children.items():
                if identity == request["id"]:
                    _kill(pid)
            return
        limits = Limits(**request["limits"])
        zygote = os.getpid()
        first = None
        try:
            if self._births is not None:
                first = self._births.prepare()
            pid = os.fork()
        except OSError as error:
            if first is not None:
                _end_first(first)
            self._say({"tag": "failed", "id": request["id"], "message": f"could not be started: {error}"})
            return
        if pid == 0:
            self._become(request, limits, descriptors[0], zygote)
        self._children[pid] = request["id"]
        if first is not None:
            self._firsts[pid] = first
            if (self._more or self._last) and self._births is not None:
                self._births.rest()  # what is imported next may start threads
        process = os.pidfd_open(pid)
        self._say({"tag": "forked", "id": request["id"]}, process)
        os.close(process)

    def _become(self, request: dict[str, Any], limits: Limits, descriptor: int, parent: int) -> None:
        """Be a child from here on; never returns."""
        status = 1
        role = request["role"]
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            self._control.detach()
            if role == "scorer":
                limits = dataclasses.replace(limits, cpu_seconds=None)
            threads = int(os.environ["OMP_NUM_THREADS"])
            enter(self._cell, limits, request["scratch"], descriptor, parent)
            if self._site_packages is not None:
                site.addsitedir(self._site_packages)  # its .pth files run here, behind the sandbox
            if limits.threads != threads:
                for library in self._controllers:
                    library.set_num_threads(limits.threads)
            tempfile.tempdir = None
            random.seed()
            sys.modules["numpy"].random.seed()
            sys.argv = ["script"]
            gc.enable()
            module = sys.modules[f"dbml.worker.{role}"]
            module.serve(socket.socket(fileno=SOCKET), limits, *([request["language"]] if role == "satellite" else []))
            status = 0
        finally:
            os._exit(status)

    def _say(self, message: dict[str, Any], *descriptors: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)

    def _reap(self) -> None:
        """Bury the dead, and with each of our children everything that it started."""
        while (pid := _dead()) is not None:
            identity = self._children.pop(pid, None)
            if identity is None:  # started by a child and left behind, or the first of a namespace that was killed
                os.waitpid(pid, 0)
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # the dead one still holds the number
            _, status, usage = os.wait4(pid, 0)
            if pid in self._firsts:
                _end_first(self._firsts.pop(pid))
            else:
                self._sweep(pid)
            self._say(
                {
                    "tag": "exited",
                    "id": identity,
                    "status": status,
                    "peak_memory_mb": usage.ru_maxrss / 1024,
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                }
            )

    def _sweep(self, dead: int) -> None:
        """Kill what a dead child left behind: it is ours now, as `adopt` has it, whatever group or session it is in."""
        for _ in range(SWEEPS):
            strays = [pid for pid in _children_since(dead) if pid not in self._children]
            if not strays:
                return
            for pid in strays:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)
            for pid in strays:  # only when they are buried are those that they started ours
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _end(self) -> None:
        for pid in self._children:
            _kill(pid)
        for pid in list(self._children):
            del self._children[pid]
            os.waitpid(pid, 0)
            if pid in self._firsts:
                _end_first(self._firsts.pop(pid))
        if self._births is None:
            self._sweep(0)


def preload() -> None:
    """Import what every child needs, and what many use where it is installed."""
    for name in PRELOADED:
        importlib.import_module(name)
    for name in (*PRELOADED_IF_THERE, *PRELOADED_LAST):
        if _is_there(name):
            importlib.import_module(name)


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def enter_environment(site_packages: str) -> None:
    """Make up for what Python's start has left out: it was told not to run an environment's own start-up code."""
    sys.path.append(site_packages)
    sys.prefix = sys.exec_prefix = str(Path(site_packages).parents[2])
    site.setquit()
    site.setcopyright()
    site.sethelper()


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _end_first(pid: int) -> None:
    """Kill the first process of a namespace, and with it all that is left there; returns when they are gone.

    Our own child there must be buried before.
    """
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _dead() -> int | None:
    """Return the id of a child that has ended and is not yet waited for."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def _children_since(pid: int) -> list[int]:
    """Return the ids of our children that were started after a process, or may have been."""
    me = str(os.getpid())
    numbers = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
    counted_round = int(Path("/proc/loadavg").read_text("ascii").split()[4]) < pid
    found = []
    for number in numbers:
        if number > pid or counted_round:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{number}/stat").read_text("utf-8", "replace")
                if text.rpartition(") ")[2].split()[1] == me:
                    found.append(number)
    return found


def _end_threads() -> None:
    """End the threads that OpenBLAS has started: it does so before a fork, and starts them again where they are used."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _collapse_pages() -> None:
    """Gather this process' memory in huge pages, so that a fork copies a page table that is much shorter.

    Best effort: Linux 6.1 and later have it.  Measured: fork 6.2 -> 3.5 ms, and as much again where a child ends.
    """
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, _, *path = line.split(maxsplit=5)
        if rights != "rw-p" or (path and path[0] != "[heap]"):
            continue
        start, end = (int(address, 16) for address in span.split("-"))
        start += -start % HUGE_PAGE
        while start + HUGE_PAGE <= end:
            madvise(start, HUGE_PAGE, MADV_COLLAPSE)
            start += HUGE_PAGE


def main() -> None:
    """Be the zygote of the router at the other end of the descriptor that the command line names."""
    control = socket.socket(fileno=int(sys.argv[2]))
    control.set_inheritable(False)
    cell = Cell.of(json.loads(sys.argv[1]))
    settle(cell)
    site_packages = sys.argv[3] if len(sys.argv) > 3 else None
    if site_packages is not None:
        enter_environment(site_packages)
        if not any(file.name != "_virtualenv.pth" for file in Path(site_packages).glob("*.pth")):
            site_packages = None
    zygote = Zygote(control, cell, site_packages)
    conceal()
    adopt()
    zygote.prepare()
    zygote.serve()


if __name__ == "__main__":
    main()
