"""The worker's login owns nothing, and may what its own statements need; what is outside of schema dbml it cannot read."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from dbml import errors
from dbml.cli.worker_process import WorkerProcess
from dbml.database.install import install
from dbml.database.verify import verify
from dbml.database.worker_login import make_login, own_login
from dbml.dsn import parse

Connection = psycopg.Connection[Any]

# What the statements of dbml/store do, and no more.
NEEDED = {
    ("_worker", "SELECT"), ("_worker", "UPDATE"), ("_experiments", "INSERT"), ("_runs", "SELECT"), ("_runs", "INSERT"),
    ("_runs", "UPDATE"), ("_metrics", "INSERT"), ("_chunks", "INSERT"), ("_blobs", "INSERT"), ("_blob_chunks", "INSERT"),
    ("_artifacts", "SELECT"), ("_artifacts", "INSERT"), ("_artifacts", "UPDATE"), ("_outputs", "SELECT"),
    ("_outputs", "INSERT"), ("_outputs", "UPDATE"), ("_output_parts", "INSERT"),
    ("_log_chunks", "INSERT"), ("_submissions", "SELECT"),
}  # fmt: skip


@pytest.fixture
def login(installed: str, server: Any) -> Iterator[str]:
    """The DSN of a worker's login in a database of its own."""
    name = f"worker_{os.getpid()}_{next(server.numbers)}"
    yield make_login(installed, name)
    with psycopg.connect(installed, autocommit=True) as owner:
        owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


def test_it_has_what_it_needs_and_no_more(installed: str) -> None:
    with psycopg.connect(installed) as owner:
        granted = owner.execute(
            """select c.relname::text, a.privilege_type from pg_class c, aclexplode(c.relacl) a where a.grantee = to_regrole('dbml_worker')
            union select c.relname::text, a.privilege_type from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
            where a.grantee = to_regrole('dbml_worker')"""
        ).fetchall()
        elsewhere = owner.execute(
            "select p.oid::regprocedure::text from pg_proc p, aclexplode(p.proacl) a where a.grantee = to_regrole('dbml_worker')"
        ).fetchall()
    assert set(granted) == NEEDED
    # Functions that are made for it, and those that cut the rows of an input into chunks.
    chunks = {"chunk_query", "fetch_rows", "next_chunk_rows"}
    names = {re.fullmatch(r"dbml_channel\.(\w+)\(.*\)", signature)[1] for (signature,) in elsewhere}  # type: ignore[index]
    assert chunks < names and all(re.fullmatch(r"_\w+_v\d+", name) for name in names - chunks)


def test_it_reads_nothing_of_the_users(installed: str, login: str) -> None:
    with psycopg.connect(installed) as owner:
        owner.execute("create table public.patients (name text); insert into public.patients values ('secret')")
        owner.execute(
            "create schema clinic; create table clinic.visits (n int); create view public.names as select * from public.patients"
        )
        owner.execute(
            "create function public.tell() returns text language sql security definer as 'select name from public.patients'"
        )
        owner.execute("revoke execute on function public.tell() from public")
    refused = [
        "select * from public.patients", "insert into public.patients values ('x')", "select * from clinic.visits",
        "select * from public.names", "select public.tell()", "copy public.patients to stdout",
        "select * from pg_authid", "select pg_read_file('PG_VERSION')", "copy (select 1) to program 'true'",
        "create table public.mine (a int)", "create schema mine", "create role mine", "set role dbml_admin",
        # Of dbml itself: what it does not need.
        "select inner_key from dbml._worker", "update dbml._worker set secret = '\\x00'", "select * from dbml._models",
        "select * from dbml._chunks", "select request from dbml._submissions", "select * from dbml._snapshots",
        "select * from dbml._log_chunks", "select * from dbml.models", "select dbml.model_bytes('m')",
        "select * from dbml.run_script('x = 1') as t(a int)", "select dbml_channel.ping()", "delete from dbml._runs",
        "insert into dbml._workspace_grants values (1, current_user, 'owner')", "drop table dbml._runs",
        "select dblink_connect('host=127.0.0.1')",
    ]  # fmt: skip
    with psycopg.connect(login, autocommit=True) as worker:
        for statement in refused:
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)):
                worker.execute(statement)  # type: ignore[arg-type]
        assert worker.execute("select password from dbml._worker").fetchone() is not None
        owned = worker.execute(
            "select (select count(*) from pg_class where relowner = r.oid) + (select count(*) from pg_proc where proowner = r.oid)"
            " + (select count(*) from pg_namespace where nspowner = r.oid) from pg_roles r where r.rolname = session_user"
        ).fetchone()
        assert owned == (0,)


def test_a_worker_with_it_does_all_its_work(installed: str, login: str, server: Any, tmp_path: Path) -> None:
    worker = WorkerProcess(installed, server.folder / f"worker{next(server.numbers)}", login=login)
    worker.start()
    try:
        worker.wait_ready()
        with psycopg.connect(installed, autocommit=True) as db:
            script = """
import pandas
run.log("loss", 0.5); run.log("loss", 2, step=3)
run.outputs["kept"] = pandas.DataFrame({"x": [1, 2]})
open("a.txt", "w").write("bytes")
run.upload_file("a.txt", "a.txt"); run.upload_file("a.txt", "a.txt")
OutputDataSet = [run.id]"""
            (run_id,) = db.execute("select * from dbml.run_script(%s, experiment => 'e') as t(id uuid)", [script]).fetchone()  # type: ignore[misc]
            with pytest.raises(errors.ScriptError):
                db.execute("select * from dbml.run_script('raise ValueError(1)') as t(a int)")
            assert db.execute("select name, step, value from dbml.metrics where run_id = %s", [run_id]).fetchall() == [
                ("loss", None, 0.5), ("loss", 3, 2.0)]  # fmt: skip
            assert db.execute("select dbml.artifact_bytes(%s, 'a.txt')", [run_id]).fetchone() == (b"bytes",)
            assert db.execute("select * from dbml.run_output(%s, 'kept') as t(x bigint)", [run_id]).fetchall() == [(1,), (2,)]
            assert sorted(db.execute("select status from dbml.runs").fetchall()) == [("completed",), ("failed",)]
            # What it does by itself: a submitted run with all that one may use, and models compiled as they are registered.
            db.execute("create table public.points as select x::float8, 2 * x::float8 as y from generate_series(1, 5) x")
            submitted = """
from sklearn.linear_model import LinearRegression
from dbml import current_run
from dbml.core.run import Run
points = Run.get_context().input_datasets["points"].to_pandas_dataframe()
run = current_run.current()
run.register_model("line", LinearRegression().fit(points[["x"]], points["y"]))
print(run.load_model("line").coef_)
run.log("loss", 0.5); run.tag("t", 1)
open("outputs/kept.txt", "w").write("kept")"""
            (run_id,) = db.execute(  # type: ignore[misc]
                "select dbml.submit_run('s', dbml.create_snapshot(jsonb_build_object('a.py', %s::text)), 'a.py',"
                " inputs => '{\"points\": \"select * from public.points\"}')", [submitted]
            ).fetchone()  # fmt: skip
            assert db.execute("select dbml.wait_for_run(%s, '60 s')", [run_id]).fetchone() == ("completed",), db.execute(
                "select error, log from dbml.runs where run_id = %s", [run_id]
            ).fetchone()
            assert db.execute("select name from dbml.artifacts where run_id = %s", [run_id]).fetchall() == [("outputs/kept.txt",)]
            assert db.execute("select string_agg(text, '' order by ordinal) from dbml.run_log(%s)", [run_id]).fetchone() == (
                "[2.]\n",
            )
            assert db.execute("select name, value from dbml.metrics where run_id = %s", [run_id]).fetchall() == [("loss", 0.5)]
            db.execute("select dbml.register_model('again', dbml.model_bytes('line'))")
            certified = "select model, status, reason from dbml.certificates order by model"
            assert db.execute(certified).fetchall() == [("again", "certified", None), ("line", "certified", None)]
            wait_until_swept = "select count(*) from pg_proc where pronamespace = 'dbml_runtime'::regnamespace"
            deadline = time.monotonic() + 30
            while db.execute(wait_until_swept).fetchone() != (0,):
                assert time.monotonic() < deadline, "the functions that held its queries are still there"
                time.sleep(0.1)
            who = db.execute(
                "select distinct usename::text from pg_stat_activity where application_name = 'dbml worker' and datname = current_database()"
            ).fetchall()
            assert set(who) == {(parse(login)["user"],)}
            (rights,) = [check for check in verify(installed) if check.name == "worker rights"]
            assert rights.ok and rights.found.endswith("who may no more than it needs")
            # Cut off, it comes back as the same, and lays down the same.
            db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dbml worker' and datname = current_database()"
            )
            assert db.execute("select * from dbml.run_script('OutputDataSet = [1]') as t(x int)").fetchone() == (1,)
    finally:
        worker.stop()


def test_a_worker_with_the_owners_login_lays_its_rights_down_again_and_again(installed: str, server: Any) -> None:
    said: list[str] = []
    worker = WorkerProcess(installed, server.folder / f"worker{next(server.numbers)}", log=lambda _, line: said.append(line))
    worker.start()
    try:
        worker.wait_ready()
        user = parse(installed)["user"]
        assert any(f"as role dbml_worker, logged in as {user}" in line for line in said), said
        with psycopg.connect(installed, autocommit=True) as db:
            (rights,) = [check for check in verify(installed) if check.name == "worker rights"]
            assert "a superuser: more than it needs" in rights.found and "--worker-login" in rights.found
            # Its statements are refused with what the role lacks, after a reconnect too: so it is the role that acts.
            for _ in range(2):
                db.execute("revoke insert on dbml._experiments from dbml_worker")
                db.execute("select * from dbml.run_script('OutputDataSet = [1]', experiment => 'e') as t(x int)")
                assert db.execute("select count(*) from dbml.experiments").fetchone() == (0,)
                db.execute("grant insert on dbml._experiments to dbml_worker")
                db.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'dbml worker' and datname = current_database()"
                )
                db.execute("select * from dbml.run_script('OutputDataSet = [1]') as t(x int)")
    finally:
        worker.stop()


def test_the_command_writes_a_file_for_its_owner_alone(installed: str, server: Any, tmp_path: Path) -> None:
    name = f"worker_{os.getpid()}_{next(server.numbers)}"
    file = tmp_path / "worker.dsn"
    command = [
        sys.executable,
        "-m",
        "dbml.cli",
        "install",
        "--dsn",
        installed,
        "--worker-login",
        name,
        "--worker-dsn-file",
        str(file),
    ]
    try:
        for _ in range(2):  # again: another password
            before = file.read_text() if file.exists() else None
            said = subprocess.run(command, capture_output=True, text=True, check=True)
            made = file.read_text().strip()
            assert stat.S_IMODE(file.stat().st_mode) == 0o600 and made != before
            assert parse(made)["password"] not in said.stdout + said.stderr and str(file) in said.stdout
            with psycopg.connect(made) as worker:
                assert worker.execute("select session_user::text, pg_has_role('dbml_worker', 'usage')").fetchone() == (name, True)
        command[-1] = str(tmp_path / "nowhere" / "worker.dsn")
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert said.returncode != 0 and "must be a file that can be written" in said.stderr
    finally:
        with psycopg.connect(installed, autocommit=True) as owner:
            owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


@pytest.mark.parametrize("relation", ["itself", "member", "createrole", "owner"])
def test_a_role_that_may_more_is_no_workers_login(installed: str, role: str, relation: str) -> None:
    name = role
    with psycopg.connect(installed, autocommit=True) as owner:
        if relation == "itself":
            name = parse(installed)["user"]
        else:
            given = {
                "member": f"grant dbml_scripter to {role}", "createrole": f"alter role {role} createrole",
                "owner": f"create schema mine authorization {role}",
            }  # fmt: skip
            owner.execute(given[relation])  # type: ignore[arg-type]
        with pytest.raises(errors.InvalidArgument, match=re.escape(f"{name} is")):
            make_login(installed, name)
        owner.execute(f"drop schema if exists mine; revoke dbml_scripter from {role}")  # type: ignore[arg-type]


def test_the_login_that_up_makes_is_the_same_each_time(installed: str) -> None:
    first, second = own_login(installed), own_login(installed)
    name = parse(first)["user"]
    try:
        assert first == second and re.fullmatch(r"dbml_worker_\d+", name)
    finally:
        with psycopg.connect(installed, autocommit=True) as owner:
            owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


def test_an_ordinary_owner_lays_down_its_rights_too(server: Any, role: str, connected_owner: Callable[[str], str]) -> None:
    dsn = connected_owner(role)
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("set role dbml_worker")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            owner.execute("select * from dbml._models")


@pytest.fixture
def connected_owner(server: Any) -> Iterator[Callable[[str], str]]:
    """Install dbml as an ordinary role that may create roles, in a database of its own; gives its DSN."""
    names: list[str] = []

    def make(role: str) -> str:
        names.append(server.create(owner=role))
        server.run(f"alter role {role} createrole")
        with psycopg.connect(server.dsn(names[-1]), autocommit=True) as administrator:
            administrator.execute("create extension dblink")
            if server.major >= 16:
                administrator.execute(f"grant dbml_worker to {role} with admin option")  # type: ignore[arg-type]
        dsn = server.dsn(names[-1], user=role, password="secret")
        install(dsn)
        return dsn

    yield make
    for name in names:
        server.drop(name)
