"""`dbml verify` finds what is wrong, one fault at a time, and says how to mend it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest

from dbml.database.verify import Check, verify


def faults(dsn: str) -> list[Check]:
    return [check for check in verify(dsn) if not check.ok]


def change(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement)


def only_fault(dsn: str) -> Check:
    found = faults(dsn)
    assert len(found) == 1, found
    assert found[0].mend
    return found[0]


def test_nothing_is_wrong(dsn):
    checks = verify(dsn)
    assert [check for check in checks if not check.ok] == []
    assert [check.name for check in checks] == [
        "server",
        "server version",
        "dblink",
        "schema",
        "clock",
        "worker address",
        "worker rights",
        "worker login",
        "worker call",
    ]


def test_the_command_prints_and_ends_with_what_it_found(dsn, empty, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dbml.cli", "verify", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    good, bad = run("--json", "--dsn", dsn), run("--json", "--dsn", empty)
    assert (good.returncode, json.loads(good.stdout)["ok"]) == (0, True)
    assert (bad.returncode, json.loads(bad.stdout)["ok"]) == (1, False)
    readable = run("--dsn", empty)
    assert readable.returncode == 1
    assert "WRONG  dblink" in readable.stdout
    assert "mend: " in readable.stdout


def test_an_unreachable_server():
    fault = only_fault("postgresql://u:geheim@127.0.0.1:1/none")
    assert fault.name == "server"
    assert "geheim" not in fault.found


def test_missing_dblink(empty):
    fault = only_fault(empty)
    assert (fault.name, "CREATE EXTENSION dblink" in fault.mend) == ("dblink", True)


def test_missing_schema(empty):
    change(empty, "create extension dblink")
    fault = only_fault(empty)
    assert (fault.name, fault.found, fault.mend) == ("schema", "missing", "dbml install")


@pytest.mark.parametrize(
    ("statement", "found", "mend"),
    [
        ("update dbml._schema_version set version = '0.0.1'", "too old", "dbml upgrade"),
        ("update dbml._schema_version set version = '99.0.0'", "too new", "pip install"),
        ("update dbml._alembic_version set version_num = '9999'", "too new", "pip install"),
    ],
)
def test_a_schema_of_another_version(installed, statement, found, mend):
    change(installed, statement)
    fault = only_fault(installed)
    assert fault.name == "schema"
    assert found in fault.found
    assert mend in fault.mend


def test_no_worker_yet(installed):
    change(installed, "update dbml._worker set host = null, port = null")
    fault = only_fault(installed)
    assert (fault.name, "dbml worker" in fault.mend) == ("worker address", True)


def test_a_worker_that_is_gone(fresh):
    os.kill(fresh.worker.pid, signal.SIGKILL)
    fresh.worker.stop()
    found = faults(fresh.dsn)
    assert [fault.name for fault in found] == ["worker login", "worker call"]
    assert all("dbml worker" in fault.mend for fault in found)


def test_the_worker_of_another_database(fresh, shared):
    with psycopg.connect(shared.dsn) as connection:
        host, port = connection.execute("select host, port from dbml._worker").fetchone()
    change(fresh.dsn, f"update dbml._worker set host = '{host}', port = {port}, password = 'another'")
    found = faults(fresh.dsn)
    assert [fault.name for fault in found] == ["worker login", "worker call"]
    assert all("restart dbml worker" in fault.mend for fault in found)


def test_a_password_that_was_changed_is_followed(fresh):
    change(fresh.dsn, "update dbml._worker set password = 'another'")
    for _ in range(100):
        if not (found := faults(fresh.dsn)):
            break
        time.sleep(0.1)
    assert found == []


def test_a_wrong_secret(fresh):
    change(fresh.dsn, "update dbml._worker set inner_key = outer_key, outer_key = inner_key")
    fault = only_fault(fresh.dsn)
    assert (fault.name, "restart dbml worker" in fault.mend) == ("worker call", True)


def test_a_role_that_may_not_look(server, installed, role):
    dsn = server.dsn(psycopg.conninfo.conninfo_to_dict(installed)["dbname"], user=role, password="secret")
    fault = only_fault(dsn)
    assert "the role that installed" in fault.mend
