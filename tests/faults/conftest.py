"""A server that may be killed, and a worker as an operator starts it: `dbml worker`, which watches itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import psycopg
import pytest

from dbml.database.binaries import Binaries
from dbml.database.embedded import Cluster
from dbml.database.install import install

if TYPE_CHECKING:
    from ..conftest import Servers

T = TypeVar("T")
FAST = {"fsync": "off", "full_page_writes": "off"}


def until(true: Callable[[], T], seconds: float = 60.0) -> T:
    """Wait until something is true, and return it; what PostgreSQL raises is not yet true."""
    deadline = time.monotonic() + seconds
    said: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if found := true():
                return found
        except psycopg.Error as error:
            said = error
        time.sleep(0.02)
    raise AssertionError(f"did not come true within {seconds:g} s: {said}")


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that run still."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


class Operated:
    """A `dbml worker` with its own TMPDIR, and what is seen of it."""

    def __init__(self, dsn: str, folder: Path, *options: str, prefix: tuple[str, ...] = (), **environment: str) -> None:
        self.dsn = dsn
        self.temporary = folder
        self.log = folder.with_name(f"{folder.name}.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "dbml.cli", "worker", *options], stdout=log, stderr=log,
                env={**os.environ, "DBML_DSN": dsn, "TMPDIR": str(folder), "DBML_STANDBY": "false", **environment}, start_new_session=True,
            )  # fmt: skip

    @property
    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def ping(self) -> dict[str, Any]:
        with self.connect() as connection:
            return connection.execute("select dbml_channel.ping()").fetchone()[0]  # type: ignore[index]

    def ready(self) -> dict[str, Any]:
        """Wait until it answers, and return what it says."""

        def answer() -> dict[str, Any]:
            assert self.process.poll() is None, "it has ended"
            return self.ping()

        try:
            return until(answer)
        except AssertionError as late:
            raise AssertionError(f"{late}; exit code {self.process.poll()}, it printed: {self.printed[-4000:]}") from None

    def works(self) -> None:
        """Wait until a script runs through it."""

        def call() -> list[Any]:
            with self.connect() as connection:
                return connection.execute("select * from dbml.run_script('OutputDataSet = [1]') as t(a int)").fetchall()

        assert until(call) == [(1,)]

    def left(self) -> list[Path]:
        """Return what it has in its temporary directory."""
        return sorted(self.temporary.iterdir())

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a server's account may enter."""
    made = Path(tempfile.mkdtemp(prefix="dbml-faults-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def operate(folder: Path) -> Iterator[Callable[..., Operated]]:
    """Start a `dbml worker` for a DSN; it is stopped at the end."""
    started: list[Operated] = []

    def start(dsn: str, *options: str, **given: Any) -> Operated:
        temporary = folder / f"temporary{len(started)}"
        temporary.mkdir(exist_ok=True)
        temporary.chmod(0o711)
        started.append(Operated(dsn, temporary, *options, **given))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


@pytest.fixture(scope="session")
def stopped(servers: Servers) -> Callable[[Binaries], Path]:
    """Make a server with dbml once for each version, and return its folder to be copied."""
    made: dict[Path, Path] = {}

    def make(programs: Binaries) -> Path:
        if programs.folder not in made:
            one = Cluster(servers.folder / f"stopped{len(made)}", binaries=programs, settings=FAST)
            one.start()
            install(one.dsn("postgres"))
            one.stop()
            made[programs.folder] = one.base
        return made[programs.folder]

    return make


@pytest.fixture
def cluster(programs: Binaries, folder: Path, stopped: Callable[[Binaries], Path]) -> Iterator[Cluster]:
    """A server of the test's own, with dbml in its database `postgres`."""
    subprocess.run(["cp", "-a", stopped(programs), folder / "cluster"], check=True)
    made = Cluster(folder / "cluster", binaries=programs, settings=FAST)
    made.start()
    yield made
    made.stop()
