"""The row that joins a database to its worker: where it listens, and the secrets of the channel."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.types.json import Jsonb

PROTOCOL = 1  # of the messages between SQL and worker; sql/10_channel speaks the same


@dataclass(frozen=True)
class Channel:
    """What both ends of the channel know; the secrets are kept out of its repr.

    former_until: until when the former password and secret are taken too, Unix time by the database's clock.
    """

    protocol: int
    host: str | None
    port: int | None
    password: str = field(repr=False)
    secret: bytes = field(repr=False)
    former_password: str | None = field(default=None, repr=False)
    former_secret: bytes | None = field(default=None, repr=False)
    former_until: float | None = None


ROLE = "dbml_worker"  # holds what the statements of dbml.store need, sql/90_rights/worker.sql


async def lay_down(connection: AsyncConnection[Any]) -> tuple[str, str]:
    """Give up what the login may beyond what a worker needs, where it may; returns the login and the role that acts from now.

    They are the same where the role dbml_worker is not there, or is not granted to the login.
    """
    with contextlib.suppress(psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege):
        await connection.execute(f"set role {ROLE}")
    row = await (await connection.execute("select session_user::text, current_user::text")).fetchone()
    assert row is not None
    return str(row[0]), str(row[1])


async def read(connection: AsyncConnection[Any]) -> Channel | None:
    """Read the channel's row; None where the installation is not whole."""
    cursor = await connection.execute(
        "select protocol, host, port, password, secret, former_password, former_secret,"
        " extract(epoch from former_until)::double precision from dbml._worker"
    )
    row = await cursor.fetchone()
    return None if row is None else Channel(*row)


async def register(connection: AsyncConnection[Any], host: str, port: int, packages: Mapping[str, str]) -> None:
    """Tell the database where the worker listens, as seen from the database, and the versions of what it scores with."""
    await connection.execute(
        "update dbml._worker set host = %s, port = %s, protocol = %s, registered_at = now(), packages = %s",
        (host, port, PROTOCOL, Jsonb(dict(packages))),
    )


# The session lock of the worker that serves a database: 'dbmlwork' in ASCII, as the view dbml.runs has it.
_LOCK = (0x64626D6C, 0x776F726B)


async def lock(connection: AsyncConnection[Any]) -> bool:
    """Take the lock that a worker holds as long as its session lasts; False where another worker's session has it."""
    cursor = await connection.execute("select pg_try_advisory_lock(%s, %s)", _LOCK)
    row = await cursor.fetchone()
    return bool(row and row[0])


async def clock(connection: AsyncConnection[Any]) -> float:
    """Return the database's time, Unix time."""
    row = await (await connection.execute("select extract(epoch from clock_timestamp())::double precision")).fetchone()
    assert row is not None
    return float(row[0])


async def log_positions(connection: AsyncConnection[Any]) -> tuple[int, int] | None:
    """Return to where the server's write-ahead log is on its disk, and to where it is written, in bytes from its beginning.

    None where the server does not tell: some managed ones have a log of their own.
    """
    query = "select pg_current_wal_flush_lsn() - '0/0'::pg_lsn, pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
    try:
        async with connection.transaction():
            row = await (await connection.execute(query)).fetchone()
    except (errors.FeatureNotSupported, errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState):
        return None
    return None if row is None else (int(row[0]), int(row[1]))


async def breathe(connection: AsyncConnection[Any]) -> None:
    """Find out whether the connection lives."""
    await connection.execute("select 1")
