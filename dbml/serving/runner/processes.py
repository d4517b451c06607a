"""A service as a process: the scoring app on a socket that the runner holds, so that none who connects is refused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbml.serving.runner.log import Tail

# Wraps a command so that it sees these paths and nothing else of the machine: the command, what it reads.
Confine = Callable[[Sequence[str], Sequence[Path]], list[str]]

READY = " answers at http"
COMPARED = '"logger":"dbml.serving.shadow"'
DRAINING = '"message": "draining: '
STOP_S = 15.0
# PR_SET_PDEATHSIG, which lasts through exec; a parent that has died before is seen.
_TIED = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0);"
    " os.getppid() == int(sys.argv[1]) or os._exit(1); os.execvpe(sys.argv[2], sys.argv[2:], os.environ)"
)
_OPTIONS = ("threads", "queue", "timeout_s", "max_body_mb", "batch_rows", "batch_delay_ms", "drain_s")


@dataclass(frozen=True)
class Serving:
    """What is to be served: a folder, by an interpreter, as the service's config says.

    keys: the file with its keys, None where none is asked for.  peer: the file that says where another version runs.
    """

    generation: int
    folder: Path
    python: Path
    config: Mapping[str, Any]
    keys: Path | None
    peer: Path | None = None


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0: any that is free.

    Raises: OSError where it is taken.
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
        held.listen(2048)
    except OSError:
        held.close()
        raise
    return held


def _child_pid(told: int) -> int | None:
    """Return the process that bubblewrap tells of, None where it ends without a word."""
    said = b""
    with os.fdopen(told, "rb", buffering=0) as info:
        while not said.rstrip().endswith(b"}") and (part := info.read(4096)):
            said += part
    try:
        return int(json.loads(said)["child-pid"])
    except (ValueError, KeyError):
        return None


class Process:
    """The scoring app of one generation; it dies with the runner, and must be started by the thread that lives as long."""

    kind = "process"

    def __init__(
        self, serving: Serving, held: socket.socket, tail: Tail, confine: Confine | None,
        hear: Callable[[int, str], object] = lambda _generation, _line: None,
    ) -> None:  # fmt: skip
        self.generation = serving.generation
        self._ready = threading.Event()
        self._draining = threading.Event()
        self._tail = tail
        self._hear = hear
        self._kill_at: float | None = None
        options = [part for name in _OPTIONS if name in serving.config
                   for part in (f"--{name.replace('_', '-')}", f"{serving.config[name]:g}")]  # fmt: skip
        command = [str(serving.python), "-m", "dbml.serving.app", str(serving.folder), "--fd", str(held.fileno()), *options]
        if serving.keys is not None:
            command += ["--keys", str(serving.keys)]
        if serving.peer is not None:
            command += ["--peer", str(serving.peer)]
        told: int | None = None
        passed = [held.fileno()]
        if confine is not None:
            readable = [serving.folder, *(file.parent for file in (serving.keys, serving.peer) if file is not None)]
            command = confine(command, readable)
            told, tell = os.pipe()
            passed.append(tell)
            # The app is the first process of its namespace, and this says which it is out here.
            command[1:1] = ["--as-pid-1", "--info-fd", str(tell)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command], cwd=serving.folder, pass_fds=passed,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                start_new_session=True, env=self._environment(serving),
            )  # fmt: skip
        finally:
            for descriptor in passed[1:]:
                os.close(descriptor)
        self.pid = self._process.pid
        if told is not None:
            self.pid = _child_pid(told) or self.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _environment(serving: Serving) -> dict[str, str]:
        """Return the whole environment of the app: nothing of the runner's own, which knows the database."""
        given = {str(name): str(value) for name, value in serving.config.get("environment_variables", {}).items()}
        passed = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH") if name in os.environ}
        return {
            "PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **passed,
            "HOME": str(serving.folder), **given, "PYTHONPATH": str(serving.folder / "app"),
        }  # fmt: skip

    @property
    def identity(self) -> str:
        """Return its process id, as text."""
        return str(self.pid)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if COMPARED in line:  # as many as requests: not for the tail
                self._hear(self.generation, line)
                continue
            self._tail.add(line)
            if READY in line and '"dbml.serving"' in line:
                self._ready.set()
            if DRAINING in line and '"dbml.serving"' in line:
                self._draining.set()

    @property
    def is_ready(self) -> bool:
        """Tell whether it answers requests, or did."""
        return self._ready.is_set()

    @property
    def is_draining(self) -> bool:
        """Tell whether it takes no new connections any more."""
        return self._draining.is_set()

    def ended(self) -> str | None:
        """Return how it ended, in words; None while it runs."""
        status = self._process.poll()
        if status is None:
            if self._kill_at is not None and time.monotonic() > self._kill_at:
                self.kill()
            return None
        self._reader.join(timeout=2)
        if status < 0 or status > 128:
            number = -status if status < 0 else status - 128
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(number).name}"
        return f"exit code {status}"

    def stop(self, drain_s: float) -> None:
        """Have it answer what it has begun, and end; it is killed when it takes too long."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + drain_s + STOP_S
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        """Let go of one that has ended."""
        self._reader.join(timeout=2)
        if self._process.stdout is not None:
            self._process.stdout.close()
