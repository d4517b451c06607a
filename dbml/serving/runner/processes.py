"""The target `process`: the scoring app on a socket that the runner holds, so that none who connects is refused."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dbml import errors
from dbml.serving.export.folder import write
from dbml.serving.export.plan import Plan
from dbml.serving.runner.contract import OPTIONS, STOP_S, Instance, Machine, Service, Serving, Target
from dbml.serving.runner.interpreters import interpreter, require_app
from dbml.serving.runner.log import Tail
from dbml.serving.runner.prints import is_comparison, is_draining, is_ready

CONFINED = "dbml.serving.app.confined"
# PR_SET_PDEATHSIG, which lasts through exec; a parent that has died before is seen.  RLIMIT_DATA (2) and the processors too.
# Source: Linux man-pages, prctl(2), getrlimit(2), sched_setaffinity(2).
_TIED = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
os.getppid() == int(sys.argv[1]) or os._exit(1)
if sys.argv[2]:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[2]),) * 2)
if sys.argv[3]:
    os.sched_setaffinity(0, map(int, sys.argv[3].split(",")))
os.execvpe(sys.argv[4], sys.argv[4:], os.environ)
"""


def tied(command: Sequence[str], memory: str = "", processors: str = "") -> list[str]:
    """Return the command that runs another which ends with this process; memory in bytes, processors as numbers and commas."""
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), memory, processors, *command]


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


class Processes(Target):
    """Generations as processes of this machine, which share the listening socket and die with the runner."""

    kind = "process"
    locked = False

    def __init__(self, service: Service, machine: Machine) -> None:
        require_app()
        if machine.confined and machine.confine is None:
            raise errors.SandboxMissing(
                f"service {service.name!r} must be confined, and this machine cannot", hint="apt-get install bubblewrap"
            )
        self._service, self._machine = service, machine
        self._keys = service.scratch / "keys" / "keys"
        self._peer = service.scratch / "peer" / "peer.json"
        self._peer.parent.mkdir(mode=0o711)
        if not machine.sandbox:
            service.say("the scoring app is not confined: --unsafe-no-sandbox")

    def listen(self, host: str, port: int, former: int | None) -> None:
        """Hold the socket."""
        self._held = listen_at(host, port, former)
        self.uri = uri_of(host, self._held.getsockname()[1])

    def prepare(
        self, plan: Plan, generation: int, config: Mapping[str, Any], *, keyed: bool, beside: bool = False
    ) -> Serving:  # fmt: skip
        """Write the folder, and find or make the interpreter that its lock wants."""
        folder = write(plan, self._service.scratch / f"generation-{generation}")
        python = interpreter(plan.lock, plan.python_version, self._machine.cache, self._service.say)
        return Serving(generation, folder, config, keyed, str(python), plan)

    def start(self, serving: Serving) -> Process:
        """Start the scoring app."""
        service = self._service
        keys = self._keys if serving.keyed else None
        return Process(serving, self._held, service.tail, self._machine, service.scratch, keys, self._peer, service.hear)

    def start_beside(self, serving: Serving) -> tuple[Process, str]:
        """Start it at a socket beside the peer file, which the process that serves alone can reach: without keys."""
        address = self._peer.with_name(f"{serving.generation}.sock")
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as held:
            held.bind(str(address))
            held.listen(2048)
            return Process(serving, held, self._service.tail, self._machine, self._service.scratch, None), str(address)

    def tell(self, said: Mapping[str, Any] | None) -> None:
        """Write the peer file, or remove it."""
        write_peer(self._peer, said)

    def take_keys(self, keys: Sequence[str]) -> None:
        """Write the file that every instance reads."""
        self._keys.parent.mkdir(mode=0o711, exist_ok=True)
        partial = self._keys.with_name("partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write("".join(f"{key}\n" for key in keys))
        partial.replace(self._keys)

    @property
    def probed(self) -> tuple[str, int] | None:
        """Return the socket's own address: whoever serves answers there."""
        host, port = self._held.getsockname()[:2]
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104

    def close(self, *, deleted: bool) -> None:
        """Let go of the socket."""
        self._held.close()


def write_peer(file: Path, said: Mapping[str, Any] | None) -> None:
    """Write a peer file whole, so that the scoring app never reads a part; None: remove it."""
    if said is None:
        file.unlink(missing_ok=True)
        return
    partial = file.with_name("partial")
    partial.write_text(json.dumps(dict(said)), encoding="utf-8")
    partial.chmod(0o444)  # a container's user is nobody here
    partial.replace(file)


def uri_of(host: str, port: int) -> str:
    """Return where a service is asked that listens at an address of this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/score"


def listen_at(host: str, port: int, former: int | None) -> socket.socket:
    """Return a listening socket at a port, or, where that is 0, at the former one if it is free, else at any.

    Raises: OSError where the port is taken.
    """
    if port == 0 and former is not None:
        with contextlib.suppress(OSError):
            return listen(host, former)
    return listen(host, port)


class Process(Instance):
    """The scoring app of one generation; it dies with the runner, and must be started by the thread that lives as long."""

    kind = "process"

    def __init__(
        self, serving: Serving, held: socket.socket, tail: Tail, machine: Machine, scratch: Path, keys: Path | None,
        peer: Path | None = None, hear: Callable[[int, str], object] = lambda _generation, _line: None,
    ) -> None:  # fmt: skip
        self.generation = serving.generation
        self._ready = threading.Event()
        self._draining = threading.Event()
        self._tail = tail
        self._hear = hear
        self._kill_at: float | None = None
        options = [part for name in OPTIONS if name in serving.config
                   for part in (f"--{name.replace('_', '-')}", f"{serving.config[name]:g}")]  # fmt: skip
        self._scratch: Path | None = None
        module = ["dbml.serving.app"]
        if machine.sandbox and machine.confine is not None:
            module = [CONFINED, "bubblewrap", "-"]
        elif machine.sandbox:
            self._scratch = Path(tempfile.mkdtemp(prefix="process-", dir=scratch))
            module = [CONFINED, "landlock", str(self._scratch)]
        command = [serving.made, "-m", *module, str(serving.folder), "--fd", str(held.fileno()), *options]
        if keys is not None:
            command += ["--keys", str(keys)]
        if peer is not None:
            command += ["--peer", str(peer)]
        told: int | None = None
        passed = [held.fileno()]
        if machine.confine is not None:
            readable = [serving.folder, *(file.parent for file in (keys, peer) if file is not None)]
            command = machine.confine(command, readable)
            told, tell = os.pipe()
            passed.append(tell)
            # The app is the first process of its namespace, and this says which it is out here.
            command[1:1] = ["--as-pid-1", "--info-fd", str(tell)]
        try:
            self._process = subprocess.Popen(
                tied(command, *_limits(serving.config)),
                cwd=serving.folder, pass_fds=passed,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                start_new_session=True, env=self._environment(serving, self._scratch or serving.folder),
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
    def _environment(serving: Serving, home: Path) -> dict[str, str]:
        """Return the whole environment of the app: nothing of the runner's own, which knows the database."""
        given = {str(name): str(value) for name, value in serving.config.get("environment_variables", {}).items()}
        passed = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH") if name in os.environ}
        return {
            "PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **passed,
            **_threads(serving.config), "HOME": str(home), **({"TMPDIR": str(home)} if home != serving.folder else {}), **given,
            "PYTHONPATH": str(serving.folder / "app"),
        }  # fmt: skip

    @property
    def identity(self) -> str:
        """Return its process id, as text."""
        return str(self.pid)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if is_comparison(line):  # not for the tail
                self._hear(self.generation, line)
                continue
            self._tail.add(line)
            if is_ready(line):
                self._ready.set()
            if is_draining(line):
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
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _limits(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the bytes that a process may write to memory, and the processors that it may run on; empty: no limit.

    A part of a processor cannot be had this way: it is rounded up.
    """
    here = sorted(os.sched_getaffinity(0))
    wanted = math.ceil(float(config.get("cpu_cores") or 0))
    few = ",".join(map(str, random.sample(here, wanted))) if 0 < wanted < len(here) else ""
    memory = float(config.get("memory_gb") or 0)
    return str(int(memory * (1 << 30))) if memory else "", few


def _threads(config: Mapping[str, Any]) -> dict[str, str]:
    """Return how many threads linear algebra is to have, where processors are limited."""
    wanted = math.ceil(float(config.get("cpu_cores") or 0))
    return {name: str(wanted) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} if wanted else {}
