"""What keeps processes alive: a worker for `dbml worker`, an embedded server and a worker for `dbml up`.

A worker process ends when the pipe that is its standard input closes, so that none outlives its
supervisor, however that ends; a server that does is taken over by the next supervisor.  A supervisor keeps no
state but the address at which the worker listens: sessions find the next one where the last one was.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg

from dbml import __version__, errors
from dbml.cli.looking import LookingProcess, can_serve
from dbml.cli.worker_process import STOP_S, WorkerProcess, require_worker
from dbml.database.embedded import Cluster
from dbml.dsn import without_password
from dbml.home import Home

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_S = 0.1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
ORPHANS_S = 1.0  # what a killed worker left may take to end by itself
SERVER_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ \S+ \[\d+\] ")  # time and pid

Log = Callable[[str, str], None]


class Revival:
    """Starts one thing again that has died: at once where it had been ready, with growing pauses where it had not.

    gone: returns how it ended, None while it runs.  ready: whether it has come to serve.
    """

    def __init__(
        self, what: str, *, gone: Callable[[], str | None], ready: Callable[[], bool], start: Callable[[], None], log: Log
    ) -> None:  # fmt: skip
        self._what = what
        self._gone = gone
        self._ready = ready
        self._start = start
        self._log = log
        self._pause_s = 0.0
        self._next: float | None = None  # when it is started again

    def look(self) -> bool:
        """Start it if it is gone and its pause is over; returns whether it was started."""
        how = self._gone()
        if how is None:
            return False
        if self._next is None:
            self._pause_s = 0.0 if self._ready() else min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            pause = f" in {self._pause_s:g} s" if self._pause_s > 1 else ""
            self._log("dbml", f"{self._what} is gone ({how}), starting it again{pause}")
            self._next = time.monotonic() + self._pause_s
        if time.monotonic() < self._next:
            return False
        self._next = None
        try:
            self._start()
        except (psycopg.Error, OSError) as error:
            self._log("dbml", f"error: {error}")
            return False
        return True


class Orphans:
    """Ends processes that a killed child has left: they become children of ours, and are given a moment to end."""

    def __init__(self) -> None:
        from dbml.worker.sandbox import adopt  # what only calls does without the worker's half

        adopt()
        self._seen: dict[int, float] = {}

    def look(self, *known: int | None) -> None:
        """Bury the dead among our children that are not known, and kill those that stay."""
        now = time.monotonic()
        found = {pid for pid in _children() if pid not in known}
        self._seen = {pid: self._seen.get(pid, now) for pid in found}
        for pid, since in self._seen.items():
            if now - since > ORPHANS_S:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def end(self, *known: int | None) -> None:
        """Leave none."""
        deadline = time.monotonic() + 2 * ORPHANS_S
        self.look(*known)
        while self._seen and time.monotonic() < deadline:
            time.sleep(0.02)
            self.look(*known)


def keep_worker(worker: WorkerProcess, log: Log, looking: LookingProcess | None = None) -> int:
    """Run a worker and start it again whenever it dies, until a signal of `STOPPING`; returns the exit code.

    looking: what looks for services, kept up beside it.

    One that ends by itself before it was ever ready has said why: that is the end, and its exit code ours.
    """
    revival = _revival(worker, log)
    beside = _looking_revival(looking, log) if looking is not None else revival
    previous = {number: signal.signal(number, _interrupt) for number in STOPPING}
    orphans = Orphans()
    served = False
    try:
        worker.start()
        while True:
            time.sleep(LOOK_S)
            if looking is not None and worker.is_ready and not served:
                looking.start()
            served = served or worker.is_ready
            status = worker.poll()
            if status is not None and status >= 0 and not served:
                return status
            revival.look()
            worker.look_after_standby()
            if looking is not None and served:
                beside.look()
            orphans.look(*worker.pids, looking.pid if looking else None)
    except KeyboardInterrupt:
        return 0
    finally:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)
        if looking is not None:
            looking.stop()
        worker.stop(timeout_s=STOP_S)
        orphans.end()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _revival(worker: WorkerProcess, log: Log) -> Revival:
    def gone() -> str | None:
        status = worker.poll()
        return None if status is None else _exit_text(status)

    return Revival("the worker", gone=gone, ready=lambda: worker.is_ready, start=worker.restart, log=log)


def _looking_revival(looking: LookingProcess, log: Log) -> Revival:
    def gone() -> str | None:
        status = looking.poll()
        return None if status is None else _exit_text(status)

    return Revival("what looks for services", gone=gone, ready=lambda: looking.has_lasted, start=looking.start, log=log)


class Supervisor:
    """The processes of one home, from start to stop.

    dsn: the user's own server, None for an embedded one.  port: of the embedded one on 127.0.0.1.
    log: called with who speaks and a line, from several threads.
    """

    def __init__(
        self,
        home: Home,
        *,
        dsn: str | None = None,
        port: int | None = None,
        listen: str | None = None,
        advertise: str | None = None,
        log: Log,
    ) -> None:
        self.home = home
        self.port = port
        self.log = log
        self.cluster = Cluster(home.path / "postgresql") if dsn is None else None
        self._own_dsn = dsn
        self._listen = listen
        self._advertise = advertise
        self._worker: WorkerProcess | None = None
        self._looking: LookingProcess | None = None
        self._tail: LogTail | None = None
        self._serves = True  # the server, when it was started last

    def run(self, ready: Callable[[str], None]) -> None:
        """Start everything, call `ready` with the DSN, keep it alive until a signal of `STOPPING`."""
        previous = {number: signal.signal(number, _interrupt) for number in STOPPING}
        try:
            with self.home.locked():
                try:
                    dsn = self._start()
                    ready(dsn)
                    self._watch()
                except KeyboardInterrupt:
                    self.log("dbml", "stopping")
                finally:
                    for number in previous:
                        signal.signal(number, signal.SIG_IGN)
                    self._stop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _start(self) -> str:
        from dbml.database.install import install  # half a second, of which psql and status need nothing

        self.home.clear_state()
        require_worker()
        if self.cluster:
            self._tail = LogTail(self.cluster.log_file, lambda line: self.log("postgres", SERVER_PREFIX.sub("", line)))
            self.cluster.start(port=self.port)
        dsn = self._own_dsn or (self.cluster.dsn() if self.cluster else "")
        self.log("dbml", f"installing dbml {__version__} in {without_password(dsn)}")
        install(dsn)
        self._worker = WorkerProcess(
            dsn,
            (self.cluster.base if self.cluster else self.home.path) / "worker",
            login=self._worker_login(dsn),
            listen=self._listen,
            advertise=self._advertise,
            log=self.log,
        )
        self._worker.start()
        self._worker.wait_ready()
        self._write_state(dsn)
        return dsn

    def _worker_login(self, dsn: str) -> str:
        """Return the DSN with which the worker logs in: of a role that may no more than it needs, where there can be one."""
        from dbml.database.worker_login import own_login

        try:
            return own_login(dsn)
        except (psycopg.Error, errors.DbmlError) as error:
            said = str(error).strip().splitlines()[0]
            self.log("dbml", f"the worker logs in as you: no login of its own could be made ({said})")
            return dsn

    def _write_state(self, dsn: str) -> None:
        state: dict[str, Any] = {
            "dsn": dsn,
            "version": __version__,
            "pid": os.getpid(),
            "started_at": time.time(),
            "worker": {"pid": self._worker.pid if self._worker else None},
            "services": {"pid": self._looking.pid if self._looking else None},
            "database": None,
        }
        if self.cluster:
            running = self.cluster.status()
            state["database"] = {
                "pid": running.pid if running else None,
                "version": self.cluster.binaries.version,
                "binaries": str(self.cluster.binaries.folder),
                "data": str(self.cluster.data),
            }
        self.home.write_state(state)

    def _watch(self) -> None:
        """Start again what dies."""
        assert self._worker is not None
        revivals = [_revival(self._worker, self.log)]
        if can_serve():
            # A server of our own is its user's alone; on another one services come from everybody who may deploy.
            self._looking = LookingProcess(self._worker.dsn, unconfined=self.cluster is not None, log=self.log)
            self._looking.start()
            self._write_state(self._worker.dsn)
            revivals.append(_looking_revival(self._looking, self.log))
        if self.cluster:
            name = "the PostgreSQL server"
            start = self._start_server
            server = Revival(name, gone=self._server_gone, ready=lambda: self._serves, start=start, log=self.log)
            revivals.insert(0, server)
        orphans = Orphans()
        while True:
            time.sleep(LOOK_S)
            if any([revival.look() for revival in revivals]):  # noqa: C419 - each of them
                self._write_state(self._worker.dsn)
            running = self.cluster.status() if self.cluster else None
            orphans.look(*self._worker.pids, running.pid if running else None, self._looking.pid if self._looking else None)

    def _server_gone(self) -> str | None:
        return "it does not run" if self.cluster and self.cluster.status() is None else None

    def _start_server(self) -> None:
        if self.cluster:
            self._serves = False
            self.cluster.start(port=self.port)
            self._serves = True

    def _stop(self) -> None:
        self.home.clear_state()
        if self._looking:
            self._looking.stop()
        if self._worker:
            self._worker.stop()
        if self.cluster:
            self.cluster.stop()
        if self._tail:
            self._tail.close()


class LogTail:
    """Hands on each line that is added to a file, from a thread."""

    def __init__(self, path: Path, take: Callable[[str], None]) -> None:
        self._path = path
        self._take = take
        self._offset = path.stat().st_size if path.exists() else 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        rest = b""
        while not self._done.wait(0.2):
            rest = self._read(rest)
        self._read(rest)

    def _read(self, rest: bytes) -> bytes:
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                rest += stream.read()
                self._offset = stream.tell()
        except OSError:
            return rest
        *lines, rest = rest.split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace"))
        return rest

    def close(self) -> None:
        """Hand on what is left and stop."""
        self._done.set()
        self._thread.join(timeout=5)


def _children() -> list[int]:
    """Return the ids of our children, zombies too."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (thread / "children").read_text("ascii").split())
    return found


def _exit_text(status: int | None) -> str:
    if status is not None and status < 0:
        return f"killed by signal {-status}"
    return f"exit code {status}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
