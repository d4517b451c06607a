"""The compose file as users start it: a server, the installation and a worker in containers of their own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import psycopg
import pytest

from .stack import Checkout, Stack

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

DOUBLE = """SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet * factor',
    input_query => 'SELECT g AS x FROM generate_series(1, 3) g', params => '{"factor": 3}') AS t(x int)"""


@pytest.fixture(scope="module")
def stack(checkout: Checkout) -> Iterator[Stack]:
    """The project as docker-compose.yml has it; nothing of it is left."""
    password = secrets.token_hex(8)
    with checkout.started("docker-compose.yml", password, POSTGRES_PASSWORD=password) as made:
        yield made


@pytest.fixture
def db(stack: Stack) -> Iterator[psycopg.Connection]:
    with stack.connect() as connection:
        yield connection


def test_the_installation_ends_well_and_everything_answers(stack: Stack) -> None:
    assert stack.inspect("install")["State"]["ExitCode"] == 0
    said = stack.verify()
    assert "WRONG" not in said
    assert "worker:7070" in said


def test_scripts_and_predictions_from_the_host(stack: Stack, db: psycopg.Connection) -> None:
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]
    trained = """
from sklearn.linear_model import LinearRegression
OutputDataSet = [run.register_model('line', LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]))]"""
    assert db.execute("SELECT * FROM dbml.run_script(%s) AS t(version int)", [trained]).fetchone() == (1,)
    assert db.execute("SELECT round(dbml.predict('line', array[4.0])::numeric, 6)").fetchone() == (8,)


def test_by_psql_in_the_servers_container(stack: Stack) -> None:
    said = stack("exec", "-T", "postgres", "psql", "-U", "postgres", "-At", "-c", DOUBLE, "dbml")
    assert said.split() == ["3", "6", "9"]


def test_a_session_goes_on_after_the_worker_was_restarted(stack: Stack, db: psycopg.Connection) -> None:
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]
    before = stack.inspect("worker")["State"]["StartedAt"]
    stack("restart", "worker")
    stack.wait_healthy("worker")
    assert stack.inspect("worker")["State"]["StartedAt"] > before
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]
    assert "WRONG" not in stack.verify()


def test_a_worker_that_is_stopped_is_told_apart_and_comes_back(stack: Stack, db: psycopg.Connection) -> None:
    stack("stop", "worker")
    try:
        with pytest.raises(psycopg.DatabaseError) as caught:
            db.execute(DOUBLE)
        assert caught.value.sqlstate == "ML010"
        assert db.execute("SELECT 1").fetchone() == (1,)
    finally:
        stack("start", "worker")
        stack.wait_healthy("worker")
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]


def test_no_process_of_the_worker_has_rights_to_speak_of(stack: Stack, db: psycopg.Connection) -> None:
    db.execute(DOUBLE)
    listed = stack("exec", "-T", "worker", "sh", "-c", "cat /proc/[0-9]*/status").split("Name:\t")[1:]
    processes = [dict(line.split(":\t", 1) for line in f"Name:\t{one}".splitlines() if ":\t" in line) for one in listed]
    assert len(processes) > 3  # the init, the listener, the zygote, and cat itself
    for process in processes:
        assert process["Uid"].split() == ["10001"] * 4, process
        assert {process[f"Cap{kind}"].strip("0") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {""}, process
        assert process["NoNewPrivs"] == "1", process


def test_the_init_reaps_what_a_script_leaves_behind(stack: Stack, db: psycopg.Connection) -> None:
    orphan = "import os\nif os.fork() == 0:\n    if os.fork() == 0:\n        import time; time.sleep(1)\n    os._exit(0)\nOutputDataSet = [1]"
    assert db.execute("SELECT * FROM dbml.run_script(%s) AS t(x int)", [orphan]).fetchone() == (1,)
    deadline = time.monotonic() + 20
    while "\nState:\tZ" in stack("exec", "-T", "worker", "sh", "-c", "cat /proc/[0-9]*/status"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_only_the_server_is_published_and_only_on_this_host(stack: Stack) -> None:
    published = stack.inspect("postgres")["NetworkSettings"]["Ports"]["5432/tcp"]
    assert [one["HostIp"] for one in published] == ["127.0.0.1"]
    assert not any(stack.inspect("worker")["NetworkSettings"]["Ports"].values())


def test_the_password_is_in_no_image_and_on_no_command_line_and_the_worker_has_none(stack: Stack, db: psycopg.Connection) -> None:
    password = psycopg.conninfo.conninfo_to_dict(stack.dsn)["password"]
    assert password not in stack.engine.docker("image", "inspect", stack.image)
    assert password not in stack.engine.docker("history", "--no-trunc", stack.image)
    assert password not in stack("exec", "-T", "worker", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert password not in stack("exec", "-T", "worker", "sh", "-c", "env; cat /run/dbml/*")
    logins = db.execute(
        "SELECT DISTINCT a.usename::text, r.rolsuper FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid"
        " WHERE a.application_name = 'dbml worker'"
    ).fetchall()
    assert logins == [("dbml_container", False)]
