"""The zygote: a process that has imported what scripts need, and forks on request.

    python -m dbml.worker.zygote FD

FD is its end of a socket pair with the router.  A fork of it is ready in milliseconds where a new interpreter with
scikit-learn takes seconds.  It is started with a clean environment, never sees a DSN or a secret, has no threads,
and runs no user code itself.  Its children die with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any

from dbml.worker.sandbox import Limits, enter

PRELOADED = (
    "numpy", "pandas", "pyarrow", "cloudpickle", "pickle", "dbml.columns", "dbml.engines.python", "dbml.worker.satellite",
    "dbml.worker.scorer", "sklearn.linear_model", "sklearn.ensemble", "sklearn.tree", "sklearn.preprocessing",
    "sklearn.pipeline", "sklearn.compose", "sklearn.impute", "sklearn.metrics", "sklearn.model_selection",
    "sklearn.cluster", "sklearn.svm", "sklearn.naive_bayes", "sklearn.neighbors", "sklearn.decomposition",
    "sklearn.feature_selection", "sklearn.datasets",
)  # fmt: skip
LARGEST_MESSAGE = 1 << 16


def main() -> None:
    """Serve the router until its socket closes."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in PRELOADED:
        importlib.import_module(name)
    sys.modules["dbml.worker.satellite"].rehearse()
    gc.collect()
    gc.freeze()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the router, which then closes the socket
    children: dict[int, str] = {}
    _say(control, {"tag": "ready", "pid": os.getpid()})
    while True:
        readable, _, _ = select.select([control.fileno(), wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
            _reap(control, children)
        if control.fileno() in readable:
            message, fds, _, _ = socket.recv_fds(control, LARGEST_MESSAGE, 1)
            if not message:
                break
            request = json.loads(message)
            pid = _fork(request, fds[0], control, (wake_read, wake_write))
            os.close(fds[0])
            children[pid] = request["id"]
            _say(control, {"tag": "forked", "id": request["id"], "pid": pid})
    for pid in children:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)


def _say(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        control.send(json.dumps(message).encode())


def _reap(control: socket.socket, children: dict[int, str]) -> None:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        identity = children.pop(pid, None)
        if identity is not None:
            _say(
                control,
                {
                    "tag": "exited",
                    "id": identity,
                    "pid": pid,
                    "status": status,
                    "peak_memory_mb": usage.ru_maxrss / 1024,
                    "cpu_seconds": usage.ru_utime + usage.ru_stime,
                },
            )


def _fork(request: dict[str, Any], fd: int, control: socket.socket, wake: tuple[int, int]) -> int:
    pid = os.fork()
    if pid != 0:
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        control.detach()
        kept = 3 if fd != 3 else fd
        os.dup2(fd, kept)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.closerange(4, 65536)
        enter(Limits(**request["limits"]), request["scratch"])
        random.seed()
        sys.modules["numpy"].random.seed(int.from_bytes(os.urandom(4)))
        peer = socket.socket(fileno=kept)
        if request["role"] == "scorer":
            sys.modules["dbml.worker.scorer"].serve(peer, Limits(**request["limits"]))
        else:
            sys.modules["dbml.worker.satellite"].serve(peer, Limits(**request["limits"]))
        status = 0
    except BaseException:  # the edge where a process ends: what gets here is a fault of ours
        traceback.print_exc()
        time.sleep(0)
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
