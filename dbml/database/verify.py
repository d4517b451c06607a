"""Look at everything between a caller and the worker, and say what is wrong and how to mend it.

Checks run in the order in which things depend on each other, and stop where the rest would be
noise.  Nothing is changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from dbml import __version__, errors
from dbml.database.binaries import NEWEST, OLDEST
from dbml.database.install import head_revision, knows
from dbml.database.schema import is_newer, read_installed
from dbml.database.worker_login import find_excess
from dbml.dsn import without_password

LARGEST_SKEW_S = 10.0  # a request is good for 60 s
Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Check:
    """One thing looked at: found says what is there, mend what to do when that is wrong."""

    name: str
    ok: bool
    found: str
    mend: str | None = None


def verify(dsn: str) -> list[Check]:
    """Return every check that could be made; the last one that failed is why no more were."""
    try:
        connection = psycopg.connect(
            dsn, client_encoding="utf8", autocommit=True, connect_timeout=5, application_name="dbml verify"
        )
    except psycopg.OperationalError as error:
        mend = "start the server (dbml up --detach for one of our own), or correct the DSN"
        return [Check("server", False, f"{without_password(dsn)}: {_first_line(error)}", mend)]
    with connection:
        connection.execute("set statement_timeout = '15s'")
        return [Check("server", True, without_password(dsn)), *_checks(connection)]


def _checks(connection: Connection) -> Iterator[Check]:
    for step in (_version, _dblink, _schema):
        check = step(connection)
        yield check
        if not check.ok and step is not _version:
            return
    yield _clock(connection)
    try:
        row = connection.execute("select host, port, password from dbml._worker").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        yield Check(
            "worker address",
            False,
            "hidden from this role",
            "run dbml verify as the role that installed dbml",
        )
        return
    if row is None or row[0] is None:
        yield Check("worker address", False, "no worker has registered", "start one: dbml up --detach, or dbml worker")
        return
    host, port, password = row
    yield Check("worker address", True, f"{host}:{port}")
    yield from _worker_rights(connection)
    local = _login(host, port, password)
    through = _ping(connection, f"{host}:{port}", local)
    # What the server can do counts; a worker that only the server can reach is no fault.
    yield (local if local.ok or not through.ok else Check("worker login", True, "not reachable from here, only from the server"))
    yield through


def _version(connection: Connection) -> Check:
    major = connection.info.server_version // 10000
    return Check(
        "server version",
        OLDEST <= major <= NEWEST,
        str(connection.info.parameter_status("server_version")),
        f"use PostgreSQL {OLDEST} to {NEWEST}",
    )


def _dblink(connection: Connection) -> Check:
    row = connection.execute("select extversion from pg_extension where extname = 'dblink'").fetchone()
    name = connection.info.dbname
    mend = f"let the administrator run in database {name}: CREATE EXTENSION dblink"
    return Check("dblink", row is not None, f"version {row[0]}" if row else "not in this database", mend)


def _schema(connection: Connection) -> Check:
    try:
        installed = read_installed(connection)
    except psycopg.errors.InsufficientPrivilege:
        return Check("schema", False, "hidden from this role", "run dbml verify as the role that installed dbml")
    if installed is None:
        return Check("schema", False, "missing", "dbml install")
    version, revision = installed
    found = f"dbml {version} (revision {revision}), this code is {__version__} (revision {head_revision()})"
    if is_newer(version, __version__) or not knows(revision):
        return Check("schema", False, f"too new: {found}", f"pip install 'dbml>={version}'")
    if is_newer(__version__, version) or revision != head_revision():
        return Check("schema", False, f"too old: {found}", "dbml upgrade")
    return Check("schema", True, f"dbml {version} (revision {revision})")


def _clock(connection: Connection) -> Check:
    before = time.time()
    row = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    after = time.time()
    assert row is not None
    skew = float(row[0]) - (before + after) / 2
    return Check(
        "clock",
        abs(skew) <= LARGEST_SKEW_S + (after - before) / 2,
        f"the server's is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this host's",
        "let both hosts set their clocks by NTP: a request to the worker expires after 60 s",
    )


def _login(host: str, port: int, password: str) -> Check:
    """Log in to the worker as the server does, from here."""
    try:
        with psycopg.connect(
            host=host, port=port, user="dbml", password=password, dbname="dbml", connect_timeout=3,
            sslmode="disable", gssencmode="disable", autocommit=True, application_name="dbml verify",
        ) as worker:  # fmt: skip
            worker.execute("select 1")
    except psycopg.OperationalError as error:
        if "authentication failed" in str(error):
            mend = "another database's worker is there, or one from before a reinstall: restart dbml worker"
            return Check("worker login", False, "the worker refuses the password of this database", mend)
        mend = "start the worker: dbml up --detach, or dbml worker"
        return Check("worker login", False, f"nobody answers: {_first_line(error)}", mend)
    except psycopg.Error as error:
        return Check("worker login", False, _first_line(error), "restart dbml worker")
    return Check("worker login", True, "SCRAM-SHA-256")


def _worker_rights(connection: Connection) -> Iterator[Check]:
    """Tell as whom the worker logs in, which the lock that it holds gives away; nothing where none is connected."""
    row = connection.execute(
        """select s.usename::text from pg_locks l join pg_stat_activity s using (pid)
        where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid = 1684172140 and l.objid = 2003792491
          and l.database = (select d.oid from pg_database d where d.datname = current_database())"""
    ).fetchone()
    if row is None or row[0] is None:
        return
    excess = find_excess(connection, row[0])
    if excess is None:
        yield Check("worker rights", True, f"logs in as {row[0]}, who may no more than it needs")
    else:
        better = "dbml install --worker-login NAME makes a login for it"
        yield Check("worker rights", True, f"logs in as {row[0]}, {excess}: more than it needs; {better}")


def _ping(connection: Connection, address: str, local: Check) -> Check:
    """Let the server call the worker, through dblink and with a signed request."""
    try:
        row = connection.execute("select dbml_channel.ping()").fetchone()
    except errors.WorkerUnreachable as error:
        mend = local.mend
        if local.ok:
            mend = (
                f"{address} answers here but not from the server: give the worker an address that the server"
                " reaches, dbml worker --listen HOST:PORT --advertise HOST:PORT"
            )
        return Check("worker call", False, error.message, mend)
    except errors.WorkerRefused as error:
        mend = "restart dbml worker, so that it reads this database's secret"
        return Check("worker call", False, error.message, mend)
    except errors.ProtocolMismatch as error:
        return Check(
            "worker call",
            False,
            error.message,
            "run one version of dbml: dbml upgrade, then restart dbml worker",
        )
    except psycopg.Error as error:
        return Check("worker call", False, _first_line(error), "restart dbml worker, and see its log")
    answer = row[0] if row and isinstance(row[0], dict) else {}
    version = answer.get("version")
    return Check("worker call", True, f"dbml {version}" if version else "answered")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
