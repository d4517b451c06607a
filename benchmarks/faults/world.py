"""The server, the worker, and how long they take until all is well again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg

from dbml.database import binaries
from dbml.database.embedded import Cluster
from dbml.database.install import install

HANG_S = 60
SHORT_SCRIPT = "select * from dbml.run_script('OutputDataSet = [1]') as t(a int)"


class World:
    """The server, the worker, and who started what."""

    def __init__(self, major: int | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dbml-faults-"))
        self.folder.chmod(0o711)  # as root, the server runs as another account
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o711)
        settings = {"max_connections": "60"}
        self.cluster = Cluster(self.folder / "cluster", binaries=binaries.find(major), settings=settings)
        self.log = (self.folder / "worker.log").open("ab")
        self.worker: subprocess.Popen[bytes] | None = None
        self.dsn = ""
        self.stopping = False

    def start(self) -> None:
        """Start the server and the worker."""
        self.cluster.start()
        self.dsn = self.cluster.dsn("postgres")
        install(self.dsn)
        self.start_worker()

    def start_worker(self) -> None:
        """Start `dbml worker`, as systemd would."""
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "dbml.cli", "worker"], stdout=self.log, stderr=self.log, start_new_session=True,
            env={**os.environ, "DBML_DSN": self.dsn, "TMPDIR": str(self.temporary)},
        )  # fmt: skip

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection, which waits no longer than HANG_S for anything."""
        connection = psycopg.connect(self.dsn, autocommit=True, connect_timeout=5)
        connection.execute(f"set statement_timeout = '{HANG_S}s'")
        return connection

    def processes(self) -> list[psutil.Process]:
        """Return all processes that have to do with the worker: they have our folder in their environment."""
        found = []
        mark = os.fsencode(self.temporary)
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                about = Path(f"/proc/{process.pid}")
                seen = (about / "environ").read_bytes() + os.fsencode((about / "cwd").readlink())
                if mark in seen and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def stop(self) -> None:
        """Stop what is started, and delete the folder."""
        self.stopping = True
        if self.worker is not None and self.worker.poll() is None:
            self.worker.terminate()
            try:
                self.worker.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self.worker.kill()
        self.log.close()

    def close(self) -> None:
        """Stop the server and delete everything."""
        self.cluster.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def recover(world: World, began: float) -> float:
    """Wait until a script and a prediction succeed one after the other; returns the seconds since `began`."""
    deadline = began + HANG_S
    while time.monotonic() < deadline:
        try:
            with world.connect() as connection:
                asked = connection.execute(SHORT_SCRIPT).fetchall() == [(1,)]
                row = connection.execute("select dbml.predict('line', array[3]::float8[])").fetchone()
                if asked and row is not None and abs(row[0] - 7) < 1e-6:
                    return time.monotonic() - began
        except psycopg.Error:
            time.sleep(0.02)
    return float("inf")
