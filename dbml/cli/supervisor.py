"""What `dbml up` runs: the embedded server and the worker, kept alive, with one log.

A worker process ends when the pipe that is its standard input closes, so that none outlives its
supervisor, however that ends; a server that does is taken over by the next supervisor.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg

from dbml import __version__, errors
from dbml.cli.worker import READY
from dbml.database.address import listening_place
from dbml.database.dsn import without_password
from dbml.database.embedded import Cluster
from dbml.database.home import Home

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_S = 0.1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
HEALTHY_S = 30.0  # after which a crash counts as the first one again
SERVER_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ \S+ \[\d+\] ")  # time and pid

Log = Callable[[str, str], None]


class WorkerProcess:
    """A `dbml worker` as a child process.

    folder: for its Unix socket, as of `listening_place`.  listen, advertise: as of `dbml worker`; options: more of its own.
    log: called from a thread with "worker" and each line that it prints.
    """

    def __init__(
        self,
        dsn: str,
        folder: Path,
        *,
        listen: str | None = None,
        advertise: str | None = None,
        options: Sequence[str] = (),
        log: Log | None = None,
    ) -> None:
        self.dsn = dsn
        self.folder = folder
        self.options = options
        self.listen = listen
        self.advertise = advertise
        self.last_lines: list[str] = []
        self._ready = threading.Event()
        self._log = log
        self._place = contextlib.ExitStack()  # what a start made in the file system
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Return its process id, None before the first start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it; `wait_ready` tells when it serves."""
        self._ready.clear()
        # Its scratch folders are ours to delete, should it be killed.
        scratch = tempfile.mkdtemp(prefix="dbml-")
        self._place.callback(shutil.rmtree, scratch, ignore_errors=True)
        listen = self.listen or self._place.enter_context(listening_place(self.dsn, self.folder))
        command = [sys.executable, "-m", "dbml.cli", "worker", "--listen", listen, "--until-eof", *self.options]
        if self.advertise:
            command += ["--advertise", self.advertise]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
            env={**os.environ, "DBML_DSN": self.dsn, "PYTHONUNBUFFERED": "1", "TMPDIR": scratch},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line == f"{READY}\n":
                self._ready.set()
                continue
            self.last_lines = [*self.last_lines[-19:], line.rstrip("\n")]
            if self._log:
                self._log("worker", line.rstrip("\n"))

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self._process.poll() if self._process else -1

    def wait_ready(self, *, timeout_s: float = 60) -> None:
        """Wait until this very process answers a call of the database.

        Raises: WorkerUnreachable with the last thing it said.
        """
        deadline = time.monotonic() + timeout_s
        complaint, hint = "it did not answer in time", None
        with psycopg.connect(self.dsn, client_encoding="utf8", autocommit=True, connect_timeout=10) as connection:
            while time.monotonic() < deadline:
                if self.poll() is not None:
                    if self._reader:
                        self._reader.join(timeout=2)
                    complaint, hint = self._last_words()
                    break
                if not self._ready.wait(0.05):
                    continue
                try:
                    row = connection.execute("select dbml_channel.ping() ->> 'pid'").fetchone()
                except errors.WorkerError as error:
                    complaint = error.message
                else:
                    if row and row[0] == str(self.pid):
                        return
                    complaint = f"another worker, process {row[0] if row else None}, serves this database"
                time.sleep(0.05)
        raise errors.WorkerUnreachable(f"the worker must start within {timeout_s:g} s: {complaint}", hint=hint)

    def _last_words(self) -> tuple[str, str | None]:
        """Return the error that it printed last, and its hint; else its last line."""
        said = [line for line in self.last_lines if line] or ["it printed nothing"]
        complaints = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
        hints = [line.removeprefix("hint: ") for line in said if line.startswith("hint: ")]
        return (complaints or said)[-1], hints[-1] if hints else None

    def stop(self, *, timeout_s: float = 10) -> None:
        """Stop it and wait until it is gone, by force if it takes longer."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        self._close(process)
        self._place.close()

    def _close(self, process: subprocess.Popen[str]) -> None:
        if self._reader:
            self._reader.join(timeout=5)
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()

    def restart(self) -> None:
        """Start a new one after the old one has died."""
        if self._process:
            self._process.wait()
            self._close(self._process)
        self._place.close()
        self.start()


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
        self._tail: LogTail | None = None
        self._pause_s = FIRST_PAUSE_S
        self._started = 0.0

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
        if self.cluster:
            self._tail = LogTail(self.cluster.log_file, lambda line: self.log("postgres", SERVER_PREFIX.sub("", line)))
            self.cluster.start(port=self.port)
        dsn = self._own_dsn or (self.cluster.dsn() if self.cluster else "")
        self.log("dbml", f"installing dbml {__version__} in {without_password(dsn)}")
        install(dsn)
        self._worker = WorkerProcess(
            dsn,
            (self.cluster.base if self.cluster else self.home.path) / "worker",
            listen=self._listen,
            advertise=self._advertise,
            log=self.log,
        )
        self._worker.start()
        self._started = time.monotonic()
        self._worker.wait_ready()
        self._write_state(dsn)
        return dsn

    def _write_state(self, dsn: str) -> None:
        state: dict[str, Any] = {
            "dsn": dsn,
            "version": __version__,
            "pid": os.getpid(),
            "started_at": time.time(),
            "worker": {"pid": self._worker.pid if self._worker else None},
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
        """Start again what dies, at once the first time, later with growing pauses."""
        assert self._worker is not None
        while True:
            time.sleep(LOOK_S)
            if self.cluster and self.cluster.status() is None:
                self.log("dbml", "the PostgreSQL server is gone, starting it again")
                self._again(self._start_server)
            if self._worker.poll() is not None:
                self.log("dbml", f"the worker is gone ({_exit_text(self._worker.poll())}), starting it again")
                self._again(self._worker.restart)
            if time.monotonic() - self._started > HEALTHY_S:
                self._pause_s = FIRST_PAUSE_S

    def _start_server(self) -> None:
        if self.cluster:
            self.cluster.start(port=self.port)

    def _again(self, action: Callable[[], None]) -> None:
        assert self._worker is not None
        if self._pause_s > FIRST_PAUSE_S:
            time.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        self._started = time.monotonic()
        try:
            action()
        except (psycopg.Error, OSError) as error:
            self.log("dbml", f"error: {error}")
        else:
            self._write_state(self._worker.dsn)

    def _stop(self) -> None:
        self.home.clear_state()
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


def _exit_text(status: int | None) -> str:
    if status is not None and status < 0:
        return f"killed by signal {-status}"
    return f"exit code {status}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
