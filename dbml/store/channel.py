"""The row that joins a database to its worker: where it listens, and the secrets of the channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

PROTOCOL = 1  # of the messages between SQL and worker; sql/10_channel speaks the same


@dataclass(frozen=True)
class Channel:
    """What both ends of the channel know; the secrets are kept out of its repr."""

    protocol: int
    host: str | None
    port: int | None
    password: str = field(repr=False)
    secret: bytes = field(repr=False)


async def read(connection: AsyncConnection[Any]) -> Channel | None:
    """Read the channel's row; None where the installation is not whole."""
    cursor = await connection.execute("select protocol, host, port, password, secret from dbml._worker")
    row = await cursor.fetchone()
    return None if row is None else Channel(*row)


async def register(connection: AsyncConnection[Any], host: str, port: int) -> None:
    """Tell the database where the worker listens, as seen from the database."""
    await connection.execute(
        "update dbml._worker set host = %s, port = %s, protocol = %s, registered_at = now()", (host, port, PROTOCOL)
    )
