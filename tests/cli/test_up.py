"""`dbml up`, `down`, `status` and `psql`, as a user runs them: whole processes, nothing left behind."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from sklearn.dummy import DummyRegressor

from dbml.core import Model, Workspace
from dbml.home import Home

pytestmark = pytest.mark.once

PING = "select (dbml_channel.ping() ->> 'pid')::int"


@pytest.fixture
def status(dbml):
    """What `dbml status --json` says in a folder."""
    return lambda project, code=0: json.loads(dbml(project, "status", "--json", code=code))


def until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = true()
        except psycopg.Error:
            found = None
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not come true within {seconds} s")


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def running(project, dbml):
    """A project with a detached `dbml up`."""
    assert "ready" in dbml(project, "up", "--detach")
    return project


def test_detach_returns_when_psql_and_the_worker_answer(running, dbml, status):
    printed = dbml(running, "psql", "--", "-X", "-At", "-c", "select 6 * 7", "-c", PING)
    answer, worker = printed.split()
    assert answer == "42"
    found = status(running)
    assert found["running"] is True
    assert found["worker"]["pid"] == int(worker)
    with psycopg.connect(found["dsn"]) as connection:
        assert connection.execute(PING).fetchone() == (int(worker),)
        login = "select distinct usename ~ '^dbml_worker_[0-9]+$' from pg_stat_activity where application_name = 'dbml worker'"
        assert connection.execute(login).fetchall() == [(True,)], "the worker's login owns nothing"
    assert {found["pid"], found["database"]["pid"], found["worker"]["pid"]} <= set(psutil.pids())
    assert stat_mode(running / ".dbml" / "state.json") == 0o600


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_down_leaves_no_process_and_keeps_the_data(running, dbml, status):
    found = status(running)
    dbml(running, "psql", "--", "-qc", "create table kept as select 1 as x")
    processes = family(found["pid"]) + family(found["database"]["pid"]) + family(found["worker"]["pid"])
    assert "stopped" in dbml(running, "down")
    assert gone(processes)
    assert status(running, code=1)["dsn"] is None
    assert "nothing is running" in dbml(running, "down")
    dbml(running, "up", "--detach")
    assert dbml(running, "psql", "--", "-Atc", "select x from kept") == "1\n"


def test_a_second_up_says_that_it_is_running(running, dbml, status):
    assert "already running" in dbml(running, "up", code=1)
    before = status(running)
    assert "already running" in dbml(running, "up", "--detach")
    assert status(running)["pid"] == before["pid"]


def test_two_at_once_make_one(project, status, environment):
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "dbml.cli", "up", "--detach"],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=110)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert status(project)["running"] is True


def test_the_worker_is_started_again_within_a_second_or_so(running, status):
    found = status(running)
    old = family(found["worker"]["pid"])
    os.kill(found["worker"]["pid"], signal.SIGKILL)
    until(lambda: Home.of(running).state()["worker"]["pid"] != found["worker"]["pid"], seconds=1.5)
    with psycopg.connect(found["dsn"], autocommit=True) as connection:
        pid = until(lambda: connection.execute(PING).fetchone()[0], seconds=30)
    assert pid == Home.of(running).state()["worker"]["pid"]
    until(lambda: gone(old))


def test_the_server_is_started_again_too(running, status):
    found = status(running)
    os.kill(found["database"]["pid"], signal.SIGKILL)

    def back() -> bool:
        with psycopg.connect(found["dsn"]) as connection:
            return connection.execute("select pg_postmaster_start_time() is not null").fetchone()[0]

    until(lambda: Home.of(running).state()["database"]["pid"] != found["database"]["pid"])
    assert until(back)
    until(lambda: status(running)["running"], seconds=30)


def test_what_a_killed_up_leaves_is_taken_over(running, dbml, status):
    before = status(running)
    worker = family(before["worker"]["pid"])
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: gone(worker))
    assert psutil.pid_exists(before["database"]["pid"])
    assert status(running, code=1)["dsn"] is None
    dbml(running, "up", "--detach")
    after = status(running)
    assert after["database"]["pid"] == before["database"]["pid"]
    assert after["running"] is True


def test_down_stops_what_a_killed_up_leaves(running, dbml, status):
    before = status(running)
    processes = family(before["database"]["pid"]) + family(before["worker"]["pid"])
    os.kill(before["pid"], signal.SIGKILL)
    assert "stopped" in dbml(running, "down")
    until(lambda: gone(processes))


def test_ctrl_c_stops_the_foreground_and_its_log_names_who_speaks(project, environment):
    process = subprocess.Popen([sys.executable, "-m", "dbml.cli", "up"], cwd=project, env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    state = until(lambda: Home.of(project).state(), seconds=60)
    processes = family(process.pid) + family(state["database"]["pid"])
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert gone(processes)
    speakers = {line.split()[1] for line in printed.splitlines() if line[:2].isdigit()}
    assert {"dbml", "postgres", "worker"} <= speakers
    assert "ready" in printed
    assert "Traceback" not in printed
    assert state["dsn"].split(":")[2].split("@")[0] not in printed  # the password


def test_a_server_of_the_users_own(project, server, dbml, status):
    name = server.create()
    dsn = server.dsn(name)
    try:
        dbml(project, "up", "--detach", "--dsn", dsn)
        assert not (project / ".dbml" / "postgresql").exists()
        found = status(project)
        assert (found["dsn"], found["running"]) == (dsn, True)
        assert found["database"]["pid"] is None
        dbml(project, "down")
        with psycopg.connect(dsn) as connection, pytest.raises(psycopg.Error, match="does not answer"):
            connection.execute(PING)
    finally:
        dbml(project, "down")
        server.drop(name)


def test_what_goes_wrong_while_it_starts_is_said_by_detach_too(project, dbml):
    said = dbml(project, "up", "--detach", "--dsn", "postgresql://nobody@127.0.0.1:1/none", code=1)
    assert said.startswith("error: ")
    assert "refused" in said
    assert "Traceback" not in said


def test_a_port_is_opened_on_this_host(project, dbml, status):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    dbml(project, "up", "--detach", "--port", str(port))
    keys = psycopg.conninfo.conninfo_to_dict(status(project)["dsn"])
    keys.update(host="127.0.0.1", port=port)
    assert psycopg.connect(**keys).close() is None


def test_services_are_served_beside_the_worker_and_end_with_it(running, dbml, status, monkeypatch):
    """As in the walk-through: Model.deploy, then wait_for_deployment, and nothing else was started by hand."""
    monkeypatch.setenv("DBML_DSN", status(running)["dsn"])
    monkeypatch.setenv("DBML_TARGET", "process")
    monkeypatch.chdir(running)
    Path("model.pkl").write_bytes(pickle.dumps(DummyRegressor(strategy="constant", constant=1.0).fit([[0.0]], [1.0])))
    ws = Workspace.get("default")
    service = Model.deploy(ws, "beside", [Model.register(ws, "model.pkl", "constant")])
    service.wait_for_deployment(show_output=True)
    assert service.run('{"data": [[0.0]]}') == [1.0]
    looking = Home.of(running).state()["services"]["pid"]
    served = family(looking)
    assert len(served) > 2  # it, a runner, the scoring app
    os.kill(looking, signal.SIGKILL)
    until(lambda: Home.of(running).state()["services"]["pid"] != looking, seconds=60)
    until(lambda: gone(served), seconds=60)  # none is left of the former one, and another looks by now
    again = family(Home.of(running).state()["services"]["pid"])
    ws._connection.close()
    dbml(running, "down")
    assert gone(again)
