"""The PostgreSQL server, a backend, or the worker's own session dies: records are written, scripts end, nobody waits."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dbml.database.embedded import Cluster

from .conftest import Operated, until

SLEEPS = "run.log('step', 1.0)\nimport time; time.sleep(60)"
RUNS = "select status, error from dbml.runs where script like 'run.log%'"


class Caller:
    """A session that calls a script in a thread of its own."""

    def __init__(self, worker: Operated, script: str = SLEEPS) -> None:
        self.session = worker.connect()
        self.failed: psycopg.Error | None = None
        self._script = script
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        with worker.connect() as other:
            until(lambda: other.execute("select 1 from dbml.active_scripts where cardinality(satellites) = 1").fetchone())

    def _call(self) -> None:
        try:
            self.session.execute("select * from dbml.run_script(%s) as t(a int)", (self._script,))
        except psycopg.Error as error:
            self.failed = error

    def wait(self) -> psycopg.Error:
        self._thread.join(timeout=30)
        assert not self._thread.is_alive() and self.failed is not None
        self.session.close()
        return self.failed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT])
def test_the_server_dies_in_the_midst_of_a_script(cluster: Cluster, operate: Callable[..., Operated], number: int) -> None:
    """Killed, shut down at once, or stopped: each while a script runs."""
    worker = operate(cluster.dsn("postgres"))
    worker.works()
    serving = worker.ping()["pid"]
    with worker.connect() as session:
        session.execute("select * from dbml.run_script('OutputDataSet = [7]', experiment => 'before') as t(a int)")
    caller = Caller(worker)
    running = cluster.status()
    assert running is not None
    os.kill(running.pid, number)
    assert isinstance(caller.wait(), psycopg.OperationalError)
    until(lambda: cluster.status() is None)
    time.sleep(1.5)  # what the script's end says is to be kept for a while
    cluster.start()
    worker.works()
    assert worker.ping()["pid"] == serving
    with worker.connect() as session:
        status, error = until(lambda: session.execute(RUNS + " and finished_at is not null").fetchone())
        assert (status, error) == ("interrupted", "the database server was stopped or died while the script ran")
        before = session.execute("select status from dbml.runs where experiment = 'before'").fetchall()
        assert before == [("completed",)]
        assert session.execute("select count(*) from dbml.runs where status in ('running', 'queued')").fetchone() == (0,)
        assert worker.ping()["running"] == 0


@pytest.mark.parametrize("how", ["terminated", "killed"])
def test_the_callers_backend_dies(cluster: Cluster, operate: Callable[..., Operated], how: str) -> None:
    worker = operate(cluster.dsn("postgres"))
    worker.works()
    caller = Caller(worker)
    with worker.connect() as other:
        (satellite,) = other.execute("select satellites[1] from dbml.active_scripts").fetchone()  # type: ignore[misc]
        if how == "terminated":
            other.execute("select pg_terminate_backend(%s)", (caller.session.info.backend_pid,))
        else:  # the postmaster ends every other backend, and recovers
            os.kill(caller.session.info.backend_pid, signal.SIGKILL)
    caller.wait()
    until(lambda: not os.path.exists(f"/proc/{satellite}"))  # noqa: PTH110
    worker.works()
    with worker.connect() as session:
        found = until(lambda: session.execute(RUNS + " and finished_at is not null").fetchone())
    if how == "terminated":
        assert found == ("canceled", "the caller's connection ended in mid-call")
    else:
        assert found == ("interrupted", "the database server was stopped or died while the script ran")


def test_runs_that_end_while_the_records_cannot_be_written_are_recorded(
    cluster: Cluster, operate: Callable[..., Operated], connected: Any
) -> None:
    """The worker's session is lost and cannot come back for a while, because its role may not connect."""
    with connected(cluster) as session:
        session.execute("create role recorder superuser login password 'secret'")
    worker = operate(cluster.dsn("postgres").replace("postgres:", "recorder:", 1).replace(cluster.password, "secret"))
    worker.ready()
    caller = "select * from dbml.run_script('run.log(''x'', 1.5); OutputDataSet = [2]', experiment => 'away')"
    upload = "import pathlib\npathlib.Path('kept.txt').write_text('kept')\nrun.upload_file('kept.txt', 'kept.txt')"
    with connected(cluster) as session:
        session.execute("alter role recorder nologin")
        session.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dbml worker'")
        until(lambda: "records wait" in worker.printed)
        assert session.execute(caller + " as t(a int)").fetchall() == [(2,)]
        assert session.execute("select * from dbml.run_script(%s) as t(a int)", (upload,)).fetchall() == []
        assert session.execute("select count(*) from dbml.runs").fetchone() == (0,)
        session.execute("alter role recorder login")
        until(lambda: session.execute("select count(*) = 2 from dbml.runs where status = 'completed'").fetchone() == (True,))
        assert session.execute("select name, value from dbml.metrics").fetchall() == [("x", 1.5)]
        assert session.execute(
            "select convert_from(dbml.artifact_bytes(run_id, name), 'UTF8') from dbml.artifacts"
        ).fetchall() == [("kept",)]
    until(lambda: "takes records again" in worker.printed)


def test_a_run_of_a_worker_that_never_comes_back(installed: str, operate: Callable[..., Operated]) -> None:
    """It is seen as interrupted as soon as no worker is there, before another one says so."""
    worker = operate(installed, "--no-supervise")
    worker.ready()
    caller = Caller(worker)
    with worker.connect() as session:
        assert session.execute(RUNS).fetchone() == ("running", None)
        worker.process.kill()
        caller.wait()
        _, error = until(lambda: session.execute(RUNS + " and status = 'interrupted'").fetchone())
        assert "is not back" in error
        assert session.execute("select status from dbml._runs").fetchone() == ("running",)


def test_two_workers_leave_each_others_runs_alone(installed: str, operate: Callable[..., Operated]) -> None:
    first = operate(installed, "--no-supervise")
    first.ready()
    caller = Caller(first)
    second = operate(installed, "--no-supervise")
    until(lambda: second.ping()["pid"] == second.process.pid)
    assert "another worker serves this database still" in second.printed
    with second.connect() as session:
        assert session.execute(RUNS).fetchone() == ("running", None)
        first.process.kill()
        caller.wait()
        until(lambda: session.execute("select status from dbml._runs").fetchone() == ("interrupted",))
    assert "1 runs of a former worker are marked as interrupted" in second.printed


@pytest.fixture
def connected() -> Callable[[Cluster], psycopg.Connection[Any]]:
    """Open a connection to a server's database in autocommit mode."""
    return lambda cluster: psycopg.connect(cluster.dsn("postgres"), autocommit=True)
