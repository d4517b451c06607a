"""A `dbml worker` as a child process: how it is started, what it says, and the one that stands by for it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

from dbml import errors
from dbml.database.address import listening_place
from dbml.temporary import SCRATCH, sweep, temporary_directory

READY = "dbml worker: ready"  # a worker's line when it answers calls; the place where it listens follows
WARM = "dbml worker: warm"  # and when it is as fast as it gets
STANDS_BY = "dbml worker: stands by"  # or when it waits, with everything imported, for a line that says that it is its turn
STANDBY_AFTER_S = 3.0  # from the moment when the one that serves is warm: calls that have waited for it go first
STANDBY_AGAIN_S = 30.0  # after one has died before it was of use
STOP_S = 20.0

WORKER_NEEDS = ("cloudpickle", "packaging", "sklearn", "yaml")  # of the extra `worker`


def require_worker() -> None:
    """Refuse to start a worker where its packages are not installed, before anything else is started for it.

    Raises: DbmlError.
    """
    missing = [name for name in WORKER_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise errors.DbmlError(
            f"a worker needs what is not installed here: {', '.join(missing)}", hint="pip install 'dbml[worker]'"
        )


class Launched:
    """One process of `dbml worker`, from its start to its end.

    log: called from a thread with each line that it prints.
    """

    def __init__(self, command: Sequence[str], login: str, log: Callable[[str], None]) -> None:
        # Its scratch folders are ours to delete, should it be killed.
        self._scratch = contextlib.ExitStack()
        scratch = self._scratch.enter_context(temporary_directory(SCRATCH))
        scratch.chmod(0o711)  # scripts may have another account, and pass through to a directory of theirs
        self.is_announced = False  # whether it was said that it stands by
        self.place: str | None = None  # where it listens, when it is ready
        self.ready, self.warm, self.stands_by = threading.Event(), threading.Event(), threading.Event()
        self.last_lines: list[str] = []
        self._log = log
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
            # Of help texts in colours, which take half of its start to import, it has none to print.
            env={**os.environ, "DBML_DSN": login, "PYTHONUNBUFFERED": "1", "TMPDIR": str(scratch), "TYPER_USE_RICH": "0"},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line = text.rstrip("\n")
            if line.startswith(f"{READY} "):
                self.place = line.removeprefix(f"{READY} ")
                self.ready.set()
            elif line == WARM:
                self.warm.set()
            elif line == STANDS_BY:
                self.stands_by.set()
            else:
                self.last_lines = [*self.last_lines[-19:], line]
                self._log(line)

    def read_to_the_end(self) -> None:
        """Wait until everything that it has printed is read."""
        self._reader.join(timeout=2)

    def take_turn(self) -> bool:
        """Let it serve that stands by, or is about to; False where it has ended."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return self.process.poll() is None

    def stop(self, timeout_s: float) -> None:
        """Stop it and wait until it is gone, by force if it takes longer."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.close()

    def close(self) -> None:
        """Let go of what belonged to it that has ended."""
        self._reader.join(timeout=5)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self._scratch.close()


class WorkerProcess:
    """A `dbml worker` as a child process.

    dsn: of one who may call it, to see whether it answers.  login: its own DSN, where that is another.
    folder: for its Unix socket, as of `listening_place`.  listen, advertise: as of `dbml worker`; options: more of its own.
    log: called from a thread with "worker" and each line that it prints.
    standby: keep another one that has imported everything, and serves at once where this one has died.
    """

    def __init__(
        self,
        dsn: str,
        folder: Path | None,
        *,
        login: str | None = None,
        listen: str | None = None,
        advertise: str | None = None,
        options: Sequence[str] = (),
        log: Callable[[str, str], None] | None = None,
        standby: bool = False,
    ) -> None:
        self.dsn = dsn
        self.login = login or dsn
        self.folder = folder
        self.options = options
        self.listen = listen
        self.advertise = advertise
        self._log = log
        self._place = contextlib.ExitStack()  # where it listens, from start to stop
        self._asked: str | None = None
        self._listens: str | None = None
        self._launched: Launched | None = None
        self._keeps_standby = standby
        self._standby: Launched | None = None
        self._standby_due: float | None = None  # when one is started

    @property
    def pid(self) -> int | None:
        """Return its process id, None before the first start."""
        return self._launched.process.pid if self._launched else None

    @property
    def pids(self) -> list[int]:
        """Return its process id, and that of the one that stands by."""
        return [launched.process.pid for launched in (self._launched, self._standby) if launched]

    @property
    def is_ready(self) -> bool:
        """Tell whether it has said, since it was started last, that it answers calls."""
        return self._launched is not None and self._launched.ready.is_set()

    @property
    def last_lines(self) -> list[str]:
        """Return the last lines that it has printed."""
        return self._launched.last_lines if self._launched else []

    def start(self) -> None:
        """Start it; `wait_ready` tells when it serves."""
        sweep()
        if self._listens is None:
            self._asked = self.listen or self._place.enter_context(listening_place(self.dsn, self.folder))
            self._listens = self._asked
        self._launched = self._launch()

    def _launch(self, *more: str) -> Launched:
        assert self._listens is not None
        spare = "--standby" if self._keeps_standby else "--no-standby"
        command = [
            sys.executable, "-m", "dbml.cli.worker", "--listen", self._listens, "--until-eof", spare, *more, *self.options
        ]  # fmt: skip
        if self.advertise:
            command += ["--advertise", self.advertise]
        return Launched(command, self.login, lambda line: self._log("worker", line) if self._log else None)

    def _say(self, line: str) -> None:
        if self._log:
            self._log("dbml", line)

    def look_after_standby(self) -> None:
        """Start the one that stands by when the one that serves has been warm for a while, and when it has died."""
        if not self._keeps_standby or self._launched is None:
            return
        if self._launched.place is not None:
            self._listens = self._launched.place  # the port that it chose stays its port
        now = time.monotonic()
        if self._standby is not None:
            if self._standby.stands_by.is_set() and not self._standby.is_announced:
                self._standby.is_announced = True
                self._say(f"a worker stands by, process {self._standby.process.pid}")
            if self._standby.process.poll() is not None:
                self._standby.close()
                pause_s = STANDBY_AFTER_S if self._standby.stands_by.is_set() else STANDBY_AGAIN_S
                self._standby, self._standby_due = None, now + pause_s
        elif self._standby_due is None:
            if self._launched.warm.is_set():
                self._standby_due = now + STANDBY_AFTER_S
        elif now >= self._standby_due:
            self._standby, self._standby_due = self._launch("--in-waiting"), None

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self._launched.process.poll() if self._launched else -1

    def wait_ready(self, *, timeout_s: float = 180) -> None:
        """Wait until this very process answers a call of the database, and is warm.

        Raises: WorkerUnreachable with the last thing it said.
        """
        deadline = time.monotonic() + timeout_s
        rule, complaint, hint = f"must start within {timeout_s:g} s", "it did not answer in time", None
        launched = self._launched
        assert launched is not None
        with psycopg.connect(self.dsn, client_encoding="utf8", autocommit=True, connect_timeout=10) as connection:
            while time.monotonic() < deadline:
                if self.poll() is not None:
                    launched.read_to_the_end()
                    rule, (complaint, hint) = "ended while it started", self._last_words()
                    break
                if not launched.warm.wait(0.05):
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
        raise errors.WorkerUnreachable(f"the worker {rule}: {complaint}", hint=hint)

    def _last_words(self) -> tuple[str, str | None]:
        """Return the error that it printed last, and its hint; else its last line."""
        said = [line for line in self.last_lines if line] or ["it printed nothing"]
        complaints = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
        hints = [line.removeprefix("hint: ") for line in said if line.startswith("hint: ")]
        return (complaints or said)[-1], hints[-1] if hints else None

    def stop(self, *, timeout_s: float = 10) -> None:
        """Stop it and wait until it is gone, by force if it takes longer."""
        if self._standby is not None and self._standby.process.poll() is None:
            self._standby.process.terminate()  # they end side by side
        if self._launched is None:
            return
        self._launched.stop(timeout_s)
        if self._standby is not None:
            self._standby.stop(timeout_s)
            self._standby = None
        self._place.close()
        self._listens = None

    def restart(self) -> None:
        """Let the one that stands by serve after the old one has died, else a new one; at the same address if it can be had."""
        if self._launched:
            self._launched.process.wait()
            self._launched.close()
            # Its port may be another's by now, where it never had it.
            self._listens = self._launched.place or self._asked
        standby, self._standby, self._standby_due = self._standby, None, None
        if standby is not None and standby.take_turn():
            self._say(f"process {standby.process.pid}, which stood by, serves")
            sweep()
            self._launched = standby
            return
        if standby is not None:
            standby.stop(STOP_S)
        self.start()
