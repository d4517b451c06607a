"""Looking for services that nobody serves, and starting their runners: what `dbml services serve` does, a child of `dbml up`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from dbml import errors
from dbml.cli.confinement import confinement

LOOK_S = 1.0
ABLE_S = 60.0  # after which a target is looked for again

LASTED_S = 5.0  # from which on one has come to serve
STOP_S = 30.0

Key = tuple[str, str]  # workspace, name


class LookingProcess:
    """A `dbml services serve` as a child process, which ends when its standard input closes.

    dsn: with which it looks, and its runners serve.  unconfined: of the command.  log: called from a thread with "services"
    and each line that it, or a runner, prints.
    """

    def __init__(self, dsn: str, *, unconfined: bool, log: Callable[[str, str], None]) -> None:
        self._dsn, self._options, self._log = dsn, ["--unconfined"] if unconfined else [], log
        self._process: subprocess.Popen[str] | None = None
        self._began = 0.0

    @property
    def pid(self) -> int | None:
        """Return its process id, None before the first start."""
        return self._process.pid if self._process else None

    @property
    def has_lasted(self) -> bool:
        """Tell whether it has run for a while since it was started last."""
        return time.monotonic() - self._began > LASTED_S

    def start(self) -> None:
        """Start it, after an old one has been buried."""
        self._bury()
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dbml.cli", "services", "serve", "--until-eof", *self._options], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
            env={**os.environ, "DBML_DSN": self._dsn, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:  # until the last runner of it has ended too
            for line in process.stdout:
                self._log("services", line.rstrip("\n"))

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self._process.poll() if self._process else -1

    def stop(self) -> None:
        """End it, and with it its runners and what they serve."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._bury()

    def _bury(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def can_serve() -> bool:
    """Tell whether what serves as a process is installed here: the extra `serving`."""
    from dbml.serving.runner.interpreters import require_app

    try:
        require_app()
    except errors.DbmlError:
        return False
    return True


class _Session:
    """The one session, in which calls arrive too; opened again where it breaks."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._session: psycopg.Connection[Any] | None = None
        self._called: set[Key] = set()

    def unserved(self, wait_s: float) -> list[tuple[str, str, str]]:
        """Wait for a call, though not for long, and return what nobody serves; nothing where the database does not answer."""
        from dbml.core.webservice.runners import place
        from dbml.store.client import services as stored

        try:
            if self._session is None or self._session.closed:
                self._session = psycopg.connect(
                    self._dsn, autocommit=True, client_encoding="utf8", connect_timeout=10, application_name="dbml services",
                    prepare_threshold=None,
                )  # fmt: skip
                stored.look_after(self._session, place())
            else:
                for notification in self._session.notifies(timeout=wait_s, stop_after=1):
                    with contextlib.suppress(ValueError, TypeError):
                        workspace, name = json.loads(notification.payload)
                        self._called.add((str(workspace), str(name)))
            found = stored.unserved(self._session, self._called)
        except psycopg.OperationalError:
            self.close()
            time.sleep(wait_s)
            return []  # the database comes back
        self._called.clear()
        return found

    def close(self) -> None:
        """End it."""
        if self._session is not None:
            self._session.close()
            self._session = None


class _Able:
    """Which targets this machine has; asked again after a while."""

    def __init__(self, unconfined: bool, say: Callable[[str], None]) -> None:
        self._unconfined, self._say = unconfined, say
        self._known: dict[str, tuple[bool, float]] = {}

    def __call__(self, kind: str) -> bool:
        from dbml.serving.runner.reach import able

        known, at = self._known.get(kind, (False, float("-inf")))
        if time.monotonic() - at > ABLE_S:
            known = able(kind) and (kind != "process" or self._unconfined or _confines(self._say))
            self._known[kind] = (known, time.monotonic())
        return known


def _confines(say: Callable[[str], None]) -> bool:
    """Tell whether a process can be confined here, and say why not."""
    with tempfile.TemporaryDirectory(prefix="dbml-view-") as folder:
        said: list[str] = []
        if confinement(Path(folder), said.append) is None:
            say(f"processes are not served: {said[-1]}")
            return False
    return True


def look(dsn: str, stopping: threading.Event, *, unconfined: bool, say: Callable[[str], None]) -> None:
    """Start a runner for each service that has none, until `stopping` is set; then end them all.

    unconfined: processes too where bubblewrap cannot be used; else they are left to another machine.
    """
    session, able = _Session(dsn), _Able(unconfined, say)
    running: dict[Key, subprocess.Popen[bytes]] = {}
    confined = [] if unconfined else ["--confined"]
    try:
        while not stopping.is_set():
            running = {key: process for key, process in running.items() if process.poll() is None}
            for workspace, name, target in session.unserved(LOOK_S):
                if (workspace, name) in running or not able(target):
                    continue
                say(f"serving {name} of workspace {workspace}")
                running[workspace, name] = subprocess.Popen(
                    [sys.executable, "-m", "dbml.cli", "serve-service", name, "--workspace", workspace, *confined],
                    stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, "DBML_DSN": dsn},
                )  # fmt: skip
    finally:
        session.close()
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
