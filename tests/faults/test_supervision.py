"""`dbml worker` watches the process that serves: it is back at its address, and nothing is left, whoever dies."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from dbml import errors
from dbml.database.embedded import Cluster
from dbml.temporary import SCRATCH, SOCKETS, sweep, temporary_directory

from .conftest import Operated, family, living, until

pytestmark = pytest.mark.once

ONE = "select * from dbml.run_script('OutputDataSet = [1]') as t(a int)"
STANDS_BY = r"a worker stands by, process (\d+)"
ADDRESS = "select host, port from dbml._worker"


@pytest.mark.parametrize("options", [(), ("--listen", "127.0.0.1:0")])
def test_a_killed_worker_is_back_at_its_address(
    installed: str, operate: Callable[..., Operated], options: tuple[str, ...]
) -> None:
    worker = operate(installed, *options)
    serving = worker.ready()["pid"]
    assert serving != worker.process.pid
    old = family(serving)
    with worker.connect() as session:
        address = session.execute(ADDRESS).fetchone()
        assert session.execute(ONE).fetchall() == [(1,)]
        session.add_notice_handler(lambda _: os.kill(serving, signal.SIGKILL))
        with pytest.raises(errors.WorkerLost, match="mid-call"):
            session.execute("select * from dbml.run_script('import time; print(1, flush=True); time.sleep(60)') as t(a int)")
        worker.works()
        assert session.execute(ONE).fetchall() == [(1,)]  # the session goes on
        assert session.execute(ADDRESS).fetchone() == address
        assert worker.ping()["pid"] != serving
        status = session.execute("select status, sqlstate, error from dbml.runs where script like '%sleep%'").fetchone()
        assert status == ("interrupted", "ML011", "the worker was stopped or died while the script ran")
    until(lambda: not living(old))
    assert "the worker is gone (killed by signal 9), starting it again" in worker.printed
    assert len([path for path in worker.left() if path.name.startswith(SCRATCH)]) == 1


@pytest.mark.parametrize("options", [(), ("--listen", "127.0.0.1:0")])
def test_a_worker_that_stands_by_takes_the_place_of_a_killed_one(
    installed: str, operate: Callable[..., Operated], options: tuple[str, ...]
) -> None:
    worker = operate(installed, *options, DBML_STANDBY="true")
    seen = [worker.ready()["pid"]]
    everything = family(worker.process.pid)
    with worker.connect() as session:
        address = session.execute(ADDRESS).fetchone()
        for turn in range(2):
            standing_by = until(lambda turn=turn: re.findall(STANDS_BY, worker.printed)[turn:], 150)[0]
            everything += family(worker.process.pid)
            os.kill(seen[-1], signal.SIGKILL)
            assert until(worker.ping)["pid"] == int(standing_by)
            assert session.execute(ONE).fetchall() == [(1,)]
            assert session.execute(ADDRESS).fetchone() == address
            seen.append(int(standing_by))
    until(lambda: not living([process for process in everything if process.pid in seen[:-1]]))
    everything += family(worker.process.pid)
    worker.stop()
    until(lambda: not living(everything))
    assert worker.left() == []


def test_the_one_that_stands_by_is_replaced_and_ends_with_its_supervisor(
    installed: str, operate: Callable[..., Operated]
) -> None:
    worker = operate(installed, DBML_STANDBY="true")
    serving = worker.ready()["pid"]
    (standing_by,) = until(lambda: re.findall(STANDS_BY, worker.printed), 150)
    killed = psutil.Process(int(standing_by))
    killed.kill()
    until(lambda: not living([killed]))
    os.kill(serving, signal.SIGKILL)
    worker.works()
    assert "which stood by, serves" not in worker.printed
    until(lambda: re.findall(STANDS_BY, worker.printed)[1:], 200)
    everything = family(worker.process.pid)
    worker.process.kill()
    until(lambda: not living(everything))


def test_what_a_killed_worker_has_left_is_ended(installed: str, operate: Callable[..., Operated]) -> None:
    """A script's process in a session of its own, whose satellite, zygote and worker are killed at once."""
    worker = operate(installed)
    serving = worker.ready()["pid"]
    script = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(300)\ntime.sleep(300)"
    failed: list[str | None] = []

    def call() -> None:
        with worker.connect() as session:
            try:
                session.execute("select * from dbml.run_script(%s) as t(a int)", (script,))
            except psycopg.Error as error:
                failed.append(error.sqlstate)

    thread = threading.Thread(target=call)
    thread.start()
    with worker.connect() as other:
        until(lambda: other.execute("select cardinality(satellites) from dbml.active_scripts").fetchone() == (1,))
        (satellite,) = other.execute("select satellites[1] from dbml.active_scripts").fetchone()  # type: ignore[misc]
        below = until(lambda: psutil.Process(satellite).children(recursive=True))
        all_of_it = family(serving)
        for process in all_of_it:
            if process not in below:
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended with one that was killed before
                    process.kill()
    thread.join(timeout=30)
    assert failed == ["ML011"]
    until(lambda: not living([*all_of_it, *below]))
    worker.works()


def test_a_stopped_worker_leaves_nothing(installed: str, operate: Callable[..., Operated]) -> None:
    worker = operate(installed)
    worker.works()
    processes = family(worker.process.pid)
    with worker.connect() as session:
        (host,) = session.execute("select host from dbml._worker").fetchone()  # type: ignore[misc]
    assert worker.stop() == 0
    assert not living(processes) and worker.left() == []
    assert not Path(host).exists() or not host.startswith("/tmp/")


def test_a_killed_supervisor_takes_the_worker_along(installed: str, operate: Callable[..., Operated]) -> None:
    worker = operate(installed)
    worker.ready()
    processes = family(worker.process.pid)
    worker.process.kill()
    until(lambda: not living(processes))


def test_leftovers_of_all_that_was_killed_at_once_are_swept(
    installed: str, operate: Callable[..., Operated], folder: Path
) -> None:
    worker = operate(installed)
    worker.works()
    processes = family(worker.process.pid)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # a namespace ends with its first process
            process.kill()
    worker.process.wait()
    until(lambda: not living(processes))
    left = worker.left()
    assert left
    again = operate(installed, TMPDIR=str(worker.temporary))
    again.ready()
    assert not [path for path in left if path.exists()]


def test_somebody_elses_directory_is_not_swept(folder: Path) -> None:
    with temporary_directory(SCRATCH, folder) as mine, temporary_directory(SOCKETS, folder) as sockets:
        (mine / "kept").touch()
        left = folder / f"{SCRATCH}left"
        left.mkdir()
        (left / "file").touch()
        assert sweep(folder) == [left]
        assert (mine / "kept").exists() and sockets.is_dir() and not left.exists()
    assert not mine.exists() and not sockets.exists()


def test_without_supervision_there_is_one_process(installed: str, operate: Callable[..., Operated]) -> None:
    worker = operate(installed, "--no-supervise")
    assert worker.ready()["pid"] == worker.process.pid
    worker.process.kill()
    assert worker.process.wait() == -signal.SIGKILL


def test_a_worker_that_cannot_start_says_so_once(empty: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DBML_DSN": empty}
    command = [sys.executable, "-m", "dbml.cli", "worker"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("error: the database has no schema dbml") == 1 and "starting it again" not in done.stderr


def test_it_waits_for_a_database_that_is_not_there_yet(cluster: Cluster, operate: Callable[..., Operated]) -> None:
    dsn = cluster.dsn("postgres")
    cluster.stop()
    worker = operate(dsn)
    until(lambda: "waiting for the database, which does not answer yet" in worker.printed)
    cluster.start()
    worker.works()


def test_the_wait_for_a_database_ends(operate: Callable[..., Operated]) -> None:
    worker = operate("postgresql://nobody@127.0.0.1:1/none", "--wait-for-database", "1")
    assert worker.process.wait(timeout=60) == 1
    assert "waiting for the database" in worker.printed and "error: " in worker.printed
